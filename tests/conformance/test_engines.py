"""Each engine keeps every promise of the contract, on both event loops; and the suite notices one that does
not."""

import itertools
import tempfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from heartwire.engines.attached import AttachedEngine
from heartwire.engines.contract import Clock, Engine, Feed, ReadResult, Recorded, Retention, StreamWrite
from heartwire.engines.memory import MemoryEngine
from heartwire.engines.postgres.engine import PostgresEngine
from heartwire.engines.redis.engine import RedisEngine
from heartwire.engines.redis.target import Target
from heartwire.engines.sqlite import SqliteEngine
from heartwire.store.serve import serve
from heartwire.testing.engines import (
    CHECKS,
    DURABLE_CHECKS,
    Check,
    PromiseBroken,
    appending,
    check_engine,
    ending,
    reading,
    records,
)
from heartwire.testing.engines.bench import A, B
from heartwire.testing.promises import checks_in
from heartwire.testing.stores import PostgresServer
from heartwire.types import NOW, Channel, Member, Message, Position, Publication, Start

pytestmark = pytest.mark.usefixtures("loop_factory")


def _memory(tmp_path: Path, clock: Clock) -> Engine:
    return MemoryEngine(clock=clock)


def _sqlite(tmp_path: Path, clock: Clock) -> Engine:
    return SqliteEngine(tmp_path / "streams.db", clock=clock)


def _sqlite_full(tmp_path: Path, clock: Clock) -> Engine:
    return SqliteEngine(tmp_path / "streams.db", synchronous="full", clock=clock)


class _Attached(AttachedEngine):
    """An engine attached to a store of its own, which lives as long as it."""

    def __init__(self, make: Callable[[Path, Clock], Engine], folder: Path, clock: Clock) -> None:
        super().__init__(Path(tempfile.mkdtemp(dir="/tmp"), "store"))
        self._serving = serve(make(folder, clock), self.path)

    async def start(self, feed: Feed) -> None:
        await self._serving.__aenter__()
        await super().start(feed)
        self.watch(A)
        self.watch(B)

    async def stop(self) -> None:
        await super().stop()
        if self.path.exists():
            await self._serving.__aexit__(None, None, None)
            self.path.parent.rmdir()


class _Redis(RedisEngine):
    """An engine on the server of this session, whose feed is there before the first check."""

    async def start(self, feed: Feed) -> None:
        await super().start(feed)
        for channel in (A, B):
            self.watch(channel)
            await self.read(channel, NOW, Retention(1, 1), limit=0, max_bytes=1)


class _Postgres(PostgresEngine):
    """The same."""

    async def start(self, feed: Feed) -> None:
        await super().start(feed)
        for channel in (A, B):
            self.watch(channel)
            await self.read(channel, NOW, Retention(1, 1), limit=0, max_bytes=1)


_server: dict[str, str] = {}


def _redis(tmp_path: Path, clock: Clock) -> Engine:
    url = f"{_server['url']}?prefix={tmp_path.name}"
    return _Redis(Target.from_url(url), clock=clock)


@pytest.fixture(autouse=True)
def _valkey(request: pytest.FixtureRequest) -> None:
    if getattr(request.node, "callspec", None) and request.node.callspec.params.get("make") is _redis:
        _server["url"] = request.getfixturevalue("valkey").url


def _attached_memory(tmp_path: Path, clock: Clock) -> Engine:
    return _Attached(_memory, tmp_path, clock)


def _attached_sqlite(tmp_path: Path, clock: Clock) -> Engine:
    return _Attached(_sqlite, tmp_path, clock)


async def test_every_check_is_run() -> None:
    modules = (appending, ending, reading, records)
    written = {check.__name__ for module in modules for check in checks_in(vars(module))}
    assert {check.__name__ for check in CHECKS + DURABLE_CHECKS} == written


@pytest.mark.parametrize("make", [_memory, _sqlite, _sqlite_full, _attached_memory, _attached_sqlite, _redis])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_engine_keeps_its_promise(
    make: Callable[[Path, Clock], Engine], check: Check, tmp_path: Path
) -> None:
    await check_engine(partial(make, tmp_path), checks=[check])


@pytest.mark.parametrize("make", [_sqlite, _sqlite_full, _attached_sqlite, _redis])
@pytest.mark.parametrize("check", DURABLE_CHECKS, ids=lambda check: check.__name__)
async def test_durable_engine_keeps_its_promise(
    make: Callable[[Path, Clock], Engine], check: Check, tmp_path: Path
) -> None:
    await check_engine(
        partial(make, tmp_path), reopen=lambda engine, clock: make(tmp_path, clock), checks=[check]
    )


@pytest.mark.slow
@pytest.mark.parametrize("loop_factory", ["asyncio"], indirect=True)  # a schema for each takes its time
@pytest.mark.parametrize("check", CHECKS + DURABLE_CHECKS, ids=lambda check: check.__name__)
async def test_postgres_keeps_its_promise(check: Check, tmp_path: Path, postgres: PostgresServer) -> None:
    schema = f"of_{zlib.crc32(bytes(tmp_path))}"

    def make(clock: Clock) -> _Postgres:
        return _Postgres(f"{postgres.url}&schema={schema}", clock=clock)

    await check_engine(make, reopen=lambda _, clock: make(clock), checks=[check])


# -- engines that break a promise each, and the word the suite has for it ------------------------------------


class _SkipsOffsets(MemoryEngine):
    def append(
        self,
        channel: Channel,
        message: Message,
        keep: Retention,
        *,
        key: str | None = None,
        key_ttl_s: float = 300,
    ) -> Position:
        position = super().append(channel, message, keep, key=key, key_ttl_s=key_ttl_s)
        return position if position.offset < 5 else super().append(channel, message, keep)


class _IgnoresKeys(MemoryEngine):
    def append(
        self,
        channel: Channel,
        message: Message,
        keep: Retention,
        *,
        key: str | None = None,
        key_ttl_s: float = 300,
    ) -> Position:
        return super().append(channel, message, keep)


class _NeverTrims(MemoryEngine):
    def append(
        self,
        channel: Channel,
        message: Message,
        keep: Retention,
        *,
        key: str | None = None,
        key_ttl_s: float = 300,
    ) -> Position:
        return super().append(channel, message, Retention(1000, 1e9), key=key, key_ttl_s=key_ttl_s)

    def read(
        self, channel: Channel, start: Start, keep: Retention, *, limit: int, max_bytes: int
    ) -> ReadResult:
        return super().read(channel, start, Retention(1000, 1e9), limit=limit, max_bytes=max_bytes)


class _AlwaysRecovers(MemoryEngine):
    def read(
        self, channel: Channel, start: Start, keep: Retention, *, limit: int, max_bytes: int
    ) -> ReadResult:
        return super().read(channel, start, keep, limit=limit, max_bytes=max_bytes)._replace(recovered=True)


class _NotifiesTwice(MemoryEngine):
    async def start(self, feed: Feed) -> None:
        def twice(publication: Publication) -> None:
            feed.publication(publication)
            feed.publication(publication)

        await super().start(Feed(twice))


class _KeepsLeases(MemoryEngine):
    def lease(self, channel: Channel, member: Member, ttl_s: float) -> None:
        super().lease(channel, member, ttl_s * 1000)


class _RemoveLosesTheCount(MemoryEngine):
    def remove(self, channel: Channel) -> Position:
        return Position(super().remove(channel).epoch, 0)


class _IgnoresRevisions(MemoryEngine):
    def write(self, channel: Channel, change: StreamWrite) -> Recorded:
        return super().write(channel, change._replace(expects=self.record(channel).revision))


class _MakesAChangeTwice(MemoryEngine):
    def write(self, channel: Channel, change: StreamWrite) -> Recorded:
        is_again = self.record(channel).revision == change.revision
        return super().write(channel, change._replace(expects=change.revision) if is_again else change)


class _AppendsApart(MemoryEngine):
    def write(self, channel: Channel, change: StreamWrite) -> Recorded:
        for message in change.messages:
            self.append(channel, message, records.WHOLE)
        return super().write(channel, change._replace(messages=()))


class _KeepsTheEpoch(MemoryEngine):
    def _end(self, channel: Channel, stream: Any) -> None:
        super()._end(channel, stream)
        self._forgotten[hash(channel)] -= 1


class _KeepsRecords(MemoryEngine):
    def _living(self, channel: Channel, now: float) -> Any:
        return self._streams.get(channel)


class _TakesATouchForAWrite(MemoryEngine):
    def touch(self, channel: Channel) -> None:
        found = self.record(channel)
        times = found.ttl_s, found.ends_ms
        self.write(channel, StreamWrite(found.revision, found.revision, found.record, (), *times))


class _SweepsByRetention(MemoryEngine):
    async def sweep(self, retention: Callable[[Channel], Retention]) -> None:
        for channel in list(self._streams):
            self.read(channel, NOW, retention(channel), limit=0, max_bytes=1)


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        (_SkipsOffsets, "without holes"),
        (_IgnoresKeys, "the same key answers the first position"),
        (_NeverTrims, "history_size=3"),
        (_AlwaysRecovers, "recovered is false|cannot be continued"),
        (_NotifiesTwice, "notified"),
        (_KeepsLeases, "not renewed"),
        (_RemoveLosesTheCount, "the position after what it forgot"),
        (_IgnoresRevisions, "expects another revision|expects a record where there is none"),
        (_MakesAChangeTwice, "sent twice"),
        (_AppendsApart, "the answer's head is the last"),
        (_KeepsTheEpoch, "the epoch of a stream ends with its record"),
        (_KeepsRecords, "ends ttl_s after its last use"),
        (_TakesATouchForAWrite, "no write"),
        (_SweepsByRetention, "so are its publications"),
    ],
)
async def test_suite_names_the_promise_that_a_broken_engine_breaks(
    engine: Callable[..., MemoryEngine], told: str
) -> None:
    with pytest.raises(PromiseBroken, match=told):
        await check_engine(lambda clock: engine(clock=clock))


@pytest.mark.slow
async def test_whole_suite_runs_on_a_fresh_engine_each(tmp_path: Path) -> None:
    made: list[Path] = []
    numbers = itertools.count()

    def make(clock: Clock) -> SqliteEngine:
        made.append(tmp_path / f"{next(numbers)}.db")
        return SqliteEngine(made[-1], clock=clock)

    await check_engine(make, reopen=lambda engine, clock: SqliteEngine(engine.path, clock=clock))
    assert len(made) == len(CHECKS) + len(DURABLE_CHECKS)
