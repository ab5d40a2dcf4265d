"""The bound of a node's memory."""

from heartwire.hub.memory import connection_bound_bytes, memory_bound_bytes
from heartwire.hub.options import HubOptions

MIB = 1024 * 1024


def test_bound_of_a_connection_follows_the_limit_of_messages() -> None:
    assert connection_bound_bytes(HubOptions()) == 8 * MIB + 18 * 1024
    small = HubOptions(max_message_bytes=1024)
    assert connection_bound_bytes(small) == 16 * 1024 + 6 * 1024 + 2048 + MIB + 1024


def test_bound_of_a_node_follows_the_limit_of_connections() -> None:
    options = HubOptions(max_connections=10)
    assert memory_bound_bytes(options) == 10 * connection_bound_bytes(options) + 32 * MIB
