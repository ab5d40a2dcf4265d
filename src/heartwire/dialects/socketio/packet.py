"""Packets of Socket.IO v5: text with attachments, from and to values.

In: text and binary messages of Engine.IO, in order; values to send. Out: packets, checked; parcels. Pure.
Source: the protocol text (v5); bounds as the reference parser has them.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from heartwire.dialects.socketio.engine_io import MESSAGE, BadPacket, Parcel

__all__ = ["BINARY", "RESERVED", "Decoder", "HalfRead", "Json", "Packet", "encode", "with_id", "with_offset"]

CONNECT: Final = 0
DISCONNECT: Final = 1
EVENT: Final = 2
ACK: Final = 3
CONNECT_ERROR: Final = 4
BINARY_EVENT: Final = 5
BINARY_ACK: Final = 6

BINARY: Final = (bytes, bytearray, memoryview)

RESERVED: Final = frozenset(
    ("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener")
)
"""Names that no client may give an event."""

MAX_ID_DIGITS: Final = 16
MAX_NAMESPACE_BYTES: Final = 512
_DIGITS: Final = frozenset(b"0123456789")
_PLACEHOLDER: Final = "_placeholder"
_PLAIN: Final = frozenset((str, int, float, bool, type(None)))


class Json(NamedTuple):
    """How values are written: ``dumps`` returns text or UTF-8, ``loads`` raises ``ValueError``."""

    dumps: Callable[[Any], str | bytes] = msgspec.json.encode
    loads: Callable[[Any], Any] = msgspec.json.decode


class Packet(NamedTuple):
    """One packet, as it came in, with its attachments in their places.

    Attributes:
        kind: `CONNECT` to `ACK`; what has attachments is an `EVENT` or an `ACK` too.
        id: of the acknowledgement; ``None``: none is wanted.
    """

    kind: int
    namespace: str
    id: int | None
    data: Any


HalfRead: TypeAlias = tuple[Packet, int, list[bytes]] | None
"""A packet whose attachments have not all come. See `Decoder.half`."""


class Decoder:
    """Reads what one client sends.

    Args:
        max_attachments: of one packet.

    Promises: holds at most one packet, with at most so many attachments.
    """

    __slots__ = ("_attachments", "_json", "_max_attachments", "_waiting", "_wanted")

    def __init__(self, json: Json, *, max_attachments: int) -> None:
        self._json = json
        self._max_attachments = max_attachments
        self._waiting: Packet | None = None
        self._wanted = 0
        self._attachments: list[bytes] | None = None

    def feed(self, is_text: bool, data: bytes) -> Packet | None:
        """Take a message; returns the packet that it completes, if any. Raises `BadPacket`: the connection
        has to end."""
        if not is_text:
            return self._attach(data)
        if self._waiting is not None:
            raise BadPacket("text came where an attachment was awaited")
        if data[:2] == b"2[":  # an event of the main namespace, most often
            return _checked(Packet(EVENT, "/", None, _loaded(data[1:], self._json.loads)))
        packet, count = _parsed(data, self._json.loads)
        if count > self._max_attachments:
            raise BadPacket(f"{count} attachments are more than {self._max_attachments} (max_attachments)")
        if count:
            self._waiting, self._wanted, self._attachments = packet, count, []
            return None
        return _checked(packet)

    @property
    def half(self) -> HalfRead:
        """The packet that awaits attachments, how many there will be, and those that came; ``None``: none."""
        return None if self._waiting is None else (self._waiting, self._wanted, self._attachments or [])

    @half.setter
    def half(self, half: HalfRead) -> None:
        if half is not None:
            packet, self._wanted, self._attachments = half
            self._waiting = Packet(*packet)

    def _attach(self, data: bytes) -> Packet | None:
        packet, attachments = self._waiting, self._attachments
        if packet is None or attachments is None:
            raise BadPacket("an attachment came where none was awaited")
        attachments.append(data)
        if len(attachments) < self._wanted:
            return None
        self._waiting = self._attachments = None
        try:
            return _checked(packet._replace(data=_filled(packet.data, attachments)))
        except RecursionError:  # the JSON reader goes deeper than Python does
            raise BadPacket("the payload is nested too deeply") from None


def _parsed(text: bytes, loads: Callable[[Any], Any]) -> tuple[Packet, int]:
    """Read the text of a packet, and how many attachments follow."""
    kind = text[0] - 48 if text else -1
    if not 0 <= kind <= BINARY_ACK:
        raise BadPacket(f"{text[:1]!r} is not a packet type")
    at, count = 1, 0
    if kind >= BINARY_EVENT:
        digits, dash, _ = text[1:12].partition(b"-")
        if not (dash and digits.isdigit()):
            raise BadPacket("a binary packet begins with the number of its attachments")
        count, at = int(digits), 2 + len(digits)
        kind -= 3
    namespace = "/"
    if text[at : at + 1] == b"/":
        end = text.find(b",", at)
        name = text[at:] if end < 0 else text[at:end]
        at = len(text) if end < 0 else end + 1
        if len(name) > MAX_NAMESPACE_BYTES:
            raise BadPacket(f"a namespace has at most {MAX_NAMESPACE_BYTES} bytes")
        try:
            namespace = name.decode().partition("?")[0]
        except UnicodeDecodeError:
            raise BadPacket("a namespace is UTF-8") from None
    start = at
    while at < len(text) and text[at] in _DIGITS:
        at += 1
    if at - start > MAX_ID_DIGITS:
        raise BadPacket(f"an acknowledgement's id has at most {MAX_ID_DIGITS} digits")
    id = int(text[start:at]) if at > start else None
    data = _loaded(text[at:], loads) if at < len(text) else None
    return Packet(kind, namespace, id, data), count


def _loaded(text: bytes, loads: Callable[[Any], Any]) -> Any:
    try:
        return loads(text)
    except (ValueError, RecursionError) as error:
        raise BadPacket(f"the payload is not JSON: {error}") from None


def _checked(packet: Packet) -> Packet:
    """Raises `BadPacket` where the payload is not what a client may send by this kind of packet."""
    kind, _, id, data = packet
    if kind == CONNECT:
        is_good = data is None or isinstance(data, dict)
    elif kind == DISCONNECT:
        is_good = data is None
    elif kind == EVENT:
        is_good = isinstance(data, list) and bool(data) and _is_name(data[0])
    else:
        is_good = kind == ACK and isinstance(data, list) and id is not None
    if not is_good:
        raise BadPacket(f"the payload does not fit a packet of type {kind}")
    return packet


def _is_name(name: object) -> bool:
    if isinstance(name, str):
        return name not in RESERVED
    return isinstance(name, int | float) and not isinstance(name, bool)


def _filled(data: Any, attachments: Sequence[bytes]) -> Any:
    """The value with its placeholders replaced. Raises `BadPacket` for one that names no attachment."""
    if isinstance(data, dict):
        if data.get(_PLACEHOLDER) is True:
            number = data.get("num")
            if type(number) is not int or not 0 <= number < len(attachments):
                raise BadPacket(f"placeholder {number!r} names no attachment")
            return attachments[number]
        return {key: _filled(value, attachments) for key, value in data.items()}
    if isinstance(data, list):
        return [_filled(value, attachments) for value in data]
    return data


def encode(kind: int, namespace: str, id: int | None, data: Any, json: Json) -> Parcel:
    """Write a packet. Bytes anywhere in ``data`` become attachments, in the order they are met.

    Raises what ``json.dumps`` raises for a value that it cannot write.
    """
    if id is None and namespace == "/" and kind == EVENT and not _holds_bytes(data):  # most often
        written = json.dumps(data)
        return Parcel([(True, b"42" + (written if isinstance(written, bytes) else written.encode()))])
    attachments: list[bytes] = []
    if _holds_bytes(data):
        data = _emptied(data, attachments)
    head = f"{kind}"
    if attachments:
        head = f"{kind + 3}{len(attachments)}-"
    if namespace != "/":
        head += namespace + ","
    if id is not None:
        head += str(id)
    text = b""
    if data is not None:
        written = json.dumps(data)
        text = written if isinstance(written, bytes) else written.encode()
    messages = [(True, MESSAGE + head.encode() + text)]
    messages += [(False, attachment) for attachment in attachments]
    return Parcel(messages)


def _holds_bytes(data: Any) -> bool:
    if type(data) in _PLAIN:
        return False
    if isinstance(data, dict):
        return any(map(_holds_bytes, data.values()))
    if isinstance(data, list | tuple):
        return not _PLAIN.issuperset(map(type, data)) and any(map(_holds_bytes, data))
    return isinstance(data, BINARY)


def _emptied(data: Any, attachments: list[bytes]) -> Any:
    """The value with placeholders for its bytes, which are put behind the attachments."""
    if isinstance(data, BINARY):
        attachments.append(bytes(data))
        return {_PLACEHOLDER: True, "num": len(attachments) - 1}
    if isinstance(data, dict):
        return {key: _emptied(value, attachments) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_emptied(value, attachments) for value in data]
    return data


def with_id(messages: Sequence[tuple[bool, bytes]], namespace: str, id: int) -> Parcel:
    """An event that is to be acknowledged by an id."""
    text = messages[0][1]
    begin = 0 if namespace == "/" else text.index(b",") + 1
    at = text.index(b"[", begin)
    return Parcel([(True, b"%b%d%b" % (text[:at], id, text[at:])), *messages[1:]])


def with_offset(messages: Sequence[tuple[bool, bytes]], offset: str) -> Parcel:
    """An event with one more string at the end of its array: its client then knows where it is."""
    text = messages[0][1]
    return Parcel([(True, b'%b,"%b"]' % (text[:-1], offset.encode())), *messages[1:]])
