"""Servers with bugs that are planted on purpose, for ``watched(..., module=...)``."""

from typing import Any

from heartwire.server.plain import publishes
from heartwire.server.plain.sockets import PlainSocket
from tools.fuzz.target import memory


async def _raises(node: Any, call: Any) -> Any:
    raise ZeroDivisionError("planted")


def __getattr__(name: str) -> Any:
    """The hub, with the bug of that name."""
    match name:
        case "presence_raises":
            publishes.presence = _raises
        case "sockets_stay":
            PlainSocket.lost = lambda self: None  # type: ignore[method-assign]
        case _:
            raise AttributeError(name)
    return memory
