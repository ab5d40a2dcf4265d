"""Formats: how a run's values are kept in a stream, and how a reader's answer is made of them.

A program adds its own with `register`. A format is pure: `Shaper` is called by the one run that writes, the
rest by any number of readers, on any node, at any time.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from heartwire.errors import ConfigError
from heartwire.types import Publication

__all__ = ["Format", "Shaper", "format_of", "register"]


class Shaper(Protocol):
    """What one run keeps: ``bytes``, ``str``, or what is written as JSON; a publication each."""

    def begin(self) -> Iterable[object]:
        """What is kept before the first value."""

    def add(self, value: object) -> Iterable[object]:
        """What is kept of a value that was yielded. Raises ``TypeError`` for one that does not fit."""

    def finish(self) -> Iterable[object]:
        """What is kept after the last value of a run that is done."""


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


def format_of(name: str) -> Format:
    """The format of a name. Raises `ConfigError`."""
    if name not in _FORMATS:
        raise ConfigError("format", name, f"one of {', '.join(sorted(_FORMATS))}, or `register` it first")
    return _FORMATS[name]
