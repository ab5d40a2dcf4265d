"""Who is still there: one timer wheel for all links of a node.

Every ``ping_interval_s`` a link is asked (pinged); anything heard from it within ``pong_timeout_s`` is an
answer. So a peer that goes silent is given up at most ``ping_interval_s + pong_timeout_s`` after it was last
heard.
"""

import math
from typing import Final, Protocol

__all__ = ["Liveness", "Watched"]

_LATE_TICKS: Final = 3
_ROUNDING: Final = 1e-6


class Watched(Protocol):
    """What the wheel needs of a link. ``heard`` is set by the link when anything arrives; the wheel clears
    it."""

    heard: bool
    asked: bool

    @property
    def closed(self) -> bool:
        """The link is over; the wheel forgets it."""

    def ping(self) -> None:
        """Ask the peer for a sign of life. Never raises, never blocks."""

    def give_up(self) -> None:
        """The peer is dead: end the connection without waiting for it."""


class Liveness:
    """The wheel. Links that close are forgotten when their slot comes round.

    Args:
        ping_interval_s: > ``pong_timeout_s``.
        pong_timeout_s: > 0.
        now: the monotonic clock's seconds at the start.
    """

    def __init__(self, *, ping_interval_s: float, pong_timeout_s: float, now: float) -> None:
        # Ten ticks a timeout: a deadline is kept to a tenth of the timeout, rounded towards too early.
        self.tick_s = pong_timeout_s / 10
        self._timeout_ticks = 9
        self._pause_ticks = max(1, math.floor(ping_interval_s / self.tick_s) - 10)
        self._slots: list[list[Watched]] = [
            [] for _ in range(max(self._pause_ticks, self._timeout_ticks) + 2)
        ]
        self._cursor = 0
        self._next_tick = now + self.tick_s

    def watch(self, link: Watched, *, spread: float) -> None:
        """Watch a link from now on; its first ping comes after ``spread`` (0-1) of the pause, so that crowds
        spread out."""
        link.heard = link.asked = False
        self._put(link, max(1, round(self._pause_ticks * spread)))

    def advance(self, now: float) -> None:
        """Ask or give up every link whose time has come. Call it about every ``tick_s``."""
        due: list[Watched] = []
        # Sums of fractions come out a little short, and what is due now must not wait for the next tick.
        ticks = math.floor((now - self._next_tick) / self.tick_s + _ROUNDING) + 1
        if ticks <= 0:
            return
        self._next_tick += ticks * self.tick_s
        for _ in range(min(ticks, len(self._slots))):
            self._cursor = (self._cursor + 1) % len(self._slots)
            due += self._slots[self._cursor]
            self._slots[self._cursor] = []
        # When this node itself was held up, answers may be waiting unread: nobody is given up on that
        # evidence.
        late = ticks > _LATE_TICKS
        for link in due:
            if not link.closed:
                self._visit(link, late=late)

    def _visit(self, link: Watched, *, late: bool) -> None:
        if not link.asked:
            link.heard, link.asked = False, True
            link.ping()
            self._put(link, self._timeout_ticks)
        elif link.heard:
            link.asked = False
            self._put(link, self._pause_ticks)
        elif late:
            self._put(link, 1)
        else:
            link.give_up()

    def _put(self, link: Watched, ticks: int) -> None:
        self._slots[(self._cursor + ticks) % len(self._slots)].append(link)
