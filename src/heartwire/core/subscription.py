"""One link following one channel, and the table of what can happen to it.

                 located                 caught_up
    JOINING ───────────────▶ CATCHING_UP ─────────▶ LIVE
                              ▲   │  ▲                │
                      drained │   │  └──── hole ──────┤
                              │   ▼ filled            │ filled
                              PAUSED ◀────────────────┘

A subscription holds no publications. While LIVE its position is its topic's; in every other state it is its
own (`epoch`, `offset`), and what comes after that position is read again, from the topic's tail or from the
engine. So there is no hole and no duplicate between history and live, and a slow reader costs no memory.
"""

from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from heartwire.core.link import Follower, Link, WireFormat
from heartwire.types import Member, Position

if TYPE_CHECKING:
    from heartwire.core.topic import Topic

__all__ = ["TRANSITIONS", "State", "Subscription"]


class State(Enum):
    JOINING = "joining"  # where to start is not known yet
    CATCHING_UP = "catching up"  # reading what it has not seen
    PAUSED = "paused"  # its link is full
    LIVE = "live"  # takes what is published, as it is published
    CLOSED = "closed"

    __hash__ = (
        object.__hash__
    )  # Enum's own is a Python function; the table below is asked four times per poll


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
    **{(state, "left"): State.CLOSED for state in State},
}


class Subscription:
    """What a link follows. Made by `Switchboard.follow`; nobody but the switchboard and the topic changes it.

    ``echo`` false leaves out what came in by the same link. ``follower`` is told of gaps, instead of the
    format's ``joined``.
    """

    __slots__ = ("echo", "epoch", "follower", "format", "link", "offset", "state", "topic")

    def __init__(
        self, topic: "Topic", link: Link, format: WireFormat, *, echo: bool, follower: Follower | None = None
    ) -> None:
        self.topic = topic
        self.link = link
        self.format = format
        self.echo = echo
        self.follower = follower
        self.state = State.JOINING
        self.epoch = ""
        self.offset = 0

    def on(self, event: str) -> None:
        """Move along the table. Raises ``KeyError`` for an event that cannot happen in this state."""
        self.state = TRANSITIONS[self.state, event]

    def write(self, payload: Any) -> None:
        """Hand the link a payload."""
        try:
            self.link.write(payload)
        except RuntimeError:  # uvloop's word for a socket that broke a moment ago; the link is on its way out
            return

    @property
    def member(self) -> Member | None:
        """Who follows, as the channel's presence lists it."""
        return self.link.member if self.follower is None else self.follower.member

    @property
    def position(self) -> Position:
        """After the last publication handed to the link. Meaningless while JOINING."""
        if self.state is State.LIVE:
            return self.topic.position
        return Position(self.epoch, self.offset)
