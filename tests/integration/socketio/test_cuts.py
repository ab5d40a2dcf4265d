"""Clients of Socket.IO that are cut off, a round of each kind of ``make chaos CHAOS='--socketio'``; and that the
harness sees what a server without recovery loses."""

from typing import Any

import pytest

from tests.js.node import need_packages
from tools.chaos.cuts import KINDS, cuts, judged


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_recovering_clients_lose_nothing() -> None:
    need_packages()
    said: list[str] = []
    seen = cuts("sqlite", 1, said.append, cut_s=1.5)
    assert len(seen) == 3 * len(KINDS)
    assert [one.problems for one in seen] == [[]] * len(seen), said


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_without_recovery_the_harness_sees_the_loss() -> None:
    need_packages()
    seen = cuts("memory", 1, lambda row: None, recovers=False, cut_s=1)
    assert all(one.lost > 10 and not any(one.recovered) for one in seen)


@pytest.mark.parametrize(
    ("got", "recovered", "problem"),
    [
        ([*range(100)], [False, True], None),
        ([*range(50), *range(51, 100)], [False, True], "1 lost, 0 doubled, 0 swapped"),
        ([*range(50), *range(49, 100)], [False, True], "0 lost, 1 doubled, 0 swapped"),
        ([*range(50), 51, 50, *range(52, 100)], [False, True], "0 lost, 0 doubled, 1 swapped"),
        ([*range(100)], [False, False], "was recovered"),
        ([*range(100)], [False], "was recovered"),
        ([*range(20)], [False, True], "20 events"),
    ],
)
def test_verdicts(got: list[int], recovered: list[bool], problem: str | None) -> None:
    saw: dict[str, Any] = {"mode": "polling", "got": [["emitter", number] for number in got]}
    seen = judged("cut", saw | {"recovered": recovered, "strangers": 0}, list(range(100)))
    assert seen.problems == [] if problem is None else any(problem in one for one in seen.problems)
