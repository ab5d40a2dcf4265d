"""How fast somebody may do something."""

from typing import Final

__all__ = ["TokenBucket", "Turns"]

_LONGEST_TURN_S: Final = 300
"""How far ahead turns are given: 150,000 clients at the usual rate. After that they begin anew: a flood shuts
nobody out."""


class TokenBucket:
    """``rate_per_s`` tokens a second, at most ``burst`` saved up; starts full. Time is an argument."""

    __slots__ = ("_tokens", "burst", "rate_per_s", "taken_at")

    def __init__(self, rate_per_s: float, burst: float, now: float) -> None:
        self.rate_per_s = rate_per_s
        self.burst = burst
        self._tokens = burst
        self.taken_at = now

    def take(self, now: float) -> bool:
        """Take one token; False when there is none."""
        self._tokens = min(self.burst, self._tokens + (now - self.taken_at) * self.rate_per_s)
        self.taken_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    @property
    def wait_s(self) -> float:
        """Seconds after the last ``take`` until there is a token."""
        return max(0.0, (1 - self._tokens) / self.rate_per_s)


class Turns:
    """Lets ``rate_per_s`` come in, ``burst`` at once, and tells those in excess when their turn is: each one
    after the last.

    So a crowd of any size comes in at the rate, and each of it is sent away once. Nothing is reserved:
    whoever comes first takes the place, and who finds none gets a turn behind all others.
    """

    __slots__ = ("_bucket", "_last")

    def __init__(self, rate_per_s: float, burst: float, now: float) -> None:
        self._bucket = TokenBucket(rate_per_s, burst, now)
        self._last = now

    def take(self, now: float) -> float:
        """0: come in. Else the seconds until their turn."""
        if self._bucket.take(now):
            return 0.0
        step_s = 1 / self._bucket.rate_per_s
        # One step later than need be: who is punctual to the last bit must not be sent away again by a
        # rounding.
        first = now + self._bucket.wait_s + step_s
        self._last = max(first, self._last + step_s)
        if self._last > now + _LONGEST_TURN_S:
            self._last = first
        return self._last - now
