"""uvicorn's HTTP protocol with the bounds that a realtime server needs. For uvicorn's ``http=`` setting.

In: bytes from the socket, by asyncio, or from `FrontProtocol`, which leaves to it all that is not plain. Out:
requests to the ASGI application, handshakes to `NativeSocket`.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from heartwire.transports.http.connection import HttpBounds, TimedConnection
from heartwire.transports.http.cycle import BodyParts, FlowControl, StreamingCycle
from heartwire.transports.http.native_stream import TRANSPORT
from heartwire.transports.http.phases import Phase, limit_s, phase_of
from heartwire.transports.tcp import cut, unsent_bytes
from heartwire.transports.websocket.handshake import Head, handshake_problem, refused
from heartwire.transports.websocket.native import NativeSocket

__all__ = ["HeartwireHttpProtocol"]

_MAX_HEAD_BYTES: Final = 64 * 1024
"""The bound of header lines, give or take one read. uvicorn has it (the same) only where it runs on h11."""

_PIECE_BYTES: Final = 1024
"""What is parsed at once, a head or a piece of one, but for bodies of known length."""

_SMALL_BYTES: Final = 16 * 1024
"""Bodies that are not counted before the application has read them."""

_LATE: Final = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class HeartwireHttpProtocol(TimedConnection, HttpToolsProtocol):
    """Gives each phase of a connection its deadline, bounds what it holds, and passes bad WebSocket
    handshakes to the application. Bytes that are not HTTP get an error like any other; where a request before
    them is not answered yet, its answer is the last one.

    The next request is not begun, and not read, while an answer is owed or not taken. The scope's extensions
    give the application the transport, as ``heartwire.transport``, and a future that is done once the client
    has closed its side, and may still read: ``heartwire.half_closed``.
    """

    bounds = HttpBounds()
    """Of all servers of this process that name the class itself."""

    offer: Callable[[bytes], bool] | None = None
    """Is given what comes after an answer, and returns whether it has taken that and the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = FlowControl(transport)
        self._timer = None
        self._unsent_bytes = 0
        self._taken_at = 0.0
        self._head_bytes = self._silent_bytes = 0
        self._is_in_head = self._is_in_body = self._goes_on = self._is_broken = self._has_hidden_body = False
        self._body_left = 0
        self._rest = b""  # read, and not begun
        self._is_untaken = False
        self._half_closed = self.loop.create_future()
        self._running: RequestResponseCycle | None = None
        self._phase = Phase.HEAD
        self._begin(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest = b""
        self._end()
        self._disconnect()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def _disconnect(self) -> None:
        """Report the end to the request under way: uvicorn reports it to the last one that has come."""
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        cycle.__class__ = StreamingCycle  # uvicorn takes no class of ours
        super()._start_asgi_task(cycle, app)

    def may_leave(self, cycle: RequestResponseCycle) -> bool:
        """Whether a request is the last that has come."""
        return cycle is self.cycle and not (self.pipeline or self._rest or self._is_in_head)

    def leave(self) -> None:
        """Leave the connection to another protocol, with no request under way."""
        self._is_broken = True  # nothing that comes is for us
        self.connections.discard(self)
        self.server_state.total_requests += 1
        self._unset_keepalive_if_required()
        self._end()

    # -- what comes in ---------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._is_broken:
            return
        if self._rest or self._has_to_wait:
            self._wait_with(self._rest + data)
            return
        if self.offer is not None and self._is_idle and self.offer(data):
            self._unset_keepalive_if_required()
            self.connections.discard(self)
            self._end()
            return
        while data and not (self._is_broken or self.transport.is_closing()):
            if self._has_to_wait:
                self._wait_with(data)
                return
            size = self._body_left or _PIECE_BYTES
            if not self._is_in_body:
                # Not the requests behind it: uvicorn makes kilobytes of each before it answers the first.
                head_end = data.find(b"\r\n\r\n", 0, size)
                size = head_end + 4 if head_end >= 0 else size
            self._feed(data[:size])
            data = data[size:]
            heir = self.transport.get_protocol()
            if heir is not self:
                self._end()
                if data and isinstance(heir, NativeSocket):
                    heir.data_received(data)
                return
        self._enter_phase()

    def _feed(self, data: bytes) -> None:
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

    def _wait_with(self, data: bytes) -> None:
        self._rest = data
        self.flow.pause_reading()
        if not self.flow.write_paused:
            self.bounds.hold(self, len(data))

    def _go_on(self) -> None:
        """Begin the next request."""
        if not self._has_to_wait and not self.transport.is_closing():
            data, self._rest = self._rest, b""
            self.bounds.release(self)
            self.flow.resume_reading()
            self.data_received(data)
            if self._half_closed.done() and not self._is_owed:
                self.transport.close()

    @property
    def _is_owed(self) -> bool:
        """Whether a request has come that is not answered."""
        return self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body

    @property
    def _is_idle(self) -> bool:
        """Whether nothing of a request has come since the last answer."""
        is_between = not (self._is_in_head or self._is_in_body or self._silent_bytes)
        is_open = not (self._half_closed.done() or self.transport.is_closing())
        return is_between and is_open and not self._is_owed

    @property
    def _has_to_wait(self) -> bool:
        return self._is_owed or self.flow.write_paused

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more. What it has asked is answered, but for a stream, which would not end."""
        is_owed = self._is_owed and not self.cycle.chunked_encoding
        if not (is_owed or self._rest) or not self.transport.can_write_eof():
            return False
        if not self._half_closed.done():
            self._half_closed.set_result(None)
        return True

    # -- deadlines -------------------------------------------------------------------------------------------

    def _enter_phase(self) -> None:
        """Move the deadline after what came in. That of the next request is uvicorn's timer."""
        before, self._phase = (
            self._phase,
            phase_of(
                is_unread=self.flow.write_paused,
                is_in_head=self._is_in_head,
                is_in_body=self._is_in_body,
                is_owed=self._is_owed,
            ),
        )
        if self._phase is not before or self._phase is Phase.BODY:
            self._set_deadline(limit_s(self._phase, self.bounds.times))

    def _expire(self) -> None:
        if self._phase is Phase.BODY and self.flow.read_paused:  # the application does not read it
            self._set_deadline(limit_s(self._phase, self.bounds.times))
        elif self._phase is Phase.HEAD and self._is_in_head and not unsent_bytes(self.transport):
            self.transport.write(_LATE)
            self.transport.close()
        else:
            super()._expire()

    def timeout_keep_alive_handler(self) -> None:
        """See `HttpTimes.idle_s`, which is uvicorn's ``timeout_keep_alive`` here."""
        if unsent_bytes(self.transport):
            cut(self.transport)
        else:
            super().timeout_keep_alive_handler()

    # -- what goes out ---------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        self._phase = Phase.UNREAD
        self._hold_answer(self.transport.get_write_buffer_size() + len(self._rest))

    def resume_writing(self) -> None:
        super().resume_writing()
        self._release_answer()
        self._enter_phase()
        if self._rest:
            self.bounds.hold(self, len(self._rest))
        if self._is_untaken:
            self._is_untaken = False
            self.on_response_complete()
        elif self._rest:
            self.loop.call_soon(self._go_on)

    def on_response_complete(self) -> None:
        """The next request may follow, once this answer is taken."""
        if self.flow.write_paused and not self.transport.is_closing():
            self._is_untaken = True
            return
        super().on_response_complete()
        if self._rest:
            self.loop.call_soon(self._go_on)
        elif self._half_closed.done() and not self._is_owed:
            self.transport.close()

    # -- what the parser finds -------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = self._goes_on = True
        self._is_in_body = False
        self._head_bytes = 0
        self.scope["extensions"] = {
            TRANSPORT: self.transport,  # type: ignore[dict-item]
            "heartwire.half_closed": self._half_closed,  # type: ignore[dict-item]
        }

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header line is complete, or one behind a chunked body."""
        super().on_header(name, value)
        self._goes_on = True
        self._head_bytes += len(name) + len(value)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._is_in_body = True
        self._head_bytes = 0
        length = self._header("content-length")
        is_chunked = self._header("transfer-encoding") is not None
        self._body_left = int(length) if length is not None and not is_chunked else 0
        has_body = is_chunked or self._body_left > 0
        self._has_hidden_body = has_body and self.parser.should_upgrade() and not self._should_upgrade()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._goes_on = True
        self._body_left = max(0, self._body_left - len(body))
        super().on_body(body)
        if len(self.cycle.body) > _SMALL_BYTES:  # the loop reads from all clients before any application runs
            self.bounds.hold(self, len(self.cycle.body))

    def let_go(self) -> None:
        """See `TimedConnection.let_go`."""
        self._rest = b""
        if self.cycle is not None:
            self.cycle.body.clear()

    def on_message_complete(self) -> None:
        if self._has_hidden_body:  # it follows, see below
            return
        self._is_in_body = False
        self._body_left = 0
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Pass a handshake to `NativeSocket` in parts, instead of as bytes to be parsed again, and what came
        behind it."""
        upgrade = sys.exc_info()[1]  # uvicorn calls this where it has caught it
        early = self._data[upgrade.args[0] :] if isinstance(upgrade, httptools.HttpParserUpgrade) else b""
        protocol_class: Any = self.ws_protocol_class
        if not issubclass(protocol_class, NativeSocket):
            super().handle_websocket_upgrade()  # it takes no frames before it has answered
            return
        self.connections.discard(self)
        socket = protocol_class(self.config, self.server_state, self.app_state)
        socket.connection_made(self.transport)
        self.transport.set_protocol(socket)
        socket.begin_handshake(self.url, Head(self.headers), self._request, early=early)

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
        """Go on behind the head of a request whose ``Upgrade`` is ignored (RFC 9110 7.8), where httptools
        sees the end of HTTP. The application answers it."""
        upgrade = sys.exc_info()[1]
        rest = self._data[upgrade.args[0] :] if isinstance(upgrade, httptools.HttpParserUpgrade) else b""
        if self._has_hidden_body:
            self._has_hidden_body = False
            self.parser = httptools.HttpRequestParser(BodyParts(self))
            framing = b"Content-Length: %d" % self._body_left
            if not self._body_left:
                framing = b"Transfer-Encoding: chunked"
                self.cycle.keep_alive = False  # what is read with its end would not be seen
            self.parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
        if rest:
            super().data_received(rest)

    def _header(self, name: str) -> str | None:
        wanted = name.encode()
        return next((value.decode("latin-1") for key, value in self.headers if key == wanted), None)
