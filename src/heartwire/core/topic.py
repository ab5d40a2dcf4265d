"""The living end of one stream: the tail of what was published last, and who takes it.

A topic exists while somebody follows the channel. Publications are gathered during one turn of the event loop and
flushed once: encoded once per wire format, joined, one write per subscriber.
"""

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from heartwire.core.link import WireFormat
from heartwire.core.subscription import State, Subscription
from heartwire.types import Channel, Position, Publication

__all__ = ["CHUNK_BYTES", "TailLimits", "Topic"]

CHUNK_BYTES: Final = 16 * 1024
"""A reader that catches up gets about this much per write, so that a socket that turns out full holds no more than this."""


class TailLimits:
    """Bounds of the tails: per topic, and for the whole node. When full, the oldest are dropped: readers go to the engine."""

    __slots__ = ("node_bytes", "topic_bytes", "topic_items", "used_bytes")

    def __init__(self, *, topic_items: int = 1024, topic_bytes: int = 256 * 1024, node_bytes: int = 64 * 1024 * 1024) -> None:
        self.topic_items = topic_items
        self.topic_bytes = topic_bytes
        self.node_bytes = node_bytes
        self.used_bytes = 0


class Topic:
    """See the module. ``on_dirty`` is called when the first publication of a turn arrives: the owner then flushes soon."""

    __slots__ = (
        "_frames",
        "_groups",
        "_limits",
        "_pending",
        "_pending_bytes",
        "_singles",
        "_tail",
        "_tail_bytes",
        "ahead",
        "channel",
        "epoch",
        "flushed",
        "followers",
        "head",
        "on_dirty",
        "reads",
    )

    def __init__(self, channel: Channel, limits: TailLimits, on_dirty: Callable[["Topic"], None]) -> None:
        self.channel = channel
        self.epoch = ""  # "" until the engine has said where the stream stands
        self.head = 0
        self.flushed = 0
        self.followers: set[Subscription] = set()
        self.ahead: set[Subscription] = set()  # have seen more of the stream than its notifications have told us
        self.reads: dict[Any, list[Subscription]] = {}  # engine reads under way, by where they start
        self.on_dirty = on_dirty
        self._limits = limits
        self._tail: deque[Publication] = deque()
        self._tail_bytes = 0
        self._pending: list[Publication] = []
        self._pending_bytes = 0
        self._frames: dict[Callable[[Publication], Any], dict[int, Any]] = {}
        self._groups: dict[WireFormat, dict[Subscription, Callable[[Any], None]]] = {}
        self._singles: set[Subscription] = set()

    @property
    def position(self) -> Position:
        """The position all live subscribers have."""
        return Position(self.epoch, self.flushed)

    # -- what the engine says ---------------------------------------------------------------------------------------

    def locate(self, head: Position) -> None:
        """Learn where the stream stands, from the first read. Without effect once known."""
        if not self.epoch:
            self.epoch, self.head = head
            self.flushed = self.head

    def notify(self, publication: Publication) -> bool:
        """Take the next publication. Answers False when it does not follow the last one: see `jump`."""
        if publication.offset != self.head + 1 or publication.epoch != self.epoch:
            # What is not newer than the head, a read had already told us.
            return publication.epoch == self.epoch and publication.offset <= self.head
        self.head = publication.offset
        size = len(publication.data)
        pending = self._pending
        if not pending:
            self.on_dirty(self)
        pending.append(publication)
        self._pending_bytes += size
        if self._pending_bytes > self._limits.topic_bytes or len(pending) >= self._limits.topic_items:
            self.flush()
        return True

    def jump(self, publication: Publication) -> list[Subscription]:
        """Start anew at a publication that does not follow (missed ones, or a new epoch).

        Returns the subscriptions that were live: they now read what they missed from the engine.
        """
        self.flush()
        live = [subscription for subscription in self.followers if subscription.state is State.LIVE]
        for subscription in live:
            self._take_out(subscription)
            subscription.on("hole")
        self._forget_tail()
        self.epoch, self.head = publication.epoch, publication.offset
        self.flushed = self.head
        self._remember(publication)
        return live

    # -- fan-out ------------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write what is pending to every live subscriber, in one write each."""
        pending = self._pending
        if not pending:
            return
        self._pending, self._pending_bytes = [], 0
        # Before the writes: a link that a write fills up leaves with the position that includes it.
        self.flushed = self.head
        position = self.position
        for publication in pending:
            self._remember(publication)
        for format, group in tuple(self._groups.items()):
            if group:
                payload = format.join(self._encoded(format, pending), self.channel, position)
                for write in tuple(group.values()):
                    try:
                        write(payload)
                    except RuntimeError:  # uvloop's word for a socket that broke a moment ago; the link is on its way out
                        continue
        for subscription in tuple(self._singles):
            self._write(subscription, pending, position)

    def _write(self, subscription: Subscription, publications: list[Publication], position: Position) -> None:
        if not subscription.echo:
            serial = subscription.link.serial
            publications = [publication for publication in publications if publication.origin != serial]
        if publications:
            format = subscription.format
            subscription.link.write(format.join(self._encoded(format, publications), self.channel, position))

    def _encoded(self, format: WireFormat, publications: list[Publication]) -> list[Any]:
        encode = format.encode
        frames = self._frames.get(encode)
        if frames is None:
            frames = self._frames[encode] = {}
        encoded = []
        first = self._first()
        for publication in publications:
            frame = frames.get(publication.offset)
            if frame is None:
                frame = encode(publication)
                if first <= publication.offset <= self.flushed:
                    frames[publication.offset] = frame
            encoded.append(frame)
        return encoded

    # -- subscribers --------------------------------------------------------------------------------------------------

    def covers(self, position: Position) -> bool:
        """Whether everything after ``position`` up to what was flushed is in the tail."""
        return position.epoch == self.epoch and self._first() - 1 <= position.offset <= self.flushed

    def after(self, offset: int) -> list[Publication]:
        """About `CHUNK_BYTES` of the tail after ``offset``, at least one publication where there is one. See `covers`."""
        chunk: list[Publication] = []
        size = 0
        for publication in islice(self._tail, offset + 1 - self._first(), None):
            chunk.append(publication)
            size += len(publication.data)
            if size >= CHUNK_BYTES:
                break
        return chunk

    def hand_over(self, subscription: Subscription, publications: list[Publication]) -> None:
        """Write publications that follow the subscription's position, and move it."""
        last = publications[-1]
        # Before the write: see flush().
        subscription.epoch, subscription.offset = last.epoch, last.offset
        self._write(subscription, publications, last.position)

    def put_in(self, subscription: Subscription) -> None:
        """Make a subscription live; it has seen everything up to `position`."""
        subscription.on("caught_up")
        if subscription.echo:
            self._groups.setdefault(subscription.format, {})[subscription] = subscription.link.write
        else:
            self._singles.add(subscription)

    def fill(self, subscription: Subscription) -> None:
        """The subscription's link is full: it keeps its position and leaves the live set."""
        if subscription.state is State.LIVE:
            self._take_out(subscription)
        subscription.on("filled")

    def drop(self, subscription: Subscription) -> None:
        """Forget a subscription."""
        if subscription.state is State.LIVE:
            self._take_out(subscription)
        subscription.on("left")
        self.followers.discard(subscription)
        self.ahead.discard(subscription)

    def _take_out(self, subscription: Subscription) -> None:
        subscription.epoch, subscription.offset = self.epoch, self.flushed
        if not subscription.echo:
            self._singles.discard(subscription)
            return
        group = self._groups[subscription.format]
        del group[subscription]
        if not group:
            del self._groups[subscription.format]

    # -- the tail -----------------------------------------------------------------------------------------------------

    def backfill(self, publications: list[Publication]) -> None:
        """Put what an engine read brought in front of the tail, where it fits: the next reader is served from memory."""
        if not publications or publications[-1].epoch != self.epoch:
            return
        limits = self._limits
        first = self._first()
        older = [publication for publication in publications if publication.offset < first]
        if not older or older[-1].offset != first - 1:
            return
        for publication in reversed(older):
            size = len(publication.data)
            if len(self._tail) >= limits.topic_items or self._tail_bytes + size > limits.topic_bytes:
                return
            if limits.used_bytes + size > limits.node_bytes:
                return
            self._tail.appendleft(publication)
            self._tail_bytes += size
            limits.used_bytes += size

    def forget(self) -> None:
        """The engine has forgotten what was published: hand over what is pending, then forget it too."""
        self.flush()
        self._forget_tail()

    def discard(self) -> None:
        """Give back the tail's memory: the topic is not used any more."""
        self._pending.clear()
        self._forget_tail()

    def _first(self) -> int:
        return self._tail[0].offset if self._tail else self.flushed + 1

    def _remember(self, publication: Publication) -> None:
        limits = self._limits
        size = len(publication.data)
        self._tail.append(publication)
        self._tail_bytes += size
        limits.used_bytes += size
        while self._tail and (
            len(self._tail) > limits.topic_items or self._tail_bytes > limits.topic_bytes or limits.used_bytes > limits.node_bytes
        ):
            oldest = self._tail.popleft()
            self._tail_bytes -= len(oldest.data)
            limits.used_bytes -= len(oldest.data)
            for frames in self._frames.values():
                frames.pop(oldest.offset, None)

    def _forget_tail(self) -> None:
        self._limits.used_bytes -= self._tail_bytes
        self._tail_bytes = 0
        self._tail.clear()
        self._frames.clear()
