"""python-socketio's asyncio server over Heartwire's streams: ``import heartwire.socketio as socketio``."""

from heartwire.server.socketio.recovery import RecoveryOptions
from heartwire.socketio import exceptions
from heartwire.socketio.asgi import ASGIApp
from heartwire.socketio.emitting import AsyncRedisManager, RedisManager
from heartwire.socketio.namespace import AsyncNamespace
from heartwire.socketio.server import AsyncServer

__all__ = [
    "ASGIApp",
    "AsyncNamespace",
    "AsyncRedisManager",
    "AsyncServer",
    "RecoveryOptions",
    "RedisManager",
    "exceptions",
]
