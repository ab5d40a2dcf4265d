"""The way in for streams: requests are dealt with one after the other, in order, and not any number of them
waits."""

import asyncio
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import cast

import pytest

from heartwire.dialects.centrifugal import JSON
from heartwire.server.centrifugal.connection import CentrifugalConnection
from heartwire.server.centrifugal.emulation import MAX_WAITING, MAX_WAITING_BYTES, CommandQueue


class _Connection:
    """Its messages take as long as is wanted: "slow" ones until `done` is set."""

    def __init__(self) -> None:
        self.dealt_with: list[bytes] = []
        self._news = asyncio.Event()
        self.gate = asyncio.Event()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.paused = False
        self.room = 1 << 30
        self.taken = asyncio.Event()
        self.session = SimpleNamespace(codec=JSON)

    def recount(self, before: int, after: int) -> bool:
        self.room -= after - before
        return after <= before or self.room >= 0

    async def drained(self) -> None:
        if self.paused:
            await self.taken.wait()

    def receive(self, is_text: bool, data: bytes) -> Awaitable[None] | None:
        assert is_text
        if data.startswith(b"slow"):
            return self._slowly(data)
        self._done(data)
        return None

    def _done(self, data: bytes) -> None:
        self.dealt_with.append(data)
        self._news.set()

    async def reached(self, count: int) -> None:
        """Until that many have been dealt with."""
        while len(self.dealt_with) < count:
            self._news.clear()
            await self._news.wait()

    async def _slowly(self, data: bytes) -> None:
        await self.gate.wait()
        self._done(data)


def _made() -> tuple[_Connection, CommandQueue]:
    connection = _Connection()
    return connection, CommandQueue(
        cast(CentrifugalConnection, connection),
        lambda: asyncio.sleep(0),
        connection.failed.set_exception,
        connection.recount,
    )


def test_nothing_is_done_for_a_client_that_takes_no_answers() -> None:
    async def main() -> None:
        connection, emulated = _made()
        connection.paused = True
        assert emulated.feed(b"a")
        assert emulated.feed(b"b")
        for _ in range(5):
            await asyncio.sleep(0)
        assert connection.dealt_with == []
        connection.paused = False
        assert emulated.feed(b"c")  # does not overtake
        connection.taken.set()
        await connection.reached(3)
        assert connection.dealt_with == [b"a", b"b", b"c"]

    asyncio.run(main())


def test_what_needs_no_waiting_is_done_at_once() -> None:
    async def main() -> None:
        connection, emulated = _made()
        assert emulated.feed(b"a")
        assert emulated.feed(b"b")
        assert connection.dealt_with == [b"a", b"b"]

    asyncio.run(main())


def test_order_is_kept_while_one_takes_time() -> None:
    async def main() -> None:
        connection, emulated = _made()
        frames = [b"a", b"slow 1", b"b", b"slow 2", b"slow 3", b"c"]
        for frame in frames:
            assert emulated.feed(frame)
        assert connection.dealt_with == [b"a"]
        connection.gate.set()
        await connection.reached(len(frames))
        assert connection.dealt_with == frames
        for frame in (b"d", b"slow 4", b"e"):  # and again, after it has come to rest
            assert emulated.feed(frame)
        await connection.reached(len(frames) + 3)
        assert connection.dealt_with[-3:] == [b"d", b"slow 4", b"e"]

    asyncio.run(main())


def test_not_any_number_waits() -> None:
    async def main() -> None:
        connection, emulated = _made()
        emulated.feed(b"slow")
        assert all(emulated.feed(b"%d" % number) for number in range(MAX_WAITING))
        assert not emulated.feed(b"one more")
        connection.gate.set()
        await connection.reached(MAX_WAITING + 1)
        assert emulated.feed(b"now")
        assert connection.dealt_with[-1] == b"now"

    asyncio.run(main())


def test_not_any_number_of_bytes_waits() -> None:
    async def main() -> None:
        connection, emulated = _made()
        emulated.feed(b"slow")
        assert emulated.feed(b"x" * MAX_WAITING_BYTES)
        assert not emulated.feed(b"x")
        connection.gate.set()
        await connection.reached(2)
        connection.gate.clear()
        emulated.feed(b"slow")
        assert emulated.feed(b"x" * MAX_WAITING_BYTES)  # what was taken is not counted any more
        connection.gate.set()
        await connection.reached(4)

    asyncio.run(main())


def test_failure_ends_the_connection() -> None:
    async def main() -> None:
        connection, emulated = _made()

        async def fails() -> None:
            raise OSError("a fault")

        connection.receive = lambda is_text, data: fails()  # type: ignore[method-assign]
        emulated.feed(b"a")
        with pytest.raises(OSError, match="a fault"):
            await connection.failed

    asyncio.run(main())


def test_end_cancels_what_has_begun_and_handles_no_more() -> None:
    async def main() -> None:
        connection, emulated = _made()
        emulated.feed(b"slow")
        emulated.feed(b"b")
        emulated.end()
        for _ in range(5):
            await asyncio.sleep(0)
        connection.gate.set()
        for _ in range(5):
            await asyncio.sleep(0)
        assert connection.dealt_with == []

    asyncio.run(main())


def test_a_fault_behind_the_end_is_nobodys() -> None:
    async def main() -> None:
        connection, emulated = _made()

        async def fails() -> None:
            await connection.gate.wait()
            raise OSError("a fault")

        connection.receive = lambda is_text, data: fails()  # type: ignore[method-assign]
        emulated.feed(b"a")
        emulated.end()
        connection.gate.set()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not connection.failed.done()

    asyncio.run(main())


def test_what_waits_needs_room_on_the_node() -> None:
    async def main() -> None:
        connection, emulated = _made()
        connection.room = 10
        emulated.feed(b"slow")
        assert emulated.feed(b"x" * 6)
        assert not emulated.feed(b"y" * 6)
        assert emulated.feed(b"z" * 4)
        assert connection.room == 0
        connection.gate.set()
        await connection.reached(3)
        assert connection.dealt_with == [b"slow", b"xxxxxx", b"zzzz"]
        assert connection.room == 10

    asyncio.run(main())
