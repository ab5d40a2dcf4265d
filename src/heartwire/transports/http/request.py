"""uvicorn's HTTP protocol with the bounds that a realtime server needs. For uvicorn's ``http=`` setting.

In: bytes from the socket, by asyncio, or from `FrontProtocol`, which leaves to it all that is not plain. Out:
requests to the ASGI application, handshakes to `NativeSocket`.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import is_ssl

from heartwire.transports.http.native_stream import TAKE_OVER, TRANSPORT
from heartwire.transports.websocket.handshake import handshake_problem
from heartwire.transports.websocket.native import TLS_WRITE_BUFFER_BYTES, WRITE_BUFFER_BYTES, NativeSocket

__all__ = ["HeartwireHttpProtocol"]

_MAX_HEAD_BYTES: Final = 64 * 1024
"""The bound of header lines, give or take one read. uvicorn has it (the same) only where it runs on h11."""


class HeartwireHttpProtocol(HttpToolsProtocol):
    """Bounds the write buffer and header lines, and passes bad WebSocket handshakes to the application.

    The scope's extensions give the application the transport, as ``heartwire.transport``.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(TLS_WRITE_BUFFER_BYTES if is_ssl(transport) else WRITE_BUFFER_BYTES)
        self._head_bytes = self._silent_bytes = 0
        self._is_in_head = self._goes_on = False

    def data_received(self, data: bytes) -> None:
        self._goes_on = False
        super().data_received(data)
        # Those of a line that does not end.
        self._silent_bytes = 0 if self._goes_on else self._silent_bytes + len(data)
        if self._head_bytes + self._silent_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
            if self._is_in_head:
                self.send_400_response("Header lines are too long.")
            else:  # they stand behind the body
                self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = self._goes_on = True
        self._head_bytes = 0
        self.scope["extensions"] = {TRANSPORT: self.transport}  # type: ignore[dict-item]

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header line is complete, or one behind a chunked body."""
        super().on_header(name, value)
        self._goes_on = True
        self._head_bytes += len(name) + len(value)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._head_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._goes_on = True
        super().on_body(body)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        cycle.__class__ = _StreamingCycle  # uvicorn takes no class of ours
        super()._start_asgi_task(cycle, app)

    def leave(self) -> None:
        """Leave the connection to another protocol, with no request under way."""
        self.connections.discard(self)
        self.server_state.total_requests += 1
        self._unset_keepalive_if_required()

    def handle_websocket_upgrade(self) -> None:
        """Pass a handshake to `NativeSocket` in parts, instead of as bytes to be parsed again."""
        protocol_class: Any = self.ws_protocol_class
        if not issubclass(protocol_class, NativeSocket):
            super().handle_websocket_upgrade()
            return
        self.connections.discard(self)
        socket = protocol_class(self.config, self.server_state, self.app_state)
        socket.connection_made(self.transport)
        self.transport.set_protocol(socket)
        socket.begin_handshake(self.url, self.headers, self._request)

    def _request(self) -> bytes:
        lines = [b"GET %b HTTP/1.1" % self.url, *(b"%b: %b" % header for header in self.headers), b"", b""]
        return b"\r\n".join(lines)

    def _should_upgrade(self) -> bool:
        """RFC 6455 4.2.1: a handshake is a GET of HTTP/1.1. 4.2.2: only HTTP can answer 426."""
        if not super()._should_upgrade():
            return False
        protocol_class: Any = self.ws_protocol_class
        if issubclass(protocol_class, NativeSocket) and not protocol_class.claims(self.url):
            return True  # uvicorn judges handshakes to paths that the door does not claim
        is_get = self.parser.get_method() == b"GET" and self.parser.get_http_version() != "1.0"
        return is_get and handshake_problem(self._header) is None

    def _unsupported_upgrade_warning(self) -> None:
        pass  # the application answers it

    def _header(self, name: str) -> str | None:
        wanted = name.encode()
        return next((value.decode("latin-1") for key, value in self.headers if key == wanted), None)


class _StreamingCycle(RequestResponseCycle):
    """uvicorn's request, which a `NativeStream` can take the connection from."""

    async def send(self, message: Any) -> None:
        """See ASGI. The stream is begun when this returns, or it is not named, or the answer is not one to
        take over."""
        stream = message.get(TAKE_OVER)
        if stream is None or not self._can_be_left():
            await super().send(message)
            return
        self.response_complete = True
        self.message_event.set()
        protocol: Any = self.transport.get_protocol()
        protocol.leave()
        stream.begin(self.transport, protocol.connections, message["body"])

    def _can_be_left(self) -> bool:
        """Whether nothing of the request or of its answer is owed but the rest of the body."""
        is_plain = self.response_started and self.chunked_encoding and not self.response_complete
        is_whole = (
            not self.more_body and self.scope["method"] != "HEAD" and self.scope["http_version"] == "1.1"
        )
        return bool(is_plain and is_whole and not self.disconnected and not self.transport.is_closing())
