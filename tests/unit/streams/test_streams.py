"""The streams of one node: one write for all who wait, decided again where another node was first."""

import asyncio
from typing import Final

import pytest

from heartwire.engines.contract import Feed, Recorded, Retention, StreamWrite
from heartwire.engines.memory import MemoryEngine
from heartwire.errors import EngineUnavailable, HeartwireError, Refused
from heartwire.streams import record as records
from heartwire.streams.record import Claim, Producer, StreamClosed, StreamOptions
from heartwire.streams.streams import MAX_WAITING, MAX_WAITING_BYTES, Streams
from heartwire.testing.clock import FakeClock
from heartwire.types import EARLIEST, Channel, Message, Position

STREAM: Final = Channel("answer:42")
TEXT: Final = StreamOptions(content_type="text/plain")
WORD: Final = [Message(b"word")]
WHOLE: Final = Retention(2**50, 1e9)


class _Store(MemoryEngine):
    """A store that answers writes when it is told to, and can break off before or after it has them."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        super().__init__(clock=self.clock)
        self.writes: list[StreamWrite] = []
        self.gate: asyncio.Future[None] | None = None
        self.breaks: list[str] = []

    def write(self, channel: Channel, change: StreamWrite) -> Recorded | asyncio.Future[Recorded]:  # type: ignore[override]
        self.writes.append(change)
        return asyncio.ensure_future(self._answer(channel, change))

    async def _answer(self, channel: Channel, change: StreamWrite) -> Recorded:
        if self.gate is not None:
            await self.gate
        if self.breaks and self.breaks.pop(0) == "before":
            raise EngineUnavailable("broken off")
        return super().write(channel, change)

    def data(self) -> list[bytes]:
        read = self.read(STREAM, EARLIEST, WHOLE, limit=1000, max_bytes=10**6)
        return [one.data for one in read.publications if not one.is_end]


def streams(store: MemoryEngine) -> Streams:
    return Streams(store, max_bytes=lambda channel: 10**6)


async def test_all_who_wait_for_a_stream_are_written_together_in_their_order() -> None:
    store = _Store()
    node = streams(store)
    await node.create(STREAM, TEXT)
    store.gate = asyncio.get_running_loop().create_future()
    asked = [asyncio.ensure_future(node.append(STREAM, [Message(b"%d" % at)])) for at in range(5)]
    await asyncio.sleep(0)
    store.gate.set_result(None)
    tails = [position.offset for _, position in await asyncio.gather(*asked)]
    assert tails == [1, 2, 3, 4, 5]
    assert store.data() == [b"0", b"1", b"2", b"3", b"4"]
    assert [len(write.messages) for write in store.writes] == [0, 1, 4]


async def test_a_refused_one_among_them_leaves_the_others() -> None:
    store = _Store()
    node = streams(store)
    await node.create(STREAM, TEXT)
    store.gate = asyncio.get_running_loop().create_future()
    gap = Claim(producer=Producer("p", 0, 5))
    asked = [
        asyncio.ensure_future(node.append(STREAM, WORD, claim)) for claim in (Claim(), Claim(), gap, Claim())
    ]
    await asyncio.sleep(0)
    store.gate.set_result(None)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [isinstance(answer, Refused) for answer in answers] == [False, False, True, False]
    assert store.data() == [b"word"] * 3


async def test_what_another_node_wrote_meanwhile_is_decided_on_anew() -> None:
    store = _Store()
    here, there = streams(store), streams(store)
    await here.create(STREAM, TEXT)
    once = Claim(producer=Producer("p", 0, 0))
    assert (await here.append(STREAM, WORD, once))[0].is_new
    assert not (await there.append(STREAM, WORD, once))[0].is_new
    await there.append(STREAM, WORD, Claim(producer=Producer("p", 0, 1)))
    assert not (await here.append(STREAM, WORD, Claim(producer=Producer("p", 0, 1))))[0].is_new
    assert store.data() == [b"word"] * 2
    assert await there.close(STREAM, "done")
    with pytest.raises(StreamClosed):
        await here.append(STREAM, WORD)


async def test_a_refusal_is_of_the_present_and_not_of_what_is_remembered() -> None:
    store = _Store()
    here, there = streams(store), streams(store)
    await here.create(STREAM, TEXT)
    await here.close(STREAM, "done")
    await there.change(STREAM, lambda record, now_ms: records.Step(None, (), None))
    await there.create(STREAM, TEXT)
    assert (await here.append(STREAM, WORD))[0].is_new


async def test_a_write_whose_answer_was_lost_is_known_by_its_revision() -> None:
    store = _Store()
    here, there = streams(store), streams(store)
    await here.create(STREAM, TEXT)

    class _Late(MemoryEngine):
        """Answers with what the store has after another node's write: this one is below it."""

        record = store.record

        def write(self, channel: Channel, change: StreamWrite) -> Recorded | asyncio.Future[Recorded]:  # type: ignore[override]
            return asyncio.ensure_future(self._late(channel, change))

        async def _late(self, channel: Channel, change: StreamWrite) -> Recorded:
            MemoryEngine.write(store, channel, change)
            await there.append(STREAM, [Message(b"theirs")])
            return store.record(channel)

    appended, position = await streams(_Late()).append(STREAM, [Message(b"ours")])
    assert appended.is_new
    assert position.offset == 1
    assert store.data() == [b"ours", b"theirs"]


async def test_an_append_that_the_store_did_not_take_is_refused_and_the_next_one_taken() -> None:
    store = _Store()
    node = streams(store)
    await node.create(STREAM, TEXT)
    store.breaks = ["before"]
    with pytest.raises(EngineUnavailable):
        await node.append(STREAM, WORD)
    await node.append(STREAM, WORD)
    assert store.data() == [b"word"]


@pytest.mark.parametrize("when", ["at once", "later", "stopped"])
async def test_an_engine_that_fails_unexpectedly_fails_those_it_wrote_for_and_no_others(
    when: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(_Store):
        fails = False

        def write(self, channel: Channel, change: StreamWrite) -> Recorded | asyncio.Future[Recorded]:  # type: ignore[override]
            if not self.fails:
                return super().write(channel, change)
            self.fails = False
            if when == "at once":
                raise ValueError("a fault")
            answer: asyncio.Future[Recorded] = asyncio.get_running_loop().create_future()
            if when == "stopped":
                answer.cancel()
            else:
                answer.set_exception(ValueError("a fault"))
            return answer

    store = Faulty()
    node = streams(store)
    await node.create(STREAM, TEXT)
    store.gate = asyncio.get_running_loop().create_future()
    asked = [asyncio.ensure_future(node.append(STREAM, WORD)) for _ in range(2)]
    await asyncio.sleep(0)
    store.fails = True
    store.gate.set_result(None)
    first, second = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(first, tuple)
    assert isinstance(second, HeartwireError)
    assert ("its write failed" in caplog.text) == (when != "stopped")
    assert (await node.append(STREAM, WORD))[0].tail == 2
    await node.settle()
    assert (node.waiting, node.waiting_bytes) == (0, 0)


async def test_a_fault_of_the_store_fails_all_whom_it_meets() -> None:
    store = _Store()
    node = streams(store)
    await node.create(STREAM, TEXT)
    store.gate = asyncio.get_running_loop().create_future()
    asked = [asyncio.ensure_future(node.append(STREAM, WORD)) for _ in range(3)]
    await asyncio.sleep(0)
    store.gate.set_exception(ZeroDivisionError("a fault"))
    for one in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(one, HeartwireError)
        assert "a fault" in str(one)
    store.gate = None
    await node.append(STREAM, WORD)


async def test_a_caller_that_goes_away_leaves_the_others_and_its_append() -> None:
    store = _Store()
    node = streams(store)
    await node.create(STREAM, TEXT)
    store.gate = asyncio.get_running_loop().create_future()
    first, second = (asyncio.ensure_future(node.append(STREAM, WORD)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    store.gate.set_result(None)
    await second
    await node.settle()
    assert store.data() == [b"word"] * 2


async def test_what_was_appended_is_not_held_once_it_is_answered() -> None:
    for one in (streams(_Store()), streams(MemoryEngine())):
        await one.create(STREAM, TEXT)
        await one.append(STREAM, [Message(b"x")])
        line = one._line(STREAM)
        assert not [name for name in ("_waiting", "_together", "_write") if getattr(line, name)]


async def test_those_who_wait_are_bounded() -> None:
    store = _Store()
    node = streams(store)
    await node.create(STREAM, TEXT)
    store.gate = asyncio.get_running_loop().create_future()
    asked = [asyncio.ensure_future(node.append(STREAM, WORD)) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)
    assert (node.waiting, node.waiting_bytes) == (MAX_WAITING, 4 * MAX_WAITING)
    with pytest.raises(Refused) as refused:
        await node.append(STREAM, WORD)
    assert refused.value.code.name == "too_many_requests"
    store.gate.set_result(None)
    tails = [position.offset for _, position in await asyncio.gather(*asked)]
    assert tails == list(range(1, MAX_WAITING + 1))
    await asyncio.sleep(0)
    assert (node.waiting, node.waiting_bytes) == (0, 0)


async def test_what_they_append_is_bounded_too_but_one_may_always_wait() -> None:
    store = _Store()
    node = Streams(store, max_bytes=lambda channel: 2**40)
    await node.create(STREAM, TEXT)
    store.gate = asyncio.get_running_loop().create_future()
    large = [Message(bytes(MAX_WAITING_BYTES + 1))]
    asked = asyncio.ensure_future(node.append(STREAM, large))
    await asyncio.sleep(0)
    with pytest.raises(Refused):
        await node.append(STREAM, WORD)
    store.gate.set_result(None)
    await asked


async def test_a_dead_producer_s_stream_is_interrupted_once_by_whoever_looks() -> None:
    store = _Store()
    here, there = streams(store), streams(store)
    await here.create(STREAM, TEXT, owner="run", lease_s=10)
    await here.append(STREAM, WORD, Claim(owner="run"))
    store.clock.advance(9)
    assert not (await there.look(STREAM)).record.closed
    store.clock.advance(2)
    seen = await asyncio.gather(here.look(STREAM), there.look(STREAM), there.look(STREAM))
    assert {one.record.closed for one in seen} == {"interrupted"}
    assert {one.tail for one in seen} == {Position(seen[0].found.head.epoch, 1)}
    assert seen[0].found.head.offset == 2
    with pytest.raises(StreamClosed):
        await here.append(STREAM, WORD, Claim(owner="run"))


async def test_a_run_that_writes_in_time_keeps_its_stream() -> None:
    store = _Store()
    here, there = streams(store), streams(store)
    await here.create(STREAM, TEXT, owner="run", lease_s=10)
    for _ in range(3):
        store.clock.advance(9)
        await here.append(STREAM, WORD, Claim(owner="run"))
        assert not await there.end_lapsed(STREAM)


async def test_a_stream_that_its_owner_writes_in_the_same_step_is_not_interrupted() -> None:
    store = _Store()
    node = streams(store)
    await node.create(STREAM, TEXT, owner="run", lease_s=10)
    store.clock.advance(11)
    store.gate = asyncio.get_running_loop().create_future()
    store.breaks = ["before"]
    asked = [
        asyncio.ensure_future(node.append(STREAM, WORD)),
        asyncio.ensure_future(node.append(STREAM, WORD, Claim(owner="run"))),
        asyncio.ensure_future(node.end_lapsed(STREAM)),
    ]
    await asyncio.sleep(0)
    store.gate.set_result(None)
    lost, _, is_ended = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(lost, EngineUnavailable)
    assert [len(write.messages) for write in store.writes] == [0, 1, 1]
    assert is_ended is False
    assert not (await node.look(STREAM)).record.closed


async def test_what_comes_before_a_deletion_is_kept_and_told_in_the_epoch_that_ends() -> None:
    store = _Store()
    node = streams(store)
    _, seen = await node.create(STREAM, TEXT)
    told: list[Position] = []
    await store.start(Feed(lambda one: told.append(one.position)))
    store.gate = asyncio.get_running_loop().create_future()
    asked = [
        asyncio.ensure_future(node.append(STREAM, WORD)),
        asyncio.ensure_future(node.append(STREAM, WORD)),
    ]
    deleted = node.change(STREAM, lambda record, now_ms: records.Step(None, (), True))
    made = asyncio.gather(deleted, node.create(STREAM, TEXT, WORD))
    await asyncio.sleep(0)
    store.gate.set_result(None)
    places = [position for _, position in await asyncio.gather(*asked)]
    assert places == [Position(seen.tail.epoch, 1), Position(seen.tail.epoch, 2)]
    _, (is_new, created) = await made
    assert is_new
    assert told == [*places, created.tail]


async def test_the_end_of_an_epoch_is_told() -> None:
    store = MemoryEngine()
    told: list[Position] = []
    node = Streams(
        store, max_bytes=lambda channel: 100, ended=lambda channel, position: told.append(position)
    )
    _, seen = await node.create(STREAM, TEXT, WORD)
    await node.change(STREAM, lambda record, now_ms: records.Step(None, (), None))
    assert [position.offset for position in told] == [0]
    assert told[0].epoch != seen.tail.epoch
    with pytest.raises(Refused, match="create it first"):
        await node.look(STREAM)
