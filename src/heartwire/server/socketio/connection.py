"""One Engine.IO session as the hub's connection.

In: what the registry of connections asks. Out: what it does to the session.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.types import Scope

from heartwire.dialects.socketio.engine_session import EngineSession
from heartwire.dialects.socketio.engine_states import WEBSOCKET
from heartwire.hub.connections import Connection
from heartwire.hub.identity import ANONYMOUS
from heartwire.hub.node import Node

if TYPE_CHECKING:
    from heartwire.dialects.socketio.session import ClientSession

__all__ = ["EngineConnection"]


class EngineConnection(Connection):
    """See the module.

    Args:
        scope: makes the request that opened it, as ASGI has it.
    Attributes:
        moved_to: the node that goes on with it, where that is not this one.
    Raises:
        LimitExceeded: there are too many connections.
    """

    dialect = "socketio"

    __slots__ = ("_node", "address", "client", "engine", "identity", "moved_to", "scope", "serial", "since")

    client: "ClientSession"

    def __init__(self, node: Node, engine: EngineSession, address: str, scope: Callable[[], Scope]) -> None:
        self._node = node
        self.engine = engine
        self.address = address
        self.scope = scope
        self.identity = ANONYMOUS
        self.moved_to = ""
        self.serial = node.connections.next_serial()
        self.since = node.clocks.monotonic()
        node.connections.add(self)

    def lost(self) -> None:
        """It has ended. Called once."""
        self._node.connections.remove(self)

    @property
    def id(self) -> str:
        """See `Connection.id`."""
        return self._node.connections.id_of(self.serial)

    @property
    def transport(self) -> str:  # type: ignore[override]
        """See `Connection.transport`: it changes with an upgrade."""
        return "websocket" if self.engine.state is WEBSOCKET else "polling"

    @property
    def channels(self) -> list[str]:
        """See `Connection.channels`: its namespaces."""
        return list(self.client.sockets)

    @property
    def is_open(self) -> bool:
        """See `Connection.is_open`."""
        return not self.engine.is_over

    def disconnect(self, code: int, reason: str) -> None:
        """See `Connection.disconnect`. Socket.IO has no code that asks a client not to come back, but clients
        obey a DISCONNECT of each namespace."""
        if not 3000 <= code < 3500 and not 4000 <= code < 4500:
            self.client.dismiss()
        self.engine.close("forced server close")

    def drain(self, after_s: float) -> None:
        """See `Connection.drain`. Clients come back at times of their own choice."""
        self.engine.close("server shutting down")
