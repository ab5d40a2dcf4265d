"""The registry of connections."""

from heartwire import Hub, Identity
from heartwire.hub.connections import Connection


class _Connection(Connection):
    expires_with_identity = True

    def __init__(self, hub: Hub, expires_at: float | None) -> None:
        self.serial = hub.node.connections.next_serial()
        self.address = ""
        self.identity = Identity("ann", None, expires_at)
        self.closed_with: list[int] = []

    def disconnect(self, code: int, reason: str) -> None:
        self.closed_with.append(code)


def test_a_connection_ends_with_its_identity() -> None:
    hub = Hub()
    hub.node.clocks.monotonic, hub.node.clocks.wall = lambda: 100.0, lambda: 1_000_000.0
    connections = [_Connection(hub, expires_at) for expires_at in (1_000_005.0, 1_000_005.0, None)]
    for connection in connections:
        hub.node.connections.add(connection)
        hub.node.connections.index(connection)
    hub.node.connections.remove(connections[1])
    hub.node.background.deadlines.advance(104.9)
    assert [connection.closed_with for connection in connections] == [[], [], []]
    hub.node.background.deadlines.advance(105)
    assert [connection.closed_with for connection in connections] == [[3005], [], []]


class _WithDeadlinesOfItsOwn(_Connection):
    expires_with_identity = Connection.expires_with_identity


def test_a_connection_that_keeps_its_own_deadlines_is_left_to_them() -> None:
    hub = Hub()
    hub.node.clocks.monotonic, hub.node.clocks.wall = lambda: 100.0, lambda: 1_000_000.0
    connection = _WithDeadlinesOfItsOwn(hub, 1_000_005.0)
    hub.node.connections.add(connection)
    hub.node.connections.index(connection)
    hub.node.background.deadlines.advance(1000)
    assert connection.closed_with == []
