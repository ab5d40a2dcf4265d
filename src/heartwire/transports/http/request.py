"""uvicorn's HTTP protocol with the bounds that a realtime server needs. For uvicorn's ``http=`` setting.

In: bytes from the socket, by asyncio, or from `FrontProtocol`, which leaves to it all that is not plain. Out:
requests to the ASGI application, handshakes to `NativeSocket`.
"""

import asyncio
import sys
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import is_ssl

from heartwire.transports.websocket.handshake import handshake_problem, refused
from heartwire.transports.websocket.native import TLS_WRITE_BUFFER_BYTES, WRITE_BUFFER_BYTES, NativeSocket

__all__ = ["HeartwireHttpProtocol"]

_MAX_HEAD_BYTES: Final = 64 * 1024
"""The bound of header lines, give or take one read. uvicorn has it (the same) only where it runs on h11."""


class HeartwireHttpProtocol(HttpToolsProtocol):
    """Bounds the write buffer and header lines, and passes bad WebSocket handshakes to the application. Bytes
    that are not HTTP get an error like any other; where a request before them is not answered yet, its answer
    is the last one.

    The scope's extensions give the application the transport, as ``heartwire.transport``.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(TLS_WRITE_BUFFER_BYTES if is_ssl(transport) else WRITE_BUFFER_BYTES)
        self._head_bytes = self._silent_bytes = 0
        self._is_in_head = self._goes_on = self._is_broken = False
        self._running: RequestResponseCycle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._disconnect()
        super().connection_lost(exc)

    def _disconnect(self) -> None:
        """Report the end to the request under way: uvicorn reports it to the last one that has come."""
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        if self._is_broken:
            return
        self._goes_on = False
        self._data = data
        super().data_received(data)
        self._data = b""
        # Those of a line that does not end.
        self._silent_bytes = 0 if self._goes_on else self._silent_bytes + len(data)
        if self._head_bytes + self._silent_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
            if self._is_in_head:
                self.send_400_response("Header lines are too long.")
            else:  # they stand behind the body
                self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, behind the answers to what came before it."""
        self._is_broken = True
        if self.pipeline and self.pipeline[0][0].more_body:
            self.pipeline.popleft()  # the broken one
        running = self._running
        if running is not None and not running.response_complete:
            last = self.pipeline[0][0] if self.pipeline else running
            if not last.more_body:
                last.keep_alive = False
                return
            self._disconnect()
            if running.response_started:
                self.transport.close()
                return
        protocol_class: Any = self.ws_protocol_class
        if issubclass(protocol_class, NativeSocket):
            self.transport.write(refused(protocol_class.door.bad_handshake("bad_request", msg)))
            self.transport.close()
        else:
            super().send_400_response(msg)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = self._goes_on = True
        self._head_bytes = 0
        self.scope["extensions"] = {"heartwire.transport": self.transport}  # type: ignore[dict-item]

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

    def handle_websocket_upgrade(self) -> None:
        """Pass a handshake to `NativeSocket` in parts, instead of as bytes to be parsed again, and what came
        behind it."""
        upgrade = sys.exc_info()[1]  # uvicorn calls this where it has caught it
        early = self._data[upgrade.args[0] :] if isinstance(upgrade, httptools.HttpParserUpgrade) else b""
        protocol_class: Any = self.ws_protocol_class
        if not issubclass(protocol_class, NativeSocket):
            super().handle_websocket_upgrade()
            if early:
                protocol: Any = self.transport.get_protocol()
                protocol.data_received(early)
            return
        self.connections.discard(self)
        socket = protocol_class(self.config, self.server_state, self.app_state)
        socket.connection_made(self.transport)
        self.transport.set_protocol(socket)
        socket.begin_handshake(self.url, self.headers, self._request, early=early)

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
