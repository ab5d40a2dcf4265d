"""Streams in one SQLite file: no service to run, and they survive a restart.

One thread owns the connection. It takes what has queued up, does it all in one transaction (group commit) and
answers after the commit. In WAL mode a commit is in the operating system's hands, so that a killed process
loses nothing that was answered; ``synchronous="full"`` also flushes the disk, for power loss, at the price of
a flush per group. The file is locked for as long as it is open: two processes on one file would not hear of
each other's publications.
"""

import asyncio
import contextlib
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, Literal, NamedTuple

from heartwire.engines.contract import Clock, Notify, ReadResult, Retention, epoch_of, plan_read
from heartwire.engines.leases import Leases
from heartwire.errors import EngineCorrupt, EngineError, EngineUnavailable
from heartwire.types import NOW, Channel, Message, Position, Publication, Publisher, Start

__all__ = ["SqliteEngine"]

_APPLICATION_ID: Final = 0x48575254  # "HWRT"; https://sqlite.org/fileformat.html 1.3.14
_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE streams (id INTEGER PRIMARY KEY, channel TEXT NOT NULL UNIQUE, epoch TEXT NOT NULL,
    head INTEGER NOT NULL, used_ms INTEGER NOT NULL);
CREATE TABLE publications (stream INTEGER NOT NULL, offset INTEGER NOT NULL, time_ms INTEGER NOT NULL,
    is_text INTEGER NOT NULL, user TEXT, client TEXT, info BLOB, data BLOB NOT NULL,
    PRIMARY KEY (stream, offset));
CREATE TABLE keys (stream INTEGER NOT NULL, key TEXT NOT NULL, offset INTEGER NOT NULL,
    until_ms INTEGER NOT NULL, PRIMARY KEY (stream, key)) WITHOUT ROWID;
"""
_GROUP: Final = 512
_MAX_QUEUED: Final = 20_000
_MAX_QUEUED_BYTES: Final = 128 * 1024 * 1024
_BUSY_S: Final = 2
_CHECK_UP_TO_BYTES: Final = 256 * 1024 * 1024
_CACHED_STREAMS: Final = 10_000
_SWEPT_AT_ONCE: Final = 1000
_FORGET_AFTER_MS: Final = 30 * 86400 * 1000
_FOR_EVER_S: Final = 1e12

Job = Callable[["_Store"], tuple[Any, Publication | None]]


class SqliteEngine(Leases):
    """`Engine` over one file. Presence leases are in memory: they are this process's connections.

    Args:
        path: the file; made if missing.
        synchronous: "normal" survives a killed process, "full" also a power cut.

    Promises: an answered `append` is committed. Where appends fail, those that were handed in before this was
    told fail with them: nothing overtakes what its publisher will send again. Appends waiting for the thread
    are bounded (20,000 or 128 MiB); over that `append` raises `EngineUnavailable` at once.
    """

    def __init__(
        self, path: str | Path, *, synchronous: Literal["normal", "full"] = "normal", clock: Clock = time.time
    ) -> None:
        super().__init__(clock)
        self.path = Path(path)
        self.synchronous = synchronous
        self._clock = clock
        self._jobs: SimpleQueue[_Task | None] = SimpleQueue()
        self._queued = 0
        self._queued_bytes = 0
        self._failures = 0
        self._thread: threading.Thread | None = None

    async def start(self, notify: Notify) -> None:
        """See `Engine.start`."""
        self._notify = notify
        self._loop = asyncio.get_running_loop()
        opened = self._loop.create_future()
        self._thread = threading.Thread(
            target=self._run, args=(opened,), name=f"heartwire {self.path.name}", daemon=True
        )
        self._thread.start()
        try:
            await opened
        except EngineError:
            self._thread = None
            raise

    async def stop(self) -> None:
        """See `Engine.stop`."""
        if self._thread is not None:
            thread, self._thread = self._thread, None
            self._jobs.put(None)
            await asyncio.to_thread(thread.join)
            await asyncio.sleep(0)  # answers of the last group are in the loop's queue

    def append(
        self,
        channel: Channel,
        message: Message,
        keep: Retention,
        *,
        key: str | None = None,
        key_ttl_s: float = 300,
    ) -> asyncio.Future[Position]:
        """See `Engine.append`."""
        size = len(message.data)
        if self._queued >= _MAX_QUEUED or self._queued_bytes + size > _MAX_QUEUED_BYTES:
            raise EngineUnavailable(
                f"{self.path}: {self._queued} publications are waiting for the disk; nothing was published"
            )
        return self._submit(
            lambda store: store.append(channel, message, keep, key, key_ttl_s), size, after=self._failures
        )

    def read(
        self, channel: Channel, start: Start, keep: Retention, *, limit: int, max_bytes: int
    ) -> asyncio.Future[ReadResult]:
        """See `Engine.read`."""
        return self._submit(lambda store: (store.read(channel, start, keep, limit, max_bytes), None))

    def remove(self, channel: Channel) -> asyncio.Future[Position]:
        """See `Engine.remove`."""
        return self._submit(lambda store: (store.remove(channel), None))

    async def sweep(self, retention: Callable[[Channel], Retention]) -> None:
        """See `Engine.sweep`. Goes through the streams by and by, 1000 a call."""
        self.sweep_leases()
        await self._submit(lambda store: store.sweep(retention))

    def _submit(self, job: Job, size: int = 0, *, after: int | None = None) -> asyncio.Future[Any]:
        if self._thread is None:
            raise EngineUnavailable(f"{self.path}: the engine is not running")
        future = self._loop.create_future()
        self._queued += 1
        self._queued_bytes += size
        self._jobs.put(_Task(job, future, size, after))
        return future

    # -- the thread ------------------------------------------------------------------------------------------

    def _run(self, opened: asyncio.Future[None]) -> None:
        try:
            store = _Store(self.path, self.synchronous, self._clock)
        except Exception as error:  # whatever it was, `start` is told
            self._loop.call_soon_threadsafe(opened.set_exception, _explain(error, self.path))
            return
        self._loop.call_soon_threadsafe(opened.set_result, None)
        running = True
        while running:
            group = [self._jobs.get()]
            with contextlib.suppress(Empty):
                while len(group) < _GROUP:
                    group.append(self._jobs.get_nowait())
            running = None not in group
            self._do(store, [task for task in group if task is not None])
        store.close()

    def _do(self, store: "_Store", group: "list[_Task]") -> None:
        done: list[tuple[asyncio.Future[Any], Any, Publication | None]]
        late = [task for task in group if task.after is not None and task.after != store.failures]
        if late:
            group = [task for task in group if task not in late]
        try:
            with store.transaction():
                done = [(task.future, *task.job(store)) for task in group]
        except Exception as error:  # whatever it was, those who wait are told, and the thread lives
            store.failures += 1
            failure = _explain(error, self.path)
            done = [(task.future, failure, None) for task in group]
        done += [
            (task.future, EngineUnavailable(f"{self.path}: what came before it was not stored"), None)
            for task in late
        ]
        size = sum(task.size for task in (*group, *late))
        # The loop is closed when the program ends without stop(): nobody is left to be answered.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._settle, done, size, store.failures)

    def _settle(
        self, done: list[tuple[asyncio.Future[Any], Any, Publication | None]], size: int, failures: int
    ) -> None:
        self._failures = failures
        self._queued -= len(done)
        self._queued_bytes -= size
        for future, answer, publication in done:
            if publication is not None:
                self._notify(publication)
            if future.done():
                continue
            if isinstance(answer, EngineError):
                future.set_exception(answer)
            else:
                future.set_result(answer)


class _Task(NamedTuple):
    """Work for the thread. ``after``: how many groups had failed as far as it was known when an append was
    handed in."""

    job: Job
    future: asyncio.Future[Any]
    size: int
    after: int | None


class _Stream:
    __slots__ = ("epoch", "head", "id", "keep")

    def __init__(self, id: int, epoch: str, head: int) -> None:
        self.id, self.epoch, self.head = id, epoch, head
        self.keep: Retention | None = None


class _Store:
    """The file, seen from its thread. Every method runs inside `transaction`."""

    def __init__(self, path: Path, synchronous: str, clock: Clock) -> None:
        self._clock = clock
        self._streams: dict[Channel, _Stream] = {}
        self._changed: dict[Channel, _Stream] = {}
        self._swept = 0
        self.failures = 0
        self._db = _open(path, synchronous)
        try:
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('life_ms', ?)", (str(int(clock() * 1000)),))
            meta = dict(self._db.execute("SELECT name, value FROM meta"))
            self._life, self._life_ms = meta["life"], int(meta["life_ms"])
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Any:
        life = self._life, self._life_ms
        self._db.execute("BEGIN")
        try:
            yield
            self._write_heads()
            self._db.execute("COMMIT")
        except BaseException:
            self._life, self._life_ms = life
            self._streams.clear()
            self._changed.clear()
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def append(
        self, channel: Channel, message: Message, keep: Retention, key: str | None, key_ttl_s: float
    ) -> tuple[Position, Publication | None]:
        now_ms = int(self._clock() * 1000)
        stream = self._stream(channel) or self._create(channel, now_ms)
        if key is not None:
            known = self._db.execute(
                "SELECT offset FROM keys WHERE stream = ? AND key = ? AND until_ms > ?",
                (stream.id, key, now_ms),
            ).fetchone()
            if known is not None:
                return Position(stream.epoch, known[0]), None
        stream.head += 1
        stream.keep = keep
        self._changed[channel] = stream
        publisher = message.publisher
        who = (publisher.user, publisher.client, publisher.info) if publisher else (None, None, None)
        self._db.execute(
            "INSERT INTO publications VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (stream.id, stream.head, now_ms, message.is_text, *who, message.data),
        )
        if key is not None:
            until_ms = now_ms + int(min(key_ttl_s, _FOR_EVER_S) * 1000)
            self._db.execute(
                "INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?)", (stream.id, key, stream.head, until_ms)
            )
        publication = Publication(
            channel,
            stream.epoch,
            stream.head,
            message.data,
            message.is_text,
            publisher,
            now_ms,
            message.origin,
        )
        return Position(stream.epoch, stream.head), publication

    def read(self, channel: Channel, start: Start, keep: Retention, limit: int, max_bytes: int) -> ReadResult:
        stream = self._stream(channel)
        if stream is None:
            head = Position(epoch_of(self._life, channel), 0)
            after, recovered = plan_read(start, head, 1)
            return ReadResult(head, [], head, recovered)
        head = Position(stream.epoch, stream.head)
        after, recovered = plan_read(start, head, self._trimmed(stream, keep))
        publications = [] if start is NOW else self._read(channel, stream, after, limit, max_bytes)
        return ReadResult(Position(stream.epoch, after), publications, head, recovered)

    def remove(self, channel: Channel) -> Position:
        stream = self._stream(channel)
        if stream is None:
            return Position(epoch_of(self._life, channel), 0)
        self._db.execute("DELETE FROM publications WHERE stream = ?", (stream.id,))
        return Position(stream.epoch, stream.head)

    def sweep(self, retention: Callable[[Channel], Retention]) -> tuple[None, None]:
        now_ms = int(self._clock() * 1000)
        self._renew_life(now_ms)
        self._db.execute("DELETE FROM keys WHERE until_ms <= ?", (now_ms,))
        rows = self._db.execute(
            "SELECT id, channel, epoch, head, used_ms FROM streams WHERE id > ? ORDER BY id LIMIT ?",
            (self._swept, _SWEPT_AT_ONCE),
        ).fetchall()
        self._swept = rows[-1][0] if len(rows) == _SWEPT_AT_ONCE else 0
        for id, channel, epoch, head, used_ms in rows:
            stream = self._streams.get(channel) or _Stream(id, epoch, head)
            oldest = self._trimmed(stream, retention(channel))
            unused = (
                oldest > stream.head and used_ms < now_ms - _FORGET_AFTER_MS and channel not in self._changed
            )
            # One that comes back must not count again in an epoch it had: it is kept until the life it was
            # born in is over.
            if unused and epoch != epoch_of(self._life, channel) and not self._has_keys(id):
                self._db.execute("DELETE FROM streams WHERE id = ?", (id,))
                self._streams.pop(channel, None)
        return None, None

    def _has_keys(self, id: int) -> bool:
        return self._db.execute("SELECT 1 FROM keys WHERE stream = ? LIMIT 1", (id,)).fetchone() is not None

    def _renew_life(self, now_ms: int) -> None:
        """Rarely, because the epochs that streams without publications will have change with it."""
        if self._life_ms < now_ms - _FORGET_AFTER_MS:
            self._life, self._life_ms = secrets.token_hex(8), now_ms
            meta = [("life", self._life), ("life_ms", str(now_ms))]
            self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta)

    def _read(
        self, channel: Channel, stream: _Stream, after: int, limit: int, max_bytes: int
    ) -> list[Publication]:
        publications: list[Publication] = []
        size = 0
        cursor = self._db.execute(
            "SELECT offset, data, is_text, user, client, info, time_ms FROM publications"
            " WHERE stream = ? AND offset > ? ORDER BY offset LIMIT ?",
            (stream.id, after, limit),
        )
        for offset, data, is_text, user, client, info, time_ms in cursor:
            publisher = None if user is None else Publisher(user, client, info)
            publications.append(
                Publication(channel, stream.epoch, offset, data, bool(is_text), publisher, time_ms)
            )
            size += len(data)
            if size >= max_bytes:
                break
        cursor.close()
        return publications

    def _trimmed(self, stream: _Stream, keep: Retention) -> int:
        """Delete what is past its retention; the oldest offset that is left, head + 1 where nothing is."""
        last_gone = max(0, stream.head - keep.history_size)
        self._db.execute("DELETE FROM publications WHERE stream = ? AND offset <= ?", (stream.id, last_gone))
        since_ms = int(max(0, self._clock() - keep.history_ttl_s) * 1000)
        query = (
            "SELECT offset, time_ms FROM publications WHERE stream = ? AND time_ms >= ? ORDER BY offset"
            " LIMIT 1"
        )
        oldest = self._db.execute(query, (stream.id, 0)).fetchone()
        if oldest is None or oldest[1] >= since_ms:
            return oldest[0] if oldest else stream.head + 1
        young = self._db.execute(query, (stream.id, since_ms)).fetchone()
        first: int = young[0] if young else stream.head + 1
        self._db.execute("DELETE FROM publications WHERE stream = ? AND offset < ?", (stream.id, first))
        return first

    def _stream(self, channel: Channel) -> _Stream | None:
        stream = self._streams.get(channel)
        if stream is None:
            row = self._db.execute(
                "SELECT id, epoch, head FROM streams WHERE channel = ?", (channel,)
            ).fetchone()
            stream = row and self._cached(channel, _Stream(*row))
        return stream

    def _cached(self, channel: Channel, stream: _Stream) -> _Stream:
        if len(self._streams) >= _CACHED_STREAMS:
            self._write_heads()
            self._streams.clear()
        self._streams[channel] = stream
        return stream

    def _create(self, channel: Channel, now_ms: int) -> _Stream:
        epoch = epoch_of(self._life, channel)
        cursor = self._db.execute(
            "INSERT INTO streams (channel, epoch, head, used_ms) VALUES (?, ?, 0, ?)",
            (channel, epoch, now_ms),
        )
        assert cursor.lastrowid is not None
        return self._cached(channel, _Stream(cursor.lastrowid, epoch, 0))

    def _write_heads(self) -> None:
        """Once a group: note the heads of the streams it changed, and trim them by size."""
        used_ms = int(self._clock() * 1000)
        for stream in self._changed.values():
            assert stream.keep is not None
            self._db.execute(
                "UPDATE streams SET head = ?, used_ms = ? WHERE id = ?", (stream.head, used_ms, stream.id)
            )
            last_gone = stream.head - stream.keep.history_size
            if last_gone > 0:
                self._db.execute(
                    "DELETE FROM publications WHERE stream = ? AND offset <= ?", (stream.id, last_gone)
                )
        self._changed.clear()


def _open(path: Path, synchronous: str) -> sqlite3.Connection:
    """Open or make the file. Nothing is written before it is known to be ours or empty."""
    size = path.stat().st_size if path.exists() else 0
    if size:
        with path.open("rb") as file:
            if file.read(16) != b"SQLite format 3\0":
                raise EngineCorrupt(
                    f"{path} is not a SQLite database; it was left as it is: name another file"
                )
    wal = path.with_name(f"{path.name}-wal")
    check = size <= _CHECK_UP_TO_BYTES
    if size and wal.exists() and wal.stat().st_size:
        # A connection that may write moves what a killed process left in the WAL into the file when it is
        # closed.
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", timeout=_BUSY_S, uri=True)
        ) as reader:
            _is_ours(reader, path, check=check)
        check = False
    db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        ours = _is_ours(db, path, check=check)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute("BEGIN IMMEDIATE")  # takes the lock now, so that a second process fails here
        if not ours:
            _create_schema(db)
        db.execute("COMMIT")
        path.with_name(f"{path.name}-shm").unlink(
            missing_ok=True
        )  # the reader's; whoever has the lock needs none
    except BaseException:
        db.close()
        raise
    return db


def _is_ours(db: sqlite3.Connection, path: Path, *, check: bool) -> bool:
    """True for a sound store of ours, False for an empty file. Raises for anything else."""
    id = db.execute("PRAGMA application_id").fetchone()[0]
    if id != _APPLICATION_ID:
        if id or db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise EngineCorrupt(
                f"{path} is another program's database; it was left as it is: name another file"
            )
        return False
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version != _SCHEMA_VERSION:
        told = f"{path} has schema {version}, this Heartwire knows {_SCHEMA_VERSION}; it was left as it is"
        raise EngineCorrupt(f"{told}: use the Heartwire that wrote it, or name another file")
    if check and db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("quick_check failed")
    if db.execute("SELECT value FROM meta WHERE name = 'life'").fetchone() is None:
        raise sqlite3.DatabaseError("its table meta is incomplete")
    return True


def _create_schema(db: sqlite3.Connection) -> None:
    for statement in _SCHEMA.split(";"):
        db.execute(statement)
    db.execute("INSERT INTO meta VALUES ('life', ?)", (secrets.token_hex(8),))
    db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")


def _explain(error: Exception, path: Path) -> EngineError:
    """A driver's error in our words."""
    if isinstance(error, EngineError):
        return error
    text = str(error)
    damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
    explained: EngineError
    if "locked" in text:
        explained = EngineUnavailable(f"{path} is in use by another process: stop it, or name another file")
    elif damaged or "no such table" in text:
        explained = EngineCorrupt(
            f"{path} is damaged ({text}); it was left as it is: restore a copy, or name another file"
        )
    else:
        advice = "check the disk and the folder's permissions, or name another file"
        explained = EngineUnavailable(f"{path}: {text}; nothing was stored: {advice}")
    explained.__cause__ = error
    return explained
