"""What is published in the stream of a namespace: events for rooms, and what other nodes are to do.

In: entries. Out: the bytes of a publication, and back.
"""

from typing import Any, Final

import msgspec

__all__ = [
    "CALL",
    "CLOSE_ROOM",
    "DISCONNECT",
    "EMIT",
    "ENTER",
    "LEAVE",
    "NAMESPACE",
    "Entry",
    "Room",
    "packed",
    "unpacked",
]

NAMESPACE: Final = "socketio"
"""The hub's namespace of the streams, and of what is kept of clients."""

Room = str | int
"""The name of a room."""

EMIT: Final = 0
CALL: Final = 1
ENTER: Final = 2
LEAVE: Final = 3
CLOSE_ROOM: Final = 4
DISCONNECT: Final = 5


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """One entry.

    Attributes:
        kind: `EMIT`; for one client, wherever it is: `CALL` (an event that is to be answered), `ENTER`,
            `LEAVE`, `DISCONNECT`; `CLOSE_ROOM`.
        rooms: whom it is for; ``None``: all in the namespace.
        skip: the clients that it is not for.
        messages: the event's, see `Parcel`.
        extra: `ENTER`, `LEAVE`: the room. `CALL`: the node that waits for the answer, and its number for it.
    """

    kind: int
    rooms: list[Room] | None
    skip: list[str] = []
    messages: list[tuple[bool, bytes]] = []
    extra: Any = None


_decoder: Final = msgspec.msgpack.Decoder(Entry)

packed: Final = msgspec.msgpack.Encoder().encode


def unpacked(data: bytes) -> Entry:
    """Read an entry. Raises ``msgspec.DecodeError`` for what none was packed as."""
    return _decoder.decode(data)
