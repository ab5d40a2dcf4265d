"""Fairness between connections that have sent more than one turn of the event loop serves.

In: work that is left over, one piece a connection. Out: calls of it, one a turn, in the order it came. So
however many peers flood a node, a peer that does not waits for one piece of their work at most.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

__all__ = ["SLICE", "FairQueue"]

SLICE: Final = 32
"""Frames, or commands, of one connection that are served in one piece: about a third of a millisecond of
echoes."""


class FairQueue:
    """See the module. Bounded by its users: a connection adds its next piece after the last one was called.

    Args:
        soon: runs a function in the next turn of the event loop.
    """

    __slots__ = ("_soon", "_waiting")

    def __init__(self, soon: Callable[[Callable[[], None]], object]) -> None:
        self._soon = soon
        self._waiting: deque[Callable[[], None]] = deque()

    def add(self, work: Callable[[], None]) -> None:
        """Have ``work`` called when it is its turn, never at once."""
        if not self._waiting:
            self._soon(self._next)
        self._waiting.append(work)

    def __len__(self) -> int:
        return len(self._waiting)

    def _next(self) -> None:
        work = self._waiting.popleft()
        if self._waiting:
            self._soon(self._next)
        work()
