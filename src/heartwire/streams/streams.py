"""The durable streams of one node.

In: requests, from the `durable` dialect, the application and everybody who publishes. Out: their answers, and
one write to the engine for all that wait for the same stream. The decisions are in
`heartwire.streams.record`.
"""

import asyncio
import logging
import os
import struct
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from heartwire.core.waiting import begun, settled
from heartwire.engines.contract import Engine, Recorded, StreamWrite
from heartwire.errors import HeartwireError, Refused
from heartwire.streams import record as records
from heartwire.streams.record import Appended, Claim, Reason, Step, StreamOptions, StreamRecord
from heartwire.types import Channel, Message, Position

__all__ = ["Seen", "Streams"]

log = logging.getLogger("heartwire")

MAX_WAITING: Final = 10_000
"""Requests of a node that wait for a write; more are refused."""

MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
"""The same for what they append; there is always room for one."""

_TOGETHER: Final = 256
_REMEMBERED: Final = 1000

Decide = Callable[[StreamRecord | None, int], Step]
"""A decision on a record (``None``: there is none), at the store's time (milliseconds). Raises `Refused`."""


class Seen(NamedTuple):
    """A stream, as it was found.

    Attributes:
        tail: the position after its last message.
    """

    record: StreamRecord
    tail: Position
    found: Recorded


_Asked = tuple[Decide, "asyncio.Future[tuple[Any, Recorded]]"]


class _Line:
    """Those who wait for one stream, and what is known of it: as the store has it, and unpacked."""

    __slots__ = ("is_busy", "known", "record", "waiting")

    def __init__(self) -> None:
        self.waiting: list[_Asked] = []
        self.known: Recorded | None = None
        self.record: StreamRecord | None = None
        self.is_busy = False

    def learn(self, found: Recorded) -> StreamRecord | None:
        self.known, self.record = found, records.unpacked(found.record)
        return self.record


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
        self._ended = ended
        self._new_revision = new_revision or _revisions().__next__
        self.waiting = self.waiting_bytes = 0
        self._lines: OrderedDict[Channel, _Line] = OrderedDict()
        self._touched: OrderedDict[Channel, float] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

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
        closed: Reason | str = "",
        owner: str = "",
        lease_s: float = 0,
        user: str = "",
    ) -> tuple[bool, Seen]:
        """Create a stream, or find it. Returns whether it is new. See `heartwire.streams.record.create`."""

        def decide(record: StreamRecord | None, now_ms: int) -> Step:
            return records.create(
                channel,
                record,
                options,
                messages,
                max_bytes=self._max_bytes(channel),
                closed=closed,  # type: ignore[arg-type]
                owner=owner,
                lease_s=lease_s,
                user=user,
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
        line.waiting.append((decide, done))
        if not line.is_busy:
            line.is_busy = True
            rest = begun(self._serve(channel, line))
            if rest is not None:
                task = asyncio.ensure_future(_awaited(rest))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
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
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    # -- inside ----------------------------------------------------------------------------------------------

    def _line(self, channel: Channel) -> _Line:
        line = self._lines.get(channel)
        if line is None:
            line = self._lines[channel] = _Line()
            if len(self._lines) > _REMEMBERED:
                for name, other in self._lines.items():
                    if not other.is_busy and other is not line:
                        del self._lines[name]
                        break
        else:
            self._lines.move_to_end(channel)
        return line

    async def _serve(self, channel: Channel, line: _Line) -> None:
        try:
            while line.waiting:
                together = line.waiting[:_TOGETHER]
                del line.waiting[:_TOGETHER]
                try:
                    line.waiting[:0] = await self._write(channel, line, together)
                except BaseException as error:
                    line.known = None
                    _fail(together, error)
                    if not isinstance(error, HeartwireError):
                        _fail(line.waiting, error)
                        line.waiting.clear()
                        raise
        finally:
            line.is_busy = False

    async def _write(self, channel: Channel, line: _Line, together: Sequence[_Asked]) -> Sequence[_Asked]:
        """Decide for several, and write once. Returns those that have to be decided after that."""
        known, is_fresh = line.known, False
        if known is None:
            known, is_fresh = await self._learn(channel, line), True
        while True:
            made = _fold(line.record, known.now_ms, together)
            if made.is_changed:
                record, change = self._change(known, made)
                found = self._engine.write(channel, change)
                if not isinstance(found, Recorded):
                    found = await found
                was, known = known, found
                if record is not None and found.revision == change.revision:
                    line.known, line.record = found, record
                elif not _is_made(change, line.learn(found)):
                    is_fresh = True
                    continue
                if record is None or (not change.expects and found.head.epoch != was.head.epoch):
                    self._ended(channel, found.head)
            elif not is_fresh:  # what is remembered may be of the past
                known, is_fresh = await self._learn(channel, line), True
                continue
            break
        for answer, done in made.answers:
            if not done.done():
                if isinstance(answer, BaseException):
                    done.set_exception(answer)
                else:
                    done.set_result((answer, known))
        return together[len(made.answers) :]

    async def _learn(self, channel: Channel, line: _Line) -> Recorded:
        found = await settled(self._engine.record(channel))
        line.learn(found)
        return found

    def _change(self, known: Recorded, made: "_Folded") -> tuple[StreamRecord | None, StreamWrite]:
        """The record as it is to be written, and the write."""
        revision, record = self._new_revision(), made.record
        if record is None:
            return None, StreamWrite(known.revision, revision, None)
        record = record.remember(revision)
        data, options = records.packed(record), record.options
        return record, StreamWrite(
            known.revision, revision, data, made.messages, options.ttl_s, options.ends_ms
        )


class _Folded(NamedTuple):
    """Decisions on one record, one after the other."""

    record: StreamRecord | None
    messages: list[Message]
    answers: list[tuple[Any, asyncio.Future[Any]]]
    is_changed: bool


def _fold(was: StreamRecord | None, now_ms: int, together: Sequence[_Asked]) -> _Folded:
    record = was
    messages: list[Message] = []
    answers: list[tuple[Any, asyncio.Future[Any]]] = []
    for decide, done in together:
        try:
            step = decide(record, now_ms)
        except Exception as error:  # it is the caller's answer
            answers.append((error, done))
            continue
        is_end = step.record is None and record is not None
        if is_end and answers:
            break  # first those before it get their positions, in the epoch that ends here
        answers.append((step.answer, done))
        record = step.record
        messages += step.messages
        if is_end:
            break  # what comes after it is another stream
    return _Folded(record, messages, answers, record is not was)


def _is_made(change: StreamWrite, now: StreamRecord | None) -> bool:
    """Whether a write was made, though another may have come after it."""
    if change.record is None:
        return now is None
    return now is not None and any(revision == change.revision for revision, _ in now.past)


def _fail(together: Sequence[_Asked], error: BaseException) -> None:
    for _, done in together:
        if not done.done():
            done.set_exception(error if isinstance(error, HeartwireError) else HeartwireError(str(error)))
            done.exception()  # its caller may be gone


def _revisions() -> Iterator[int]:
    """Random ones. They are drawn 64 at a time: a call of the system costs as much as the rest of a write."""
    while True:
        for (bits,) in struct.iter_unpack("=Q", os.urandom(512)):
            yield (bits >> 12) + 1


async def _awaited(rest: Awaitable[None]) -> None:
    await rest
