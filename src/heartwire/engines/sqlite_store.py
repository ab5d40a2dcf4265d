"""The file of `SqliteEngine`: its schema, and what one transaction reads and writes.

Only the engine's thread uses it.
"""

import contextlib
import logging
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from heartwire.engines.contract import Clock, ReadResult, Retention, epoch_of, plan_read
from heartwire.engines.sqlite_mark import HEADER_BYTES, Mark, MarkWriter
from heartwire.errors import EngineCorrupt, EngineError, EngineUnavailable
from heartwire.types import NOW, Channel, Message, Position, Publication, Publisher, Start

__all__ = ["Store", "explain"]

log = logging.getLogger("heartwire")

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
_BUSY_S: Final = 2
_CHECK_UP_TO_BYTES: Final = 256 * 1024 * 1024
_LEFT: Final = "it was left as it is"
_CACHED_STREAMS: Final = 10_000
_SWEPT_AT_ONCE: Final = 250
_SHRUNK_PAGES: Final = 256
_FORGET_AFTER_MS: Final = 30 * 86400 * 1000
_FOR_EVER_S: Final = 1e12
_FIRST_SINCE: Final = """
SELECT offset, time_ms FROM publications WHERE stream = ? AND time_ms >= ? ORDER BY offset LIMIT 1"""
_READ: Final = """
SELECT offset, data, is_text, user, client, info, time_ms FROM publications
WHERE stream = ? AND offset > ? ORDER BY offset LIMIT ?"""
_DROP_UP_TO: Final = "DELETE FROM publications WHERE stream = ? AND offset <= ?"


class _Stream:
    """A stream's row, and the retention of its last append: ``None`` until there is one."""

    __slots__ = ("epoch", "head", "id", "keep")

    def __init__(self, id: int, epoch: str, head: int) -> None:
        self.id, self.epoch, self.head = id, epoch, head
        self.keep: Retention | None = None


class Store:
    """The open file. Call every method inside `transaction`, except `close`."""

    def __init__(self, path: Path, synchronous: str, clock: Clock) -> None:
        self._clock = clock
        self._streams: dict[Channel, _Stream] = {}
        self._changed: dict[Channel, _Stream] = {}
        self._swept = 0
        self.failures = 0  # of transactions
        self._path = path.absolute()
        self._db, self._newest, self._marks = _open(path, synchronous)
        self._file = _identity(self._path)
        try:
            self._notice_cut()
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('life_ms', ?)", (str(int(clock() * 1000)),))
            meta = dict(self._db.execute("SELECT name, value FROM meta"))
            self._life, self._life_ms = meta["life"], int(meta["life_ms"])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file and release its lock."""
        self._db.close()
        self._marks.close()  # after it: see `MarkWriter`

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit the block's work, or roll back all of it and raise."""
        if _identity(self._path) != self._file:  # else what is answered would be gone with the next start
            why = (
                "was deleted, emptied or replaced while it was in use; nothing was stored: restart the server"
            )
            raise EngineUnavailable(f"{self._path} {why}")
        before = self._life, self._life_ms, self._newest
        self._db.execute("BEGIN")
        try:
            yield
            self._write_heads()
            self._db.execute("COMMIT")
        except BaseException:
            self._life, self._life_ms, self._newest = before
            self._streams.clear()
            self._changed.clear()
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        if self._newest is not before[2]:
            self._marks.write(self._newest)

    def append(
        self, channel: Channel, message: Message, keep: Retention, key: str | None, key_ttl_s: float
    ) -> tuple[Position, Publication | None]:
        """See `Engine.append`; the publication to notify of, ``None`` where the key is known."""
        now_ms = int(self._clock() * 1000)
        stream = self._stream(channel) or self._create(channel, now_ms)
        if key is not None:
            query = "SELECT offset FROM keys WHERE stream = ? AND key = ? AND until_ms > ?"
            known = self._db.execute(query, (stream.id, key, now_ms)).fetchone()
            if known is not None:
                return Position(stream.epoch, known[0]), None
        stream.head += 1
        stream.keep = keep
        self._changed[channel] = stream
        fields = (message.data, message.is_text, message.publisher, now_ms, message.origin)
        publication = Publication(channel, stream.epoch, stream.head, *fields)
        self._insert(stream, publication)
        if key is not None:
            use = (stream.id, key, stream.head, now_ms + int(min(key_ttl_s, _FOR_EVER_S) * 1000))
            self._db.execute("INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?)", use)
        return publication.position, publication

    def read(self, channel: Channel, start: Start, keep: Retention, limit: int, max_bytes: int) -> ReadResult:
        stream = self._stream(channel)
        if stream is None:
            head = Position(epoch_of(self._life, channel), 0)
            return ReadResult(head, [], head, plan_read(start, head, 1)[1])
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

    def streams(self, after: int) -> list[tuple[int, Channel, Position]]:
        """The next streams, with the numbers of their rows."""
        query = "SELECT id, channel, epoch, head FROM streams WHERE id > ? ORDER BY id LIMIT ?"
        rows = self._db.execute(query, (after, _SWEPT_AT_ONCE)).fetchall()
        return [(id, channel, Position(epoch, head)) for id, channel, epoch, head in rows]

    def restore(self, channel: Channel, head: Position, publications: Sequence[Publication]) -> None:
        """See `Portable.restore`."""
        stream = self._stream(channel) or self._create(channel, int(self._clock() * 1000))
        stream.epoch, stream.head = head
        self._db.execute("UPDATE streams SET epoch = ?, head = ? WHERE id = ?", (*head, stream.id))
        for one in publications:
            self._insert(stream, one)

    def _insert(self, stream: _Stream, one: Publication) -> None:
        who = one.publisher
        by = (who.user, who.client, who.info) if who else (None, None, None)
        values = (stream.id, one.offset, one.time_ms, one.is_text, *by, one.data)
        self._db.execute("INSERT INTO publications VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)

    def sweep(self, retention: Callable[[Channel], Retention]) -> tuple[bool, None]:
        """Sweep the next streams. Returns whether these were the last."""
        now_ms = int(self._clock() * 1000)
        if not self._swept:
            self._renew_life(now_ms)
            self._db.execute("DELETE FROM keys WHERE until_ms <= ?", (now_ms,))
        query = "SELECT id, channel, epoch, head, used_ms FROM streams WHERE id > ? ORDER BY id LIMIT ?"
        rows = self._db.execute(query, (self._swept, _SWEPT_AT_ONCE)).fetchall()
        self._swept = rows[-1][0] if len(rows) == _SWEPT_AT_ONCE else 0
        for id, channel, epoch, head, used_ms in rows:
            stream = self._streams.get(channel) or _Stream(id, epoch, head)
            oldest = self._trimmed(stream, retention(channel))
            is_old = used_ms < now_ms - _FORGET_AFTER_MS
            unused = oldest > stream.head and is_old and channel not in self._changed
            # A stream that comes back must not count again in an epoch it had: it stays while its life lasts.
            if unused and epoch != epoch_of(self._life, channel) and not self._has_keys(id):
                if id == self._newest.stream:  # before the commit: a mark must not be ahead of the file
                    self._newest = Mark()
                    self._marks.write(self._newest)
                self._db.execute("DELETE FROM streams WHERE id = ?", (id,))
                self._streams.pop(channel, None)
        free = self._db.execute("PRAGMA freelist_count").fetchone()[0]
        for _ in range(min(free, _SHRUNK_PAGES)):  # the driver steps once, and a step gives one page back
            self._db.execute("PRAGMA incremental_vacuum(1)")
        return not self._swept, None

    def _has_keys(self, id: int) -> bool:
        return self._db.execute("SELECT 1 FROM keys WHERE stream = ? LIMIT 1", (id,)).fetchone() is not None

    def _renew_life(self, now_ms: int) -> None:
        """Begin a new life, rarely: it changes the epochs of the streams that have no publications yet."""
        if self._life_ms < now_ms - _FORGET_AFTER_MS:
            self._life, self._life_ms = secrets.token_hex(8), now_ms
            meta = [("life", self._life), ("life_ms", str(now_ms))]
            self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta)

    def _read(
        self, channel: Channel, stream: _Stream, after: int, limit: int, max_bytes: int
    ) -> list[Publication]:
        publications: list[Publication] = []
        size = 0
        cursor = self._db.execute(_READ, (stream.id, after, limit))
        for offset, data, is_text, user, client, info, time_ms in cursor:
            publisher = None if user is None else Publisher(user, client, info)
            fields = (offset, data, bool(is_text), publisher, time_ms)
            publications.append(Publication(channel, stream.epoch, *fields))
            size += len(data)
            if size >= max_bytes:
                break
        cursor.close()
        return publications

    def _trimmed(self, stream: _Stream, keep: Retention) -> int:
        """Delete what is past its retention. Returns the oldest offset left, head + 1 where nothing is."""
        last_gone = max(0, stream.head - keep.history_size)
        self._db.execute(_DROP_UP_TO, (stream.id, last_gone))
        since_ms = keep.since_ms(self._clock())
        oldest = self._db.execute(_FIRST_SINCE, (stream.id, 0)).fetchone()
        if oldest is None or oldest[1] >= since_ms:
            return oldest[0] if oldest else stream.head + 1
        young = self._db.execute(_FIRST_SINCE, (stream.id, since_ms)).fetchone()
        first: int = young[0] if young else stream.head + 1
        self._db.execute("DELETE FROM publications WHERE stream = ? AND offset < ?", (stream.id, first))
        return first

    def _stream(self, channel: Channel) -> _Stream | None:
        if channel in self._streams:
            return self._streams[channel]
        query = "SELECT id, epoch, head FROM streams WHERE channel = ?"
        row = self._db.execute(query, (channel,)).fetchone()
        return row and self._cached(channel, _Stream(*row))

    def _cached(self, channel: Channel, stream: _Stream) -> _Stream:
        if len(self._streams) >= _CACHED_STREAMS:
            self._write_heads()
            self._streams.clear()
        self._streams[channel] = stream
        return stream

    def _create(self, channel: Channel, now_ms: int) -> _Stream:
        epoch = epoch_of(self._life, channel)
        query = "INSERT INTO streams (channel, epoch, head, used_ms) VALUES (?, ?, 0, ?)"
        cursor = self._db.execute(query, (channel, epoch, now_ms))
        assert cursor.lastrowid is not None
        return self._cached(channel, _Stream(cursor.lastrowid, epoch, 0))

    def _write_heads(self) -> None:
        """Write the heads of the streams that the group changed, and trim these by size."""
        used_ms = int(self._clock() * 1000)
        for stream in self._changed.values():
            assert stream.keep is not None
            values = (stream.head, used_ms, stream.id)
            self._db.execute("UPDATE streams SET head = ?, used_ms = ? WHERE id = ?", values)
            last_gone = stream.head - stream.keep.history_size
            if last_gone > 0:
                self._db.execute(_DROP_UP_TO, (stream.id, last_gone))
        if self._changed:
            self._newest = Mark(stream.id, stream.head)
            self._changed.clear()

    def _notice_cut(self) -> None:
        """Begin new epochs where the file is behind its mark."""
        found = self._db.execute("SELECT head FROM streams WHERE id = ?", (self._newest.stream,)).fetchone()
        if self._newest.head <= (found[0] if found else 0):
            return
        life, life_ms = secrets.token_hex(8), str(int(self._clock() * 1000))
        self._db.create_function("epoch_of", 2, epoch_of)
        self._db.execute("BEGIN")
        self._db.execute("UPDATE streams SET epoch = epoch_of(?, channel)", (life,))
        meta = [("life", life), ("life_ms", life_ms)]
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta)
        self._db.execute("COMMIT")
        # The mark goes when the new epochs no longer depend on the WAL; until then it raises the alarm again.
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self._newest = Mark()
        self._marks.write(self._newest)
        why = "its WAL was deleted, cut or damaged, and publications that were answered are lost"
        log.error("%s: %s; all channels have new epochs, so that their readers get a gap", self._path, why)


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file is at a path; ``None``: there is none, or it is empty, as SQLite leaves none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found.st_size else None


def _open(path: Path, synchronous: str) -> tuple[sqlite3.Connection, Mark, MarkWriter]:
    """Open or make the file. Writes nothing before it knows that the file is ours or empty.

    Returns its mark too, as it is before SQLite can checkpoint a page over it.
    """
    size = path.stat().st_size if path.exists() else 0
    mark = Mark()
    if size:
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
            mark = Mark.parse(header)
            if not header.startswith(b"SQLite format 3\0"):
                raise EngineCorrupt(f"{path} is not a SQLite database; {_LEFT}: name another file")
    wal = path.with_name(f"{path.name}-wal")
    check = size <= _CHECK_UP_TO_BYTES
    if size and wal.exists() and wal.stat().st_size:
        # A connection that may write moves what a killed process left in the WAL into the file on close.
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, timeout=_BUSY_S, uri=True)) as reader:
            _is_ours(reader, path, check=check)
        check = False
    with contextlib.suppress(OSError):  # it is there, or the driver tells why it cannot be made
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))  # the WAL gets the same mode
    db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        ours = _is_ours(db, path, check=check)
        if not ours:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # works only before the first write
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute("BEGIN IMMEDIATE")  # takes the lock now, so that a second process fails here
        if not ours:
            _create_schema(db)
        db.execute("COMMIT")
        # The reader's; the lock's holder needs none.
        path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
        return db, mark, MarkWriter(path)
    except BaseException:
        db.close()
        raise


def _is_ours(db: sqlite3.Connection, path: Path, *, check: bool) -> bool:
    """True for a sound store of ours, False for an empty file. Raises for anything else."""
    id = db.execute("PRAGMA application_id").fetchone()[0]
    if id != _APPLICATION_ID:
        if id or db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise EngineCorrupt(f"{path} is another program's database; {_LEFT}: name another file")
        return False
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version != _SCHEMA_VERSION:
        why = f"{path} has schema {version}, this Heartwire knows {_SCHEMA_VERSION}; {_LEFT}"
        raise EngineCorrupt(f"{why}: use the Heartwire that wrote it, or name another file")
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


def explain(error: Exception, path: Path) -> EngineError:
    """The driver's error as one of ours, which names the file and the fix."""
    if isinstance(error, EngineError):
        return error
    text = str(error)
    damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
    explained: EngineError
    if "locked" in text:
        explained = EngineUnavailable(f"{path} is in use by another process: stop it, or name another file")
    elif damaged or "no such table" in text:
        advice = "restore a copy, or name another file"
        explained = EngineCorrupt(f"{path} is damaged ({text}); {_LEFT}: {advice}")
    else:
        advice = "check the disk and the folder's permissions, or name another file"
        explained = EngineUnavailable(f"{path}: {text}; nothing was stored: {advice}")
    explained.__cause__ = error
    return explained
