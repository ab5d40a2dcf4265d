"""The rows of `heartwire.engines.sqlite_store`, as it keeps them in memory."""

from typing import Any, Final, NamedTuple

from heartwire.engines.contract import Retention
from heartwire.types import Channel, Position

__all__ = ["WITH_RECORD", "Record", "Stream", "from_row"]

WITH_RECORD: Final = """
SELECT id, channel, epoch, head, streams.used_ms, revision, written_ms, records.used_ms, ttl_s, ends_ms
FROM streams LEFT JOIN records ON stream = id"""
_TOUCHES: Final = 10
"""A record's use is written so often in its lifetime."""


class Record(NamedTuple):
    """A stream's record but for its bytes. Times are milliseconds."""

    revision: int
    written_ms: int
    used_ms: int
    ttl_s: float
    ends_ms: int

    def has_ended(self, now_ms: int) -> bool:
        return bool(
            (self.ttl_s and self.used_ms + self.ttl_s * 1000 <= now_ms)
            or (self.ends_ms and self.ends_ms <= now_ms)
        )

    def is_touched(self, now_ms: int) -> bool:
        """Whether its use is to be written."""
        return now_ms - self.used_ms >= self.ttl_s * 1000 / _TOUCHES


class Stream:
    """A stream's row, and the retention of its last append: ``None`` until there is one."""

    __slots__ = ("channel", "epoch", "head", "id", "keep", "record")

    def __init__(
        self, id: int, channel: Channel, epoch: str, head: int, record: Record | None = None
    ) -> None:
        self.id, self.channel, self.epoch, self.head, self.record = id, channel, epoch, head, record
        self.keep: Retention | None = None

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.head)


def from_row(row: tuple[Any, ...]) -> Stream:
    """A stream of `WITH_RECORD`."""
    id, channel, epoch, head, _, revision, *more = row
    return Stream(id, channel, epoch, head, None if revision is None else Record(revision, *more))
