"""Formats: how a run's values are kept in a stream, and how a reader's answer is made of them.

A program adds its own with `register`. A format is pure: `Shaper` is called by the one run that writes, the
rest by any number of readers, on any node, at any time.

Here are the formats of no protocol: `text`, `ndjson` and `sse`.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol, runtime_checkable

import msgspec

from heartwire.errors import ConfigError
from heartwire.messages import Body, to_json
from heartwire.types import Publication

__all__ = [
    "Each",
    "Format",
    "Lines",
    "ResumingShaper",
    "ServerSentEvents",
    "Shaper",
    "Text",
    "format_of",
    "register",
]


class Shaper(Protocol):
    """What one run keeps: ``bytes``, ``str``, a `Body`, or what is written as JSON; a publication each."""

    def begin(self) -> Iterable[object]:
        """What is kept before the first value."""

    def add(self, value: object) -> Iterable[object]:
        """What is kept of a value that was yielded. Raises ``TypeError`` for one that does not fit."""

    def finish(self) -> Iterable[object]:
        """What is kept after the last value of a run that is done."""


@runtime_checkable
class ResumingShaper(Protocol):
    """A `Shaper` that goes on with a stream that another run has begun. Of one that is none, `Shaper.begin`
    is left out then."""

    def resume(self, kept: Sequence[str | bytes]) -> Iterable[object]:
        """What is kept in place of `Shaper.begin`. ``kept``: all there is."""


class Format(Protocol):
    """See the module.

    Attributes:
        content_type: of the stream.
        media_type: of an answer.
        headers: of an answer, besides.
    """

    content_type: str
    media_type: str
    headers: Mapping[str, str]

    def shaper(self) -> Shaper:
        """The shaper of one run."""

    def frame(self, publication: Publication) -> bytes:
        """What a reader gets of a publication."""

    def end(self, reason: str, detail: str) -> bytes:
        """What a reader gets last; ``reason``: see `heartwire.streams.record.Reason`. It has to tell a reader
        of an interrupted run that it was."""


_FORMATS: Final[dict[str, Format]] = {}


def register(name: str, format: Format) -> None:
    """Have a format known by a name."""
    _FORMATS[name] = format


def format_of(name: str | Format) -> Format:
    """The format of a name, or itself. Raises `ConfigError`."""
    if not isinstance(name, str):
        return name
    if name not in _FORMATS:
        raise ConfigError("format", name, f"one of {', '.join(sorted(_FORMATS))}, or `register` it first")
    return _FORMATS[name]


class Each:
    """`Shaper` of formats that keep each value as it comes.

    Args:
        keep: what is kept of a value. Raises ``TypeError``.
    """

    def __init__(self, keep: Callable[[object], object]) -> None:
        self._keep = keep

    def begin(self) -> Iterable[object]:
        """See `Shaper.begin`."""
        return ()

    def add(self, value: object) -> Iterable[object]:
        """See `Shaper.add`. Models yield empty words; nothing is kept of those."""
        return () if value == "" else (self._keep(value),)

    def finish(self) -> Iterable[object]:
        """See `Shaper.finish`."""
        return ()


class Text:
    """Text as it comes; one that is not whole says so in its last line, for want of another place."""

    content_type = "text/plain; charset=utf-8"
    media_type = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = {}

    def shaper(self) -> Shaper:
        """See `Format.shaper`. Values are ``str``, or ``bytes`` of UTF-8."""
        return Each(_text)

    def frame(self, publication: Publication) -> bytes:
        """See `Format.frame`."""
        return publication.data

    def end(self, reason: str, detail: str) -> bytes:
        """See `Format.end`."""
        return b"" if reason == "done" else f"\n[{reason}{': ' if detail else ''}{detail}]\n".encode()


class Lines:
    """A JSON value a line; one of an object with ``error`` last, where it is not whole."""

    content_type = "application/json"
    media_type = "application/x-ndjson"
    headers: Mapping[str, str] = {}

    def shaper(self) -> Shaper:
        """See `Format.shaper`. Values are anything that can be written as JSON."""
        return Each(lambda value: Body(True, to_json(value)))

    def frame(self, publication: Publication) -> bytes:
        """See `Format.frame`."""
        return _LINE_END.sub(b" ", publication.data) + b"\n"  # in JSON they are space

    def end(self, reason: str, detail: str) -> bytes:
        """See `Format.end`."""
        if reason == "done":
            return b""
        return to_json({"error": {"code": reason, "message": detail or reason}}) + b"\n"


class ServerSentEvents(Lines):
    """An event a value: text as it is, anything else as JSON; an event ``end`` last.

    Events have the position as their id, the last one ``end``: an ``EventSource`` that comes back with it has
    all, see `heartwire.Hub.resume_response`.
    """

    media_type = "text/event-stream; charset=utf-8"

    def frame(self, publication: Publication) -> bytes:
        """See `Format.frame`."""
        lines = b"".join(b"data: %b\n" % line for line in _LINE_END.split(_said(publication.data)))
        return b"id: %b\n%b\n" % (str(publication.position).encode(), lines)

    def end(self, reason: str, detail: str) -> bytes:
        """See `Format.end`."""
        why = {"reason": reason} | ({"detail": detail} if detail else {})
        return b"id: end\nevent: end\ndata: %b\n\n" % to_json(why)


def _text(value: object) -> object:
    if not isinstance(value, str | bytes):
        raise TypeError(f"{value!r:.100} is not text: yield str, or use another format, such as ndjson")
    return value


def _said(data: bytes) -> bytes:
    """A JSON string's text; anything else as it is."""
    if data.startswith(b'"'):
        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(data, type=str).encode()
    return data


_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


register("text", Text())
register("ndjson", Lines())
register("sse", ServerSentEvents())
