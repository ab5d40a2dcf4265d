"""Full-jitter backoff, and the token bucket of all attempts. Pure; time and chance are arguments."""

import random
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Backoff", "Bucket"]


@dataclass(slots=True, eq=False, kw_only=True)
class Backoff:
    """Waits before attempts: the n-th in a row is drawn evenly from 0 to ``base_s`` doubled n times, at most
    ``cap_s``. Full jitter, because clients that lost their server together must not return together."""

    base_s: float = 0.5
    cap_s: float = 20
    draw: Callable[[], float] = random.random
    failures: int = 0

    def next_s(self) -> float:
        """Count a failure. Return the seconds to wait before the next attempt."""
        limit_s = min(self.cap_s, self.base_s * 2.0 ** min(self.failures, 60))
        self.failures += 1
        return self.draw() * limit_s

    def reset(self) -> None:
        """Start counting afresh."""
        self.failures = 0


class Bucket:
    """A token bucket: holds up to ``burst`` and gains ``rate_per_s``. An attempt takes one, whatever
    triggered it, so no mix of triggers makes a storm."""

    def __init__(self, rate_per_s: float, burst: float, now: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float) -> float:
        """Take a token and return 0, or return the seconds until there is one."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate_per_s)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        # A little more than the exact time: rounded down it would be a moment too early, again and again.
        return (1 - self._tokens) / self._rate_per_s + 0.001
