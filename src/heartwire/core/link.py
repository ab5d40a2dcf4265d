"""The two seams of fan-out: the pipe for payloads, and the format that makes payloads of publications.

In: payloads, written by `Topic` and `Subscription`. Out: whatever the transport sends. A transport implements
`Link`, a dialect implements `WireFormat`.
"""

from collections.abc import Callable
from typing import Any, Protocol, Self, TypeAlias

from heartwire.types import Channel, Member, Position, Publication

__all__ = ["Held", "Link", "OwnSink", "Sink", "WireFormat"]


class Sink(Protocol):
    """The end of a pipe that payloads are written to."""

    def write(self, payload: Any) -> None:
        """Send a payload of the link's wire format after everything written before. Never blocks.

        It may set the link's ``paused``; the payload is kept all the same.

        Raises:
            RuntimeError: the pipe has broken and is about to be closed.
        """


Held: TypeAlias = dict[Sink, list[bytes]]
"""Payloads that wait for the end of this turn of the event loop, by sink: see `Switchboard.hold`."""


class Link(Sink, Protocol):
    """One client's outgoing pipe.

    A link that becomes full sets ``paused`` and calls `Switchboard.pause`; when it drains it clears
    ``paused`` and calls `Switchboard.resume`. A link that closes calls `Switchboard.leave` for each of its
    subscriptions.
    """

    serial: int
    """Unique on this node, never 0; the ``Message.origin`` of messages that come in by this link."""
    paused: bool
    """True while the pipe is full: nothing should be written."""
    member: Member | None
    """The member that this link is in presence, where presence is on."""

    @property
    def sink(self) -> Sink:
        """Where publications go while it is open and not full: the link, or the object it passes them to."""

    def write(self, payload: Any) -> None:
        """See `Sink.write`. Without effect after a close."""

    def close(self, code: int, reason: str) -> None:
        """End the connection and send the peer the reason. Idempotent; never raises."""


class OwnSink:
    """Mixin for a link that is its own sink."""

    __slots__ = ()

    @property
    def sink(self) -> Self:
        """See `Link.sink`."""
        return self


class WireFormat(Protocol):
    """A pure function from publications to payloads. One object serves all links of a kind."""

    @property
    def encode(self) -> Callable[[Publication], Any]:
        """Encode a publication as a frame, once for all formats that share the function."""

    @property
    def join(self) -> Callable[[list[Any], Publication], Any] | None:
        """Join consecutive frames of one channel into one payload, given the last publication; the reader is
        then at that publication's position.

        ``None``: frames are bytes, and a payload is their concatenation.
        """

    def joined(self, channel: Channel, position: Position, *, recovered: bool) -> Any | None:
        """Encode a reader's start; ``recovered`` false: its own position could not be continued.

        Returns:
            ``None`` where the format has nothing to send. It cannot report a gap then, so a gap closes the
            link.
        """

    def ended(self, end: Publication) -> Any | None:
        """Encode the end of a stream that is closed; ``None``: the end of the link says it."""
