"""When to try again: full-jitter exponential backoff. Pure; randomness is an argument."""

import random
from collections.abc import Callable

__all__ = ["Backoff"]


class Backoff:
    """The wait before the n-th try in a row is drawn evenly from 0 to ``base_s`` doubled n times, at most ``cap_s``.

    Full jitter, because a crowd that lost its server at one moment must not come back at one moment.
    """

    def __init__(self, *, base_s: float = 0.5, cap_s: float = 20, draw: Callable[[], float] = random.random) -> None:
        self.failures = 0
        self._base_s = base_s
        self._cap_s = cap_s
        self._draw = draw

    def next_s(self) -> float:
        """Count a failure; the seconds to wait before the next try."""
        limit_s = min(self._cap_s, self._base_s * 2.0**self.failures)
        self.failures += 1
        return self._draw() * limit_s

    def reset(self) -> None:
        """It works again."""
        self.failures = 0
