"""A clock that stands still until it is told otherwise."""

__all__ = ["FakeClock"]


class FakeClock:
    """Seconds, as ``time.time`` and ``time.monotonic`` give them: call it to read it, `advance` it to let
    time pass."""

    def __init__(self, now_s: float = 1_700_000_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> float:
        """Let time pass; the new time. Raises ``ValueError`` for time that runs backwards."""
        if seconds < 0:
            raise ValueError(f"a clock cannot go back by {-seconds} s")
        self.now_s += seconds
        return self.now_s
