"""The live end of one stream: its newest publications (the tail) and its subscriptions.

In: publications, by `Switchboard.notify`. Out: one write per live link and turn of the event loop. The
publications of a turn are gathered and flushed once: encoded once per wire format, joined, written to each
sink. A topic exists while the channel has subscriptions. Only `Switchboard` calls it.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from typing import Any, Final

from heartwire.core.link import Held, Sink, WireFormat
from heartwire.core.subscription import LIVE, Subscription
from heartwire.types import Channel, Position, Publication

__all__ = ["CHUNK_BYTES", "Kept", "TailLimits", "Topic", "keep_all"]

CHUNK_BYTES: Final = 8 * 1024
"""About the size of a write to a reader that catches up; a full socket holds no more than this."""

_data: Final = attrgetter("data")
_position: Final = tuple.__new__  # a named tuple's own constructor is a Python function

Kept = Callable[[Channel], tuple[int, int]]
"""What a channel keeps now: how many publications, and since when, by their ``time_ms``."""


def keep_all(channel: Channel) -> tuple[int, int]:
    """`Kept` without an end."""
    return sys.maxsize, 0


_Join = Callable[[list[Any], Publication], Any] | None
_Live = list[tuple[Callable[[Publication], Any], list[tuple[_Join, tuple[Sink, ...]]], list[Subscription]]]
"""Live subscriptions by encoder: those with echo by format, then those without echo one by one."""


@dataclass(slots=True, eq=False)
class TailLimits:
    """Bounds of the tails, per topic and per node. A full tail drops its oldest; readers go to the engine.

    A publication that is not flushed yet is never dropped: a topic at twice its bound is flushed at once.
    """

    topic_items: int = 1024
    topic_bytes: int = 256 * 1024
    node_bytes: int = 32 * 1024 * 1024
    used_bytes: int = 0


@dataclass(slots=True, eq=False)
class Topic:
    """See the module. The switchboard flushes it after a turn that moved ``head`` beyond ``flushed``."""

    channel: Channel
    _limits: TailLimits
    _kept: Kept = keep_all
    _held: Held = field(default_factory=dict)
    epoch: str = ""  # "" until the first read brings the head
    head: int = 0
    flushed: int = 0
    end: Publication | None = None
    """What closed the stream, once a reader here has come so far. It is not written."""
    looked_at: int = -1
    """The offset that was the head when a reader had got all up to it."""
    subscriptions: dict[Subscription, None] = field(default_factory=dict)  # an ordered set, a third the size
    ahead: set[Subscription] = field(default_factory=set)  # have seen more of the stream than was notified
    reads: dict[Any, tuple[str, list[Subscription]]] = field(default_factory=dict)
    """Engine reads under way, by their start: the epoch known at their beginning, and who waits."""
    _tail: list[Publication] = field(default_factory=list)  # an empty deque takes 760 bytes
    _tail_bytes: int = 0
    _frames: dict[Callable[[Publication], Any], dict[int, Any]] = field(default_factory=dict)
    _groups: dict[WireFormat, dict[Subscription, Sink]] = field(default_factory=dict)
    _singles: set[Subscription] = field(default_factory=set)
    _live: _Live | None = None

    @property
    def position(self) -> Position:
        """The position of all live subscriptions."""
        return _position(Position, (self.epoch, self.flushed))

    # -- from the engine -------------------------------------------------------------------------------------

    def locate(self, head: Position) -> None:
        """Set the head, from the first read. Without effect once known."""
        if not self.epoch:
            self.epoch, self.head = head
            self.flushed = self.head

    def notify(self, publication: Publication) -> bool:
        """Add the next publication. Returns False when it does not follow the last one: see `jump`."""
        if publication.offset != self.head + 1 or publication.epoch != self.epoch:
            # One that is not newer than the head was brought by a read already.
            return publication.epoch == self.epoch and publication.offset <= self.head
        self.head = publication.offset
        tail, limits = self._tail, self._limits
        tail.append(publication)
        size = len(publication.data)
        self._tail_bytes += size
        limits.used_bytes += size
        if self._tail_bytes > limits.topic_bytes * 2 or len(tail) > limits.topic_items * 2:
            self.flush()
        return True

    def jump(self, publication: Publication) -> list[Subscription]:
        """Start anew at a publication that does not follow (a hole, a new epoch); see `restart`."""
        live = self.restart(Position(publication.epoch, publication.offset - 1))
        self.notify(publication)
        self.flush()
        return live

    def restart(self, head: Position) -> list[Subscription]:
        """Start anew at a position that does not follow. Returns what was live, and reads from now on."""
        self.flush()
        live = [subscription for subscription in self.subscriptions if subscription.state is LIVE]
        for subscription in live:
            self.take_out(subscription)
            subscription.on("hole")
        self._forget_tail()
        self.epoch, self.head = head
        self.flushed = self.head
        self.end = None
        self.looked_at = -1 if self.head else 0
        return live

    # -- fan-out ---------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write the new publications to every live subscription, in one write each."""
        head, tail, limits = self.head, self._tail, self._limits
        if self.flushed == head:
            return
        news = tail[self.flushed - head :]
        # Before the writes: a link filled up by its write leaves with the position that includes it.
        self.flushed = head
        if (
            len(tail) > limits.topic_items
            or self._tail_bytes > limits.topic_bytes
            or limits.used_bytes > limits.node_bytes
        ):
            self._trim()
        last = news[-1]
        if last.publisher is not None and last.is_end:
            self.end = news.pop()
            if not news:
                return
            last = news[-1]
        held = self._held
        for encode, groups, singles in self._live if self._live is not None else self._list_live():
            frames = []
            for publication in news:  # most often one, for which a comprehension takes twice as long
                frames.append(encode(publication))  # noqa: PERF401
            for join, sinks in groups:
                payload = b"".join(frames) if join is None else join(frames, last)
                for sink in sinks:
                    if held and sink in held:
                        held[sink].append(payload)
                        continue
                    try:
                        sink.write(payload)
                    except RuntimeError:  # see `Subscription.write`
                        continue
            for subscription in singles:
                self._write(subscription, list(zip(news, frames, strict=True)))

    def _list_live(self) -> _Live:
        """Group the live subscriptions by encoder. Kept until one joins or leaves."""
        groups: dict[Any, list[tuple[_Join, tuple[Sink, ...]]]] = {}
        singles: dict[Any, list[Subscription]] = {}
        for format, group in self._groups.items():
            groups.setdefault(format.encode, []).append((format.join, tuple(group.values())))
        for subscription in self._singles:
            singles.setdefault(subscription.format.encode, []).append(subscription)
        self._live = [
            (encode, groups.get(encode, []), singles.get(encode, [])) for encode in groups | singles
        ]
        return self._live

    def _write(self, subscription: Subscription, framed: list[tuple[Publication, Any]]) -> None:
        serial = 0 if subscription.echo else subscription.link.serial
        frames = [frame for publication, frame in framed if not serial or publication.origin != serial]
        if frames:
            join = subscription.format.join
            subscription.write(b"".join(frames) if join is None else join(frames, framed[-1][0]))

    def _framed(self, format: WireFormat, publications: list[Publication]) -> list[tuple[Publication, Any]]:
        """Encode publications for one reader; the frames are kept for the next one. See `forget_frames`."""
        encode = format.encode
        frames = self._frames.setdefault(encode, {})
        framed = []
        for publication in publications:
            frame = frames.get(publication.offset)
            if frame is None:
                frame = frames[publication.offset] = encode(publication)
            framed.append((publication, frame))
        return framed

    # -- subscriptions ---------------------------------------------------------------------------------------

    def covers(self, position: Position) -> bool:
        """Whether the tail has everything after ``position`` that was flushed, and the channel keeps it.

        At the head it has nothing; but where nobody here has seen the last publication, that may be an end.
        """
        epoch, offset = position
        if epoch != self.epoch or offset > self.flushed:
            return False
        if offset == self.flushed:  # most often, and then retention has nothing to say
            return bool(self._tail) or offset == self.looked_at
        self._end()
        return self._first() - 1 <= offset

    def after(self, offset: int) -> list[Publication]:
        """Return about `CHUNK_BYTES` of the tail after ``offset``, at least one where there is one.

        `covers` must hold for the offset.
        """
        chunk: list[Publication] = []
        size = 0
        first = self._first()
        for publication in islice(self._tail, offset + 1 - first, self.flushed + 1 - first):
            chunk.append(publication)
            size += len(publication.data)
            if size >= CHUNK_BYTES:
                break
        return chunk

    def hand_over(self, subscription: Subscription, publications: list[Publication]) -> None:
        """Write publications of this epoch that follow the subscription's position, and move the position."""
        last = publications[-1]
        # Before the write: see flush().
        subscription.epoch, subscription.offset = last.epoch, last.offset
        if last.publisher is not None and last.is_end:
            self.end, publications = last, publications[:-1]
        self._write(subscription, self._framed(subscription.format, publications))

    def forget_frames(self, publications: list[Publication]) -> None:
        """Forget the frames of publications that are not in the tail, once a read's waiters all have them."""
        first = self._first()
        for publication in publications:
            if not first <= publication.offset <= self.flushed:
                for frames in self._frames.values():
                    frames.pop(publication.offset, None)

    def put_in(self, subscription: Subscription) -> None:
        """Make a subscription live. It must have seen everything up to `position`."""
        subscription.on("caught_up")
        self._live = None
        if subscription.echo:
            self._groups.setdefault(subscription.format, {})[subscription] = subscription.link.sink
        else:
            self._singles.add(subscription)

    def fill(self, subscription: Subscription) -> None:
        """Take a subscription out of the live set, at its position: its link is full."""
        if subscription.state is LIVE:
            self.take_out(subscription)
        subscription.on("filled")

    def drop(self, subscription: Subscription) -> None:
        """Close and forget a subscription."""
        if subscription.state is LIVE:
            self.take_out(subscription)
        subscription.on("left")
        self.subscriptions.pop(subscription, None)
        self.ahead.discard(subscription)

    def take_out(self, subscription: Subscription) -> None:
        """Take a subscription out of the live set, at its position."""
        subscription.epoch, subscription.offset = self.epoch, self.flushed
        self._live = None
        if not subscription.echo:
            self._singles.discard(subscription)
            return
        group = self._groups[subscription.format]
        del group[subscription]
        if not group:
            del self._groups[subscription.format]

    # -- the tail --------------------------------------------------------------------------------------------

    def backfill(self, publications: list[Publication]) -> None:
        """Put what an engine read brought in front of the tail, as far as it fits, for the next reader."""
        if not publications or publications[-1].epoch != self.epoch:
            return
        limits = self._limits
        first = self._first()
        older = [publication for publication in publications if publication.offset < first]
        if not older or older[-1].offset != first - 1:
            return
        fitting: list[Publication] = []
        for publication in reversed(older):
            size = len(publication.data)
            if len(self._tail) + len(fitting) >= limits.topic_items:
                break
            if self._tail_bytes + size > limits.topic_bytes or limits.used_bytes + size > limits.node_bytes:
                break
            fitting.append(publication)
            self._tail_bytes += size
            limits.used_bytes += size
        self._tail[:0] = reversed(fitting)

    def forget(self) -> None:
        """Forget the tail, as the engine has; flush it first."""
        self.flush()
        self._forget_tail()

    def discard(self) -> None:
        """Free the tail of a topic that is not used any more."""
        self.flushed = self.head
        self._forget_tail()

    def _first(self) -> int:
        return self._tail[0].offset if self._tail else self.flushed + 1

    def _trim(self) -> None:
        """Drop the oldest, down to 7/8 of the bound, so that a full tail is not trimmed each time."""
        limits = self._limits
        tail = self._tail
        of_topic = self._tail_bytes - limits.topic_bytes * 7 // 8
        surplus_bytes = max(of_topic, limits.used_bytes - limits.node_bytes)
        dropped = max(0, len(tail) - limits.topic_items * 7 // 8)
        freed = sum(map(len, map(_data, islice(tail, dropped))))
        for publication in islice(tail, dropped, None):
            if freed >= surplus_bytes:
                break
            dropped += 1
            freed += len(publication.data)
        self._drop(dropped, freed)

    def _end(self) -> None:
        """Drop what the channel no longer keeps, of what is flushed: no reader may get it from here."""
        size, since_ms = self._kept(self.channel)
        tail = self._tail
        flushed = len(tail) - (self.head - self.flushed)
        ended = min(flushed, max(0, len(tail) - size))
        while ended < flushed and tail[ended].time_ms < since_ms:
            ended += 1
        if ended:
            self._drop(ended, sum(map(len, map(_data, islice(tail, ended)))))

    def _drop(self, count: int, size: int) -> None:
        self._tail_bytes -= size
        self._limits.used_bytes -= size
        for frames in self._frames.values():
            for publication in self._tail[:count]:
                frames.pop(publication.offset, None)
        del self._tail[:count]

    def _forget_tail(self) -> None:
        self._limits.used_bytes -= self._tail_bytes
        self._tail_bytes = 0
        self._tail.clear()
        self._frames.clear()
