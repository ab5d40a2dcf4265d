"""What waits for a client's next poll.

In: parcels, from `EngineSession`. Out: all of them at once; the end of the wait of those that found it full.
"""

from collections.abc import Callable
from typing import Final

from heartwire.dialects.socketio.engine_io import Parcel
from heartwire.dialects.socketio.engine_ports import Waiter

__all__ = ["FULL_BYTES", "MAX_WAITING_BYTES", "Waiting"]

FULL_BYTES: Final = 16 * 1024
"""With more than this waiting, a session takes no more publications."""

MAX_WAITING_BYTES: Final = 1024 * 1024
"""With more than this waiting, a session ends."""


class Waiting:
    """See the module.

    Attributes:
        parcels: in order.
        size: about their bytes.
    """

    __slots__ = ("_emptied", "parcels", "size")

    def __init__(self) -> None:
        self.parcels: list[Parcel] = []
        self.size = 0
        self._emptied: Waiter | None = None

    def add(self, parcel: Parcel) -> bool:
        """Add one. False where that is too much, and the session has to end."""
        self.parcels.append(parcel)
        self.size += parcel.size
        return self.size <= MAX_WAITING_BYTES

    def take(self, max_messages: int = 0) -> list[Parcel]:
        """All of them, or so many messages; they wait no more."""
        parcels, self.parcels = self.parcels, []
        if max_messages:
            parcels, self.parcels = _split(parcels, max_messages)
        self.size = sum([parcel.size for parcel in self.parcels])
        if self.parcels:
            return parcels
        emptied, self._emptied = self._emptied, None
        if emptied is not None and not emptied.done():
            emptied.set_result(None)
        return parcels

    @property
    def is_full(self) -> bool:
        """Whether publications have to wait elsewhere."""
        return self.size > FULL_BYTES

    async def emptied(self, make: Callable[[], Waiter]) -> None:
        """Wait while it is full, by what ``make`` makes."""
        if self.is_full:
            if self._emptied is None:
                self._emptied = make()
            await self._emptied


def _split(parcels: list[Parcel], max_messages: int) -> tuple[list[Parcel], list[Parcel]]:
    """The first messages, and the rest."""
    left = max_messages
    for at, parcel in enumerate(parcels):
        if len(parcel.messages) > left:
            messages = parcel.messages
            first = [*parcels[:at], Parcel(messages[:left])] if left else parcels[:at]
            return first, [Parcel(messages[left:]), *parcels[at + 1 :]]
        left -= len(parcel.messages)
    return parcels, []
