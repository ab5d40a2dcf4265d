"""One followed channel: its position, and which publications are new. Pure.

Whatever happens to the connection, publications are delivered in the order of their offsets, each once; those
that the server no longer has are reported as a gap with both its ends.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from heartwire.client.outputs import Delivered
from heartwire.client.wire import Pub
from heartwire.types import Position

__all__ = ["ChannelState"]


@dataclass(slots=True, eq=False)
class ChannelState:
    """One followed channel."""

    channel: str
    since: Position | Literal["earliest"] | None  # begin after it, with the oldest kept, or from now on
    token: str = ""  # of the subscription
    position: Position | None = None  # of the last publication delivered, once the server has sent one
    is_live: bool = False  # pushes of the server belong to this subscription
    is_paused: bool = False  # its reader is too slow; nothing is wanted until it has caught up
    is_positioned: bool = True
    is_server_side: bool = False  # the server has made the subscription, and ends it
    is_wanted: bool = True  # the application has asked for it, whoever made it
    refusals: int = 0  # how often in a row the server has refused it for now
    not_before: float = 0.0  # when it may be asked for again after that

    def __post_init__(self) -> None:
        if isinstance(self.since, Position):
            self.position = self.since

    @property
    def wants_earliest(self) -> bool:
        """Whether it has yet to begin, with the oldest publication kept."""
        return self.position is None and self.since == "earliest"

    def subscribed(
        self,
        epoch: str,
        offset: int,
        *,
        was_recovering: bool,
        recovered: bool,
        asked: Position | None,
        first: int = 0,
    ) -> tuple[Position, Position] | None:
        """Take the server's answer. Return the two ends of a gap, where there is one.

        Another connection may have gone on from the position ``asked`` for. ``first`` is the offset of the
        first publication in the answer; 0 where there is none.
        """
        self.is_live = True
        self.is_positioned = bool(epoch)
        if not self.is_positioned:
            return None
        before = self.position
        if before is not None and was_recovering and recovered:
            # A channel in cache mode begins with its newest publication, and calls that recovered. The epoch
            # is the same, or was not known.
            self.position = Position(epoch, max(before.offset, first - 1))
            return None if self.position.offset == before.offset else (before, self.position)
        if before is not None and before != asked and epoch == before.epoch and offset <= before.offset:
            return None
        self.position = Position(epoch, offset)
        return None if before in (None, self.position) else (before, self.position)

    def news(self, pubs: Sequence[Pub]) -> Iterator[Pub]:
        """Yield those not delivered yet. At a hole `is_live` turns false: subscribe the channel again."""
        for pub in pubs:
            position = self.position
            if position is None or not self.is_positioned or not pub.offset:
                yield pub  # a channel without a history has no positions
            elif pub.offset == position.offset + 1:
                self.position = Position(position.epoch, pub.offset)
                yield pub
            elif pub.offset > position.offset:
                self.is_live = False
                return

    def lost(self) -> None:
        """Note that the connection is gone, or the subscription on it."""
        self.is_live = False

    def subscribe_body(self) -> dict[str, Any]:
        """Return the body of a ``subscribe`` that goes on after `position`."""
        body: dict[str, Any] = {"channel": self.channel}
        if self.token:
            body["token"] = self.token
        if self.position is not None or self.wants_earliest:
            epoch, offset = self.position or ("", 0)
            body |= {"recover": True, "epoch": epoch, "offset": offset, "from_oldest": True}
        return body

    def delivered(self, pub: Pub) -> Delivered:
        """Return the output for a publication."""
        epoch = self.position.epoch if self.position is not None and pub.offset else ""
        return Delivered.of(self.channel, epoch, pub)
