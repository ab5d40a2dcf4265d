"""How a message becomes a payload of a WebSocket link: frames for the native door, events for ASGI."""

from collections.abc import Callable
from typing import Any, Final

from heartwire.transports.websocket.asgi import event
from heartwire.transports.websocket.deflate import deflated_frame
from heartwire.transports.websocket.frames import frame

__all__ = ["ASGI", "NATIVE", "NATIVE_DEFLATED", "SocketMessages"]


class SocketMessages:
    """One of three ways.

    Args:
        one: makes a message, given whether it is text and its bytes, an item of a payload.
        joined: makes items a payload; ``None``: they are bytes, to be put one after the other.
    """

    __slots__ = ("join", "joined", "one")

    def __init__(
        self, one: Callable[[bool, bytes], Any], joined: Callable[[list[Any]], Any] | None = None
    ) -> None:
        self.one = one
        self.joined = joined
        self.join: Callable[[list[Any]], Any] = joined or b"".join

    def payload(self, is_text: bool, data: bytes) -> Any:
        """A payload of one message."""
        return self.join([self.one(is_text, data)])


NATIVE: Final = SocketMessages(frame)
NATIVE_DEFLATED: Final = SocketMessages(deflated_frame)
ASGI: Final = SocketMessages(event, list)
