"""Realtime messaging that survives bad networks."""

from heartwire.errors import (
    ConfigError,
    ConnectionClosed,
    EngineCorrupt,
    EngineError,
    EngineUnavailable,
    Forbidden,
    HeartwireError,
    LimitExceeded,
    ProtocolError,
    Refused,
    Unauthorized,
    UnknownChannel,
)
from heartwire.server.access import Identity
from heartwire.server.hooks import Client, Disconnect
from heartwire.server.hub import Hub
from heartwire.types import Channel, Member, Position, Publication, Publisher

__all__ = [
    "Channel",
    "Client",
    "ConfigError",
    "ConnectionClosed",
    "Disconnect",
    "EngineCorrupt",
    "EngineError",
    "EngineUnavailable",
    "Forbidden",
    "HeartwireError",
    "Hub",
    "Identity",
    "LimitExceeded",
    "Member",
    "Position",
    "ProtocolError",
    "Publication",
    "Publisher",
    "Refused",
    "Unauthorized",
    "UnknownChannel",
]

__version__ = "0.1.0"
