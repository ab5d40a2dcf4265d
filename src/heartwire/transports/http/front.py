"""The front: the first protocol of every connection under `heartwire serve`. For uvicorn's ``http=`` setting.

In: bytes from the socket, by asyncio. Out: polls and publishes to a `FrontDoor`, handshakes to
`NativeSocket`, everything else (and every doubt) to `HeartwireHttpProtocol`, which offers the requests that
follow on that connection.

A handshake, a poll and a publish come as one piece of bytes that looks much like the one before it. The front
recognises them without a request's objects, task and second parse. Header blocks are parsed by httptools,
once; the result is cached, because clients send the same block again and again.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from typing import Any, ClassVar, Final, NamedTuple, Protocol

import httptools
import uvicorn
from uvicorn.server import ServerState

from heartwire.core.caches import ByteCache
from heartwire.transports.http.connection import HttpBounds, TimedConnection
from heartwire.transports.http.request import HeartwireHttpProtocol
from heartwire.transports.websocket.handshake import KEY, Head
from heartwire.transports.websocket.native import NativeSocket

__all__ = ["Facts", "FrontDoor", "FrontProtocol", "Waiting", "front_protocol"]

_REQUEST_LINE: Final = re.compile(rb"(GET|POST) (/[!\"$-~]*) HTTP/1\.1")
"""In origin form (RFC 9112 3.2.1); a fragment is not part of it."""

_REMEMBERED_BYTES: Final = 1024 * 1024


class Facts(NamedTuple):
    """The headers that matter to a poll or a publish.

    Attributes:
        stream: those of an append to a durable stream: ``producer-…`` and ``stream-…``, in lower case.
    """

    content_length: int
    content_type: str | None
    accept: str
    host: str
    origin: str | None
    stream: Mapping[str, str]
    accept_encoding: str


class Waiting(Protocol):
    """What answers a request, or several, later."""

    def gone(self, front: "FrontProtocol") -> None:
        """The client is gone; an answer would be lost."""

    def time_out(self, front: "FrontProtocol") -> None:
        """The time given to `FrontProtocol.wait` is over."""


class FrontDoor(Protocol):
    """The server's side of the front: it answers the requests that the front recognises."""

    def try_answer(
        self, front: "FrontProtocol", method: bytes, target: bytes, facts: Facts, body: bytes
    ) -> bool:
        """Call `FrontProtocol.answer` now or after `FrontProtocol.wait`; False leaves it to uvicorn."""


@dataclass(slots=True, eq=False)
class FrontProtocol(TimedConnection):
    """One connection, until it turns out to be something else."""

    door: ClassVar[FrontDoor]
    bounds: ClassVar[HttpBounds]  # type: ignore[misc]  # it is the door's
    config: uvicorn.Config
    server_state: ServerState
    app_state: dict[str, Any]
    _loop: InitVar[object] = None
    loop: asyncio.AbstractEventLoop = field(init=False)
    transport: asyncio.Transport = field(init=False)
    waiting: Waiting | None = None
    _buffer: bytes = b""
    _is_full: bool = False
    _is_last: bool = False
    _timer: asyncio.TimerHandle | None = None
    _deadline: float = 0.0
    _unsent_bytes: int = 0
    _taken_at: float = 0.0

    def __post_init__(self, _loop: object) -> None:
        if not self.config.loaded:
            self.config.load()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.loop = asyncio.get_running_loop()
        self.server_state.connections.add(self)  # type: ignore[arg-type]
        self._begin(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server_state.connections.discard(self)
        self._end()
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.gone(self)

    def data_received(self, data: bytes) -> None:
        if self.waiting is not None or self._is_full or self._buffer:
            # The next request, before this one is answered or the answer is sent: it waits, in order.
            self._buffer += data
            self.transport.pause_reading()
            self.bounds.hold(self, len(self._buffer) + self.transport.get_write_buffer_size())
        elif not self._recognise(data):
            self._leave_to_uvicorn(data)

    def wait(self, waiting: Waiting, seconds: float) -> None:
        """Answer the request later; `Waiting.time_out` is called after so many seconds."""
        self.waiting = waiting
        self._set_deadline(seconds)

    def answer(self, response: bytes) -> None:
        """Send a whole HTTP response; the next request may follow."""
        self.waiting = None
        if self.transport.is_closing():
            return
        self._unsent_bytes = 0
        self._set_deadline(self.bounds.times.idle_s)
        self.transport.write(response)
        if self._is_last:
            self.transport.close()
        elif self._buffer:
            self.loop.call_soon(self._next)

    def pause_writing(self) -> None:
        """The client does not read its answers: stop reading from it until it does."""
        self._is_full = True
        self._hold_answer(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The client has read its answers."""
        self._is_full = False
        self._release_answer()
        self._set_deadline(self.bounds.times.idle_s)
        if self._buffer:
            self.loop.call_soon(self._next)

    def _next(self) -> None:
        if self.waiting is None and self._buffer and not self._is_full and not self.transport.is_closing():
            data, self._buffer = self._buffer, b""
            self.bounds.release(self)
            self.transport.resume_reading()
            self.data_received(data)

    def _expire(self) -> None:
        """The deadline has come: that of a request that waits, or the connection's."""
        if self.waiting is not None:
            self.waiting.time_out(self)
        else:
            TimedConnection._expire(self)  # not by `super`: slots make another class of this one

    def eof_received(self) -> bool:
        """The client sends no more. It may be gone, or wait for what it has asked: that is answered now."""
        is_owed = self.waiting is not None or bool(self._buffer)
        if not is_owed or not self.transport.can_write_eof():
            return False
        self._is_last |= not self._buffer
        if self.waiting is not None:
            self.waiting.time_out(self)
        return True

    def shutdown(self) -> None:
        """uvicorn is stopping."""
        self._is_last = True
        if self.waiting is None:
            self.transport.close()

    @property
    def date(self) -> bytes:
        """uvicorn's default header lines (Date, Server), which it renews every second."""
        headers = self.server_state.default_headers
        if headers is not _dated[0]:
            _dated[:] = headers, b"".join(b"%b: %b\r\n" % header for header in headers)
        lines: bytes = _dated[1]
        return lines

    def _recognise(self, data: bytes) -> bool:
        known = _requests.get(data)
        if known is not None:
            return self.door.try_answer(self, b"GET", *known, b"")
        line_end = data.find(b"\r\n")
        head_end = data.find(b"\r\n\r\n", line_end)
        line = _REQUEST_LINE.fullmatch(data, 0, line_end) if head_end > 0 else None
        if line is None or self.config.access_log:
            return False
        block = data[line_end + 2 : head_end + 4]
        if block in _remembered:
            facts = _remembered[block]
        elif (at := block.lower().find(_KEY)) >= 0:  # which need not be parsed as an ordinary request first
            return line[1] == b"GET" and self._upgrade(line[2], block, at + len(_KEY), data[head_end + 4 :])
        else:
            facts = _learn(block)
        if facts is None:
            return False
        body = data[head_end + 4 :]
        if len(body) != facts.content_length or not self.door.try_answer(self, line[1], line[2], facts, body):
            return False
        if not body and line[1] == b"GET" and block in _remembered:
            _requests.remember(data, (line[2], facts))
        return True

    def _upgrade(self, target: bytes, block: bytes, at: int, early: bytes) -> bool:
        """Pass a plain WebSocket handshake, whose key is ``at`` that place, and what came behind it, to the
        native socket. Returns False for any other request."""
        protocol_class = self.config.ws_protocol_class
        if not isinstance(protocol_class, type) or not issubclass(protocol_class, NativeSocket):
            return False
        end = block.index(b"\r\n", at)
        key, rest = block[at:end].strip(), block[:at] + block[end:]
        head = _handshakes.get(rest) or _learn_handshake(rest)
        if head is None or not protocol_class.can_open(target, head, key):
            return False
        socket = protocol_class(self.config, self.server_state, self.app_state)
        socket.connection_made(self.transport)
        self._hand_over(socket)
        socket.begin_handshake(target, head, bytes, key=key, early=early)
        return True

    def _leave_to_uvicorn(self, data: bytes) -> None:
        other = HeartwireHttpProtocol(self.config, self.server_state, self.app_state)
        other.bounds = self.bounds
        self._hand_over(other)
        other.connection_made(self.transport)
        other.data_received(data)
        other.offer = self.take_back  # from the next request on

    def take_back(self, data: bytes) -> bool:
        """Answer a request of a connection that was left, with no other under way; the connection is this
        protocol's again. False: nothing has changed."""
        other = self.transport.get_protocol()
        self.transport.set_protocol(self)
        self.server_state.connections.add(self)  # type: ignore[arg-type]
        if self._recognise(data):
            return True
        self._hand_over(other)
        return False

    def _hand_over(self, protocol: asyncio.BaseProtocol) -> None:
        self.server_state.connections.discard(self)
        self._end()  # its deadline is the front's alone
        self.transport.set_protocol(protocol)


_PLAIN_HANDSHAKE: Final = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*\r\n)+\r\n")
"""Header lines of RFC 9110 5.5, without folding."""

_remembered: Final[ByteCache[Facts | None]] = ByteCache(_REMEMBERED_BYTES)
"""Parsed header blocks. This and the next depend on nothing but the bytes, so all doors share them."""

_requests: Final[ByteCache[tuple[bytes, Facts]]] = ByteCache(_REMEMBERED_BYTES)
"""Whole requests without a body: of all clients that poll at one position, only the first one's is parsed."""

_KEY: Final = KEY.encode() + b":"

_handshakes: Final[ByteCache[Head]] = ByteCache(_REMEMBERED_BYTES // 4)
"""The heads of handshakes without their key: clients of one kind send the same. Parsed, one takes some five
times its bytes."""


def _learn_handshake(block: bytes) -> Head | None:
    """Parse the head of a handshake whose key is cut out; ``None`` where it is not plain."""
    if not _PLAIN_HANDSHAKE.fullmatch(block):
        return None
    lines = block[:-4].split(b"\r\n")
    head = Head([(n.lower(), v.strip()) for line in lines for n, _, v in (line.partition(b":"),)])
    given = head.given
    is_websocket = "host" in given and given.get("upgrade", "").lower() == "websocket"
    options = given.get("connection", "").lower().replace(" ", "").split(",")
    is_plain = len(given) == len(head.headers) and given.get(KEY) == "" and "upgrade" in options
    if not (is_plain and is_websocket) or "content-length" in given or "transfer-encoding" in given:
        return None
    return _handshakes.remember(block, head)


_dated: Final[list[Any]] = [None, b""]


class _Reader:
    """Collects the headers that httptools finds."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.is_complete = True


_ODD: Final = frozenset((b"idempotency-key", b"if-none-match", b"last-event-id", b"sec-websocket-key"))
_BEYOND: Final = _ODD | {b"transfer-encoding", b"content-encoding", b"expect", b"upgrade"}
"""Headers that need more than the front can do."""

_ONCE: Final = _ODD | {b"producer-seq", b"stream-seq"}
"""With these a block does not come again."""

_NONE: Final[Mapping[str, str]] = {}


def _learn(block: bytes) -> Facts | None:
    """Parse a header block; ``None`` where the front cannot serve it."""
    reader = _Reader()
    try:
        # A method that may have a body, so that httptools checks the length; it does not need the body.
        httptools.HttpRequestParser(reader).feed_data(b"POST / HTTP/1.1\r\n" + block)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    given = dict(reader.headers)
    facts = None
    length = given.get(b"content-length", b"0")
    is_single = len(given) == len(reader.headers) and b"host" in given
    # Not httptools' should_keep_alive: it forgets a `close` at the end of the message, which is now where
    # there is no body.
    keeps_alive = given.get(b"connection", b"keep-alive").lower() == b"keep-alive"
    if reader.is_complete and is_single and keeps_alive and not _BEYOND & given.keys() and length.isdigit():
        texts = {name.decode("latin-1"): value.decode("latin-1") for name, value in given.items()}
        content_type, accept = texts.get("content-type"), texts.get("accept", "")
        stream = {name: text for name, text in texts.items() if name.startswith(("producer-", "stream-"))}
        codings = texts.get("accept-encoding", "")
        facts = Facts(
            int(length), content_type, accept, texts["host"], texts.get("origin"), stream or _NONE, codings
        )
    return facts if _ONCE & given.keys() else _remembered.remember(block, facts)


def front_protocol(door: FrontDoor, bounds: HttpBounds) -> type[FrontProtocol]:
    """Return the class for uvicorn's ``http=`` setting that serves one door."""
    return type("HeartwireFrontProtocol", (FrontProtocol,), {"door": door, "bounds": bounds, "__slots__": ()})
