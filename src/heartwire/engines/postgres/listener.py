"""The listening connection: the store's hints of what has changed, and mail.

A transaction that appends sends one notification, of as many hints as it has streams: ``tag:head``. A tag is
a digest of the channel's name, so that a stream is known before it has a row. ``-1`` for a head: read it,
whatever it says. ``@number:receiver``: mail. ``*``: anything may have changed.
"""

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any, Final

from heartwire.engines.calls import Room
from heartwire.engines.postgres.driver import Connection
from heartwire.engines.postgres.lane import Lane
from heartwire.engines.postgres.opening import Store
from heartwire.engines.postgres.reader import Reader
from heartwire.engines.watches import Watches
from heartwire.types import Channel

__all__ = ["Listener", "Poller", "Tags"]

_POLL_S: Final = 0.1
_HEADS: Final = 1000
_STREAMS: Final = """
SELECT s.channel, heartwire.epoch_now(s, s.channel, m), s.head, s.removed
FROM heartwire.streams s, heartwire.meta m WHERE s.channel = ANY ($1)"""
_LETTERS: Final = """
SELECT id, receiver, channel FROM heartwire.mail
WHERE time_ms > heartwire.clock_ms(NULL) - 10000 ORDER BY id"""


class Tags:
    """The watched channels by their tags."""

    def __init__(self) -> None:
        self._channels: dict[str, dict[Channel, None]] = {}

    def add(self, channel: Channel) -> None:
        self._channels.setdefault(_tag(channel), {})[channel] = None

    def remove(self, channel: Channel) -> None:
        tag = _tag(channel)
        channels = self._channels.get(tag, {})
        channels.pop(channel, None)
        if not channels:
            self._channels.pop(tag, None)

    def __getitem__(self, tag: str) -> tuple[Channel, ...]:
        return tuple(self._channels.get(tag, ()))


def _tag(channel: Channel) -> str:
    """As the function ``tag`` of the schema."""
    return hashlib.md5(channel.encode(), usedforsecurity=False).hexdigest()[:12]


class Listener(Lane):
    """See the module.

    Args:
        heard: called with everything that comes.
        anything: called where anything may have changed.
    """

    def __init__(
        self,
        store: Store,
        room: Room,
        clock: Callable[[], float],
        chance: Callable[[], float],
        *,
        node: str,
        tags: Tags,
        watches: Watches,
        reader: Reader,
        heard: Callable[[], None],
        anything: Callable[[], None],
    ) -> None:
        super().__init__(store, room, clock, chance)
        self._node = node
        self._tags, self._watches, self._reader = tags, watches, reader
        self._heard, self._anything = heard, anything

    async def _open(self) -> Connection:
        connection = await self._store.connect(listens=True)
        await connection.add_listener(self._store.schema, self._hear)
        return connection

    def _hear(self, connection: Any, pid: int, channel: str, payload: Any) -> None:
        self._heard()
        for hint in payload.split(","):
            what, _, value = hint.partition(":")
            if what == "*":
                self._anything()
            elif what.startswith("@"):
                if value in ("*", self._node) or self._tags[value]:
                    self._reader.fetch(int(what[1:]))
            elif what:
                self._changed(self._tags[what], int(value))

    def _changed(self, channels: tuple[Channel, ...], head: int) -> None:
        for channel in channels:
            watch = self._watches.get(channel)
            if watch is not None and (head < 0 or not watch.is_confirmed or watch.offset < head):
                self._reader.change(channel)

    async def _turn(self, connection: Connection) -> None:
        """It has no calls."""


class Poller(Listener):
    """What a listener does, behind a pooler that does not let connections listen: it asks ten times a second
    for what notifications would have said."""

    _seen: dict[Channel, tuple[Any, ...]]
    _letters: set[int]

    async def _open(self) -> Connection:
        connection = await self._store.connect()
        self._seen = {}
        self._letters = {row[0] for row in await connection.fetch(self._store.sql(_LETTERS))}
        return connection

    def _has_work(self) -> bool:
        return True

    async def _turn(self, connection: Connection) -> None:
        await asyncio.sleep(_POLL_S)
        self._heard()
        channels = self._watches.channels()
        seen: dict[Channel, tuple[Any, ...]] = {}
        for at in range(0, len(channels), _HEADS):
            rows = await connection.fetch(self._store.sql(_STREAMS), channels[at : at + _HEADS])
            seen.update((channel, (epoch, head, removed)) for channel, epoch, head, removed in rows)
        for channel, place in seen.items():
            if self._seen.get(channel) != place:
                self._reader.change(channel)
        self._seen = seen
        rows = await connection.fetch(self._store.sql(_LETTERS))
        for id, receiver, channel in rows:
            is_wanted = receiver in (None, self._node) and (channel is None or channel in self._watches)
            if is_wanted and id not in self._letters:  # nor sent before it was there
                self._reader.fetch(id)
        self._letters = {row[0] for row in rows}
