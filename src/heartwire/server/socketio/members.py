"""A client in a namespace, and an entry on its way to it."""

import asyncio
import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from heartwire.dialects.socketio.engine_io import Parcel
from heartwire.dialects.socketio.packet import with_offset
from heartwire.dialects.socketio.session import NamespaceSocket
from heartwire.server.socketio.entries import CALL, CLOSE_ROOM, EMIT, Entry, Room, unpacked
from heartwire.types import Channel, Position, Publication

__all__ = ["WHOLE", "Member", "Routed", "routed"]


log = logging.getLogger("heartwire")


class Routed:
    """An entry with its place in the stream.

    Attributes:
        position: right after it; for one that is in no stream, where that was then (``None``: there is none).
        is_kept: whether it is in the stream.
        size: about its bytes.
    """

    __slots__ = ("_marked", "entry", "is_kept", "parcel", "position", "size")

    def __init__(self, entry: Entry, position: Position | None, size: int, *, is_kept: bool) -> None:
        self.entry = entry
        self.position = position
        self.size = size
        self.is_kept = is_kept
        self.parcel = Parcel(entry.messages)
        self._marked: Parcel | None = None

    @property
    def marked(self) -> Parcel:
        """The event with its position, for clients that can be recovered. Made once."""
        if self._marked is None:
            self._marked = with_offset(self.entry.messages, str(self.position))
        return self._marked


def routed(publication: Publication) -> Routed:
    """A publication as an entry. One that is none, which another program published, is for nobody."""
    try:
        entry = unpacked(publication.data)
    except msgspec.DecodeError as error:
        log.error("%s at %s is not an event: %s", publication.channel, publication.position, error)
        entry = _NOBODYS
    return Routed(entry, publication.position, len(publication.data), is_kept=True)


_NO_ROOM: Final = -1

_NOTHING: Final[Mapping[Channel, Any]] = MappingProxyType({})

_NOBODYS: Final = Entry(EMIT, [])


class Member:
    """One client in the namespace.

    Attributes:
        rooms: those it is in, with the offset of the stream where it entered.
        session: the program's own about it.
        is_live: whether it has got all up to the router's position.
        position: its own, while it is not live.
        has_offsets: whether its events carry their position.
        is_gone: whether it has left.
        commanded: entries of the stream up to this offset, other than events, have been carried out for it.
        since: where the stream was when it returned: it is not called for what was asked before.
        late: what is sent once it is live, and is in no stream, with its bytes.
        recovery: belongs to `recovery`.
        followed: belongs to `following`.
        is_recovered: whether it was here before.
    """

    __slots__ = (
        "_turned",
        "commanded",
        "engine",
        "followed",
        "has_offsets",
        "is_gone",
        "is_live",
        "is_recovered",
        "late",
        "late_bytes",
        "position",
        "recovery",
        "rooms",
        "session",
        "sid",
        "since",
        "socket",
    )

    def __init__(self, socket: NamespaceSocket, *, has_offsets: bool) -> None:
        self.socket = socket
        self.sid = socket.sid
        self.engine = socket.client.engine
        self.rooms: dict[Room, int] = {}
        self.session: Any = None
        self.is_live = self.is_gone = self.is_recovered = False
        self.position: Position | None = None
        self.commanded = self.since = 0
        self.has_offsets = has_offsets
        self.late: list[Parcel | Routed] | None = None
        self.late_bytes = 0
        self.recovery: Any = None
        self.followed = _NOTHING
        self._turned: asyncio.Future[None] | None = None
        socket.context = self

    def parcel(self, one: Routed) -> Parcel:
        """An event as this client gets it."""
        return one.marked if self.has_offsets else one.parcel

    async def lives(self) -> bool:
        """Wait until it is live or gone. Returns whether it is live."""
        while not self.is_live and not self.is_gone:
            if self._turned is None:
                self._turned = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._turned)
        return self.is_live

    def turn(self) -> None:
        """It has become live, or has gone."""
        turned, self._turned = self._turned, None
        if turned is not None and not turned.done():
            turned.set_result(None)

    def obeys(self, one: Routed) -> bool:
        """Whether an entry of the stream, other than an event, is for it and still to be carried out."""
        entry, position = one.entry, one.position
        if entry.kind == EMIT or position is None or position.offset <= self.commanded:
            return False
        names = entry.rooms or ()
        if entry.kind == CLOSE_ROOM:
            return any(room in self.rooms for room in names)
        if entry.kind == CALL:
            return position.offset > self.since and any(room in self.rooms for room in names)
        return self.sid in names

    def wants(self, one: Routed) -> bool:
        """Whether an entry of the stream is an event for it."""
        entry = one.entry
        if entry.kind != EMIT or self.sid in entry.skip:
            return False
        if entry.rooms is None:
            return True
        assert one.position is not None
        offset = one.position.offset
        return any(_NO_ROOM < self.rooms.get(room, _NO_ROOM) < offset for room in entry.rooms)


class _Whole:
    """Publications as they are, in the order of the stream."""

    def encode(self, publication: Publication) -> Publication:
        return publication

    def join(self, frames: list[Any], last: Publication) -> list[Publication]:
        return frames

    def joined(self, channel: Channel, position: Position, *, recovered: bool) -> tuple[Position, bool]:
        return position, recovered

    def ended(self, end: Publication) -> None:
        return None


WHOLE: Final = _Whole()
"""The wire format of a router: publications as they are."""
