"""WebSocket of the plain dialect over ASGI; `native` is the quick way in, and behaves the same."""

from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from starlette.requests import HTTPConnection
from starlette.types import Receive, Send

from heartwire.server.plain.formats import ASGI
from heartwire.server.plain.requests import address_of, begin
from heartwire.server.plain.sockets import PlainSocket
from heartwire.transports.asgi_link import AsgiLink, attend
from heartwire.transports.websocket.asgi import event_bytes
from heartwire.transports.websocket.frames import truncated
from heartwire.transports.websocket.handshake import choose_subprotocol

if TYPE_CHECKING:
    from heartwire.hub.hub import Hub

__all__ = ["SocketLink", "serve_websocket"]


async def serve_websocket(
    hub: "Hub", connection: HTTPConnection, receive: Receive, send: Send, names: list[str], *, is_multi: bool
) -> None:
    """One WebSocket, from accepting it to its end. Raises `Refused` before it is accepted."""
    hub.connections.admit(hub.clock())
    follow, identity = await begin(hub, connection, names, is_multi=is_multi)
    link = SocketLink(hub, receive, send)
    socket = PlainSocket(hub, link, follow, identity, ASGI, address_of(connection))
    try:
        known = hub.namespaces.of(follow.channels[0]).subprotocols
        await send(
            {
                "type": "websocket.accept",
                "subprotocol": choose_subprotocol(connection.scope.get("subprotocols", []), known),
            }
        )
        socket.open(follow)
        await attend(link, link.read(socket))
    finally:
        socket.lost()


class Receiver(Protocol):
    """What a connection's messages mean."""

    def receive(self, is_text: bool, data: bytes) -> Awaitable[None] | None:
        """A message came in; text is UTF-8. Returns what to wait for before the next, where there is a need
        to."""


class SocketLink(AsgiLink):
    """A WebSocket over ASGI."""

    def __init__(self, hub: "Hub", receive: Receive, send: Send) -> None:
        super().__init__(
            hub.switchboard,
            serial=hub.serial(),
            send=self._send_events,
            size=event_bytes,
            finish=self._finish,
        )
        self._receive = receive
        self._asgi_send = send

    async def read(self, socket: Receiver) -> None:
        """Hand on what comes in, until the client goes."""
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return
            self.heard = True
            if self.closed:
                continue  # what came behind a message that ended the connection
            text = message.get("text")
            wait = (
                socket.receive(False, message["bytes"])
                if text is None
                else socket.receive(True, text.encode())
            )
            if wait is not None:
                await wait

    async def _send_events(self, events: Iterable[dict[str, Any]]) -> None:
        for event in events:
            await self._asgi_send(event)

    async def _finish(self, code: int, reason: str) -> None:
        await self._asgi_send({"type": "websocket.close", "code": code, "reason": truncated(reason)})
