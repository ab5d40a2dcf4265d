"""A WAL that was shortened after a kill is noticed; nothing else is taken for one."""

import contextlib
import mmap
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from heartwire.engines.contract import Retention
from heartwire.engines.sqlite_mark import HEADER_BYTES, Mark, MarkWriter
from heartwire.errors import EngineUnavailable
from heartwire.testing import FakeClock
from heartwire.types import Channel, Position
from tests.unit.engines.test_sqlite import A, append, kept, opened, python

pytestmark = pytest.mark.slow

_FRAME_BYTES = 4096 + 24
_ALARM = "its WAL was deleted, cut or damaged"

PUBLISHER = """
import asyncio, sys
from heartwire.engines.contract import Feed, Retention
from heartwire.engines.sqlite import SqliteEngine
from heartwire.types import Channel, Message
async def main():
    engine = SqliteEngine(sys.argv[1])
    await engine.start(Feed())
    for number in range(int(sys.argv[2])):
        for name in "ab":
            message = Message(b"%d" % number + b"x" * 300)
            position = await engine.append(Channel(name), message, Retention(100_000, 86_400))
    print(position, flush=True)
    sys.stdin.read()
asyncio.run(main())
"""


def publish_and_be_killed(
    path: Path, count: int, *, before_the_kill: Callable[[], None] = lambda: None
) -> None:
    """``count`` publications in each of a and b, then SIGKILL."""
    with python(PUBLISHER, str(path), str(count)) as publisher:
        assert publisher.stdout is not None
        assert publisher.stdout.readline()
        before_the_kill()
        publisher.send_signal(signal.SIGKILL)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store whose process was killed: 20 publications of each channel in the file, 20 in the WAL."""
    folder = tmp_path_factory.mktemp("killed")
    publish_and_be_killed(folder / "store.db", 20)
    with contextlib.closing(sqlite3.connect(folder / "store.db")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    publish_and_be_killed(folder / "store.db", 20)
    return folder


@pytest.fixture
def path(killed: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(killed, tmp_path / "copy")
    return tmp_path / "copy" / "store.db"


def wal_of(path: Path) -> Path:
    return path.with_name("store.db-wal")


async def positions(path: Path) -> list[Position]:
    """The last of a and b."""
    async with opened(path) as engine:
        return [(await kept(engine, channel))[-1].position for channel in (A, Channel("b"))]


async def before_the_cut(path: Path) -> list[Position]:
    shutil.copytree(path.parent, path.parent.with_name("whole"))
    return await positions(path.parent.with_name("whole") / path.name)


def delete(wal: Path) -> None:
    wal.unlink()


def empty(wal: Path) -> None:
    os.truncate(wal, 0)


def cut_to_its_header(wal: Path) -> None:
    os.truncate(wal, 32)


def cut_in_half(wal: Path) -> None:
    os.truncate(wal, wal.stat().st_size // 2)


def cut_the_last_byte(wal: Path) -> None:
    os.truncate(wal, wal.stat().st_size - 1)


def damage_a_frame(wal: Path) -> None:
    with wal.open("r+b") as file:
        file.seek(32 + 10 * _FRAME_BYTES + 1000)
        file.write(b"damage")


@pytest.mark.parametrize(
    "cut", [delete, empty, cut_to_its_header, cut_in_half, cut_the_last_byte, damage_a_frame]
)
async def test_shortened_wal_gets_new_epochs_once_and_is_logged(
    cut: Callable[[Path], None], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = await before_the_cut(path)
    assert [position.offset for position in before] == [40, 40]
    assert caplog.messages == []
    cut(wal_of(path))
    async with opened(path) as engine:
        for channel, old in zip((A, Channel("b")), before, strict=True):
            result = await engine.read(channel, old, Retention(100, 86_400), limit=1, max_bytes=1)
            assert not result.recovered
            assert result.head.epoch != old.epoch
            assert 20 <= result.head.offset <= old.offset
    alarms = [message for message in caplog.messages if _ALARM in message]
    assert len(alarms) == 1
    assert alarms[0].startswith(f"{path}: ")
    after = await positions(path)
    assert after == await positions(path)  # the epochs stay
    assert len(caplog.messages) == 1


async def test_wal_cut_anywhere_shows_no_reader_other_messages_under_its_position(path: Path) -> None:
    """Every frame's border and a place within: what was answered is there, or the epochs are others."""
    before = await before_the_cut(path)
    shutil.copytree(path.parent, path.parent.with_name("cut"))
    frames = wal_of(path).stat().st_size // _FRAME_BYTES
    cuts = [32 + frame * _FRAME_BYTES + extra for frame in range(0, frames, 3) for extra in (0, 700)]
    for at in cuts:
        for name in (path.name, wal_of(path).name):
            shutil.copy(path.parent.with_name("cut") / name, path.parent)
        os.truncate(wal_of(path), at)
        for old, new in zip(before, await positions(path), strict=True):
            assert new == old or new.epoch != old.epoch, at
    assert len(cuts) > 10


async def test_main_file_copied_without_its_wal_is_noticed(path: Path, tmp_path: Path) -> None:
    before = await before_the_cut(path)
    shutil.copy(path, tmp_path / "alone.db")
    assert not {old.epoch for old in before} & {new.epoch for new in await positions(tmp_path / "alone.db")}


async def test_wal_deleted_under_the_running_server_is_noticed_at_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as engine:
        first = await append(engine)
    publish_and_be_killed(path, 5, before_the_kill=wal_of(path).unlink)
    async with opened(path) as engine:
        assert not (await engine.read(A, first, Retention(100, 86_400), limit=1, max_bytes=1)).recovered
    assert _ALARM in caplog.text


async def test_store_that_was_all_in_the_wal_begins_anew_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "store.db"
    publish_and_be_killed(path, 5)
    wal_of(path).unlink()
    async with opened(path) as engine:
        assert (await append(engine)).offset == 1
    assert _ALARM in caplog.text


# -- no false alarm ------------------------------------------------------------------------------------------


def nothing(path: Path) -> None:
    pass


def checkpoint(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def vacuum(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("VACUUM")


def vacuum_into(path: Path) -> None:
    copy = path.with_name("copy.db")
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("VACUUM INTO ?", (str(copy),))
    replace(path, copy)


def back_up(path: Path) -> None:
    copy = path.with_name("copy.db")
    with contextlib.closing(sqlite3.connect(path)) as db, contextlib.closing(sqlite3.connect(copy)) as other:
        db.backup(other)
    replace(path, copy)


def lose_mark(path: Path) -> None:
    """As in a file from before marks."""
    with contextlib.closing(MarkWriter(path)) as marks:
        marks.write(Mark())


def spoil_mark(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(72)
        file.write(b"\xff" * 12)


def replace(path: Path, copy: Path) -> None:
    for file in path.parent.glob("store.db*"):
        file.unlink()
    copy.rename(path)


@pytest.mark.parametrize("treat", [nothing, checkpoint, vacuum, vacuum_into, back_up, lose_mark, spoil_mark])
async def test_whole_store_keeps_its_epochs_after_a_kill(
    treat: Callable[[Path], None], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = await before_the_cut(path)
    treat(path)
    assert await positions(path) == before
    assert await positions(path) == before
    assert caplog.messages == []


async def test_clean_stops_and_kills_with_many_checkpoints_raise_no_alarm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "store.db"
    epochs = set()
    for turn in range(3):
        publish_and_be_killed(path, 400)  # 1000 pages are about 300 commits
        async with opened(path) as engine:
            position = await append(engine)
            epochs.add(position.epoch)
            assert position.offset == (turn + 1) * 401
    assert len(epochs) == 1
    assert caplog.messages == []


async def test_stream_of_the_last_append_that_is_forgotten_raises_no_alarm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, keep, path = FakeClock(), Retention(10, 60), tmp_path / "store.db"
    async with opened(path, clock=clock) as engine:
        await append(engine, keep=keep)
        for _ in range(2):
            clock.advance(31 * 86_400)
            await engine.sweep(lambda channel: keep)
        rows = await engine._submit(lambda store: store._db.execute("SELECT 1 FROM streams").fetchall())
        assert rows == []
        copy = tmp_path / "killed.db"
        shutil.copy(path, copy)
        shutil.copy(wal_of(path), copy.with_name("killed.db-wal"))
    async with opened(copy, clock=clock):
        assert caplog.messages == []


# -- the mark itself -----------------------------------------------------------------------------------------


async def test_mark_names_the_last_append_and_follows_no_failed_transaction(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    def fail(channel: Channel) -> Retention:
        raise ZeroDivisionError

    async with opened(path) as engine:
        for channel in (A, Channel("b"), A):
            await append(engine, channel=channel)
        assert Mark.parse(path.read_bytes()[:HEADER_BYTES]) == Mark(1, 2)
        with pytest.raises(EngineUnavailable):
            await engine.sweep(fail)
        assert Mark.parse(path.read_bytes()[:HEADER_BYTES]) == Mark(1, 2)
        await append(engine, channel=Channel("b"))
        assert Mark.parse(path.read_bytes()[:HEADER_BYTES]) == Mark(2, 2)


async def test_file_that_cannot_be_mapped_fails_no_publish_and_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> mmap.mmap:
        raise OSError("no such device")

    monkeypatch.setattr(mmap, "mmap", fail)
    async with opened(tmp_path / "store.db") as engine:
        for number in range(1, 4):
            assert (await append(engine)).offset == number
    assert caplog.messages == [
        f"{tmp_path / 'store.db'}: a cut of its WAL will not be noticed: no such device"
    ]
