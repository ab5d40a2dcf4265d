"""The calls of a shared engine that wait for its store, in the order they were made.

In: calls; what becomes of the connection and of the store's answers. Out: which call to send next, and the
errors of those that fail. Pure but for the futures. One `Calls` for each ordered connection, one `Room` for
all of them.
"""

import asyncio
from collections import deque
from typing import Any, Final

from heartwire.errors import EngineError, EngineUnavailable, EngineUncertain

__all__ = ["MAX_BYTES", "MAX_CALLS", "Call", "Calls", "Room", "retry_s"]

MAX_CALLS: Final = 20_000
MAX_BYTES: Final = 128 * 1024 * 1024

_RETRY_S: Final = (0.05, 2.0)
_BEHIND: Final = "what came before it was not stored"


class Call:
    """One call.

    Attributes:
        kind, parts: what the store is asked; the engine's own.
        answer: the future of its caller; ``None``: nobody waits for it.
        is_append: a failure of it fails the later ones.
        is_once: it is dropped, where the connection broke before its answer; else it is sent again.
        is_doubtful: the store may have it, since a connection broke before its answer.
    """

    __slots__ = (
        "answer",
        "is_append",
        "is_doubtful",
        "is_once",
        "kind",
        "made_at",
        "parts",
        "seen",
        "sent_at",
        "size",
    )

    def __init__(
        self,
        kind: Any,
        parts: Any,
        answer: "asyncio.Future[Any] | None",
        *,
        size: int = 0,
        is_append: bool = False,
        is_once: bool = False,
    ) -> None:
        self.kind, self.parts, self.answer, self.size = kind, parts, answer, size
        self.is_append, self.is_once, self.is_doubtful = is_append, is_once, False
        self.made_at = self.sent_at = 0.0
        self.seen = 0

    def succeed(self, value: Any) -> None:
        """Answer it, unless its caller has gone."""
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(value)

    def fail(self, error: EngineError) -> None:
        """The same with an error."""
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # its caller may be gone


class Room:
    """How many calls are under way, and how large they are together: at most `MAX_CALLS` and `MAX_BYTES`."""

    __slots__ = ("_emptied", "bytes", "calls")

    def __init__(self) -> None:
        self.calls = self.bytes = 0
        self._emptied: asyncio.Future[None] | None = None

    def enter(self, call: Call) -> None:
        self.calls += 1
        self.bytes += call.size

    def leave(self, call: Call) -> None:
        self.calls -= 1
        self.bytes -= call.size
        if not self.calls and self._emptied is not None:
            if not self._emptied.done():
                self._emptied.set_result(None)
            self._emptied = None

    async def emptied(self) -> None:
        """Wait until no call is under way. For one caller."""
        if self.calls:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied

    def check(self, size: int) -> None:
        """Raises `EngineUnavailable` where a call of ``size`` bytes does not fit any more."""
        if self.calls >= MAX_CALLS or self.bytes + size > MAX_BYTES:
            raise EngineUnavailable(f"{self.calls} calls are waiting for the store; nothing was stored")


class Calls:
    """See the module.

    Promises: an append that fails fails all later ones that were made before its caller heard of it, unless
    the store had answered them, or does, with success.
    """

    def __init__(self, room: Room) -> None:
        self.waiting: deque[Call] = deque()
        self.sent: deque[Call] = deque()
        self._room = room
        self._failures = 0

    def __len__(self) -> int:
        return len(self.waiting) + len(self.sent)

    def add(self, call: Call, now: float) -> None:
        """A new call waits to be sent. `Room.check` has been made."""
        call.made_at, call.seen = now, self._failures
        self._room.enter(call)
        self.waiting.append(call)

    def peek(self) -> Call | None:
        """What `next` would return."""
        while self.waiting:
            call = self.waiting[0]
            if not call.is_append or call.seen == self._failures:
                return call
            self.waiting.popleft()
            self._fail(call, _behind(call))
        return None

    def next(self, now: float) -> Call | None:
        """The next call to send, from now on one of ``sent``; ``None``: there is none."""
        call = self.peek()
        if call is not None:
            self.waiting.popleft()
            call.sent_at = now
            self.sent.append(call)
        return call

    def answered(self) -> Call:
        """The oldest of ``sent`` has its answer: it is out. Raises ``IndexError`` where there is none."""
        call = self.sent.popleft()
        self._room.leave(call)
        return call

    def fail(self, call: Call, error: EngineError) -> None:
        """A call that is out has failed for good; with an append, those that wait behind it."""
        call.fail(error)
        if not call.is_append:
            return
        self._failures += 1
        waiting, self.waiting = self.waiting, deque()
        for later in waiting:
            if later.is_append:
                self._room.leave(later)
                later.fail(_behind(later))
            else:
                self.waiting.append(later)

    def again(self, calls: list[Call]) -> None:
        """Calls that are out have not been carried out: they are the next to send, in this order."""
        for call in reversed(calls):
            self._room.enter(call)
            self.waiting.appendleft(call)

    def hand_over(self) -> list[Call]:
        """What waits, for the `adopt` of another connection. What has to fail has failed."""
        waiting, self.waiting = self.waiting, deque()
        handed = []
        for call in waiting:
            if call.is_append and call.seen != self._failures:
                self._fail(call, _behind(call))
            else:
                self._room.leave(call)
                handed.append(call)
        return handed

    def adopt(self, call: Call) -> None:
        """A call of another connection waits here."""
        call.seen = self._failures
        self._room.enter(call)
        self.waiting.append(call)

    def broken(self) -> None:
        """The connection has ended. What the store may have is doubtful, and the next to send."""
        kept = []
        while self.sent:
            call = self.answered()
            call.is_doubtful = True
            if call.is_once:
                call.fail(EngineUnavailable("the connection broke off"))
            else:
                kept.append(call)
        self.again(kept)

    def expire(self, now: float, patience_s: float, away_since: float, why: str) -> None:
        """Fail what has waited for ``patience_s`` in a time that the store is away."""
        while self.waiting:
            call = self.waiting[0]
            if max(call.made_at, away_since) + patience_s > now:
                return
            self.waiting.popleft()
            self._fail(call, _error(call, why))

    def fail_all(self, why: str) -> None:
        """Fail what waits and what was sent: the engine ends."""
        self.broken()
        while self.waiting:
            call = self.waiting.popleft()
            self._fail(call, _error(call, why))

    def late(self, now: float, answer_timeout_s: float) -> bool:
        """Whether the answer to the oldest of ``sent`` is overdue."""
        return bool(self.sent) and self.sent[0].sent_at + answer_timeout_s <= now

    def _fail(self, call: Call, error: EngineError) -> None:
        self._room.leave(call)
        self.fail(call, error)


def _behind(call: Call) -> EngineError:
    return (EngineUncertain if call.is_doubtful else EngineUnavailable)(_BEHIND)


def _error(call: Call, why: str) -> EngineError:
    if call.is_append and call.is_doubtful:
        return EngineUncertain(f"{why}; the same idempotency key tells whether it was stored")
    return EngineUnavailable(why)


def retry_s(tries: int, chance: float) -> float:
    """How long to wait before a store is tried again: 0.05 s, and up to 2 s after some ``tries``. Nodes that
    lost it together come back apart, by a ``chance`` of 0 to 1."""
    shortest, longest = _RETRY_S
    most = min(longest, shortest * (1 << min(tries, 10)))
    return shortest + (most - shortest) * chance
