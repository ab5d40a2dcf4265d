"""How a message becomes a payload of a WebSocket link: frames for the native door, events for ASGI."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, Final

from heartwire.transports.websocket.asgi import event
from heartwire.transports.websocket.deflate import deflated_frame
from heartwire.transports.websocket.frames import frame

__all__ = ["ASGI", "NATIVE", "SocketMessages", "native_deflated"]


class SocketMessages:
    """One of these ways.

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
ASGI: Final = SocketMessages(event, list)


@cache
def native_deflated(window_bits: int) -> SocketMessages:
    """Frames of the native door, compressed for a window: one object for all connections with it."""
    return SocketMessages(partial(deflated_frame, window_bits=window_bits))
