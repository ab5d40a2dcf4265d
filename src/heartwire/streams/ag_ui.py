"""AG-UI: the typed events of an agent's run.

A string that the run yields is text of a message; anything else is an event, as it is, and ends the message.
"""

import secrets
from collections.abc import Callable, Iterator

from heartwire.streams.events import Event, EventFormat, EventShaper, sse
from heartwire.streams.formats import register

__all__ = ["AgUi"]


class AgUi(EventFormat):
    """See the module. ``new_id`` draws the names of threads, runs and messages that the run does not name."""

    def __init__(self, new_id: Callable[[], str] = lambda: secrets.token_hex(12)) -> None:
        self._new_id = new_id

    def shaper(self) -> "_Shaper":
        return _Shaper(self._new_id)

    def end(self, reason: str, detail: str) -> bytes:
        error = {"type": "RUN_ERROR", "message": detail or reason, "code": reason}
        return b"" if reason == "done" else sse(error)


class _Shaper(EventShaper):
    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._run: Event = {}
        self._message: Event = {}
        self._has_ended = False

    def was(self, event: Event) -> None:
        kind, message = event.get("type"), str(event.get("messageId", ""))
        self._note(event)
        if message.startswith("text-") and kind == "TEXT_MESSAGE_START":  # of `text`, not of the run's own
            self._message = {"messageId": message}
        elif kind == "TEXT_MESSAGE_END":
            self._message = {}

    def text(self, value: str) -> Iterator[Event]:
        if not self._message:
            yield from self._start()
            self._message = {"messageId": f"text-{self._new_id()}"}
            yield {"type": "TEXT_MESSAGE_START", **self._message, "role": "assistant"}
        yield {"type": "TEXT_MESSAGE_CONTENT", **self._message, "delta": value}

    def event(self, event: Event) -> Iterator[Event]:
        self._note(event)
        yield from self._start()
        if self._message:
            yield {"type": "TEXT_MESSAGE_END", **self._message}
            self._message = {}
        yield event

    def finish(self) -> Iterator[Event]:
        if not self._has_ended:
            yield from self._start()
            yield from self.event({"type": "RUN_FINISHED", **self._run})

    def _note(self, event: Event) -> None:
        if event.get("type") == "RUN_STARTED":
            self._run = {name: event.get(name, "") for name in ("threadId", "runId")}
        self._has_ended |= event.get("type") in ("RUN_FINISHED", "RUN_ERROR")

    def _start(self) -> Iterator[Event]:
        if not self._run:
            self._run = {"threadId": self._new_id(), "runId": self._new_id()}
            yield {"type": "RUN_STARTED", **self._run}


register("ag-ui", AgUi())
