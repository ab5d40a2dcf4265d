"""The nouns every other module speaks in. Imports nothing of ours."""

import re
from typing import Final, NamedTuple, NewType, Self

import msgspec

__all__ = ["EARLIEST", "NOW", "Channel", "Member", "Message", "Position", "Publication", "Publisher", "Start"]

Channel = NewType("Channel", str)
"""A checked channel name: 1-255 bytes of UTF-8 without control characters or commas
(`heartwire.channels.to_channel`)."""

_TOKEN: Final = re.compile(r"([A-Za-z0-9_-]{1,32})\.(0|[1-9][0-9]{0,17})")


class Position(NamedTuple):
    """A place in one life of a stream: after publication ``offset`` of ``epoch``; offset 0 is before the
    first.

    Two positions can be compared only when their epochs are equal. ``str()`` gives the opaque wire token.
    """

    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.offset}"

    @classmethod
    def parse(cls, token: str) -> Self:
        """Read a wire token. Raises ``ValueError`` for anything ``str(position)`` cannot have made."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise ValueError(f"{token[:64]!r} is not a position")
        return cls(match[1], int(match[2]))


class _Start(NamedTuple):
    name: str


NOW: Final = _Start("now")
"""Start with what is published from now on."""
EARLIEST: Final = _Start("earliest")
"""Start with the oldest publication that is kept."""

Start = Position | _Start
"""Where a reader begins: ``NOW``, ``EARLIEST`` or after a position."""


class Publisher(msgspec.Struct, frozen=True, gc=False):
    """Who published: ``user`` is the identity's name ("" when anonymous), ``client`` the connection, ``info``
    JSON about them."""

    user: str = ""
    client: str = ""
    info: bytes | None = None


class Message(msgspec.Struct, frozen=True, gc=False):
    """What is about to be published. ``origin`` names the link it came in by on this node (0: none); it is
    not kept."""

    data: bytes
    is_text: bool = True
    publisher: Publisher | None = None
    origin: int = 0


class Publication(msgspec.Struct, frozen=True, gc=False):
    """One message in a channel, at its position. ``time_ms`` is the engine's wall clock when it was
    appended."""

    channel: Channel
    epoch: str
    offset: int
    data: bytes
    is_text: bool
    publisher: Publisher | None
    time_ms: int
    origin: int = 0

    @property
    def position(self) -> Position:
        """The position right after this publication."""
        return Position(self.epoch, self.offset)


class Member(msgspec.Struct, frozen=True, gc=False):
    """One connection or polling client in a channel's presence.

    ``info`` is JSON the application attached to the client, ``chan_info`` what it attached for this channel
    only.
    """

    client: str
    user: str = ""
    info: bytes | None = None
    chan_info: bytes | None = None
