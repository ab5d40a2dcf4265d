"""The bound of a node's memory."""

from heartwire.hub.memory import connection_bound_bytes, memory_bound_bytes
from heartwire.hub.options import HubOptions

MIB = 1024 * 1024


def test_bound_of_a_connection_follows_the_limit_of_messages() -> None:
    assert connection_bound_bytes(HubOptions()) == 2 * MIB + 80 * 1024
    assert connection_bound_bytes(HubOptions(max_message_bytes=1024)) == MIB + 81 * 1024


def test_bound_of_a_node_follows_its_limits() -> None:
    options = HubOptions(max_connections=10, max_message_bytes=1024, max_upload_bytes=2 * MIB)
    assert memory_bound_bytes(options) == 10 * connection_bound_bytes(options) + (32 + 8 + 2) * MIB
