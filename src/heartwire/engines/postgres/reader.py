"""The reading connection: reads of history and of records, and the publications that the feed is to tell.

All reads of history are one statement: what waits when the last one is done is read at one moment. The
listening connection says which streams have changed; each watched one is read on from where this node was
told of it.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

from heartwire.core.switchboard import ReadResult
from heartwire.engines.calls import Call, Room
from heartwire.engines.contract import Recorded, Retention, plan_read
from heartwire.engines.postgres.driver import Connection
from heartwire.engines.postgres.lane import Ask, Lane
from heartwire.engines.postgres.opening import Store
from heartwire.engines.postgres.records import Look, looked
from heartwire.engines.postgres.values import FOR_EVER_MS, ms, unpacked_publisher
from heartwire.engines.watches import Watch, Watches
from heartwire.engines.wire import MOST
from heartwire.errors import EngineUnavailable
from heartwire.types import EARLIEST, NOW, Channel, Position, Publication, Start

__all__ = ["Reader", "Stream"]

_READS: Final = 32
"""So many reads, changed streams and new watches are one statement."""
_CHANGED: Final = 64
_FRESH: Final = 500
_PAGE: Final = 256
_PAGE_BYTES: Final = 256 * 1024
_READ: Final = "SELECT * FROM heartwire.read($1, $2, $3, $4, $5, $6, $7, $8)"
_LOOKS: Final = 256
_LOOK: Final = "SELECT * FROM heartwire.records_of($1, $2)"
_TOUCHES: Final = 1000
_MAX_TOUCHED: Final = 10_000
_TOUCH: Final = "SELECT heartwire.touch($1, $2)"
_MAIL: Final = "SELECT sender, channel, body FROM heartwire.mail WHERE id = ANY ($1) ORDER BY id"
_KEPT: Final = Retention(MOST, FOR_EVER_MS / 1000)


class _Wanted(NamedTuple):
    """What is read of one stream, and what becomes of it."""

    channel: Channel
    start: Start
    keep: Retention
    limit: int
    max_bytes: int
    done: "Callable[[Stream], None]"

    def columns(self) -> tuple[Any, ...]:
        start = self.start
        epoch, after = start if isinstance(start, Position) else (None, 0 if start is EARLIEST else -1)
        size, ttl_ms = min(self.keep.history_size, MOST), ms(self.keep.history_ttl_s)
        return (
            self.channel,
            epoch,
            min(after, MOST),
            size,
            ttl_ms,
            min(self.limit, MOST),
            min(self.max_bytes, MOST),
        )


class Stream:
    """What was read of one stream. ``origins``: of the publications, as the store has them."""

    def __init__(self, channel: Channel, start: Start, rows: list[Any]) -> None:
        first = rows[0]
        self.head = Position(first["epoch"], first["head"])
        self.removed: int = first["removed"]
        self.after, self.is_continued = plan_read(start, self.head, first["oldest"])
        self._channel, self._rows = channel, rows if first["nth"] is not None else []

    def publications(self, origin_of: Callable[[int], int] = lambda _: 0) -> list[Publication]:
        epoch, channel = self.head.epoch, self._channel
        return [
            Publication(
                channel, epoch, nth, data, is_text, unpacked_publisher(who), time_ms, origin_of(origin)
            )
            for _, _, _, _, _, nth, time_ms, origin, is_text, who, data in self._rows
        ]

    def result(self) -> ReadResult:
        start = Position(self.head.epoch, self.after)
        return ReadResult(start, self.publications(), self.head, self.is_continued)


class Reader(Lane):
    """See the module.

    Args:
        confirmed: told where a watched stream is; what comes after it is in ``changed_streams`` or will be.
        continued: told what was read of a stream that has changed.
        mail: told of a letter: sender, channel, body.
    """

    def __init__(
        self,
        store: Store,
        room: Room,
        clock: Callable[[], float],
        chance: Callable[[], float],
        *,
        watches: Watches,
        time_ms: Callable[[], int | None],
        confirmed: Callable[[Watch, Stream], None],
        continued: Callable[[Watch, Stream], None],
        mail: Callable[[str, Channel | None, bytes], None],
    ) -> None:
        super().__init__(store, room, clock, chance)
        self._watches = watches
        self._time_ms = time_ms
        self._confirmed, self._continued, self._mail = confirmed, continued, mail
        self._changed_streams: dict[Channel, None] = {}
        self._fresh: dict[Channel, None] = {}
        self._letters: dict[int, None] = {}
        self._touched: dict[Channel, int | None] = {}
        self._timeout_s = store.options.answer_timeout_s
        self._sql, self._mail_sql = store.sql(_READ), store.sql(_MAIL)
        self._look_sql, self._touch_sql = store.sql(_LOOK), store.sql(_TOUCH)

    # -- what is to be read ----------------------------------------------------------------------------------

    def read(
        self, channel: Channel, start: Start, keep: Retention, limit: int, max_bytes: int
    ) -> "asyncio.Future[ReadResult]":
        """See `Engine.read`."""

        def wanted(answer: "asyncio.Future[ReadResult]") -> list[_Wanted]:
            watch = self._watches.get(channel)

            def done(stream: Stream) -> None:
                if watch is not None and not watch.is_confirmed:
                    self._confirm(watch, stream)
                if not answer.done():
                    answer.set_result(stream.result())

            return [_Wanted(channel, start, keep, limit, max_bytes, done)]

        return self._call(wanted)

    def heads(self, channels: Iterable[Channel]) -> "asyncio.Future[list[Position]]":
        """See `SharedEngine.heads`."""
        named = list(channels)
        if not named:
            none: asyncio.Future[list[Position]] = asyncio.get_running_loop().create_future()
            none.set_result([])
            return none

        def wanted(answer: "asyncio.Future[list[Position]]") -> list[_Wanted]:
            heads: list[Position] = []

            def done(stream: Stream) -> None:
                heads.append(stream.head)
                if len(heads) == len(named) and not answer.done():
                    answer.set_result(heads)

            return [_Wanted(channel, NOW, _KEPT, 0, 1, done) for channel in named]

        return self._call(wanted)

    def record(self, channel: Channel) -> "asyncio.Future[Recorded]":
        """See `Records.record`."""
        return self._call(channel, Look)

    def touch(self, channel: Channel) -> None:
        """See `Records.touch`. Of those that wait for the store the newest are kept."""
        self._touched.pop(channel, None)
        self._touched[channel] = self._time_ms()
        if len(self._touched) > _MAX_TOUCHED:
            del self._touched[next(iter(self._touched))]
        self._wake.set()

    def _call(self, parts: Any, kind: Any = _Wanted) -> "asyncio.Future[Any]":
        if self._task is None:
            raise EngineUnavailable(f"{self._store.name}: the engine is not running")
        answer = asyncio.get_running_loop().create_future()
        self.add(Call(kind, parts, answer))
        return answer

    def watch(self, channel: Channel) -> None:
        """Find out where a stream is that is watched from now on."""
        self._fresh[channel] = None
        self._wake.set()

    def change(self, channel: Channel) -> None:
        """A watched stream has changed."""
        self._changed_streams[channel] = None
        self._wake.set()

    def fetch(self, letter: int) -> None:
        """Mail has come."""
        self._letters[letter] = None
        self._wake.set()

    # -- reading ---------------------------------------------------------------------------------------------

    def _has_work(self) -> bool:
        signs = self._changed_streams or self._fresh or self._letters or self._touched
        return bool(self.calls.waiting or signs)

    async def _turn(self, connection: Connection) -> None:
        call = self.calls.peek()
        if call is not None and call.kind is Ask:
            self.calls.next(self._clock())
            await self._do_ask(connection, call)
        if self._letters:
            await self._fetch(connection)
        if self._touched:
            await self._touch(connection)
        looks = self._take(Look, _LOOKS)
        if looks:
            await self._look(connection, looks)
        calls = self._take(_Wanted, _READS)
        wanted = [one for call in calls for one in call.parts(call.answer)]
        wanted += self._of_fresh()
        changed = self._of_changed()
        try:
            await self._read(connection, calls, wanted + changed)
        except BaseException:
            self._changed_streams.update((one.channel, None) for one in changed)
            raise

    def _take(self, kind: Any, most: int) -> list[Call]:
        """The next calls, as long as they are of this kind."""
        calls: list[Call] = []
        while len(calls) < most:
            call = self.calls.peek()
            if call is None or call.kind is not kind:
                break
            self.calls.next(self._clock())
            calls.append(call)
        return calls

    async def _read(self, connection: Connection, calls: list[Call], wanted: list[_Wanted]) -> None:
        if not wanted:
            return
        columns = map(list, zip(*(one.columns() for one in wanted), strict=True))
        try:
            rows = await connection.fetch(self._sql, *columns, self._time_ms(), timeout=self._timeout_s)
        except Exception as error:
            self._refuse(connection, calls, error)
            return
        for _ in calls:
            self.calls.answered()
        for one, (_, found) in zip(wanted, groupby(rows, itemgetter(0)), strict=True):
            one.done(Stream(one.channel, one.start, list(found)))

    def _of_fresh(self) -> list[_Wanted]:
        """Where new watches are."""
        wanted: list[_Wanted] = []
        for channel in list(self._fresh)[:_FRESH]:
            watch = self._watches.get(channel)
            if watch is None or watch.is_confirmed:
                del self._fresh[channel]
            else:
                wanted.append(_Wanted(channel, NOW, _KEPT, 0, 1, partial(self._confirm, watch)))
        return wanted

    def _of_changed(self) -> list[_Wanted]:
        """What has come since in those that have changed."""
        wanted: list[_Wanted] = []
        for channel in list(self._changed_streams)[:_CHANGED]:
            watch = self._watches.get(channel)
            if channel in self._fresh:
                continue  # the next turn knows from where
            del self._changed_streams[channel]
            if watch is not None and watch.is_confirmed:
                done = partial(self._continue, watch)
                wanted.append(_Wanted(channel, watch.told, _KEPT, _PAGE, _PAGE_BYTES, done))
        return wanted

    def _continue(self, watch: Watch, stream: Stream) -> None:
        if self._watches.get(watch.channel) is watch:
            self._continued(watch, stream)
            if watch.epoch == stream.head.epoch and watch.offset < stream.head.offset:
                self.change(watch.channel)

    def _confirm(self, watch: Watch, stream: Stream) -> None:
        if self._watches.get(watch.channel) is watch and self._watches.is_open:
            self._fresh.pop(watch.channel, None)
            self._confirmed(watch, stream)

    async def _fetch(self, connection: Connection) -> None:
        letters = list(self._letters)[:_PAGE]
        rows = await connection.fetch(self._mail_sql, letters, timeout=self._timeout_s)
        for letter in letters:
            del self._letters[letter]
        for sender, channel, body in rows:
            self._mail(sender, channel, body)

    async def _touch(self, connection: Connection) -> None:
        touched, self._touched = self._touched, {}
        await connection.execute(
            self._touch_sql, list(touched), list(touched.values()), timeout=self._timeout_s
        )

    async def _look(self, connection: Connection, calls: list[Call]) -> None:
        channels = [call.parts for call in calls]
        try:
            rows = await connection.fetch(self._look_sql, channels, self._time_ms(), timeout=self._timeout_s)
        except Exception as error:
            self._refuse(connection, calls, error)
            return
        for found in looked(rows):
            self.calls.answered().succeed(found)
