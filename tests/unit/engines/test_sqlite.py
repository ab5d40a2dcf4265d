"""The SQLite engine on real files: damaged ones, foreign ones, killed processes, full disks, and its bounded
queue."""

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heartwire.engines import sqlite, sqlite_file, sqlite_store
from heartwire.engines.contract import Feed, Retention
from heartwire.engines.sqlite import SqliteEngine
from heartwire.errors import EngineCorrupt, EngineError, EngineUnavailable
from heartwire.testing import FakeClock
from heartwire.types import EARLIEST, NOW, Channel, Message, Position, Publication

KEEP = Retention(100_000, 86_400)
A = Channel("a")


@contextlib.asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[SqliteEngine]:
    engine = SqliteEngine(path, **options)
    await engine.start(Feed())
    try:
        yield engine
    finally:
        await engine.stop()


async def append(
    engine: SqliteEngine, data: bytes = b"x", channel: Channel = A, keep: Retention = KEEP
) -> Position:
    return await engine.append(channel, Message(data), keep)


async def kept(engine: SqliteEngine, channel: Channel = A) -> list[Publication]:
    result = await engine.read(channel, EARLIEST, KEEP, limit=1_000_000, max_bytes=1 << 30)
    return result.publications


def contents(folder: Path) -> dict[str, bytes]:
    """All that files hold, but for a reader's index, which is made anew by the next."""
    held = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}
    return {name: content for name, content in held.items() if content}


def python(script: str, *arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


# -- files that are not ours to touch ------------------------------------------------------------------------


async def make_clean(folder: Path) -> Path:
    """A store that was stopped."""
    async with opened(folder / "store.db") as engine:
        for _ in range(200):
            await append(engine, b"x" * 500)
    return folder / "store.db"


async def make_killed(folder: Path) -> Path:
    """A store whose process was killed: its first part is in the file, the rest in the WAL."""
    path = await make_clean(folder)
    other = folder / "other"
    other.mkdir()
    async with opened(path) as engine:
        for _ in range(20):
            await append(engine, b"y" * 500)
        for name in ("store.db", "store.db-wal"):
            shutil.copy(folder / name, other / name)
    other.rename(folder / "killed")
    for name in ("store.db", "store.db-wal"):
        shutil.move(folder / "killed" / name, folder / name)
    (folder / "killed").rmdir()
    assert (folder / "store.db-wal").stat().st_size
    return path


def overwrite(path: Path, at: int, count: int) -> None:
    content = bytearray(path.read_bytes())
    content[at : at + count] = bytes(byte ^ 0xFF for byte in content[at : at + count])
    path.write_bytes(content)


def damage_magic(path: Path) -> None:
    overwrite(path, 0, 16)


def damage_schema(path: Path) -> None:
    overwrite(path, 100, 60)


def damage_page(path: Path) -> None:
    overwrite(path, 4096 * 9, 50)


def cut_short(path: Path) -> None:
    os.truncate(path, 40_000)


def cut_to_a_stub(path: Path) -> None:
    os.truncate(path, 10)


def forget_life(path: Path) -> None:
    change(path, "DELETE FROM meta")


def lose_table(path: Path) -> None:
    change(path, "DROP TABLE meta")


def make_newer(path: Path) -> None:
    change(path, "PRAGMA user_version = 7")


def make_foreign(path: Path) -> None:
    change(path, "PRAGMA application_id = 0")


def make_empty_foreign(path: Path) -> None:
    path.unlink()
    change(path, "PRAGMA application_id = 77")


def change(path: Path, statement: str) -> None:
    """As another program would, leaving a WAL where there was one."""
    folder = path.parent / "changing"
    folder.mkdir()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(statement)
        for name in [path.name, f"{path.name}-wal"]:
            if (path.parent / name).exists():
                shutil.copy(path.parent / name, folder / name)
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    for file in folder.iterdir():
        file.rename(path.parent / file.name)
    folder.rmdir()


NAME_ANOTHER = "it was left as it is: name another file"
SPOILT: list[tuple[Callable[[Path], None], str]] = [
    (damage_magic, f"is not a SQLite database; {NAME_ANOTHER}"),
    (cut_to_a_stub, f"is not a SQLite database; {NAME_ANOTHER}"),
    (
        damage_page,
        "is damaged (quick_check failed); it was left as it is: restore a copy, or name another file",
    ),
    (forget_life, "is damaged (its table meta is incomplete)"),
    (lose_table, "is damaged (no such table: meta)"),
    (
        make_newer,
        (
            "has schema 7, this Heartwire knows 1 to 2; it was left as it is: use the Heartwire that wrote it, or"
            " name another file"
        ),
    ),
    (make_foreign, f"is another program's database; {NAME_ANOTHER}"),
    (make_empty_foreign, f"is another program's database; {NAME_ANOTHER}"),
]
REPAIRED_FROM_A_WAL: list[tuple[Callable[[Path], None], str]] = [
    (damage_schema, "is damaged ("),
    (cut_short, "is damaged ("),
]


@pytest.mark.parametrize(
    ("make", "spoil", "told"),
    [(make_clean, *row) for row in SPOILT + REPAIRED_FROM_A_WAL] + [(make_killed, *row) for row in SPOILT],
)
async def test_file_that_is_not_ours_or_not_sound_is_refused_and_left(
    make: Callable[[Path], Any], spoil: Callable[[Path], None], told: str, tmp_path: Path
) -> None:
    path = await make(tmp_path)
    if make is make_killed and spoil in (damage_schema, cut_short):
        pytest.skip("the WAL has these pages, and repairs them")
    spoil(path)
    before = contents(tmp_path)
    with pytest.raises(EngineCorrupt) as caught:
        async with opened(path):
            pass
    assert str(caught.value).startswith(f"{path} {told}")
    assert contents(tmp_path) == before


async def test_store_of_a_killed_process_is_read_from_its_wal(tmp_path: Path) -> None:
    path = await make_killed(tmp_path)
    async with opened(path) as engine:
        assert [publication.offset for publication in await kept(engine)] == list(range(1, 221))
    assert not (tmp_path / "store.db-shm").exists()


async def test_store_with_a_broken_note_is_refused_and_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "_BUSY_S", 0.05)
    path = await make_clean(tmp_path)
    change(path, "UPDATE meta SET value = 'soon' WHERE name = 'life_ms'")
    for _ in range(2):
        with pytest.raises(EngineError, match=r"store\.db: invalid literal for int"):
            async with opened(path):
                pass
    change(path, "UPDATE meta SET value = '5' WHERE name = 'life_ms'")
    async with opened(path) as engine:
        assert len(await kept(engine)) == 200


async def test_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.touch()
    async with opened(path) as engine:
        assert (await append(engine)).offset == 1


# -- files that cannot be had --------------------------------------------------------------------------------

HOLDER = """
import asyncio, sys
from heartwire.engines.contract import Feed
from heartwire.engines.sqlite import SqliteEngine
async def main():
    engine = SqliteEngine(sys.argv[1])
    await engine.start(Feed())
    print("open", flush=True)
    sys.stdin.read()
asyncio.run(main())
"""


@pytest.mark.slow
async def test_file_in_use_by_another_process_is_reported_and_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "_BUSY_S", 0.05)
    path = await make_clean(tmp_path)
    with python(HOLDER, str(path)) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        before = contents(tmp_path)
        with pytest.raises(EngineUnavailable) as caught:
            async with opened(path):
                pass
        for words in (f"{path} is in use by another process", "?shared=yes", "heartwire serve --workers"):
            assert words in str(caught.value)
        assert contents(tmp_path) == before
        holder.communicate()
    async with opened(path) as engine:
        assert len(await kept(engine)) == 200


async def test_file_in_use_by_an_engine_of_this_process_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "_BUSY_S", 0.05)
    path = tmp_path / "store.db"
    async with opened(path) as engine:
        with pytest.raises(EngineUnavailable, match="is in use by another process"):
            async with opened(path):
                pass
        assert (await append(engine)).offset == 1


@pytest.fixture
def unwritable() -> Iterator[Path]:
    """A folder in which this process may not write; whoever may write anywhere becomes nobody for as long."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        os.seteuid(user)
        shutil.rmtree(folder)


async def test_folder_that_cannot_be_written_is_reported(unwritable: Path) -> None:
    path = unwritable / "store.db"
    with pytest.raises(EngineUnavailable) as caught:
        async with opened(path):
            pass
    assert str(path) in str(caught.value)
    assert "check the disk and the folder's permissions, or name another file" in str(caught.value)
    assert contents(unwritable) == {}


async def test_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(
        EngineUnavailable, match=r"missing/store\.db: unable to open database file; nothing was stored"
    ):
        async with opened(tmp_path / "missing" / "store.db"):
            pass
    (tmp_path / "file").write_text("a file")
    for name in ("file/store.db", "", "with a\0zero.db"):
        with pytest.raises(EngineError, match="name another file"):
            async with opened(tmp_path / name):
                pass


async def test_engine_that_could_not_open_can_be_stopped_and_started_again(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    engine = SqliteEngine(folder / "store.db")
    for _ in range(2):
        with pytest.raises(EngineUnavailable):
            await engine.start(Feed())
        with pytest.raises(EngineUnavailable, match="the engine is not running"):
            engine.append(A, Message(b"x"), KEEP)
        await engine.stop()
    folder.mkdir()
    await engine.start(Feed())
    assert (await append(engine)).offset == 1
    await engine.stop()
    with pytest.raises(EngineUnavailable, match="the engine is not running"):
        await engine.read(A, NOW, KEEP, limit=1, max_bytes=1)


# -- killed --------------------------------------------------------------------------------------------------

PUBLISHER = """
import asyncio, sys
from heartwire.engines.contract import Feed, Retention
from heartwire.engines.sqlite import SqliteEngine
from heartwire.types import Channel, Message
async def publish(engine, who):
    number = 0
    while True:
        number += 1
        text = f"{sys.argv[2]} {who} {number}"
        position = await engine.append(Channel("a"), Message(text.encode()), Retention(100_000, 86_400))
        print(position, text, flush=True)
async def main():
    engine = SqliteEngine(sys.argv[1])
    await engine.start(Feed())
    await asyncio.gather(*(publish(engine, who) for who in range(4)))
asyncio.run(main())
"""


@pytest.mark.slow
async def test_every_answered_publish_is_there_after_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    answered: dict[Position, bytes] = {}
    for turn in range(6):
        with python(PUBLISHER, str(path), f"{turn}") as publisher:
            assert publisher.stdout is not None
            lines = [publisher.stdout.readline() for _ in range(20 + turn * 60)]
            publisher.send_signal(signal.SIGKILL)
            lines += publisher.stdout.readlines()
        for line in lines:
            if line.endswith(b"\n"):
                token, _, text = line.rstrip(b"\n").partition(b" ")
                answered[Position.parse(token.decode())] = text
        async with opened(path) as engine:
            publications = await kept(engine)
        there = {publication.position: publication.data for publication in publications}
        assert [publication.offset for publication in publications] == list(range(1, len(publications) + 1))
        assert {position: there.get(position) for position in answered} == answered
        for who in range(4):  # each publisher's own, in order and without a hole
            own = [text for text in there.values() if text.startswith(b"%d %d " % (turn, who))]
            assert own == [b"%d %d %d" % (turn, who, number) for number in range(1, len(own) + 1)]


# -- the thread and its queue --------------------------------------------------------------------------------


class Held:
    """Keeps the engine's thread busy until `release`: its sweep asks for a retention, and waits for the
    answer."""

    def __init__(self, engine: SqliteEngine) -> None:
        self._engine = engine
        self._entered, self._released = threading.Event(), threading.Event()

    async def __aenter__(self) -> "Held":
        await append(self._engine, channel=Channel("held"))
        self._sweep = asyncio.ensure_future(self._engine.sweep(self._wait))
        await asyncio.to_thread(self._entered.wait)
        return self

    def _wait(self, channel: Channel) -> Retention:
        self._entered.set()
        self._released.wait()
        return KEEP

    def release(self) -> None:
        self._released.set()

    async def __aexit__(self, *error: object) -> None:
        self.release()
        await self._sweep


def commits(wal: Path) -> int:
    """Transactions in a WAL: frames that tell a size after commit (https://sqlite.org/fileformat.html
    4.1)."""
    content = wal.read_bytes()
    page_size = struct.unpack_from(">I", content, 8)[0]
    frames = [struct.unpack_from(">II8s", content, at) for at in range(32, len(content), page_size + 24)]
    return sum(1 for _, size, salt in frames if size and salt == content[16:24])


async def test_what_has_queued_up_is_committed_as_a_group(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as engine:
        async with Held(engine):
            answers = [engine.append(A, Message(b"x"), KEEP) for _ in range(400)]
            before = commits(tmp_path / "store.db-wal")
        positions = await asyncio.gather(*answers)
        assert [position.offset for position in positions] == list(range(1, 401))
        assert commits(tmp_path / "store.db-wal") - before <= 2  # the sweep's, and the group's
        for _ in range(3):
            await append(engine)
        assert commits(tmp_path / "store.db-wal") - before >= 4


async def test_publications_waiting_for_the_disk_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_MAX_QUEUED", 50)
    async with opened(tmp_path / "store.db") as engine:
        async with Held(engine):
            answers = [engine.append(A, Message(b"x"), KEEP) for _ in range(49)]
            with pytest.raises(
                EngineUnavailable, match="50 publications are waiting for the disk; nothing was published"
            ):
                engine.append(A, Message(b"x"), KEEP)
        assert [position.offset for position in await asyncio.gather(*answers)] == list(range(1, 50))
        assert (await append(engine)).offset == 50


async def test_bytes_waiting_for_the_disk_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_MAX_QUEUED_BYTES", 1000)
    async with opened(tmp_path / "store.db") as engine:
        async with Held(engine):
            answers = [engine.append(A, Message(b"x" * 500), KEEP) for _ in range(2)]
            with pytest.raises(EngineUnavailable, match="waiting for the disk"):
                engine.append(A, Message(b"x"), KEEP)
        await asyncio.gather(*answers)
        assert (await append(engine, b"x" * 1000)).offset == 3


async def test_nothing_overtakes_what_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a publisher that sends what has failed again would find it behind what it had sent after it."""
    monkeypatch.setattr(sqlite, "_GROUP", 1)
    async with opened(tmp_path / "store.db") as engine:
        async with Held(engine):
            failing = asyncio.ensure_future(engine.sweep(_fail))
            await asyncio.sleep(0)
            later = [engine.append(A, Message(b"x"), KEEP) for _ in range(3)]
        answers = await asyncio.gather(failing, *later, return_exceptions=True)
        assert all(isinstance(answer, EngineError) for answer in answers)
        assert [str(answer) for answer in answers[1:]] == [
            f"{engine.path}: what came before it was not stored"
        ] * 3
        assert (await append(engine)).offset == 1


def _fail(channel: Channel) -> Retention:
    raise ZeroDivisionError("a planted fault")


async def test_fault_inside_a_group_answers_every_caller_and_the_thread_lives(tmp_path: Path) -> None:
    notified: list[Publication] = []
    engine = SqliteEngine(tmp_path / "store.db")
    await engine.start(Feed(notified.append))
    await append(engine)
    async with Held(engine):
        waiting: list[Any] = [
            engine.append(A, Message(b"x"), KEEP),
            asyncio.ensure_future(engine.sweep(_fail)),
        ]
        await asyncio.sleep(0)  # lets the sweep's task begin, so that it is queued before what follows
        waiting += [engine.append(A, Message(b"x"), KEEP), engine.read(A, NOW, KEEP, limit=1, max_bytes=1)]
        waiting += [engine.append(Channel("born in the group"), Message(b"x"), KEEP)]
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(outcome, EngineUnavailable)
        assert "a planted fault; nothing was stored" in str(outcome)
    assert (await append(engine)).offset == 2
    assert (await append(engine, channel=Channel("born in the group"))).offset == 1
    assert [publication.offset for publication in notified if publication.channel == A] == [1, 2]
    await engine.stop()


async def test_stop_answers_all_that_was_accepted(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    engine = SqliteEngine(path)
    await engine.start(Feed())
    async with Held(engine) as held:
        answers = [engine.append(A, Message(b"x"), KEEP) for _ in range(1200)]  # more than one group
        stopping = asyncio.ensure_future(engine.stop())
        await asyncio.sleep(0)  # lets the task begin
        with pytest.raises(EngineUnavailable, match="the engine is not running"):
            engine.append(A, Message(b"x"), KEEP)
        held.release()
        await stopping
        assert [answer.result().offset for answer in answers] == list(range(1, 1201))
    async with opened(path) as engine:
        assert len(await kept(engine)) == 1200


async def test_full_disk_is_reported_and_writes_go_on_once_there_is_room(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as engine:
        await append(engine, b"x" * 10_000)

        async def allow(pages: int) -> None:
            await engine._submit(lambda store: store._db.execute(f"PRAGMA max_page_count = {pages}"))

        await allow(20)
        with pytest.raises(EngineUnavailable, match="full; nothing was stored: check the disk"):
            await append(engine, b"x" * 1_000_000)
        assert [publication.offset for publication in await kept(engine)] == [1]
        await allow(1_000_000)
        assert (await append(engine, b"x" * 1_000_000)).offset == 2


@pytest.mark.slow
async def test_program_that_ends_without_stop_does_not_hang(tmp_path: Path) -> None:
    script = HOLDER.replace("sys.stdin.read()", "engine.append(Channel('a'), Message(b'x'), Retention(1, 1))")
    script = (
        "from heartwire.engines.contract import Retention\nfrom heartwire.types import Channel, Message\n"
        + script
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", script, str(tmp_path / "store.db")],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("open\n", "", 0)


# -- what the store remembers --------------------------------------------------------------------------------


async def test_more_streams_than_the_cache_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_store, "_CACHED_STREAMS", 3)
    channels = [Channel(f"room:{number}") for number in range(10)]
    async with opened(tmp_path / "store.db") as engine:
        for turn in range(1, 4):
            positions = await asyncio.gather(
                *(engine.append(channel, Message(b"x"), KEEP) for channel in channels)
            )
            assert {position.offset for position in positions} == {turn}

        async def cached() -> int:
            return int(await engine._submit(lambda store: len(store._streams)))

        assert await cached() <= 3
        assert all([len(await kept(engine, channel)) == 3 for channel in channels])


async def test_sweep_goes_through_all_streams_by_and_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "_SWEPT_AT_ONCE", 2)
    clock = FakeClock()
    channels = [Channel(f"room:{number}") for number in range(5)]
    asked: list[Channel] = []

    def retention(channel: Channel) -> Retention:
        asked.append(channel)
        return Retention(10, 60)

    async with opened(tmp_path / "store.db", clock=clock) as engine:
        for channel in channels:
            await append(engine, channel=channel, keep=Retention(10, 60))
        clock.advance(61)
        for _ in range(2):
            await engine.sweep(retention)
    assert asked == channels + channels


async def test_twenty_thousand_short_lived_channels_are_gone_after_one_sweep_and_the_file_shrinks(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    keep = Retention(10, 5)
    path = tmp_path / "store.db"
    async with opened(path, clock=clock) as engine:
        waiting = [engine.append(Channel(f"{n}"), Message(b"x" * 300), keep) for n in range(20_000)]
        await asyncio.gather(*waiting)
        clock.advance(60)
        pages = await one(engine, "PRAGMA page_count")
        await engine.sweep(lambda channel: keep)
        assert await one(engine, "SELECT count(*) FROM publications") == 0
        assert await one(engine, "PRAGMA page_count") < pages / 2


async def one(engine: SqliteEngine, query: str) -> int:
    return int(await engine._submit(lambda store: store._db.execute(query).fetchone()[0]))


async def test_new_file_is_its_owners_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        async with opened(tmp_path / "store.db") as engine:
            await append(engine)
            modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("store.db", "store.db-wal")}
        assert modes == {"store.db": 0o600, "store.db-wal": 0o600}
        (tmp_path / "store.db").chmod(0o640)
        async with opened(tmp_path / "store.db") as engine:
            await append(engine)
            assert (tmp_path / "store.db").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


@pytest.mark.parametrize("then", ["deleted", "emptied", "replaced"])
async def test_file_deleted_emptied_or_replaced_under_the_server_takes_no_more_publications(
    then: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Else they would be answered, and gone at the next start."""
    path = tmp_path / "store.db"
    async with opened(path) as engine:
        await append(engine)
        path.rename(tmp_path / "elsewhere.db")
        if then != "deleted":
            path.touch()
        if then == "replaced":
            shutil.copy(tmp_path / "elsewhere.db", path)
        for _ in range(2):
            with pytest.raises(
                EngineUnavailable, match="was deleted, emptied or replaced while it was in use"
            ):
                await append(engine)
            with pytest.raises(EngineUnavailable):
                await kept(engine)
        assert len([line for line in caplog.messages if "was deleted, emptied or replaced" in line]) == 1
        path.unlink(missing_ok=True)
        (tmp_path / "elsewhere.db").rename(path)
        assert (await append(engine)).offset == 2


async def test_stream_unused_for_a_month_is_forgotten_once_its_life_is_over(tmp_path: Path) -> None:
    clock = FakeClock()
    keep = Retention(10, 60)
    path = tmp_path / "store.db"
    async with opened(path, clock=clock) as engine:
        old = await append(engine, keep=keep)
        clock.advance(31 * 86_400)
        await engine.sweep(lambda channel: keep)
        assert (await engine.read(A, NOW, keep, limit=1, max_bytes=1)).head.epoch != old.epoch
    async with opened(path, clock=clock) as engine:
        head = (await engine.read(A, NOW, keep, limit=1, max_bytes=1)).head
        assert head.epoch != old.epoch
        assert await append(engine, keep=keep) == Position(head.epoch, 1)
        assert not (await engine.read(A, old, keep, limit=1, max_bytes=1)).recovered


async def test_stream_that_keeps_a_publication_or_was_used_lately_outlives_its_life(tmp_path: Path) -> None:
    """Only a stream that is both empty and old is forgotten: readers of the others go on where they were."""
    clock = FakeClock()
    keep, forever = Retention(10, 60), Retention(10, 365 * 86_400)
    kept, late = Channel("kept"), Channel("late")
    retention = {kept: forever, late: keep}
    async with opened(tmp_path / "store.db", clock=clock) as engine:
        first = await append(engine, channel=kept, keep=forever)
        clock.advance(25 * 86_400)
        second = await append(engine, channel=late, keep=keep)
        clock.advance(6 * 86_400)
        await engine.sweep(lambda channel: retention[channel])
    async with opened(tmp_path / "store.db", clock=clock) as engine:
        for channel, position in ((kept, first), (late, second)):
            result = await engine.read(channel, position, retention[channel], limit=1, max_bytes=1)
            assert (result.head, result.recovered) == (position, True)
        result = await engine.read(kept, EARLIEST, forever, limit=1, max_bytes=9)
        assert [one.data for one in result.publications] == [b"x"]


async def test_failed_sweep_changes_no_epoch(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path / "store.db", clock=clock) as engine:
        await append(engine, channel=Channel("held"))
        head = (await engine.read(A, NOW, KEEP, limit=1, max_bytes=1)).head
        clock.advance(31 * 86_400)
        with pytest.raises(EngineUnavailable):
            await engine.sweep(_fail)
        assert await append(engine) == Position(head.epoch, 1)
