"""The two seams of fan-out: the pipe a publication goes into, and the format it takes there."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from heartwire.types import Channel, Member, Position, Publication

if TYPE_CHECKING:
    from heartwire.core.subscription import Subscription

__all__ = ["Follower", "Link", "OwnSink", "Sink", "WireFormat"]


class Sink(Protocol):
    """What takes payloads."""

    def write(self, payload: Any) -> None:
        """Send what the link's wire format joined, after all that was written before. Never blocks.

        May set the link's ``paused`` (the payload is kept all the same). Raises nothing but, on a pipe that
        has broken and is about to be closed, ``RuntimeError``.
        """


class Link(Sink, Protocol):
    """One client's outgoing pipe as the hub sees it.

    A link that becomes full sets ``paused`` and calls `Switchboard.pause`; when it drains it clears
    ``paused`` and calls `Switchboard.resume`. A link that is closed calls `Switchboard.leave` for each of its
    subscriptions.
    """

    serial: int
    """Unique on this node, never 0; equals ``Message.origin`` of what came in by this link."""
    paused: bool
    """True while the pipe is full: nothing should be written."""
    member: Member | None
    """Who this link is in presence, where presence is on."""

    @property
    def sink(self) -> Sink:
        """Where publications are written while the link is open and not full: the link, or what it would hand
        them to."""

    def write(self, payload: Any) -> None:
        """See `Sink.write`. After a close it does nothing."""

    def close(self, code: int, reason: str) -> None:
        """End the connection and tell the peer why. Idempotent; never raises."""


class OwnSink:
    """A link that takes publications itself."""

    __slots__ = ()

    @property
    def sink(self) -> Self:
        """See `Link.sink`."""
        return self


class Follower(Protocol):
    """What a link's dialect keeps for one of its channels, where the link alone does not say enough."""

    @property
    def member(self) -> Member | None:
        """Who this is in the channel's presence."""

    def live(self, subscription: "Subscription") -> None:
        """This is what follows now. Called once, before anybody is told that they came."""

    def hear(self, kind: Literal["join", "leave"], member: Member, made: dict[Any, Any]) -> None:
        """Somebody came or went; ``made`` keeps what was encoded for others."""

    def gap(self, position: Position) -> None:
        """The subscription cannot be continued; ``position`` is before the oldest that is kept. It may leave
        now."""


class WireFormat(Protocol):
    """A pure function from publications to what a kind of link takes. One object serves all links of that
    kind."""

    @property
    def encode(self) -> Callable[[Publication], Any]:
        """Makes one publication a frame. Called once per publication for all formats with the same
        function."""

    @property
    def join(self) -> Callable[[list[Any], Publication], Any] | None:
        """Makes consecutive frames of one channel one payload; the reader is then at the position of the last
        publication.

        ``None``: frames are bytes, to be put one after the other.
        """

    def joined(self, channel: Channel, position: Position, *, recovered: bool) -> Any | None:
        """What tells a reader where it starts, or (``recovered`` false) that its position could not be
        continued.

        ``None``: there is nothing to say, and no way to tell of a gap, so that a gap closes the link.
        """
