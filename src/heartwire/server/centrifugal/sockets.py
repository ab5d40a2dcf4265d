"""WebSocket of the Centrifugal dialect, over the native door and over ASGI."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from starlette.requests import HTTPConnection
from starlette.types import Receive, Send

from heartwire.dialects.centrifugal import JSON, PROTOBUF, Codec, PushFormat
from heartwire.server.centrifugal.connection import Connection
from heartwire.server.plain.requests import address_of, refuse_when_draining
from heartwire.server.plain.websocket import SocketLink
from heartwire.transports.asgi_link import attend
from heartwire.transports.websocket.asgi import event
from heartwire.transports.websocket.deflate import deflated_frame, negotiate
from heartwire.transports.websocket.frames import frame

if TYPE_CHECKING:
    from heartwire.hub.hub import Hub
    from heartwire.transports.websocket.native import NativeSocket

__all__ = ["CODECS", "PATH", "choose_codec", "open_native", "serve_websocket"]

PATH: Final = "/connection/websocket"

CODECS: Final[dict[str, Codec]] = {"centrifuge-json": JSON, "centrifuge-protobuf": PROTOBUF}
"""By WebSocket subprotocol. The first that is offered and known is taken; JSON, and no subprotocol, where
none is."""


def choose_codec(offered: Sequence[str], query: Mapping[str, str]) -> tuple[Codec, str | None]:
    """The codec of a handshake, and the subprotocol that is to be answered.

    centrifuge-python offers one with an empty name, which is as good as none.
    """
    for name in offered:
        if name in CODECS:
            return CODECS[name], name
    if "protobuf" in (query.get("format"), query.get("cf_protocol")):
        return PROTOBUF, None
    return JSON, None


def open_native(hub: "Hub", socket: "NativeSocket", scope: dict[str, Any], given: Mapping[str, str]) -> None:
    """Answer a handshake on the native door. Raises `Refused`."""
    refuse_when_draining(hub)
    codec: Codec = JSON
    subprotocol = None
    query = scope["query_string"]
    if "sec-websocket-protocol" in given or query:
        codec, subprotocol = choose_codec(
            _offered(scope["headers"]), dict(parse_qsl(query.decode("latin-1")))
        )
    extensions = None
    if hub.options.compress and "sec-websocket-extensions" in given:
        extensions = negotiate([given["sec-websocket-extensions"]])
    socket.serial = hub.serial()
    client = scope["client"]
    format = _format(codec, frame if extensions is None else deflated_frame)
    connection = Connection(hub, socket, format, address=client[0] if client else "", scope=scope)
    socket.accept(connection, subprotocol=subprotocol, extensions=extensions)


async def serve_websocket(hub: "Hub", request: HTTPConnection, receive: Receive, send: Send) -> None:
    """One WebSocket over ASGI, from accepting it to its end. Raises `Refused` before it is accepted."""
    refuse_when_draining(hub)
    codec, subprotocol = choose_codec(request.scope.get("subprotocols", []), request.query_params)
    link = SocketLink(hub, receive, send)
    connection = Connection(
        hub, link, _asgi_format(codec), address=address_of(request), scope=dict(request.scope)
    )
    try:
        await send({"type": "websocket.accept", "subprotocol": subprotocol})
        await attend(link, link.read(connection))
    finally:
        connection.lost()


@cache
def _format(codec: Codec, say: Callable[[bool, bytes], bytes]) -> PushFormat:
    join, is_text = codec.join, codec.is_text
    return PushFormat(codec, lambda messages: say(is_text, join(messages)))


@cache
def _asgi_format(codec: Codec) -> PushFormat:
    join, is_text = codec.join, codec.is_text
    return PushFormat(codec, lambda messages: [event(is_text, join(messages))])


def _offered(headers: Sequence[tuple[bytes, bytes]]) -> list[str]:
    found = [value.decode("latin-1") for name, value in headers if name == b"sec-websocket-protocol"]
    return [name.strip() for value in found for name in value.split(",") if name.strip()]
