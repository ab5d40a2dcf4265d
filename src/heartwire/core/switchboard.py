"""This node's switchboard: which links follow which channels. The engine and the event loop are handed in as
functions."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from heartwire.core.link import Follower, Link, WireFormat
from heartwire.core.subscription import State, Subscription
from heartwire.core.topic import CHUNK_BYTES, TailLimits, Topic
from heartwire.types import NOW, Channel, Position, Publication, Start

__all__ = ["ReadResult", "Switchboard"]


class ReadResult(NamedTuple):
    """What an engine read brought: ``publications`` that follow ``start`` without a hole, oldest first.

    ``recovered`` false: the asked position could not be continued; ``start`` is then before the oldest that
    is kept. ``head`` is the stream's last position at the time of reading.
    """

    start: Position
    publications: list[Publication]
    head: Position
    recovered: bool


class Switchboard:
    """Fan-out for one node.

    Args:
        read: called to have the engine read a topic after a start; answers later (or at once) by `read_done`.
        soon: runs a function once, after this turn of the event loop (``loop.call_soon``).
        limits: bounds of the tails.
        lingering: how many topics that nobody follows are kept until `sweep`, for those who come back: polls
            do, each time.

    Promises: every subscription is handed the publications after its start in order, each once, or is told
    that it cannot be (a payload of its format's ``joined``, or a close with ``insufficient_state``).
    """

    def __init__(
        self,
        *,
        read: Callable[[Topic, Start], None],
        soon: Callable[[Callable[[], None]], object],
        limits: TailLimits | None = None,
        lingering: int = 0,
    ) -> None:
        self.topics: dict[Channel, Topic] = {}
        self._read = read
        self._soon = soon
        self._limits = limits or TailLimits()
        self._dirty: list[Topic] = []
        self._lingering = lingering
        self._idle: dict[Topic, None] = {}
        self._idle_before: dict[Topic, None] = {}

    # -- links -----------------------------------------------------------------------------------------------

    def follow(
        self,
        link: Link,
        channel: Channel,
        format: WireFormat,
        start: Start,
        *,
        echo: bool = True,
        follower: Follower | None = None,
    ) -> Subscription:
        """Let a link follow a channel. It may be written to before this returns.

        ``echo`` false: not what it published. ``follower`` is told of gaps; it must cope with that before
        this returns.
        """
        topic = self.topics.get(channel)
        if topic is None:
            topic = self.topics[channel] = Topic(channel, self._limits)
        elif not topic.followers:
            self._idle.pop(topic, None)
            self._idle_before.pop(topic, None)
        subscription = Subscription(topic, link, format, echo=echo, follower=follower)
        topic.followers[subscription] = None
        self._locate(subscription, start)
        return subscription

    def leave(self, subscription: Subscription) -> None:
        """The link stops following. Idempotent."""
        if subscription.state is State.CLOSED:
            return
        topic = subscription.topic
        topic.drop(subscription)
        if not topic.followers and self.topics.get(topic.channel) is topic:
            if topic.epoch and len(self._idle) < self._lingering:
                self._idle[topic] = None
            else:
                self._discard(topic)

    def sweep(self) -> None:
        """Drop the topics that nobody has followed since the last call."""
        for topic in self._idle_before:
            self._discard(topic)
        self._idle_before, self._idle = self._idle, {}

    def pause(self, subscription: Subscription) -> None:
        """The subscription's link is full. Without effect once closed."""
        if subscription.state is not State.CLOSED:
            subscription.topic.fill(subscription)

    def resume(self, subscription: Subscription) -> None:
        """The subscription's link has drained: it is caught up. Without effect once closed."""
        if subscription.state is not State.CLOSED:
            subscription.on("drained")
            self._advance(subscription)

    # -- the engine ------------------------------------------------------------------------------------------

    def notify(self, publication: Publication) -> None:
        """The engine has kept a publication. Called in order per channel; one that is not is healed by
        reading."""
        topic = self.topics.get(publication.channel)
        if topic is None:
            return
        if topic.flushed == topic.head:
            if not self._dirty:
                self._soon(self.flush)
            self._dirty.append(topic)
        if not topic.notify(publication):
            self._hole(topic, topic.jump(publication))

    def read_done(self, topic: Topic, start: Start, result: ReadResult) -> None:
        """The answer to a ``read``."""
        asked_in, waiting = topic.reads.pop(start, ("", []))
        if not topic.followers:
            return  # everybody left, and the topic is not used any more
        topic.locate(result.head)
        if result.head.epoch != topic.epoch == asked_in:
            # The stream was lost, and what we were told of it before belongs to its former life.
            self._hole(topic, topic.restart(result.head))
        if result.head.epoch != topic.epoch:
            # It was lost while the read was under way: the answer is of a former life.
            for subscription in waiting:
                if _waits(subscription, start):
                    self._ask(subscription, start)
            return
        topic.backfill(result.publications)
        for subscription in waiting:
            if not _waits(subscription, start):
                continue  # full or gone meanwhile, or served from memory: it reads again if it has to
            if subscription.state is State.JOINING or not result.recovered:
                self._place(subscription, result.start, recovered=result.recovered)
            for chunk in _chunks(result.publications):
                if subscription.state is not State.CATCHING_UP or subscription.link.paused:
                    break
                topic.hand_over(subscription, chunk)
            self._advance(subscription)
        topic.forget_frames(result.publications)

    def read_failed(self, topic: Topic, start: Start) -> list[Subscription]:
        """The engine could not read. Returns who waited for it; the caller closes their links."""
        return topic.reads.pop(start, ("", []))[1]

    def forget(self, channel: Channel) -> None:
        """The engine has forgotten what was published in a channel: nobody is to recover it from memory."""
        topic = self.topics.get(channel)
        if topic is not None:
            topic.forget()

    def flush(self) -> None:
        """Write out everything that is pending."""
        dirty, self._dirty = self._dirty, []
        for topic in dirty:
            topic.flush()
            if topic.ahead:
                self._release(topic)

    # -- inside ----------------------------------------------------------------------------------------------

    def _discard(self, topic: Topic) -> None:
        topic.discard()
        del self.topics[topic.channel]

    def _locate(self, subscription: Subscription, start: Start) -> None:
        topic = subscription.topic
        if start is NOW and topic.epoch:
            topic.flush()
            start = topic.position
        if isinstance(start, Position) and topic.covers(start):
            self._place(subscription, start, recovered=True)
            self._advance(subscription)
        else:
            self._ask(subscription, start)

    def _place(self, subscription: Subscription, position: Position, *, recovered: bool) -> None:
        if subscription.state is State.JOINING:
            subscription.on("located")
        subscription.epoch, subscription.offset = position
        if subscription.follower is not None:
            if not recovered:
                subscription.follower.gap(position)
            return
        payload = subscription.format.joined(subscription.topic.channel, position, recovered=recovered)
        if payload is not None:
            subscription.write(payload)
        elif not recovered:
            subscription.link.close(3010, f"insufficient state: position is now {position}")

    def _ask(self, subscription: Subscription, start: Start) -> None:
        waiting = subscription.topic.reads.get(start)
        if waiting is not None:
            waiting[1].append(subscription)
            return
        subscription.topic.reads[start] = subscription.topic.epoch, [subscription]
        self._read(subscription.topic, start)

    def _advance(self, subscription: Subscription) -> None:
        """Take a subscription that is catching up as far as memory and its link allow."""
        topic = subscription.topic
        while subscription.state is State.CATCHING_UP:
            if subscription.link.paused:
                topic.fill(subscription)
            elif subscription.offset == topic.flushed and subscription.epoch == topic.epoch:
                topic.put_in(subscription)
            elif subscription.epoch == topic.epoch and subscription.offset > topic.flushed:
                if subscription.offset > topic.head:
                    topic.ahead.add(subscription)
                    return
                topic.flush()
            elif not topic.covers(Position(subscription.epoch, subscription.offset)):
                self._ask(subscription, Position(subscription.epoch, subscription.offset))
                return
            else:
                topic.hand_over(subscription, topic.after(subscription.offset))

    def _hole(self, topic: Topic, live: list[Subscription]) -> None:
        for subscription in live:
            self._advance(subscription)
        self._release(topic)

    def _release(self, topic: Topic) -> None:
        ahead, topic.ahead = topic.ahead, set()
        for subscription in ahead:
            self._advance(subscription)


def _waits(subscription: Subscription, start: Start) -> bool:
    """Whether an answer to a read is still news to who asked for it."""
    if subscription.state is State.JOINING:
        return True
    return subscription.state is State.CATCHING_UP and subscription.position == start


def _chunks(publications: list[Publication]) -> Iterator[list[Publication]]:
    chunk: list[Publication] = []
    size = 0
    for publication in publications:
        chunk.append(publication)
        size += len(publication.data)
        if size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
