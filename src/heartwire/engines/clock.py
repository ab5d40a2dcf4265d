"""The clock of ages: what was published, leased or keyed when, and whether that is over."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

__all__ = ["ForwardClock", "forward"]

log = logging.getLogger("heartwire")

_LOOK_S: Final = 1.0
_SLEW: Final = 0.01
"""How much faster or slower than time it comes back to the wall clock: ages are 1 % wrong at most."""
_JUMP_S: Final = 1.0


def _asleep() -> float:
    """Seconds the machine slept, where that is known: ages grow meanwhile, and ``monotonic`` stands."""
    boottime: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return 0.0 if boottime is None else time.clock_gettime(boottime) - time.monotonic()


class ForwardClock:
    """Seconds since 1970 that only go forward: anchored to the wall clock when made, and then steady.

    A wall clock that jumps is not followed, since what depends on ages would be wrong at once and for good:
    history deleted, keys forgotten, leases ended. It is logged once, and approached by 1 % of the time that
    passes. Any thread may call it.
    """

    __slots__ = ("_asleep", "_is_logged", "_line", "_lock", "_slept", "_steady", "_wall")

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        asleep: Callable[[], float] = _asleep,
    ) -> None:
        self._wall, self._steady, self._asleep = wall, steady, asleep
        self._slept = asleep()
        self._line = wall(), steady(), 1.0
        self._is_logged = False
        self._lock = threading.Lock()

    def __call__(self) -> float:
        base, at, rate = self._line  # together, because another thread may replace them
        elapsed = self._steady() - at
        return base + elapsed * rate if elapsed < _LOOK_S else self._look()

    def _look(self) -> float:
        """Compare with the wall clock, about once a second."""
        with self._lock:
            base, at, rate = self._line
            now = self._steady()
            elapsed = now - at
            base += min(elapsed, _LOOK_S) * rate + max(0.0, elapsed - _LOOK_S)
            if elapsed >= _LOOK_S:
                slept = self._asleep() - self._slept
                if slept > _JUMP_S:
                    base += slept
                    self._slept += slept
                ahead = self._wall() - base
                self._log_jump(ahead)
                self._line = base, now, 1 + max(-_SLEW, min(_SLEW, ahead / _LOOK_S))
            return base

    def _log_jump(self, ahead: float) -> None:
        if abs(ahead) < _JUMP_S:
            self._is_logged = False
        elif not self._is_logged:
            self._is_logged = True
            log.warning(
                "the wall clock has jumped by %+.0f s: ages go on without the jump, and approach it by %d %%",
                ahead,
                _SLEW * 100,
            )


forward: Final = ForwardClock()
"""The clock of this process, for every engine that is not given another."""
