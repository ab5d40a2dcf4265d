"""How fast somebody may do something."""

__all__ = ["TokenBucket"]


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
