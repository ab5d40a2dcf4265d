"""One followed channel: where it stands, and what of the things that come in is news. Pure.

Whatever happened to the connection in between, publications are told in the order of their offsets, each
once; what the server cannot give any more is told as a gap with both its ends.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from heartwire.client.wire import Pub
from heartwire.types import Position

__all__ = ["ChannelState"]


class ChannelState:
    """Args: the channel, and where to begin: ``None`` with what is published from now on, "earliest" with the
    oldest kept.

    Attributes:
        position: where it stands; ``None`` before the server has said so.
        is_live: what the server pushes belongs to it.
        is_paused: its reader is too slow; nothing is wanted until it has caught up.
        is_server_side: the server has made it, and says when it ends.
        is_wanted: the application has asked for it, whoever has made it.
        refusals, not_before: how often in a row the server has refused it for now, and until when it is not
            asked again.
    """

    __slots__ = (
        "channel",
        "is_live",
        "is_paused",
        "is_positioned",
        "is_server_side",
        "is_wanted",
        "not_before",
        "position",
        "refusals",
        "since",
        "token",
    )

    def __init__(self, channel: str, since: Position | Literal["earliest"] | None, token: str = "") -> None:
        self.channel = channel
        self.since = since
        self.token = token
        self.position: Position | None = since if isinstance(since, Position) else None
        self.is_live = self.is_paused = self.is_server_side = False
        self.is_positioned = self.is_wanted = True
        self.refusals = 0
        self.not_before = 0.0

    @property
    def wants_earliest(self) -> bool:
        """Whether it has not begun yet, and is to begin with the oldest that is kept."""
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
        """The server follows it for us. A gap, where there is one: after which position, and after which
        position it goes on.

        ``asked`` is the position when it was asked: another connection may have gone on from there meanwhile.
        ``first`` is the
        offset of what it begins with, 0: of nothing.
        """
        self.is_live = True
        self.is_positioned = bool(epoch)
        if not self.is_positioned:
            return None
        before = self.position
        if before is not None and was_recovering and recovered:
            # A channel in cache mode begins with its newest, and calls that recovered. The epoch is the same,
            # or was not known.
            self.position = Position(epoch, max(before.offset, first - 1))
            return None if self.position.offset == before.offset else (before, self.position)
        if before is not None and before != asked and epoch == before.epoch and offset <= before.offset:
            return None
        self.position = Position(epoch, offset)
        return None if before in (None, self.position) else (before, self.position)

    def news(self, pubs: Sequence[Pub]) -> Iterator[Pub]:
        """Those that were not told yet. It stops before a hole: then `is_live` is off, and the channel has to
        be asked for anew."""
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
        """The connection is gone, or the subscription on it."""
        self.is_live = False
