"""What was published and is not answered yet: bounded in count, bytes and age. Pure.

Everything goes out in the order it was published, and keeps its idempotency key until it is answered, so that
it can be sent again on whatever connection there is. That keeps the order, too: a connection that breaks has
delivered the first n of what was on the way, and what is sent again begins before or at n + 1. Where the
server refuses one for now, those behind it must not overtake it: each is sent with the number of the *round*,
the server refuses the rest of a round in which it has refused one, and all of them are sent again in the next
(go-back-N).
"""

import math
from collections.abc import Iterator
from typing import Final

__all__ = ["Item", "Outbox"]

_COMMAND: Final = 1024
"""Characters of a publish beside its data, at most: a channel's name has 255, and each may be escaped."""


class Item:
    """One publish. ``data`` is JSON; ``encoding``: of what ("" itself, "text", "base64"). ``is_sent``: the
    server may have it."""

    __slots__ = (
        "channel",
        "data",
        "encoding",
        "expires_at",
        "idempotency_key",
        "is_in_flight",
        "is_sent",
        "key",
    )

    def __init__(
        self, key: str, idempotency_key: str, channel: str, data: str, encoding: str, expires_at: float
    ) -> None:
        self.key = key
        self.idempotency_key = idempotency_key
        self.channel = channel
        self.data = data
        self.encoding = encoding
        self.expires_at = expires_at
        self.is_in_flight = self.is_sent = False


class Outbox:
    """Args: the bounds. Attributes: ``round`` is the number to send with; ``size_bytes`` what is held."""

    def __init__(self, *, max_items: int, max_bytes: int, max_in_flight: int) -> None:
        self._items: dict[str, Item] = {}
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._must_go_back = False
        self.round = 0
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: Item) -> bool:
        """Take one more; False where that is over a bound."""
        size = len(item.data)
        if len(self._items) >= self._max_items or self.size_bytes + size > self._max_bytes:
            return False
        self._items[item.key] = item
        self.size_bytes += size
        return True

    def get(self, key: str) -> Item | None:
        """The one with this key, while it is pending."""
        return self._items.get(key)

    def remove(self, key: str) -> Item | None:
        """It is answered, or given up."""
        item = self._items.pop(key, None)
        if item is not None:
            self.size_bytes -= len(item.data)
            self._landed(item)
        return item

    def refuse_for_now(self, key: str) -> bool:
        """The server does not take it yet. True where nothing is on the way any more, and the next round can
        be planned."""
        item = self._items.get(key)
        if item is not None:
            self._must_go_back = True
            self._landed(item)
        return self.is_round_over

    @property
    def is_round_over(self) -> bool:
        """Whether one was refused for now, and all that went with it have been answered."""
        return self._must_go_back and self._in_flight == 0

    def next_round(self) -> None:
        """What was refused may be sent again."""
        if self._must_go_back:
            self._must_go_back = False
            self.round += 1

    def to_send(self, max_bytes: float = math.inf) -> Iterator[Item]:
        """Those that may go out now, oldest first; each is on the way once it has been taken from the
        iterator.

        As commands they are together at most so large; the first may be larger.
        """
        if self._must_go_back:
            return
        size = 0
        for item in list(self._items.values()):
            if self._in_flight >= self._max_in_flight:
                return
            if not item.is_in_flight:
                size += len(item.data) + _COMMAND
                if size > max_bytes and size > len(item.data) + _COMMAND:
                    return
                item.is_in_flight = item.is_sent = True
                self._in_flight += 1
                yield item

    def recall(self) -> None:
        """The connection is gone: nothing is on the way any more, and a new connection begins with round
        0."""
        for item in self._items.values():
            item.is_in_flight = False
        self._in_flight = 0
        self._must_go_back = False
        self.round = 0

    def next_deadline(self) -> float | None:
        """When the oldest is too old."""
        return next(iter(self._items.values())).expires_at if self._items else None

    def take_expired(self, now: float) -> list[Item]:
        """Give up those that are too old. They leave with ``is_sent`` telling whether the server may have
        them."""
        expired = []
        for item in self._items.values():
            if item.expires_at > now:
                break
            expired.append(item)
        for item in expired:
            self.remove(item.key)
        return expired

    def take_all(self) -> list[Item]:
        """Give all up."""
        items = list(self._items.values())
        self._items.clear()
        self.size_bytes = self._in_flight = 0
        return items

    def take_largest_in_flight(self) -> Item | None:
        """Give up the one that was too large for the server."""
        item = max(
            (item for item in self._items.values() if item.is_in_flight),
            key=lambda item: len(item.data),
            default=None,
        )
        return None if item is None else self.remove(item.key)

    def _landed(self, item: Item) -> None:
        if item.is_in_flight:
            item.is_in_flight = False
            self._in_flight -= 1
