"""The rows of `heartwire.engines.sqlite_store`, as it keeps them in memory."""

from typing import Any, Final, NamedTuple

from heartwire.engines.contract import Retention
from heartwire.types import Channel, Position

__all__ = ["STREAMS", "Record", "Stream", "from_row"]

STREAMS: Final = """
SELECT id, channel, epoch, head, used_ms, revision, written_ms, ttl_s, ends_ms FROM streams"""
_TOUCHES: Final = 10
"""A record's use is written so often in its lifetime."""


class Record(NamedTuple):
    """A stream's record but for its bytes. Times are milliseconds."""

    used_ms: int
    revision: int
    written_ms: int
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
    """A stream's row.

    Attributes:
        keep: the retention of its last append; ``None``: there was none, or it is kept whole.
        data: the bytes of its record, where the file has not got them yet.
    """

    __slots__ = ("channel", "data", "epoch", "head", "id", "keep", "record")

    def __init__(
        self, id: int, channel: Channel, epoch: str, head: int, record: Record | None = None
    ) -> None:
        self.id, self.channel, self.epoch, self.head, self.record = id, channel, epoch, head, record
        self.keep: Retention | None = None
        self.data: bytes | None = None

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.head)


def from_row(row: tuple[Any, ...]) -> Stream:
    """A stream of `STREAMS`."""
    id, channel, epoch, head, used_ms, revision, *more = row
    return Stream(id, channel, epoch, head, None if revision is None else Record(used_ms, revision, *more))
