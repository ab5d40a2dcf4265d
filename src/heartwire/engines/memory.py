"""Streams in this process's memory: the fastest engine; the streams end with the process."""

import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Self

from heartwire.engines.clock import forward
from heartwire.engines.contract import Clock, Notify, ReadResult, Retention, epoch_of, plan_read
from heartwire.engines.leases import Leases
from heartwire.errors import ConfigError
from heartwire.types import NOW, Channel, Message, Position, Publication, Start

__all__ = ["MemoryEngine"]

_FORGET_AFTER_S: Final = 30 * 86400

_position: Final = tuple.__new__  # a named tuple's own constructor is a Python function


class _Stream:
    """One stream. It is trimmed before each read, by each sweep, and when it is an eighth over its size."""

    __slots__ = ("epoch", "head", "items", "keys", "trim_above", "used_at")

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.head = 0
        self.items: list[Publication] = []  # not a deque, of which an empty one takes 760 bytes
        self.keys: OrderedDict[str, tuple[int, float]] | None = None
        self.trim_above = 0
        self.used_at = 0.0

    def trim(self, keep: Retention, now: float) -> None:
        items = self.items
        gone = max(0, len(items) - keep.history_size)
        oldest_ms = keep.since_ms(now)
        while gone < len(items) and items[gone].time_ms < oldest_ms:
            gone += 1
        del items[:gone]
        self.trim_above = keep.history_size * 9 // 8

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.head)


class MemoryEngine(Leases):
    """`Engine` over lists. What is appended is kept while the process lives; no call returns a future."""

    def __init__(self, *, clock: Clock = forward) -> None:
        super().__init__(clock)
        self._life, self._life_s = secrets.token_hex(8), clock()
        self._streams: dict[Channel, _Stream] = {}
        self._notify: Notify = lambda publication: None

    @classmethod
    def from_url(cls, url: str) -> Self:
        """``memory`` or ``memory://``. Raises `ConfigError`."""
        if url not in ("memory", "memory://"):
            raise ConfigError("engine", url, "memory, sqlite:///FILE or sqlite:////ABSOLUTE/FILE")
        return cls()

    async def start(self, notify: Notify) -> None:
        self._notify = notify

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
            stream = self._streams[channel] = _Stream(epoch_of(self._life, channel))
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
            stream.trim(keep, now)
        if key is not None:
            assert stream.keys is not None
            stream.keys[key] = (offset, now + key_ttl_s)
        notify(publication)
        return _position(Position, (stream.epoch, offset))

    def read(
        self, channel: Channel, start: Start, keep: Retention, *, limit: int, max_bytes: int
    ) -> ReadResult:
        stream = self._streams.get(channel) or _Stream(epoch_of(self._life, channel))
        stream.trim(keep, self._clock())
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
            return Position(epoch_of(self._life, channel), 0)
        stream.items.clear()
        return stream.position

    async def sweep(self, retention: Callable[[Channel], Retention]) -> None:
        """Forget also streams unused for 30 days; one that comes back begins another epoch."""
        self.sweep_leases()
        now = self._clock()
        if self._life_s < now - _FORGET_AFTER_S:
            # Rarely, because the epochs of streams without publications change with it.
            self._life, self._life_s = secrets.token_hex(8), now
        for channel, stream in list(self._streams.items()):
            stream.trim(retention(channel), now)
            self._forget_keys(stream, now)
            unused = not stream.items and not stream.keys and stream.used_at < now - _FORGET_AFTER_S
            # A stream that comes back must not count again in an epoch it had: it stays while its life lasts.
            if unused and stream.epoch != epoch_of(self._life, channel):
                del self._streams[channel]

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
