"""What the connections of the plain dialect have in common."""

from heartwire.codes import CODES
from heartwire.hub.admission import with_retry_after
from heartwire.hub.connections import Connection
from heartwire.hub.identity import Identity
from heartwire.hub.links import ServedLink
from heartwire.hub.node import Node
from heartwire.transports.http.native_stream import StreamLink
from heartwire.transports.tcp import unanswered_s

__all__ = ["PlainConnection", "StreamConnection"]


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


class StreamConnection(PlainConnection):
    """One answer that does not end. Its peer cannot answer, so the kernel is asked whether it still
    acknowledges.

    `Watched` in place of its link. Raises `LimitExceeded`, see `Connections.add`.
    """

    __slots__ = ("_node", "address", "asked", "identity", "link", "serial", "since")

    link: StreamLink

    def __init__(self, node: Node, link: StreamLink, identity: Identity, address: str) -> None:
        self.link = link
        self.serial = link.serial
        self.asked = False
        self.address = address
        self.identity = identity
        self.since = node.clocks.monotonic()
        self._node = node
        node.connections.add(self)

    def heartbeat(self) -> bytes:
        """What keeps an idle connection alive, and gives the peer's kernel something to acknowledge."""
        raise NotImplementedError

    @property
    def id(self) -> str:
        """See `Connection.id`."""
        return self._node.connections.id_of(self.serial)

    @property
    def closed(self) -> bool:
        """See `Watched.closed`."""
        return self.link.closed

    def ping(self) -> None:
        """See `Watched.ping`."""
        self.link.ping()
        if not self.link.paused:
            self.link.send(self.heartbeat())

    @property
    def takes(self) -> bool:
        """See `Watched.takes`."""
        return self.link.takes

    def give_up(self) -> None:
        """See `Watched.give_up`."""
        self.link.give_up()

    @property
    def heard(self) -> bool:
        """Everything written is sent, and acknowledged."""
        within_s = self._node.options.pong_timeout_s / 2
        return self.link.heard and unanswered_s(self.link.transport) < within_s

    @heard.setter
    def heard(self, value: bool) -> None:
        self.link.heard = value
