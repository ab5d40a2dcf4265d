"""The vectors of tests/vectors: the machine behaves as written, and the files are those that the scenarios
make."""

import json
from typing import Any

import pytest

from tests.vectors.recorder import replay
from tests.vectors.telling import FOLDER, SUBJECTS, text

_REMAKE = "python -m tests.vectors.make writes them anew: see what changes"


def written(subject: str) -> list[dict[str, Any]]:
    scenarios: list[dict[str, Any]] = json.loads((FOLDER / f"{subject}.json").read_text("utf-8"))
    return scenarios


_SCENARIOS = [(subject, scenario) for subject in SUBJECTS for scenario in written(subject)]


@pytest.mark.parametrize(
    "scenario", [one for _, one in _SCENARIOS], ids=[f"{at}-{one['name']}" for at, one in _SCENARIOS]
)
def test_machine_does_what_is_written(scenario: dict[str, Any]) -> None:
    for expected, step in replay(scenario):
        assert json.loads(json.dumps(step)) == expected


@pytest.mark.parametrize("subject", SUBJECTS)
def test_files_are_what_the_scenarios_say(subject: str) -> None:
    assert (FOLDER / f"{subject}.json").read_text("utf-8") == text(subject), _REMAKE


def test_each_file_has_its_scenarios_and_names_are_unique() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == {*SUBJECTS, "wire"}
    names = [scenario["name"] for _, scenario in _SCENARIOS]
    assert len(names) == len(set(names))
