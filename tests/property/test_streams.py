"""Durable streams under anything that can happen: nodes that write to the same stream, producers that try
again anywhere, answers of the store that are late or lost, leases and lives that end.

A Hypothesis state machine has several `Streams` on one store in its hands, and checks what the store keeps as
it is kept. Planted bugs show that it would notice.
"""

import asyncio
import itertools
import json
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from heartwire.core.waiting import settled
from heartwire.engines.contract import Feed, Recorded, StreamWrite
from heartwire.engines.memory import MemoryEngine
from heartwire.errors import EngineUnavailable, Refused
from heartwire.streams import line as line_module
from heartwire.streams import record as records
from heartwire.streams.record import Claim, Producer, Step, StreamOptions
from heartwire.streams.streams import Seen, Streams
from heartwire.testing import FakeClock
from heartwire.testing.simulation.loop import VirtualLoop
from heartwire.types import Channel, Message, Publication
from tests.unit.core.fakes import done

STREAM: Final = Channel("answer:42")
NODES: Final = 2
OWNER: Final = "run"
LEASE_S: Final = 5
TTL_S: Final = 20

HOW: Final = (*["well"] * 6, "twice", "late", "late", "before", "after")

_node: Final = st.integers(0, NODES - 1)


class Wire:
    """A node's way to the store: its calls wait, in order, until Hypothesis lets them through."""

    def __init__(self, loop: VirtualLoop, store: MemoryEngine) -> None:
        self.loop, self.store = loop, store
        self.calls: deque[tuple[asyncio.Future[Recorded], Callable[[], Recorded]]] = deque()

    def record(self, channel: Channel) -> "asyncio.Future[Recorded]":
        return self._later(lambda: self.store.record(channel))

    def write(self, channel: Channel, change: StreamWrite) -> "asyncio.Future[Recorded]":
        return self._later(lambda: self.store.write(channel, change))

    def _later(self, work: Callable[[], Recorded]) -> "asyncio.Future[Recorded]":
        future: asyncio.Future[Recorded] = self.loop.create_future()
        self.calls.append((future, work))
        return future


class Asked(NamedTuple):
    """A request under way. ``at_s``: when it was made."""

    kind: str
    task: "asyncio.Task[Any]"
    body: bytes
    is_numbered: bool
    at_s: float


class StreamsMachine(RuleBasedStateMachine):
    """Several nodes' `Streams`; one stream, of which there may be one after the other."""

    engine: type[MemoryEngine] = MemoryEngine

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.loop = VirtualLoop()
        self.store = self.engine(clock=self.clock)
        done(self.store.start(Feed(self._kept)))
        self.wires = [Wire(self.loop, self.store) for _ in range(NODES)]
        revisions = iter(range(1, 2**52))
        self.nodes: list[Streams] = [
            Streams(wire, max_bytes=lambda channel: 10**6, new_revision=revisions.__next__)  # type: ignore[arg-type]
            for wire in self.wires
        ]
        self.logs: dict[str, list[Publication]] = {}  # all that was ever kept, by epoch
        self.before = self.store.record(STREAM)  # as the store was before what it does now
        self.asked: list[Asked] = []
        self.next = {"p": (0, 0), "q": (0, 0)}  # epoch and number of each producer's next append
        self.ends: Counter[str] = Counter()  # by their reasons
        self.said: Counter[str] = Counter()  # of requests that were told that it was they who did it
        self.begun = self.words = 0

    # -- what is asked ---------------------------------------------------------------------------------------

    def ask(
        self, kind: str, node: int, work: Callable[[Streams], Any], body: bytes = b"", **more: Any
    ) -> None:
        task = self.loop.create_task(work(self.nodes[node]))
        self.asked.append(Asked(kind, task, body, more.get("is_numbered", False), self.clock()))
        self.loop.run_for(0.001)

    @initialize(has_owner=st.booleans())
    def begin(self, has_owner: bool) -> None:
        self.create(0, has_owner, 0)
        self.finish()

    @rule(node=_node, has_owner=st.booleans(), ttl_s=st.sampled_from([0, 0, TTL_S]))
    def create(self, node: int, has_owner: bool, ttl_s: float) -> None:
        record = records.unpacked(self.store.record(STREAM).record)
        if record is not None and record.closed:
            self.end(node, "delete")
        more: dict[str, Any] = {"owner": OWNER, "lease_s": LEASE_S} if has_owner else {}
        self.ask("create", node, lambda streams: streams.create(STREAM, StreamOptions(ttl_s=ttl_s), **more))

    @rule(
        node=_node,
        is_owner=st.sampled_from([False, False, True]),
        closes=st.sampled_from([*[""] * 9, "done"]),
    )
    def append(self, node: int, is_owner: bool, closes: Any) -> None:
        self.words += 1
        body = b"word %d" % self.words
        claim = Claim(owner=OWNER if is_owner else "", close=closes)
        self.ask("append", node, lambda streams: streams.append(STREAM, [Message(body)], claim), body)

    @rule(
        node=_node,
        who=st.sampled_from("pq"),
        back=st.sampled_from([0, 0, 1]),
        times=st.integers(1, 2),
        is_anew=st.sampled_from([*[False] * 5, True]),
    )
    def append_once(self, node: int, who: str, back: int, times: int, is_anew: bool) -> None:
        """A producer's next append, or one that it has made already; through two nodes at once, perhaps."""
        epoch, number = self.next[who]
        if is_anew:
            epoch, number = self.next[who] = epoch + 1, 0
        producer = Producer(who, epoch, max(0, number - back))
        body = b"%s %d %d" % (who.encode(), *producer[1:])
        claim = Claim(producer=producer)
        for at in range(times):
            one = (node + at) % NODES
            work: Callable[[Streams], Any] = lambda streams: streams.append(STREAM, [Message(body)], claim)  # noqa: E731
            self.ask("append", one, work, body, is_numbered=True)

    @rule(node=_node, how=st.sampled_from([*[""] * 6, "done", "aborted", "delete"]))
    def end(self, node: int, how: Any) -> None:
        decide = lambda record, now_ms: Step(None, (), record is not None)  # noqa: E731
        if how == "delete":
            self.ask("delete", node, lambda streams: streams.change(STREAM, decide))
        elif how:
            self.ask(f"close {how}", node, lambda streams: streams.close(STREAM, how))

    @rule(node=_node, is_end=st.booleans())
    def look(self, node: int, is_end: bool) -> None:
        if is_end:
            self.ask("close interrupted", node, lambda streams: streams.end_lapsed(STREAM))
        else:
            self.ask("look", node, lambda streams: streams.look(STREAM))

    @rule(seconds=st.sampled_from([1, LEASE_S + 1, LEASE_S + 1, TTL_S + 1]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    # -- what the store does ---------------------------------------------------------------------------------

    @precondition(lambda self: any(wire.calls for wire in self.wires))
    @rule(data=st.data(), count=st.sampled_from([1, 1, 1, 2, 4]), how=st.sampled_from(HOW))
    def carry_out(self, data: st.DataObject, count: int, how: str) -> None:
        """The next calls of a node: they are answered; or their answer is lost, and they fail, or are sent
        again, at once or after all that others wait for; or they are not carried out."""
        wire = data.draw(st.sampled_from([wire for wire in self.wires if wire.calls]))
        if how == "late":
            self.carry_out_one(wire, "twice")
            self.finish(but=wire)
            count, how = 1, "well"
        for _ in range(min(count, len(wire.calls))):
            self.carry_out_one(wire, how)

    def carry_out_one(self, wire: Wire, how: str) -> None:
        future, work = wire.calls.popleft()
        self.before = self.store.record(STREAM)
        if how != "before":
            answer = work()
        self.begun += not self.before.revision and bool(self.store.record(STREAM).revision)
        if how == "twice":
            wire.calls.appendleft((future, work))
        elif how in ("before", "after"):
            future.set_exception(EngineUnavailable(how))
        else:
            future.set_result(answer)
        self.loop.run_for(0.001)

    def _kept(self, one: Publication) -> None:
        log = self.logs.setdefault(one.epoch, [])
        assert one.offset == len(log) + 1, "an epoch that is over was used again"
        assert not (log and log[-1].is_end), "something comes after the end"
        log.append(one)
        if one.is_end:
            reason = json.loads(one.data)["reason"]
            self.ends[reason] += 1
            if reason == "interrupted":
                was = records.unpacked(self.before.record)
                assert was is not None
                assert was.is_lapsed(self.before.written_ms, self.before.now_ms), "its owner was alive"

    # -- what holds at all times -----------------------------------------------------------------------------

    @invariant()
    def the_record_tells_what_is_kept(self) -> None:
        found = self.store.record(STREAM)
        record = records.unpacked(found.record)
        if record is None:
            return
        log = self.logs.get(found.head.epoch, [])
        words = [one for one in log if not one.is_end]
        assert record.tail == len(words)
        assert record.bytes == sum(len(one.data) for one in words)
        assert bool(record.closed) == (len(log) > len(words))

    @invariant()
    def nothing_is_kept_twice_or_out_of_order(self) -> None:
        for log in self.logs.values():
            words = Counter(one.data for one in log if one.data.startswith(b"word"))
            assert not words or max(words.values()) == 1, "kept twice"
            for who in (b"p ", b"q "):
                numbers = [tuple(map(int, one.data.split()[1:])) for one in log if one.data.startswith(who)]
                for (epoch, number), (after, then) in itertools.pairwise(numbers):
                    assert (after, then) == (epoch, number + 1) or (after > epoch and then == 0)
                assert not numbers or numbers[0][1] == 0

    @invariant()
    def answers_are_true(self) -> None:
        waiting = []
        for one in self.asked:
            if not one.task.done():
                waiting.append(one)
            elif isinstance(error := one.task.exception(), Refused):
                assert one.is_numbered or one.body not in self._there(), "refused, and kept"
            elif error is None:
                self._answered(one, one.task.result())
            else:
                assert isinstance(error, EngineUnavailable)
        self.asked = waiting
        assert self.said["create"] <= self.begun
        for reason in ("done", "aborted", "interrupted"):
            assert self.said[f"close {reason}"] <= self.ends[reason]

    def _there(self) -> set[bytes]:
        """What the stream has now. With a stream that is deleted goes what was known of its last writes."""
        return {one.data for one in self.logs.get(self.store.record(STREAM).head.epoch, [])}

    def _answered(self, one: Asked, answer: Any) -> None:
        if one.kind == "append":
            appended, position = answer
            log = [kept.data for kept in self.logs[position.epoch]]
            assert one.body in (log[position.offset - 1 :][:1] if appended.is_new else log[: position.offset])
            assert appended.is_new or one.is_numbered
            if one.is_numbered:
                who, epoch, number = one.body.decode().split()
                self.next[who] = max(self.next[who], (int(epoch), int(number) + 1))
        elif one.kind == "look":
            assert isinstance(answer, Seen)
            is_lapsed = answer.record.is_lapsed(answer.found.written_ms, answer.found.now_ms)
            assert not is_lapsed or one.at_s < self.clock(), "nobody has interrupted it"
        else:
            self.said[one.kind] += answer if isinstance(answer, bool) else answer[0]

    # -- and in the end --------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            self.loop.discard()

    def finish(self, but: Wire | None = None) -> None:
        while busy := [wire for wire in self.wires if wire.calls and wire is not but]:
            for wire in busy:
                self.carry_out_one(wire, "well")

    def settle(self) -> None:
        self.finish()
        self.answers_are_true()
        assert self.asked == [], "it never comes to rest"
        assert [(node.waiting, node.waiting_bytes) for node in self.nodes] == [(0, 0)] * NODES
        self.the_record_tells_what_is_kept()
        self.nothing_is_kept_twice_or_out_of_order()


TestStreams = pytest.mark.slow(StreamsMachine.TestCase)
TestStreams.settings = settings(max_examples=100, stateful_step_count=50)


# -- planted bugs --------------------------------------------------------------------------------------------


class _Careless(MemoryEngine):
    def write(self, channel: Channel, change: StreamWrite) -> Recorded:
        return super().write(channel, change._replace(expects=self.record(channel).revision))


def a_store_that_writes_whatever_is_expected(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StreamsMachine, "engine", _Careless)


def a_write_below_another_is_taken_for_not_made(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(line_module, "_is_made", lambda change, now: change.record is None and now is None)


def what_a_producer_sends_again_is_new(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(records, "_duplicate", lambda producer, known: None)


def whoever_was_dead_is_dead(patch: pytest.MonkeyPatch) -> None:
    """Nobody asks, where a lapsed stream is closed, whether its owner has written meanwhile."""

    async def end_lapsed(self: Streams, channel: Channel) -> bool:
        found = await settled(self._engine.record(channel))
        record = records.unpacked(found.record)
        if record is None or not record.is_lapsed(found.written_ms, found.now_ms):
            return False
        return await self.close(channel, "interrupted", owner=record.owner)

    patch.setattr(Streams, "end_lapsed", end_lapsed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "plant",
    [
        a_store_that_writes_whatever_is_expected,
        a_write_below_another_is_taken_for_not_made,
        what_a_producer_sends_again_is_new,
        whoever_was_dead_is_dead,
    ],
)
def test_planted_bug_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    once = settings(
        max_examples=2000, stateful_step_count=50, database=None, derandomize=True, phases=[Phase.generate]
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(StreamsMachine, settings=once)
