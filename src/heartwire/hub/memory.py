"""The most memory that a node holds for its peers, whatever they do. `docs/promises.md` has the formula."""

from typing import Final

from heartwire.core.topic import TailLimits
from heartwire.hub.options import HubOptions
from heartwire.transports.backlog import MAX_OWED_BYTES
from heartwire.transports.http.connection import MAX_HELD_BYTES
from heartwire.transports.websocket.incoming import READ_BYTES

__all__ = ["connection_bound_bytes", "memory_bound_bytes"]

_SMALL_FRAME_BYTES: Final = 64 * 1024
"""Larger ones that are not complete count among the uploads."""


def connection_bound_bytes(options: HubOptions) -> int:
    """What one WebSocket or stream may make the process hold: one read and one small incomplete frame that
    came from it; what it owes, and one publication that its peer has not taken."""
    return READ_BYTES + _SMALL_FRAME_BYTES + MAX_OWED_BYTES + options.max_message_bytes


def memory_bound_bytes(options: HubOptions) -> int:
    """The same of all connections; of the tails of all channels; of bodies and messages that are incomplete,
    and of answers that are not taken. The engine has a bound of its own."""
    of_all = TailLimits().node_bytes + options.incomplete_bytes + MAX_HELD_BYTES
    return options.max_connections * connection_bound_bytes(options) + of_all
