"""WebSocket on any ASGI server, which owns the socket and the frames: messages as ASGI events.

In: messages, from a dialect's formats. Out: events for the ASGI ``send``.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

from starlette.types import Receive, Send

from heartwire.core.fair_queue import SLICE
from heartwire.core.switchboard import Switchboard
from heartwire.transports.asgi_link import AsgiLink
from heartwire.transports.websocket.frames import truncated

__all__ = ["Receiver", "SocketLink", "event", "event_bytes"]


def event(is_text: bool, data: bytes) -> dict[str, Any]:
    """Return the ASGI event that sends a message."""
    if is_text:
        return {"type": "websocket.send", "text": data.decode()}
    return {"type": "websocket.send", "bytes": data}


def event_bytes(events: list[dict[str, Any]]) -> int:
    """Return about how many bytes these events are on the wire."""
    return sum(len(event["bytes"] if "bytes" in event else event["text"]) + 4 for event in events)


class Receiver(Protocol):
    """Takes the messages of a connection."""

    def receive(self, is_text: bool, data: bytes) -> Awaitable[None] | None:
        """A message came in; text is UTF-8. Returns what to await before the next, if anything."""


class SocketLink(AsgiLink):
    """The link of one WebSocket over ASGI."""

    def __init__(
        self,
        switchboard: Switchboard,
        serial: int,
        receive: Receive,
        send: Send,
        turn: Callable[[], Awaitable[None]],
    ) -> None:
        events, finish = self._send_events, self._finish
        super().__init__(switchboard, serial=serial, send=events, size=event_bytes, finish=finish)
        self._receive = receive
        self._asgi_send = send
        self._turn = turn

    async def read(self, receiver: Receiver) -> None:
        """Hand on what comes in, a slice a turn, until the client goes; nothing while it takes nothing."""
        left = SLICE
        while True:
            await self.drained()
            left -= 1
            if not left:
                await self._turn()
                left = SLICE
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return
            self.heard = True
            if self.closed:
                continue  # what came behind a message that ended the connection
            text = message.get("text")
            is_text, data = (False, message["bytes"]) if text is None else (True, text.encode())
            wait = receiver.receive(is_text, data)
            if wait is not None:
                await wait

    async def _send_events(self, events: Iterable[dict[str, Any]]) -> None:
        for event in events:
            await self._asgi_send(event)
            self.heard = True

    async def _finish(self, code: int, reason: str) -> None:
        await self._asgi_send({"type": "websocket.close", "code": code, "reason": truncated(reason)})
