"""What is published: taken or refused, sent in rounds, answered or given up. Pure; the queue itself is the
`Outbox`."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

from msgspec import Raw

from heartwire.client import outputs as out
from heartwire.client.options import Options
from heartwire.client.outbox import Item, Outbox
from heartwire.client.states import LIMIT_EXCEEDED, LOCAL
from heartwire.client.wire import Reply, retry_after_s

__all__ = ["Publishing"]

_RESEND_S: Final = 0.25
_RESEND_CAP_S: Final = 5.0


class Publishing:
    """Args: the options, where outputs and deadlines go, the prefix of idempotency keys, and chance."""

    def __init__(
        self,
        options: Options,
        outputs: list[out.Output],
        deadlines: dict[str, float],
        *,
        prefix: str,
        draw: Callable[[], float],
    ) -> None:
        self.outbox = Outbox(
            max_items=options.max_pending_items,
            max_bytes=options.max_pending_bytes,
            max_in_flight=options.max_in_flight,
        )
        self._options = options
        self._outputs = outputs
        self._deadlines = deadlines
        self._prefix = prefix
        self._draw = draw
        self._serial = self._resends = 0
        self._not_before = -math.inf

    def add(
        self, channel: str, data: str, encoding: str, idempotency_key: str, now: float, *, is_closed: bool
    ) -> str:
        """Take a publish, or refuse it at once; its key."""
        self._serial += 1
        key = f"{self._prefix}-{self._serial}"
        item = Item(
            key, idempotency_key or key, channel, data, encoding, now + self._options.max_pending_age_s
        )
        if is_closed:
            self._reject(item, LOCAL, "the client is closed")
        elif len(data) > self._options.max_message_bytes:
            limit = f"over the limit of {self._options.max_message_bytes} (max_message_bytes)"
            self._reject(item, LIMIT_EXCEEDED, f"a message of {len(data)} characters is {limit}")
        elif not self.outbox.add(item):
            self._reject(
                item,
                LIMIT_EXCEEDED,
                f"{len(self.outbox)} publishes wait already (max_pending_items, max_pending_bytes)",
            )
        else:
            self._watch()
        return item.key

    def online(self, now: float) -> None:
        """There is a connection: what the server did not take for now waits its time on this one too."""
        if self._not_before > now:
            self._deadlines["resend"] = self._not_before

    def lost(self) -> None:
        """There is none any more, and nothing is on its way."""
        self.outbox.recall()
        self._deadlines.pop("resend", None)

    def to_send(self, max_bytes: float) -> Iterator[tuple[str, dict[str, Any]]]:
        """Keys and commands that may go out now: see `Outbox.to_send`."""
        if "resend" not in self._deadlines:
            for item in self.outbox.to_send(max_bytes):
                yield item.key, _publish(item, self.outbox.round)

    def answered(self, key: str, reply: Reply, now: float) -> None:
        """An answer came."""
        if reply.error is not None and reply.error.temporary:
            self.outbox.refuse_for_now(key)
            # The first of a round says when; the last, at which the next is planned, only that it came after
            # the first.
            self._not_before = max(self._not_before, now + retry_after_s(reply.error.message))
            self._plan_round(now)
            return
        item = self.outbox.remove(key)
        self._plan_round(now)
        self._watch()
        if item is not None and reply.error is not None:
            item.is_sent = False
            self._reject(item, reply.error.code, reply.error.message)
        elif item is not None:
            self._resends = 0
            epoch, offset = (reply.publish.epoch, reply.publish.offset) if reply.publish else ("", 0)
            self._outputs.append(out.Published(key, epoch, offset))

    def reject_largest(self, reason: str) -> None:
        """The server ended the connection because of a message that is too large for it."""
        item = self.outbox.take_largest_in_flight()
        if item is not None:
            self._reject(item, LIMIT_EXCEEDED, reason)

    def expire(self, now: float) -> None:
        """Give up what is too old."""
        for item in self.outbox.take_expired(now):
            self._reject(
                item, LOCAL, f"not answered within {self._options.max_pending_age_s:g} s (max_pending_age_s)"
            )
        self._watch()
        self._plan_round(now)

    def give_up(self, reason: str) -> None:
        """No connection will come any more."""
        for item in self.outbox.take_all():
            self._reject(item, LOCAL, reason)

    def _plan_round(self, now: float) -> None:
        if self.outbox.is_round_over and "resend" not in self._deadlines:
            limit_s = min(_RESEND_CAP_S, _RESEND_S * 2.0 ** min(self._resends, 60))
            self._resends += 1
            self._deadlines["resend"] = max(now + limit_s * (0.5 + self._draw() / 2), self._not_before)

    def _watch(self) -> None:
        deadline = self.outbox.next_deadline()
        if deadline is None:
            self._deadlines.pop("outbox", None)
        else:
            self._deadlines["outbox"] = deadline

    def _reject(self, item: Item, code: int, message: str) -> None:
        self._outputs.append(out.Rejected(item.key, code, message, item.is_sent))


def _publish(item: Item, round: int) -> dict[str, Any]:
    body = {
        "channel": item.channel,
        "data": Raw(item.data.encode()),
        "idempotency_key": item.idempotency_key,
        "round": round,
    }
    return body | {"encoding": item.encoding} if item.encoding else body
