"""What the connections of the plain dialect have in common."""

from heartwire.codes import CODES
from heartwire.hub.admission import with_retry_after
from heartwire.hub.connections import Connection
from heartwire.hub.links import ServedLink

__all__ = ["PlainConnection"]


class PlainConnection(Connection):
    """A `Connection` whose channels are those of its URL, on one link."""

    __slots__ = ()
    dialect = "plain"
    expires_with_identity = True

    link: ServedLink

    @property
    def channels(self) -> list[str]:
        """See `Connection.channels`."""
        return [subscription.topic.channel for subscription in self.link.subscriptions]

    def disconnect(self, code: int, reason: str) -> None:
        """See `Connection.disconnect`."""
        self.link.close(code, reason)

    def drain(self, after_s: float) -> None:
        """See `Connection.drain`."""
        reason = with_retry_after("shutdown: come back after a moment", after_s)
        self.link.close(CODES["shutdown"].close_code, reason)
