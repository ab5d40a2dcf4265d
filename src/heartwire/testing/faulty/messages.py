"""Finds where the HTTP/1 messages of one direction begin and end.

The parser is httptools', which reports no positions. So it is fed pieces that end wherever a message can end:
after a blank line, or after `Content-Length` bytes. Bytes are cut, never changed.
"""

from typing import Any, Final, NamedTuple

import httptools

__all__ = ["Head", "Messages", "NotHttp"]

_BLANK_LINE: Final = b"\r\n\r\n"


class NotHttp(Exception):
    """These bytes are not HTTP/1 but another protocol, or TLS."""


class Head(NamedTuple):
    """The head of a request or a response; fields of the other one are empty."""

    method: bytes
    target: bytes
    version: str
    headers: tuple[tuple[bytes, bytes], ...]
    status: int

    @property
    def line(self) -> bytes:
        """A request's first line."""
        return b"%b %b HTTP/%b" % (self.method, self.target, self.version.encode())

    def without(self, *names: bytes) -> bytes:
        """A request's head as bytes, without these headers (lower case)."""
        kept = [b"%b: %b" % (name, value) for name, value in self.headers if name.lower() not in names]
        return b"\r\n".join([self.line, *kept]) + _BLANK_LINE


class Messages:
    """Reads one direction: cut data with `cut`, `feed` the pieces one by one, then look at the attributes.

    Attributes:
        head: of the current message; None until it is complete.
        headed: the last piece completed a head.
        ended: the last piece completed a message.
    """

    def __init__(self, *, of_requests: bool) -> None:
        self.head: Head | None = None
        self.headed = self.ended = False
        self._of_requests = of_requests
        self._tail = b""
        self.restart()

    def restart(self) -> None:
        """Expect a new message, whatever the last head announced: a response to HEAD has no body."""
        kind = httptools.HttpRequestParser if self._of_requests else httptools.HttpResponseParser
        self._parser: Any = kind(self)
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._left = 0

    def cut(self, data: bytes) -> int:
        """How many of these bytes to feed at once: no message ends before the last of them."""
        if self._left:
            self._tail = b""
            return min(self._left, len(data))
        found = (self._tail + data).find(_BLANK_LINE)  # it may have begun in the last piece
        if found < 0:
            self._tail = (self._tail + data)[-3:]
            return len(data)
        size = found + len(_BLANK_LINE) - len(self._tail)
        self._tail = b""
        return size

    def feed(self, piece: bytes) -> None:
        """Read one piece. Raises `NotHttp`."""
        if self.ended:
            self.head = None
        self.headed = self.ended = False
        self._left = max(0, self._left - len(piece))
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            # HTTP still follows, unless the server agrees; the next message needs a fresh parser.
            self.ended = True
            self.restart()
        except httptools.HttpParserError as error:
            raise NotHttp(str(error)) from error

    # -- called by the parser --------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._target, self._headers, self._left = b"", [], 0

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head is not None:
            return  # a trailer
        self._headers.append((name, value))
        if name.lower() == b"content-length" and value.isdigit():
            self._left = int(value)

    def on_headers_complete(self) -> None:
        method = self._parser.get_method() if self._of_requests else b""
        status = 0 if self._of_requests else self._parser.get_status_code()
        version = self._parser.get_http_version()
        self.head = Head(method, self._target, version, tuple(self._headers), status)
        self.headed = True

    def on_message_complete(self) -> None:
        self.ended = True
        self._left = 0
