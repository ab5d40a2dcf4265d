"""What the HTTP protocol classes share: one lazy timer for all phases, and the bounds of a door.

In: the phases that a protocol is in. Out: connections closed, cut, or refused. `FrontProtocol` and
`HeartwireHttpProtocol` are `TimedConnection`; all of one door's share one `HttpBounds`.
"""

import asyncio
import math
from typing import Final

from heartwire.transports.http.phases import HttpTimes, Verdict, verdict
from heartwire.transports.tcp import cut, unsent_bytes
from heartwire.transports.websocket.native import TLS_WRITE_BUFFER_BYTES, WRITE_BUFFER_BYTES

try:
    import resource
except ImportError:  # Windows, where numbers of sockets are not those of a table
    resource = None  # type: ignore[assignment]

__all__ = ["MAX_HELD_BYTES", "RESERVED_DESCRIPTORS", "HttpBounds", "TimedConnection", "max_descriptors"]

RESERVED_DESCRIPTORS: Final = 64
"""For the engine's files, for what the application opens, and for the log."""

MAX_HELD_BYTES: Final = 8 * 1024 * 1024

_UNSEEN: Final = 16
_UNSEEN_FROM: Final = 1024
"""Under a bound of more than that, one new connection of 16 is looked at: that calls the system."""

_MAX_LOOKS: Final = 16
"""For one to cut, or making room for a connection would cost more the more there are."""

_LOOKS: Final = 5
"""How often a client that takes nothing is looked at within its time."""

_ROUNDING_S: Final = 0.002
"""Timers are that exact."""


class HttpBounds:
    """Bounds of all HTTP connections of one door.

    Args:
        times: see `HttpTimes`.
        max_connections: of TCP, with all else that has a descriptor; 0: what the process may open, less
            `RESERVED_DESCRIPTORS`.
        max_held_bytes: of answers not taken, and of bodies not read yet. Over it the one that has
            made no progress for longest is cut; else that which has waited longest.
    """

    def __init__(
        self,
        times: HttpTimes = HttpTimes(),  # noqa: B008 - immutable
        *,
        max_connections: int = 0,
        max_held_bytes: int = MAX_HELD_BYTES,
    ) -> None:
        self.times = times
        self.held_bytes = 0
        self._max_connections = max_connections
        self._unseen = self._seen_limit = 0
        self._max_held_bytes = max_held_bytes
        self._held: dict[TimedConnection, int] = {}

    def is_full(self, transport: asyncio.BaseTransport) -> bool:
        """Whether a new connection is one too many.

        A new descriptor has the lowest free number, so the one of number N is the first when N are open.
        """
        self._unseen += 1
        if self._unseen < _UNSEEN and self._seen_limit > _UNSEEN_FROM:
            return False
        limit = self._seen_limit = self._max_connections or max_descriptors()
        sock = transport.get_extra_info("socket")
        is_full = bool(limit and sock is not None and sock.fileno() >= limit)
        self._unseen = _UNSEEN if is_full else 0
        return is_full

    def hold(self, connection: "TimedConnection", size: int) -> None:
        """Count the bytes held for a client: of answers that it does not take, or of a body that the
        application has not read yet. `release` must follow."""
        self.release(connection)
        self._held[connection] = size
        self.held_bytes += size
        looks = _MAX_LOOKS
        while self.held_bytes > self._max_held_bytes and len(self._held) > 1:
            oldest = next(iter(self._held))
            if looks and oldest.has_progressed():
                looks -= 1
                self._held[oldest] = self._held.pop(oldest)
            elif oldest is not connection:
                self._drop(oldest)
            else:
                looks = 0
                self._held[oldest] = self._held.pop(oldest)

    def release(self, connection: "TimedConnection") -> None:
        """The client has taken its answers, or is gone. Idempotent."""
        self.held_bytes -= self._held.pop(connection, 0)

    def _drop(self, connection: "TimedConnection") -> None:
        self.release(connection)
        connection.let_go()
        cut(connection.transport)


def max_descriptors() -> int:
    """Descriptors that connections may have by the process's limit; 0: there is none to be known."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if resource is not None else -1
    return max(soft - RESERVED_DESCRIPTORS, soft // 2) if soft > 0 else 0


class TimedConnection(asyncio.Protocol):
    """One connection with one timer, which is armed anew only when it wakes too early."""

    __slots__ = ("_deadline", "_taken_at", "_timer", "_unsent_bytes", "loop", "transport")

    bounds: HttpBounds
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    _timer: asyncio.TimerHandle | None
    _deadline: float
    _unsent_bytes: int
    _taken_at: float

    def _begin(self, transport: asyncio.Transport) -> bool:
        """Set a transport's bounds. Returns False where it is one too many, and cut."""
        if self.bounds.is_full(transport):
            cut(transport)
            return False
        is_tls = transport.get_extra_info("sslcontext") is not None
        transport.set_write_buffer_limits(TLS_WRITE_BUFFER_BYTES if is_tls else WRITE_BUFFER_BYTES)
        self._set_deadline(self.bounds.times.head_s)
        return True

    def _end(self) -> None:
        """Forget the timer, and what is held; the connection has ended, or is another protocol's."""
        self.bounds.release(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_deadline(self, seconds: float) -> None:
        """Move the deadline. Most move before they come, so the one timer checks again when it wakes.

        Infinity: there is none.
        """
        self._deadline = deadline = self.loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        elif seconds == math.inf:
            return
        self._timer = self.loop.call_later(seconds, self._wake)

    def _wake(self) -> None:
        self._timer = None
        left_s = self._deadline - self.loop.time()
        if left_s <= _ROUNDING_S:
            self._expire()
        elif left_s < math.inf:
            self._timer = self.loop.call_later(left_s, self._wake)

    def _expire(self) -> None:
        """The deadline has come."""
        times = self.bounds.times
        self.has_progressed()
        match verdict(self._unsent_bytes, self.loop.time() - self._taken_at, times):
            case Verdict.GO_ON:
                self._set_deadline(times.write_s / _LOOKS)
            case Verdict.CUT:
                cut(self.transport)
            case Verdict.CLOSE:
                self.transport.close()

    def let_go(self) -> None:
        """Free what is held: the connection is about to be cut."""

    def _hold_answer(self, size: int) -> None:
        """The client does not take its answer: it has `HttpTimes.write_s` for the next of its bytes."""
        self.has_progressed()
        self._set_deadline(self.bounds.times.write_s / _LOOKS)
        self.bounds.hold(self, size)

    def _release_answer(self) -> None:
        self._unsent_bytes = 0
        self.bounds.release(self)

    def has_progressed(self) -> bool:
        """Look whether the client has taken bytes since the last look; the first look counts as well."""
        before, self._unsent_bytes = self._unsent_bytes, unsent_bytes(self.transport)
        if before and self._unsent_bytes >= before:
            return False
        self._taken_at = self.loop.time()
        return True
