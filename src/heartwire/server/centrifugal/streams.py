"""The Centrifugal dialect over HTTP: streams, which the server talks on, and the emulation endpoint, by which
their clients answer.

    POST /connection/http_stream     the body is `connect`; the answer does not end: a message a line, or
    Protobuf with lengths GET  /connection/sse?cf_connect= the same as server-sent events; also as POST
    POST /emulation                  commands of a stream that is open:
    ``{"session":…,"node":…,"data":"commands"}``, answered 204 POST /connection/commands        see
    `heartwire.server.centrifugal.commands`

The session's id, which the reply to `connect` tells, is all that an emulation request has to show.
"""

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Send

from heartwire.dialects.centrifugal import JSON, PROTOBUF, PushFormat
from heartwire.dialects.centrifugal.protobuf_codec import emulation_request
from heartwire.dialects.centrifugal.types import DisconnectBody
from heartwire.errors import LimitExceeded, Refused
from heartwire.server.centrifugal.commands import commands
from heartwire.server.centrifugal.connection import Connection
from heartwire.server.plain.requests import address_of, read_body, refuse_when_draining
from heartwire.transports.asgi_link import attend
from heartwire.transports.http.stream import HttpStream

if TYPE_CHECKING:
    from heartwire.hub.hub import Hub

__all__ = ["METHODS", "Emulated", "answer", "ascii_lines"]

METHODS: Final = {
    "http_stream": ("POST", "OPTIONS"),
    "sse": ("GET", "POST", "OPTIONS"),
    "commands": ("POST", "OPTIONS"),
    "emulation": ("POST", "OPTIONS"),
}
"""What each address takes."""

MAX_WAITING: Final = 1000
"""Emulation requests of one session that wait for the one before them: centrifuge-js sends a publish in each,
at once."""

MAX_WAITING_BYTES: Final = 1024 * 1024

_PROTOBUF_TYPE: Final = "application/octet-stream"

_STREAM_HEADERS: Final = (
    # no-transform also stops compressing middleware; X-Accel-Buffering stops nginx from holding the stream
    # back.
    (b"x-accel-buffering", b"no"),
    (b"cache-control", b"private, no-cache, no-store, no-transform, must-revalidate, max-age=0"),
    (b"pragma", b"no-cache"),
)

_PREFLIGHT_S: Final = "300"

_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]+")


async def answer(
    hub: "Hub", request: Request, name: str, cors: dict[str, str], send: Send
) -> Response | None:
    """Answer a request to one of `METHODS`; ``None`` where it was streamed. Raises `Refused` before anything
    is sent."""
    methods = METHODS[name]
    asked = request.headers.get("access-control-request-headers")
    if asked and "access-control-allow-origin" in cors:
        cors["access-control-allow-headers"] = asked[:1000]
    if request.method == "OPTIONS":
        allowed = {"access-control-allow-methods": ", ".join(methods), "access-control-max-age": _PREFLIGHT_S}
        return Response(
            status_code=204,
            headers=allowed if "access-control-allow-origin" in cors else {"allow": ", ".join(methods)},
        )
    if request.method not in methods:
        allow = ", ".join(methods)
        raise Refused(
            "method_not_allowed",
            f"{request.method} {request.url.path[:200]}: this address takes {allow}",
            allow=allow,
        )
    if name == "emulation":
        return await _emulate(hub, request)
    refuse_when_draining(hub)
    data = await _said(hub, request)
    if name == "commands":
        return await commands(hub, request, data, PROTOBUF if _is_protobuf(request) else JSON)
    if name == "sse":
        await _stream(hub, request, data, _EVENTS, b"text/event-stream; charset=utf-8", cors, send)
    elif _is_protobuf(request):
        await _stream(hub, request, data, _DELIMITED, _PROTOBUF_TYPE.encode(), cors, send)
    else:
        await _stream(hub, request, data, _LINES, b"application/x-ndjson", cors, send)
    return None


async def _said(hub: "Hub", request: Request) -> bytes:
    """The commands of a request. Raises `Refused`."""
    if request.method == "GET":
        data = request.query_params.get("cf_connect", "").encode("utf-8", "surrogateescape")
    else:
        data = await read_body(request, hub.options.max_message_bytes)
    if not data:
        raise Refused(
            "bad_request", "a `connect` command is missing: in cf_connect, or as the body of a POST"
        )
    return data


def _is_protobuf(request: Request) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == _PROTOBUF_TYPE


# -- what the server says ------------------------------------------------------------------------------------


async def _stream(
    hub: "Hub",
    request: Request,
    data: bytes,
    format: PushFormat,
    media_type: bytes,
    cors: dict[str, str],
    send: Send,
) -> None:
    """One connection, from its first command to its end."""
    id = hub.sessions.new_id()
    link = _StreamLink(hub, request, format, send)
    emulation = (id, hub.node)
    connection = Connection(
        hub, link, format, address=address_of(request), scope=dict(request.scope), emulation=emulation
    )
    emulated = hub.sessions.emulated[id] = Emulated(connection)
    try:
        others = ((name.encode(), value.encode()) for name, value in cors.items())
        await link.begin([(b"content-type", media_type), *_STREAM_HEADERS, *others])
        if format is _EVENTS:
            link.write(b"\r\n")  # so that the headers go out before `connect` is answered
        emulated.feed(data)
        await attend(link, link.watch_peer(), emulated.run())
    finally:
        del hub.sessions.emulated[id]
        connection.lost()


class _StreamLink(HttpStream):
    """One answer that does not end. Its last message says why it does."""

    def __init__(self, hub: "Hub", request: Request, format: PushFormat, send: Send) -> None:
        super().__init__(hub.switchboard, request, send, serial=hub.serial())
        self._format = format

    def last_words(self, code: int, reason: str) -> bytes:
        """See `HttpStream.last_words`: here a disconnect is a message."""
        last: bytes = self._format.pack(
            [self._format.codec.push("disconnect", "", DisconnectBody(code, reason))]
        )
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


# -- what the client says ------------------------------------------------------------------------------------


class Emulated:
    """What comes in for a stream's session, in requests of their own: dealt with one after the other, as they
    came."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._is_text = connection.session.codec.is_text
        self._frames: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._wait: Awaitable[None] | None = None
        self._wake = asyncio.Event()

    def feed(self, data: bytes) -> bool:
        """Commands came in. False: too many wait already, and these are not taken."""
        if self._wait is None:
            self._wait = self.connection.receive(self._is_text, data)
            if self._wait is not None:
                self._wake.set()
        elif len(self._frames) >= MAX_WAITING or self._waiting_bytes + len(data) > MAX_WAITING_BYTES:
            return False
        else:
            self._frames.append(data)
            self._waiting_bytes += len(data)
        return True

    async def run(self) -> None:
        """Wait for what has to be waited for, and go on with what came meanwhile. To be cancelled."""
        while True:
            await self._wake.wait()
            while self._wait is not None:
                await self._wait
                self._wait = None
                while self._frames and self._wait is None:
                    data = self._frames.popleft()
                    self._waiting_bytes -= len(data)
                    self._wait = self.connection.receive(self._is_text, data)
            self._wake.clear()


class _Emulation(msgspec.Struct):
    session: str = ""
    node: str = ""
    data: str = ""


_decoder: Final = msgspec.json.Decoder(_Emulation)


async def _emulate(hub: "Hub", request: Request) -> Response:
    """``POST /emulation``. A session that is gone is nobody's fault: its client knows, or soon will."""
    limit = hub.options.max_message_bytes
    body = await read_body(request, 2 * limit + 1024)  # JSON in a JSON string is longer than it is by itself
    try:
        session, node, data = emulation_request(body) if _is_protobuf(request) else _read(body)
    except (ValueError, RecursionError) as error:
        raise Refused("bad_request", f"expected a session, a node and data: {error}") from None
    if len(data) > limit:
        raise LimitExceeded(
            "message_too_large", "bytes of this message", len(data), limit, "max_message_bytes"
        )
    if node != hub.node:
        raise Refused("not_found", f"node {node[:64]!r} is not this one: come back with a new connection")
    emulated = hub.sessions.emulated.get(session)
    if emulated is not None and not emulated.feed(data):
        emulated.connection.session.disconnect("too_many_requests")  # what is not taken would be missed
        raise Refused("too_many_requests", f"{MAX_WAITING} requests of this session wait already")
    return Response(status_code=204)


def _read(body: bytes) -> tuple[str, str, bytes]:
    request = _decoder.decode(body)
    return request.session, request.node, request.data.encode()
