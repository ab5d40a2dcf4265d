"""Counts the bytes of a TCP connection by purpose: handshake, headers, payload, control frames. Pure,
incremental.

A `Conversation` is fed the bytes of one HTTP/1.1 connection, both ways in their order, in pieces of any size.
Each byte counts once, under one of `PARTS`:

handshake  the heads of the exchange after which the connection belongs to one stream: the Upgrade request and
           its 101 (RFC 6455 1.3), or the request for an event stream and the head of its answer
headers    the heads of all other requests and responses, the framing of chunked bodies (RFC 9112 7.1), and
           the headers of WebSocket data frames with their masking keys (RFC 6455 5.2)
payload    bodies, and the payload of WebSocket data frames
control    WebSocket ping, pong and close frames, whole
opaque     TLS, and all other bytes that it cannot parse

Nothing here raises: from the first byte that cannot be parsed, a direction is opaque.
"""

import re
from collections import deque
from collections.abc import Generator
from typing import Final, Literal

__all__ = ["PARTS", "Conversation", "Counts", "Direction", "Part", "Piece"]

Direction = Literal["up", "down"]
"""Up is from the client to the server."""

Part = Literal["handshake", "headers", "payload", "control", "opaque"]
PARTS: Final[tuple[Part, ...]] = ("handshake", "headers", "payload", "control", "opaque")

_BLANK_LINE: Final = b"\r\n\r\n"
_LINE_END: Final = b"\r\n"
_MAX_HEAD_BYTES: Final = 64 * 1024
_MAX_LINE_BYTES: Final = 1024
_METHODS: Final = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ")
_HEX: Final = re.compile(rb"[0-9a-fA-F]+")
_MAX_PIECES: Final = 16
_MAX_PIECE_BYTES: Final = 1024


class Counts:
    """Bytes of one direction, by part."""

    __slots__ = ("by_part",)

    def __init__(self, by_part: dict[Part, int] | None = None) -> None:
        self.by_part: dict[Part, int] = by_part or dict.fromkeys(PARTS, 0)

    @property
    def total(self) -> int:
        return sum(self.by_part.values())

    def add(self, other: "Counts") -> None:
        for part, size in other.by_part.items():
            self.by_part[part] += size


class Piece:
    """A stretch of bytes that belong together, such as a head or a frame's header, to show on a page.

    Attributes:
        what: ``request`` and ``response`` (heads), ``body``, ``chunk`` (framing), ``frame`` (header),
            ``data`` (of a frame), ``control``, ``opaque``.
        data: the first 1024 bytes of it.
        size: its bytes.
    """

    __slots__ = ("data", "direction", "size", "what")

    def __init__(self, direction: Direction, what: str) -> None:
        self.direction = direction
        self.what = what
        self.data = bytearray()
        self.size = 0


Reader = Generator[None, None, None]


class Conversation:
    """One connection: `feed` it, then read the counts.

    Attributes:
        up, down: the bytes so far, by part. Their totals are exactly the bytes fed.
        requests: how many complete heads of requests.
        pieces: the first 16 pieces, in the order of their beginnings.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.pieces: list[Piece] = []
        # Requests without an answer: the part of their heads, and whether they are HEAD.
        self._waiting: deque[tuple[Part, bool]] = deque()
        self._asks_upgrade = self._is_upgraded = False
        self._lanes: dict[Direction, _Lane] = {"up": _Lane(self, "up"), "down": _Lane(self, "down")}
        self._lanes["up"].reader = self._read_requests(self._lanes["up"])
        self._lanes["down"].reader = self._read_responses(self._lanes["down"])

    @property
    def up(self) -> Counts:
        return self._lanes["up"].settled()

    @property
    def down(self) -> Counts:
        return self._lanes["down"].settled()

    def feed(self, direction: Direction, data: bytes) -> None:
        lane = self._lanes[direction]
        lane.buffer += data
        lane.run()
        if direction == "down" and self._lanes["up"].buffer:
            self._lanes["up"].run()  # these bytes waited for the answer to an Upgrade

    def _read_requests(self, lane: "_Lane") -> Reader:
        while True:
            head = yield from lane.head(_METHODS)
            if head is None:
                return
            line, headers = _parsed(head)
            self.requests += 1
            is_upgrade = b"websocket" in headers.get(b"upgrade", b"").lower()
            is_stream = b"text/event-stream" in headers.get(b"accept", b"")
            part: Part = "handshake" if is_upgrade or is_stream else "headers"
            lane.take(len(head), part, "request", is_new=True)
            self._waiting.append((part, line.startswith(b"HEAD ")))
            yield from lane.body(headers, until_end=False)
            if is_upgrade:
                self._asks_upgrade = True
                while self._asks_upgrade:
                    yield
                if self._is_upgraded:
                    yield from lane.frames()

    def _read_responses(self, lane: "_Lane") -> Reader:
        while True:
            head = yield from lane.head((b"HTTP/1.",))
            if head is None:
                return
            line, headers = _parsed(head)
            status = line[9:12]
            is_interim = status.startswith(b"1") and status != b"101"
            part, is_head = self._waiting[0] if self._waiting else ("headers", False)
            if self._waiting and not is_interim:
                self._waiting.popleft()
            lane.take(len(head), part, "response", is_new=True)
            if is_interim:
                continue
            if self._asks_upgrade and part == "handshake":
                self._asks_upgrade, self._is_upgraded = False, status == b"101"
            if self._is_upgraded:
                yield from lane.frames()
            if not is_head and status not in (b"204", b"304"):
                yield from lane.body(headers, until_end=True)


def _parsed(head: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    line, *fields = head.split(_LINE_END)
    pairs = (field.partition(b":") for field in fields if field)
    return line, {name.strip().lower(): value.strip() for name, _, value in pairs}


class _Lane:
    """One direction: the bytes that are not read yet, and their reader."""

    def __init__(self, conversation: Conversation, direction: Direction) -> None:
        self.buffer = bytearray()
        self.reader: Reader | None = None
        self._conversation = conversation
        self._direction = direction
        self._counts = Counts()
        self._piece: Piece | None = None

    def run(self) -> None:
        """Read as far as possible. After the end of the reader, bytes are opaque."""
        if self.reader is not None:
            try:
                next(self.reader)
                return
            except StopIteration:
                self.reader = None
        if self.buffer:
            self.take(len(self.buffer), "opaque", "opaque")

    def settled(self) -> Counts:
        """The counts, with a head that has only begun as headers."""
        counts = self._counts.by_part
        return Counts(counts | {"headers": counts["headers"] + len(self.buffer)})

    def take(self, size: int, part: Part, what: str, *, is_new: bool = False) -> None:
        """Count the first bytes of the buffer and remove them."""
        self._counts.by_part[part] += size
        if self._piece is None or self._piece.what != what or is_new:
            self._piece = Piece(self._direction, what)
            if len(self._conversation.pieces) < _MAX_PIECES:
                self._conversation.pieces.append(self._piece)
        self._piece.size += size
        self._piece.data += self.buffer[: min(size, _MAX_PIECE_BYTES - len(self._piece.data))]
        del self.buffer[:size]

    def head(self, beginnings: tuple[bytes, ...]) -> Generator[None, None, bytes | None]:
        """Wait for a head; ``None`` where the bytes are not HTTP."""
        while (end := self.buffer.find(_BLANK_LINE)) < 0:
            start = bytes(self.buffer[:16])
            may_be = any(start.startswith(word) or word.startswith(start) for word in beginnings)
            if not may_be or len(self.buffer) > _MAX_HEAD_BYTES:
                return None
            yield
        if not self.buffer.startswith(beginnings):
            return None
        return bytes(self.buffer[: end + len(_BLANK_LINE)])

    def body(self, headers: dict[bytes, bytes], *, until_end: bool) -> Reader:
        """Read a body of the length in its head (RFC 9112 6.3)."""
        length = headers.get(b"content-length", b"")
        if b"chunked" in headers.get(b"transfer-encoding", b"").lower():
            yield from self._chunks()
        elif length.isdigit():
            yield from self._exactly(int(length), "payload", "body")
        elif until_end:
            while True:
                if self.buffer:
                    self.take(len(self.buffer), "payload", "body")
                yield

    def _chunks(self) -> Reader:
        while True:
            line = yield from self._line()
            digits = line.split(b";")[0].strip()
            size = int(digits, 16) if _HEX.fullmatch(digits) else -1
            self.take(len(line) + 2, "headers", "chunk", is_new=True)
            if size < 0:
                return  # not a chunk: the rest is opaque
            if size == 0:
                break
            yield from self._exactly(size, "payload", "body")
            yield from self._exactly(2, "headers", "chunk")
        while True:  # trailers, and the empty line
            line = yield from self._line()
            self.take(len(line) + 2, "headers", "chunk")
            if not line:
                return

    def _line(self) -> Generator[None, None, bytes]:
        while (end := self.buffer.find(_LINE_END)) < 0 and len(self.buffer) <= _MAX_LINE_BYTES:
            yield
        return bytes(self.buffer[: max(0, end)])

    def _exactly(self, size: int, part: Part, what: str) -> Reader:
        while size:
            if not self.buffer:
                yield
                continue
            taken = min(size, len(self.buffer))
            self.take(taken, part, what)
            size -= taken

    def frames(self) -> Reader:
        """Read WebSocket frames (RFC 6455 5.2)."""
        while True:
            while len(self.buffer) < 2 or len(self.buffer) < (header := _header_bytes(self.buffer)):
                yield
            size = _payload_bytes(self.buffer)
            if self.buffer[0] & 0x08:
                self.take(header, "control", "control", is_new=True)
                yield from self._exactly(size, "control", "control")
            else:
                self.take(header, "headers", "frame", is_new=True)
                yield from self._exactly(size, "payload", "data")


def _header_bytes(start: bytearray) -> int:
    """The size of a frame's header: 2 bytes, 2 or 8 for a long length, 4 for a mask."""
    return 2 + {126: 2, 127: 8}.get(start[1] & 0x7F, 0) + (4 if start[1] & 0x80 else 0)


def _payload_bytes(header: bytearray) -> int:
    length = header[1] & 0x7F
    return length if length < 126 else int.from_bytes(header[2 : 4 if length == 126 else 10], "big")
