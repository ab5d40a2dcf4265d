"""The writing end of a run: what gathers its values, and keeps them in the stream, each once.

In: values, by the block or the producer that runs. Out: appends, one for all values of a turn of the event
loop, by a task; the end of the stream, when the block ends.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Final, Literal, Self

from heartwire.errors import EngineUnavailable, EngineUncertain, HeartwireError, StreamCancelled
from heartwire.messages import Body, check_message_size, to_body
from heartwire.streams.formats import ResumingShaper, Shaper
from heartwire.streams.record import Claim, Producer, Reason, StreamClosed
from heartwire.streams.streams import Streams
from heartwire.types import Channel, Message

__all__ = ["StreamWriter"]

log = logging.getLogger("heartwire")

_TOGETHER: Final = 256
_TOGETHER_BYTES: Final = 256 * 1024
_MAX_PAUSE_S: Final = 2


class StreamWriter:
    """What `heartwire.Hub.stream` gives its block.

    Args:
        owner: the run, as the stream's record names it.
        shaper: makes what is kept of values.
        now: monotonic seconds.
        left: called when nothing more is written.

    Attributes:
        name: the stream's.
        written_at: when the store last took something; before that, when the writer was made.
        is_resumed: it goes on with what another run has begun.
        is_let_go: the block was ended by `let_go`.

    Promises: values are kept in order, each once, also where the store breaks off and comes back. At most
    512 KiB and a value wait for it.
    """

    def __init__(
        self,
        streams: Streams,
        channel: Channel,
        owner: str,
        shaper: Shaper,
        *,
        max_message_bytes: int,
        now: Callable[[], float],
        left: Callable[[], None],
    ) -> None:
        self.name = channel
        self.owner = owner
        self.written_at = now()
        self.is_resumed = self.is_let_go = False
        self._streams = streams
        self._shaper = shaper
        self._max_bytes = max_message_bytes
        self._now = now
        self._left = left
        self._pending: list[Message] = []
        self._pending_bytes = self._number = self._cancels = 0
        self._room = asyncio.Event()
        self._block: asyncio.Task[object] | None = None
        self._writing: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._is_waiting = self._is_interrupted = self._is_renewed = False
        self._stopped: StreamCancelled | None = None
        self._failure: HeartwireError | None = None

    async def write(self, value: object) -> None:
        """Keep a value: ``str`` or ``bytes``, or what the format of the stream takes.

        Returns when there is room for the next one; this one may be on its way to the store then.

        Raises:
            StreamCancelled: somebody closed the stream.
            TypeError: the value does not fit the format.
            LimitExceeded, Refused: ``message_too_large``, ``stream_full``.
        """
        self._check()
        self._add(self._shaper.add(value))
        while len(self._pending) >= _TOGETHER or self._pending_bytes >= _TOGETHER_BYTES:
            self._room.clear()
            self._is_waiting = True
            try:
                await self._room.wait()
            finally:
                self._is_waiting = False
            self._check()

    def resume(self, kept: Sequence[str | bytes]) -> None:
        """Go on after what another run has written."""
        if isinstance(self._shaper, ResumingShaper):
            self._add(self._shaper.resume(kept))

    # -- the block -------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._block = asyncio.current_task()
        assert self._block is not None
        self._cancels = self._block.cancelling()
        if not self.is_resumed:
            self._add(self._shaper.begin())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        block, self._block = self._block, None
        assert block is not None
        is_cancelled = isinstance(error, asyncio.CancelledError)
        if self._is_interrupted and block.uncancel() <= self._cancels:
            is_cancelled = False  # by nobody else
        self._ending = asyncio.get_running_loop().create_task(self._end(error))
        try:
            await asyncio.shield(self._ending)
        except asyncio.CancelledError:  # what was written is kept all the same
            await asyncio.wait([self._ending], timeout=1)
            raise
        finally:
            self._left()
        if self._stopped is not None and not is_cancelled and not isinstance(error, Exception):
            raise self._stopped from error

    async def _end(self, error: BaseException | None) -> None:
        """Keep what waits, and close the stream. Raises what went wrong with that."""
        reason, detail = _reason_of(error)
        fault: BaseException | None = error if reason == "error" else None
        if error is None:
            try:
                self._add(self._shaper.finish())
            except Exception as raised:
                fault, reason, detail = raised, "error", _detail(raised)
        if self._writing is not None:
            await asyncio.wait([self._writing])
        if self._failure is None and not self._is_closed:
            await self._keep("" if self.is_let_go and reason == "aborted" else reason, detail)
        if self._failure is not None and not self._is_closed:
            fault, self._failure = fault or self._failure, None
            self._take()
            await self._keep("error", _detail(fault))
        if self.is_let_go and error is None:  # it was done in the same moment
            self._stopped = None
        if fault is not None:
            log.error("the run of stream %r failed", self.name, exc_info=fault)
            if error is None:
                raise fault

    # -- who ends it -----------------------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """The stream was closed: end the block, which sees `StreamCancelled`. Idempotent."""
        if self._stopped is None:
            self._stopped = StreamCancelled(self.name, reason)
            self._interrupt()

    def let_go(self) -> None:
        """End the block, and leave the stream open, with what was written."""
        if self._stopped is None:
            self.is_let_go = True
            self.stop("interrupted")

    def give_up(self) -> None:
        """Wait for the store no longer."""
        for task in (self._writing, self._ending):
            if task is not None:
                task.cancel()

    def renew(self) -> None:
        """Show that the run lives, by a write without messages. What the store answers may `stop` it."""
        if self._ending is None:
            self._is_renewed = True
            self._begin()

    def _interrupt(self) -> None:
        self._room.set()
        if self._block is not None and not self._is_waiting:
            self._is_interrupted = True
            self._block.cancel()

    @property
    def _is_closed(self) -> bool:
        return self._stopped is not None and not self.is_let_go

    def _check(self) -> None:
        error = self._stopped or self._failure
        if error is not None:
            raise error

    # -- the store -------------------------------------------------------------------------------------------

    def _add(self, kept: Iterable[object]) -> None:
        for one in kept:
            is_text, data = one if isinstance(one, Body) else to_body(one)
            check_message_size(len(data), self._max_bytes)
            self._pending.append(Message(data, is_text))
            self._pending_bytes += len(data)
        if self._pending and self._ending is None:
            self._begin()

    def _begin(self) -> None:
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        """Write until nothing waits."""
        try:
            while self._failure is None and not self._is_closed and (self._pending or self._is_renewed):
                self._is_renewed = False
                await self._keep("", "")
        finally:
            self._writing = None
            self._room.set()

    def _take(self) -> list[Message]:
        taken, self._pending, self._pending_bytes = self._pending, [], 0
        self._room.set()
        return taken

    async def _keep(self, close: Reason | Literal[""], detail: str) -> None:
        """Append what waits, in one step; under the same number until the store has answered."""
        messages, pause_s = self._take(), 0.1
        producer = Producer(f"run:{self.owner}", 0, self._number)
        claim = Claim(producer=producer, owner=self.owner, close=close, detail=detail)
        while True:
            try:
                await self._streams.append(self.name, messages, claim)
                self.written_at, self._number = self._now(), self._number + 1
            except (EngineUnavailable, EngineUncertain) as error:
                log.warning("stream %r waits for the store: %s", self.name, error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _MAX_PAUSE_S)
                continue
            except StreamClosed as closed:
                self.stop(closed.reason)
            except HeartwireError as error:
                self._refused(error)
            return

    def _refused(self, error: HeartwireError) -> None:
        name = error.code.name
        if name in ("stream_not_found", "stream_gone"):
            self.stop("deleted")
        elif name == "stale_producer":
            self.stop("interrupted")
        else:  # `write` says so
            self._failure = error
            self._room.set()


def _reason_of(error: BaseException | None) -> tuple[Reason, str]:
    if error is None:
        return "done", ""
    if isinstance(error, asyncio.CancelledError | GeneratorExit | StreamCancelled):
        return "aborted", ""
    return "error", _detail(error)


def _detail(error: BaseException) -> str:
    """What readers may know of an error."""
    return str(error) if isinstance(error, HeartwireError) else "internal error: the server's log has it"
