"""The opening handshake of WebSocket, server's side, as bytes (RFC 6455 4.2). Pure.

In: a request, from `NativeSocket` and `HeartwireHttpProtocol`. Out: the error it deserves, or the answer.

Of 4.2.1 this checks GET, a key of 16 bytes and version 13; the HTTP server has checked ``Upgrade`` and
``Connection``. Of 4.2.2 it does 426 with the supported version, the accept value, and one of the offered
subprotocols or none. ``Origin`` is the application's decision.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final

from websockets.utils import accept_key

__all__ = [
    "KEY",
    "Head",
    "Refusal",
    "accepted",
    "choose_subprotocol",
    "handshake_problem",
    "parsed",
    "refused",
]

KEY: Final = "sec-websocket-key"

_KEY: Final = re.compile(r"[A-Za-z0-9+/]{22}==")
"""16 bytes in base64 (RFC 6455 4.1)."""

Refusal = tuple[int, list[tuple[bytes, bytes]], bytes]
"""An HTTP error in answer to a handshake: status, headers, body."""


def parsed(request: bytes) -> tuple[bytes, bytes, list[tuple[bytes, bytes]]]:
    """Return the method, target and headers (names in lower case) of a whole request without a body."""
    request_line, *lines = request[:-4].split(b"\r\n")
    method, target, _ = request_line.split(b" ")
    headers = [(name.lower(), value) for name, _, value in (line.partition(b": ") for line in lines)]
    return method, target, headers


def handshake_problem(headers: Callable[[str], str | None], *, is_get: bool = True) -> tuple[str, str] | None:
    """Return the error's name and message in an upgrade request; ``headers`` returns a header's value."""
    if not is_get:
        return "bad_request", "a WebSocket handshake is a GET request"
    version = headers("sec-websocket-version")
    if version != "13":
        return "upgrade_required", f"Sec-WebSocket-Version {version or 'is missing'}: this server speaks 13"
    if not _KEY.fullmatch(headers("sec-websocket-key") or ""):
        return "bad_request", "Sec-WebSocket-Key is missing or not 16 bytes in base64"
    return None


class Head:
    """The headers of a handshake. Where the key is cut out, those of many clients are the same.

    Attributes:
        headers: in order, names in lower case.
        given: the last value of each.
        is_forwarded: a proxy says whose request it is.
    """

    __slots__ = ("given", "headers", "is_forwarded")

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        self.headers = headers
        self.given = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        self.is_forwarded = any(name.startswith("x-forwarded-") for name in self.given)

    def all(self, name: str) -> list[str]:
        """Every value of a header that may stand on several lines (RFC 9110 5.3)."""
        last = self.given.get(name)
        if last is None:
            return []
        if len(self.given) == len(self.headers):
            return [last]
        wanted = name.encode()
        return [value.decode("latin-1") for key, value in self.headers if key == wanted]

    @property
    def subprotocols(self) -> list[str]:
        """Those that are offered, in order (RFC 6455 4.1)."""
        lines = self.all("sec-websocket-protocol")
        return [token.strip() for line in lines for token in line.split(",")]

    def with_key(self, key: bytes) -> list[tuple[bytes, bytes]]:
        """The headers with the key in its place."""
        return [(name, key if name == KEY.encode() else value) for name, value in self.headers]


def choose_subprotocol(offered: list[str], known: tuple[str, ...]) -> str | None:
    """Return the first offered subprotocol that is known; where ``known`` is empty, the first offered."""
    return next((name for name in offered if name and (not known or name in known)), None)


def accepted(
    key: bytes,
    *,
    subprotocol: str | None = None,
    extensions: str | None = None,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> bytes:
    """Return the answer that opens the connection, with further ``headers`` such as cookies."""
    answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    answer += f"Sec-WebSocket-Accept: {accept_key(key.decode('latin-1'))}\r\n"
    if subprotocol is not None:
        answer += f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
    if extensions is not None:
        answer += f"Sec-WebSocket-Extensions: {extensions}\r\n"
    for name, value in headers:
        answer += f"{name.decode('latin-1')}: {value.decode('latin-1')}\r\n"
    return f"{answer}\r\n".encode("latin-1")


def refused(answer: Refusal) -> bytes:
    """Return the bytes of an HTTP error, the last answer on its connection."""
    status, headers, body = answer
    lines = [b"HTTP/1.1 %d Refused" % status, *(b"%b: %b" % header for header in headers)]
    return b"\r\n".join([*lines, b"connection: close", b"", body])
