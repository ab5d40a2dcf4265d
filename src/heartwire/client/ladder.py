"""The ladder of transports, best rung first, and which rung to try. Pure.

The client steps down when a rung does not open, or when its connections die before their first heartbeat, as
they do behind proxies that cut or buffer what they do not understand. A rung that has worked gets one more
chance. Where not even a TCP connection comes about, the rung is not to blame.

Where a second rung fails too, perhaps nothing gets through, and no rung is to blame. So each wait ends at
*home*, the last rung that worked, and only then, at once, comes another, each in its turn. Without a home the
client goes down the whole ladder at first; after that the first rung is home.
"""

from collections.abc import Sequence
from typing import Final

__all__ = ["Ladder"]

_FORGIVEN: Final = 2
"""Failures at which a rung that has worked is left, and early deaths at which any rung is."""


class Ladder:
    """The ladder of one client, which begins with ``first`` or at the top.

    Attributes:
        rung: the one to try next, or in use.
        rounds: how often all rungs have failed since one worked.
    """

    def __init__(self, transports: Sequence[str], first: str | None = None) -> None:
        self.transports = tuple(transports)
        self.rung = self.transports.index(first) if first is not None else 0
        self.rounds = 0
        self._home: int | None = None
        self._others = 0  # tried since a rung worked
        self._strikes = self._early_deaths = 0
        self._last_better = -1

    @property
    def transport(self) -> str:
        """The name of the current rung."""
        return self.transports[self.rung]

    def failed(self, *, is_reachable: bool, is_timeout: bool) -> bool:
        """Count a rung that did not open, twice where it hangs. Return whether to try another at once."""
        if not is_reachable:
            self._early_deaths = 0  # the server died, not the transport
            return False
        self._strikes += 2 if is_timeout else 1
        has_chance = self._home is not None and not self._others
        return self._strikes >= (_FORGIVEN if has_chance else 1) and self._step_down()

    def died(self, *, had_heartbeat: bool, is_abnormal: bool) -> None:
        """Count an open connection that ended; ``is_abnormal``: without a close code of the server."""
        self._early_deaths = 0 if had_heartbeat or not is_abnormal else self._early_deaths + 1
        if self._early_deaths >= _FORGIVEN:
            self._step_down()

    def opened(self, rung: int) -> bool:
        """Note that a rung works. Return whether its better home deserves a try at once, because a third rung
        had failed with it: it may have failed only with everything."""
        if rung != self.rung:
            self._early_deaths = 0
            self._last_better = -1
        home, others = self._home, self._others
        self.rung = self._home = rung
        self.rounds = self._strikes = self._others = 0
        if home is None or others < 2 or home >= rung:
            return False
        self._last_better = home - 1
        return True

    def better(self) -> int | None:
        """Return a rung above to try meanwhile, each in turn from the top; ``None`` at the top."""
        if self.rung == 0:
            return None
        self._last_better = (self._last_better + 1) % self.rung
        return self._last_better

    def _step_down(self) -> bool:
        self._strikes = self._early_deaths = 0
        self._last_better = -1
        count = len(self.transports)
        if self._home is None and self.rung + 1 < count:
            self.rung += 1
            return True
        if self._home is None:
            self._others, self._home = count - 1, 0  # one round of others: no second chance for the first
        elif self.rung == self._home and count > 1:
            self.rung = (self._home + 1 + self._others % (count - 1)) % count
            self._others += 1
            return True
        self.rung = self._home
        if count == 1 or self._others % (count - 1) == 0:
            self.rounds += 1
        return False
