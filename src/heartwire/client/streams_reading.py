"""One reading of a durable stream: what to ask next, and what the answers mean. Pure.

First what is there already, an answer at a time. Then, where it is to be live, an event stream, or long
polls: for bytes, where an event stream brought nothing, and while a character of text is cut in two. Each
request goes on where the last complete answer ended, so nothing is lost or doubled, whatever breaks.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from heartwire.client.streams_wire import Answer, Lost, Retry, is_true, kind_of, refusal

__all__ = ["Live", "Reading"]

Live = bool | Literal["long-poll"]
"""Whether a reading goes on at the tail. With ``True`` it chooses how."""

_QUICK_S: Final = 0.5
"""A long poll that is answered sooner, with nothing, was not held."""


class _Control(msgspec.Struct, rename="camel"):
    """What an answer says of the stream, in an event or in headers."""

    stream_next_offset: str
    stream_cursor: str = ""
    up_to_date: bool = False
    stream_closed: bool = False


class Reading:
    """See the module. After each answer ``offset`` is where to go on once its values are taken.

    A request that lived for ``stable_after_s`` did not fail.
    """

    def __init__(self, offset: str, live: Live, retry: Retry, *, stable_after_s: float) -> None:
        self.offset = self._next = offset  # `_next` is after what is held, too
        self.content_type = ""
        self.is_closed = False  # and all of it was read
        self.is_over = False
        self.is_live = False  # at the tail, from now on
        self.is_heard = False  # the event stream has brought something
        self._live, self._retry, self._stable_after_s = live, retry, stable_after_s
        self._cursor = ""
        self._held = b""  # text that ends within a character
        self._is_sse_cut = self._was_sse = False
        self._events: list[bytes] = []
        self._asked_at = 0.0

    @property
    def is_sse(self) -> bool:
        """Whether the next request is for an event stream."""
        may = self.is_live and self._live is True and not self._is_sse_cut and not self._held
        return may and kind_of(self.content_type) != "bytes"

    def query(self, now: float) -> dict[str, str]:
        """Return what to ask."""
        self._asked_at, self._was_sse, self.is_heard, self._events = now, self.is_sse, False, []
        query = {"offset": self._next}
        if self.is_live:
            query["live"] = "sse" if self._was_sse else "long-poll"
            query |= {"cursor": self._cursor} if self._cursor else {}
        return query

    def answered(self, answer: Answer, now: float) -> Sequence[Any]:
        """Take an answer that is complete. Return its values. Raises its `refusal`."""
        headers = answer.headers
        if answer.status == 400 and self._was_sse:
            raise Lost("there is no event stream of it")
        if answer.status not in (200, 204):
            raise refusal(answer)
        if "Stream-Next-Offset" not in headers:
            raise Lost("an answer without Stream-Next-Offset: is it of a durable stream?")
        if answer.status == 200:
            self.content_type = headers.get("Content-Type", self.content_type)
        to = _Control(
            headers["Stream-Next-Offset"],
            headers.get("Stream-Cursor", ""),
            is_true(headers, "Stream-Up-To-Date"),
            is_true(headers, "Stream-Closed"),
        )
        may_be_same = to.stream_closed or (to.up_to_date and not self.is_live)
        if to.stream_next_offset == self._next and not may_be_same and now - self._asked_at < _QUICK_S:
            raise Lost("the server answers at once, with nothing")
        return self._moved(to, [answer.body], now)

    def event(self, name: str, data: str, now: float) -> Sequence[Any]:
        """Take an event. Return the values that are complete with it."""
        if name == "data":
            self._events.append(data.encode())
        if name != "control":
            return ()
        try:
            control = msgspec.json.decode(data, type=_Control)
        except msgspec.DecodeError as error:
            raise Lost(f"{data[:80]!r}: {error}") from None
        bodies, self._events = self._events, []
        self.is_heard, self._is_sse_cut = True, False
        return self._moved(control, bodies, now)

    def lost(self, lost: Lost, now: float) -> float:
        """Take the failure of a request, or its end. Return the seconds to wait before the next."""
        if self.is_live and lost.is_reachable:
            # What keeps an event stream to itself, as some proxies do, lets long polls through.
            self._is_sse_cut = self._was_sse and not self.is_heard
        if now - self._asked_at >= self._stable_after_s:
            self._retry.backoff.reset()
        return self._retry.next_s(lost, now)

    def _moved(self, to: _Control, bodies: list[bytes], now: float) -> Sequence[Any]:
        has_moved = to.stream_next_offset != self._next
        values = self._values(bodies if has_moved else [], is_last=to.stream_closed)
        if has_moved or now - self._asked_at >= self._stable_after_s:
            self._retry.backoff.reset()
        self._next, self._cursor = to.stream_next_offset, to.stream_cursor or self._cursor
        if not self._held:
            self.offset = self._next
        self.is_live = self.is_live or (to.up_to_date and self._live is not False)
        self.is_closed = to.stream_closed
        self.is_over = to.stream_closed or (to.up_to_date and self._live is False)
        return values

    def _values(self, bodies: list[bytes], *, is_last: bool) -> list[Any]:
        kind = kind_of(self.content_type)
        if kind == "json":
            return [value for body in bodies for value in _messages(body)]
        data = self._held + b"".join(bodies)
        if kind == "bytes":
            return [data] if data else []
        self._held = b"" if is_last or not _is_cut(data) else data
        return [data.decode(errors="replace")] if data and not self._held else []


def _messages(body: bytes) -> list[Any]:
    try:
        return msgspec.json.decode(body or b"[]", type=list[Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise Lost(f"an answer that is not a JSON array: {error}") from None


def _is_cut(data: bytes) -> bool:
    """Whether UTF-8 ends within a character: more of it may come."""
    for back, byte in enumerate(reversed(data[-3:]), 1):
        if byte >= 0xC0:
            return back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4)
        if byte < 0x80:
            return False
    return False
