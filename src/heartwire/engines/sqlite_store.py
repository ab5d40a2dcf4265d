"""The file of `SqliteEngine`: its schema, and what one transaction reads and writes.

Only the engine's thread uses it.
"""

import contextlib
import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from heartwire.engines.contract import (
    Clock,
    ReadResult,
    Recorded,
    Retention,
    StreamWrite,
    epoch_of,
    plan_read,
)
from heartwire.engines.sqlite_file import identity, open_file
from heartwire.engines.sqlite_mark import Mark
from heartwire.engines.sqlite_rows import STREAMS, Record, Stream, from_row
from heartwire.errors import EngineUnavailable
from heartwire.types import NOW, Channel, Message, Position, Publication, Publisher, Start

__all__ = ["Store", "Told"]

log = logging.getLogger("heartwire")

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
_WRITE_HEAD: Final = "UPDATE streams SET head = ?, used_ms = ? WHERE id = ?"
_WRITE_RECORD: Final = """
UPDATE streams SET head = ?, used_ms = ?, revision = ?, written_ms = ?, ttl_s = ?, ends_ms = ?, record = ?
WHERE id = ?"""
_FORGET_RECORD: Final = """
UPDATE streams SET id = ?, epoch = ?, head = 0, used_ms = ?, revision = NULL, written_ms = NULL, ttl_s = NULL,
ends_ms = NULL, record = NULL WHERE id = ?"""
_DROP_UP_TO: Final = "DELETE FROM publications WHERE stream = ? AND offset <= ?"
_DROP_SOME: Final = """
DELETE FROM publications WHERE rowid IN (SELECT rowid FROM publications WHERE stream = ? LIMIT ?)"""
_DROPPED_AT_ONCE: Final = 5_000
Told = Publication | tuple[Channel, Position]
"""What to notify of: a publication, or the first position of a stream's next epoch."""


class Store:
    """The open file. Call every method inside `transaction`, except `close`."""

    def __init__(self, path: Path, synchronous: str, clock: Clock) -> None:
        self._clock = clock
        self._streams: dict[Channel, Stream] = {}
        self._told: list[Told] = []
        self._changed: dict[Channel, Stream] = {}
        self._swept = 0
        self.failures = 0  # of transactions
        self._path = path.absolute()
        self._db, self._newest, self._marks = open_file(path, synchronous)
        self._file = identity(self._path)
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

    def told(self) -> list[Told]:
        """What the last call has told, to notify of once it is committed."""
        told, self._told = self._told, []
        return told

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit the block's work, or roll back all of it and raise."""
        if identity(self._path) != self._file:  # else what is answered would be gone with the next start
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
            self._told.clear()
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        if self._newest is not before[2]:
            self._marks.write(self._newest)

    def append(
        self, channel: Channel, message: Message, keep: Retention, key: str | None, key_ttl_s: float
    ) -> Position:
        """See `Engine.append`."""
        now_ms = int(self._clock() * 1000)
        stream = self._stream(channel) or self._create(channel, now_ms)
        if key is not None:
            query = "SELECT offset FROM keys WHERE stream = ? AND key = ? AND until_ms > ?"
            known = self._db.execute(query, (stream.id, key, now_ms)).fetchone()
            if known is not None:
                return Position(stream.epoch, known[0])
        stream.keep = keep
        self._add(stream, message, now_ms)
        if key is not None:
            use = (stream.id, key, stream.head, now_ms + int(min(key_ttl_s, _FOR_EVER_S) * 1000))
            self._db.execute("INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?)", use)
        return stream.position

    def _add(self, stream: Stream, message: Message, now_ms: int) -> None:
        stream.head += 1
        self._changed[stream.channel] = stream
        fields = (message.data, message.is_text, message.publisher, now_ms, message.origin)
        publication = Publication(stream.channel, stream.epoch, stream.head, *fields)
        self._insert(stream, publication)
        self._told.append(publication)

    def read(self, channel: Channel, start: Start, keep: Retention, limit: int, max_bytes: int) -> ReadResult:
        stream = self._living(channel, int(self._clock() * 1000))
        head = self._head(channel, stream)
        if stream is None:
            return ReadResult(head, [], head, plan_read(start, head, 1)[1])
        after, recovered = plan_read(start, head, self._trimmed(stream, keep))
        publications = [] if start is NOW else self._read(channel, stream, after, limit, max_bytes)
        return ReadResult(Position(stream.epoch, after), publications, head, recovered)

    def remove(self, channel: Channel) -> Position:
        stream = self._stream(channel)
        if stream is not None:
            self._db.execute("DELETE FROM publications WHERE stream = ?", (stream.id,))
        return self._head(channel, stream)

    # -- stream records --------------------------------------------------------------------------------------

    def record(self, channel: Channel) -> Recorded:
        now_ms = int(self._clock() * 1000)
        stream = self._living(channel, now_ms)
        head = self._head(channel, stream)
        if stream is None or stream.record is None:
            return Recorded(0, b"", head, 0, now_ms)
        _, revision, written_ms, ttl_s, ends_ms = stream.record
        data = stream.data
        if data is None:
            data = self._db.execute("SELECT record FROM streams WHERE id = ?", (stream.id,)).fetchone()[0]
        return Recorded(revision, data, head, written_ms, now_ms, ttl_s, ends_ms)

    def write(self, channel: Channel, change: StreamWrite) -> Recorded:
        now_ms = int(self._clock() * 1000)
        stream = self._living(channel, now_ms)
        found = None if stream is None else stream.record
        if (0 if found is None else found.revision) != change.expects:
            return self.record(channel)
        if stream is not None and (change.record is None or (found is None and stream.head)):
            self._end(stream, now_ms)
        if change.record is None:
            return self.record(channel)
        stream = stream or self._create(channel, now_ms)
        ends = change.ttl_s, change.ends_ms
        stream.record, stream.data = Record(now_ms, change.revision, now_ms, *ends), change.record
        stream.keep = None  # it is kept whole
        for message in change.messages:
            self._add(stream, message, now_ms)
        if not change.messages:  # its head is not the newest, which the mark is of
            self._write_row(stream, now_ms)
        return Recorded(change.revision, change.record, stream.position, now_ms, now_ms, *ends)

    def touch(self, channel: Channel) -> None:
        now_ms = int(self._clock() * 1000)
        stream = self._living(channel, now_ms)
        if stream is not None and stream.record is not None and stream.record.is_touched(now_ms):
            stream.record = stream.record._replace(used_ms=now_ms)
            self._db.execute("UPDATE streams SET used_ms = ? WHERE id = ?", (now_ms, stream.id))

    def _living(self, channel: Channel, now_ms: int) -> Stream | None:
        """The stream, which begins anew where the time of its record is over."""
        stream = self._stream(channel)
        if stream is not None and stream.record is not None and stream.record.has_ended(now_ms):
            self._end(stream, now_ms)
        return stream

    def _end(self, stream: Stream, now_ms: int) -> None:
        """Forget record, publications and keys, and begin another epoch. The stream gets another number, so
        that its publications can be deleted by and by."""
        self._forget_mark(stream.id)
        self._changed.pop(stream.channel, None)
        old, fresh = stream.id, self._db.execute("SELECT max(id) + 1 FROM streams").fetchone()[0]
        stream.id, stream.head, stream.record, stream.data, stream.keep = fresh, 0, None, None, None
        stream.epoch = epoch_of(secrets.token_hex(8), stream.channel)
        self._db.execute("DELETE FROM keys WHERE stream = ?", (old,))
        self._db.execute("INSERT INTO ended VALUES (?)", (old,))
        self._db.execute(_FORGET_RECORD, (fresh, stream.epoch, now_ms, old))
        self._told.append((stream.channel, stream.position))

    def _forget_mark(self, id: int) -> None:
        """Before the commit that ends a stream: a mark must not be ahead of the file."""
        if id == self._newest.stream:
            self._newest = Mark()
            self._marks.write(self._newest)

    # -- copies ----------------------------------------------------------------------------------------------

    def streams(self, after: int) -> tuple[list[tuple[Channel, Position]], int]:
        """The next streams, and the number of the last; 0: there are no more."""
        now_ms = int(self._clock() * 1000)
        found = [stream for stream, _ in self._after(after)]
        living = [one for one in found if one.record is None or not one.record.has_ended(now_ms)]
        return [(one.channel, one.position) for one in living], found[-1].id if found else 0

    def restore(
        self, channel: Channel, head: Position, publications: Sequence[Publication], record: Recorded | None
    ) -> None:
        """See `Portable.restore`."""
        now_ms = int(self._clock() * 1000)
        stream = self._stream(channel) or self._create(channel, now_ms)
        if record is not None:
            ends = record.ttl_s, record.ends_ms
            stream.record, stream.data = Record(now_ms, record.revision, now_ms, *ends), record.record
        stream.epoch, stream.head = head
        self._db.execute("UPDATE streams SET epoch = ? WHERE id = ?", (stream.epoch, stream.id))
        self._write_row(stream, now_ms)
        for one in publications:
            self._insert(stream, one)

    def _insert(self, stream: Stream, one: Publication) -> None:
        who = one.publisher
        by = (who.user, who.client, who.info) if who else (None, None, None)
        values = (stream.id, one.offset, one.time_ms, one.is_text, *by, one.data)
        self._db.execute("INSERT INTO publications VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)

    # -- sweeping --------------------------------------------------------------------------------------------

    def sweep(self, retention: Callable[[Channel], Retention]) -> bool:
        """Sweep the next streams. Returns whether these were the last."""
        if self._clear_ended():
            return False
        now_ms = int(self._clock() * 1000)
        if not self._swept:
            self._renew_life(now_ms)
            self._db.execute("DELETE FROM keys WHERE until_ms <= ?", (now_ms,))
        found = self._after(self._swept)
        self._swept = found[-1][0].id if len(found) == _SWEPT_AT_ONCE else 0
        for stream, used_ms in found:
            if stream.record is None:
                self._sweep(stream, used_ms, retention(stream.channel), now_ms)
            elif stream.record.has_ended(now_ms):
                self._end(stream, now_ms)
        free = self._db.execute("PRAGMA freelist_count").fetchone()[0]
        for _ in range(min(free, _SHRUNK_PAGES)):  # the driver steps once, and a step gives one page back
            self._db.execute("PRAGMA incremental_vacuum(1)")
        return not self._swept

    def _sweep(self, stream: Stream, used_ms: int, keep: Retention, now_ms: int) -> None:
        oldest = self._trimmed(stream, keep)
        is_old = used_ms < now_ms - _FORGET_AFTER_MS and stream.channel not in self._changed
        # A stream that comes back must not count again in an epoch it had: it stays while its life lasts.
        is_over = used_ms < self._life_ms and stream.epoch != epoch_of(self._life, stream.channel)
        if oldest > stream.head and is_old and is_over and not self._has_keys(stream.id):
            self._forget_mark(stream.id)
            self._db.execute("DELETE FROM streams WHERE id = ?", (stream.id,))
            self._streams.pop(stream.channel, None)

    def _clear_ended(self) -> bool:
        """Delete some publications of streams that have ended. Returns whether there were any.

        Streams are forgotten when there are none: a number that is used again must have no publications.
        """
        left = _DROPPED_AT_ONCE
        ended = self._db.execute("SELECT stream FROM ended LIMIT ?", (_SWEPT_AT_ONCE,)).fetchall()
        for (id,) in ended:
            left -= self._db.execute(_DROP_SOME, (id, left)).rowcount
            if not left:
                break
            self._db.execute("DELETE FROM ended WHERE stream = ?", (id,))
        return bool(ended)

    def _after(self, id: int) -> list[tuple[Stream, int]]:
        """The streams of the next rows, with their ``used_ms``."""
        rows = self._db.execute(f"{STREAMS} WHERE id > ? ORDER BY id LIMIT ?", (id, _SWEPT_AT_ONCE))
        return [(self._streams.get(row[1]) or from_row(row), row[4]) for row in rows.fetchall()]

    def _has_keys(self, id: int) -> bool:
        return self._db.execute("SELECT 1 FROM keys WHERE stream = ? LIMIT 1", (id,)).fetchone() is not None

    def _renew_life(self, now_ms: int) -> None:
        """Begin a new life, rarely: it changes the epochs of the streams that have no publications yet."""
        if self._life_ms < now_ms - _FORGET_AFTER_MS:
            self._life, self._life_ms = secrets.token_hex(8), now_ms
            meta = [("life", self._life), ("life_ms", str(now_ms))]
            self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta)

    def _read(
        self, channel: Channel, stream: Stream, after: int, limit: int, max_bytes: int
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

    def _trimmed(self, stream: Stream, keep: Retention) -> int:
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

    def _stream(self, channel: Channel) -> Stream | None:
        if channel in self._streams:
            return self._streams[channel]
        row = self._db.execute(f"{STREAMS} WHERE channel = ?", (channel,)).fetchone()
        return row and self._cached(channel, from_row(row))

    def _head(self, channel: Channel, stream: Stream | None) -> Position:
        return Position(epoch_of(self._life, channel), 0) if stream is None else stream.position

    def _cached(self, channel: Channel, stream: Stream) -> Stream:
        if len(self._streams) >= _CACHED_STREAMS:
            self._write_heads()
            self._streams.clear()
        self._streams[channel] = stream
        return stream

    def _create(self, channel: Channel, now_ms: int) -> Stream:
        epoch = epoch_of(self._life, channel)
        query = "INSERT INTO streams (channel, epoch, head, used_ms) VALUES (?, ?, 0, ?)"
        cursor = self._db.execute(query, (channel, epoch, now_ms))
        assert cursor.lastrowid is not None
        return self._cached(channel, Stream(cursor.lastrowid, channel, epoch, 0))

    def _write_heads(self) -> None:
        """Write the heads of the streams that the group changed, and trim these by size."""
        used_ms = int(self._clock() * 1000)
        for stream in self._changed.values():
            self._write_row(stream, used_ms)
            last_gone = 0 if stream.keep is None else stream.head - stream.keep.history_size
            if last_gone > 0:
                self._db.execute(_DROP_UP_TO, (stream.id, last_gone))
        if self._changed:
            self._newest = Mark(stream.id, stream.head)
            self._changed.clear()

    def _write_row(self, stream: Stream, used_ms: int) -> None:
        """Write the head of a stream, and its record where the file has not got that yet."""
        if stream.data is None or stream.record is None:
            self._db.execute(_WRITE_HEAD, (stream.head, used_ms, stream.id))
        else:
            values = (stream.head, used_ms, *stream.record[1:], stream.data, stream.id)
            self._db.execute(_WRITE_RECORD, values)
            stream.data = None

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
