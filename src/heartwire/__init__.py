"""Realtime messaging that survives bad networks."""

from heartwire.client.connecting import connect
from heartwire.client.options import Options
from heartwire.client.outputs import Gap
from heartwire.client.received import Received
from heartwire.client.subscription import Subscription
from heartwire.client.sync import connect_sync
from heartwire.engines.postgres.publish import publish_in
from heartwire.errors import (
    ConfigError,
    ConnectionClosed,
    EngineCorrupt,
    EngineError,
    EngineUnavailable,
    Forbidden,
    GivenUp,
    HeartwireError,
    LimitExceeded,
    NotStarted,
    ProtocolError,
    Refused,
    StreamCancelled,
    Unauthorized,
    UnknownChannel,
)
from heartwire.hub.hooks import ConnectedClient, Disconnect
from heartwire.hub.hub import Hub
from heartwire.hub.identity import Identity
from heartwire.types import EARLIEST, NOW, Channel, Member, Position, Publication, Publisher

__all__ = [
    "EARLIEST",
    "NOW",
    "Channel",
    "ConfigError",
    "ConnectedClient",
    "ConnectionClosed",
    "Disconnect",
    "EngineCorrupt",
    "EngineError",
    "EngineUnavailable",
    "Forbidden",
    "Gap",
    "GivenUp",
    "HeartwireError",
    "Hub",
    "Identity",
    "LimitExceeded",
    "Member",
    "NotStarted",
    "Options",
    "Position",
    "ProtocolError",
    "Publication",
    "Publisher",
    "Received",
    "Refused",
    "StreamCancelled",
    "Subscription",
    "Unauthorized",
    "UnknownChannel",
    "connect",
    "connect_sync",
    "publish_in",
]

__version__ = "0.1.0"
