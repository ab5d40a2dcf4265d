"""Engines attached to one store: what each hears of the other, and what becomes of a connection that breaks."""

import asyncio
import contextlib
import math
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from heartwire import Hub
from heartwire.engines import attached
from heartwire.engines.attached import AttachedEngine
from heartwire.engines.contract import Feed, Retention
from heartwire.engines.memory import MemoryEngine
from heartwire.engines.sqlite import SqliteEngine
from heartwire.errors import ConfigError, EngineUnavailable, EngineUncertain
from heartwire.store import nodes as store_module
from heartwire.store import serve as serve_module
from heartwire.store.nodes import Store
from heartwire.store.serve import serve
from heartwire.testing.engines.records import change
from heartwire.types import EARLIEST, NOW, Channel, Member, Message, Position, Publication
from tests.unit.core.fakes import FakeLink, RecordingFormat
from tests.unit.transports.tools import until

A, B = Channel("a"), Channel("b")
KEEP = Retention(1000, 3600)


@dataclass
class Node:
    """An attached engine, and what it was told."""

    path: Path
    patience_s: float = 5
    published: list[Publication] = field(default_factory=list)
    behind: list[tuple[Channel, Position]] = field(default_factory=list)
    removed: list[tuple[Channel, Position]] = field(default_factory=list)
    members: list[tuple[Channel, str, Member]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self.engine = AttachedEngine(self.path, patience_s=self.patience_s)
        feed = Feed(
            self.published.append,
            lambda *told: self.behind.append(told),
            lambda *told: self.removed.append(told),
            lambda *told: self.members.append(told),
        )
        await self.engine.start(feed)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.engine.stop()

    async def append(self, text: str, *, channel: Channel = A, key: str | None = None) -> Position:
        return await self.engine.append(channel, Message(text.encode(), origin=7), KEEP, key=key)

    async def settle(self) -> None:
        """Wait until the store has heard all that was said, and this node what was told before that."""
        await self.engine.members(Channel("nobody"))

    @property
    def heard(self) -> list[tuple[str, int, str]]:
        return [(one.channel, one.offset, one.data.decode()) for one in self.published]


@pytest.fixture
def path() -> Any:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder, "store")


@pytest.fixture
def taken(path: Path) -> Iterator[Path]:
    """The path of somebody's file, which has to be there afterwards."""
    path.write_text("a file")
    yield path
    assert path.read_text() == "a file"


@contextlib.asynccontextmanager
async def two(path: Path) -> AsyncIterator[tuple[Node, Node]]:
    async with serve(MemoryEngine(), path), Node(path) as one, Node(path) as other:
        yield one, other


# -- two nodes -----------------------------------------------------------------------------------------------


async def test_offsets_are_shared_and_a_key_holds_on_the_other_node(path: Path) -> None:
    async with two(path) as (one, other):
        first = await one.append("x", key="k")
        assert (await other.append("y")).offset == 2
        assert await other.append("x", key="k") == first
        assert [
            found.data
            for found in (await other.engine.read(A, EARLIEST, KEEP, limit=9, max_bytes=99)).publications
        ] == [b"x", b"y"]


async def test_each_watching_node_hears_once_and_in_order_and_the_others_nothing(path: Path) -> None:
    async with two(path) as (one, other):
        one.engine.watch(A)
        other.engine.watch(A)
        await other.settle()
        await asyncio.gather(*(node.append(f"{n}") for n in range(50) for node in (one, other)))
        other.engine.unwatch(A)
        await other.settle()
        await one.append("last")
        await one.append("elsewhere", channel=B)
        await other.settle()
        assert [offset for _, offset, _ in one.heard] == list(range(1, 102))
        assert other.heard == one.heard[:-1]


async def test_the_appending_node_hears_of_it_before_its_answer(path: Path) -> None:
    async with two(path) as (one, _):
        one.engine.watch(A)
        await one.append("x")
        assert one.heard == [("a", 1, "x")]


async def test_a_link_of_another_node_is_not_taken_for_one_of_here(path: Path) -> None:
    async with two(path) as (one, other):
        for node in (one, other):
            node.engine.watch(A)
            await node.settle()
        await one.append("x")
        await other.settle()
        assert [[publication.origin for publication in node.published] for node in (one, other)] == [[7], [0]]


async def test_a_remove_reaches_the_other_node(path: Path) -> None:
    async with two(path) as (one, other):
        other.engine.watch(A)
        await other.settle()
        head = await one.append("x")
        assert await one.engine.remove(A) == head
        await other.settle()
        assert other.removed == [(A, head)]


async def test_a_position_that_no_store_can_have_is_not_continued(path: Path) -> None:
    async with two(path) as (one, _):
        head = await one.append("x")
        result = await one.engine.read(A, Position(head.epoch, 2**80), KEEP, limit=2**80, max_bytes=2**80)
        assert (result.recovered, result.head) == (False, head)


# -- members -------------------------------------------------------------------------------------------------


async def test_members_are_seen_on_the_other_node_and_their_leaves_told_once_when_theirs_is_gone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "GRACE_S", 0)
    ann, bob = Member("c-1", "ann", b"{}"), Member("c-2", "bob")
    async with serve(MemoryEngine(), path), Node(path) as other:
        other.engine.watch(A)
        async with Node(path) as one:
            for member in (ann, bob):
                one.engine.lease(A, member, math.inf)
                one.engine.announce(A, "join", member)
            one.engine.release(A, "c-2")
            one.engine.announce(A, "leave", bob)
            await one.settle()
            assert await other.engine.members(A) == [ann]
        await until(lambda: len(other.members) == 4)
        assert other.members == [(A, "join", ann), (A, "join", bob), (A, "leave", bob), (A, "leave", ann)]
        assert await other.engine.members(A) == []


async def test_a_node_that_comes_back_at_once_keeps_its_members(path: Path) -> None:
    async with two(path) as (one, other):
        other.engine.watch(A)
        one.engine.lease(A, Member("c-1"), math.inf)
        one.engine.announce(A, "join", Member("c-1"))
        await one.settle()
        pipe = one.engine._pipe
        assert pipe is not None
        assert pipe._transport is not None
        pipe._transport.abort()
        await until(lambda: one.engine._pipe not in (pipe, None))
        await one.settle()
        assert await other.engine.members(A) == [Member("c-1")]
        assert other.members == [(A, "join", Member("c-1"))]


async def test_who_left_while_the_connection_was_broken_is_told_once_it_is_there_again(path: Path) -> None:
    async with two(path) as (one, other):
        other.engine.watch(A)
        for client in ("c-1", "c-2"):
            one.engine.lease(A, Member(client), math.inf)
            one.engine.announce(A, "join", Member(client))
        one.engine.watch(B)
        await one.settle()
        pipe = one.engine._pipe
        assert pipe is not None
        assert pipe._transport is not None
        pipe._transport.abort()
        await until(lambda: one.engine._pipe is None)
        one.engine.release(A, "c-1")
        one.engine.announce(A, "leave", Member("c-1"))
        one.engine.unwatch(B)
        one.engine.watch(A)
        await until(lambda: one.engine._pipe is not None)
        await one.settle()
        await other.settle()
        assert await other.engine.members(A) == [Member("c-2")]
        assert other.members[2:] == [(A, "leave", Member("c-1"))]
        await other.append("x")
        await other.append("y", channel=B)
        await one.settle()
        assert one.heard == [("a", 1, "x")]


async def test_appends_that_waited_for_the_store_are_kept_whatever_had_failed_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = MemoryEngine()
    append = engine.append

    def failing(*args: Any, **kwargs: Any) -> Position:
        raise EngineUnavailable("the disk is full")

    async with serve(engine, path):
        node = await Node(path).__aenter__()
        monkeypatch.setattr(engine, "append", failing)
        with pytest.raises(EngineUnavailable, match="the disk is full"):
            await node.append("x")
        monkeypatch.setattr(engine, "append", append)
    await until(lambda: node.engine._pipe is None)
    waiting = asyncio.ensure_future(node.append("x"))
    await asyncio.sleep(0)
    async with serve(engine, path):
        assert (await waiting).offset == 1
        await node.engine.stop()


# -- a store that goes ---------------------------------------------------------------------------------------


async def test_what_was_missed_while_the_store_was_away_is_told(path: Path) -> None:
    engine = MemoryEngine()
    async with serve(engine, path):
        node = await Node(path).__aenter__()
        node.engine.watch(A)
        await node.append("x")
    async with serve(engine, path) as store:
        engine.append(A, Message(b"y"), KEEP)  # nobody heard of it
        await until(lambda: node.behind)
        [(channel, head)] = node.behind
        assert (channel, head.offset) == (A, 2)
        assert (await node.append("z")).offset == 3
        assert [text for _, _, text in node.heard] == ["x", "z"]
        assert isinstance(store, Store)
        await node.engine.stop()


async def cut(node: Node) -> None:
    """Break the connection, with what is under way on it."""
    pipe = node.engine._pipe
    assert pipe is not None
    assert pipe._transport is not None
    await asyncio.sleep(0)  # what was said is on its way
    pipe._transport.abort()


async def test_an_append_under_way_without_a_key_is_uncertain_and_so_are_those_behind_it(
    path: Path, tmp_path: Path
) -> None:
    engine = SqliteEngine(tmp_path / "streams.db")
    async with serve(engine, path):
        node = await Node(path).__aenter__()
        appends = [asyncio.ensure_future(node.append(text, key=text or None)) for text in ("a", "", "b")]
        read = node.engine.read(A, NOW, KEEP, limit=0, max_bytes=1)
        await cut(node)
        for append in appends[1:]:
            with pytest.raises(EngineUncertain, match="the same idempotency key"):
                await append
        assert (await appends[0]).offset == 1
        assert (await read).head.offset in (1, 2, 3)
        await node.append("b", key="b")
        assert (await node.append("b", key="b")) == (await node.append("b", key="b"))
        await node.engine.stop()


async def test_appends_under_way_with_a_key_are_sent_again_and_applied_once(
    path: Path, tmp_path: Path
) -> None:
    texts = [str(number) for number in range(50)]
    async with serve(SqliteEngine(tmp_path / "streams.db"), path):
        node = await Node(path).__aenter__()
        await node.append("x")
        appends = [asyncio.ensure_future(node.append(text, key=text)) for text in texts]
        await cut(node)
        await until(lambda: node.engine._pipe is None)
    async with serve(SqliteEngine(tmp_path / "streams.db"), path):
        assert [(await append).offset for append in appends] == list(range(2, 52))
        result = await node.engine.read(A, EARLIEST, KEEP, limit=100, max_bytes=10_000)
        assert [one.data.decode() for one in result.publications] == ["x", *texts]
        await node.engine.stop()


async def test_writes_under_way_are_sent_again_and_made_once(path: Path, tmp_path: Path) -> None:
    async with serve(SqliteEngine(tmp_path / "streams.db"), path):
        node = await Node(path).__aenter__()
        await node.engine.write(A, change(0, 100, "x"))
        writes = [node.engine.write(A, change(100 + at, 101 + at, f"{at}")) for at in range(50)]
        late = node.engine.write(A, change(7, 999, "lost"))
        await cut(node)
        await until(lambda: node.engine._pipe is None)
    async with serve(SqliteEngine(tmp_path / "streams.db"), path):
        assert [(await write).revision >= 101 + at for at, write in enumerate(writes)] == [True] * 50
        assert (await late).revision == 150
        result = await node.engine.read(A, EARLIEST, KEEP, limit=100, max_bytes=10_000)
        assert [one.data.decode() for one in result.publications] == ["x", *map(str, range(50))]
        await node.engine.stop()


async def test_writes_are_bounded_and_wait_no_longer_than_the_patience(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(MemoryEngine(), path):
        node = await Node(path, patience_s=0.02).__aenter__()
    await until(lambda: node.engine._pipe is None)
    write = node.engine.write(A, change(0, 1, "x"))
    node.engine.touch(A)
    monkeypatch.setattr(attached, "_MAX_CALLS", 1)
    with pytest.raises(EngineUnavailable, match="1 calls are waiting"):
        node.engine.write(A, change(0, 2, "y"))
    with pytest.raises(EngineUnavailable, match="the store is away"):
        await write
    await node.engine.stop()


async def test_all_appends_are_sent_again_to_a_store_that_has_lost_them(path: Path) -> None:
    async with serve(MemoryEngine(), path):
        node = await Node(path).__aenter__()
        lost = await node.append("x")
        appends = [asyncio.ensure_future(node.append(text)) for text in "ab"]
        await cut(node)
        await until(lambda: node.engine._pipe is None)
    async with serve(MemoryEngine(), path):
        positions = [await append for append in appends]
        assert [position.offset for position in positions] == [1, 2]
        assert positions[0].epoch != lost.epoch
        await node.engine.stop()


async def test_an_append_without_a_key_is_uncertain_where_the_store_lives_on(path: Path) -> None:
    async with serve(MemoryEngine(), path):
        node = await Node(path).__aenter__()
        append = asyncio.ensure_future(node.append("x"))
        await cut(node)
        with pytest.raises(EngineUncertain):
            await append
        await node.engine.stop()


async def test_no_append_overtakes_one_that_was_given_up(path: Path) -> None:
    async with serve(MemoryEngine(), path):
        node = await Node(path, patience_s=0.5).__aenter__()
    await until(lambda: node.engine._pipe is None)
    first = asyncio.ensure_future(node.append("x"))
    await until(lambda: len(node.engine._calls) == 1)
    later = asyncio.get_running_loop().create_future()
    first.add_done_callback(later.set_result)
    seconds = []
    while not later.done():
        seconds.append(asyncio.ensure_future(node.append("y")))
        await asyncio.sleep(0.005)
    for append in (first, *seconds[:-1]):
        with pytest.raises(EngineUnavailable, match="the store is away"):
            await append
    async with serve(MemoryEngine(), path):
        await until(lambda: node.engine.is_reachable)  # it is looked for as rarely as patience ends
        await node.append("x")
        await node.engine.stop()
    await asyncio.gather(seconds[-1], return_exceptions=True)


async def test_calls_do_not_wait_for_ever(path: Path) -> None:
    async with serve(MemoryEngine(), path):
        node = await Node(path, patience_s=0.5).__aenter__()
    await until(lambda: node.engine._pipe is None)
    with pytest.raises(EngineUnavailable, match="the store is away"):
        await node.append("x")
    await node.engine.stop()


async def test_no_store_at_all(path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="no store process listens"):
        await Node(path, patience_s=0.01).__aenter__()


async def test_a_file_in_the_sockets_place_is_left_alone(taken: Path) -> None:
    with pytest.raises(ConfigError, match="is not a socket"):
        async with serve(MemoryEngine(), taken):
            pass


async def test_another_version_of_the_store_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_module, "VERSION", 99)
    async with serve(MemoryEngine(), path):
        with pytest.raises(Exception, match="the store speaks version 99, the node "):
            await Node(path).__aenter__()


async def test_an_append_behind_one_that_failed_fails_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = MemoryEngine()
    async with serve(engine, path), Node(path) as node:
        append = engine.append
        fails = iter([True, False, False])

        def failing(*args: Any, **kwargs: Any) -> Position:
            if next(fails):
                raise EngineUnavailable("the disk is full")
            return append(*args, **kwargs)

        monkeypatch.setattr(engine, "append", failing)
        first, second = (asyncio.ensure_future(node.append(text)) for text in "xy")
        with pytest.raises(EngineUnavailable, match="the disk is full"):
            await first
        with pytest.raises(EngineUnavailable, match="what came before it was not stored"):
            await second
        assert (await node.append("x")).offset == 1


@pytest.mark.parametrize("url", ["attached:", "attached://host/a", "attached:///a?b=c"])
def test_urls(url: str) -> None:
    with pytest.raises(ConfigError):
        AttachedEngine.from_url(url)
    assert AttachedEngine.from_url("attached:///run/hw.sock").path == Path("/run/hw.sock")


def texts(link: FakeLink) -> list[str]:
    return [publication.data.decode() for publication in link.publications]


# -- hubs ----------------------------------------------------------------------------------------------------


async def test_a_reader_of_one_hub_gets_what_another_publishes_and_misses_nothing_of_a_store_that_was_gone(
    path: Path,
) -> None:
    engine, room = MemoryEngine(), Channel("room")
    one, other = Hub(AttachedEngine(path)), Hub(AttachedEngine(path))
    async with contextlib.AsyncExitStack() as stack:
        async with serve(engine, path):
            for hub in (one, other):
                await stack.enter_async_context(hub.lifespan())
            board = other.node.switchboard
            link = FakeLink(board)
            link.subscriptions.append(board.follow(link, room, RecordingFormat(), NOW))
            await until(lambda: link.told)
            await one.publish("room", "a")
            await until(lambda: texts(link) == ["a"])
        async with serve(engine, path):
            engine.append(room, Message(b"b"), KEEP)
            await until(lambda: texts(link) == ["a", "b"])
            await one.publish("room", "c")
            await until(lambda: texts(link) == ["a", "b", "c"])
            await one.remove_history("room")
            await until(lambda: not board.topics[room].covers(Position(board.topics[room].epoch, 1)))
