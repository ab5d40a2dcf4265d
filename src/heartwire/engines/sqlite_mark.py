"""A note of the newest append, in the main file of a `SqliteEngine`, by which a shortened WAL is noticed.

SQLite continues a WAL that was deleted, cut or damaged as far as it is whole, without an error: publications
that readers have seen would be missing, and their offsets issued again for other messages. So after each
commit, before it is answered, the stream of the last append and its head are written into the main file, past
SQLite, into a mapping: no system call, no flush. A start whose stream is behind the mark gets new epochs.

Why it is sound: a WAL holds commits in order and is read up to the first that is not whole, so whatever is
lost, the last append is lost too, and one stream speaks for all. A kill between commit and mark leaves the
mark behind, which raises no alarm; so does a checkpoint, which copies SQLite's older first page over the mark
when all is in the main file; so do copies, `VACUUM` and other programs' checkpoints. The bytes are those that
the header reserves (https://sqlite.org/fileformat.html 1.3): SQLite does not interpret them.

Not noticed: a kill during a checkpoint (milliseconds in 4 MB of WAL) whose WAL is cut too; a WAL that was
cut, not deleted, and checkpointed by another program before our start; a lost `remove`, sweep or write of a
record alone after the last append; older copies of both files; and, without ``synchronous="full"``, a power
cut that takes the mark too.
"""

import logging
import mmap
import os
import struct
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["HEADER_BYTES", "Mark", "MarkWriter"]

log = logging.getLogger("heartwire")

HEADER_BYTES: Final = 100
_AT: Final = 72
_MARK: Final = struct.Struct(">QQI")
_CHECK: Final = 0x4D41524B  # "MARK"


class Mark(NamedTuple):
    """The row of the last append's stream, and its head. Zeros: there is nothing to compare."""

    stream: int = 0
    head: int = 0

    @classmethod
    def parse(cls, header: bytes) -> "Mark":
        """Read it from the first bytes of a file; zeros where a file has none, or none that is whole."""
        if len(header) < HEADER_BYTES:
            return cls()
        stream, head, check = _MARK.unpack_from(header, _AT)
        return cls(stream, head) if check == _check(stream, head) else cls()


def _check(stream: int, head: int) -> int:
    return (stream ^ head ^ _CHECK) & 0xFFFFFFFF


class MarkWriter:
    """Writes marks into an open file, through a mapping: a system call would cost 4 % of a lone publish.

    Make it when SQLite holds the file's lock, and close it after SQLite has closed: a process that closes any
    descriptor of a file loses its POSIX locks on it. The file must not be empty when `write` is called.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR)
        self._header: mmap.mmap | None = None
        try:
            self._header = mmap.mmap(self._file, HEADER_BYTES)
        except OSError as error:  # some file systems map nothing
            log.warning("%s: a cut of its WAL will not be noticed: %s", path, error)

    def write(self, mark: Mark) -> None:
        if self._header is not None:
            _MARK.pack_into(self._header, _AT, *mark, _check(*mark))

    def close(self) -> None:
        if self._header is not None:
            self._header.close()
        os.close(self._file)
