"""Packets and payloads of Engine.IO v4, the errors of its HTTP requests, and the order of their checks.

In: query parameters and bodies of requests, messages of WebSockets. Out: packets; bytes to send. Pure.
Source: the protocol text (v4), and what its reference server answers where the text is silent.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec

__all__ = [
    "ERRORS",
    "Ask",
    "BadPacket",
    "EngineSettings",
    "Fault",
    "Packet",
    "Parcel",
    "TransportName",
    "error_body",
    "open_packet",
    "packet_of",
    "packets_of",
    "problem_of",
]

TransportName = Literal["polling", "websocket"]

VERSION: Final = "4"
SEPARATOR: Final = b"\x1e"

OPEN: Final = b"0"
CLOSE: Final = b"1"
PING: Final = b"2"
PONG: Final = b"3"
MESSAGE: Final = b"4"
UPGRADE: Final = b"5"
NOOP: Final = b"6"
_KINDS: Final = frozenset(b"0123456")

_LINES: Final = b"\r\n"
"""Java's client ends lines of base64, as the encoder of its platform does."""

PROBE: Final = b"2probe"
PROBED: Final = b"3probe"

UNKNOWN_TRANSPORT: Final = 0
UNKNOWN_SID: Final = 1
BAD_METHOD: Final = 2
BAD_REQUEST: Final = 3
FORBIDDEN: Final = 4
BAD_VERSION: Final = 5

ERRORS: Final[dict[int, tuple[int, str]]] = {
    UNKNOWN_TRANSPORT: (400, "Transport unknown"),
    UNKNOWN_SID: (400, "Session ID unknown"),
    BAD_METHOD: (400, "Bad handshake method"),
    BAD_REQUEST: (400, "Bad request"),
    FORBIDDEN: (403, "Forbidden"),
    BAD_VERSION: (400, "Unsupported protocol version"),
}
"""HTTP status and message by the code of the protocol."""


class EngineSettings(NamedTuple):
    """What all sessions of a server share.

    Attributes:
        ping_interval_s: between two pings, > ``ping_timeout_s``.
        ping_timeout_s: within which a ping is answered.
        max_payload_bytes: of a POST or a WebSocket message.
        upgrade_timeout_s: within which a probe becomes the transport.
        connect_timeout_s: within which a client has to join a namespace.
        transports: those that are spoken; clients begin with any of them.
        allow_upgrades: whether polling may become WebSocket.
        compression_threshold: answers to polls of so many bytes are compressed; ``None``: none are.
        cookie: its name and attributes, where clients get their sid as a cookie, for balancers that need one.
    """

    ping_interval_s: float = 25
    ping_timeout_s: float = 20
    max_payload_bytes: int = 1_000_000
    upgrade_timeout_s: float = 10
    connect_timeout_s: float = 45
    transports: tuple[TransportName, ...] = ("polling", "websocket")
    allow_upgrades: bool = True
    compression_threshold: int | None = 1024
    cookie: tuple[str, dict[str, Any]] | None = None


class BadPacket(ValueError):
    """Bytes that no packet is written as; its text says why."""


class Fault(Exception):
    """A request that is refused, with the code of the protocol, and a message in place of the table's."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message or ERRORS[code][1])
        self.code = code

    @property
    def status(self) -> int:
        """The HTTP status."""
        return ERRORS[self.code][0]


def error_body(code: int, message: str = "") -> bytes:
    """The body of a refused request."""
    return msgspec.json.encode({"code": code, "message": message or ERRORS[code][1]})


class Packet(NamedTuple):
    """One packet. A binary message has no kind on the wire; here it is a `MESSAGE` that is not text."""

    kind: bytes
    data: bytes
    is_text: bool = True


def packet_of(is_text: bool, data: bytes) -> Packet:
    """Read a WebSocket message. Raises `BadPacket`."""
    if not is_text:
        return Packet(MESSAGE, data, False)
    if not data or data[0] not in _KINDS:
        raise BadPacket(f"a packet begins with a digit from 0 to 6, not with {data[:1]!r}")
    return Packet(data[:1], data[1:])


def packets_of(body: bytes) -> list[Packet]:
    """Read the body of a POST. Raises `BadPacket`; nothing of the body is then to be used."""
    packets = []
    for part in body.split(SEPARATOR):
        if part[:1] == b"b":
            try:
                text = part[1:].translate(None, _LINES)
                packets.append(Packet(MESSAGE, base64.b64decode(text, validate=True), False))
            except binascii.Error:
                raise BadPacket("a binary message is written in base64 after its b") from None
        else:
            packets.append(packet_of(True, part))
    try:
        body.decode()
    except UnicodeDecodeError:
        raise BadPacket("a payload is UTF-8") from None
    return packets


def open_packet(sid: str, settings: EngineSettings, *, is_polling: bool) -> bytes:
    """The handshake's answer: exactly these five keys, times in milliseconds."""
    can_upgrade = is_polling and settings.allow_upgrades and "websocket" in settings.transports
    return OPEN + msgspec.json.encode(
        {
            "sid": sid,
            "upgrades": ["websocket"] if can_upgrade else [],
            "pingInterval": round(settings.ping_interval_s * 1000),
            "pingTimeout": round(settings.ping_timeout_s * 1000),
            "maxPayload": settings.max_payload_bytes,
        }
    )


class Parcel:
    """Messages that leave together, in order and with nothing between them: one Socket.IO packet and its
    attachments, or one packet of Engine.IO.

    Args:
        texts: messages as they are on a WebSocket: whether each is text, and its bytes.

    Attributes:
        made: the payloads of it that were made, by what makes them: encoded once, sent to many.
    """

    __slots__ = ("made", "messages")

    def __init__(self, messages: list[tuple[bool, bytes]]) -> None:
        self.messages = messages
        self.made: dict[object, object] = {}

    @property
    def size(self) -> int:
        """About the bytes it takes on the wire."""
        return sum([len(data) for _, data in self.messages])

    @property
    def polled(self) -> bytes:
        """It as it is in the answer to a poll."""
        made = self.made.get(Parcel)
        if made is None:
            made = self.made[Parcel] = SEPARATOR.join(
                data if is_text else b"b" + base64.b64encode(data) for is_text, data in self.messages
            )
        return made  # type: ignore[return-value]


class Ask(NamedTuple):
    """What a request to the address asks for.

    Attributes:
        transport, sid, version: its query parameters; "" where they are not there.
        method: of HTTP, in capitals.
        is_upgrade: whether it is a WebSocket handshake.
    """

    transport: str
    sid: str
    version: str
    method: str
    is_upgrade: bool

    @classmethod
    def of(cls, query: Iterable[tuple[str, str]], method: str, *, is_upgrade: bool) -> "Ask":
        """Read one. The first of several parameters of a name counts."""
        given: Mapping[str, str] = dict(reversed(list(query)))
        return cls(given.get("transport", ""), given.get("sid", ""), given.get("EIO", ""), method, is_upgrade)


def problem_of(ask: Ask, settings: EngineSettings) -> int | None:
    """What is wrong with a request, before its session is looked for; ``None``: nothing.

    The order is the reference server's; whether the program lets the client in comes right before the
    version, which is the caller's to ask: see `check_version`.
    """
    if ask.transport not in settings.transports:
        return UNKNOWN_TRANSPORT
    if ask.sid:
        return BAD_REQUEST if ask.transport == "websocket" and not ask.is_upgrade else None
    if ask.method != "GET":
        return BAD_METHOD
    if ask.transport == "websocket" and not ask.is_upgrade:
        return BAD_REQUEST
    return None


def check_version(ask: Ask) -> None:
    """Raises `Fault` (`BAD_VERSION`) for a handshake of another protocol."""
    if ask.version != VERSION:
        raise Fault(BAD_VERSION)
