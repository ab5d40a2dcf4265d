"""The durable streams of one node.

In: requests, from the `durable` dialect, the application and everybody who publishes. Out: their answers, and
one write to the engine for all that wait for the same stream (`heartwire.streams.line`). The decisions are in
`heartwire.streams.record`.
"""

import asyncio
import os
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple

from heartwire.core.waiting import settled
from heartwire.engines.contract import Engine, Recorded
from heartwire.errors import Refused
from heartwire.streams import record as records
from heartwire.streams.line import Decide, Line, Store
from heartwire.streams.record import Appended, Claim, Reason, Step, StreamOptions, StreamRecord
from heartwire.types import Channel, Message, Position

__all__ = ["Seen", "Streams"]

MAX_WAITING: Final = 10_000
"""Requests of a node that wait for a write; more are refused."""

MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
"""The same for what they append; there is always room for one."""

_REMEMBERED: Final = 1000


class Seen(NamedTuple):
    """A stream, as it was found.

    Attributes:
        tail: the position after its last message.
    """

    record: StreamRecord
    tail: Position
    found: Recorded


class Streams:
    """See the module.

    Attributes:
        waiting, waiting_bytes: requests that wait for a write, and what they append.

    Args:
        max_bytes: how large a stream may be.
        ended: told of a stream whose epoch ended here, with the position in the next.
        new_revision: draws the revision of a write.

    Promises: requests for one stream are applied in the order they were made; all that one asks for is kept
    in one step, or nothing. A stream is held by at most one lease, and one that lapsed is closed as
    interrupted once, by whoever sees it first, on any node.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_bytes: Callable[[Channel], int],
        ended: Callable[[Channel, Position], None] = lambda channel, position: None,
        new_revision: Callable[[], int] | None = None,
    ) -> None:
        self._engine = engine
        self._max_bytes = max_bytes
        self._store = Store(engine, ended, new_revision or _revisions().__next__, set())
        self.waiting = self.waiting_bytes = 0
        self._lines: OrderedDict[Channel, Line] = OrderedDict()
        self._touched: OrderedDict[Channel, float] = OrderedDict()

    # -- reading ---------------------------------------------------------------------------------------------

    async def look(self, channel: Channel) -> Seen:
        """Find a stream. One whose producer is dead is closed first.

        Raises `Refused` (``stream_not_found``, ``stream_gone``), `EngineUnavailable`.
        """
        found = await settled(self._engine.record(channel))
        record = records.unpacked(found.record)
        if record is not None and record.is_lapsed(found.written_ms, found.now_ms):
            await self.end_lapsed(channel)
            found = await settled(self._engine.record(channel))
            record = records.unpacked(found.record)
        there = records.there(channel, record)
        return Seen(there, Position(found.head.epoch, there.tail), found)

    async def end_lapsed(self, channel: Channel) -> bool:
        """Close a stream whose producer is dead, as interrupted. Returns whether it was open until now."""
        found = await settled(self._engine.record(channel))
        record = records.unpacked(found.record)
        if record is None or not record.is_lapsed(found.written_ms, found.now_ms):
            return False
        owner = record.owner
        # Its owner may have written since: then the revision is another, and it is decided anew.
        line = self._line(channel)
        if not line.is_busy:
            line.learn(found)

        def decide(now: StreamRecord | None, now_ms: int) -> Step:
            known = line.known
            is_written = now is not line.record  # in the same step, so its owner lives
            if now is None or known is None or is_written:
                return Step(now, (), False)
            if not now.is_lapsed(known.written_ms, max(now_ms, found.now_ms)):
                return Step(now, (), False)
            return records.close(channel, now, "interrupted", owner=owner)

        return bool((await self.change(channel, decide))[0])

    def touch(self, channel: Channel) -> None:
        """A stream is used: what ends it by its age begins anew."""
        self._engine.touch(channel)

    def read_at(self, channel: Channel, ttl_s: float, now: float) -> None:
        """`touch` for each read: the store is told at most every tenth of ``ttl_s``. ``now``: monotonic
        seconds."""
        if not ttl_s or now - self._touched.get(channel, -ttl_s) < ttl_s / 10:
            return
        self._touched[channel] = now
        self._touched.move_to_end(channel)
        if len(self._touched) > _REMEMBERED:
            self._touched.popitem(last=False)
        self.touch(channel)

    # -- changing --------------------------------------------------------------------------------------------

    async def create(
        self,
        channel: Channel,
        options: StreamOptions,
        messages: Sequence[Message] = (),
        *,
        closed: Reason | Literal[""] = "",
        owner: str = "",
        lease_s: float = 0,
    ) -> tuple[bool, Seen]:
        """Create a stream, or find it. Returns whether it is new. See `heartwire.streams.record.create`."""

        def decide(record: StreamRecord | None, now_ms: int) -> Step:
            return records.create(
                channel,
                record,
                options,
                messages,
                max_bytes=self._max_bytes(channel),
                closed=closed,
                owner=owner,
                lease_s=lease_s,
            )

        is_new, found = await self.change(channel, decide)
        record = records.there(channel, records.unpacked(found.record))
        return is_new, Seen(record, Position(found.head.epoch, record.tail), found)

    async def append(
        self,
        channel: Channel,
        messages: Sequence[Message],
        claim: Claim = Claim(),  # noqa: B008 - it is frozen
    ) -> tuple[Appended, Position]:
        """Append messages in one step, close the stream, or both. Returns the position after the last one.

        Raises: see `heartwire.streams.record.append`; `EngineUnavailable`.
        """

        def decide(record: StreamRecord | None, now_ms: int) -> Step:
            max_bytes = self._max_bytes(channel)
            return records.append(channel, record, messages, claim, now_ms=now_ms, max_bytes=max_bytes)

        answer, found = await self.change(channel, decide, size=sum([len(one.data) for one in messages]))
        return answer, Position(found.head.epoch, answer.tail)

    async def close(
        self, channel: Channel, reason: Reason, *, owner: str | None = None, detail: str = ""
    ) -> bool:
        """Close a stream. Returns whether it was open. See `heartwire.streams.record.close`."""
        decide: Decide = lambda record, now_ms: records.close(  # noqa: E731
            channel, record, reason, owner=owner, detail=detail
        )
        return bool((await self.change(channel, decide))[0])

    async def change(self, channel: Channel, decide: Decide, *, size: int = 0) -> tuple[Any, Recorded]:
        """Decide on a record, and keep what was decided.

        ``decide`` is called again where the record was another by then: it has no effects of its own.
        Returns its answer, and the record as it is kept. Raises what it raises, `EngineUnavailable`, and
        `Refused` (``too_many_requests``) where too many wait. ``size``: bytes that it holds meanwhile.
        """
        if self.waiting >= MAX_WAITING or (self.waiting and self.waiting_bytes + size > MAX_WAITING_BYTES):
            raise Refused("too_many_requests", f"{self.waiting} appends wait for the store", after_s=1)
        line = self._line(channel)
        done: asyncio.Future[tuple[Any, Recorded]] = asyncio.get_running_loop().create_future()
        line.add(decide, done)
        if done.done():
            return done.result()
        self.waiting += 1
        self.waiting_bytes += size
        try:
            return await done
        finally:
            self.waiting -= 1
            self.waiting_bytes -= size

    async def settle(self) -> None:
        """Wait for the writes under way."""
        while self._store.under_way:
            await asyncio.wait(set(self._store.under_way))

    # -- inside ----------------------------------------------------------------------------------------------

    def _line(self, channel: Channel) -> Line:
        line = self._lines.get(channel)
        if line is None:
            line = self._lines[channel] = Line(channel, self._store)
            if len(self._lines) > _REMEMBERED:
                for name, other in self._lines.items():
                    if not other.is_busy and other is not line:
                        del self._lines[name]
                        break
        else:
            self._lines.move_to_end(channel)
        return line


def _revisions() -> Iterator[int]:
    """Random ones. They are drawn 64 at a time: a call of the system costs as much as the rest of a write."""
    while True:
        for (bits,) in struct.iter_unpack("=Q", os.urandom(512)):
            yield (bits >> 12) + 1
