"""The wire of a client: commands of the Centrifugal dialect as JSON lines, its replies and pushes.

A payload stays the JSON text it is. The fields ``encoding``, ``round``, ``idempotency_key`` and
``from_oldest`` are ours, and other servers ignore them; ``docs/centrifugal.md`` has them.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec
from msgspec import Raw

__all__ = [
    "MAX_FRAME",
    "PONG",
    "ErrorBody",
    "Pub",
    "Push",
    "Reply",
    "SubscribeResult",
    "closed_by_http",
    "command",
    "frame_bytes",
    "max_frame_bytes",
    "replies",
    "retry_after_header_s",
    "retry_after_s",
    "take_frame",
    "text",
]

PONG: Final = "{}"

MAX_FRAME: Final = 64 * 1024
"""Most characters in a frame of many commands: the server takes 1 MiB, but proxies and phones prefer less."""


_ENVELOPE: Final = 64
"""Room for a command's id, its method and the digits of its round."""


class ErrorBody(msgspec.Struct, frozen=True):
    code: int = 0
    message: str = ""
    temporary: bool = False


class Info(msgspec.Struct, frozen=True):
    """The publisher."""

    user: str = ""
    client: str = ""
    conn_info: Raw = Raw()


class Pub(msgspec.Struct, frozen=True):
    """A publication. ``tags["encoding"]`` is "text" or "base64" where ``data`` stands for text or bytes."""

    data: Raw = Raw(b"null")
    offset: int = 0
    tags: dict[str, str] = {}
    info: Info | None = None


class SubscribeResult(msgspec.Struct, frozen=True):
    """The reply to ``subscribe``, and a server-side subscription in the reply to ``connect`` or in a push."""

    epoch: str = ""
    offset: int = 0
    recovered: bool = False
    was_recovering: bool = False
    publications: tuple[Pub, ...] = ()
    data: Raw = Raw()


class ConnectResult(msgspec.Struct, frozen=True):
    client: str = ""
    data: Raw = Raw()
    subs: dict[str, SubscribeResult] = {}
    ping: float = 0
    expires: bool = False
    ttl: float = 0
    session: str = ""
    node: str = ""


class PublishResult(msgspec.Struct, frozen=True):
    epoch: str = ""
    offset: int = 0


class RefreshResult(msgspec.Struct, frozen=True):
    expires: bool = False
    ttl: float = 0


class Ended(msgspec.Struct, frozen=True):
    """The server ends a subscription, or the connection."""

    code: int = 0
    reason: str = ""


class MessageBody(msgspec.Struct, frozen=True):
    """A message outside of channels."""

    data: Raw = Raw(b"null")


class Push(msgspec.Struct, frozen=True):
    channel: str = ""
    pub: Pub | None = None
    unsubscribe: Ended | None = None
    disconnect: Ended | None = None
    subscribe: SubscribeResult | None = None
    message: MessageBody | None = None
    refresh: RefreshResult | None = None


class Reply(msgspec.Struct, frozen=True):
    """One line of the server: a reply where there is an id, else a push, else a ping."""

    id: int = 0
    error: ErrorBody | None = None
    push: Push | None = None
    connect: ConnectResult | None = None
    subscribe: SubscribeResult | None = None
    publish: PublishResult | None = None
    refresh: RefreshResult | None = None
    rpc: Raw = Raw()
    presence: Raw = Raw()
    presence_stats: Raw = Raw()
    history: Raw = Raw()


# A missing field is an empty `Raw`: `Raw | None` accepts nothing but null.
_decoder: Final = msgspec.json.Decoder(Reply)


def text(value: object) -> str:
    """Return a value as JSON, on one line. Raises ``TypeError`` where it cannot be written so."""
    return msgspec.json.encode(value).decode()


def command(id: int, method: str, request: object) -> str:
    """Return one command."""
    return f'{{"id":{id},"{method}":{text(request)}}}'


def frame_bytes(body: object) -> int:
    """Return the most bytes that a command with this body takes as a frame."""
    return len(msgspec.json.encode(body)) + _ENVELOPE


def max_frame_bytes(max_message_bytes: int) -> int:
    """Return the largest frame to send. A larger one would cost the connection, not this one call: servers
    and what is before them bound frames, too, and JSON and base64 make a frame longer than its message."""
    return max(max_message_bytes, MAX_FRAME)


def take_frame(commands: list[str]) -> str:
    """Take the first commands out of the list, as a frame of at most `MAX_FRAME`. A larger one goes alone."""
    size = taken = 0
    for one in commands:
        size += len(one) + 1
        if taken and size > MAX_FRAME:
            break
        taken += 1
    frame = "\n".join(commands[:taken])
    del commands[:taken]
    return frame


def replies(data: str) -> Iterator[Reply]:
    """Yield the replies of a frame. Raises ``ValueError`` where it breaks the protocol."""
    try:
        for line in data.split("\n"):
            if line:
                yield _decoder.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"{data[:80]!r}: {error}") from None


def retry_after_s(reason: str) -> float:
    """Return when the server wants its client back, by a close reason ``…; retry_after_ms=1500``; else 0."""
    digits = reason.rpartition("retry_after_ms=")[2] if "retry_after_ms=" in reason else ""
    return int(digits) / 1000 if digits.isascii() and digits.isdigit() and len(digits) < 8 else 0.0


def retry_after_header_s(headers: Mapping[str, str] | None) -> float:
    """Return when an HTTP server wants its client back; 0 where it does not say. An hour is the most."""
    after = (headers or {}).get("Retry-After", "")
    return min(int(after), 3600) if after.isascii() and after.isdigit() and len(after) < 10 else 0


def closed_by_http(status: int, body: str) -> tuple[int, str]:
    """Return the close code and reason of an HTTP answer; 1006 where it is not of our server.

    413 means the same from a proxy: a message too large for one must not be sent again and again.
    """
    try:
        error = msgspec.json.decode(body, type=_HttpError).error
    except (msgspec.DecodeError, RecursionError):
        return 1009 if status == 413 else 1006, f"HTTP {status}"
    return _HTTP_CODES.get(status, 1006), f"{error.code}: {error.message}"


class _HttpErrorBody(msgspec.Struct):
    code: str
    message: str


class _HttpError(msgspec.Struct):
    error: _HttpErrorBody


_HTTP_CODES: Final = {401: 3500, 403: 3507, 413: 1009, 429: 1013, 503: 1013}
