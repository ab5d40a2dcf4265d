"""When to try again: full-jitter exponential backoff, and one bucket for all attempts. Pure; time and
randomness are arguments."""

import random
from collections.abc import Callable

__all__ = ["Backoff", "Bucket"]


class Backoff:
    """The wait before the n-th try in a row is drawn evenly from 0 to ``base_s`` doubled n times, at most
    ``cap_s``.

    Full jitter, because a crowd that lost its server at one moment must not come back at one moment.
    """

    def __init__(
        self, *, base_s: float = 0.5, cap_s: float = 20, draw: Callable[[], float] = random.random
    ) -> None:
        self.failures = 0
        self._base_s = base_s
        self._cap_s = cap_s
        self._draw = draw

    def next_s(self) -> float:
        """Count a failure; the seconds to wait before the next try."""
        limit_s = min(self._cap_s, self._base_s * 2.0 ** min(self.failures, 60))
        self.failures += 1
        return self._draw() * limit_s

    def reset(self) -> None:
        """It works again."""
        self.failures = 0


class Bucket:
    """Holds up to ``burst`` tokens and gains ``rate_per_s``; an attempt takes one. So no mix of triggers
    makes a storm."""

    def __init__(self, rate_per_s: float, burst: float, now: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float) -> float:
        """0 where a token was there, and is taken; else the seconds until there is one."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate_per_s)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        # A little more than the exact time, so that rounding does not make it a moment too early, again and
        # again.
        return (1 - self._tokens) / self._rate_per_s + 0.001
