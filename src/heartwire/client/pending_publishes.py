"""Publishes that are not answered yet: bounded in count, bytes and age, and sent in order. Pure.

Publishes go out in the order of the calls, and each keeps its idempotency key until it is answered, so that
it can be sent again on the next connection. This keeps the order, too: a connection that breaks has delivered
the first n of those in flight, and resending begins at or before n + 1.

A publish that the server refuses for now must not be overtaken (go-back-N): each is sent with the number of
its *round*, the server refuses the rest of a round in which it has refused one, and all of them are sent
again in the next round.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final

from msgspec import Raw

from heartwire.client import outputs as out
from heartwire.client.context import Context
from heartwire.client.states import LIMIT_EXCEEDED, LOCAL
from heartwire.client.wire import Reply, frame_bytes, max_frame_bytes, retry_after_s

__all__ = ["Item", "PendingPublishes"]

_COMMAND: Final = 1024
"""Most characters of a publish beside its data: a channel's name has 255, and each may be escaped."""

_RESEND_S: Final = 0.25
_RESEND_CAP_S: Final = 5.0


@dataclass(slots=True, eq=False)
class Item:
    """One publish."""

    key: str
    idempotency_key: str
    channel: str
    data: str  # JSON
    encoding: str  # how to read ``data``: "" as itself, "text" or "base64"
    size: int  # of its JSON, in characters, as in heartwire.js
    expires_at: float
    is_in_flight: bool = False
    is_sent: bool = False  # the server may have it

    def body(self, round: int) -> dict[str, Any]:
        """Return the body of the command."""
        body: dict[str, Any] = {"channel": self.channel, "data": Raw(self.data.encode())}
        body |= {"idempotency_key": self.idempotency_key, "round": round}
        return body | {"encoding": self.encoding} if self.encoding else body


class PendingPublishes:
    """The pending publishes of one client: ``size_bytes`` characters of data, sent in rounds."""

    def __init__(self, context: Context, *, prefix: str) -> None:
        self.round = self.size_bytes = 0
        self._context = context
        self._options, self._outputs, self._deadlines = context.options, context.outputs, context.deadlines
        self._prefix = prefix
        self._items: dict[str, Item] = {}
        self._in_flight = self._serial = self._resends = 0
        self._must_go_back = False
        self._not_before = -math.inf

    def __len__(self) -> int:
        return len(self._items)

    def add(self, channel: str, data: str, encoding: str, idempotency_key: str) -> str:
        """Add a publish, or reject it at once where a bound is exceeded. Return its key."""
        options, size = self._options, len(data)
        self._serial += 1
        key = f"{self._prefix}-{self._serial}"
        expires_at = self._context.now + options.max_pending_age_s
        item = Item(key, idempotency_key or key, channel, data, encoding, size, expires_at)
        if self._context.is_closed:
            self._reject(item, LOCAL, "the client is closed")
        elif size > options.max_message_bytes:
            limited = f"over the limit of {options.max_message_bytes} (max_message_bytes)"
            self._reject(item, LIMIT_EXCEEDED, f"a message of {size} characters is {limited}")
        elif (frame := frame_bytes(item.body(0))) > (limit := max_frame_bytes(options.max_message_bytes)):
            limited = f"over the limit of {limit} (max_message_bytes)"
            self._reject(
                item, LIMIT_EXCEEDED, f"a message of {size} characters in a frame of {frame} is {limited}"
            )
        elif self._is_full(size):
            limited = "(max_pending_items, max_pending_bytes)"
            self._reject(item, LIMIT_EXCEEDED, f"{len(self)} publishes wait already {limited}")
        else:
            self._items[key] = item
            self.size_bytes += size
            self._watch()
        return key

    # -- sending ---------------------------------------------------------------------------------------------

    def online(self) -> None:
        """Note a new connection. A refusal for now holds on this one, too."""
        if self._not_before > self._context.now:
            self._deadlines["resend"] = self._not_before

    def lost(self) -> None:
        """Note that the connection is gone: nothing is in flight, and the next one begins with round 0."""
        for item in self._items.values():
            item.is_in_flight = False
        self._in_flight = self.round = 0
        self._must_go_back = False
        self._deadlines.pop("resend", None)

    def to_send(self, max_bytes: float = math.inf) -> Iterator[Item]:
        """Yield what may be sent now, oldest first; each is in flight once it is taken from the iterator.

        As commands they have at most ``max_bytes`` together; the first may be larger.
        """
        if self._must_go_back or "resend" in self._deadlines:
            return
        size = 0
        for item in list(self._items.values()):
            if self._in_flight >= self._options.max_in_flight:
                return
            if not item.is_in_flight:
                size += len(item.data) + _COMMAND
                if size > max_bytes and size > len(item.data) + _COMMAND:
                    return
                item.is_in_flight = item.is_sent = True
                self._in_flight += 1
                yield item

    def next_round(self) -> None:
        """Allow what was refused for now to be sent again."""
        if self._must_go_back:
            self._must_go_back = False
            self.round += 1

    @property
    def is_round_over(self) -> bool:
        """Whether one was refused for now, and everything sent with it has been answered."""
        return self._must_go_back and self._in_flight == 0

    # -- the end of a publish --------------------------------------------------------------------------------

    def answered(self, key: str, reply: Reply) -> None:
        """Take the server's answer."""
        if reply.error is not None and reply.error.temporary:
            self._refused_for_now(key)
            # The first refusal of a round says when to retry; the last, at which the next round is planned,
            # only says that it came after the first.
            self._not_before = max(self._not_before, self._context.now + retry_after_s(reply.error.message))
            self._plan_round()
            return
        item = self._remove(key)
        self._plan_round()
        self._watch()
        if item is not None and reply.error is not None:
            item.is_sent = False
            self._reject(item, reply.error.code, reply.error.message)
        elif item is not None:
            self._resends = 0
            epoch, offset = (reply.publish.epoch, reply.publish.offset) if reply.publish else ("", 0)
            self._outputs.append(out.Published(key, epoch, offset))

    def reject_largest(self, reason: str) -> None:
        """Reject the largest one in flight: it was too large for the server, which closed the connection."""
        in_flight = [item for item in self._items.values() if item.is_in_flight]
        if in_flight:
            item = max(in_flight, key=lambda item: len(item.data))
            self._remove(item.key)
            self._reject(item, LIMIT_EXCEEDED, reason)

    def expire(self) -> None:
        """Reject those that are too old."""
        limit = f"{self._options.max_pending_age_s:g} s (max_pending_age_s)"
        for item in list(takewhile(lambda item: item.expires_at <= self._context.now, self._items.values())):
            self._remove(item.key)
            self._reject(item, LOCAL, f"not answered within {limit}")
        self._watch()
        self._plan_round()

    def give_up_one(self, key: str, reason: str) -> None:
        """Reject one, if it is still pending."""
        item = self._remove(key)
        if item is not None:
            self._reject(item, LOCAL, reason)
            self._watch()
            self._plan_round()

    def give_up(self, reason: str) -> None:
        """Reject all: there will be no other connection."""
        items = list(self._items.values())
        self._items.clear()
        self.size_bytes = self._in_flight = 0
        for item in items:
            self._reject(item, LOCAL, reason)

    def _is_full(self, size: int) -> bool:
        options = self._options
        return len(self) >= options.max_pending_items or self.size_bytes + size > options.max_pending_bytes

    def _refused_for_now(self, key: str) -> None:
        item = self._items.get(key)
        if item is not None:
            self._must_go_back = True
            self._landed(item)

    def _remove(self, key: str) -> Item | None:
        item = self._items.pop(key, None)
        if item is not None:
            self.size_bytes -= item.size
            self._landed(item)
        return item

    def _landed(self, item: Item) -> None:
        if item.is_in_flight:
            item.is_in_flight = False
            self._in_flight -= 1

    def _plan_round(self) -> None:
        if self.is_round_over and "resend" not in self._deadlines:
            limit_s = min(_RESEND_CAP_S, _RESEND_S * 2.0 ** min(self._resends, 60))
            self._resends += 1
            due = self._context.now + limit_s * (0.5 + self._context.draw() / 2)
            self._deadlines["resend"] = max(due, self._not_before)

    def _watch(self) -> None:
        oldest = next(iter(self._items.values()), None)
        if oldest is None:
            self._deadlines.pop("publish", None)
        else:
            self._deadlines["publish"] = oldest.expires_at

    def _reject(self, item: Item, code: int, message: str) -> None:
        self._outputs.append(out.Rejected(item.key, code, message, item.is_sent))
