"""Rate limits: a token bucket, and turns for a crowd. Pure; time is an argument.

`TokenBucket` limits publishes; `Turns` limits connects. Both are called by `heartwire.hub.admission` and the
dialects' sessions, which turn a refusal into an error.
"""

from typing import Final

__all__ = ["TokenBucket", "Turns"]

_LONGEST_TURN_S: Final = 300
"""How far ahead turns are given: 150,000 clients at the default rate. After that they begin anew, so that a
flood shuts nobody out."""


class TokenBucket:
    """``rate_per_s`` tokens a second, at most ``burst`` saved up; starts full."""

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
        """Seconds from the last `take` until there is a token."""
        return max(0.0, (1 - self._tokens) / self.rate_per_s)


class Turns:
    """Admits ``rate_per_s`` clients, ``burst`` at once; the rest get turns, one after the other.

    A crowd of any size is admitted at the rate, and each client is sent away once. Turns are not
    reservations: a client that finds a token is admitted, and one that finds none goes behind all others.
    """

    __slots__ = ("_bucket", "_last")

    def __init__(self, rate_per_s: float, burst: float, now: float) -> None:
        self._bucket = TokenBucket(rate_per_s, burst, now)
        self._last = now

    def next_turn_s(self, now: float) -> float:
        """Admit a client and return 0, or give it a turn and return the seconds until then."""
        if self._bucket.take(now):
            return 0.0
        step_s = 1 / self._bucket.rate_per_s
        # One step later than necessary: a rounding must not send a punctual client away again.
        first = now + self._bucket.wait_s + step_s
        self._last = max(first, self._last + step_s)
        if self._last > now + _LONGEST_TURN_S:
            self._last = first
        return self._last - now
