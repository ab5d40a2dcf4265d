"""The names of python-socketio's clients, for programs that have a server and clients by one import."""

import importlib
from typing import Any, Final

__all__ = ["of_python_socketio"]

_CLIENTS: Final = (
    "AsyncClient",
    "AsyncClientNamespace",
    "AsyncSimpleClient",
    "Client",
    "ClientNamespace",
    "SimpleClient",
)


def of_python_socketio(name: str) -> Any:
    """A client of python-socketio. Raises ``AttributeError`` for all else, ``ImportError`` where that is not
    installed."""
    if name not in _CLIENTS:
        raise AttributeError(f"module 'heartwire.socketio' has no attribute {name!r}: see docs/socketio.md")
    return getattr(importlib.import_module("socketio"), name)
