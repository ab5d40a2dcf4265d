"""The one rule for a peer that takes nothing, on every door: what a full link owes, and whether it shrinks.

In: sizes, from a link, which makes a `Backlog` when it becomes full. Out: verdicts, to the link and, by
`Watched.takes`, to the liveness wheel.
"""

import asyncio
from typing import Final

__all__ = ["MAX_OWED_BYTES", "Backlog"]

MAX_OWED_BYTES: Final = 1024 * 1024
"""What may wait for a peer besides publications, which never wait: replies, refusals, heartbeats, pongs,
joins. Over that the link closes with ``slow``."""


class Backlog:
    """What waits for one peer, from the moment its link is full until it has drained.

    Args:
        waiting_bytes: written and not taken; here and below the link's measure.
    """

    __slots__ = ("_drained", "_owed_bytes", "_seen_bytes")

    def __init__(self, waiting_bytes: int) -> None:
        self._owed_bytes = 0
        self._seen_bytes = waiting_bytes
        self._drained: asyncio.Future[None] | None = None

    def owe(self, size: int, waiting_bytes: int) -> bool:
        """Count bytes that are to be written all the same; False where that is over `MAX_OWED_BYTES`."""
        self._owed_bytes += size
        # Pipes are in order: what was written since it is full is taken last.
        return min(self._owed_bytes, waiting_bytes + size) <= MAX_OWED_BYTES

    def look(self, waiting_bytes: int) -> None:
        """Compare with this moment from now on."""
        self._seen_bytes = waiting_bytes - self._owed_bytes

    def has_shrunk(self, waiting_bytes: int) -> bool:
        """Whether the peer has taken anything since `look`, whatever was written meanwhile."""
        return waiting_bytes - self._owed_bytes < self._seen_bytes

    def drained(self) -> "asyncio.Future[None]":
        """What to await before more is done for this peer; it ends with `end` at the latest."""
        if self._drained is None:
            self._drained = asyncio.get_running_loop().create_future()
        return self._drained

    def end(self) -> None:
        """It has drained, or the link is closed."""
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
