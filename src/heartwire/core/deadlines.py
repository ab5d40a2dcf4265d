"""Deadlines of many machines in one heap, so that none of them needs a timer. Time is an argument."""

import heapq
from typing import Protocol

__all__ = ["Deadline", "Deadlines", "Timed"]


class Timed(Protocol):
    """What waits for a time."""

    def handle_deadline(self, now: float) -> None:
        """The time has come. Never raises."""


class Deadline:
    """One entry. Cancelling it frees what it would have called, however far away its time is."""

    __slots__ = ("_timed", "serial", "when")

    def __init__(self, when: float, serial: int, timed: Timed) -> None:
        self.when = when
        self.serial = serial
        self._timed: Timed | None = timed

    def __lt__(self, other: "Deadline") -> bool:
        return (self.when, self.serial) < (other.when, other.serial)

    def cancel(self) -> None:
        """Nothing will be called. Idempotent."""
        self._timed = None

    def fire(self, now: float) -> None:
        """Call, unless cancelled; once."""
        timed, self._timed = self._timed, None
        if timed is not None:
            timed.handle_deadline(now)


class Deadlines:
    """The heap. `advance` it as often as deadlines should be exact."""

    def __init__(self) -> None:
        self._heap: list[Deadline] = []
        self._serial = 0

    def at(self, when: float, timed: Timed) -> Deadline:
        """Have ``timed`` called at ``when``, or with the first `advance` after it."""
        self._serial += 1
        deadline = Deadline(when, self._serial, timed)
        heapq.heappush(self._heap, deadline)
        return deadline

    def advance(self, now: float) -> None:
        """Call all whose time has come, in order of time."""
        while self._heap and self._heap[0].when <= now:
            heapq.heappop(self._heap).fire(now)
