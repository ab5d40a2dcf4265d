"""The Socket.IO dialect in virtual time: clients that do what socket.io-client does, on one node and several.

`make simulate` runs many more seeds.
"""

from typing import Final

import pytest

from heartwire.testing.simulation.__main__ import main, run_seeds
from heartwire.testing.simulation.socketio_events import run_socket_seed
from heartwire.testing.simulation.socketio_pipe import Habits
from heartwire.testing.simulation.socketio_world import SocketWorld
from tests.property.planted_socketio_bugs import PLANTED, is_found

SEEDS: Final = 140
CHUNK: Final = 20

FOUND_BY: Final = {
    "offset-of-an-earlier-session-counts": 31,
    "recovery-goes-on-where-the-server-was": 1,
    "recovery-always-goes-on-at-connect": 1,
    "taken-over-connection-goes-on": 41,
    "gap-is-not-told": 1,
    "room-entered-is-not-kept": 4,
    "record-is-not-kept-before-the-answer": 3,
    "missed-events-come-before-the-answer": 4,
    "offset-is-one-too-far": 1,
    "catch-up-goes-live-early": 9,
    "rooms-are-not-looked-at-when-catching-up": 0,
    "turn-is-written-room-by-room": 0,
    "skipped-clients-are-not-skipped": 0,
    "emit-returns-before-it-is-kept": 1,
    "end-of-a-client-is-not-told": 0,
    "acknowledgement-is-sent-twice": 0,
    "client-that-was-left-is-accepted-again": 125,
    "what-waits-at-an-upgrade-is-lost": 3,
    "answer-to-connect-is-sent-twice": 0,
}
"""The seed that finds each."""


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_promise_is_kept(first: int) -> None:
    failures = run_seeds(range(first, first + CHUNK), is_socketio=True)
    assert not failures, "\n\n".join(
        [failures[0].story, *(f"seed {failure.seed}: {failure.problem}" for failure in failures)]
    )


def test_every_planted_bug_has_a_seed() -> None:
    assert list(FOUND_BY) == list(PLANTED)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTED)
def test_planted_bug_is_found(name: str) -> None:
    assert is_found(name, FOUND_BY[name]), (
        "look for another seed: python -m tests.property.planted_socketio_bugs"
    )


@pytest.mark.slow
def test_seeds_find_nothing_where_nothing_is_planted() -> None:
    assert run_seeds(sorted(set(FOUND_BY.values())), is_socketio=True) == []


def test_seed_repeats_its_story() -> None:
    assert run_socket_seed(1).digest == run_socket_seed(1).digest


def test_command_runs_seeds_of_the_dialect(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "1", "--first", "2", "--socketio"]) == 0
    assert "all promises kept" in capsys.readouterr().out


# -- by hand -------------------------------------------------------------------------------------------------


def _emit(world: SocketWorld, room: str) -> int:
    number = world.next_number()
    world.programs[""].emit(number, [room], [], "")
    return number


@pytest.mark.parametrize("transports", [("polling",), ("websocket",), ("polling", "websocket")])
def test_client_of_a_killed_process_goes_on_where_it_was(transports: tuple[str, ...]) -> None:
    with SocketWorld(1) as world:
        client = world.come(habits=Habits(transports), rooms=["a"])  # type: ignore[arg-type]
        world.run_for(2)
        sid = client.main.sid
        _emit(world, "a")
        world.server.kill()
        world.server.start()
        _emit(world, "a")
        world.run_for(20)
        assert client.main.is_recovered
        assert client.main.sid == sid


def test_client_is_told_where_what_it_missed_is_lost() -> None:
    with SocketWorld(1) as world:
        client = world.come(rooms=["a"])
        world.run_for(2)
        sid = client.main.sid
        world.server.kill()
        world.server.lose_store()
        world.server.start()
        world.run_for(20)
        assert client.is_online
        assert not client.main.is_recovered
        assert client.main.sid != sid
