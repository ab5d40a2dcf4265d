"""Whole systems in virtual time, from thousands of seeds. docs/testing-simulation.md tells how to repeat one.

`make simulate` runs many more of them.
"""

import random
import re
from pathlib import Path
from typing import Final

import pytest

from heartwire import Hub
from heartwire.testing import Broken, SimulatedEngine, Simulation, run_seed
from heartwire.testing.simulation.__main__ import main, run_seeds
from tests.property import planted_node_bugs
from tests.property.planted_bugs import PLANTED, first_seed_that_finds, is_found

SEEDS: Final = 600
CHUNK: Final = 50
PAGE: Final = Path(__file__).parents[2] / "docs" / "testing-simulation.md"
_ROW: Final = re.compile(r"^\| `([a-z-]+)` \| .*? \| (\d+) \|", re.MULTILINE)
DOCUMENTED: Final = {name: int(seed) for name, seed in _ROW.findall(PAGE.read_text("utf-8"))}
SEARCHED: Final = 1000


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_promise_is_kept(first: int) -> None:
    failures = run_seeds(range(first, first + CHUNK))
    assert not failures, "\n\n".join(
        [failures[0].story, *(f"seed {failure.seed}: {failure.problem}" for failure in failures)]
    )


@pytest.mark.slow
def test_seed_repeats_its_story() -> None:
    for seed in range(0, 400, 20):
        assert run_seed(seed).digest == run_seed(seed).digest


def test_story_does_not_depend_on_what_others_of_the_process_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    told = run_seed(7).digest
    for name in ("random", "uniform", "randint"):
        monkeypatch.delattr(random, name)
    assert run_seed(7).digest == told


def test_every_planted_bug_is_documented() -> None:
    assert set(planted_node_bugs.NAMES) <= set(PLANTED)
    assert list(DOCUMENTED) == list(PLANTED)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTED)
def test_planted_bug_is_found(name: str) -> None:
    if is_found(name, DOCUMENTED[name]):
        return
    seed = first_seed_that_finds(name, among=SEARCHED)
    told = (
        "none of the first seeds does" if seed is None else f"seed {seed} does: write that into {PAGE.name}"
    )
    pytest.fail(f"seed {DOCUMENTED[name]} finds {name} no more; {told}")


def test_documented_seeds_find_nothing_where_nothing_is_planted() -> None:
    assert run_seeds(sorted(set(DOCUMENTED.values()))) == []


# -- by hand -------------------------------------------------------------------------------------------------


def test_world_by_hand() -> None:
    with Simulation(seed=1) as world:
        reader, writer = world.client(transports=("longpoll",)), world.client("writer")
        reader.follow("chat")
        world.run_for(1)
        key = writer.publish("chat", "!")
        world.run_for(1)
        world.cut(reader, client_after_s=None)
        writer.publish("chat")
        world.run_for(60)
        assert [body for _, body in reader.followed["chat"].bodies] == [b'"writer-1!"', b'"writer-2"']
        assert writer.published[key].outcome is not None
        world.server.kill()
        world.server.lose_store()
        writer.publish("chat")
        world.run_for(5)
    assert [gap.before_offset for gap in reader.followed["chat"].gaps] == [2]
    assert reader.machine.state.value == "closed"


def test_broken_promise_reports_its_story_and_how_to_repeat_it() -> None:
    world = Simulation(seed=3)
    world.client()
    world.checks.fail("client1", "made up")
    with pytest.raises(Broken, match=r"client1 .*made up\n(.*\n)*\nclient1: made up\n\nAgain: .* --seed 3$"):
        world.run_for(1)
    world.discard()


def test_what_the_hub_logs_as_a_fault_is_one() -> None:
    def hub(engine: SimulatedEngine) -> Hub:
        made = Hub(engine)

        @made.on_publish
        def fails(identity: object, channel: str, data: bytes) -> None:
            raise ZeroDivisionError

        return made

    world = Simulation(hub=hub)
    world.client(max_pending_age_s=5).publish("chat")
    world.run_for(6)
    with pytest.raises(Broken) as caught:
        world.end()
    world.discard()
    assert "ZeroDivisionError()" in caught.value.problems[0]


def test_hub_has_to_use_the_engine_it_is_given() -> None:
    with pytest.raises(ValueError, match="engine that it is given"):
        Simulation(hub=lambda engine: Hub())


# -- the command ---------------------------------------------------------------------------------------------


def test_command_counts_and_tells(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "3", "--first", "7"]) == 0
    assert re.fullmatch(
        r"3 seeds \(7-9\) in \d+ s, [\d.]+ ms each: all promises kept\n", capsys.readouterr().out
    )


def test_command_prints_one_seed_from_the_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "7"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "    0.000  server   is up, life 1"
    assert told[-1].startswith("seed 7: all promises kept; digest ")


def test_command_fails_where_a_seed_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    PLANTED["doubles-are-told"](monkeypatch)
    seed = DOCUMENTED["doubles-are-told"]
    assert main(["--seeds", "1", "--first", str(seed)]) == 1
    assert f"1 failed: {seed}" in capsys.readouterr().out
    assert main(["--seed", str(seed)]) == 1
    assert "BROKEN" in capsys.readouterr().out
