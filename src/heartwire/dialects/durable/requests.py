"""Decoding of the Durable Streams protocol's requests. `codec` has the answers.

In: headers and query parameters, as strings. Out: what is asked for, or `Refused` (``bad_request``,
``bad_position``). Called by the modules of `heartwire.server.durable`.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, NamedTuple

from heartwire.errors import Refused
from heartwire.types import EARLIEST, NOW, Position, Start

__all__ = [
    "MAX_CHARS",
    "Append",
    "Create",
    "Fork",
    "Read",
    "has_flag",
    "parse_append",
    "parse_create",
    "parse_read",
    "parse_token",
]

Headers = Mapping[str, str]
"""By name in lower case."""

_TOKEN: Final = re.compile(r"([A-Za-z0-9_-]{1,32})_(\d{16})", re.ASCII)
_COUNT: Final = re.compile(r"0|[1-9][0-9]*")
_DIGITS: Final = re.compile(r"[0-9]+")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_MAX_TTL_S: Final = 100 * 366 * 86_400
MAX_CHARS: Final = 255
"""Of a content type, a sequence, a name of a producer."""
_PRODUCER: Final = ("producer-id", "producer-epoch", "producer-seq")


class Fork(NamedTuple):
    """The source of a fork.

    Attributes:
        path: of the source's URL, on this server.
        at: where: a position of the source; ``None``: at its end.
        more: how much after that: messages of JSON, else bytes.
    """

    path: str
    at: Position | None
    more: int


class Create(NamedTuple):
    """A request to create a stream.

    Attributes:
        content_type: as it was given; "": it was not.
        ttl_s, ends_ms: its lifetime; ``None``: not given.
    """

    content_type: str
    ttl_s: int | None
    ends_ms: int | None
    is_closed: bool
    fork: Fork | None


class Append(NamedTuple):
    """A request to append, close or both.

    Attributes:
        producer: id, epoch and number.
        sequence: ``Stream-Seq``, "" where there is none.
    """

    content_type: str
    closes: bool
    sequence: str
    producer: tuple[str, int, int] | None


class Read(NamedTuple):
    """A request to read.

    Attributes:
        live: how it goes on at the end; "": it does not.
        cursor: of the answer before; ``None``: not given, or not ours.
    """

    start: Start
    live: Literal["", "long-poll", "sse"]
    cursor: int | None


def parse_create(headers: Headers) -> Create:
    """Read the headers of a PUT."""
    ttl, ends = headers.get("stream-ttl"), headers.get("stream-expires-at")
    if ttl is not None and ends is not None:
        raise _bad("Stream-TTL and Stream-Expires-At: give one of them")
    return Create(
        _content_type(headers),
        None if ttl is None else _ttl_s(ttl),
        None if ends is None else _time_ms(ends),
        has_flag(headers, "stream-closed"),
        _fork(headers),
    )


def parse_append(headers: Headers) -> Append:
    """Read the headers of a POST."""
    sequence = headers.get("stream-seq", "")
    if len(sequence) > MAX_CHARS:
        raise _bad(f"Stream-Seq has {len(sequence)} characters: at most {MAX_CHARS}")
    closes = has_flag(headers, "stream-closed")
    return Append(_content_type(headers), closes, sequence, _producer(headers))


def parse_read(query: Sequence[tuple[str, str]], resume: str | None) -> Read:
    """Read the parameters of a GET. ``resume``: the id of the last event that an ``EventSource`` had."""
    given = [value for name, value in query if name == "offset"]
    parameters = dict(query)
    live = parameters.get("live", "")
    if live not in ("", "long-poll", "sse"):
        raise _bad(f"live={live[:32]!r}: long-poll or sse")
    if len(given) > 1 or (live and not given):
        raise Refused("bad_position", f"{len(given)} offsets: a live read has one, others at most one")
    start: Start = EARLIEST
    if resume and live == "sse":
        start = parse_token(resume)
    elif given:
        start = NOW if given[0] == "now" else EARLIEST if given[0] == "-1" else parse_token(given[0])
    cursor = parameters.get("cursor", "")
    is_ours = _DIGITS.fullmatch(cursor) is not None and len(cursor) < 16
    return Read(start, live, int(cursor) if is_ours else None)  # type: ignore[arg-type]


def parse_token(token: str) -> Position:
    """Read an offset as `heartwire.dialects.durable.codec.token` writes it."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise Refused("bad_position", f"offset {token[:64]!r}: -1, now, or one that an answer gave")
    return Position(match[1], int(match[2]))


def has_flag(headers: Headers, name: str) -> bool:
    """Whether a header says true; all else is as if it was not there."""
    return headers.get(name, "").strip().lower() == "true"


def _content_type(headers: Headers) -> str:
    given = headers.get("content-type", "").strip()
    if len(given) > MAX_CHARS:
        raise _bad(f"Content-Type has {len(given)} characters: at most {MAX_CHARS}")
    return given


def _ttl_s(text: str) -> int:
    if not _COUNT.fullmatch(text) or not 0 < int(text[:16]) <= _MAX_TTL_S:
        raise _bad(f"Stream-TTL {text[:32]!r}: whole seconds, 1 to {_MAX_TTL_S}, without a sign or zeros")
    return int(text)


def _time_ms(text: str) -> int:
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        return max(1, round(datetime.fromisoformat(text.upper()).timestamp() * 1000))
    except (ValueError, OverflowError):
        message = f"Stream-Expires-At {text[:64]!r}: a time as in RFC 3339, such as 2030-01-31T12:00:00Z"
        raise _bad(message) from None


def _fork(headers: Headers) -> Fork | None:
    path, at = headers.get("stream-forked-from"), headers.get("stream-fork-offset")
    more = headers.get("stream-fork-sub-offset")
    if path is None:
        if at is not None or more is not None:
            raise _bad("Stream-Fork-Offset and Stream-Fork-Sub-Offset go with Stream-Forked-From")
        return None
    if more is not None and (not _COUNT.fullmatch(more) or len(more) > 16):
        raise _bad(f"Stream-Fork-Sub-Offset {more[:32]!r}: a whole number, without a sign or zeros")
    if more is not None and int(more) and at is None:
        raise _bad("Stream-Fork-Sub-Offset goes with Stream-Fork-Offset: nothing is after the source's end")
    return Fork(path, None if at is None else parse_token(at), int(more or 0))


def _producer(headers: Headers) -> tuple[str, int, int] | None:
    given = [headers.get(name) for name in _PRODUCER]
    if given == [None, None, None]:
        return None
    name, epoch, seq = given
    if not name or epoch is None or seq is None:
        raise _bad("Producer-Id, Producer-Epoch and Producer-Seq go together, and none is empty")
    if len(name) > MAX_CHARS:
        raise _bad(f"Producer-Id has {len(name)} characters: at most {MAX_CHARS}")
    return name, _number("Producer-Epoch", epoch), _number("Producer-Seq", seq)


def _number(name: str, text: str) -> int:
    if not _DIGITS.fullmatch(text) or len(text) > 16 or int(text) >= 2**53:
        raise _bad(f"{name} {text[:32]!r}: a whole number below 2**53")
    return int(text)


def _bad(message: str) -> Refused:
    return Refused("bad_request", message)
