"""One link's subscription to one channel, and the table of its states.

                 located                 caught_up
    JOINING ───────────────▶ CATCHING_UP ─────────▶ LIVE
                              ▲   │  ▲                │
                      drained │   │  └──── hole ──────┤
                              │   ▼ filled            │ filled
                              PAUSED ◀────────────────┘

A LIVE subscription becomes ENDED when its stream is closed, and stays so until it leaves.

A subscription holds no publications. While LIVE its position is its topic's; in every other state it is its
own (`epoch`, `offset`), and everything after that position is read again, from the topic's tail or from the
engine. So there is no hole and no duplicate between history and live, and a slow reader costs no memory.

In: events from `Switchboard` and `Topic`, the only callers of `Subscription.on`. Out: payloads to the link,
gaps and presence changes to the listener.
"""

from dataclasses import KW_ONLY, dataclass
from enum import Enum
from typing import Any, Final, Literal, Protocol

from heartwire.core.link import Link, WireFormat
from heartwire.types import Channel, Member, Override, Position, Publication

__all__ = ["TRANSITIONS", "ChannelListener", "State", "Stream", "Subscription"]


class State(Enum):
    JOINING = "joining"  # its start is not known yet
    CATCHING_UP = "catching up"  # reading what it has not seen
    PAUSED = "paused"  # its link is full
    LIVE = "live"  # gets publications as they are published
    ENDED = "ended"  # has got all of a stream that is closed
    CLOSED = "closed"

    # Enum's own hash is a Python function, and the table below is read four times per poll.
    __hash__ = object.__hash__


# By names of their own: Python 3.11 finds attributes of an enum by way of a function.
JOINING: Final = State.JOINING
CATCHING_UP: Final = State.CATCHING_UP
LIVE: Final = State.LIVE
ENDED: Final = State.ENDED
CLOSED: Final = State.CLOSED

TRANSITIONS: Final[dict[tuple[State, str], State]] = {
    (State.JOINING, "located"): State.CATCHING_UP,
    (State.JOINING, "filled"): State.JOINING,
    (State.JOINING, "drained"): State.JOINING,
    (State.CATCHING_UP, "caught_up"): State.LIVE,
    (State.CATCHING_UP, "filled"): State.PAUSED,
    (State.CATCHING_UP, "hole"): State.CATCHING_UP,
    (State.CATCHING_UP, "drained"): State.CATCHING_UP,
    (State.LIVE, "filled"): State.PAUSED,
    (State.LIVE, "hole"): State.CATCHING_UP,
    (State.LIVE, "drained"): State.LIVE,
    (State.PAUSED, "drained"): State.CATCHING_UP,
    (State.PAUSED, "filled"): State.PAUSED,
    (State.PAUSED, "hole"): State.PAUSED,
    (State.LIVE, "ended"): State.ENDED,
    (State.ENDED, "filled"): State.ENDED,
    (State.ENDED, "drained"): State.ENDED,
    **{(state, "left"): State.CLOSED for state in State},
}


class Stream(Protocol):
    """The part of a topic that a subscription reads."""

    channel: Channel

    @property
    def position(self) -> Position:
        """The position of all live subscriptions."""


class ChannelListener(Protocol):
    """A dialect's record of one of a link's channels, where the link alone is not enough."""

    @property
    def member(self) -> Member | None:
        """The member that this subscription is in the channel's presence."""

    @property
    def override(self) -> Override | None:
        """Options of the channel that are others for this subscription."""

    def live(self, subscription: "Subscription") -> None:
        """The subscription was made. Called once, before anybody hears of the join."""

    def hear(self, kind: Literal["join", "leave"], member: Member, made: dict[Any, Any]) -> None:
        """A member joined or left; ``made`` caches encodings for the other listeners."""

    def gap(self, position: Position) -> None:
        """It cannot be continued; ``position`` is before the oldest kept. The listener may leave now."""

    def ended(self, subscription: "Subscription", end: Publication) -> None:
        """The stream is closed by ``end``, and the subscription has got all before it. Called once; it is
        unfollowed right after."""


@dataclass(slots=True, eq=False)
class Subscription:
    """One link's place in one channel. Only the switchboard and the topic change it.

    ``echo`` false leaves out publications that came in by the same link. Gaps go to ``listener`` where there
    is one, else to the format's ``joined``.
    """

    topic: Stream
    link: Link
    format: WireFormat
    _: KW_ONLY
    echo: bool
    listener: ChannelListener | None = None
    state: State = JOINING
    epoch: str = ""
    offset: int = 0

    def on(self, event: str) -> None:
        """Move along the table. Raises ``KeyError`` for an event that cannot happen in this state."""
        self.state = TRANSITIONS[self.state, event]

    def write(self, payload: Any) -> None:
        """Write a payload to the link."""
        try:
            self.link.write(payload)
        except RuntimeError:  # uvloop raises it for a socket that broke a moment ago; the link closes next
            return

    @property
    def member(self) -> Member | None:
        """The member that the channel's presence lists."""
        return self.link.member if self.listener is None else self.listener.member

    @property
    def override(self) -> Override | None:
        """Options of the channel that are others for this subscription."""
        return None if self.listener is None else self.listener.override

    @property
    def position(self) -> Position:
        """The position after the last publication written to the link. Meaningless while JOINING."""
        if self.state is LIVE:
            return self.topic.position
        return Position(self.epoch, self.offset)
