"""The Centrifugal dialect over HTTP streams: one connection is one answer that does not end.

    POST /connection/http_stream     the body is `connect`; a message a line, or Protobuf with lengths
    GET  /connection/sse?cf_connect= the same as server-sent events; also as POST

Their clients send further commands by the emulation endpoint (`heartwire.server.centrifugal.emulation`). The
session's id, which the reply to `connect` holds, is all that an emulation request has to show.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from heartwire.dialects.centrifugal import JSON, PROTOBUF, Codec, PushFormat
from heartwire.dialects.centrifugal.types import DisconnectBody
from heartwire.errors import Refused
from heartwire.hub.node import Node
from heartwire.server.addresses import Call, end_at_once
from heartwire.server.centrifugal.connection import SessionContext
from heartwire.server.centrifugal.emulation import PROTOBUF_TYPE, EmulatedConnection, is_protobuf
from heartwire.server.requests import address_of, read_body
from heartwire.transports.http.native_stream import StreamLink, chunk
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
    await _stream(context, call, _DELIMITED if is_protobuf(call.request) else _LINES)


async def event_stream(context: SessionContext, call: Call) -> None:
    """``/connection/sse``. Raises `Refused` before anything is sent."""
    if call.request.method == "HEAD":
        await end_at_once(call, [(b"content-type", _EVENTS.media_type), *_STREAM_HEADERS])
        return
    await _stream(context, call, _EVENTS)


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


async def _stream(context: SessionContext, call: Call, kind: "_Kind") -> None:
    """One connection, from its first command to its end."""
    node, request = context.node, call.request
    data = await read_commands(node, call)
    link = HttpStream(node.switchboard, request, call.send, serial=node.connections.next_serial())
    connection = _StreamConnection(
        context,
        link,
        kind.format,
        kind.transport,
        address=address_of(request),
        scope=partial(dict, request.scope),
        session_id=node.new_secret(),
    )
    connection.begin(kind, data)
    others = ((name.encode(), value.encode()) for name, value in call.cors.items())
    headers = [(b"content-type", kind.media_type), *_STREAM_HEADERS, *others]
    await link.serve(connection, headers, kind.first)


class _StreamConnection(EmulatedConnection):
    """One answer that does not end. A `StreamHandler`."""

    __slots__ = ("_beginning",)

    def begin(self, kind: "_Kind", data: bytes) -> None:
        """Handle ``data`` once the stream is open."""
        self._beginning: tuple[_Kind, bytes] | None = kind, data

    def opened_on(self, link: StreamLink) -> None:
        """See `StreamHandler.opened_on`."""
        assert self._beginning is not None
        (kind, data), self._beginning = self._beginning, None
        self.link = link
        if link.is_native:
            self._format = kind.chunked
        self.commands.feed(data)

    def last_words(self, code: int, reason: str) -> bytes:
        """See `StreamHandler.last_words`: here a disconnect is a message."""
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


class _Kind(NamedTuple):
    """A kind of stream. ``first``: sent before anything else, so that the head goes out at once."""

    transport: str
    media_type: bytes
    format: PushFormat
    chunked: PushFormat
    first: bytes


def _kind(
    transport: str,
    media_type: bytes,
    codec: Codec,
    pack: Callable[[Sequence[bytes]], bytes],
    first: bytes = b"",
) -> _Kind:
    chunked = PushFormat(codec, lambda messages: chunk(pack(messages)))
    return _Kind(transport, media_type, PushFormat(codec, pack), chunked, first)


_LINES: Final = _kind("http_stream", b"application/x-ndjson", JSON, ascii_lines)
_DELIMITED: Final = _kind("http_stream", PROTOBUF_TYPE.encode(), PROTOBUF, b"".join)
_EVENTS: Final = _kind("sse", b"text/event-stream; charset=utf-8", JSON, _events, b"\r\n")
