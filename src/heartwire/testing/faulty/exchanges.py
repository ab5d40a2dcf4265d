"""The HTTP of one connection: the requests without an answer, and the faults that act on requests."""

from collections import deque
from enum import Enum, auto
from typing import Final, Protocol

from heartwire.testing.faulty.faults import ConnectionRecord, Direction, Faults
from heartwire.testing.faulty.messages import Head, Messages, NotHttp

__all__ = ["Exchanges", "Way", "answer"]

_MAX_HEAD_BYTES: Final = 64 * 1024
"""More than this without a blank line is not HTTP. uvicorn has the same limit."""
_MAX_PIPELINED: Final = 1000
_REASONS: Final = {502: "Bad Gateway", 504: "Gateway Timeout"}


def answer(status: int, *headers: str) -> bytes:
    """The proxy's own answer, as short as possible."""
    body = f"{status} {_REASONS[status]}\n"
    lines = (f"HTTP/1.1 {body[:-1]}", "Content-Type: text/plain", f"Content-Length: {len(body)}", *headers)
    return ("\r\n".join(lines) + f"\r\n\r\n{body}").encode()


class Way(Protocol):
    """The connection, as its exchanges see it."""

    record: ConnectionRecord

    @property
    def faults(self) -> Faults:
        """The faults that apply to the current request."""

    @property
    def judge_heads(self) -> bool:
        """See `Faults.judge_heads`."""

    def send(self, direction: Direction, data: bytes) -> None: ...

    def close(self, *, reset: bool) -> None: ...


class Mode(Enum):
    """How to read the bytes of a connection."""

    HTTP = auto()
    UPGRADED = auto()
    """The server has answered 101."""
    OPAQUE = auto()
    """TLS or another protocol: bytes pass as they are, for good."""


class Exchanges:
    """Passes on what comes from either side, in order, without what the faults take."""

    def __init__(self, way: Way) -> None:
        self._answering = False
        self._way = way
        self._mode = Mode.HTTP
        self._requests = Messages(of_requests=True)
        self._responses = Messages(of_requests=False)
        self._methods: deque[bytes] = deque()  # of the requests without a complete answer
        self._head = b""  # the part of a request's head that waits for the rest
        self._head_passed = False  # a part of the head has passed: too late for faults
        self._swallowing = False  # drops the rest of a request that the proxy has answered
        self._buffering = False
        self._body = bytearray()  # of a response held back

    @property
    def open(self) -> bool:
        """Whether a request has no complete answer, or the connection is a WebSocket."""
        return bool(self._methods) or self._mode is Mode.UPGRADED

    @property
    def unanswered(self) -> bool:
        """Whether a request has no byte of an answer."""
        return bool(self._methods) and not self._answering

    # -- from the client -------------------------------------------------------------------------------------

    def from_client(self, data: bytes) -> None:
        while data and self._mode is Mode.HTTP:
            size = self._requests.cut(data)
            self._take_request(data[:size])
            data = data[size:]
        if data:
            self._way.send("up", data)

    def _take_request(self, piece: bytes) -> None:
        try:
            self._requests.feed(piece)
        except NotHttp:
            if self._swallowing:
                self._way.close(reset=False)
            else:
                self._take_head_part(piece, opaque=True)
            return
        if self._requests.headed:
            assert self._requests.head is not None
            self._take_head(self._requests.head, piece)
        elif self._requests.head is None:
            self._take_head_part(piece, opaque=len(self._head) + len(piece) > _MAX_HEAD_BYTES)
        elif not self._swallowing:
            self._way.send("up", piece)
        if self._requests.ended:
            self._swallowing = False

    def _take_head_part(self, piece: bytes, *, opaque: bool) -> None:
        """Pass it on as it comes, unless a fault depends on the whole head."""
        self._head += piece
        if opaque:
            self._give_up_http()
        elif self._way.judge_heads and not self._head_passed:
            return
        self._head_passed = True
        self.release_head()

    def release_head(self) -> None:
        """Pass on the part of a head that waits for the rest."""
        head, self._head = self._head, b""
        if head:
            self._way.send("up", head)

    def _take_head(self, head: Head, piece: bytes) -> None:
        whole, self._head = self._head + piece, b""
        passed, self._head_passed = self._head_passed, False
        record = self._way.record
        record.path = head.target.decode("latin-1")
        record.request_line = record.request_line or head.line.decode("latin-1")
        faults = self._way.faults
        if faults.refusing:
            self._way.close(reset=True)
        elif faults.answering_502 and not passed:
            self._swallowing = True
            self._way.send("down", answer(502))
        else:
            self._expect(head.method)
            stripped = faults.stripping_upgrade and not passed
            self._way.send("up", head.without(b"upgrade", b"connection") if stripped else whole)

    def _expect(self, method: bytes) -> None:
        if method == b"CONNECT" or len(self._methods) >= _MAX_PIPELINED:
            self._give_up_http()
        else:
            self._methods.append(method)

    # -- from the server -------------------------------------------------------------------------------------

    def from_server(self, data: bytes) -> None:
        while data and self._mode is Mode.HTTP:
            size = self._responses.cut(data)
            self._take_response(data[:size])
            data = data[size:]
        if data:
            self._way.send("down", data)

    def _take_response(self, piece: bytes) -> None:
        if not self._answering:
            self._answering = True
            self._buffering = self._way.faults.buffer_bytes is not None
        try:
            self._responses.feed(piece)
        except NotHttp:
            self._give_up_http()
        else:
            self._follow_response()
        self._body += piece
        is_full = len(self._body) >= (self._way.faults.buffer_bytes or 0)
        if is_full or not self._buffering or not self._answering:
            self.release()

    def _follow_response(self) -> None:
        """Update the state after a piece that was fed."""
        responses = self._responses
        status = responses.head.status if responses.head is not None else 0
        if responses.headed and status == 101:
            self._mode, self._answering = Mode.UPGRADED, False
            self._methods.clear()
        elif responses.headed and self._methods and self._methods[0] == b"HEAD" and status >= 200:
            responses.restart()
            responses.ended = True
        if responses.ended and self._mode is Mode.HTTP:
            self._answering = False
            if status >= 200 and self._methods:  # 100 and 103 come before the answer
                self._methods.popleft()

    def release(self) -> None:
        """Pass on the part of a response that was held back."""
        body, self._body = bytes(self._body), bytearray()
        if body:
            self._way.send("down", body)

    def heal(self) -> None:
        """Stop holding the current response back."""
        self._buffering = False
        self.release()

    def _give_up_http(self) -> None:
        self._mode = Mode.OPAQUE
        self._methods.clear()
        self._buffering = self._answering = False
        self.release()
