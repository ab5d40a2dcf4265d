"""Stream records in a SQLite file: files without them, what ended streams leave, and how each call is bounded."""

import contextlib
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from heartwire.engines import sqlite, sqlite_store
from heartwire.engines.contract import Feed, Recorded, Retention, StreamWrite
from heartwire.engines.sqlite import SqliteEngine
from heartwire.errors import EngineUnavailable
from heartwire.testing import FakeClock
from heartwire.testing.engines.records import WHOLE, change
from heartwire.types import EARLIEST, Channel, Message, Position

KEEP = Retention(100_000, 86_400)
A, B = Channel("a"), Channel("b")


@contextlib.asynccontextmanager
async def opened(path: Path, feed: Feed | None = None, **options: Any) -> AsyncIterator[SqliteEngine]:
    engine = SqliteEngine(path, **options)
    await engine.start(feed or Feed())
    try:
        yield engine
    finally:
        await engine.stop()


async def count(engine: SqliteEngine, table: str) -> int:
    query = f"SELECT count(*) FROM {table}"
    return int(await engine._submit(lambda store: store._db.execute(query).fetchone()[0]))


async def texts(engine: SqliteEngine, channel: Channel = A) -> list[str]:
    read = await engine.read(channel, EARLIEST, WHOLE, limit=10_000, max_bytes=1 << 30)
    return [one.data.decode() for one in read.publications]


@pytest.mark.parametrize("is_killed", [False, True])
async def test_a_file_of_the_schema_before_records_keeps_all_and_takes_them(
    is_killed: bool, tmp_path: Path
) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as engine:
        last = [await engine.append(A, Message(b"%d" % at), KEEP, key="k") for at in range(3)][-1]
        await engine.append(B, Message(b"x"), KEEP)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DROP TABLE ended")
        for column in ("revision", "written_ms", "ttl_s", "ends_ms", "record"):
            db.execute(f"ALTER TABLE streams DROP COLUMN {column}")
        db.execute("PRAGMA user_version = 1")
        if is_killed:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("INSERT INTO meta VALUES ('note', 'in the WAL')")
            for name in ("store.db", "store.db-wal"):
                shutil.copy(tmp_path / name, tmp_path / f"copy-{name}")
    if is_killed:
        path = tmp_path / "copy-store.db"
    for turn in range(2):
        async with opened(path) as engine:
            assert (await engine.append(A, Message(b"again"), KEEP, key="k")) == last
            assert await texts(engine) == ["0"]
            assert await texts(engine, B) == ["x"]
            found = await engine.record(Channel("answer"))
            assert found.revision == turn
            written = await engine.write(Channel("answer"), change(turn, turn + 1, "word"))
            assert written.head.offset == turn + 1


async def test_publications_of_ended_streams_are_deleted_in_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "_DROPPED_AT_ONCE", 100)
    clock = FakeClock()
    words = ["x"] * 250
    left = []
    async with opened(tmp_path / "store.db", clock=clock) as engine:
        for channel in (A, B):
            await engine.write(channel, change(0, 1, *words, ttl_s=60))
        await engine.write(A, change(1, 2, record=None))
        clock.advance(61)
        await engine.write(A, change(0, 3, "new", "words"))
        while not await engine._submit(lambda store: store.sweep(lambda channel: KEEP)):
            left.append(await count(engine, "publications"))
        assert left == [402, 302, 252]  # those of A; then B is found to have ended
        await engine.sweep(lambda channel: KEEP)
        assert await texts(engine) == ["new", "words"]
        assert [await count(engine, table) for table in ("publications", "ended")] == [2, 0]
        assert await count(engine, "streams WHERE record IS NOT NULL") == 1


async def test_the_number_of_an_ended_stream_is_nobodys(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as engine:
        for turn in range(5):
            await engine.write(A, change(0, 1, "old"))
            await engine.append(A, Message(b"x"), KEEP)
            await engine.write(A, change(1, 2, record=None))
            await engine.append(Channel(f"other {turn}"), Message(b"other"), KEEP)
            assert await texts(engine) == []
            assert await texts(engine, Channel(f"other {turn}")) == ["other"]


async def test_a_stream_that_ended_does_not_come_back_in_an_epoch_it_had(tmp_path: Path) -> None:
    clock = FakeClock()
    epochs = []
    async with opened(tmp_path / "store.db", clock=clock) as engine:
        await engine.append(Channel("held"), Message(b"x"), WHOLE)
        for _ in range(4):
            epochs.append((await engine.append(A, Message(b"x"), KEEP)).epoch)
            await engine.write(A, change(0, 1))
            await engine.write(A, change(1, 2, record=None))
            for days in (20, 20):
                clock.advance(days * 86_400)
                await engine.sweep(lambda channel: KEEP)
    assert len(set(epochs)) == 4


async def test_an_end_raises_no_alarm_and_a_cut_write_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, copy = tmp_path / "store.db", tmp_path / "killed.db"

    def copied(*, is_cut: bool = False) -> None:
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
        if is_cut:
            Path(f"{copy}-wal").unlink()

    async with opened(path) as engine:
        await engine.write(A, change(0, 1, "one", "two"))
        ended = await engine.write(A, change(1, 2, record=None))
        copied()
        async with opened(copy) as killed:
            assert (await killed.record(A)).head == ended.head
        assert caplog.messages == []
        written = await engine.write(A, change(0, 3, "three"))
        copied(is_cut=True)
    async with opened(copy) as cut:
        assert (await cut.record(A)).head.epoch != written.head.epoch
    assert "its WAL was deleted" in caplog.text


async def test_a_failed_group_leaves_the_record_as_it_was(tmp_path: Path) -> None:
    told: list[Any] = []
    feed = Feed(told.append, removed=lambda *removed: told.append(removed))
    async with opened(tmp_path / "store.db", feed) as engine:
        before = await engine.write(A, change(0, 1, "one"))
        told.clear()

        def fail(store: Any) -> None:
            store.write(A, change(1, 2, "two"))
            store.write(A, change(2, 3, record=None))
            raise ZeroDivisionError

        with pytest.raises(EngineUnavailable):
            await engine._submit(fail)
        found = await engine.record(A)
        assert found._replace(now_ms=before.now_ms) == before
        assert told == []
        written = await engine.write(A, change(1, 4, "two"))
        assert written.head == Position(before.head.epoch, 2)
        assert [one.data for one in told] == [b"two"]


async def test_writes_that_wait_for_the_disk_are_bounded_and_touches_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_MAX_QUEUED", 2)
    async with opened(tmp_path / "store.db") as engine:
        first, second = engine.write(A, change(0, 1)), engine.write(A, change(1, 2))
        with pytest.raises(EngineUnavailable, match="2 publications are waiting"):
            engine.write(A, change(2, 3))
        engine.touch(A)
        assert engine._queued == 2
        assert ((await first).revision, (await second).revision) == (1, 2)
        monkeypatch.setattr(sqlite, "_MAX_QUEUED_BYTES", 10)
        with pytest.raises(EngineUnavailable):
            engine.write(A, StreamWrite(2, 3, b"123456", [Message(b"12345")]))
    engine.touch(A)  # a stopped engine has nothing to do


async def test_more_records_than_the_cache_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_store, "_CACHED_STREAMS", 3)
    channels = [Channel(f"{at}") for at in range(10)]
    async with opened(tmp_path / "store.db") as engine:
        waiting = [
            engine.write(channel, change(turn, turn + 1, f"{turn}"))
            for turn in range(3)
            for channel in channels
        ]
        answers: list[Recorded] = [await one for one in waiting]
        assert [(one.revision, one.head.offset) for one in answers[-10:]] == [(3, 3)] * 10
        assert [await texts(engine, channel) for channel in channels] == [["0", "1", "2"]] * 10
