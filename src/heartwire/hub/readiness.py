"""Whether a node hears of what others publish, and whether clients should be sent to it."""

from collections.abc import Callable
from typing import Final

from heartwire.engines.contract import FeedState, SharedEngine

__all__ = ["DEAF_S", "Readiness"]

DEAF_S: Final = 10
"""How long the store may be away before the node asks to be left out: about what a failover takes."""


class Readiness:
    """What the engine's feed says of itself; "up" where the engine is not shared.

    Args:
        shared: the engine, where other nodes may use its store too.
        now: monotonic seconds.
    """

    def __init__(self, shared: SharedEngine | None, now: Callable[[], float]) -> None:
        self.state: FeedState = "up"
        self._shared = shared
        self._now = now
        self._why = ""
        self._since = 0.0

    def heard(self, state: FeedState, why: str) -> None:
        """See `Feed.state`."""
        if state != self.state:
            self._since = self._now()
        self.state, self._why = state, why

    @property
    def is_deaf(self) -> bool:
        """Whether nothing has come for `DEAF_S`."""
        return self.state == "down" and self._now() - self._since >= DEAF_S

    def report(self) -> dict[str, str]:
        """Its fields in the answers of ``/health`` and ``/ready``; none of an engine that is not shared."""
        if self._shared is None:
            return {}
        report = {"feed": self.state, "store": "up" if self._shared.is_reachable else "down"}
        return {**report, "why": self._why} if self._why else report
