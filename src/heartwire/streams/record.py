"""The stream record: what a durable stream is beside its publications, and every decision on it. Pure.

In: a record as the store has it, and a request. Out: the record that it becomes, and the messages that are
appended in the same step; or a `Refused`. `heartwire.streams.streams` writes it on the condition that nothing
has changed meanwhile, so what is checked here still holds when it is kept.

The checks of an append are in the order of the Durable Streams protocol (PROTOCOL.md, "Append to Stream"): is
it there, producer's epoch, closed, producer's sequence, content type, Stream-Seq, size.
"""

from collections.abc import Sequence
from hashlib import blake2s
from typing import Any, Final, Literal, NamedTuple

import msgspec

from heartwire.errors import Refused
from heartwire.messages import to_json
from heartwire.text import is_json, is_utf8
from heartwire.types import ENDED, Channel, Message

__all__ = [
    "Appended",
    "Claim",
    "Producer",
    "ProducerRefused",
    "Reason",
    "Step",
    "StreamClosed",
    "StreamOptions",
    "StreamRecord",
    "append",
    "close",
    "create",
    "end_message",
    "longer",
    "media_type",
    "packed",
    "unpacked",
]

Reason = Literal["done", "error", "aborted", "interrupted"]
"""Why a stream is closed: its producer was done, or failed; somebody stopped it; its producer is dead."""

_MAX_PRODUCERS: Final = 1000
_FORGET_PRODUCER_MS: Final = 7 * 86_400_000
_PAST: Final = 8
_MAX_KEYS: Final = 256


class Producer(NamedTuple):
    """A producer's append: its name, which life of the producer this is, and its number in that life."""

    id: str
    epoch: int
    seq: int


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What a stream is created with, and what a second creation has to agree with.

    Attributes:
        content_type: of what is appended, without effect on who may read it.
        ttl_s: seconds after its last use that the stream ends; 0: this does not end it.
        ends_ms: the same at a time, in milliseconds since 1970.
        source: the stream that it is a fork of, and where: the offset in it, and how much more after that.
    """

    content_type: str = "application/octet-stream"
    ttl_s: float = 0
    ends_ms: int = 0
    source: tuple[Channel, int, int] | None = None


class StreamRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """See the module.

    Attributes:
        closed: why; "": it is open.
        detail: what went wrong, for readers, where ``closed`` is "error".
        tail: the offset of the last message. The end of a closed stream is a publication after it.
        bytes: of all messages.
        sequence: the last ``Stream-Seq``.
        producers: epoch, last number, and when (milliseconds), by name.
        closer: the producer's append that closed it.
        owner: the run that produces it; "": nobody in particular.
        lease_s: an owner that writes nothing for so long is dead; 0: it need not write.
        past: the revisions of its last writes, the newest first.
        keys: digests of the last idempotency keys, with the offset and the time (milliseconds) of each.
        epochs: epochs of streams that it is a fork of, and up to which offset their positions are its own.
        forks: those of it that are there.
        is_deleted: it is kept because of them only.
        is_copying: a fork that has not got all of its source yet.
    """

    options: StreamOptions
    closed: str = ""
    detail: str = ""
    tail: int = 0
    bytes: int = 0
    sequence: str = ""
    producers: dict[str, tuple[int, int, int]] = {}
    closer: Producer | None = None
    owner: str = ""
    lease_s: float = 0
    past: tuple[int, ...] = ()
    keys: dict[str, tuple[int, int]] = {}
    epochs: dict[str, int] = {}
    forks: tuple[str, ...] = ()
    is_deleted: bool = False
    is_copying: bool = False

    def is_lapsed(self, written_ms: int, now_ms: int) -> bool:
        """Whether its owner is dead."""
        return (
            bool(self.owner and self.lease_s and not self.closed)
            and now_ms - written_ms > self.lease_s * 1000
        )

    def remember(self, revision: int) -> "StreamRecord":
        """The record as it is written with a revision."""
        return msgspec.structs.replace(self, past=(revision, *self.past[: _PAST - 1]))


class StreamClosed(Refused):
    """The stream is closed: why, and where its messages end."""

    def __init__(self, channel: str, reason: str, tail: int) -> None:
        self.reason, self.tail = reason, tail
        super().__init__("stream_closed", f"stream {channel!r} is closed ({reason}): nothing can be appended")


class ProducerRefused(Refused):
    """A producer's append that is out of order, or of one that was replaced.

    Attributes:
        epoch: the epoch that the producer is in.
        expected: the number that its next append must have.
        received: the one that it had.
    """

    def __init__(self, name: str, message: str, *, epoch: int, expected: int, received: int) -> None:
        self.epoch, self.expected, self.received = epoch, expected, received
        super().__init__(name, message)


class Claim(NamedTuple):
    """What an append says of itself.

    Attributes:
        content_type: of its messages, whose form was checked then; ``None``: they are to be what the stream
            is, which is checked where that is JSON.
        producer: who appends, fenced and each once.
        sequence: has to be greater, byte by byte, than the last; "": is not looked at.
        key: idempotency key; used again within ``key_ttl_s`` it appends nothing, as long as fewer than 256
            others were used since.
        owner: the run that appends; it has to own the stream. "": anybody.
        close: why the stream is closed with it; "": it stays open.
        detail: see `StreamRecord`.
    """

    content_type: str | None = None
    producer: Producer | None = None
    sequence: str = ""
    key: str = ""
    key_ttl_s: float = 300
    owner: str = ""
    close: Reason | Literal[""] = ""
    detail: str = ""


class Appended(NamedTuple):
    """What became of an append.

    Attributes:
        tail: the offset of the stream's last message; of the message of a key that was used before.
        is_new: it was not appended before.
        closed: why the stream is closed; "": it is open.
        producer: the last that the store has of its producer.
    """

    tail: int
    is_new: bool
    closed: str
    producer: Producer | None = None


class Step(NamedTuple):
    """A decision: what the record becomes (``None``: it ends), what is appended, and the answer."""

    record: StreamRecord | None
    messages: Sequence[Message]
    answer: Any


def media_type(content_type: str) -> str:
    """A content type without its parameters, in lower case: by these two are compared."""
    return content_type.partition(";")[0].strip().lower()


def create(
    channel: Channel,
    record: StreamRecord | None,
    options: StreamOptions,
    messages: Sequence[Message],
    *,
    max_bytes: int,
    closed: Reason | Literal[""] = "",
    owner: str = "",
    lease_s: float = 0,
) -> Step:
    """Create a stream with its first messages, or find it as it should be. Answers whether it is new.

    Raises `Refused`: ``stream_conflict``, ``stream_full``.
    """
    if record is not None:
        if record.is_deleted:
            raise Refused(
                "stream_conflict", f"stream {channel!r} was deleted, and has forks: take another name"
            )
        _check_same(channel, record, options, bool(closed))
        return Step(record, (), False)
    made = StreamRecord(options=options, owner=owner, lease_s=lease_s)
    made = longer(channel, made, messages, max_bytes)
    if closed:
        return Step(_closed(made, closed, ""), [*messages, end_message(closed)], True)
    return Step(made, messages, True)


def append(
    channel: Channel,
    record: StreamRecord | None,
    messages: Sequence[Message],
    claim: Claim,
    *,
    now_ms: int,
    max_bytes: int,
) -> Step:
    """Append messages, close the stream, or both. Answers `Appended`.

    Raises:
        StreamClosed, ProducerRefused, Refused: ``stream_not_found``, ``stream_gone``, ``bad_request``,
        ``stream_conflict``, ``stream_full``. Nothing is appended then.
    """
    found = there(channel, record)
    producer = claim.producer
    known = found.producers.get(producer.id) if producer is not None else None
    if producer is not None and known is not None and producer.epoch < known[0]:
        message = f"producer {producer.id!r} is in epoch {known[0]}, not {producer.epoch}: take a later one"
        raise ProducerRefused(
            "stale_producer", message, epoch=known[0], expected=known[1] + 1, received=producer.seq
        )
    digest = blake2s(claim.key.encode(), digest_size=8).hexdigest() if claim.key else ""
    if digest in found.keys and found.keys[digest][1] > now_ms - claim.key_ttl_s * 1000:
        return Step(found, (), Appended(found.keys[digest][0], False, found.closed))
    if found.closed:
        return _on_closed(channel, found, messages, claim)
    if claim.owner and claim.owner != found.owner:
        raise Refused("stale_producer", f"stream {channel!r} is produced by another run")
    if producer is not None:
        last = _duplicate(producer, known)
        if last is not None:
            return Step(found, (), Appended(found.tail, False, "", last))
    _check_appendable(channel, found, messages, claim)
    changes: dict[str, Any] = {}
    if claim.sequence:
        changes["sequence"] = claim.sequence
    if producer is not None:
        changes["producers"] = _produced(found, producer, now_ms)
    if digest:
        kept = [(key, used) for key, used in found.keys.items() if key != digest][1 - _MAX_KEYS :]
        changes["keys"] = dict(kept) | {digest: (found.tail + len(messages), now_ms)}
    made = longer(channel, found, messages, max_bytes, **changes)
    if not claim.close:
        return Step(made, messages, Appended(made.tail, True, "", producer))
    made = msgspec.structs.replace(_closed(made, claim.close, claim.detail), closer=producer)
    end = end_message(claim.close, claim.detail)
    return Step(made, [*messages, end], Appended(made.tail, True, claim.close, producer))


def close(
    channel: Channel,
    record: StreamRecord | None,
    reason: Reason,
    *,
    owner: str | None = None,
    detail: str = "",
) -> Step:
    """Close a stream, if it is open and owned by ``owner`` (``None``: whoever). Answers whether it was.

    Raises `Refused`: ``stream_not_found``, ``stream_gone``.
    """
    found = there(channel, record)
    if found.closed or (owner is not None and owner != found.owner):
        return Step(found, (), False)
    return Step(_closed(found, reason, detail), [end_message(reason, detail)], True)


def there(channel: Channel, record: StreamRecord | None) -> StreamRecord:
    """The record of a stream that can be used. Raises `Refused`: ``stream_not_found``, ``stream_gone``."""
    if record is None or record.is_copying:
        raise Refused("stream_not_found", f"there is no stream {channel!r}: create it first")
    if record.is_deleted:
        raise Refused("stream_gone", f"stream {channel!r} was deleted")
    return record


def end_message(reason: str, detail: str = "") -> Message:
    """The publication that ends a stream: see `heartwire.types.Publication.is_end`."""
    return Message(to_json({"reason": reason} | ({"detail": detail} if detail else {})), True, ENDED)


def packed(record: StreamRecord) -> bytes:
    """A record as the store keeps it."""
    return _encode(record)


def unpacked(data: bytes) -> StreamRecord | None:
    """A record of the store; ``None`` where there is none."""
    return _decode(data) if data else None


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(StreamRecord).decode


def _check_same(channel: Channel, record: StreamRecord, options: StreamOptions, closed: bool) -> None:
    has = record.options
    if media_type(has.content_type) != media_type(options.content_type):
        what, there_is, wanted = "its content type", has.content_type, options.content_type
    elif (has.ttl_s, has.ends_ms) != (options.ttl_s, options.ends_ms):
        what, there_is, wanted = "its lifetime", f"{has.ttl_s:g} s", f"{options.ttl_s:g} s"
    elif has.source != options.source:
        what, there_is, wanted = "its source", str(has.source), str(options.source)
    elif bool(record.closed) != closed:
        what, there_is, wanted = "it", "closed" if record.closed else "open", "closed" if closed else "open"
    else:
        return
    raise Refused(
        "stream_conflict", f"stream {channel!r} is there: {what} is {there_is:.100}, not {wanted:.100}"
    )


def _on_closed(channel: Channel, record: StreamRecord, messages: Sequence[Message], claim: Claim) -> Step:
    """The append that closed the stream may be sent again, and closing is idempotent."""
    is_again = claim.producer is not None and claim.producer == record.closer
    is_close = bool(claim.close) and not messages and claim.producer is None
    if not (is_again or is_close):
        raise StreamClosed(channel, record.closed, record.tail)
    return Step(record, (), Appended(record.tail, False, record.closed, record.closer if is_again else None))


def _duplicate(producer: Producer, known: tuple[int, int, int] | None) -> Producer | None:
    """The last append of a producer, where this one is not new. Raises `ProducerRefused`, `Refused`."""
    epoch, last = (known[0], known[1]) if known is not None else (producer.epoch, -1)
    if producer.epoch > epoch:
        if producer.seq:
            raise Refused("bad_request", f"a producer begins an epoch with number 0, not {producer.seq}")
        return None
    if producer.seq <= last:
        return Producer(producer.id, epoch, last)
    if producer.seq > last + 1:
        message = f"producer {producer.id!r}: number {last + 1} comes next, not {producer.seq}"
        raise ProducerRefused("producer_gap", message, epoch=epoch, expected=last + 1, received=producer.seq)
    return None


def _produced(record: StreamRecord, producer: Producer, now_ms: int) -> dict[str, tuple[int, int, int]]:
    producers = record.producers | {producer.id: (producer.epoch, producer.seq, now_ms)}
    if len(producers) > _MAX_PRODUCERS:
        oldest = min(producers, key=lambda name: producers[name][2])
        if producers[oldest][2] > now_ms - _FORGET_PRODUCER_MS:
            raise Refused("stream_full", f"a stream has at most {_MAX_PRODUCERS} producers in a week")
        del producers[oldest]
    return producers


def _check_appendable(
    channel: Channel, record: StreamRecord, messages: Sequence[Message], claim: Claim
) -> None:
    has, given = record.options.content_type, claim.content_type
    if given is None and media_type(has) == "application/json" and not all(map(_is_json, messages)):
        raise Refused("bad_request", f"stream {channel!r} is application/json: this message is no JSON")
    if messages and given not in (None, has):
        has, given = media_type(has), media_type(given)
        if has != given:
            raise Refused("stream_conflict", f"stream {channel!r} is {has:.100}, not {given:.100}")
    if claim.sequence and claim.sequence.encode() <= record.sequence.encode():
        raise Refused(
            "stream_conflict",
            f"Stream-Seq {claim.sequence[:64]!r} does not come after {record.sequence[:64]!r}",
        )


def _is_json(message: Message) -> bool:
    return is_utf8(message.data) and is_json(message.data)


def longer(
    channel: Channel, record: StreamRecord, messages: Sequence[Message], max_bytes: int, **changes: Any
) -> StreamRecord:
    """The record with more messages, and ``changes``. Raises `Refused` (``stream_full``)."""
    if not messages and not changes:
        return record
    size = record.bytes + sum([len(one.data) for one in messages])
    if size > max_bytes:
        raise Refused(
            "stream_full", f"stream {channel!r} would have {size} bytes (max_stream_bytes: {max_bytes})"
        )
    return msgspec.structs.replace(record, tail=record.tail + len(messages), bytes=size, **changes)


def _closed(record: StreamRecord, reason: str, detail: str) -> StreamRecord:
    return msgspec.structs.replace(record, closed=reason, detail=detail, owner="", lease_s=0)
