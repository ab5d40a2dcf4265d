"""One list of commands, two engines, the same answers: the memory engine is the model, the SQLite engine is
put beside it.

After a month without use an engine may forget an empty stream, each at its own time, and it begins anew. What
both promise then is what is kept, and that no reader takes a new stream for the old one.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartwire.core.waiting import settled
from heartwire.engines.contract import Engine, Feed, ReadResult, Retention
from heartwire.engines.memory import MemoryEngine
from heartwire.engines.sqlite import SqliteEngine
from heartwire.testing import FakeClock
from heartwire.types import EARLIEST, NOW, Channel, Member, Message, Position, Publication, Publisher, Start

DAY_S: Final = 86_400


class Append(NamedTuple):
    channel: Channel
    message: Message
    key: str | None
    key_ttl_s: float


class Burst(NamedTuple):
    """Appends that are not awaited one by one."""

    appends: list[Append]


class Read(NamedTuple):
    """``start`` is a name, a foreign position, or the number of a position that was answered before, moved by
    ``shift``."""

    channel: Channel
    start: str | int | Position
    shift: int
    limit: int
    max_bytes: int


class Advance(NamedTuple):
    seconds: float


class Sweep(NamedTuple):
    pass


class Lease(NamedTuple):
    channel: Channel
    member: Member
    ttl_s: float


class Release(NamedTuple):
    channel: Channel
    client: str


class Members(NamedTuple):
    channel: Channel


class Reopen(NamedTuple):
    """The SQLite engine is stopped and opened anew; the model goes on."""


Command = Append | Burst | Read | Advance | Sweep | Lease | Release | Members | Reopen

CHANNELS: Final = [Channel("a"), Channel("b"), Channel("é:%")]

channels = st.sampled_from(CHANNELS)
keeps = st.sampled_from(
    [Retention(1, DAY_S), Retention(3, DAY_S), Retention(100, 60), Retention(100, 90 * DAY_S)]
)
publishers = st.none() | st.builds(
    Publisher, st.sampled_from(["", "ann"]), st.sampled_from(["", "c-1"]), st.none() | st.just(b"[]")
)
messages = st.builds(Message, st.binary(max_size=12), st.booleans(), publishers)
appends = st.builds(
    Append, channels, messages, st.none() | st.sampled_from("kl"), st.sampled_from([10.0, 300.0])
)
starts = (
    st.sampled_from(["now", "earliest"])
    | st.integers(0, 100)
    | st.builds(Position, st.just("foreign"), st.integers(0, 5))
)
reads = st.builds(
    Read, channels, starts, st.integers(-3, 3), st.integers(0, 6), st.sampled_from([1, 10, 25, 1000])
)
clients = st.sampled_from(["c-1", "c-2"])
leases = st.builds(
    Lease, channels, st.builds(Member, clients, st.sampled_from(["", "ann"])), st.sampled_from([5.0, 35.0])
)
commands = st.one_of(
    appends,
    appends,
    st.builds(Burst, st.lists(appends, min_size=1, max_size=8)),
    reads,
    reads,
    st.builds(Advance, st.sampled_from([0.25, 5.0, 10.0, 60.0, 299.75, 0.5 * DAY_S])),
    st.just(Sweep()),
    leases,
    st.builds(Release, channels, clients),
    st.builds(Members, channels),
    st.just(Reopen()),
)


class Epochs:
    """Epochs are each engine's own; what has to agree is which are the same."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, epoch: str) -> int:
        return self._numbers.setdefault(epoch, len(self._numbers))


class Side:
    """One engine, and its answers in words that both sides share."""

    def __init__(self, engine: Engine, keep: dict[Channel, Retention]) -> None:
        self.engine = engine
        self.keep = keep
        self.epochs = Epochs()
        self.positions: list[Position] = []
        self.notified: list[Any] = []

    async def start(self) -> None:
        await self.engine.start(Feed(lambda publication: self.notified.append(self.publication(publication))))

    def position(self, position: Position) -> tuple[int, int]:
        return self.epochs.number(position.epoch), position.offset

    def publication(self, publication: Publication) -> tuple[Any, ...]:
        kept = (
            publication.channel,
            publication.data,
            publication.is_text,
            publication.publisher,
            publication.time_ms,
        )
        return (*self.position(publication.position), *kept)

    def result(self, result: ReadResult) -> tuple[Any, ...]:
        self.positions += [result.start, result.head]
        told = [self.publication(publication) for publication in result.publications]
        return self.position(result.start), told, self.position(result.head), result.recovered

    def appending(self, command: Append) -> Position | asyncio.Future[Position]:
        channel, message, key, key_ttl_s = command
        return self.engine.append(channel, message, self.keep[channel], key=key, key_ttl_s=key_ttl_s)

    async def appended(self, answer: Position | asyncio.Future[Position]) -> tuple[int, int]:
        position = await settled(answer)
        self.positions.append(position)
        return self.position(position)

    def asked(self, command: Read) -> Start:
        match command.start:
            case "now":
                return NOW
            case "earliest":
                return EARLIEST
            case int(number) if self.positions:
                epoch, offset = self.positions[number % len(self.positions)]
                return Position(epoch, max(0, offset + command.shift))
            case Position() as foreign:
                return foreign
            case _:
                return EARLIEST

    async def run(self, command: Command) -> Any:
        """Do it, and tell what came of it."""
        match command:
            case Append():
                return await self.appended(self.appending(command))
            case Burst(several):
                return [
                    await self.appended(answer) for answer in [self.appending(append) for append in several]
                ]
            case Read(channel, _, _, limit, max_bytes):
                answer = self.engine.read(
                    channel, self.asked(command), self.keep[channel], limit=limit, max_bytes=max_bytes
                )
                return self.result(await settled(answer))
            case Sweep():
                await self.engine.sweep(lambda channel: self.keep[channel])
            case Lease(channel, member, ttl_s):
                self.engine.lease(channel, member, ttl_s)
            case Release(channel, client):
                self.engine.release(channel, client)
            case Members(channel):
                return sorted(await self.engine.members(channel), key=lambda member: member.client)
            case Advance() | Reopen():
                pass  # concerns both, or one: see `compare`
        return None


def kept(publications: Sequence[Publication]) -> list[tuple[Any, ...]]:
    """What is the same in both engines whatever was forgotten."""
    return [(one.channel, one.data, one.is_text, one.publisher, one.time_ms) for one in publications]


class Truth:
    """What one engine has published under each position, for ever."""

    def __init__(self) -> None:
        self.messages: dict[tuple[Channel, Position], bytes] = {}
        self.heads: dict[tuple[Channel, str], int] = {}

    def published(self, publication: Publication) -> None:
        at = publication.channel, publication.position
        assert at not in self.messages, "a position was issued twice"
        self.messages[at] = publication.data
        stream = publication.channel, publication.epoch
        assert publication.offset == self.heads.get(stream, 0) + 1, "offsets have a hole"
        self.heads[stream] = publication.offset

    def check(self, channel: Channel, start: Start, result: ReadResult) -> None:
        for number, one in enumerate(result.publications, 1):
            assert one.offset == result.start.offset + number
            assert self.messages[channel, one.position] == one.data
        if isinstance(start, Position) and result.recovered:
            assert result.start == start


async def compare_with_forgetting(
    script: Sequence[Command], keep: dict[Channel, Retention], path: Path
) -> None:
    """All that is kept is the same, whenever each engine forgets an empty stream."""
    clock = FakeClock()
    truths = Truth(), Truth()
    engines: tuple[Engine, Engine] = MemoryEngine(clock=clock), SqliteEngine(path, clock=clock)
    positions: tuple[list[Position], list[Position]] = [], []
    for engine, truth in zip(engines, truths, strict=True):
        await engine.start(Feed(truth.published))
    try:
        for command in script:
            if isinstance(command, Advance):
                clock.advance(command.seconds * 60)  # 299.75 s become 5 hours, half a day a month
            all_kept = []
            for engine, truth, known in zip(engines, truths, positions, strict=True):
                if isinstance(command, Append):
                    channel, message, key, key_ttl_s = command
                    position = await settled(
                        engine.append(channel, message, keep[channel], key=key, key_ttl_s=key_ttl_s)
                    )
                    known.append(position)
                elif isinstance(command, Sweep):
                    await engine.sweep(lambda channel: keep[channel])
                elif isinstance(command, Read):
                    channel = command.channel
                    start: Start = known[command.shift % len(known)] if known else NOW
                    result = await settled(
                        engine.read(channel, start, keep[channel], limit=1000, max_bytes=1 << 20)
                    )
                    truth.check(channel, start, result)
                    result = await settled(
                        engine.read(channel, EARLIEST, keep[channel], limit=1000, max_bytes=1 << 20)
                    )
                    truth.check(channel, EARLIEST, result)
                    all_kept.append(kept(result.publications))
            assert all_kept[1:] == all_kept[:-1], command
    finally:
        await engines[1].stop()


async def compare(script: Sequence[Command], keep: dict[Channel, Retention], path: Path) -> None:
    clock = FakeClock()
    model, other = (
        Side(MemoryEngine(clock=clock, forget_after_s=30 * DAY_S), keep),
        Side(SqliteEngine(path, clock=clock), keep),
    )
    await model.start()
    await other.start()
    try:
        for command in script:
            if isinstance(command, Advance):
                clock.advance(command.seconds)
            elif isinstance(command, Reopen):
                leases = other.engine
                await other.engine.stop()
                other.engine = SqliteEngine(path, clock=clock)
                # Leases are the process's, and are not kept.
                other.engine._leases = leases._leases  # type: ignore[attr-defined]
                await other.start()
            else:
                assert await other.run(command) == await model.run(command), command
        assert other.notified == model.notified
    finally:
        await other.engine.stop()


@pytest.mark.slow
@settings(max_examples=400)
@given(st.lists(commands, max_size=40), st.fixed_dictionaries(dict.fromkeys(CHANNELS, keeps)))
def test_sqlite_answers_as_memory_does(script: list[Command], keep: dict[Channel, Retention]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(compare(script, keep, Path(folder) / "streams.db"))


@pytest.mark.slow
@settings(max_examples=200)
@given(st.lists(commands, max_size=60), st.fixed_dictionaries(dict.fromkeys(CHANNELS, keeps)))
def test_engines_keep_the_same_whenever_they_forget(
    script: list[Command], keep: dict[Channel, Retention]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(compare_with_forgetting(script, keep, Path(folder) / "streams.db"))
