"""`make chaos` for some seconds; and what its verdicts notice."""

import asyncio
import sys
from collections.abc import Callable
from typing import Final

import pytest

from heartwire import Hub, Position
from heartwire.client.options import TRANSPORTS, Transport
from heartwire.testing.server import serving
from tools.chaos.readers import Reader, plainly
from tools.chaos.run import Chaos, Outcome, chaos
from tools.chaos.streams import ALONE, judge, stream_chaos
from tools.chaos.verdict import Ack, Event, Gap, Kept, Run, Seen, Tale, verdict

# -- real processes ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.skipif(sys.platform == "win32", reason="stores and nodes listen on Unix sockets")
@pytest.mark.parametrize("engine", ["memory", "sqlite"])
def test_a_killed_node_and_a_killed_store_break_no_promise(engine: str) -> None:
    said: list[str] = []

    def say(text: str, outcome: Outcome) -> None:
        said.append(text)

    outcome = chaos(Chaos(engine, seconds=4, every_s=2, rate_per_s=15, seed=SEED), say)
    assert outcome.problems == [], said
    assert outcome.kills["the store"] == 1
    assert sum(outcome.kills.values()) == 2
    assert all(one.acks for one in outcome.publishers)
    assert bool(outcome.gaps) == (engine == "memory")


SEED: Final = 0
"""A node is killed, and the store."""


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.skipif(sys.platform == "win32", reason="stores and nodes listen on Unix sockets")
@pytest.mark.parametrize("engine", [ALONE, "postgres"])
def test_producers_of_streams_that_try_again_lose_nothing_where_all_is_killed(engine: str) -> None:
    said: list[str] = []
    outcome = stream_chaos(Chaos(engine, nodes=2, seed=SEED), 3, said.append)
    assert outcome.problems == [], said
    assert sum(outcome.kills.values()) == 3
    assert len(outcome.sent) == 8


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_reader_soon_knows_where_it_is_in_a_channel_without_publications(
    transport: Transport,
) -> None:
    """A run is over when all readers are at one place, also where nothing came."""
    reader = Reader("r", ["a"])
    async with serving(Hub(allow_anonymous=True)) as url:
        reading = asyncio.ensure_future(plainly(reader, url, transport, seed=0))
        async with asyncio.timeout(10):
            while reader.tales[0].at is None and not reading.done():  # noqa: ASYNC110 - told by a plain call
                await asyncio.sleep(0.01)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert reader.troubles == []
    at = reader.tales[0].at
    assert at is not None
    assert at.offset == 0


# -- the verdict ---------------------------------------------------------------------------------------------

Events = list[Event]


def seen(epoch: str, *bodies: str, first: int = 1) -> Events:
    """Publications that follow each other."""
    return [Seen(Position(epoch, first + at), body) for at, body in enumerate(bodies)]


def run(
    *readers: Events, acks: Events | None = None, kept: Kept = Kept.ALL, kills: int = 1, sent: int = 4
) -> Run:
    """A run of one channel and one publisher. ``acks``: what was acknowledged; else what the first has
    seen."""
    answered = [event for event in (readers[0] if acks is None else acks) if isinstance(event, Seen)]
    return Run(
        [Ack("c", body, position) for position, body in answered],
        [Tale(f"r{number}", "c", events) for number, events in enumerate(readers)],
        {("c", "p"): sent},
        kept,
        kills,
    )


WELL: Final = seen("e", "p 0", "p 1", "p 2", "p 3")
AGAIN: Final = [*seen("e", "p 0", "p 1"), Gap(Position("f", 0)), *seen("f", "p 2", "p 3")]
RENAMED: Final = [*seen("e", "p 0", "p 1"), Gap(Position("f", 0)), *seen("f", "p 0", "p 1", "p 2", "p 3")]


def test_all_is_well_where_everything_came() -> None:
    assert verdict(run(WELL, WELL)) == []
    assert verdict(run([], [], acks=[])) == []


def test_a_gap_told_accounts_for_what_a_store_has_lost() -> None:
    late = [Gap(Position("f", 0)), *seen("f", "p 2", "p 3")]
    assert verdict(run(AGAIN, late, seen("f", "p 2", "p 3"), kept=Kept.NOTHING)) == []


def test_what_was_not_answered_when_a_store_was_lost_comes_again() -> None:
    twice = [*seen("e", "p 0", "p 1"), Gap(Position("f", 0)), *seen("f", "p 1", "p 2")]
    acks = [*seen("e", "p 0"), *seen("f", "p 1", "p 2")]
    assert verdict(run(twice, acks=acks, kept=Kept.NOTHING)) == []


def test_another_epoch_brings_all_that_is_kept_again() -> None:
    acks = [*seen("e", "p 0", "p 1"), *seen("f", "p 2", "p 3", first=3)]
    assert verdict(run(RENAMED, acks=acks, kept=Kept.RENAMED)) == []


def _lost_before(events: Events) -> Events:
    return events[1:]


def _lost_between(events: Events) -> Events:
    return events[:1] + events[2:]


def _lost_at_the_end(events: Events) -> Events:
    return events[:-1]


def _doubled(events: Events) -> Events:
    return events[:2] + events[1:]


def _swapped(events: Events) -> Events:
    return [events[0], events[2], events[1], events[3]]


def _contents_swapped(events: Events) -> Events:
    return seen("e", "p 0", "p 2", "p 1", "p 3")


def _invented(events: Events) -> Events:
    return events + seen("e", "p 4", first=5)


def _another(events: Events) -> Events:
    return events[:3] + seen("e", "q 3", first=4)


def _twice_at_two_places(events: Events) -> Events:
    return events + seen("e", "p 3", first=5)


def _gap_for_nothing(events: Events) -> Events:
    return [*events[:2], Gap(Position("e", 2)), *events[2:]]


def _another_epoch(events: Events) -> Events:
    return [*events[:2], Gap(Position("f", 0)), *seen("f", "p 2", "p 3")]


@pytest.mark.parametrize("plant", [
    _lost_before, _lost_between, _lost_at_the_end, _doubled, _swapped, _contents_swapped, _invented, _another,
    _twice_at_two_places, _gap_for_nothing, _another_epoch,
])  # fmt: skip
@pytest.mark.parametrize("alone", [False, True])
def test_what_is_wrong_is_noticed(plant: Callable[[Events], Events], alone: bool) -> None:
    """Where one reader sees it, and where all of them do."""
    readers = [plant(WELL)] if alone else [WELL, plant(WELL)]
    assert verdict(run(*readers, acks=WELL))


def _without_a_word(events: Events) -> Events:
    return [event for event in events if isinstance(event, Seen)]


def _lost_after_the_gap(events: Events) -> Events:
    return [*events[:3], *events[4:]]


def _lost_with_the_gap(events: Events) -> Events:
    return [*events[:2], Gap(Position("f", 1)), *events[4:]]


def _lost_in_the_end(events: Events) -> Events:
    return events[:-1]


def _again_after_its_answer(events: Events) -> Events:
    return [*events[:3], *seen("f", "p 1", "p 2", "p 3")]


@pytest.mark.parametrize("plant", [
    _without_a_word, _lost_after_the_gap, _lost_with_the_gap, _lost_in_the_end, _again_after_its_answer,
])  # fmt: skip
def test_a_gap_accounts_for_nothing_else(plant: Callable[[Events], Events]) -> None:
    assert verdict(run(plant(AGAIN), acks=AGAIN, kept=Kept.NOTHING))


def test_a_store_that_renames_loses_nothing() -> None:
    assert verdict(run(AGAIN[:1] + AGAIN[2:], acks=AGAIN, kept=Kept.RENAMED))


def test_only_a_killed_store_begins_another_epoch() -> None:
    assert verdict(run(AGAIN, kept=Kept.NOTHING, kills=0))


def test_readers_who_stay_behind_are_noticed() -> None:
    assert verdict(run(WELL, WELL[:2], acks=[]))


# -- the verdict on durable streams --------------------------------------------------------------------------

SENT: Final = {"x": 3, "y": 2}
LINES: Final = [b"x 0", b"y 0", b"x 1", b"y 1", b"x 2"]


def judged(lines: list[bytes], read: list[bytes] | None = None) -> list[str]:
    """What is wrong with a stream of these lines, of which a reader has ``read``."""
    kept, has = (
        b"".join(line + b"\n" for line in those) for those in (lines, lines if read is None else read)
    )
    return judge(has, kept, SENT)


def test_a_stream_of_what_was_sent_is_well() -> None:
    assert judged(LINES) == []


@pytest.mark.parametrize("lines", [
    LINES[:-1],
    [*LINES, b"x 2"],
    [*LINES, b"x 3"],
    [*LINES, b"z 0"],
    [LINES[2], LINES[1], LINES[0], *LINES[3:]],
    [LINES[0] + LINES[1], *LINES[2:]],
])  # fmt: skip
def test_what_is_wrong_in_a_stream_is_noticed(lines: list[bytes]) -> None:
    """Lost, doubled, not answered, invented, swapped, torn."""
    assert judged(lines)


def test_a_reader_that_has_another_stream_is_noticed() -> None:
    assert judged(LINES, LINES[:-1])
    assert judged(LINES, [*LINES, LINES[-1]])
