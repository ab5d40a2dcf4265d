"""The nouns of all other modules. Imports nothing of the package."""

import re
from typing import Final, Literal, NamedTuple, NewType, Self

import msgspec

__all__ = [
    "EARLIEST",
    "ENDED",
    "NOW",
    "Action",
    "Channel",
    "Member",
    "Message",
    "Override",
    "Position",
    "Publication",
    "Publisher",
    "ServerSubscription",
    "Start",
]

Channel = NewType("Channel", str)
"""A channel name checked by `heartwire.channels.to_channel`: 1-255 bytes of UTF-8 without control
characters."""

Action = Literal["subscribe", "publish", "presence", "history"]
"""What a client may do in a channel; "presence": list its members, "history": read back."""

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

    def __repr__(self) -> str:
        return self.name.upper()

    def __reduce__(self) -> str:
        return self.name.upper()  # by name: the two are compared by identity, also after a pickle or a copy


NOW: Final = _Start("now")
"""Start with the next publication."""
EARLIEST: Final = _Start("earliest")
"""Start with the oldest publication kept."""

Start = Position | _Start
"""The start of a reader: ``NOW``, ``EARLIEST`` or after a position."""


class Publisher(msgspec.Struct, frozen=True, gc=False):
    """The publisher of a message: the identity's name (``user``, "" when anonymous), the connection
    (``client``), and JSON about them (``info``)."""

    user: str = ""
    client: str = ""
    info: bytes | None = None


ENDED: Final = Publisher(client="\0end")
"""The publisher of a stream's last publication, which says that it is closed: see `Publication.is_end`."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """A message to publish. ``origin`` is the serial on this node of the link it came in by (0: none); it is
    not kept."""

    data: bytes
    is_text: bool = True
    publisher: Publisher | None = None
    origin: int = 0


class Publication(msgspec.Struct, frozen=True, gc=False):
    """One message in a channel, at its position. ``time_ms`` is the time of the append, by a clock that
    only goes forward."""

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

    @property
    def is_end(self) -> bool:
        """Whether this closes a durable stream, and is no message: the last publication of it. ``data`` is
        JSON, ``{"reason": "done"}``."""
        return self.publisher is not None and self.publisher.client == ENDED.client

    @property
    def reason(self) -> str:
        """Why the stream is closed, where this `is_end`; else ""."""
        return str(msgspec.json.decode(self.data)["reason"]) if self.is_end else ""


class Member(msgspec.Struct, frozen=True, gc=False):
    """One connection or polling client in a channel's presence.

    ``info`` is the application's JSON about the client, ``chan_info`` its JSON for this channel only.
    """

    client: str
    user: str = ""
    info: bytes | None = None
    chan_info: bytes | None = None


class Override(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a channel that are others for one subscription; ``None``: the namespace's."""

    presence: bool | None = None
    join_leave: bool | None = None
    force_push_join_leave: bool | None = None
    force_positioning: bool | None = None
    force_recovery: bool | None = None


class ServerSubscription(NamedTuple):
    """A channel that the server subscribes a connection to.

    Attributes:
        info: JSON about the client that others see in this channel.
        data: JSON for the client.
        since: continue after this position; ``None``: from now on.
        ttl_s: seconds until the subscription expires; ``None``: it does not.
        override: see `Override`.
    """

    channel: str
    info: bytes | None = None
    data: bytes | None = None
    since: Position | None = None
    ttl_s: float | None = None
    override: Override | None = None
