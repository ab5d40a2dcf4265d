"""Requests (presence, history, rpc) that are not answered yet: bounded in count, bytes and age. Pure."""

from collections.abc import ItemsView
from dataclasses import dataclass
from typing import Any

from heartwire.client import outputs as out
from heartwire.client.context import Context
from heartwire.client.states import LIMIT_EXCEEDED, LOCAL
from heartwire.client.wire import Reply, frame_bytes, max_frame_bytes, text

__all__ = ["Request", "Requests"]


@dataclass(slots=True, eq=False)
class Request:
    """Reads are sent again on the next connection; an ``rpc``, which may have been carried out, is not."""

    method: str
    body: dict[str, Any]
    size: int
    expires_at: float
    is_sent: bool = False


class Requests:
    """The pending requests of one client; their bodies have ``size_bytes`` characters."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._options, self._outputs, self._deadlines = context.options, context.outputs, context.deadlines
        self._waiting: dict[int, Request] = {}
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, id: int, method: str, body: dict[str, Any]) -> Request | None:
        """Return the request, ``None`` where it fails at once. ``TypeError``: ``body`` cannot be JSON."""
        if self._context.is_closed:
            self._failed(id, LOCAL, "the client is closed")
            return None
        options, size = self._options, len(text(body))
        is_too_large = frame_bytes(body) > max_frame_bytes(options.max_message_bytes)
        if is_too_large or size > options.max_message_bytes:
            limit = f"over the limit of {options.max_message_bytes} (max_message_bytes)"
            self._failed(id, LIMIT_EXCEEDED, f"a request of {size} characters is {limit}")
        elif len(self) >= options.max_pending_items or self.size_bytes + size > options.max_pending_bytes:
            limit = "(max_pending_items, max_pending_bytes)"
            self._failed(id, LIMIT_EXCEEDED, f"{len(self._waiting)} requests wait already {limit}")
        else:
            expires_at = self._context.now + options.request_timeout_s
            request = self._waiting[id] = Request(method, body, size, expires_at)
            self.size_bytes += size
            self._deadlines.setdefault("request", expires_at)
            return request
        return None

    def items(self) -> ItemsView[int, Request]:
        """Return the pending requests by id, oldest first."""
        return self._waiting.items()

    def lost(self) -> None:
        """Note that the connection is gone, and what was in flight with it."""
        for id, request in list(self._waiting.items()):
            if request.is_sent and request.method == "rpc":
                self._give_up(id, "the connection was lost", is_unknown=True)
            request.is_sent = False

    def cancel(self, id: int) -> Request | None:
        """Forget a request. Return it, if it was still pending."""
        request = self._waiting.pop(id, None)
        if request is not None:
            self.size_bytes -= request.size
        return request

    def answered(self, id: int, method: str, reply: Reply) -> None:
        """Take the server's answer."""
        if self.cancel(id) is None:
            return
        if reply.error is not None:
            self._failed(id, reply.error.code, reply.error.message)
        else:
            self._outputs.append(out.Answered(id, bytes(getattr(reply, method)).decode() or "{}"))

    def expire(self) -> None:
        """Give up those that were not answered in time."""
        limit = f"{self._options.request_timeout_s:g} s (request_timeout_s)"
        for id, request in list(self._waiting.items()):
            if request.expires_at <= self._context.now:
                self._give_up(id, f"not answered within {limit}", is_unknown=request.is_sent)
        if self._waiting:
            self._deadlines["request"] = min(request.expires_at for request in self._waiting.values())

    def give_up(self, reason: str) -> None:
        """Give up all: there will be no other connection."""
        for id in list(self._waiting):
            self._give_up(id, reason, is_unknown=False)

    def _give_up(self, id: int, reason: str, *, is_unknown: bool) -> None:
        self.cancel(id)
        self._outputs.append(out.Failed(id, LOCAL, reason, is_unknown))

    def _failed(self, id: int, code: int, reason: str) -> None:
        self._outputs.append(out.Failed(id, code, reason, False))
