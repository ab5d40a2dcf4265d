"""Deadlines of many machines in one heap, so that none of them needs a timer.

In: times, and the machine to call at each. Out: `Timed.handle_deadline`. The hub calls `Deadlines.advance`.
"""

import heapq
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Deadline", "Deadlines", "Timed"]


class Timed(Protocol):
    """A machine with a deadline."""

    def handle_deadline(self, now: float) -> None:
        """The deadline has passed. Never raises."""


@dataclass(slots=True, eq=False)
class Deadline:
    """One entry of the heap. Cancelling it releases its machine at once, however far away its time is."""

    when: float
    serial: int
    _timed: Timed | None

    def __lt__(self, other: "Deadline") -> bool:
        return (self.when, self.serial) < (other.when, other.serial)

    def cancel(self) -> None:
        """Never call the machine. Idempotent."""
        self._timed = None

    def fire(self, now: float) -> None:
        """Call the machine, unless cancelled; once."""
        timed, self._timed = self._timed, None
        if timed is not None:
            timed.handle_deadline(now)


class Deadlines:
    """The heap. The interval between calls of `advance` is how late a deadline may be."""

    def __init__(self) -> None:
        self._heap: list[Deadline] = []
        self._serial = 0

    def at(self, when: float, timed: Timed) -> Deadline:
        """Call ``timed`` with the first `advance` at or after ``when``."""
        self._serial += 1
        deadline = Deadline(when, self._serial, timed)
        heapq.heappush(self._heap, deadline)
        return deadline

    def advance(self, now: float) -> None:
        """Fire all deadlines up to ``now``, in order of time."""
        while self._heap and self._heap[0].when <= now:
            heapq.heappop(self._heap).fire(now)
