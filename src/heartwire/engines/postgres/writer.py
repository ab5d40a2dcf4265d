"""The writing connection: appends and changes of stream records in batches, and what has to stay in order.

They collect while the last transaction is under way; then all of them are one statement. A batch whose answer
was lost is sent again under its number, and the store finds it. Where an application's transaction holds a
stream (`heartwire.publish_in`), the appends to this stream wait aside, and the others go on.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from heartwire.engines.calls import Call, Room
from heartwire.engines.postgres.driver import Connection, asyncpg
from heartwire.engines.postgres.lane import Ask, Lane
from heartwire.engines.postgres.opening import Store
from heartwire.engines.postgres.records import Write, Written, columns, written
from heartwire.engines.postgres.values import packed_publisher
from heartwire.errors import EngineUnavailable
from heartwire.types import Channel, Message, Position

__all__ = ["Append", "Post", "Writer"]

_BATCH: Final = 512
_BATCH_BYTES: Final = 1024 * 1024
_WAIT_MS: Final = 250
"""So long a batch waits for locked streams; below the server's ``deadlock_timeout``, so that it gives way."""
_AGAIN_S: Final = 0.02
"""After that, appends to locked streams are tried again."""
_APPEND: Final = "SELECT * FROM heartwire.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
_WRITE: Final = """
SELECT * FROM heartwire.write(NULL, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"""
_BOTH: Final = """
SELECT a.*, w.* FROM heartwire.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS a,
LATERAL heartwire.write(
    a.time_ms, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26) AS w"""
_POST: Final = "SELECT heartwire.post($1, $2, $3, $4, $5)"


class Append(NamedTuple):
    """A call that appends. ``origin``: as the store has it."""

    channel: Channel
    message: Message
    origin: int
    key: str | None
    key_ttl_ms: int


class Post(NamedTuple):
    """A call that sends mail: to a node or to all, or a join or leave to those that watch a channel."""

    receiver: str | None
    channel: Channel | None
    client: str | None
    body: bytes


_STORED: Final = (Append, Write)
"""The kinds that are in batches."""


class Writer(Lane):
    """See the module.

    Args:
        node: whose batches these are.
        numbers: of its batches, each once and higher than the last.
        time_ms: what the store is to take for its clock; None: its own.
        appended: told of each append: the call, its position, whether it is new, its time.
        written: told of each change of a record.
    """

    def __init__(
        self,
        store: Store,
        room: Room,
        clock: Callable[[], float],
        chance: Callable[[], float],
        *,
        node: str,
        numbers: Iterator[int],
        time_ms: Callable[[], int | None],
        appended: Callable[[Call, Position, bool, int], None],
        written: Callable[[Call, Written], None],
    ) -> None:
        super().__init__(store, room, clock, chance)
        self._node = node
        self._time_ms = time_ms
        self._appended, self._written = appended, written
        self._room = room
        self._numbers = numbers
        self._number = next(numbers)
        self._doubtful: list[Call] = []  # the batch of this number, while its answer is not known
        self._aside: deque[Call] = deque()  # appends to streams that are locked, in order
        self._locked: set[Channel] = set()
        self._given_up: dict[Channel, float] = {}  # streams that were locked for too long, when that was
        self._retry_at = 0.0
        self._is_cautious = False  # a batch has met a lock: the next leave out what is locked
        self._append_sql, self._write_sql, self._both_sql = map(store.sql, (_APPEND, _WRITE, _BOTH))

    def _has_work(self) -> bool:
        return bool(self.calls.waiting) or (bool(self._aside) and self._clock() >= self._retry_at)

    def _lost(self) -> None:
        super()._lost()
        waiting = self.calls.waiting
        batch: list[Call] = []  # comes first, as it was
        if self._is_next():
            batch = [waiting.popleft() for _ in self._doubtful]
        self._bring_back()
        waiting.extendleft(reversed(batch))

    async def stop(self) -> None:
        self._bring_back()
        await super().stop()

    async def _turn(self, connection: Connection) -> None:
        if self._aside and not self._doubtful and self._clock() >= self._retry_at:
            self._bring_back()
        run = self._take()
        if not run:
            return
        if run[0].kind in _STORED:
            await self._store_all(connection, run)
        elif run[0].kind is Post:
            await self._post(connection, run)
        else:
            await self._do_ask(connection, run[0])

    def _take(self) -> list[Call]:
        """The next calls that are one statement: one that asks, a batch, or mail."""
        calls, now = self.calls, self._clock()
        run: list[Call] = []
        written: set[Channel] = set()  # the statement appends first, and each stream is written once
        size = 0
        most = _BATCH
        if self._doubtful:
            if self._is_next():
                most = len(self._doubtful)
            else:  # it waited too long
                self._doubtful = []
                self._number = next(self._numbers)
        while len(run) < most and (size < _BATCH_BYTES or self._doubtful):
            call = calls.peek()
            if call is None or (run and not _go_together(run[0].kind, call.kind)):
                break
            if written and call.parts.channel in written:
                break
            calls.next(now)
            if call.kind in _STORED and not self._doubtful and self._is_held(call):
                continue
            if call.kind is Write:
                written.add(call.parts.channel)
            run.append(call)
            size += call.size
        return run

    def _is_next(self) -> bool:
        """Whether the batch whose answer is not known is the next to send."""
        waiting, batch = self.calls.waiting, self._doubtful
        return bool(batch and waiting) and waiting[0] is batch[0]

    # -- appends and records ---------------------------------------------------------------------------------

    async def _store_all(self, connection: Connection, run: list[Call]) -> None:
        self._doubtful = run
        appends = [call.parts for call in run if call.kind is Append]
        writes = [call.parts for call in run if call.kind is Write]
        try:
            answer = await self._stored(connection, appends, writes)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
            if not run[0].is_doubtful:  # else its first statement may still be at work
                self._doubtful = []
            self._is_cautious = True
            self.calls.again([self.calls.answered() for _ in run])
            return
        except Exception as error:
            self._refuse(connection, run, error)
            self._doubtful = []
            return
        self._doubtful = []
        self._number = next(self._numbers)
        self._give(run, answer[:4], list(written(writes, answer[4:])))

    async def _stored(
        self, connection: Connection, appends: list[Append], writes: list[Write]
    ) -> tuple[Any, ...]:
        wait_ms = 0 if self._is_cautious else _WAIT_MS
        if not writes:
            arguments = self._arguments(appends, wait_ms)
            return (*await connection.fetchrow(self._append_sql, *arguments), *[()] * 8, 0)
        changes = wait_ms, *columns(writes), self._time_ms()
        if not appends:
            return ((), (), (), 0, *await connection.fetchrow(self._write_sql, *changes))
        arguments = *self._arguments(appends, wait_ms), *changes
        return tuple(await connection.fetchrow(self._both_sql, *arguments))

    def _arguments(self, parts: list[Append], wait_ms: int) -> tuple[Any, ...]:
        messages = [one.message for one in parts]
        return (
            self._node,
            self._number,
            wait_ms,
            [one.channel for one in parts],
            [message.data for message in messages],
            [message.is_text for message in messages],
            [packed_publisher(message.publisher) for message in messages],
            [one.origin for one in parts],
            [one.key for one in parts],
            [one.key_ttl_ms for one in parts],
            self._time_ms(),
        )

    def _give(self, run: list[Call], appended: tuple[Any, ...], changed: list[Written | None]) -> None:
        """Answer the calls of a batch, or put those aside whose streams are locked."""
        epochs, nths, news, time_ms = appended
        self._is_cautious = None in nths or None in changed
        if not self._is_cautious and not self._aside:
            self._given_up.clear()
        appends, changes = zip(epochs, nths, news, strict=True), iter(changed)
        for call in run:
            if call.kind is Append:
                epoch, nth, is_new = next(appends)
                if nth is not None:
                    self._appended(self.calls.answered(), Position(epoch, nth), is_new, time_ms)
                    continue
            elif (change := next(changes)) is not None:
                self._written(self.calls.answered(), change)
                continue
            self.calls.sent.popleft()
            self._put_aside(call)

    # -- streams that are locked -----------------------------------------------------------------------------

    def _is_held(self, call: Call) -> bool:
        """Whether the newest call that is out has to wait behind others, or to fail with them."""
        channel = call.parts.channel
        if channel not in self._locked and call.made_at > self._given_up.get(channel, -math.inf):
            return False
        self.calls.sent.pop()
        self._put_aside(call)
        return True

    def _put_aside(self, call: Call) -> None:
        """A call that is not out any more waits, at most ``patience_s``. It counts among those under way."""
        now, channel = self._clock(), call.parts.channel
        if now >= call.made_at + self._store.options.patience_s:
            self._given_up[channel] = now
        if call.made_at <= self._given_up.get(channel, -math.inf):
            self._room.leave(call)
            why = f"{channel!r} is locked by a transaction that has published to it; nothing was stored"
            call.fail(EngineUnavailable(f"{self._store.name}: {why}"))
            return
        if not self._aside:
            self._retry_at = now + _AGAIN_S
            asyncio.get_running_loop().call_later(_AGAIN_S, self._wake.set)
        self._aside.append(call)
        self._locked.add(channel)

    def _bring_back(self) -> None:
        """They are the next to send."""
        self.calls.waiting.extendleft(reversed(self._aside))
        self._aside.clear()
        self._locked.clear()

    # -- mail ------------------------------------------------------------------------------------------------

    async def _post(self, connection: Connection, run: list[Call]) -> None:
        columns = zip(*(call.parts for call in run), strict=True)
        sql = self._store.sql(_POST)
        try:
            await connection.execute(sql, self._node, *map(list, columns))
        except Exception as error:
            self._refuse(connection, run, error)
            return
        for _ in run:
            self.calls.answered().succeed(None)


def _go_together(first: Any, kind: Any) -> bool:
    """Whether calls of two kinds may be one statement."""
    return (first is kind and kind is not Ask) or (first in _STORED and kind in _STORED)
