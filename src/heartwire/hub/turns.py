"""Turns of the event loop, shared by requests whose answers are large.

In: the bytes that answers took to make. Out: whether the next may be made in this turn, or calls in later
ones. A crowd that asks for long histories at once so costs others a moment a turn, and memory for one at a
time.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

__all__ = ["TurnBudget"]

_SMALL_BYTES: Final = 16 * 1024
"""Smaller answers are not counted."""


class TurnBudget:
    """Bytes of large answers that are made in one turn.

    Args:
        max_bytes: once as many are made, the others wait; the last one may be larger.
    """

    def __init__(self, max_bytes: int = 256 * 1024) -> None:
        self.is_spent = False
        self._left = self._max_bytes = max_bytes
        self._is_armed = False
        self._waiting: deque[Callable[[], None]] = deque()

    def spend(self, size: int) -> None:
        """An answer of ``size`` bytes is made."""
        if size >= _SMALL_BYTES:
            self._left -= size
            self.is_spent |= self._left <= 0
            self._arm()

    def when_left(self, work: Callable[[], None]) -> None:
        """Call ``work`` once the budget is not spent, one a turn, after those that came before. A connection
        has one that waits at most, so connections bound them."""
        self._waiting.append(work)
        self._arm()

    async def turn(self) -> None:
        """Wait until the budget is not spent."""
        if self.is_spent:
            turn = asyncio.Event()
            self.when_left(turn.set)
            await turn.wait()

    def _arm(self) -> None:
        if not self._is_armed:
            self._is_armed = True
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._is_armed = False
        self._left = self._max_bytes
        if self._waiting:
            self._waiting.popleft()()
        self.is_spent = bool(self._waiting) or self._left <= 0
        if self._waiting:
            self._arm()
