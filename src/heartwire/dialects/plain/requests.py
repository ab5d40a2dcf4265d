"""Decoding of the plain dialect's requests. `codec` has the encoding of answers.

In: channel names, query parameters and headers, as strings. Out: a `Follow`, or `Refused`. Called by the
modules of `heartwire.server.plain`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from heartwire.channels import to_channel
from heartwire.errors import LimitExceeded, Refused
from heartwire.text import check_text, is_utf8
from heartwire.types import EARLIEST, NOW, Channel, Position, Start

__all__ = ["MAX_WAIT_S", "Follow", "Vector", "body_is_text", "parse_follow", "parse_starts", "parse_wait"]

MAX_WAIT_S: Final = 55
"""The longest wait of a long poll: under the idle limits of common proxies (60 s)."""

_STARTS: Final[dict[str, Start]] = {"-": NOW, "earliest": EARLIEST}
_LOST: Final = Position("-", 0)
"""A position in no life of any stream: a reader from there begins with a gap."""

_CLIENT: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TEXT_TYPE: Final = re.compile(r"text/.+|application/(json|xml|x-www-form-urlencoded|.+\+json|.+\+xml)")


class Vector:
    """Positions of several channels as one token, in the channels' sorted order, joined by ``~``.

    A channel whose position is not known yet has its requested start there, ``-`` for ``NOW``.
    """

    __slots__ = ("positions",)

    def __init__(self, starts: Mapping[Channel, Start]) -> None:
        self.positions: dict[Channel, Start] = {channel: starts[channel] for channel in sorted(starts)}

    @property
    def is_known(self) -> bool:
        """Whether every channel's position is known."""
        return all(isinstance(position, Position) for position in self.positions.values())

    def __str__(self) -> str:
        return "~".join(_token(position) for position in self.positions.values())


def _vector_starts(channels: Sequence[Channel], token: str) -> dict[Channel, Start]:
    parts = token.split("~")
    if len(parts) != len(channels):
        what = f"is a position of {len(parts)} channels, the request has {len(channels)}"
        hint = "use a position that the same set of channels gave"
        raise Refused("bad_position", f"since={token[:64]!r} {what}: {hint}")
    return {channel: _position(part) for channel, part in zip(sorted(channels), parts, strict=True)}


def _token(position: Start) -> str:
    if isinstance(position, Position):
        return str(position)
    return "earliest" if position is EARLIEST else "-"


class Follow(NamedTuple):
    """A request to follow channels. ``wait_s`` is 0 for a poll; ``json`` is the format "json", else "raw"."""

    channels: tuple[Channel, ...]
    is_multi: bool
    starts: dict[Channel, Start]
    has_start: bool
    wait_s: float = 0
    json: bool = False
    echo: bool = True
    heartbeat: str | None = None
    client: str | None = None


def parse_follow(
    names: Sequence[str],
    query: Mapping[str, str],
    *,
    max_channels: int,
    is_multi: bool,
    resume: str | None = None,
) -> Follow:
    """Read a request to follow channels.

    Args:
        names: channel names, not checked yet.
        query: the URL's parameters, the last of each name; unknown ones are ignored.
        max_channels: the limit of channels in one request.
        is_multi: the request is to the URL of several channels; answers name the channel.
        resume: a position from a header (``Last-Event-ID``); newer than ``since``, so it wins. A browser
            sends whatever it has, and a refusal ends its `EventSource` for good: what is no position of these
            channels is a gap.
    Raises:
        Refused: ``bad_channel``, ``too_many_channels``, ``bad_position``, ``bad_wait`` or ``bad_request``.
    """
    if not names:
        raise Refused("bad_channel", "no channel named: /channels/NAME, or /channels?channel=A&channel=B")
    if len(names) > max_channels:
        what, option = "channels in one request", "max_channels_per_request"
        raise LimitExceeded("too_many_channels", what, len(names), max_channels, option)
    channels = tuple(dict.fromkeys(to_channel(name) for name in names))
    if not query and not resume:  # most often
        return Follow(channels, is_multi, dict.fromkeys(channels, NOW), has_start=False, json=is_multi)
    resume = resume or query.get("last_event_id")
    since = resume or query.get("since")
    client = query.get("client")
    if client is not None and not _CLIENT.fullmatch(client):
        raise Refused("bad_request", f"client={client[:64]!r}: 1 to 64 of A-Z a-z 0-9 . _ -")
    return Follow(
        channels=channels,
        is_multi=is_multi,
        starts=_resumed(channels, resume, is_multi=is_multi)
        if resume
        else parse_starts(channels, since, is_multi=is_multi),
        has_start=bool(since),
        wait_s=parse_wait(query.get("wait")),
        json=is_multi or _choice(query, "format", ("raw", "json"), "raw") == "json",
        echo=_choice(query, "echo", ("1", "0"), "1") == "1",
        heartbeat=query.get("heartbeat"),
        client=client,
    )


def _resumed(channels: tuple[Channel, ...], event_id: str, *, is_multi: bool) -> dict[Channel, Start]:
    try:
        return parse_starts(channels, event_id, is_multi=is_multi)
    except Refused:
        return dict.fromkeys(channels, _LOST)


def parse_starts(channels: tuple[Channel, ...], since: str | None, *, is_multi: bool) -> dict[Channel, Start]:
    """Read a position of channels. Raises `Refused` (``bad_position``)."""
    if not since:
        return dict.fromkeys(channels, NOW)
    if since == "earliest":
        return dict.fromkeys(channels, EARLIEST)
    if is_multi:
        return _vector_starts(channels, since)
    return {channels[0]: _position(since)}


def _position(token: str) -> Start:
    if token in _STARTS:
        return _STARTS[token]
    try:
        return Position.parse(token)
    except ValueError:
        hint = "`earliest`, or a position as an answer gave it"
        raise Refused("bad_position", f"since={token[:64]!r}: {hint}") from None


def parse_wait(text: str | None) -> float:
    """Read ``wait``, in seconds; 0 where it is missing. Raises `Refused` (``bad_wait``)."""
    if not text:
        return 0
    try:
        wait_s = float(text)
    except ValueError:
        wait_s = -1
    if not 0 <= wait_s <= MAX_WAIT_S:
        raise Refused("bad_wait", f"wait={text[:32]!r}: a number of seconds from 0 to {MAX_WAIT_S}")
    return wait_s


def _choice(query: Mapping[str, str], name: str, choices: tuple[str, ...], default: str) -> str:
    value = query.get(name, default)
    if value not in choices:
        raise Refused("bad_request", f"{name}={value[:32]!r}: one of {', '.join(choices)}")
    return value


def body_is_text(content_type: str | None, body: bytes) -> bool:
    """Return whether a POST's body is text. Raises `Refused` (``invalid_utf8``, ``unsupported_charset``)."""
    if not content_type:
        return is_utf8(body)
    media_type, _, parameters = content_type.partition(";")
    if not _TEXT_TYPE.fullmatch(media_type.strip().lower()):
        return False
    charset = re.search(r"charset\s*=\s*\"?([^\s;\"]+)", parameters, re.IGNORECASE)
    if charset and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        hint = "text is UTF-8 here; convert it, or send bytes"
        raise Refused("unsupported_charset", f"charset {charset[1][:32]!r}: {hint}")
    check_text(body)
    return True
