"""The Centrifugal dialect over HTTP streams: one connection is one answer that does not end.

    POST /connection/http_stream     the body is `connect`; a message a line, or Protobuf with lengths
    GET  /connection/sse?cf_connect= the same as server-sent events; also as POST

Their clients send further commands by the emulation endpoint (`heartwire.server.centrifugal.emulation`). The
session's id, which the reply to `connect` holds, is all that an emulation request has to show.
"""

import re
from collections.abc import Sequence
from typing import Final

from heartwire.dialects.centrifugal import JSON, PROTOBUF, PushFormat
from heartwire.dialects.centrifugal.types import DisconnectBody
from heartwire.errors import Refused
from heartwire.hub.node import Node
from heartwire.server.addresses import Call, end_at_once
from heartwire.server.centrifugal.connection import SessionContext
from heartwire.server.centrifugal.emulation import PROTOBUF_TYPE, EmulatedConnection, is_protobuf
from heartwire.server.requests import address_of, read_body
from heartwire.transports.asgi_link import attend
from heartwire.transports.http.stream import HttpStream

__all__ = ["ascii_lines", "event_stream", "http_stream", "read_commands"]

_STREAM_HEADERS: Final = (
    # no-transform also stops compressing middleware; X-Accel-Buffering stops nginx from holding the stream
    # back.
    (b"x-accel-buffering", b"no"),
    (b"cache-control", b"private, no-cache, no-store, no-transform, must-revalidate, max-age=0"),
    (b"pragma", b"no-cache"),
)

_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]+")


async def http_stream(context: SessionContext, call: Call) -> None:
    """``/connection/http_stream``. Raises `Refused` before anything is sent."""
    if is_protobuf(call.request):
        await _stream(context, call, "http_stream", _DELIMITED, PROTOBUF_TYPE.encode())
    else:
        await _stream(context, call, "http_stream", _LINES, b"application/x-ndjson")


async def event_stream(context: SessionContext, call: Call) -> None:
    """``/connection/sse``. Raises `Refused` before anything is sent."""
    media_type = b"text/event-stream; charset=utf-8"
    if call.request.method == "HEAD":
        await end_at_once(call, [(b"content-type", media_type), *_STREAM_HEADERS])
        return
    await _stream(context, call, "sse", _EVENTS, media_type)


async def read_commands(node: Node, call: Call) -> bytes:
    """The commands of a request. Raises `Refused`."""
    node.refuse_when_draining()
    if call.request.method == "GET":
        data = call.request.query_params.get("cf_connect", "").encode("utf-8", "surrogateescape")
    else:
        data = await read_body(node, call.request, node.options.max_frame_bytes)
    if not data:
        message = "a `connect` command is missing: in cf_connect, or as the body of a POST"
        raise Refused("bad_request", message)
    return data


async def _stream(
    context: SessionContext, call: Call, transport: str, format: PushFormat, media_type: bytes
) -> None:
    """One connection, from its first command to its end."""
    node, request = context.node, call.request
    data = await read_commands(node, call)
    link = _StreamLink(node, call, format)
    connection = EmulatedConnection(
        context,
        link,
        format,
        transport,
        address=address_of(request),
        scope=dict(request.scope),
        session_id=node.new_secret(),
    )
    try:
        others = ((name.encode(), value.encode()) for name, value in call.cors.items())
        await link.begin([(b"content-type", media_type), *_STREAM_HEADERS, *others])
        if format is _EVENTS:
            link.write(b"\r\n")  # so that the headers go out before `connect` is answered
        connection.commands.feed(data)
        await attend(link, link.watch_peer(), connection.commands.run())
    finally:
        connection.lost()


class _StreamLink(HttpStream):
    """One answer that does not end. Its last message is the disconnect."""

    def __init__(self, node: Node, call: Call, format: PushFormat) -> None:
        serial = node.connections.next_serial()
        super().__init__(node.switchboard, call.request, call.send, serial=serial)
        self._format = format

    def last_words(self, code: int, reason: str) -> bytes:
        """See `HttpStream.last_words`: here a disconnect is a message."""
        push = self._format.codec.push("disconnect", "", DisconnectBody(code, reason))
        last: bytes = self._format.pack([push])
        return last


def ascii_lines(messages: Sequence[bytes]) -> bytes:
    """JSON messages, each on a line, in ASCII: centrifuge-js decodes chunk by chunk, and would break a
    character that is cut."""
    lines = b"\n".join(messages) + b"\n"
    if lines.isascii():
        return lines
    return _NOT_ASCII.sub(_escaped, lines.decode()).encode()  # in JSON they stand in strings only


def _escaped(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _events(messages: Sequence[bytes]) -> bytes:
    return b"".join(b"data: %b\n\n" % message for message in messages)


_LINES: Final = PushFormat(JSON, ascii_lines)
_EVENTS: Final = PushFormat(JSON, _events)
_DELIMITED: Final = PushFormat(PROTOBUF, b"".join)
