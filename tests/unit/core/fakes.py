"""The surroundings of a switchboard, moved by hand: links that fill, a format that records, turns and reads that
wait."""

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

from heartwire.core.link import OwnSink
from heartwire.core.subscription import Subscription
from heartwire.core.switchboard import ReadResult, Switchboard
from heartwire.core.topic import TailLimits, Topic
from heartwire.engines.contract import Feed, Retention
from heartwire.engines.memory import MemoryEngine
from heartwire.hub.history import History
from heartwire.hub.namespaces import Namespaces
from heartwire.hub.options import HubOptions, NamespaceOptions
from heartwire.streams.record import end_message
from heartwire.testing import FakeClock
from heartwire.types import NOW, Channel, Member, Message, Position, Publication, Start

T = TypeVar("T")

A = Channel("a")
B = Channel("b")


class Told(NamedTuple):
    """The payload with a reader's start, or the report that its position could not be continued."""

    channel: Channel
    position: Position
    recovered: bool


class Ended(NamedTuple):
    """A payload of `RecordingFormat.ended`."""

    channel: Channel
    position: Position


class Wrote(NamedTuple):
    """The payload with publications."""

    channel: Channel
    publications: tuple[Publication, ...]
    position: Position


class RecordingFormat:
    """`WireFormat` whose payloads are its arguments. ``strict``: it cannot report a gap, like raw sockets."""

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.encoded: list[Position] = []
        self.joins = 0

    def encode(self, publication: Publication) -> Publication:
        self.encoded.append(publication.position)
        return publication

    def join(self, frames: list[Publication], last: Publication) -> Wrote:
        self.joins += 1
        return Wrote(last.channel, tuple(frames), last.position)

    def joined(self, channel: Channel, position: Position, *, recovered: bool) -> Told | None:
        return None if self.strict else Told(channel, position, recovered)

    def ended(self, end: Publication) -> Ended | None:
        return None if self.strict else Ended(end.channel, end.position)


class FakeLink(OwnSink):
    """A `Link` that holds payloads until `drain`; full above ``room`` bytes (None: never)."""

    def __init__(self, switchboard: Switchboard, serial: int = 1, *, room: int | None = None) -> None:
        self.serial = serial
        self.paused = False
        self.member: Member | None = None
        self.room = room
        self.held = 0
        self.broken = False
        self.payloads: list[Told | Wrote] = []
        self.subscriptions: list[Subscription] = []
        self.closed: tuple[int, str] | None = None
        self._switchboard = switchboard

    def write(self, payload: Any) -> None:
        if self.broken:
            raise RuntimeError("the handler is closed")
        if self.closed is not None:
            return
        self.payloads.append(payload)
        if isinstance(payload, Wrote):
            self.held += sum(len(publication.data) for publication in payload.publications)
        if self.room is not None and self.held > self.room and not self.paused:
            self.fill()

    def fill(self) -> None:
        self.paused = True
        for subscription in self.subscriptions:
            self._switchboard.pause(subscription)

    def drain(self) -> None:
        self.held = 0
        self.paused = False
        for subscription in list(self.subscriptions):
            self._switchboard.resume(subscription)

    def close(self, code: int, reason: str) -> None:
        if self.closed is None:
            self.closed = (code, reason)
            for subscription in self.subscriptions:
                self._switchboard.leave(subscription)

    @property
    def writes(self) -> list[Wrote]:
        return [payload for payload in self.payloads if isinstance(payload, Wrote)]

    @property
    def publications(self) -> list[Publication]:
        return [publication for wrote in self.writes for publication in wrote.publications]

    @property
    def offsets(self) -> list[int]:
        return [publication.offset for publication in self.publications]

    @property
    def told(self) -> list[tuple[int, bool]]:
        return [
            (payload.position.offset, payload.recovered)
            for payload in self.payloads
            if isinstance(payload, Told)
        ]


class Read(NamedTuple):
    """A read that the switchboard started: its result is taken at once, and waits to be delivered."""

    topic: Topic
    start: Start
    result: ReadResult


class Desk:
    """A switchboard over a memory engine. Nothing happens by itself: see `turn` and `answer`.

    ``durable``: its channels are streams that may be closed. ``ends``: who was told of an end, and which.
    """

    def __init__(
        self,
        *,
        limits: TailLimits | None = None,
        keep: Retention | None = None,
        page: int = 256,
        lingering: int = 0,
        watch: Callable[[Channel, bool], None] | None = None,
        durable: bool = False,
    ) -> None:
        self.clock = FakeClock()
        self.limits = limits or TailLimits()
        self.keep = keep or Retention(10_000, 86_400)
        self.page = page
        self.turns: list[Callable[[], None]] = []
        self.reads: list[Read] = []
        self.asked = 0
        self.format = RecordingFormat()
        self.ends: list[tuple[FakeLink, Publication]] = []
        self.namespaces = Namespaces(HubOptions(namespaces={"": NamespaceOptions(durable=durable)}))
        self.switchboard = Switchboard(
            read=self._read,
            soon=self.turns.append,
            limits=self.limits,
            kept=lambda channel: (self.keep.history_size, self.keep.since_ms(self.clock())),
            lingering=lingering,
            watch=watch,
            ended=self._ended,
        )
        self.serials = 0
        self.restart()

    def restart(self) -> None:
        """The engine loses everything: its streams begin another life."""
        self.engine = MemoryEngine(clock=self.clock)
        done(self.engine.start(Feed(lambda publication: self.switchboard.notify(publication))))

    def publish(self, count: int = 1, *, channel: Channel = A, data: bytes = b"x", origin: int = 0) -> None:
        for _ in range(count):
            self.engine.append(channel, Message(data, origin=origin), self.keep)

    def end(self, *, channel: Channel = A) -> None:
        """Close a stream."""
        self.engine.append(channel, end_message("done"), self.keep)

    def publish_unheard(
        self, count: int = 1, *, channel: Channel = A, ends: bool = False
    ) -> list[Publication]:
        """Publish, but hold the notifications back. Returns them."""
        held: list[Publication] = []
        done(self.engine.start(Feed(held.append)))
        self.publish(count, channel=channel)
        if ends:
            self.end(channel=channel)
        done(self.engine.start(Feed(lambda publication: self.switchboard.notify(publication))))
        return held

    def follow(
        self,
        start: Start = NOW,
        *,
        channel: Channel = A,
        link: FakeLink | None = None,
        room: int | None = None,
        echo: bool = True,
        format: RecordingFormat | None = None,
    ) -> FakeLink:
        """Follow a channel, by a new link unless one is given."""
        if link is None:
            self.serials += 1
            link = FakeLink(self.switchboard, self.serials, room=room)
        link.subscriptions.append(
            self.switchboard.follow(link, channel, format or self.format, start, echo=echo)
        )
        return link

    def turn(self) -> None:
        """End this turn of the event loop."""
        turns, self.turns[:] = list(self.turns), []
        for work in turns:
            work()

    def answer(self, count: int | None = None) -> None:
        """Deliver the answers of the reads under way, or the first ``count`` of them."""
        reads, self.reads = self.reads[:count], self.reads[len(self.reads) if count is None else count :]
        for read in reads:
            self.switchboard.read_done(*read)

    def settle(self) -> None:
        """Run turns and answer reads until there is nothing left to do."""
        for _ in range(10_000):
            if not self.turns and not self.reads:
                return
            self.turn()
            self.answer()
        raise AssertionError("the switchboard never comes to rest")

    def head(self, channel: Channel = A) -> Position:
        return self.engine.read(channel, NOW, self.keep, limit=0, max_bytes=1).head

    def _read(self, topic: Topic, start: Start) -> None:
        self.asked += 1
        read = self.engine.read
        if self.namespaces.is_durable(topic.channel):
            result = History(self.engine, self.namespaces).whole(
                topic.channel, start, limit=self.page, max_bytes=64 * 1024
            )
            assert isinstance(result, ReadResult)
        else:
            result = read(topic.channel, start, self.keep, limit=self.page, max_bytes=64 * 1024)
        self.reads.append(Read(topic, start, result))

    def _ended(self, subscription: Subscription, end: Publication) -> None:
        assert isinstance(subscription.link, FakeLink)
        self.ends.append((subscription.link, end))
        subscription.write(subscription.format.ended(end))
        self.switchboard.leave(subscription)


def done(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as stopped:
        value: T = stopped.value
        return value
    raise AssertionError("it waits")
