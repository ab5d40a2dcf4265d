"""Streams whose producers are dead are ended for those who follow them here.

In: channels, as they are followed here; the time. Out: `Streams.look`, which ends them. Every node looks at
what its own readers wait for; the first to see that a lease is over ends the stream, for all.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from heartwire.errors import HeartwireError, Refused
from heartwire.streams.streams import Streams
from heartwire.types import Channel

__all__ = ["Leases"]

log = logging.getLogger("heartwire")

_AT_ONCE: Final = 200
"""Streams that are looked at at a time."""


class Leases:
    """See the module.

    Args:
        lease_s: how often a stream is looked for that is not there yet.
        now: monotonic seconds.
        is_here: whether a stream is written here, by a run that lives.
    """

    def __init__(
        self,
        streams: Streams,
        *,
        lease_s: float,
        now: Callable[[], float],
        is_here: Callable[[Channel], bool],
    ) -> None:
        self._streams = streams
        self._lease_s = lease_s
        self._now = now
        self._is_here = is_here
        self._due: dict[Channel, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def follow(self, channel: Channel) -> None:
        """Look after a durable stream, which may be another than before."""
        self._due[channel] = self._now()

    def unfollow(self, channel: Channel) -> None:
        """Nobody follows it here any more."""
        self._due.pop(channel, None)

    def advance(self) -> None:
        """Look at the streams whose leases may be over. Call it about every second, or more often."""
        now = self._now()
        due = [channel for channel, when in self._due.items() if when <= now]
        for channel in due[: _AT_ONCE - len(self._tasks)]:
            self._due[channel] = now + self._lease_s
            if not self._is_here(channel):
                task = asyncio.get_running_loop().create_task(self._look(channel))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _look(self, channel: Channel) -> None:
        try:
            record, _, found = await self._streams.look(channel)
        except Refused:
            return  # it is not there yet
        except HeartwireError as error:
            log.warning("the lease of stream %r could not be read: %s", channel, error)
            return
        if channel not in self._due:
            return
        if record.owner and record.lease_s:
            left_s = record.lease_s - (found.now_ms - found.written_ms) / 1000
            self._due[channel] = self._now() + left_s
        else:  # closed, or nobody's: it stays so
            del self._due[channel]
