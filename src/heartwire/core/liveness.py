"""Detection of dead peers: one timer wheel for all links of a node.

Every ``ping_interval_s`` a link is pinged; anything that arrives from it within ``pong_timeout_s`` is an
answer. A link that is full is not read from, and that its peer takes some of what waits is the answer. So a
peer that goes silent, or takes nothing whatever it sends, is given up at most ``ping_interval_s +
pong_timeout_s`` after that.

In: links, and the time (the hub calls `Liveness.advance`). Out: `Watched.ping` and `Watched.give_up`.
"""

import math
from typing import Final, Protocol

__all__ = ["Liveness", "Watched"]

_LATE_TICKS: Final = 3
_ROUNDING: Final = 1e-6


class Watched(Protocol):
    """A link as the wheel sees it. The link sets ``heard`` when anything arrives; the wheel clears it."""

    heard: bool
    asked: bool

    @property
    def closed(self) -> bool:
        """Whether the link has ended; the wheel then forgets it."""

    @property
    def takes(self) -> bool:
        """Whether the link is full and what waits has shrunk since the last `ping`."""

    def ping(self) -> None:
        """Send the peer a ping; where the link is full, note what waits. Never raises, never blocks."""

    def give_up(self) -> None:
        """The peer is dead: end the connection without waiting for it."""


class Liveness:
    """The wheel. A closed link is forgotten when its slot comes round.

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
        self._interval_ticks = max(1, math.floor(ping_interval_s / self.tick_s))
        count = max(self._interval_ticks, self._timeout_ticks) + 2
        self._slots: list[list[Watched]] = [[] for _ in range(count)]
        self._cursor = 0
        self._next_tick = now + self.tick_s

    def watch(self, link: Watched, *, spread: float) -> None:
        """Watch a link, first pinged after ``spread`` (0-1) of the interval, so that crowds spread out."""
        link.heard = link.asked = False
        self._put(link, max(1, round(self._pause_ticks * spread)))

    def watch_from_now(self, link: Watched) -> None:
        """Watch a link, first pinged after the whole interval."""
        link.heard = link.asked = False
        self._put(link, self._interval_ticks)

    def advance(self, now: float) -> None:
        """Ping or give up every link that is due. Call it about every ``tick_s``."""
        due: list[Watched] = []
        # Sums of fractions come out a little short; a link that is due now must not wait for the next tick.
        ticks = math.floor((now - self._next_tick) / self.tick_s + _ROUNDING) + 1
        if ticks <= 0:
            return
        self._next_tick += ticks * self.tick_s
        for _ in range(min(ticks, len(self._slots))):
            self._cursor = (self._cursor + 1) % len(self._slots)
            due += self._slots[self._cursor]
            self._slots[self._cursor] = []
        # When this node itself was held up, answers may be waiting unread: no link is given up then.
        late = ticks > _LATE_TICKS
        for link in due:
            if not link.closed:
                self._visit(link, late=late)

    def _visit(self, link: Watched, *, late: bool) -> None:
        if not link.asked:
            link.heard, link.asked = False, True
            link.ping()
            self._put(link, self._timeout_ticks)
        elif link.heard or link.takes:
            link.asked = False
            self._put(link, self._pause_ticks)
        elif late:
            self._put(link, 1)
        else:
            link.give_up()

    def _put(self, link: Watched, ticks: int) -> None:
        self._slots[(self._cursor + ticks) % len(self._slots)].append(link)
