"""Encoding of the Durable Streams protocol: offsets, bodies, entity tags, cursors.

In: positions, publications, bodies. Out: header values and bytes. `requests` has the decoding of requests,
`events` the event streams. Called by the modules of `heartwire.server.durable`.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from heartwire.errors import Refused
from heartwire.text import check_text, is_json, is_utf8
from heartwire.types import Position, Publication

__all__ = [
    "Kind",
    "body_of",
    "cursor",
    "entity_tag",
    "is_text",
    "kind_of",
    "messages_of",
    "time_text",
    "token",
]

Kind = Literal["json", "text", "bytes"]
"""What a stream holds, by its content type: JSON messages, text, or anything."""

_CURSORS_SINCE_S: Final = 1_728_432_000  # 2024-10-09
_CURSOR_S: Final = 20
_SPREAD_S: Final = 3600

_elements: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


def token(position: Position) -> str:
    """An offset: tokens of one epoch are in the order of their offsets."""
    return f"{position.epoch}_{position.offset:016d}"


def kind_of(content_type: str) -> Kind:
    """What a stream of a content type holds. Only ``application/json`` itself is JSON."""
    media_type = content_type.partition(";")[0].strip().lower()
    return "json" if media_type == "application/json" else "text" if media_type[:5] == "text/" else "bytes"


def messages_of(kind: Kind, body: bytes) -> list[bytes]:
    """The messages of a request's body: the elements of a JSON array, else the body; none of an empty one.

    Raises `Refused` (``bad_request``, ``invalid_utf8``).
    """
    if not body or kind != "json":
        return [body] if body else []
    if not is_json(check_text(body)):
        raise Refused("bad_request", "the body is not one JSON value")
    stripped = body.strip(b" \t\r\n")
    return [bytes(one) for one in _elements(stripped)] if stripped[:1] == b"[" else [stripped]


def is_text(kind: Kind, data: bytes) -> bool:
    """Whether other dialects get a message as text. Half of a character is not text."""
    return kind == "json" or (kind == "text" and is_utf8(data))


def body_of(kind: Kind, publications: Iterable[Publication]) -> bytes:
    """Publications as one body: a JSON array, or their bytes."""
    if kind == "json":
        return b"[" + b",".join([_as_json(one) for one in publications]) + b"]"
    return b"".join([one.data for one in publications])


def _as_json(publication: Publication) -> bytes:
    """Others who publish to a stream of JSON may send text that is none."""
    data = publication.data
    return data if is_json(data) else msgspec.json.encode(data.decode("utf-8", "replace"))


def entity_tag(start: Position, end: Position, *, is_closed: bool) -> str:
    """The tag of an answer, without its quotes. It changes with the stream's end, which may bring no data."""
    return f"{start.epoch}-{start.offset}-{end.offset}{':c' if is_closed else ''}"


def cursor(now_s: float, given: int | None, draw: Callable[[int, int], int]) -> int:
    """The cursor of an answer at ``now_s`` (seconds since 1970): always greater than the ``given`` one, so
    that no cache answers a reader with what it has. ``draw``: a number between two."""
    now = int(now_s - _CURSORS_SINCE_S) // _CURSOR_S
    if given is None or given < now:
        return now
    return given + max(1, -(-draw(1, _SPREAD_S) // _CURSOR_S))


def time_text(time_ms: int) -> str:
    """A time as in RFC 3339."""
    made = datetime.fromtimestamp(time_ms / 1000, UTC)
    return made.isoformat(timespec="milliseconds").replace("+00:00", "Z")
