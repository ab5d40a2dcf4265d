"""Forks: there with all that they take or not at all, and remembered by their sources as long as they are."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest

from heartwire.core.switchboard import ReadResult
from heartwire.engines.contract import Retention
from heartwire.engines.memory import MemoryEngine
from heartwire.errors import EngineUnavailable
from heartwire.streams.forks import MAX_FORKS, Creation, Forks, offset_in
from heartwire.streams.streams import Seen, Streams
from heartwire.testing.clock import FakeClock
from heartwire.types import EARLIEST, Channel, Message, Position
from tests.unit.refusals import refused

WHOLE: Final = Retention(2**50, 1e9)
A, B, C = Channel("a"), Channel("b"), Channel("c")


class Bench:
    """Forks over a memory engine.

    Attributes:
        before_read: called before each read of a copy.
    """

    def __init__(self, max_bytes: int = 10**9) -> None:
        self.clock = FakeClock()
        self.engine = MemoryEngine(clock=self.clock)
        self.streams = Streams(self.engine, max_bytes=lambda channel: max_bytes)
        self.before_read: Callable[[], Any] = lambda: None
        self.forks = Forks(
            self.streams,
            self.engine,
            self._read,
            max_bytes=lambda channel: max_bytes,
            default_ttl_s=lambda channel: 0,
        )

    async def _read(self, channel: Channel, start: Position, *, limit: int, max_bytes: int) -> ReadResult:
        answer = self.before_read()
        if answer is not None:
            await answer
        return self.engine.read(channel, start, WHOLE, limit=limit, max_bytes=max_bytes)

    async def make(self, channel: Channel, words: Sequence[bytes] = (), **fields: Any) -> Seen:
        messages = [Message(word) for word in words]
        content_type = "" if fields.get("source") else "text/plain"
        given = {"content_type": content_type, "ttl_s": None, "ends_ms": None, "is_closed": False}
        _, seen = await self.forks.create(channel, Creation(**(given | {"messages": messages} | fields)))
        return seen

    def words(self, channel: Channel) -> list[bytes]:
        found = self.engine.read(channel, EARLIEST, WHOLE, limit=10**6, max_bytes=10**9)
        return [one.data for one in found.publications if not one.is_end]

    async def names(self, channel: Channel) -> tuple[str, ...]:
        return (await self.forks.look(channel)).record.forks


async def test_a_fork_goes_its_own_way() -> None:
    bench = Bench()
    source = await bench.make(A, [b"1", b"2", b"3"])
    fork = await bench.make(B, [b"x"], source=A, at=Position(source.tail.epoch, 2))
    await bench.streams.append(A, [Message(b"4")])
    assert bench.words(B) == [b"1", b"2", b"x"]
    assert bench.words(A) == [b"1", b"2", b"3", b"4"]
    assert (fork.tail.offset, fork.record.bytes) == (3, 3)
    assert await bench.names(A) == ("b",)


async def test_positions_of_the_source_hold_in_the_fork_up_to_where_it_begins() -> None:
    bench = Bench()
    a = await bench.make(A, [b"1", b"2", b"3"])
    b = await bench.make(B, [b"x"], source=A, at=Position(a.tail.epoch, 2))
    c = await bench.make(C, source=B, at=Position(b.tail.epoch, 1))
    for seen, epoch, last in ((b, a, 2), (b, b, 3), (c, a, 1), (c, b, 1), (c, c, 1)):
        assert offset_in(C, seen, Position(epoch.tail.epoch, last)) == last
        with refused("bad_position"):
            offset_in(C, seen, Position(epoch.tail.epoch, last + 1))
    with refused("stream_gone"):
        offset_in(A, a, Position(b.tail.epoch, 1))
    assert offset_in(A, a, Position("of another life", 0)) == 0


async def test_a_long_source_is_copied_in_pieces() -> None:
    bench = Bench()
    await bench.make(A, [b"%d" % at for at in range(2500)])
    reads = []
    bench.before_read = lambda: reads.append(1)
    await bench.make(B, source=A)
    assert bench.words(B) == bench.words(A)
    assert len(reads) == 3


async def test_a_fork_that_is_being_made_is_not_there() -> None:
    bench = Bench()
    await bench.make(A, [b"1", b"2"])
    reached, gate = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        reached.set()
        await gate.wait()

    bench.before_read = wait
    making = asyncio.ensure_future(bench.make(B, source=A))
    await reached.wait()
    with refused("stream_not_found"):
        await bench.forks.look(B)
    with refused("stream_not_found"):
        await bench.streams.append(B, [Message(b"x")])
    for source in (A, None):
        with refused("too_many_requests"):
            await bench.make(B, source=source)
    gate.set()
    await making
    assert bench.words(B) == [b"1", b"2"]


async def test_a_fork_that_was_abandoned_ends_by_its_age() -> None:
    bench = Bench()
    await bench.make(A, [b"1"])
    bench.before_read = lambda: asyncio.get_running_loop().create_future()
    making = asyncio.ensure_future(bench.make(B, source=A))
    while not await bench.names(A):  # noqa: ASYNC110 - a turn or two
        await asyncio.sleep(0)
    bench.before_read = lambda: None
    bench.clock.advance(61)  # its node is dead: nothing comes of it
    await bench.make(B, [b"another"])
    assert bench.words(B) == [b"another"]
    await bench.forks.delete(A)
    with refused("stream_not_found"):
        await bench.forks.look(A)
    making.cancel()
    await asyncio.gather(making, return_exceptions=True)
    assert bench.words(B) == [b"another"]


@pytest.mark.parametrize("fault", ["deleted", "store"])
async def test_a_fork_that_fails_leaves_nothing(fault: str) -> None:
    bench = Bench()
    await bench.make(A, [b"1"])

    async def fail() -> None:
        if fault == "store":
            raise EngineUnavailable("gone")
        bench.before_read = lambda: None
        await bench.forks.delete(A)

    bench.before_read = fail
    with pytest.raises(EngineUnavailable) if fault == "store" else refused("stream_not_found"):
        await bench.make(B, source=A)
    with refused("stream_not_found"):
        await bench.forks.look(B)
    if fault == "store":
        assert await bench.names(A) == ()
    else:
        with refused("stream_not_found"):
            await bench.forks.look(A)


async def test_a_fork_is_bounded_and_so_is_their_number() -> None:
    bench = Bench(max_bytes=10)
    await bench.make(A, [b"x" * 8])
    with refused("stream_full"):
        await bench.make(B, [b"x" * 3], source=A)
    assert await bench.names(A) == ()
    for at in range(MAX_FORKS):
        await bench.make(Channel(f"fork{at}"), source=A, at=Position("any", 0))
    with refused("stream_full"):
        await bench.make(B, source=A, at=Position("any", 0))
    with refused("stream_not_found"):
        await bench.forks.look(B)


async def test_a_deleted_source_is_remembered_until_its_last_fork_is_gone() -> None:
    bench = Bench()
    await bench.make(A, [b"secret"])
    await bench.make(B, source=A)
    await bench.make(C, source=B)
    for channel in (A, B):
        await bench.forks.delete(channel)
        with refused("stream_gone"):
            await bench.forks.look(channel)
        with refused("stream_conflict"):
            await bench.make(channel)
        assert bench.words(channel) == []  # its publications are gone, for readers of every dialect
    assert bench.words(C) == [b"secret"]
    await bench.forks.delete(C)
    for channel in (A, B, C):
        with refused("stream_not_found"):
            await bench.forks.look(channel)


async def test_forks_that_ended_by_their_age_hold_nothing() -> None:
    bench = Bench()
    await bench.make(A, [b"1"])
    await bench.make(B, source=A, ttl_s=10)
    await bench.make(C, source=B, ttl_s=10)
    await bench.forks.delete(A)
    await bench.forks.delete(B)
    with refused("stream_gone"):
        await bench.forks.look(A)
    bench.clock.advance(11)
    await bench.make(A, [b"new"])
    assert bench.words(A) == [b"new"]


async def test_a_fork_asked_for_again_is_the_same() -> None:
    bench = Bench()
    await bench.make(A, [b"1"])
    first = await bench.make(B, source=A)
    await bench.streams.append(A, [Message(b"2")])
    assert (await bench.make(B, source=A)).tail == first.tail
    with refused("stream_conflict"):
        await bench.make(B, source=A, at=Position("any", 0))
    with refused("stream_conflict"):
        await bench.make(B)
    with refused("stream_conflict"):
        await bench.make(B, source=C)


async def test_a_read_renews_a_lifetime_at_most_every_tenth_of_it() -> None:
    bench = Bench()
    touched: list[Channel] = []
    bench.engine.touch = touched.append  # type: ignore[method-assign, assignment]
    for now, count in ((0, 1), (0.9, 1), (1, 2), (1.5, 2), (50, 3)):
        bench.streams.read_at(A, 10, now)
        assert len(touched) == count
    bench.streams.read_at(B, 0, 0)
    assert touched == [A] * 3
