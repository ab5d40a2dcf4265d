"""Which transport to try: a ladder, best rung first. Pure.

A rung is left downwards when it does not open, or when its connections die before their first heartbeat, as
they do behind proxies that cut or hold back what they don't understand. A rung that has worked is given one
more chance. Where not even a TCP connection comes about the rung is not to blame. Below the last rung is the
first again, after a longer wait: the server is down.
"""

from collections.abc import Sequence
from typing import Final

__all__ = ["Ladder"]

_FORGIVEN: Final = 2
"""Strikes that a rung which has worked may have, and early deaths that any may have, before it is left."""


class Ladder:
    """Args: the names of the rungs, and the one to begin with.

    Attributes:
        rung: the one to try next, or that is in use.
        rounds: how often all rungs have failed since one worked.
    """

    def __init__(self, transports: Sequence[str], first: str | None = None) -> None:
        self.transports = tuple(transports)
        self.rung = self.transports.index(first) if first is not None else 0
        self.rounds = 0
        self._worked: set[int] = set()
        self._strikes = 0
        self._early_deaths = 0
        self._last_better = -1

    @property
    def transport(self) -> str:
        """The name of the rung."""
        return self.transports[self.rung]

    def failed(self, *, is_reachable: bool, is_timeout: bool) -> bool:
        """The rung did not open. True: another is to be tried at once. A rung that just hangs has no second
        chance."""
        if not is_reachable:
            self._early_deaths = 0  # it is the server that died, not what carried it
            return False
        self._strikes += 2 if is_timeout else 1
        return self._strikes >= (_FORGIVEN if self.rung in self._worked else 1) and self._step_down()

    def died(self, *, had_heartbeat: bool, is_abnormal: bool) -> None:
        """An open connection ended; ``is_abnormal`` without a word of the server's."""
        self._early_deaths = 0 if had_heartbeat or not is_abnormal else self._early_deaths + 1
        if self._early_deaths >= _FORGIVEN:
            self._step_down()

    def opened(self, rung: int) -> None:
        """A rung works."""
        if rung != self.rung:
            self._early_deaths = 0
            self._last_better = -1
        self.rung = rung
        self.rounds = 0
        self._strikes = 0
        self._worked.add(rung)

    def better(self) -> int | None:
        """A rung above to try meanwhile, each in turn from the top; ``None`` at the top."""
        if self.rung == 0:
            return None
        self._last_better = (self._last_better + 1) % self.rung
        return self._last_better

    def _step_down(self) -> bool:
        self._strikes = self._early_deaths = 0
        self._last_better = -1
        self.rung += 1
        if self.rung < len(self.transports):
            return True
        self.rung = 0
        self.rounds += 1
        return False
