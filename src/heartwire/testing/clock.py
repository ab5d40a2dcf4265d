"""A clock that a test moves by hand."""

__all__ = ["FakeClock"]


class FakeClock:
    """Call it to read the seconds, as ``time.time`` and ``time.monotonic``; `advance` it to let time pass."""

    def __init__(self, now_s: float = 1_700_000_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> float:
        """Let ``seconds`` pass. Returns the new time. Raises ``ValueError`` below 0."""
        if seconds < 0:
            raise ValueError(f"a clock cannot go back by {-seconds} s")
        self.now_s += seconds
        return self.now_s
