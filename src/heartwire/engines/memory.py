"""Streams in this process's memory: the fastest engine; the streams end with the process."""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Literal, Self
from urllib.parse import parse_qsl

from heartwire.engines.alone import check_alone
from heartwire.engines.clock import forward
from heartwire.engines.contract import (
    Clock,
    Feed,
    ReadResult,
    Recorded,
    Retention,
    StreamWrite,
    epoch_of,
    plan_read,
)
from heartwire.engines.leases import SWEPT_AT_ONCE, Leases
from heartwire.errors import ConfigError
from heartwire.types import NOW, Channel, Message, Position, Publication, Start

__all__ = ["MemoryEngine"]

_FORGET_AFTER_S: Final = 3600
_PUBLICATION_BYTES: Final = 200
"""What a publication takes beside its data."""
_SECOND_CHANCES: Final = 64

_position: Final = tuple.__new__  # a named tuple's own constructor is a Python function
_recorded: Final[Any] = tuple.__new__


class _Stream:
    """One stream. It is trimmed before each read, by each sweep, and when it is an eighth over its size."""

    __slots__ = ("epoch", "head", "items", "keys", "record", "spared_at", "trim_above", "used_at")

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.head = 0
        self.items: list[Publication] = []  # not a deque, of which an empty one takes 760 bytes
        self.keys: OrderedDict[str, tuple[int, float]] | None = None
        self.record: Recorded | None = None  # as its last write left it
        self.trim_above = 0
        self.used_at = 0.0  # by the last append or write, or by `touch`
        self.spared_at = 1  # its head when it was last put behind the other streams

    def trim(self, keep: Retention, now: float) -> int:
        """Drop what has ended. Returns how many bytes that was."""
        items = self.items
        gone = max(0, len(items) - keep.history_size)
        oldest_ms = keep.since_ms(now)
        while gone < len(items) and items[gone].time_ms < oldest_ms:
            gone += 1
        self.trim_above = keep.history_size * 9 // 8
        return self.drop(gone) if gone else 0

    def drop(self, count: int) -> int:
        """Drop the oldest. Returns how many bytes that was."""
        size = sum(len(publication.data) + _PUBLICATION_BYTES for publication in self.items[:count])
        del self.items[:count]
        return size

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.head)

    def has_ended(self, now: float) -> bool:
        """Whether the time of its record is over."""
        record = self.record
        return record is not None and bool(
            (record.ttl_s and self.used_at + record.ttl_s <= now)
            or (record.ends_ms and record.ends_ms <= now * 1000)
        )


class MemoryEngine(Leases):
    """`Engine` over lists. What is appended is kept while the process lives; no call returns a future.

    Args:
        max_bytes: of all streams, 200 counted for each publication beside its data. Over that the coldest
            streams are forgotten, and a stream that is alone drops its oldest. 512 MiB fit a small machine.
        max_channels: the same for their number; the default takes about 60 MB.
        is_apart: that another worker of the same server may have other streams is meant.
        forget_after_s: an empty stream that nobody follows is forgotten then. A stream that was forgotten
            comes back in another epoch.
    """

    forgets: Literal[True] = True
    """Its streams end with its process."""

    def __init__(
        self,
        *,
        clock: Clock = forward,
        max_bytes: int = 512 * 1024 * 1024,
        max_channels: int = 100_000,
        forget_after_s: float = _FORGET_AFTER_S,
        is_apart: bool = False,
    ) -> None:
        super().__init__(clock)
        self._is_apart = is_apart
        self._max_bytes, self._max_channels = max_bytes, max_channels
        self._forget_after_s = forget_after_s
        self._life = secrets.token_hex(8)
        self._streams: OrderedDict[Channel, _Stream] = OrderedDict()  # about the coldest first
        self._bytes = 0
        self._forgotten: dict[int, int] = {}  # how often in this life, by the hash of the channel
        self._notify, self._removed = Feed().publication, Feed().removed

    @classmethod
    def from_url(cls, url: str) -> Self:
        """``memory`` or ``memory://``; ``?max_bytes=N&max_channels=N&shared=no``. Raises `ConfigError`."""
        base, _, query = url.partition("?")
        if base not in ("memory", "memory://"):
            raise ConfigError("engine", url, "memory, sqlite:///FILE or sqlite:////ABSOLUTE/FILE")
        given = dict(parse_qsl(query, keep_blank_values=True))
        is_apart = given.get("shared") == "no"
        if is_apart:
            del given["shared"]
        if not given.keys() <= {"max_bytes", "max_channels"} or not all(map(_is_count, given.values())):
            raise ConfigError(
                "engine", url, "memory://, with ?max_bytes=N&max_channels=N (1 or more)&shared=yes at most"
            )
        bounds: dict[str, Any] = {name: int(value) for name, value in given.items()}
        return cls(is_apart=is_apart, **bounds)

    async def start(self, feed: Feed) -> None:
        """See `Engine.start`. Raises `ConfigError` in one of several workers: see `check_alone`."""
        if not self._is_apart:
            check_alone("memory://")
        self._notify, self._removed = feed.publication, feed.removed

    async def stop(self) -> None:
        """See `Engine.stop`."""

    def append(
        self,
        channel: Channel,
        message: Message,
        keep: Retention,
        *,
        key: str | None = None,
        key_ttl_s: float = 300,
    ) -> Position:
        try:
            stream = self._streams[channel]
        except KeyError:
            stream = self._streams[channel] = _Stream(self._epoch(channel))
            if len(self._streams) > self._max_channels:
                self._make_room(stream)
        # Functions kept in attributes are called by way of locals: Python 3.11 finds them quicker so.
        clock, notify = self._clock, self._notify
        now = clock()
        if key is not None:
            known = self._known(stream, key, now)
            if known is not None:
                return Position(stream.epoch, known)
        offset = stream.head = stream.head + 1
        stream.used_at = now
        data, text, who = message.data, message.is_text, message.publisher
        now_ms = int(now * 1000.0)
        publication = Publication(channel, stream.epoch, offset, data, text, who, now_ms, message.origin)
        items = stream.items
        items.append(publication)
        if len(items) > stream.trim_above:
            self._bytes -= stream.trim(keep, now)
        size = self._bytes = self._bytes + len(data) + _PUBLICATION_BYTES
        if size > self._max_bytes:
            self._make_room(stream)
        if key is not None:
            assert stream.keys is not None
            stream.keys[key] = (offset, now + key_ttl_s)
        notify(publication)
        return _position(Position, (stream.epoch, offset))

    def read(
        self, channel: Channel, start: Start, keep: Retention, *, limit: int, max_bytes: int
    ) -> ReadResult:
        now = self._clock()
        stream = self._living(channel, now) or _Stream(self._epoch(channel))
        self._bytes -= stream.trim(keep, now)
        items = stream.items
        oldest = items[0].offset if items else stream.head + 1
        after, recovered = plan_read(start, stream.position, oldest)
        publications: list[Publication] = []
        size = 0
        if start is not NOW:
            for publication in items[after + 1 - oldest : after + 1 - oldest + limit]:
                publications.append(publication)
                size += len(publication.data)
                if size >= max_bytes:
                    break
        return ReadResult(Position(stream.epoch, after), publications, stream.position, recovered)

    def remove(self, channel: Channel) -> Position:
        stream = self._streams.get(channel)
        if stream is None:
            return Position(self._epoch(channel), 0)
        self._bytes -= stream.drop(len(stream.items))
        return stream.position

    # -- stream records --------------------------------------------------------------------------------------

    def record(self, channel: Channel) -> Recorded:
        now = self._clock()
        return self._recorded(channel, self._living(channel, now), now)

    def write(self, channel: Channel, change: StreamWrite) -> Recorded:
        clock, notify = self._clock, self._notify
        now = clock()
        stream = self._living(channel, now)
        found = None if stream is None else stream.record
        expects, revision, record, messages, ttl_s, ends_ms = change
        if (0 if found is None else found.revision) != expects:
            return self._recorded(channel, stream, now)
        if stream is not None and (record is None or (found is None and stream.head)):
            self._end(channel, stream)
            stream = None
        if record is None:
            return self._recorded(channel, stream, now)
        if stream is None:
            stream = self._streams[channel] = _Stream(self._epoch(channel))
        epoch, head, now_ms = stream.epoch, stream.head, int(now * 1000.0)
        made = []
        size = len(record) - (0 if found is None else len(found.record))
        for one in messages:
            head += 1
            data, text, who = one.data, one.is_text, one.publisher
            made.append(Publication(channel, epoch, head, data, text, who, now_ms, one.origin))
            size += len(data) + _PUBLICATION_BYTES
        stream.head, stream.used_at = head, now
        stream.items += made
        written = revision, record, _position(Position, (epoch, head)), now_ms, now_ms, ttl_s, ends_ms
        answer: Recorded = _recorded(Recorded, written)
        stream.record = answer
        self._bytes += size
        if self._bytes > self._max_bytes or len(self._streams) > self._max_channels:
            self._make_room(stream)
        for publication in made:
            notify(publication)
        return answer

    def touch(self, channel: Channel) -> None:
        now = self._clock()
        stream = self._living(channel, now)
        if stream is not None and stream.record is not None:
            stream.used_at = now

    def _recorded(self, channel: Channel, stream: _Stream | None, now: float) -> Recorded:
        now_ms = int(now * 1000.0)
        if stream is None:
            return Recorded(0, b"", Position(self._epoch(channel), 0), 0, now_ms)
        if stream.record is None:
            return Recorded(0, b"", stream.position, 0, now_ms)
        revision, record, _, written_ms, _, ttl_s, ends_ms = stream.record
        return Recorded(revision, record, stream.position, written_ms, now_ms, ttl_s, ends_ms)

    def _living(self, channel: Channel, now: float) -> _Stream | None:
        """The stream, unless the time of its record is over."""
        stream = self._streams.get(channel)
        if stream is not None and stream.record is not None and stream.has_ended(now):
            self._end(channel, stream)
            return None
        return stream

    def _end(self, channel: Channel, stream: _Stream) -> None:
        """Forget a stream, and tell where its next epoch begins."""
        self._forget(channel, stream)
        self._removed(channel, Position(self._epoch(channel), 0))

    # -- copies ----------------------------------------------------------------------------------------------

    async def streams(self) -> AsyncIterator[tuple[Channel, Position]]:
        """See `Portable.streams`."""
        now = self._clock()
        for channel, stream in list(self._streams.items()):
            if not stream.has_ended(now):
                yield channel, stream.position

    async def restore(
        self,
        channel: Channel,
        head: Position,
        publications: Sequence[Publication],
        record: Recorded | None = None,
    ) -> None:
        """See `Portable.restore`."""
        stream = self._streams.setdefault(channel, _Stream(head.epoch))
        now = self._clock()
        if record is not None:
            stream.record = record._replace(written_ms=int(now * 1000))
            self._bytes += len(record.record)
        stream.epoch, stream.head = head
        stream.used_at = now
        stream.items += publications
        self._bytes += sum(len(publication.data) + _PUBLICATION_BYTES for publication in publications)
        self._make_room(stream)

    async def sweep(self, retention: Callable[[Channel], Retention]) -> None:
        """See `Engine.sweep`. It lets others work after every `SWEPT_AT_ONCE` streams."""
        await self.sweep_leases()
        now = self._clock()
        for count, channel in enumerate(list(self._streams), 1):
            stream = self._streams.get(channel)
            if stream is not None:
                self._sweep(channel, stream, retention(channel), now)
            if count % SWEPT_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _sweep(self, channel: Channel, stream: _Stream, keep: Retention, now: float) -> None:
        if stream.record is not None:
            if stream.has_ended(now):
                self._end(channel, stream)
            return
        self._bytes -= stream.trim(keep, now)
        self._forget_keys(stream, now)
        is_empty = not stream.items and not stream.keys and not keep.is_followed
        if is_empty and stream.used_at < now - self._forget_after_s:
            self._forget(channel, stream)

    def _epoch(self, channel: Channel) -> str:
        """The epoch of a stream that is not here: one that it never had."""
        times = self._forgotten.get(hash(channel))
        return epoch_of(f"{self._life}.{times}" if times else self._life, channel)

    def _make_room(self, used: _Stream) -> None:
        """Forget cold streams until the bounds hold; those used since they were last looked at come later."""
        chances = _SECOND_CHANCES
        while (self._bytes > self._max_bytes or len(self._streams) > self._max_channels) and len(
            self._streams
        ) > 1:
            channel, stream = next(iter(self._streams.items()))
            if stream is used or (stream.head > stream.spared_at and chances):
                chances = max(0, chances - 1)
                stream.spared_at = stream.head
                self._streams.move_to_end(channel)
            else:
                self._forget(channel, stream)
        while self._bytes > self._max_bytes and len(used.items) > 1:
            self._bytes -= used.drop((len(used.items) + 7) // 8)

    def _forget(self, channel: Channel, stream: _Stream) -> None:
        del self._streams[channel]
        self._bytes -= stream.drop(len(stream.items))
        if stream.record is not None:
            self._bytes -= len(stream.record.record)
        if len(self._forgotten) >= self._max_channels:
            # Rarely, because the epochs of streams without publications change with it.
            self._life = secrets.token_hex(8)
            self._forgotten.clear()
        self._forgotten[hash(channel)] = self._forgotten.get(hash(channel), 0) + 1

    def _known(self, stream: _Stream, key: str, now: float) -> int | None:
        if stream.keys is None:
            stream.keys = OrderedDict()
        self._forget_keys(stream, now)
        known = stream.keys.get(key)
        return known[0] if known and known[1] > now else None

    @staticmethod
    def _forget_keys(stream: _Stream, now: float) -> None:
        while stream.keys and next(iter(stream.keys.values()))[1] <= now:
            stream.keys.popitem(last=False)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) > 0
