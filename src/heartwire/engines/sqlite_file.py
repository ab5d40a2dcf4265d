"""Opening the file of `SqliteEngine`: whether it is ours and sound, its schema, and what its errors mean.

In: a path. Out: a connection that holds the file's lock, or an `EngineError`.
"""

import contextlib
import os
import secrets
import sqlite3
from pathlib import Path
from typing import Final

from heartwire.engines.sqlite_mark import HEADER_BYTES, Mark, MarkWriter
from heartwire.errors import EngineCorrupt, EngineError, EngineUnavailable

__all__ = ["explain", "identity", "open_file"]

_APPLICATION_ID: Final = 0x48575254  # "HWRT"; https://sqlite.org/fileformat.html 1.3.14
_SCHEMA_VERSION: Final = 2
_SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE streams (id INTEGER PRIMARY KEY, channel TEXT NOT NULL UNIQUE, epoch TEXT NOT NULL,
    head INTEGER NOT NULL, used_ms INTEGER NOT NULL);
CREATE TABLE publications (stream INTEGER NOT NULL, offset INTEGER NOT NULL, time_ms INTEGER NOT NULL,
    is_text INTEGER NOT NULL, user TEXT, client TEXT, info BLOB, data BLOB NOT NULL,
    PRIMARY KEY (stream, offset));
CREATE TABLE keys (stream INTEGER NOT NULL, key TEXT NOT NULL, offset INTEGER NOT NULL,
    until_ms INTEGER NOT NULL, PRIMARY KEY (stream, key)) WITHOUT ROWID;"""
_SCHEMA_2: Final = """
ALTER TABLE streams ADD COLUMN revision INTEGER;
ALTER TABLE streams ADD COLUMN written_ms INTEGER;
ALTER TABLE streams ADD COLUMN ttl_s REAL;
ALTER TABLE streams ADD COLUMN ends_ms INTEGER;
ALTER TABLE streams ADD COLUMN record BLOB;
CREATE TABLE ended (stream INTEGER PRIMARY KEY)"""
"""Stream records, beside the heads that change with them: one page less to write for each append. And former
numbers of streams, whose publications are still to be deleted."""
_BUSY_S: Final = 2
_CHECK_UP_TO_BYTES: Final = 256 * 1024 * 1024
_LEFT: Final = "it was left as it is"


def identity(path: Path) -> tuple[int, int] | None:
    """Which file is at a path; ``None``: there is none, or it is empty, as SQLite leaves none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found.st_size else None


def open_file(path: Path, synchronous: str) -> tuple[sqlite3.Connection, Mark, MarkWriter]:
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
            _version(reader, path, check=check)
        check = False
    with contextlib.suppress(OSError):  # it is there, or the driver tells why it cannot be made
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))  # the WAL gets the same mode
    db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        version = _version(db, path, check=check)
        if not version:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # works only before the first write
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute("BEGIN IMMEDIATE")  # takes the lock now, so that a second process fails here
        _upgrade(db, version)
        db.execute("COMMIT")
        # The reader's; the lock's holder needs none.
        path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
        return db, mark, MarkWriter(path)
    except BaseException:
        db.close()
        raise


def _version(db: sqlite3.Connection, path: Path, *, check: bool) -> int:
    """The schema of a sound store of ours, 0 for an empty file. Raises for anything else."""
    id = db.execute("PRAGMA application_id").fetchone()[0]
    if id != _APPLICATION_ID:
        if id or db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise EngineCorrupt(f"{path} is another program's database; {_LEFT}: name another file")
        return 0
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if not 1 <= version <= _SCHEMA_VERSION:
        why = f"{path} has schema {version}, this Heartwire knows 1 to {_SCHEMA_VERSION}; {_LEFT}"
        raise EngineCorrupt(f"{why}: use the Heartwire that wrote it, or name another file")
    if check and db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("quick_check failed")
    if db.execute("SELECT value FROM meta WHERE name = 'life'").fetchone() is None:
        raise sqlite3.DatabaseError("its table meta is incomplete")
    return version


def _upgrade(db: sqlite3.Connection, version: int) -> None:
    """Bring a file of a ``version`` (0: an empty one) to the present one. To be called in a transaction."""
    if version == _SCHEMA_VERSION:
        return
    for statement in (_SCHEMA_2 if version else _SCHEMA + _SCHEMA_2).split(";"):
        db.execute(statement)
    if not version:
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
        fix = "stop it, or name another file; processes that mean to share it say ?shared=yes"
        why = f"{path} is in use by another process: {fix}, or are one heartwire serve --workers"
        explained = EngineUnavailable(why)
    elif damaged or "no such table" in text:
        advice = "restore a copy, or name another file"
        explained = EngineCorrupt(f"{path} is damaged ({text}); {_LEFT}: {advice}")
    else:
        advice = "check the disk and the folder's permissions, or name another file"
        explained = EngineUnavailable(f"{path}: {text}; nothing was stored: {advice}")
    explained.__cause__ = error
    return explained
