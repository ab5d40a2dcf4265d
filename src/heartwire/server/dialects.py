"""The dialects that a hub speaks: one line each."""

from typing import Final

from heartwire.server.addresses import Dialect
from heartwire.server.api.dialect import API
from heartwire.server.centrifugal.dialect import CENTRIFUGAL
from heartwire.server.durable.dialect import DURABLE
from heartwire.server.plain.dialect import PLAIN
from heartwire.server.socketio.dialect import SOCKETIO

__all__ = ["DIALECTS"]

DIALECTS: Final[list[Dialect]] = [PLAIN, CENTRIFUGAL, DURABLE, SOCKETIO, API]
"""A program may append its own before the hub's application is made."""
