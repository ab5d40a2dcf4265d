"""python-socketio's asyncio server over Heartwire's streams: ``import heartwire.socketio as socketio``.

Its clients are here too where it is installed: see `clients`.
"""

from heartwire.server.socketio.recovery import RecoveryOptions
from heartwire.socketio import exceptions
from heartwire.socketio.asgi import ASGIApp
from heartwire.socketio.clients import of_python_socketio
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

# Where a type checker does not see it: it would take every name for one of this module's.
globals()["__getattr__"] = of_python_socketio
