"""Long polls: a link that takes the first news and no more.

In: payloads, from core. Out: ``news``, once ``answered`` is set. The dialects' poll handlers make a `Poll`,
wait for it and write the answer.
"""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from heartwire.core.link import OwnSink
from heartwire.core.subscription import Subscription
from heartwire.core.switchboard import Switchboard
from heartwire.errors import Refused
from heartwire.types import Channel, Member, Position, Publication

__all__ = ["News", "Poll", "PollFormat", "jittered_wait_s"]

News = tuple[Channel, list[bytes], Position, bool, Publication | None]
"""Channel, encoded publications, the position after them, whether they continue the poll's position, and what
closes the stream."""


class PollFormat:
    """`WireFormat` of poll answers. ``encode`` is the dialect's."""

    def __init__(self, encode: Callable[[Publication], bytes]) -> None:
        self.encode = encode

    def join(self, frames: list[bytes], last: Publication) -> News:
        """See `WireFormat.join`."""
        return last.channel, frames, last.position, True, None

    def joined(self, channel: Channel, position: Position, *, recovered: bool) -> News:
        """See `WireFormat.joined`."""
        return channel, [], position, recovered, None

    def ended(self, end: Publication) -> News:
        """See `WireFormat.ended`. The position is that of the last message."""
        return end.channel, [], Position(end.epoch, end.offset - 1), True, end


class Poll(OwnSink):
    """A `Link` that gathers news until the waiter for ``answered`` wakes up, one turn of the event loop."""

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
        _, frames, _, recovered, end = payload
        if frames or not recovered or end is not None:
            self.answered.set()

    def close(self, code: int, reason: str) -> None:
        """See `Link.close`. A poll that ends early has nothing to report: its position still holds."""
        self.answered.set()

    def refuse(self, refusal: Refused) -> None:
        """End the poll with an error."""
        self.refusal = refusal
        self.answered.set()


def jittered_wait_s(wait_s: float, chance: Random) -> float:
    """Draw the time to hold a poll that asks for ``wait_s``: nine tenths of it to all of it.

    Polls that were answered together would else time out and come back together. Never longer than
    ``wait_s``, which the client or a proxy enforces.
    """
    return wait_s * (1 - chance.random() / 10)
