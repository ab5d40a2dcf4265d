"""Stream records, as the functions of ``records.sql`` take and return them. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from heartwire.engines.contract import Recorded, StreamWrite
from heartwire.engines.postgres.values import FOR_EVER_MS, packed_publisher
from heartwire.types import Channel, Position

__all__ = ["ENDED", "RESTORE", "Look", "Write", "Written", "columns", "looked", "restored", "written"]

RESTORE: Final = "SELECT heartwire.restore_record($1, $2, $3, $4, $5, $6)"
ENDED: Final = """
SELECT coalesce(array_agg(s.channel), '{}') FROM heartwire.streams s
JOIN heartwire.records r ON r.stream = s.id AND NOT heartwire.is_live(r, heartwire.clock_ms($2))
WHERE s.channel = ANY ($1)"""
"""Which of these streams have a record that has ended."""


class Look(NamedTuple):
    """A call that asks for a record."""

    channel: Channel


class Write(NamedTuple):
    """A call that changes a record. ``origins``: of its messages, as the store has them."""

    channel: Channel
    change: StreamWrite
    origins: Sequence[int]


class Written(NamedTuple):
    """What became of a change. ``is_made``: now, by this call."""

    found: Recorded
    is_made: bool


def columns(writes: Sequence[Write]) -> tuple[list[Any], ...]:
    """The arguments of the function ``write`` that several changes are. Each stream is named once."""
    streams = [
        (
            one.channel,
            change.expects,
            change.revision,
            change.record,
            _seconds(change.ttl_s),
            change.ends_ms,
            len(change.messages),
        )
        for one in writes
        for change in [one.change]
    ]
    messages = [
        (owner, number, message.data, message.is_text, packed_publisher(message.publisher), origin)
        for owner, one in enumerate(writes, 1)
        for number, (message, origin) in enumerate(zip(one.change.messages, one.origins, strict=True), 1)
    ]
    return (*_transposed(streams, 7), *_transposed(messages, 6))


def written(writes: Sequence[Write], answer: Sequence[Any]) -> Iterator[Written | None]:
    """What became of them. ``None``: another transaction has locked the stream, and nothing was done."""
    *arrays, now_ms = answer
    for (_, change, _), row in zip(writes, zip(*arrays, strict=True), strict=True):
        epoch, head, is_made, *old = row
        if epoch is None:
            yield None
        elif is_made:
            assert change.record is not None
            position = Position(epoch, head + len(change.messages))
            made = change.revision, change.record, position, now_ms, now_ms, change.ttl_s, change.ends_ms
            yield Written(Recorded(*made), True)
        else:
            found = _recorded((epoch, head, *old, now_ms))
            yield Written(found, change.record is None and not found.revision)


def looked(rows: Sequence[Any]) -> Iterator[Recorded]:
    """The records that several calls have asked for."""
    return map(_recorded, rows)


def restored(channel: Channel, record: Recorded) -> tuple[Any, ...]:
    """The arguments of `RESTORE`, before the time."""
    return channel, record.revision, record.record, _seconds(record.ttl_s), record.ends_ms


def _recorded(row: Sequence[Any]) -> Recorded:
    epoch, head, revision, record, written_ms, ttl_s, ends_ms, now_ms = row
    position = Position(epoch, head)
    return Recorded(revision or 0, record or b"", position, written_ms or 0, now_ms, ttl_s or 0, ends_ms or 0)


def _transposed(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]


def _seconds(seconds: float) -> float:
    return min(seconds, FOR_EVER_MS / 1000)
