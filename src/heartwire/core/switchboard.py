"""Fan-out for one node: which links follow which channels.

In: links that follow and leave, from the hub; publications and read results, from the engine; `pause` and
`resume`, from links. Out: payloads to links, and reads. The engine and the event loop are passed in as
functions.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from heartwire.codes import close_code
from heartwire.core.link import Held, Link, Sink, WireFormat
from heartwire.core.subscription import CATCHING_UP, CLOSED, JOINING, LIVE, ChannelListener, Subscription
from heartwire.core.topic import CHUNK_BYTES, Kept, TailLimits, Topic, keep_all
from heartwire.types import NOW, Channel, Position, Publication, Start

__all__ = ["ReadResult", "Switchboard"]


class ReadResult(NamedTuple):
    """The result of an engine read: ``publications`` that follow ``start`` without a hole, oldest first.

    ``recovered`` false: the requested position could not be continued; ``start`` is then before the oldest
    publication kept. ``head`` is the stream's last position at the time of reading. ``end``: the publication
    that closes the stream, where this reaches it.
    """

    start: Position
    publications: list[Publication]
    head: Position
    recovered: bool
    end: Publication | None = None


class Switchboard:
    """The topics of one node.

    Args:
        read: starts an engine read of a topic after a start; its result comes, later or at once, by
            `read_done` or `read_failed`.
        soon: runs a function once, after this turn of the event loop (``loop.call_soon``).
        kept: what the channels keep: nobody is caught up with more, from memory either.
        lingering: how many topics without subscriptions are kept until `sweep`: a poll comes back each time.
        watch: told of each topic that begins and ends (true, false), before its first read.
        ended: told once of each subscription that has got all of a stream that is closed, and of the
            publication that closes it, which is not written. It is to leave.

    Attributes:
        is_deaf: publications may be missing here, and memory is not asked where the stream is: `behind` will
            tell of each.

    Promises: every subscription gets the publications after its start in order, each once, or a report that
    it cannot (`ChannelListener.gap`, a payload of its format's ``joined``, or a close with
    ``insufficient_state``).
    """

    def __init__(
        self,
        *,
        read: Callable[[Topic, Start], None],
        soon: Callable[[Callable[[], None]], object],
        limits: TailLimits | None = None,
        kept: Kept = keep_all,
        lingering: int = 0,
        watch: Callable[[Channel, bool], None] | None = None,
        ended: Callable[[Subscription, Publication], None] = lambda subscription, end: None,
    ) -> None:
        self.topics: dict[Channel, Topic] = {}
        self.is_deaf = False
        self._read = read
        self._soon = soon
        self._limits = limits or TailLimits()
        self._kept = kept
        self._dirty: list[Topic] = []
        self._held: Held = {}
        self._lingering = lingering
        self._watch = watch
        self._ended = ended
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
        listener: ChannelListener | None = None,
    ) -> Subscription:
        """Subscribe a link to a channel.

        The link may be written to, and the listener's ``gap`` called, before this returns. ``echo`` false
        leaves out publications that came in by this link.
        """
        topic = self.topics.get(channel)
        if topic is None:
            topic = self.topics[channel] = Topic(channel, self._limits, self._kept, self._held)
            if self._watch is not None:
                self._watch(channel, True)
        elif not topic.subscriptions:
            self._idle.pop(topic, None)
            self._idle_before.pop(topic, None)
        subscription = Subscription(topic, link, format, echo=echo, listener=listener)
        topic.subscriptions[subscription] = None
        self._locate(topic, subscription, start)
        return subscription

    def leave(self, subscription: Subscription) -> None:
        """End a subscription. Idempotent."""
        if subscription.state is CLOSED:
            return
        topic = self._topic(subscription)
        topic.drop(subscription)
        if not topic.subscriptions:
            if topic.epoch and len(self._idle) < self._lingering:
                self._idle[topic] = None
            else:
                self._discard(topic)

    def sweep(self) -> None:
        """Drop the topics that had no subscription since the last call."""
        for topic in self._idle_before:
            self._discard(topic)
        self._idle_before, self._idle = self._idle, {}

    def pause(self, subscription: Subscription) -> None:
        """The subscription's link is full. Without effect once closed."""
        if subscription.state is not CLOSED:
            self._topic(subscription).fill(subscription)

    def resume(self, subscription: Subscription) -> None:
        """The subscription's link has drained: catch it up. Without effect once closed."""
        if subscription.state is not CLOSED:
            subscription.on("drained")
            self._advance(self._topic(subscription), subscription)

    # -- the engine ------------------------------------------------------------------------------------------

    def notify(self, publication: Publication) -> None:
        """Take a kept publication, in offset order per channel; a hole makes it read."""
        topic = self.topics.get(publication.channel)
        if topic is None:
            return
        if topic.flushed == topic.head:
            if not self._dirty and not self._held:
                self._soon(self.flush)
            self._dirty.append(topic)
        if not topic.notify(publication):
            self._hole(topic, topic.jump(publication))

    def behind(self, channel: Channel, head: Position) -> None:
        """A stream is at ``head``, whatever was notified: those who are not there read."""
        topic = self.topics.get(channel)
        if topic is None or not topic.epoch:  # its first read is still to come
            return
        if head.epoch != topic.epoch or head.offset > topic.head:
            live = topic.restart(head)
            if not head.offset:  # nothing is kept: a store that lost everything need not be asked by all
                for subscription in live:
                    self._place(subscription, head, recovered=False)
            self._hole(topic, live)

    def read_done(self, topic: Topic, start: Start, result: ReadResult) -> None:
        """Take the result of a ``read``."""
        asked_in, waiting = topic.reads.pop(start, ("", []))
        if not topic.subscriptions:
            return  # all left, and the topic may be discarded
        topic.locate(result.head)
        if result.head.epoch != topic.epoch == asked_in:
            # The stream was lost; what was notified before belongs to its former life.
            self._hole(topic, topic.restart(result.head))
        if result.head.epoch != topic.epoch:
            # The stream was lost while the read was under way: the result is of a former life.
            for subscription in waiting:
                if _waits(subscription, start):
                    self._ask(topic, subscription, start)
            return
        topic.backfill(result.publications)
        last = result.publications[-1] if result.publications else result.start
        if last.offset == topic.head:
            topic.looked_at = last.offset
            if result.end is not None:
                topic.end = result.end
                self._soon(partial(self._end, topic))
        for subscription in waiting:
            if not _waits(subscription, start):
                continue  # full or gone meanwhile, or served from memory: it reads again where it must
            begins = subscription.state is JOINING or not result.recovered
            if begins and not self._begin(topic, subscription, start, result):
                continue
            handed_over = False
            for chunk in _chunks(result.publications):
                if handed_over:
                    self.release(subscription.link.sink)  # see `_advance`
                if subscription.state is not CATCHING_UP or subscription.link.paused:
                    break
                topic.hand_over(subscription, chunk)
                handed_over = True
            self._advance(topic, subscription, handed_over=handed_over)
        topic.forget_frames(result.publications)

    def read_failed(self, topic: Topic, start: Start) -> list[Subscription]:
        """Return the subscriptions that waited for a failed ``read``; the caller closes their links."""
        return topic.reads.pop(start, ("", []))[1]

    def forget(self, channel: Channel) -> None:
        """Forget the publications of a channel, as the engine has: no reader may recover them from memory."""
        topic = self.topics.get(channel)
        if topic is not None:
            topic.forget()

    def hold(self, sink: Sink, payload: bytes) -> None:
        """Write a payload at the end of this turn, in one write with all else that the sink gets until then.

        Promises: a sink gets payloads in the order they were held and flushed.
        """
        held = self._held.get(sink)
        if held is not None:
            held.append(payload)
            return
        is_first = not self._dirty and not self._held
        self._held[sink] = [payload]
        if is_first:
            self._soon(self.flush)

    def write(self, sink: Sink, payload: Any) -> None:
        """Write a payload now, or behind what is held for the sink."""
        held = self._held.get(sink)
        if held is not None:
            held.append(payload)
            return
        try:
            sink.write(payload)
        except RuntimeError:  # see `Subscription.write`
            return

    def release(self, sink: Sink, *, is_lost: bool = False) -> None:
        """Write what is held for a sink now, or forget it with a sink that is lost."""
        held = self._held.pop(sink, None)
        if held is not None and not is_lost:
            try:
                sink.write(b"".join(held))
            except RuntimeError:  # see `Subscription.write`
                return

    def flush(self) -> None:
        """Flush all topics with new publications, and write what was held."""
        dirty, self._dirty = self._dirty, []
        for topic in dirty:
            topic.flush()
            if topic.ahead:
                self._release(topic)
            if topic.end is not None:
                self._end(topic)
        for sink in tuple(self._held):
            self.release(sink)

    # -- inside ----------------------------------------------------------------------------------------------

    def _discard(self, topic: Topic) -> None:
        topic.discard()
        del self.topics[topic.channel]
        if self._watch is not None:
            self._watch(topic.channel, False)

    def _topic(self, subscription: Subscription) -> Topic:
        """The topic of a subscription that is not closed, which keeps it in ``topics``."""
        return self.topics[subscription.topic.channel]

    def _locate(self, topic: Topic, subscription: Subscription, start: Start) -> None:
        if start is NOW and topic.epoch and not self.is_deaf:
            topic.flush()
            start = topic.position if topic.covers(topic.position) else NOW
        if isinstance(start, Position) and not self.is_deaf and topic.covers(start):
            self._place(subscription, start, recovered=True)
            self._advance(topic, subscription)
        else:
            self._ask(topic, subscription, start)

    def _place(self, subscription: Subscription, position: Position, *, recovered: bool) -> None:
        if subscription.state is JOINING:
            subscription.on("located")
        subscription.epoch, subscription.offset = position
        if subscription.listener is not None:
            if not recovered:
                subscription.listener.gap(position)
            return
        payload = subscription.format.joined(subscription.topic.channel, position, recovered=recovered)
        if payload is not None:
            subscription.write(payload)
        elif not recovered:
            reason = f"insufficient state: position is now {position}"
            subscription.link.close(close_code("insufficient_state"), reason)

    def _ask(self, topic: Topic, subscription: Subscription, start: Start) -> None:
        """Read from the engine, or wait for a read from the same start that is under way."""
        waiting = topic.reads.get(start)
        if waiting is not None:
            waiting[1].append(subscription)
            return
        topic.reads[start] = topic.epoch, [subscription]
        self._read(topic, start)

    def _begin(self, topic: Topic, subscription: Subscription, start: Start, result: ReadResult) -> bool:
        """Place a subscription where its read says. False where what was read does not follow that."""
        if start is NOW and not topic.covers(result.start):
            # What came while it read where now is has left memory already.
            subscription.epoch, subscription.offset = result.start
            self._ask(topic, subscription, result.start)
            return False
        is_from_now = subscription.state is JOINING and subscription.epoch == topic.epoch
        if result.recovered or not is_from_now:
            self._place(subscription, result.start, recovered=result.recovered)
            return True
        # The channel keeps no more of it: now is later, and nothing is missed.
        topic.flush()
        self._place(subscription, topic.position, recovered=True)
        self._advance(topic, subscription)
        return False

    def _advance(self, topic: Topic, subscription: Subscription, *, handed_over: bool = False) -> None:
        """Catch a subscription up as far as memory and its link allow. ``handed_over``: it has got something
        that may be held yet."""
        while subscription.state is CATCHING_UP:
            if subscription.link.paused:
                topic.fill(subscription)
            elif subscription.offset == topic.flushed and subscription.epoch == topic.epoch:
                topic.put_in(subscription)
                if topic.end is not None:
                    self._soon(partial(self._end, topic))
            elif subscription.epoch == topic.epoch and subscription.offset > topic.flushed:
                if subscription.offset > topic.head:
                    topic.ahead.add(subscription)
                    return
                topic.flush()
            elif not topic.covers(Position(subscription.epoch, subscription.offset)):
                self._ask(topic, subscription, Position(subscription.epoch, subscription.offset))
                return
            elif handed_over:  # written now, because only then a link knows that it is full
                self.release(subscription.link.sink)
                handed_over = False
            else:
                topic.hand_over(subscription, topic.after(subscription.offset))
                handed_over = True

    def _end(self, topic: Topic) -> None:
        """End the subscriptions that have got all of a closed stream. Others are caught up first.

        Never called while a link begins to follow: the hub has to know of its subscription before that ends.
        """
        for subscription in tuple(topic.subscriptions):
            if subscription.state is LIVE:
                self.release(subscription.link.sink)  # only then a link knows that it is full
            end = topic.end
            if end is not None and subscription.state is LIVE and topic.flushed == end.offset:
                topic.take_out(subscription)
                subscription.on("ended")
                self._ended(subscription, end)

    def _hole(self, topic: Topic, live: list[Subscription]) -> None:
        for subscription in live:
            self._advance(topic, subscription)
        self._release(topic)

    def _release(self, topic: Topic) -> None:
        ahead, topic.ahead = topic.ahead, set()
        for subscription in ahead:
            self._advance(topic, subscription)


def _waits(subscription: Subscription, start: Start) -> bool:
    """Whether a subscription still needs the result of a read from ``start``."""
    if subscription.state is JOINING:
        return True
    return subscription.state is CATCHING_UP and subscription.position == start


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
