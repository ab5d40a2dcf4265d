"""Long polls: a link that wants the first news, and no more."""

import asyncio
from collections.abc import Callable
from typing import Any

from heartwire.core.link import OwnSink
from heartwire.core.subscription import Subscription
from heartwire.core.switchboard import Switchboard
from heartwire.errors import Refused
from heartwire.types import Channel, Member, Position, Publication

__all__ = ["News", "Poll", "PollFormat"]

News = tuple[Channel, list[bytes], Position, bool]
"""Publications of a channel, the position after them, and whether they continue what was before."""


class PollFormat:
    """`WireFormat` of poll answers. ``encode`` writes one publication."""

    def __init__(self, encode: Callable[[Publication], bytes]) -> None:
        self.encode = encode

    def join(self, frames: list[bytes], last: Publication) -> News:
        """See `WireFormat.join`."""
        return last.channel, frames, last.position, True

    def joined(self, channel: Channel, position: Position, *, recovered: bool) -> News:
        """See `WireFormat.joined`."""
        return channel, [], position, recovered


class Poll(OwnSink):
    """A `Link` that gathers what comes until whoever waits for ``answered`` wakes up: one turn of the event
    loop."""

    def __init__(self, switchboard: Switchboard, *, serial: int) -> None:
        self.serial = serial
        self.paused = False
        self.member: Member | None = None
        self.subscriptions: list[Subscription] = []
        self.answered = asyncio.Event()
        self.news: list[News] = []
        self.refusal: Refused | None = None

    def write(self, payload: Any) -> None:
        """See `Link.write`."""
        self.news.append(payload)
        _, frames, _, recovered = payload
        if frames or not recovered:
            self.answered.set()

    def close(self, code: int, reason: str) -> None:
        """See `Link.close`. A poll that is ended early has nothing to report: its position still holds."""
        self.answered.set()

    def refuse(self, refusal: Refused) -> None:
        """End the poll with an error."""
        self.refusal = refusal
        self.answered.set()
