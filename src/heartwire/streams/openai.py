"""Chunks of OpenAI's chat completions, which many clients of models read.

A string that the run yields is text of the answer; anything else is a chunk, as it is.
"""

import secrets
import time
from collections.abc import Callable, Iterator

from heartwire.streams.events import Event, EventFormat, EventShaper, sse
from heartwire.streams.formats import register

__all__ = ["OpenAi"]


class OpenAi(EventFormat):
    """See the module.

    Args:
        model: the model that chunks of text name.
        new_id: draws the name of an answer.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        model: str = "",
        new_id: Callable[[], str] = lambda: f"chatcmpl-{secrets.token_hex(12)}",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._model, self._new_id, self._clock = model, new_id, clock

    def shaper(self) -> "_Shaper":
        head = {"id": self._new_id(), "object": "chat.completion.chunk"}
        return _Shaper({**head, "created": int(self._clock()), "model": self._model})

    def end(self, reason: str, detail: str) -> bytes:
        error = {"message": detail or reason, "type": reason, "code": reason, "param": None}
        return sse(b"[DONE]" if reason == "done" else {"error": error})


class _Shaper(EventShaper):
    def __init__(self, head: Event) -> None:
        self._head = head
        self._role: Event = {"role": "assistant"}
        self._has_finish = False

    def was(self, event: Event) -> None:
        self._head |= {name: event[name] for name in self._head if name in event}
        self._role = {}
        self._note(event)

    def text(self, value: str) -> Iterator[Event]:
        yield self._chunk({**self._role, "content": value}, None)
        self._role = {}

    def event(self, event: Event) -> Iterator[Event]:
        self._note(event)
        yield event

    def finish(self) -> Iterator[Event]:
        yield from () if self._has_finish else [self._chunk({}, "stop")]

    def _note(self, event: Event) -> None:
        self._has_finish |= any(choice.get("finish_reason") for choice in event.get("choices", ()))

    def _chunk(self, delta: Event, finish_reason: str | None) -> Event:
        return {**self._head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


register("openai", OpenAi())
