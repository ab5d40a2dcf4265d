"""Those who wait for one stream, and what is known of it.

In: decisions on its record, and the engine's answers. Out: the answers of those who wait, and one write for
all of them. There is no task: each answer of the engine calls for the next step.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from heartwire.engines.contract import Engine, Recorded, StreamWrite
from heartwire.errors import HeartwireError
from heartwire.streams import record as records
from heartwire.streams.record import Step, StreamRecord
from heartwire.types import Channel, Message, Position

__all__ = ["Decide", "Line", "Store"]

log = logging.getLogger("heartwire")

_TOGETHER: Final = 256

Decide = Callable[[StreamRecord | None, int], Step]
"""A decision on a record (``None``: there is none), at the store's time (milliseconds). Raises `Refused`."""

_Asked = tuple[Decide, "asyncio.Future[tuple[Any, Recorded]]"]


class Store(NamedTuple):
    """What the lines of a node share.

    Attributes:
        ended: told of a stream whose epoch ended here, with the position in the next.
        new_revision: draws the revision of a write.
        under_way: the engine's answers that they wait for.
    """

    engine: Engine
    ended: Callable[[Channel, Position], None]
    new_revision: Callable[[], int]
    under_way: set["asyncio.Future[Recorded]"]


class Line:
    """See the module.

    Attributes:
        known: the record as the store had it last; ``None``: it has to be asked.
        record: the same, unpacked.
        is_busy: something is under way.

    Promises: those who wait are decided for in their order, on the record that the store has then, and
    answered once that is kept.
    """

    __slots__ = ("_channel", "_store", "_together", "_waiting", "_write", "is_busy", "known", "record")

    def __init__(self, channel: Channel, store: Store) -> None:
        self._channel, self._store = channel, store
        self._waiting: list[_Asked] = []
        self._together: Sequence[_Asked] = ()  # those of them who are decided for
        self._write: _Write | None = None
        self.known: Recorded | None = None
        self.record: StreamRecord | None = None
        self.is_busy = False

    def learn(self, found: Recorded) -> StreamRecord | None:
        """The store has this. Not while it is busy."""
        self.known, self.record = found, records.unpacked(found.record)
        return self.record

    def add(self, decide: Decide, done: "asyncio.Future[tuple[Any, Recorded]]") -> None:
        """Decide, keep it, and answer; now, where nothing is under way and the engine answers at once."""
        self._waiting.append((decide, done))
        if not self.is_busy:
            self._go_on(False)

    def _go_on(self, is_fresh: bool) -> None:
        """Take step after step until the engine has to be waited for, or nobody waits.

        ``is_fresh``: what is known was found for those who are decided for.
        """
        self.is_busy = True
        while self._together or self._waiting:
            if not self._together:
                self._together, is_fresh = self._waiting[:_TOGETHER], False
                del self._waiting[:_TOGETHER]
            try:
                found = self._ask(is_fresh)
                if found is not None and not isinstance(found, Recorded):
                    answer = found if isinstance(found, asyncio.Future) else asyncio.ensure_future(found)
                    self._store.under_way.add(answer)
                    answer.add_done_callback(self._hear)
                    return
                is_fresh = found is not None and self._take(found)
            except Exception as error:
                self._fail(error)
        self.is_busy = False

    def _hear(self, answer: "asyncio.Future[Recorded]") -> None:
        self._store.under_way.discard(answer)
        is_fresh = False
        try:
            is_fresh = self._take(answer.result())
        except (Exception, asyncio.CancelledError) as error:
            self._fail(error)
        self._go_on(is_fresh)

    def _ask(self, is_fresh: bool) -> Recorded | Awaitable[Recorded] | None:
        """Decide, and write it; or look first. ``None``: there was nothing to write."""
        known = self.known
        if known is None:
            return self._store.engine.record(self._channel)
        made = _fold(self.record, known.now_ms, self._together)
        if made.is_changed:
            self._write = _written(known, made, self._store.new_revision())
            return self._store.engine.write(self._channel, self._write.change)
        if not is_fresh:  # what is remembered may be of the past
            return self._store.engine.record(self._channel)
        self._answer(made, known)
        return None

    def _take(self, found: Recorded) -> bool:
        """The engine's answer. Returns whether it has to be decided anew, on what is known now."""
        write, self._write = self._write, None  # its messages may be large
        if write is None:
            self.learn(found)
            return True
        made, record, change, was = write
        if record is not None and found.revision == change.revision:
            self.known, self.record = found, record
        elif not _is_made(change, self.learn(found)):
            return True
        if record is None or (not change.expects and found.head.epoch != was.head.epoch):
            self._store.ended(self._channel, found.head)
        self._answer(made, found)
        return False

    def _answer(self, made: "_Folded", found: Recorded) -> None:
        self._waiting[:0] = self._together[len(made.answers) :]
        self._together = ()
        for answer, done in made.answers:
            if not done.done():
                if isinstance(answer, BaseException):
                    done.set_exception(answer)
                else:
                    done.set_result((answer, found))

    def _fail(self, error: BaseException) -> None:
        if not isinstance(error, HeartwireError):
            if isinstance(error, Exception):
                log.error("stream %r: its write failed", self._channel, exc_info=error)
            error = HeartwireError(str(error))
        self.known = self._write = None
        for _, done in self._together:
            if not done.done():
                done.set_exception(error)
                done.exception()  # its caller may be gone
        self._together = ()


class _Folded(NamedTuple):
    """Decisions on one record, one after the other."""

    record: StreamRecord | None
    messages: list[Message]
    answers: list[tuple[Any, asyncio.Future[Any]]]
    is_changed: bool


class _Write(NamedTuple):
    """A write under way: what it keeps, the record as it becomes, and what was known before."""

    made: _Folded
    record: StreamRecord | None
    change: StreamWrite
    was: Recorded


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


def _written(known: Recorded, made: _Folded, revision: int) -> _Write:
    if made.record is None:
        return _Write(made, None, StreamWrite(known.revision, revision, None), known)
    record = made.record.remember(revision)
    data, options = records.packed(record), record.options
    change = StreamWrite(known.revision, revision, data, made.messages, options.ttl_s, options.ends_ms)
    return _Write(made, record, change, known)


def _is_made(change: StreamWrite, now: StreamRecord | None) -> bool:
    """Whether a write was made, though another may have come after it."""
    if change.record is None:
        return now is None
    return now is not None and change.revision in now.past
