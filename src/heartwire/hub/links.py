"""The links that the hub serves, as the transports make them."""

from typing import Protocol

from heartwire.core.link import Link
from heartwire.core.liveness import Watched
from heartwire.core.subscription import Subscription

__all__ = ["ServedLink", "WatchedLink"]


class ServedLink(Link, Protocol):
    """A link that lists its subscriptions, for their end."""

    subscriptions: list[Subscription]


class WatchedLink(ServedLink, Watched, Protocol):
    """A link that lasts, and is watched by a liveness wheel."""

    @property
    def backlog_bytes(self) -> int:
        """About how many of the written bytes wait in this process."""

    async def drained(self) -> None:
        """Wait while the link is full and open. What a peer asks for is not done before it takes answers."""
