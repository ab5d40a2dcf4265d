"""The calls of a node to its store that are under way, in the order in which they were made.

In: calls of `heartwire.engines.attached`; answers and failures, from the connection. Out: frames to send, and
to send again; the outcome of each call, in its future.
"""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from heartwire.engines.wire import Call, error_of, member_of, packed, read_result_of, recorded_of
from heartwire.errors import EngineError, EngineUnavailable, EngineUncertain
from heartwire.types import Position

__all__ = ["Calls"]


class _Pending(NamedTuple):
    """A call that waits for its answer. ``can_repeat``: the store may get it twice."""

    kind: Call
    frame: bytes
    future: asyncio.Future[Any]
    can_repeat: bool

    def fail(self, error: EngineError) -> None:
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # its caller may be gone


class Calls:
    """See the module.

    Attributes:
        bytes: of their frames.
        last: the number of the newest.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self.last = 0
        self._pending: dict[int, _Pending] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def __iter__(self) -> Iterator[int]:
        """Their numbers, in order."""
        return iter(list(self._pending))

    def add(self, kind: Call, *parts: Any, can_repeat: bool = True) -> _Pending:
        """Take a call, with the next number."""
        self.last = number = self.last + 1
        made = _Pending(
            kind, packed(kind, number, *parts), asyncio.get_running_loop().create_future(), can_repeat
        )
        self._pending[number] = made
        self.bytes += len(made.frame)
        return made

    def frames(self) -> Iterator[bytes]:
        """All of them, to be sent again."""
        return (call.frame for call in self._pending.values())

    def answered(self, number: int, value: Any) -> None:
        """The store has answered. Without effect for a call that has failed meanwhile."""
        call = self._end(number)
        if call is not None and not call.future.done():
            call.future.set_result(_value(call.kind, value))

    def failed(self, number: int, name: str, message: str) -> bool:
        """The store has refused. Returns whether it was an append."""
        call = self._end(number)
        if call is None:
            return False
        call.fail(error_of(name, message))
        return call.kind is Call.APPEND

    def fail(self, numbers: Iterable[int], why: str, *, sent: int = 0) -> None:
        """Nobody answers these. The appends among them up to the number ``sent`` may have been stored.

        With one append all later ones fail, so that a retry does not land behind them.
        """
        failed = set(numbers) & self._pending.keys()
        appends = [number for number in failed if self._pending[number].kind is Call.APPEND]
        if appends:
            failed |= self._appends_from(min(appends))
        for number in sorted(failed):
            call = self._end(number)
            assert call is not None
            if call.kind is Call.APPEND and number <= sent:
                call.fail(EngineUncertain(f"{why}; the same idempotency key tells whether it has it"))
            else:
                call.fail(EngineUnavailable(why))

    def fail_unsure(self, sent: int, why: str) -> None:
        """Fail the appends that were sent, up to this number, and must not be sent twice."""
        pending = self._pending.items()
        unsure = (number for number, call in pending if number <= sent and not call.can_repeat)
        first = next(unsure, None)
        if first is not None:
            self.fail([first], why, sent=sent)

    def _appends_from(self, first: int) -> set[int]:
        pending = self._pending.items()
        return {number for number, call in pending if number >= first and call.kind is Call.APPEND}

    def _end(self, number: int) -> _Pending | None:
        call = self._pending.pop(number, None)
        if call is not None:
            self.bytes -= len(call.frame)
        return call

    async def settled(self, within_s: float) -> None:
        """Wait until all have an outcome, at most so many seconds."""
        if self._pending:
            await asyncio.wait([call.future for call in self._pending.values()], timeout=within_s)


def _value(kind: Call, value: Any) -> Any:
    """An answer as its caller wants it."""
    match kind:
        case Call.APPEND | Call.REMOVE:
            return Position(*value)
        case Call.READ:
            return read_result_of(value)
        case Call.RECORD | Call.WRITE:
            return recorded_of(value)
        case Call.MEMBERS:
            return [member_of(parts) for parts in value]
        case Call.HEADS:
            return [Position(*head) for head in value]
        case _:
            return value
