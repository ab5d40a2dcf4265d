"""The AI SDK's UI message stream, version 1, which ``useChat`` reads.

A string that the run yields is text of the answer; anything else is a chunk, as it is.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping

from heartwire.streams.events import Event, EventFormat, EventShaper, sse
from heartwire.streams.formats import register

__all__ = ["AiSdk"]


class AiSdk(EventFormat):
    """See the module. ``new_id`` draws the name of an answer: by it a page knows one that it shows."""

    headers: Mapping[str, str] = {"x-vercel-ai-ui-message-stream": "v1"}

    def __init__(self, new_id: Callable[[], str] = lambda: f"msg-{secrets.token_hex(12)}") -> None:
        self._new_id = new_id

    def shaper(self) -> "_Shaper":
        return _Shaper(self._new_id())

    def end(self, reason: str, detail: str) -> bytes:
        last: Event = {"type": "error", "errorText": detail or reason}
        before = {"done": b"", "aborted": sse({"type": "abort"})}.get(reason, sse(last))
        return before + sse(b"[DONE]")


class _Shaper(EventShaper):
    def __init__(self, message: str) -> None:
        self._message = message
        self._parts = 0
        self._is_text = self._has_start = self._has_finish = False

    def was(self, event: Event) -> None:
        kind, part = event.get("type"), event.get("id")
        self._has_start |= kind == "start"
        self._has_finish |= kind == "finish"
        if kind == "text-start" and part == f"text-{self._parts + 1}":
            self._is_text, self._parts = True, self._parts + 1
        elif kind == "text-end" and part == f"text-{self._parts}":
            self._is_text = False

    def text(self, value: str) -> Iterator[Event]:
        if not self._is_text:
            yield from self._start()
            self._is_text, self._parts = True, self._parts + 1
            yield {"type": "text-start", "id": f"text-{self._parts}"}
        yield {"type": "text-delta", "id": f"text-{self._parts}", "delta": value}

    def event(self, event: Event) -> Iterator[Event]:
        self._has_start |= event.get("type") == "start"
        self._has_finish |= event.get("type") == "finish"
        yield from self._start()
        yield from self._close()
        yield event

    def finish(self) -> Iterator[Event]:
        yield from () if self._has_finish else self.event({"type": "finish"})

    def _start(self) -> Iterator[Event]:
        if not self._has_start:
            self._has_start = True
            yield {"type": "start", "messageId": self._message}

    def _close(self) -> Iterator[Event]:
        if self._is_text:
            self._is_text = False
            yield {"type": "text-end", "id": f"text-{self._parts}"}


register("ai-sdk", AiSdk())
