"""Reading streams: pages of history for those who ask by offset, and pages for subscriptions that catch
up."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from heartwire.codes import CODES
from heartwire.core.switchboard import ReadResult, Switchboard
from heartwire.core.topic import Topic
from heartwire.core.waiting import settled
from heartwire.engines.contract import Engine
from heartwire.errors import EngineError, Refused
from heartwire.hub.namespaces import Namespaces
from heartwire.types import NOW, Channel, Position, Publication, Start

__all__ = ["CatchUp", "History", "Page"]

log = logging.getLogger("heartwire")

PAGE_BYTES: Final = 16 * 1024 * 1024
"""A page ends once it has this much, so that nobody makes the server hold a whole stream; the reader asks
again."""

_BACK_ITEMS: Final = 256

_CATCH_UP_ITEMS: Final = 256
_CATCH_UP_BYTES: Final = 64 * 1024
"""A subscription that catches up reads this much at a time, so that it shares the engine with others."""

_UNDER_WAY: Final = 256
"""Reads that a store is asked at a time. When it comes back all topics may want to read; publishes go between
them, and each read's objects end before the next ones are made."""


class Page(NamedTuple):
    """Publications in the order they were asked for, and the position of the stream."""

    publications: list[Publication]
    head: Position


class History:
    """Reads of one node, each with its channel's retention."""

    def __init__(self, engine: Engine, namespaces: Namespaces) -> None:
        self._engine = engine
        self._namespaces = namespaces

    def read(
        self, channel: Channel, start: Start, *, limit: int, max_bytes: int
    ) -> ReadResult | asyncio.Future[ReadResult]:
        """See `Engine.read`. The end of a durable stream is not among the publications: `ReadResult.end` is
        it."""
        return self._read(channel, start, limit, max_bytes, _without_end)

    def whole(
        self, channel: Channel, start: Start, *, limit: int, max_bytes: int
    ) -> ReadResult | asyncio.Future[ReadResult]:
        """See `Engine.read`. The end of a durable stream is a publication too; where a read begins after it,
        it is in `ReadResult.end`."""
        return self._read(channel, start, limit, max_bytes, lambda result: result)

    def _read(
        self,
        channel: Channel,
        start: Start,
        limit: int,
        max_bytes: int,
        change: Callable[[ReadResult], ReadResult],
    ) -> ReadResult | asyncio.Future[ReadResult]:
        """Read; ``change`` what is read of a durable stream."""
        keep = self._namespaces.retention(channel)
        answer = self._engine.read(channel, start, keep, limit=limit, max_bytes=max_bytes)
        if not self._namespaces.is_durable(channel):
            return answer
        if not isinstance(answer, ReadResult):
            return asyncio.ensure_future(self._read_later(channel, answer, change))
        last = self._last(channel, answer)
        assert last is None or isinstance(last, ReadResult)
        return change(_with_end(answer, last))

    async def _read_later(
        self, channel: Channel, answer: asyncio.Future[ReadResult], change: Callable[[ReadResult], ReadResult]
    ) -> ReadResult:
        result = await answer
        last = self._last(channel, result)
        return change(_with_end(result, None if last is None else await settled(last)))

    def _last(self, channel: Channel, result: ReadResult) -> ReadResult | asyncio.Future[ReadResult] | None:
        """Read the last publication, where a read has begun after it: the stream may be closed."""
        if result.publications or not result.head.offset or result.start != result.head:
            return None
        before = Position(result.head.epoch, result.head.offset - 1)
        keep = self._namespaces.retention(channel)
        return self._engine.read(channel, before, keep, limit=1, max_bytes=1)

    async def page(
        self,
        channel: Channel,
        *,
        limit: int,
        since_offset: int | None = None,
        since_epoch: str = "",
        reverse: bool = False,
    ) -> Page:
        """Read a page.

        Args:
            limit: most publications; 0: none, negative: no limit but `PAGE_BYTES`.
            since_offset: those after it, or before it where ``reverse``; ``None``: from the oldest kept, or
                the newest.
            since_epoch: the epoch of the offset; "": the present one.
        Raises:
            Refused: ``unrecoverable_position`` (the stream has another epoch), ``bad_request`` (backwards
            from the
                beginning).
        """
        head = (await settled(self.read(channel, NOW, limit=0, max_bytes=1))).head
        if since_epoch and since_epoch != head.epoch:
            raise Refused(
                "unrecoverable_position", f"{channel!r} is in epoch {head.epoch!r}, not {since_epoch[:32]!r}"
            )
        if reverse and since_offset == 0:
            raise Refused("bad_request", "nothing is before offset 0")
        if limit == 0:
            return Page([], head)
        most = head.offset if limit < 0 else min(limit, head.offset)  # a store's integers have an end
        if reverse:
            newest = head.offset if since_offset is None else min(since_offset - 1, head.offset)
            return Page(await self._back(channel, head.epoch, newest, most), head)
        after = since_offset or 0
        if after >= head.offset:
            return Page([], head)
        start = Position(head.epoch, after)
        result = await settled(self.read(channel, start, limit=most, max_bytes=PAGE_BYTES))
        return Page([one for one in result.publications if not one.is_end], head)

    async def _back(self, channel: Channel, epoch: str, newest: int, most: int) -> list[Publication]:
        """At most ``most`` publications up to offset ``newest``, newest first.

        Offsets have no holes, so they give the place to read.
        """
        found: list[Publication] = []
        size = 0
        while newest > 0 and len(found) < most and size < PAGE_BYTES:
            after = max(0, newest - min(_BACK_ITEMS, most - len(found)))
            # All of it: a limit by bytes would cut the newest off, which are the ones to begin with.
            start = Position(epoch, after)
            result = await settled(self.read(channel, start, limit=newest - after, max_bytes=2**62))
            page = [publication for publication in result.publications if publication.offset <= newest]
            if not page or page[0].epoch != epoch:
                break
            found += [one for one in reversed(page) if not one.is_end]
            size += sum(len(publication.data) for publication in page)
            newest = after if page[0].offset == after + 1 else 0  # else nothing older is kept
        return found


def _with_end(result: ReadResult, last: ReadResult | None) -> ReadResult:
    read = result.publications if last is None else last.publications
    return result._replace(end=read[-1]) if read and read[-1].is_end else result


def _without_end(result: ReadResult) -> ReadResult:
    publications = result.publications
    return result._replace(publications=publications[:-1]) if result.end in publications[-1:] else result


class CatchUp:
    """Reads the engine for the subscriptions of a switchboard. The node sets ``switchboard`` and ``loop``."""

    switchboard: Switchboard
    loop: asyncio.AbstractEventLoop

    def __init__(self, history: History) -> None:
        self._history = history
        self._under_way = 0
        self._waiting: deque[tuple[Topic, Start]] = deque()  # each once, as `Topic.reads` has them

    def read(self, topic: Topic, start: Start) -> None:
        """Read a page from ``start``, and call `Switchboard.read_done`; see `Switchboard`."""
        # Where now is has to be read before what the reader publishes next.
        if start is NOW or self._under_way < _UNDER_WAY:
            self._read(topic, start)
        else:
            self._waiting.append((topic, start))

    def _read(self, topic: Topic, start: Start) -> None:
        try:
            answer = self._history.whole(
                topic.channel, start, limit=_CATCH_UP_ITEMS, max_bytes=_CATCH_UP_BYTES
            )
        except EngineError as error:
            self.loop.call_soon(self._failed, topic, start, error)
            return
        if isinstance(answer, ReadResult):
            # Not at once: a long way to catch up would be as deep a recursion, and hold up everybody else.
            self.loop.call_soon(self.switchboard.read_done, topic, start, answer)
        else:
            self._under_way += 1
            answer.add_done_callback(partial(self._answered, topic, start))

    def _answered(self, topic: Topic, start: Start, answer: asyncio.Future[ReadResult]) -> None:
        self._under_way -= 1
        while self._waiting and self._under_way < _UNDER_WAY:
            self._read(*self._waiting.popleft())
        error = None if answer.cancelled() else answer.exception()
        if error is None and not answer.cancelled():
            self.switchboard.read_done(topic, start, answer.result())
        else:
            self._failed(topic, start, error)

    def _failed(self, topic: Topic, start: Start, error: BaseException | None) -> None:
        log.error("channel %r could not be read: %s", topic.channel, error)
        for subscription in self.switchboard.read_failed(topic, start):
            code = CODES["engine_unavailable"].close_code
            subscription.link.close(code, f"the store could not be read: {error}")
