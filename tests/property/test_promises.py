"""The promises under anything that can happen: publishers, links that fill and leave, engines that trim,
restart and mumble.

A Hypothesis state machine drives a switchboard, and checks of every reader that what it was handed is
contiguous, or that it was told of a gap. Another machine's command list goes to two engines, and their
answers are compared.
"""

from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from heartwire.core.subscription import State
from heartwire.core.switchboard import Switchboard
from heartwire.core.topic import TailLimits, Topic
from heartwire.engines.contract import Feed, Retention
from heartwire.engines.memory import MemoryEngine
from heartwire.testing import FakeClock
from heartwire.types import EARLIEST, NOW, Channel, Message, Position, Publication, Start
from tests.unit.core.fakes import FakeLink, Read, RecordingFormat, Told, Wrote, done

CHANNELS: Final = [Channel("a"), Channel("b"), Channel("c")]
KEEP: Final = Retention(12, 60)
KEY_TTL_S: Final = 30
PAGE: Final = 4


class Reader:
    """One subscription, and where what it was handed has brought it."""

    def __init__(self, link: FakeLink, channel: Channel, start: Start, *, echo: bool, strict: bool) -> None:
        self.link = link
        self.channel = channel
        self.start = start
        self.echo = echo
        self.strict = strict
        self.cursor: Position | None = start if strict and isinstance(start, Position) else None
        self.seen = 0

    def take(self, payload: Told | Wrote, log: dict[tuple[Channel, Position], Publication]) -> None:
        """Check the next payload."""
        if isinstance(payload, Told):
            assert not self.strict
            if self.cursor is None:
                assert (
                    not payload.recovered
                    or not isinstance(self.start, Position)
                    or payload.position == self.start
                )
            else:
                assert not payload.recovered, "told again, though nothing was lost"
            self.cursor = payload.position
            return
        if self.cursor is None:
            assert self.strict, "handed publications before it was told where it starts"
            first = payload.publications[0]
            self.cursor = Position(first.epoch, first.offset - 1)
            if not self.echo:  # what was left out before the first is not known
                while self._own(self.cursor, log):
                    self.cursor = Position(self.cursor.epoch, self.cursor.offset - 1)
        for publication in payload.publications:
            assert publication == log[self.channel, publication.position], "not what was published there"
            assert self.echo or publication.origin != self.link.serial, "its own, though it asked for none"
            self._reach(Position(publication.epoch, publication.offset - 1), log)
            assert publication.position > self.cursor, "doubled, or out of order"
            self.cursor = publication.position
        self._reach(payload.position, log)

    def _reach(self, position: Position, log: dict[tuple[Channel, Position], Publication]) -> None:
        """Go on to a position; what lies between has to be the reader's own, left out because it asked so."""
        assert self.cursor is not None
        assert position.epoch == self.cursor.epoch, "another epoch, and it was not told"
        assert position.offset >= self.cursor.offset, "doubled, or out of order"
        while self.cursor.offset < position.offset:
            self.cursor = Position(self.cursor.epoch, self.cursor.offset + 1)
            assert self._own(self.cursor, log), f"a silent hole at {self.cursor}"

    def _own(self, position: Position, log: dict[tuple[Channel, Position], Publication]) -> bool:
        publication = log.get((self.channel, position))
        return not self.echo and publication is not None and publication.origin == self.link.serial


class FanOut(RuleBasedStateMachine):
    """A switchboard whose engine, event loop and links are in Hypothesis' hands."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.limits = TailLimits(topic_items=6, topic_bytes=60, node_bytes=100)
        self.turns: list[Callable[[], None]] = []
        self.reads: list[Read] = []
        self.notices: list[Publication] = []
        self.switchboard = Switchboard(
            read=self._read, soon=self.turns.append, limits=self.limits, lingering=1
        )
        self.formats = {strict: RecordingFormat(strict=strict) for strict in (False, True)}
        self.log: dict[tuple[Channel, Position], Publication] = {}
        self.keys: dict[tuple[Channel, str], tuple[Position, float]] = {}
        self.positions: list[Position] = [Position("foreign", 0), Position("foreign", 7)]
        self.readers: list[Reader] = []
        self.links: list[FakeLink] = []
        self.serial = 0
        self.restart(drop=True)

    def _kept(self, publication: Publication) -> None:
        self.log[publication.channel, publication.position] = publication
        self.positions.append(publication.position)
        self.notices.append(publication)

    def _read(self, topic: Topic, start: Start) -> None:
        self.reads.append(self._asked(topic, start))

    def _asked(self, topic: Topic, start: Start) -> Read:
        return Read(topic, start, self.engine.read(topic.channel, start, KEEP, limit=PAGE, max_bytes=40))

    # -- the engine ------------------------------------------------------------------------------------------

    @rule(drop=st.booleans())
    def restart(self, drop: bool) -> None:
        """The engine loses everything, and perhaps what it had not told yet."""
        self.engine = MemoryEngine(clock=self.clock)
        done(self.engine.start(Feed(self._kept)))
        self.keys.clear()
        if drop:
            self.notices.clear()

    @rule(
        channel=st.sampled_from(CHANNELS),
        size=st.sampled_from([0, 1, 10, 25, 70]),
        origin=st.integers(0, 5),
        key=st.none() | st.sampled_from("xy"),
        heard=st.sampled_from([True, True, True, False]),
    )
    def publish(self, channel: Channel, size: int, origin: int, key: str | None, heard: bool) -> None:
        message = Message(b"%d" % len(self.log) + b"." * size, origin=origin)
        position = self.engine.append(channel, message, KEEP, key=key, key_ttl_s=KEY_TTL_S)
        if key is not None:
            known = self.keys.get((channel, key))
            if known is not None and self.clock() < known[1]:
                assert position == known[0], "a key was applied twice"
            else:
                assert self.log[channel, position].data == message.data
                self.keys[channel, key] = position, self.clock() + KEY_TTL_S
        if heard:
            self.hear(len(self.notices))

    @rule(count=st.integers(1, 6), origin=st.integers(0, 5), channel=st.sampled_from(CHANNELS))
    def burst(self, count: int, origin: int, channel: Channel) -> None:
        for number in range(count):
            self.publish(channel, 5, origin if number % 2 else 0, None, True)

    @precondition(lambda self: self.notices)
    @rule(count=st.integers(1, 10))
    def hear(self, count: int) -> None:
        """The engine's notifications arrive, in order."""
        notices, self.notices = self.notices[:count], self.notices[count:]
        for publication in notices:
            self.switchboard.notify(publication)

    @precondition(lambda self: self.notices)
    @rule(data=st.data())
    def lose_a_notice(self, data: st.DataObject) -> None:
        del self.notices[data.draw(st.integers(0, len(self.notices) - 1))]

    @precondition(lambda self: self.log)
    @rule(data=st.data())
    def hear_an_old_notice_again(self, data: st.DataObject) -> None:
        epochs = {topic.channel: topic.epoch for topic in self.switchboard.topics.values()}
        old = [
            publication
            for publication in self.log.values()
            if publication.epoch == epochs.get(publication.channel) and publication not in self.notices
        ]
        if old:
            self.switchboard.notify(data.draw(st.sampled_from(old)))

    @rule()
    def sweep(self) -> None:
        self.switchboard.sweep()

    @rule(seconds=st.sampled_from([1, 20, 61]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    # -- the event loop --------------------------------------------------------------------------------------

    @precondition(lambda self: self.turns)
    @rule()
    def turn(self) -> None:
        turns, self.turns[:] = list(self.turns), []
        for work in turns:
            work()

    @precondition(lambda self: self.reads)
    @rule(data=st.data(), late=st.booleans())
    def answer(self, data: st.DataObject, late: bool) -> None:
        """A read is answered, in any order; ``late``: it was done just now, not when it was asked for."""
        read = self.reads.pop(data.draw(st.integers(0, len(self.reads) - 1)))
        self.switchboard.read_done(*(self._asked(read.topic, read.start) if late else read))

    @precondition(lambda self: self.reads)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        read = self.reads.pop(data.draw(st.integers(0, len(self.reads) - 1)))
        for subscription in self.switchboard.read_failed(read.topic, read.start):
            subscription.link.close(3004, "the store could not be read")

    # -- links -----------------------------------------------------------------------------------------------

    @rule(
        data=st.data(),
        channel=st.sampled_from(CHANNELS),
        echo=st.booleans(),
        strict=st.sampled_from([False, False, True]),
        room=st.sampled_from([None, None, 0, 20, 60]),
    )
    def follow(
        self, data: st.DataObject, channel: Channel, echo: bool, strict: bool, room: int | None
    ) -> None:
        start = data.draw(st.sampled_from([NOW, EARLIEST]) | st.sampled_from(self.positions))
        links = [
            link
            for link in self.links
            if all(reader.channel != channel for reader in self.readers if reader.link is link)
        ]
        link = data.draw(st.sampled_from([None, *links]))
        if link is None:
            self.serial += 1
            link = FakeLink(self.switchboard, self.serial, room=room)
            self.links.append(link)
        self.readers.append(Reader(link, channel, start, echo=echo, strict=strict))
        link.subscriptions.append(
            self.switchboard.follow(link, channel, self.formats[strict], start, echo=echo)
        )

    @precondition(lambda self: self.links)
    @rule(data=st.data())
    def fill(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.links)).fill()

    @precondition(lambda self: self.links)
    @rule(data=st.data())
    def drain(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.links)).drain()

    @precondition(lambda self: self.links)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.links)).close(1000, "")

    # -- what holds at all times -----------------------------------------------------------------------------

    @invariant()
    def every_reader_is_handed_a_contiguous_stream_or_told(self) -> None:
        for reader in self.readers:
            payloads = reader.link.payloads
            for payload in payloads[reader.seen :]:
                if payload.channel == reader.channel:
                    reader.take(payload, self.log)
            reader.seen = len(payloads)
        self.readers = [reader for reader in self.readers if reader.link.closed is None]
        self.links = [link for link in self.links if link.closed is None]

    @invariant()
    def every_tail_is_within_its_bounds(self) -> None:
        topics = self.switchboard.topics.values()
        idle = [*self.switchboard._idle, *self.switchboard._idle_before]
        assert len(idle) <= 2
        for topic in topics:
            new = topic.head - topic.flushed
            assert len(topic._tail) <= self.limits.topic_items * (2 if new else 1)
            assert sum(len(publication.data) for publication in topic._tail) == topic._tail_bytes
            assert topic._tail_bytes <= self.limits.topic_bytes * (2 if new else 1)
            assert [publication.offset for publication in topic._tail] == list(
                range(topic.head + 1 - len(topic._tail), topic.head + 1)
            )
            assert topic.subscriptions or topic in idle
        assert self.limits.used_bytes == sum(topic._tail_bytes for topic in topics)
        if all(topic.head == topic.flushed for topic in topics):
            assert self.limits.used_bytes <= self.limits.node_bytes

    @invariant()
    def nobody_is_live_on_a_full_link(self) -> None:
        for link in self.links:
            for subscription in link.subscriptions:
                assert not (link.paused and subscription.state is State.LIVE)

    # -- and in the end --------------------------------------------------------------------------------------

    def settle(self) -> None:
        for _ in range(2000):
            if not self.turns and not self.reads:
                return
            self.turn()
            if self.reads:
                self.switchboard.read_done(*self.reads.pop(0))
        raise AssertionError("it never comes to rest")

    def teardown(self) -> None:
        self.hear(len(self.notices))
        self.settle()
        for channel in CHANNELS:  # whoever missed the last notification learns of it by the next
            self.publish(channel, 1, 0, None, True)
        for _ in range(200):
            self.settle()
            self.every_reader_is_handed_a_contiguous_stream_or_told()
            if not any(link.paused for link in self.links):
                break
            for link in self.links:
                if link.paused:
                    link.drain()
        for reader in self.readers:
            head = self.engine.read(reader.channel, NOW, KEEP, limit=0, max_bytes=1).head
            assert reader.cursor == head, "not everything arrived"
            (subscription,) = [
                found for found in reader.link.subscriptions if found.topic.channel == reader.channel
            ]
            assert (subscription.state, subscription.position) == (State.LIVE, head)
        for link in self.links:
            link.close(1000, "")
        self.settle()
        for _ in range(2):
            self.switchboard.sweep()
        assert (self.limits.used_bytes, self.switchboard.topics) == (0, {})


TestFanOut = pytest.mark.slow(FanOut.TestCase)
TestFanOut.settings = settings(max_examples=150, stateful_step_count=50)
