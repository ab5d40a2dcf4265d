"""Runs: blocks and producers that write streams, who stops them, and what becomes of them when a node ends."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
import pytest

from heartwire import Hub, LimitExceeded, Refused, StreamCancelled
from heartwire.core.waiting import settled
from heartwire.engines.contract import StreamWrite
from heartwire.errors import EngineUncertain
from heartwire.hub import runs as runs_module
from heartwire.hub import user_limits
from heartwire.streams.formats import Each, Text, register
from heartwire.streams.record import Step, StreamRecord
from heartwire.types import EARLIEST, Channel, Publication
from tests.unit.hub.shared_memory import Attached, Store
from tests.unit.transports.tools import until

STREAM: Final = Channel("answer:42")
WORDS: Final = [f"word {number} " for number in range(40)]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture(params=["memory", "shared"])
def hub(request: pytest.FixtureRequest) -> Hub:
    """It starts with its first call."""
    if request.param == "shared":
        return Store().hub("a", drain_s=0)
    hub = Hub(allow_anonymous=True, drain_s=0)
    hub.namespace("answer", durable=True)
    return hub


async def kept(hub: Hub) -> list[Publication]:
    """What the stream has, its end too."""
    read = hub.node.history.whole(STREAM, EARLIEST, limit=1000, max_bytes=10**6)
    return (await settled(read)).publications


async def text(hub: Hub) -> str:
    return b"".join(one.data for one in await kept(hub) if not one.is_end).decode()


async def record(hub: Hub) -> StreamRecord:
    return (await hub.node.streams.look(STREAM)).record


async def ended(hub: Hub) -> str:
    """Wait for the end of the stream, and return why."""
    await until(lambda: STREAM not in hub.node.runs._runs)
    return (await record(hub)).closed


class Model:
    """A producer that says a word when the test lets it, and remembers what became of it."""

    def __init__(self) -> None:
        self.runs = 0
        self.said = 0
        self.outcome = ""
        self._allowed = asyncio.Semaphore(0)

    async def __call__(self) -> AsyncIterator[str]:
        self.runs += 1
        try:
            for word in WORDS:
                await self._allowed.acquire()
                self.said += 1
                yield word
            self.outcome = "done"
        except BaseException as error:
            self.outcome = type(error).__name__
            raise

    def allow(self, words: int) -> None:
        for _ in range(words):
            self._allowed.release()


async def fast() -> AsyncIterator[str]:
    for word in WORDS:
        yield word


# -- blocks --------------------------------------------------------------------------------------------------


async def test_what_a_block_writes_is_kept_in_order_and_closed_when_it_ends(hub: Hub) -> None:
    async with hub.stream("answer:42", content_type="text/html", ttl_s=60) as out:
        for word in WORDS:
            await out.write(word)
    assert await text(hub) == "".join(WORDS)
    found = await record(hub)
    assert (found.closed, found.tail, found.options.content_type, found.options.ttl_s) == (
        "done",
        len(WORDS),
        "text/html",
        60,
    )


async def test_what_is_written_in_one_turn_is_one_write_of_the_store(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[StreamWrite] = []
    write = hub.node.engine.write

    def noted(channel: Channel, change: StreamWrite) -> Any:
        written.append(change)
        return write(channel, change)

    monkeypatch.setattr(hub.node.engine, "write", noted)
    async with hub.stream("answer:42") as out:
        for word in WORDS:
            await out.write(word)
        await until(lambda: len(written) == 2)
    assert [len(change.messages) for change in written] == [0, len(WORDS), 1]


async def test_a_block_waits_where_the_store_does(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = asyncio.Event()
    append = hub.node.streams.append

    async def held(*about: Any) -> Any:
        await gate.wait()
        return await append(*about)

    monkeypatch.setattr(hub.node.streams, "append", held)
    count = 0

    async def write() -> None:
        nonlocal count
        async with hub.stream("answer:42") as out:
            for _ in range(5000):
                await out.write("word")
                count += 1

    writing = asyncio.ensure_future(write())
    await until(lambda: count > 0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert count < 600
    gate.set()
    await writing
    assert (await record(hub)).tail == 5000


async def test_an_exception_ends_the_stream_with_words_for_readers(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    async def write() -> None:
        async with hub.stream("answer:42") as out:
            await out.write("so far")
            raise ValueError("a secret")

    with pytest.raises(ValueError, match="a secret"):
        await write()
    found = await record(hub)
    assert (found.closed, await text(hub)) == ("error", "so far")
    assert "secret" not in found.detail
    assert "a secret" in caplog.text


async def test_an_error_of_ours_is_told_to_readers(hub: Hub) -> None:
    with pytest.raises(Refused, match="quota"):
        async with hub.stream("answer:42"):
            raise Refused("forbidden", "your quota is used up")
    assert (await record(hub)).detail == "your quota is used up"


async def test_a_block_whose_task_is_cancelled_ends_the_stream_as_aborted(hub: Hub) -> None:
    started = asyncio.Event()

    async def write() -> None:
        async with hub.stream("answer:42") as out:
            await out.write("so far")
            started.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(write())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ((await record(hub)).closed, await text(hub)) == ("aborted", "so far")


@pytest.mark.parametrize("closed", [False, True])
async def test_a_name_that_is_taken_is_refused(hub: Hub, closed: bool) -> None:
    async with hub.stream("answer:42"):
        if not closed:
            with pytest.raises(Refused) as refused:
                await hub.stream("answer:42").__aenter__()
    if closed:
        with pytest.raises(Refused) as refused:
            await hub.stream("answer:42").__aenter__()
    assert refused.value.code.name == "stream_conflict"


async def test_a_channel_that_is_no_stream_is_refused(hub: Hub) -> None:
    hub.namespace("news")
    for call in (
        hub.stream("news:1").__aenter__(),
        hub.start_stream("news:1", fast),
        hub.cancel_stream("news:1"),
    ):
        with pytest.raises(Refused, match="durable"):
            await call


async def test_a_stream_that_is_full_fails_its_block_and_says_so(hub: Hub) -> None:
    hub.namespace("answer", durable=True, max_stream_bytes=20)

    async def write() -> None:
        async with hub.stream("answer:42") as out:
            await out.write("x" * 15)
            await until(lambda: not out._pending)
            await out.write("y" * 15)

    with pytest.raises(Refused, match="max_stream_bytes"):
        await write()
    found = await record(hub)
    assert (found.closed, await text(hub)) == ("error", "x" * 15)
    assert "max_stream_bytes" in found.detail


async def test_a_value_that_does_not_fit_is_the_blocks_fault(hub: Hub) -> None:
    with pytest.raises(TypeError, match="ndjson"):
        async with hub.stream("answer:42") as out:
            await out.write({"not": "text"})
    with pytest.raises(LimitExceeded):
        async with hub.stream("answer:43") as out:
            await out.write("x" * (hub.options.max_message_bytes + 1))


# -- stopping ------------------------------------------------------------------------------------------------


async def test_a_block_that_waits_is_woken_by_a_cancellation(hub: Hub) -> None:
    async def write() -> None:
        async with hub.stream("answer:42") as out:
            await out.write("so far")
            assert await hub.cancel_stream("answer:42")
            await asyncio.Event().wait()

    with pytest.raises(StreamCancelled) as cancelled:
        await write()
    assert cancelled.value.reason == "aborted"
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
    assert ((await record(hub)).closed, await text(hub)) in [("aborted", "so far"), ("aborted", "")]
    assert not await hub.cancel_stream("answer:42")
    assert not await hub.cancel_stream("answer:0")


async def test_a_block_that_writes_on_is_told_by_the_write(hub: Hub) -> None:
    await_stopped = asyncio.Event()

    async def write() -> str:
        async with hub.stream("answer:42") as out:
            await_stopped.set()
            try:
                while True:
                    await out.write("word")
                    await asyncio.sleep(0)
            except asyncio.CancelledError:  # by a block that goes on all the same
                with pytest.raises(StreamCancelled):
                    await out.write("late")
                raise

    writing = asyncio.ensure_future(write())
    await await_stopped.wait()
    assert await hub.cancel_stream("answer:42")
    with pytest.raises(StreamCancelled):
        await writing
    assert "late" not in await text(hub)


async def test_a_run_is_stopped_from_another_node_at_once(store: Store) -> None:
    model = Model()
    async with store.running("a") as a, store.running("b") as b:
        await a.start_stream("answer:42", model)
        model.allow(3)
        await until(lambda: model.said == 3)
        began = time.monotonic()
        assert await b.cancel_stream("answer:42")
        await until(lambda: model.outcome)
        assert time.monotonic() - began < 1
        assert model.outcome in ("CancelledError", "GeneratorExit")
        assert await ended(a) == "aborted"


async def test_a_run_hears_at_once_of_a_stream_that_others_end(store: Store) -> None:
    async with store.running("a") as a, store.running("b") as b:
        for hub in (a, b):
            model = Model()
            await a.start_stream("answer:42", model)
            await until(lambda model=model: model.runs)  # type: ignore[misc]
            await hub.node.streams.close(STREAM, "done")
            hub.node.runs.tell(STREAM)
            await until(lambda model=model: model.outcome)  # type: ignore[misc]
            assert await ended(a) == "done"
            await a.node.streams.change(STREAM, lambda record, now_ms: Step(None, (), None))


async def test_a_run_that_hears_nothing_is_stopped_when_it_renews_its_lease(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Attached, "send", lambda *about: None)
    model = Model()
    async with store.running("a") as a, store.running("b") as b:
        await a.start_stream("answer:42", model)
        await until(lambda: model.runs)
        assert await b.cancel_stream("answer:42")
        store.clock.advance(3)
        a.node.runs.advance()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not model.outcome, "the lease is young"
        store.clock.advance(1)
        a.node.runs.advance()
        await until(lambda: model.outcome)


async def test_a_run_that_was_replaced_is_told(hub: Hub) -> None:
    async def write() -> None:
        async with hub.stream("answer:42") as out:
            await out.write("mine")
            await until(lambda: not out._pending)
            await hub.node.streams.change(STREAM, taken_over)
            await out.write("late")
            await asyncio.Event().wait()

    def taken_over(record: StreamRecord | None, now_ms: int) -> Step:
        assert record is not None
        return Step(msgspec.structs.replace(record, owner="another"), (), None)

    with pytest.raises(StreamCancelled) as cancelled:
        await write()
    assert cancelled.value.reason == "interrupted"
    assert ((await record(hub)).closed, await text(hub)) == ("", "mine")


# -- producers -----------------------------------------------------------------------------------------------


def words() -> Iterator[str]:
    assert threading.current_thread() is not threading.main_thread()
    yield from WORDS


async def later() -> AsyncIterator[str]:
    return fast()


PRODUCERS: Final[dict[str, Callable[[], Any]]] = {
    "asynchronous function": lambda: fast,
    "asynchronous generator": lambda: fast(),
    "synchronous function": lambda: words,
    "synchronous generator": lambda: words(),
    "function that returns a list": lambda: lambda: WORDS,
    "list": lambda: WORDS,
    "coroutine function": lambda: later,
    "coroutine": lambda: later(),
}


@pytest.mark.parametrize("kind", PRODUCERS)
async def test_whatever_yields_is_a_producer(hub: Hub, kind: str) -> None:
    producer = PRODUCERS[kind]()
    assert await hub.start_stream("answer:42", producer)
    assert await ended(hub) == "done"
    assert await text(hub) == "".join(WORDS)


async def test_a_thread_is_no_further_than_what_was_taken(hub: Hub) -> None:
    yielded: list[int] = []
    closed: list[threading.Thread] = []

    def count() -> Iterator[str]:
        try:
            for number in range(10**6):
                yielded.append(number)
                yield "word" * 1000
        finally:
            closed.append(threading.current_thread())

    hub.namespace("answer", durable=True, max_stream_bytes=100_000)
    await hub.start_stream("answer:42", count)
    assert await ended(hub) == "error"
    assert len(yielded) < 300
    await until(lambda: closed)
    assert closed != [threading.main_thread()]


@pytest.mark.parametrize("producer", [lambda: "text", lambda: 5, lambda: None])
async def test_what_yields_nothing_is_no_producer(hub: Hub, producer: Any) -> None:
    await hub.start_stream("answer:42", producer)
    assert await ended(hub) == "error"


async def test_a_run_outlives_whoever_began_it(hub: Hub) -> None:
    model = Model()
    request = asyncio.ensure_future(hub.start_stream("answer:42", model))
    await asyncio.sleep(0)
    request.cancel()
    model.allow(100)
    await until(lambda: model.outcome == "done")
    assert await ended(hub) == "done"
    assert await text(hub) == "".join(WORDS)


async def test_many_who_ask_for_a_stream_on_two_nodes_begin_it_once(store: Store) -> None:
    model = Model()
    async with (
        store.running("a", max_streams_per_user=1) as a,
        store.running("b", max_streams_per_user=1) as b,
    ):
        asked = [hub.start_stream("answer:42", model, user="ann") for hub in (a, b) * 10]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        others = [answer for answer in answers if answer is not False]
        assert others.count(True) == 1
        assert all(getattr(one, "code", None) for one in others if one is not True)
        model.allow(100)
        await until(lambda: model.outcome == "done")
        assert model.runs == 1
        await until(lambda: not a.node.runs._runs and not b.node.runs._runs)
        assert await text(b) == "".join(WORDS)
        assert not await b.start_stream("answer:42", model), "it was written"
        assert model.runs == 1


async def test_a_user_who_asks_twice_at_once_is_not_refused(hub: Hub) -> None:
    hub.node.runs._users._limit = 1
    asked = [hub.start_stream("answer:42", fast, user="ann") for _ in range(5)]
    assert sorted(await asyncio.gather(*asked)) == [False] * 4 + [True]


def test_nobodys_connections_are_counted_as_runs_whatever_their_user_is_called() -> None:
    for user in ("ann", "", "\x1fruns ann"):
        assert user_limits._connected(user) != user_limits._running("ann")
    assert len({user_limits._connected(name) for name in ("ann", "\x1fann", "\x1fuser ann")}) == 3


async def test_runs_of_a_user_are_limited_over_all_nodes(store: Store) -> None:
    model = Model()
    async with contextlib.AsyncExitStack() as stack:
        a, b = [
            await stack.enter_async_context(store.running(name, max_streams_per_user=2, drain_s=0))
            for name in "ab"
        ]
        await a.start_stream("answer:1", model, user="ann")
        await b.start_stream("answer:2", model, user="ann")
        for hub in (a, b):
            with pytest.raises(LimitExceeded) as refused:
                await hub.start_stream("answer:3", model, user="ann")
            assert refused.value.code.name == "too_many_streams"
        await b.start_stream("answer:3", model, user="bob")
        await b.start_stream("answer:4", model)
        await a.cancel_stream("answer:2")
        await until(lambda: len(b.node.runs._runs) == 2)
        await a.start_stream("answer:5", model, user="ann")


async def test_a_store_that_was_away_has_each_value_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second and third write fail: one before it was kept, one after."""
    from heartwire.errors import EngineUnavailable

    append, fails = hub.node.streams.append, ["", "before", "after", ""]

    async def failing(*about: Any) -> Any:
        how = fails.pop(0) if fails else ""
        if how == "before":
            raise EngineUnavailable("away")
        answer = await append(*about)
        if how == "after":
            raise EngineUncertain("broken off")
        return answer

    monkeypatch.setattr(hub.node.streams, "append", failing)
    async with hub.stream("answer:42") as out:
        for word in WORDS:
            await out.write(word)
            await asyncio.sleep(0)
    assert await text(hub) == "".join(WORDS)
    assert not fails


# -- the end of nodes ----------------------------------------------------------------------------------------


async def test_a_producer_that_is_killed_ends_the_stream_once_for_those_who_follow(store: Store) -> None:
    model = Model()
    async with store.running("a", drain_s=0) as a, store.running("b") as b, store.running("c") as c:
        await a.start_stream("answer:42", model)
        model.allow(3)
        await until(lambda: model.said == 3)
        readers = [asyncio.ensure_future(read(hub)) for hub in (b, c)]
        await until(lambda: all(STREAM in hub.node.switchboard.topics for hub in (b, c)))
        a.node.engine.cut_off()  # type: ignore[attr-defined]
        for _ in range(18):
            assert not any(reader.done() for reader in readers)
            store.clock.advance(0.5)
            for hub in (b, c):
                hub.node.runs.advance()
            for _ in range(10):
                await asyncio.sleep(0)
        store.clock.advance(2)
        for hub in (b, c):
            hub.node.runs.advance()
        assert [await reader for reader in readers] == ["".join(WORDS[:3]) + "\n[interrupted]\n"] * 2
        assert [one.is_end for one in await kept(b)] == [False] * 3 + [True]
        a.node.engine.is_cut_off = False  # type: ignore[attr-defined]
        model.allow(1)
        await until(lambda: model.outcome)
        assert await text(b) == "".join(WORDS[:3]), "it came back, and was not let in"


async def test_a_run_that_says_nothing_keeps_its_lease(store: Store) -> None:
    model = Model()
    async with store.running("a", drain_s=0) as a, store.running("b") as b:
        await a.start_stream("answer:42", model)
        reader = asyncio.ensure_future(read(b))
        await until(lambda: STREAM in b.node.switchboard.topics)
        for _ in range(60):
            store.clock.advance(0.5)
            a.node.runs.advance()
            b.node.runs.advance()
            for _ in range(10):
                await asyncio.sleep(0)
        model.allow(100)
        assert await reader == "".join(WORDS)


async def test_a_stream_that_is_another_than_before_is_looked_after(store: Store) -> None:
    """Its topic on the reader's node is the one of a stream that had ended, which nobody looked after."""
    async with store.running("a", drain_s=0) as a, store.running("b") as b:
        await a.start_stream("answer:42", fast)
        assert await read(b) == "".join(WORDS)
        store.clock.advance(1)
        b.node.runs.advance()
        await until(lambda: not b.node.runs.leases._due)
        await a.node.streams.change(STREAM, lambda record, now_ms: Step(None, (), None))
        await a.start_stream("answer:42", Model())
        reader = asyncio.ensure_future(read(b))
        await until(lambda: b.node.switchboard.topics[STREAM].subscriptions)
        a.node.engine.cut_off()  # type: ignore[attr-defined]
        for _ in range(30):
            store.clock.advance(0.5)
            b.node.runs.advance()
            for _ in range(10):
                await asyncio.sleep(0)
        assert await reader == "\n[interrupted]\n"


async def test_reading_a_stream_is_using_it(store: Store) -> None:
    async with store.running("a") as a:
        await a.start_stream("answer:42", fast, ttl_s=10)
        await ended(a)
        for _ in range(3):
            store.clock.advance(8)
            assert await read(a) == "".join(WORDS)
        store.clock.advance(11)
        with pytest.raises(Refused, match="create it"):
            await read(a)


async def read(hub: Hub, **named: Any) -> str:
    return b"".join([piece async for piece in hub.stream_pieces("answer:42", **named)]).decode()


async def test_a_run_has_time_to_finish_when_its_node_stops(store: Store) -> None:
    model = Model()
    async with store.running("b") as b:
        async with store.running("a", drain_s=30) as a:
            await a.start_stream("answer:42", model)
            a.drain()
            with pytest.raises(Refused, match="going away"):
                await a.start_stream("answer:43", model)
            assert not await a.start_stream("answer:42", model), "it is there"
            model.allow(100)
        assert (model.outcome, await text(b)) == ("done", "".join(WORDS))
        assert (await record(b)).closed == "done"


async def test_a_run_that_takes_too_long_ends_as_interrupted(store: Store) -> None:
    model = Model()
    async with store.running("b") as b:
        async with store.running("a", drain_s=0) as a:
            await a.start_stream("answer:42", model)
            model.allow(3)
            await until(lambda: model.said == 3)
        assert model.outcome
        assert ((await record(b)).closed, await text(b)) == ("interrupted", "".join(WORDS[:3]))


async def test_a_block_of_the_application_is_told_too(store: Store) -> None:
    seen: list[str] = []

    async def write(hub: Hub) -> None:
        try:
            async with hub.stream("answer:42") as out:
                await out.write("so far")
                seen.append("begun")
                await asyncio.Event().wait()
        except StreamCancelled as cancelled:
            seen.append(cancelled.reason)

    async with store.running("b") as b:
        async with store.running("a", drain_s=0) as a:
            writing = asyncio.ensure_future(write(a))
            await until(lambda: seen)
        await writing
        assert seen == ["begun", "interrupted"]
        assert ((await record(b)).closed, await text(b)) == ("interrupted", "so far")


async def test_a_block_that_is_done_when_it_is_ended_is_done(store: Store) -> None:
    async def write(hub: Hub) -> None:
        async with hub.stream("answer:42") as out:
            await out.write("all")
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    async with store.running("b") as b:
        async with store.running("a", drain_s=0) as a:
            writing = asyncio.ensure_future(write(a))
            await until(lambda: a.node.runs._runs)
        await writing
        assert ((await record(b)).closed, await text(b)) == ("done", "all")


class _Bracketed(Text):
    """A format that has words of its own at the beginning, and at the end."""

    def shaper(self) -> Any:
        class Shaper(Each):
            def begin(self) -> list[object]:
                return ["<"]

            def resume(self, kept: Sequence[str | bytes]) -> list[object]:
                return [f"({len(kept)})"]

            def finish(self) -> list[object]:
                return [">"]

        return Shaper(lambda value: value)


async def test_an_answer_that_got_lost_has_nobody_begin_it_twice(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node that stops asks the next, which finds that it is taken, and so does the first in the end."""
    monkeypatch.setattr(runs_module, "_TAKE_S", 0.05)
    register("bracketed", _Bracketed())
    heirs, model = [Model(), Model()], Model()
    options = {"drain_s": 0, "max_streams_per_user": 1}
    async with store.running("b", **options) as b, store.running("c", **options) as c:
        for hub, heir in zip((b, c), heirs, strict=True):
            hub.producer("answer")(lambda name, written, heir=heir: heir())
        async with store.running("a", **options) as a:
            a.producer("answer")(lambda name, written: WORDS)
            await a.start_stream("answer:42", model, format="bracketed", user="ann")
            model.allow(1)
            await until(lambda: model.said == 1)
            monkeypatch.setattr(a.node.engine.feed, "mail", lambda body: None)  # type: ignore[attr-defined]
        await until(lambda: heirs[0].runs + heirs[1].runs)
        assert [len(counted) for counted in store.counted.values()] == [1], "it is ann's still"
        for heir in heirs:
            heir.allow(100)
        await until(lambda: not b.node.runs._runs and not c.node.runs._runs)
        assert heirs[0].runs + heirs[1].runs == 1
        assert await text(b) == "<" + WORDS[0] + "(2)" + "".join(WORDS) + ">"
        assert (await record(b)).closed == "done"


async def test_a_run_is_handed_over_to_a_node_that_goes_on_with_it(store: Store) -> None:
    model, heard = Model(), []

    def go_on(name: str, written: list[str]) -> Iterator[str]:
        heard.append((name, written))
        yield from WORDS[len(written) :]

    async with store.running("b") as b, store.running("c") as c:
        b.producer("answer")(go_on)
        async with store.running("a", drain_s=0) as a:
            a.producer("answer")(go_on)
            await a.start_stream("answer:42", model)
            reader = asyncio.ensure_future(read(c))
            model.allow(3)
            await until(lambda: model.said == 3)
        assert await reader == "".join(WORDS)
        assert heard == [("answer:42", WORDS[:3])]
        assert (await record(c)).closed == "done"


async def test_who_stops_too_takes_nothing_over(store: Store) -> None:
    model = Model()
    async with store.running("b") as b:
        b.producer("answer")(lambda name, written: WORDS)
        b.node.runs.drain()
        async with store.running("a", drain_s=0) as a:
            a.producer("answer")(lambda name, written: WORDS)
            await a.start_stream("answer:42", model)
        assert (await record(b)).closed == "interrupted"
