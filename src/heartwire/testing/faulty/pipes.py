"""One direction of a proxied connection: bytes wait here until they are due and the other side has room."""

import asyncio
from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from heartwire.testing.faulty.faults import Direction

if TYPE_CHECKING:
    from heartwire.testing.faulty.connections import Connection

__all__ = ["Ending", "Pipe"]

_MAX_QUEUED_BYTES: Final = 1024 * 1024
"""Above it no more is read. It bounds the rate under `delay`: at 1 s, 1 MiB/s."""
_SLICE_S: Final = 0.02
"""The duration of one slice of a throttled stream: short enough not to stutter."""


class Ending(Enum):
    """How a direction ends, after its data."""

    EOF = auto()
    """FIN to the other side; the other direction goes on."""
    CLOSE = auto()
    """FIN to both."""
    RESET = auto()
    """RST to both."""


class Pipe:
    """Bytes in, bytes out, in order. ``ended``: its source has ended."""

    def __init__(self, connection: "Connection", direction: Direction) -> None:
        self.direction = direction
        self.ended = False
        self.queued_bytes = 0
        self._connection = connection
        self._queue: deque[tuple[float, memoryview | Ending]] = deque()
        self._free_at = 0.0  # when a throttled line has room for the next slice
        self._due_last = 0.0
        self._passed = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def full(self) -> bool:
        """Whether its source should not be read now."""
        return self.queued_bytes >= _MAX_QUEUED_BYTES

    @property
    def pending(self) -> bool:
        """Whether bytes or the end wait."""
        return bool(self._queue)

    def put(self, data: bytes) -> None:
        """Take bytes, and pass on what is due."""
        if data:
            self.queued_bytes += len(data)
            self._append(memoryview(data))

    def end(self, how: Ending) -> None:
        """Take the end. Only the first counts."""
        if not self.ended:
            self.ended = True
            self._append(how)

    def flush(self) -> None:
        """Pass on what is due, as far as there is room."""
        self.stop()
        while self._queue and not self._connection.closed and self._step():
            pass

    def hurry(self) -> None:
        """Make everything that waits due now."""
        self._queue = deque((0.0, item) for _, item in self._queue)
        self._due_last = 0.0

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _append(self, item: memoryview | Ending) -> None:
        self._due_last = max(self._due_last, self._connection.due())  # jitter never swaps two chunks
        self._queue.append((self._due_last, item))
        self.flush()

    def _step(self) -> bool:
        """Pass on one slice. Returns False where it has to wait."""
        connection = self._connection
        due, item = self._queue[0]
        faults = connection.faults
        if faults.holding:
            return False
        wait_until = max(due, self._free_at if faults.bytes_per_s is not None else 0)
        if wait_until > connection.loop.time():
            self._timer = connection.loop.call_at(wait_until, self._on_time)
            return False
        if not connection.ready(self.direction):
            return False
        if isinstance(item, Ending):
            self._queue.popleft()
            connection.end(self.direction, item)
            return False
        return self._send(due, item)

    def _send(self, due: float, data: memoryview) -> bool:
        room = self._room(len(data))
        if room <= 0:
            self._connection.close(reset=True)
            return False
        sent = self._connection.transmit(self.direction, data[:room])
        if sent <= 0:
            return False
        self._queue.popleft()
        if sent < len(data):
            self._queue.appendleft((due, data[sent:]))
        self.queued_bytes -= sent
        self._count(data[:sent])
        return True

    def _room(self, size: int) -> int:
        """How many of ``size`` bytes may pass now; 0: `FaultyNetwork.cut_after` is reached."""
        rate = self._connection.faults.bytes_per_s
        if rate is not None:
            size = min(size, max(1, int(rate * _SLICE_S)))
        limit = self._connection.limit(self.direction)
        return size if limit is None else min(size, limit - self._passed)

    def _count(self, data: memoryview) -> None:
        self._passed += len(data)
        rate, now_s = self._connection.faults.bytes_per_s, self._connection.loop.time()
        self._free_at = 0.0 if rate is None else max(self._free_at, now_s) + len(data) / rate
        self._connection.passed(self.direction, data)
        limit = self._connection.limit(self.direction)
        if limit is not None and self._passed >= limit:
            self._connection.close(reset=True)

    def _on_time(self) -> None:
        self.flush()
        self._connection.watch()
