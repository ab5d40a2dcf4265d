"""The most memory that a node holds for its peers, whatever they do. `docs/promises.md` has the formula."""

from heartwire.core.topic import TailLimits
from heartwire.hub.options import HubOptions
from heartwire.transports.backlog import MAX_OWED_BYTES
from heartwire.transports.websocket.incoming import READ_BYTES

__all__ = ["connection_bound_bytes", "memory_bound_bytes"]


def connection_bound_bytes(options: HubOptions) -> int:
    """What one WebSocket or stream may make the process hold: one read and one incomplete frame that came
    from it; what it owes, and one publication that its peer has not taken."""
    came_in = READ_BYTES + options.max_frame_bytes
    goes_out = MAX_OWED_BYTES + options.max_message_bytes
    return came_in + goes_out


def memory_bound_bytes(options: HubOptions) -> int:
    """The same of all connections, and of the tails of all channels. The engine has a bound of its own."""
    return options.max_connections * connection_bound_bytes(options) + TailLimits().node_bytes
