"""What the store process and the nodes attached to it send each other: four bytes of length, a msgpack array.

In: values. Out: bytes, and back. The first item of an array is a `Call` (node to store) or a `Tell` (store to
node), the second of a call that is answered is its number. Both ends are of one installation: `VERSION` is
compared, nothing is negotiated.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Any, Final

import msgspec

from heartwire.core.switchboard import ReadResult
from heartwire.engines.contract import Recorded, Retention, StreamWrite
from heartwire.errors import EngineError, EngineUnavailable, EngineUncertain
from heartwire.types import EARLIEST, NOW, Member, Message, Position, Publication, Publisher, Start

__all__ = [
    "MAX_FRAME_BYTES",
    "MOST",
    "VERSION",
    "Call",
    "Frames",
    "Tell",
    "change_of",
    "change_parts",
    "error_of",
    "keep_parts",
    "member_of",
    "member_parts",
    "origin_of",
    "packed",
    "publication_of",
    "publication_parts",
    "publisher_of",
    "publisher_parts",
    "read_result_of",
    "read_result_parts",
    "recorded_of",
    "start_of",
    "start_part",
]

VERSION: Final = 3
MAX_FRAME_BYTES: Final = 256 * 1024 * 1024

MOST: Final = 2**62
"""What stands for more: an integer of msgpack, and of stores."""

_SERIAL_BITS: Final = 40

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Any]).decode


class Call(IntEnum):
    """Node to store."""

    HELLO = (
        0  # 0, version, node, failures seen, channels watched; members and users' clients as long as it lives
    )
    APPEND = (
        1  # number, failures seen, channel, data, is_text, publisher, serial, size, ttl_s, key, key_ttl_s
    )
    READ = 2  # number, channel, start, size, ttl_s, limit, max_bytes
    REMOVE = 3  # number, channel
    HEADS = 4  # number, channels
    MEMBERS = 5  # number, channel
    WATCH = 6  # channel
    UNWATCH = 7  # channel
    LEASE = 8  # channel, member, ttl_s; None: as long as the node
    RELEASE = 9  # channel, client
    ANNOUNCE = 10  # channel, "join" or "leave", member
    SWEEP = 11  # number, [channel, size, ttl_s] of each channel that the node has used
    NODES = 12  # number
    SEND = 13  # node or None, body
    ADMIT = 14  # number, user, client, limit
    DISMISS = 15  # user, client
    RECORD = 16  # number, channel
    WRITE = 17  # number, channel, its change
    TOUCH = 18  # channel


class Tell(IntEnum):
    """Store to node."""

    ANSWER = 0  # number, value
    FAILURE = 1  # number, name of the code, message
    PUBLICATION = 2  # its parts
    REMOVED = 3  # channel, position
    MEMBER = 4  # channel, "join" or "leave", member
    MAIL = 5  # body
    WELCOME = 6  # the node's number, the store's life, whether it loses all with that
    REFUSED = 7  # message


def packed(*parts: Any) -> bytes:
    """Return one frame."""
    body = _encode(parts)
    return len(body).to_bytes(4, "big") + body


class Frames:
    """Splits what comes in."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[list[Any]]:
        """The frames that are complete with ``data``. Raises ``ValueError`` for what is none."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= 4:
            size = int.from_bytes(buffer[at : at + 4], "big")
            if size > MAX_FRAME_BYTES:
                raise ValueError(f"a frame of {size} bytes")
            if len(buffer) - at < 4 + size:
                break
            yield _decode(buffer[at + 4 : at + 4 + size])
            at += 4 + size
        del buffer[:at]


# -- values --------------------------------------------------------------------------------------------------


def publication_parts(publication: Publication) -> tuple[Any, ...]:
    """Its fields as an array has them."""
    return (
        publication.channel,
        publication.epoch,
        publication.offset,
        publication.data,
        publication.is_text,
        publisher_parts(publication.publisher),
        publication.time_ms,
        publication.origin,
    )


def publisher_parts(who: Publisher | None) -> tuple[Any, ...] | None:
    """Its fields as an array has them."""
    return None if who is None else (who.user, who.client, who.info)


def publisher_of(parts: list[Any] | None) -> Publisher | None:
    """Return what an array has."""
    return None if parts is None else Publisher(*parts)


def publication_of(parts: list[Any], *, node: int) -> Publication:
    """Return what an array has; the origin counts on the node that it is of."""
    channel, epoch, offset, data, is_text, who, time_ms, origin = parts
    by, serial = divmod(origin, 1 << _SERIAL_BITS)
    mine = serial if by == node else 0
    return Publication(channel, epoch, offset, data, is_text, publisher_of(who), time_ms, mine)


def origin_of(node: int, serial: int) -> int:
    """The origin that only the node of this number takes for a link of its own; 0: nobody's."""
    return node << _SERIAL_BITS | serial if serial else 0


def keep_parts(keep: Retention) -> tuple[int, float]:
    """Its fields as an array has them."""
    return min(keep.history_size, MOST), keep.history_ttl_s


def member_of(parts: list[Any]) -> Member:
    """Return what an array has."""
    return Member(*parts)


def member_parts(member: Member) -> tuple[Any, ...]:
    """Its fields as an array has them."""
    return member.client, member.user, member.info, member.chan_info


def start_part(start: Start) -> Any:
    """A start as an array has it. Clients choose positions, and integers of msgpack have an end."""
    if isinstance(start, Position):
        return start.epoch, min(start.offset, MOST)
    return start is EARLIEST


def start_of(part: Any) -> Start:
    """Return what an array has."""
    if isinstance(part, list):
        return Position(*part)
    return EARLIEST if part else NOW


def read_result_parts(result: ReadResult) -> tuple[Any, ...]:
    """Its fields as an array has them."""
    return (
        tuple(result.start),
        [publication_parts(publication) for publication in result.publications],
        tuple(result.head),
        result.recovered,
    )


def read_result_of(parts: list[Any]) -> ReadResult:
    """Return what an array has. What was read came in by nobody's link."""
    start, publications, head, recovered = parts
    found = [publication_of(one, node=0) for one in publications]
    return ReadResult(Position(*start), found, Position(*head), recovered)


def change_parts(change: StreamWrite) -> tuple[Any, ...]:
    """Its fields as an array has them."""
    messages = [
        (one.data, one.is_text, publisher_parts(one.publisher), one.origin) for one in change.messages
    ]
    return change._replace(messages=messages)  # type: ignore[arg-type]


def change_of(parts: list[Any], *, node: int) -> StreamWrite:
    """Return what an array has; the origins are of that node."""
    change = StreamWrite(*parts)
    messages = [
        Message(data, is_text, publisher_of(who), origin_of(node, serial))
        for data, is_text, who, serial in parts[3]
    ]
    return change._replace(messages=messages)


def recorded_of(parts: list[Any]) -> Recorded:
    """Return what an array has."""
    recorded = Recorded(*parts)
    return recorded._replace(head=Position(*recorded.head))


def error_of(name: str, message: str) -> EngineError:
    """The error that the store reported."""
    for kind in (EngineUnavailable, EngineUncertain):
        if kind.code.name == name:
            return kind(message)
    return EngineError(message)
