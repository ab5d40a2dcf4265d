"""What formats of JSON events over server-sent events share."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from heartwire.messages import to_json
from heartwire.types import Publication

__all__ = ["Event", "EventFormat", "EventShaper", "fields", "sse"]

Event = dict[str, Any]


class EventFormat:
    """A format whose stream keeps events, which a reader gets without a name: see `Format`."""

    content_type = "application/json"
    media_type = "text/event-stream"
    headers: Mapping[str, str] = {}

    def frame(self, publication: Publication) -> bytes:
        """What a reader gets of a publication."""
        return sse(publication.data)


class EventShaper:
    """A shaper of runs that yield strings and events: see `Shaper`."""

    def begin(self) -> list[Event]:
        """Nothing: the run may have a first event of its own."""
        return []

    def add(self, value: object) -> list[Event]:
        """What is kept of a value: `text` or `event` says it."""
        return list(self.text(value) if isinstance(value, str) else self.event(fields(value)))

    def resume(self, kept: Sequence[str | bytes]) -> list[Event]:
        """Nothing: the next event comes as if one run had said all. See `ResumingShaper`."""
        for one in kept:
            event = msgspec.json.decode(one)
            if isinstance(event, dict):  # else it is somebody else's
                self.was(event)
        return []

    def was(self, event: Event) -> None:
        """Know of an event that another run has said."""
        raise NotImplementedError

    def text(self, value: str) -> Iterator[Event]:
        """The events of some more text."""
        raise NotImplementedError

    def event(self, event: Event) -> Iterator[Event]:
        """The events of an event of the run's own: itself, and what has to be before it."""
        raise NotImplementedError


def fields(value: object) -> Event:
    """The fields of an event that a run yields: a mapping, a dataclass, a ``msgspec.Struct``, or a model of
    Pydantic, which the packages of models and agents have.

    Raises ``TypeError`` for anything else.
    """
    dump = getattr(value, "model_dump", None)
    found = dump(mode="json", by_alias=True, exclude_none=True) if dump is not None else value
    if not isinstance(found, Mapping):
        found = msgspec.to_builtins(found, str_keys=True)
    if not isinstance(found, Mapping):
        raise TypeError(f"a run of this format yields strings and events, not {value!r:.100}")
    return dict(found)


def sse(data: bytes | Event) -> bytes:
    """An event of an event stream, without a name; one ``data:`` line for each line."""
    written = to_json(data) if isinstance(data, dict) else data
    if b"\n" not in written and b"\r" not in written:
        return b"data: %b\n\n" % written
    return b"".join(b"data: %b\n" % line for line in written.splitlines()) + b"\n"
