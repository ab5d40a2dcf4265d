"""The newest entries of a namespace's stream on this node, for clients that are a little behind."""

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Final

from heartwire.server.socketio.members import Routed

__all__ = ["Tail"]

MAX_ITEMS: Final = 1024
MAX_BYTES: Final = 256 * 1024
"""Over these the oldest go; clients that need them are read for from the engine."""


class Tail:
    """See the module. Its offsets have no holes, and end where the router is."""

    def __init__(self) -> None:
        self._items: deque[Routed] = deque()
        self._bytes = 0

    def add(self, batch: Iterable[Routed]) -> None:
        """Add the next entries."""
        for one in batch:
            self._items.append(one)
            self._bytes += one.size
        while len(self._items) > MAX_ITEMS or self._bytes > MAX_BYTES:
            self._bytes -= self._items.popleft().size

    def last(self, count: int) -> list[Routed] | None:
        """The last entries; ``None`` where it has not so many."""
        if count > len(self._items):
            return None
        return list(islice(self._items, len(self._items) - count, None)) if count > 0 else []

    def clear(self) -> None:
        """Forget all: what comes next does not follow."""
        self._items.clear()
        self._bytes = 0
