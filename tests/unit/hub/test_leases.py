"""Which streams are looked at, and when."""

import asyncio
from typing import Final, Literal

from heartwire.engines.memory import MemoryEngine
from heartwire.hub.leases import Leases
from heartwire.streams.record import StreamOptions
from heartwire.streams.streams import Seen, Streams
from heartwire.testing.clock import FakeClock
from heartwire.types import Channel, Message

A: Final = Channel("answer:a")
OPTIONS: Final = StreamOptions()


class _Noted(Streams):
    """Streams that remember which of them were looked at."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(MemoryEngine(clock=clock), max_bytes=lambda channel: 10**6)
        self.looked: list[Channel] = []

    async def look(self, channel: Channel) -> Seen:
        self.looked.append(channel)
        return await super().look(channel)


class _World:
    def __init__(self, here: tuple[Channel, ...] = ()) -> None:
        self.clock = FakeClock()
        self.streams = _Noted(self.clock)
        self.leases = Leases(self.streams, lease_s=10, now=self.clock, is_here=here.__contains__)

    async def after(self, seconds: float) -> int:
        """Let time pass. Returns how often something was looked at then."""
        before = len(self.streams.looked)
        self.clock.advance(seconds)
        self.leases.advance()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return len(self.streams.looked) - before


async def test_a_stream_is_looked_at_when_its_lease_may_be_over() -> None:
    world = _World()
    await world.streams.create(A, OPTIONS, owner="run", lease_s=20)
    world.leases.follow(A)
    assert [await world.after(wait_s) for wait_s in (8, 11.9, 0)] == [1, 0, 0]
    assert await world.after(0.2) == 1
    assert (await world.streams.look(A)).record.closed == "interrupted"


async def test_one_that_is_renewed_is_looked_at_as_long_after_that() -> None:
    world = _World()
    await world.streams.create(A, OPTIONS, owner="run", lease_s=20)
    world.leases.follow(A)
    assert await world.after(0) == 1
    world.clock.advance(15)
    await world.streams.append(A, [Message(b"word")])
    assert [await world.after(wait_s) for wait_s in (5.1, 14.8, 0.2)] == [1, 0, 1]


async def test_one_that_is_not_there_yet_is_looked_for() -> None:
    world = _World()
    world.leases.follow(A)
    assert [await world.after(wait_s) for wait_s in (0, 9, 1)] == [1, 0, 1]


async def test_one_that_is_closed_or_nobodys_or_not_followed_is_let_alone() -> None:
    closings: tuple[Literal["", "done"], ...] = ("", "done")
    for closed in closings:
        world = _World()
        await world.streams.create(A, OPTIONS, closed=closed)
        world.leases.follow(A)
        assert [await world.after(wait_s) for wait_s in (0, 100)] == [1, 0]
        world.leases.follow(A)
        world.leases.unfollow(A)
        assert await world.after(100) == 0


async def test_one_that_is_written_here_is_not_read() -> None:
    world = _World((A,))
    await world.streams.create(A, OPTIONS, owner="run", lease_s=20)
    world.leases.follow(A)
    assert await world.after(100) == 0


async def test_a_crowd_is_looked_at_in_turns() -> None:
    world = _World()
    for number in range(500):
        world.leases.follow(Channel(f"answer:{number}"))
    assert [await world.after(0) for _ in range(4)] == [200, 200, 100, 0]
