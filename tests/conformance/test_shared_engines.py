"""Nodes on one store keep the promises of one process; and the suite notices a store that does not."""

import asyncio
import contextlib
import dataclasses
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from heartwire.engines import shared as engines_shared
from heartwire.engines.attached import AttachedEngine
from heartwire.engines.contract import Clock, Engine, Feed, Recorded, SharedEngine, StreamWrite, Told
from heartwire.engines.memory import MemoryEngine
from heartwire.engines.postgres.engine import PostgresEngine
from heartwire.engines.redis.engine import RedisEngine
from heartwire.engines.redis.target import Target
from heartwire.engines.sqlite import SqliteEngine
from heartwire.store import nodes as store_nodes
from heartwire.store.serve import serve
from heartwire.testing.engines import (
    KILLING_CHECKS,
    SHARED_CHECKS,
    PromiseBroken,
    SharedCheck,
    check_shared_engine,
    shared_records,
    sharing,
    suite,
)
from heartwire.testing.promises import checks_in
from heartwire.types import Channel, Member, Position, Publication

Make = Callable[[], SharedEngine]


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_nodes, "GRACE_S", 0.1)


@contextlib.asynccontextmanager
async def _attached(engine: Engine) -> AsyncIterator[Make]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = Path(folder, "store")
        async with serve(engine, path):
            yield lambda: AttachedEngine(path)


def _memory(clock: Clock) -> contextlib.AbstractAsyncContextManager[Make]:
    return _attached(MemoryEngine(clock=clock))


@contextlib.asynccontextmanager
async def _sqlite(clock: Clock) -> AsyncIterator[Make]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        async with _attached(SqliteEngine(Path(folder, "streams.db"), clock=clock)) as make:
            yield make


_server: dict[str, str] = {}


@contextlib.asynccontextmanager
async def _redis(clock: Clock) -> AsyncIterator[Make]:
    target = Target.from_url(f"{_server['url']}?node_lease_s=40&prefix={secrets.token_hex(4)}")
    yield lambda: RedisEngine(target, clock=clock, monotonic=clock)


@contextlib.asynccontextmanager
async def _postgres(clock: Clock) -> AsyncIterator[Make]:
    url = f"{_server['url']}&node_lease_s=0.5&schema=shared_{secrets.token_hex(4)}"
    yield lambda: PostgresEngine(url, clock=clock)


@pytest.fixture(autouse=True)
def _postgresql(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if getattr(request.node, "callspec", None) and request.node.callspec.params.get("store") is _postgres:
        _server["url"] = request.getfixturevalue("postgres").url
        monkeypatch.setattr(engines_shared, "REAP_S", 0.3)


@pytest.fixture(autouse=True)
def _valkey(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if getattr(request.node, "callspec", None) and request.node.callspec.params.get("store") is _redis:
        _server["url"] = request.getfixturevalue("valkey").url
        monkeypatch.setattr(engines_shared, "TICK_S", 0.01)


def _kill(engine: SharedEngine) -> None:
    if isinstance(engine, RedisEngine):
        _kill_redis(engine)
    elif isinstance(engine, PostgresEngine):
        _kill_postgres(engine)
    else:
        _kill_attached(engine)


def _kill_redis(engine: RedisEngine) -> None:
    topology, keeper = engine._topology, engine._keeper
    assert topology is not None
    assert keeper is not None
    keeper.cancel()
    engine._keeper = None  # `stop` has nothing left to do
    for connection in (*topology.servers, *topology.feeds):
        assert connection._task is not None
        assert connection._pipe is not None
        connection._task.cancel()
        connection._pipe._flush()
        connection._pipe.abort("killed")


def _kill_postgres(engine: PostgresEngine) -> None:
    assert engine._keeper is not None
    engine._keeper.cancel()
    engine._keeper = None
    for lane in engine._lanes:
        assert lane._task is not None
        lane._task.cancel()
        lane.abort("killed")


def _kill_attached(engine: SharedEngine) -> None:
    assert isinstance(engine, AttachedEngine)
    assert engine._keeper is not None
    assert engine._pipe is not None
    engine._keeper.cancel()
    engine._pipe._flush()
    engine._pipe.abort()


async def test_every_check_is_run() -> None:
    written = {check.__name__ for module in (sharing, shared_records) for check in checks_in(vars(module))}
    assert {check.__name__ for check in SHARED_CHECKS + KILLING_CHECKS} == written


@pytest.mark.parametrize("store", [_memory, _sqlite, _redis, _postgres])
@pytest.mark.parametrize("check", SHARED_CHECKS + KILLING_CHECKS, ids=lambda check: check.__name__)
async def test_nodes_keep_the_promise(
    store: Callable[[Clock], contextlib.AbstractAsyncContextManager[Make]], check: SharedCheck
) -> None:
    await check_shared_engine(store, kill=_kill, checks=[check])


# -- nodes that break a promise each, and the word the suite has for it --------------------------------------


class _WatchesLate(AttachedEngine):
    def watch(self, channel: Channel) -> None:
        self._loop.call_later(0.01, super().watch, channel)


class _NeverUnwatches(AttachedEngine):
    def unwatch(self, channel: Channel) -> None:
        pass


class _TakesEveryOriginForItsOwn(AttachedEngine):
    async def start(self, feed: Feed) -> None:
        def told(publication: Publication) -> None:
            feed.publication(msgspec.structs.replace(publication, origin=publication.origin or 7))

        await super().start(dataclasses.replace(feed, publication=told))


class _SendsTwice(AttachedEngine):
    def send(self, node: str | None, body: bytes) -> None:
        super().send(node, body)
        super().send(node, body)


class _CountsItsOwnOnly(AttachedEngine):
    async def admit(self, user: str, client: str, limit: int) -> bool:
        return await super().admit(f"{user} of {self.node}", client, limit)


class _TellsNoLeaves(AttachedEngine):
    def announce(self, channel: Channel, told: Told, member: Member) -> None:
        if told == "join":
            super().announce(channel, told, member)


class _HearsOfNoEnds(AttachedEngine):
    async def start(self, feed: Feed) -> None:
        def removed(channel: Channel, position: Position) -> None:
            if position.offset:
                feed.removed(channel, position)

        await super().start(dataclasses.replace(feed, removed=removed))


class _WritesAgainUnderAnotherName(AttachedEngine):
    def write(self, channel: Channel, change: StreamWrite) -> asyncio.Future[Recorded]:
        return asyncio.ensure_future(self._write(channel, change))

    async def _write(self, channel: Channel, change: StreamWrite) -> Recorded:
        found = await super().write(channel, change)
        if found.revision in (0, change.revision):
            return found
        return await super().write(channel, change._replace(expects=found.revision))


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        (_WatchesLate, "no answer within|has no hole|follows a watch"),
        (_NeverUnwatches, "watches no more|told of"),
        (_TakesEveryOriginForItsOwn, "an origin counts on the node"),
        (_SendsTwice, "in order, each once"),
        (_CountsItsOwnOnly, "the third of two"),
        (_TellsNoLeaves, "no answer within"),
        (_HearsOfNoEnds, "the_end_of_an_epoch_is_told_to_watching_nodes: no answer"),
        (_WritesAgainUnderAnotherName, "of nodes that race one wins"),
    ],
)
async def test_suite_names_the_promise_that_a_broken_node_breaks(
    engine: type[AttachedEngine], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "ANSWER_S", 1)

    @contextlib.asynccontextmanager
    async def store(clock: Clock) -> AsyncIterator[Make]:
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            async with serve(MemoryEngine(clock=clock), Path(folder, "store")):
                yield lambda: engine(Path(folder, "store"))

    with pytest.raises(PromiseBroken, match=told):
        await check_shared_engine(store)
