"""What a client and a server of durable streams say over HTTP (the Durable Streams protocol). Pure."""

import re
from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple
from urllib.parse import quote

import msgspec

from heartwire.channels import to_channel
from heartwire.client.arguments import checked_url
from heartwire.client.options import Options
from heartwire.client.received import json_of
from heartwire.client.retry import Backoff, Bucket
from heartwire.client.wire import retry_after_header_s
from heartwire.codes import CODES
from heartwire.errors import LimitExceeded, Refused, Unauthorized

__all__ = [
    "MAX_ANSWER",
    "Answer",
    "Lost",
    "Retry",
    "body_of",
    "cut_events",
    "is_true",
    "kind_of",
    "refusal",
    "stream_url",
]

MAX_ANSWER: Final = 64 * 1024 * 1024
"""A longer answer is not taken: it would have to wait in memory until its end, and the offset there."""

_BY_STATUS: Final = {
    401: "unauthorized",
    403: "forbidden",
    404: "stream_not_found",
    409: "stream_conflict",
    410: "stream_gone",
    413: "stream_full",
    501: "not_available",
}
_BLANK_LINE: Final = re.compile(rb"\r?\n\r?\n")


class Answer(NamedTuple):
    """An HTTP answer; its headers are found by any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class Lost(Exception):
    """A request without an answer that counts: it is made again, no earlier than the server wants it.

    ``is_reachable``: it may have come to the server.
    """

    def __init__(self, reason: str, *, after_s: float = 0, is_reachable: bool = True) -> None:
        self.after_s, self.is_reachable = after_s, is_reachable
        super().__init__(reason)


class Retry:
    """When a request is made again: full-jitter backoff, and a bucket of attempts."""

    def __init__(self, options: Options, draw: Callable[[], float], now: float) -> None:
        self.backoff = Backoff(base_s=options.backoff_base_s, cap_s=options.backoff_cap_s, draw=draw)
        self._bucket = Bucket(options.attempt_rate_per_s, options.attempt_burst, now)

    def next_s(self, lost: Lost, now: float) -> float:
        """Count a failure. Return the seconds to wait."""
        return max(lost.after_s, self.backoff.next_s(), self._bucket.take(now))


def stream_url(base: str, path: str, name: str) -> str:
    """Return the address of a stream: ``name`` itself where it is one. Raises `Refused`, `ConfigError`."""
    if name.startswith(("http://", "https://")):
        checked_url(name.partition("?")[0])
        return name
    if not {".", ".."}.isdisjoint(to_channel(name).split("/")):
        raise Refused("bad_channel", f"stream {name!r}: no address has '.' or '..' between slashes")
    return "/".join([base.rstrip("/"), *filter(None, [path.strip("/")]), quote(name, safe="/:")])


def is_true(headers: Mapping[str, str], name: str) -> bool:
    """Whether a header says yes."""
    return headers.get(name, "").lower() == "true"


def kind_of(content_type: str) -> Literal["json", "text", "bytes"]:
    """Return what a stream is made of."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "application/json":
        return "json"
    return "text" if media_type.startswith("text/") else "bytes"


def body_of(data: object, content_type: str, max_bytes: int) -> bytes:
    """Return what is appended for a value. Raises ``TypeError``, ``ValueError``, `LimitExceeded`."""
    if kind_of(content_type) == "json":
        body = json_of(data).encode()
    elif isinstance(data, str):
        body = data.encode()
    elif isinstance(data, bytes | bytearray | memoryview):
        body = bytes(data)
    else:
        raise TypeError(f"{type(data).__name__}: str or bytes for a stream of {content_type!r}")
    if not body:
        raise ValueError("nothing to append")
    if len(body) > max_bytes:
        raise LimitExceeded("message_too_large", "data", len(body), max_bytes, "max_message_bytes")
    return body


def refusal(answer: Answer) -> Exception:
    """Return the error of an answer: `Lost` where it is for now only, else a `Refused`."""
    status, headers, body = answer
    name, message = _BY_STATUS.get(status, "bad_request"), f"HTTP {status}"
    try:
        error = msgspec.json.decode(body)["error"]
        name, message = CODES[error["code"]].name, str(error["message"])
    except (msgspec.DecodeError, LookupError, TypeError, RecursionError):  # of another server
        message += f" {body[:200].decode(errors='replace')}".rstrip()
    if status in (408, 425, 429) or (status >= 500 and status != 501):
        return Lost(message, after_s=retry_after_header_s(headers))
    if status == 401:
        return Unauthorized(message)
    if status == 409 and is_true(headers, "Stream-Closed"):
        name = "stream_closed"
    elif status == 409 and "Producer-Expected-Seq" in headers:
        name = "producer_gap"
    return Refused(name, message)


def cut_events(data: bytes) -> tuple[list[tuple[str, str]], bytes]:
    """Return the names and the data of the events that are complete, and the rest. Raises `Lost`."""
    *blocks, rest = _BLANK_LINE.split(data)
    if len(rest) > MAX_ANSWER:
        raise Lost(f"an event of over {MAX_ANSWER} bytes")
    return [_event(block.decode(errors="replace")) for block in blocks], rest


def _event(block: str) -> tuple[str, str]:
    fields = [line.removesuffix("\r").partition(":")[::2] for line in block.split("\n")]
    data = "\n".join(value.removeprefix(" ") for name, value in fields if name == "data")
    return "".join(value.strip() for name, value in fields if name == "event"), data
