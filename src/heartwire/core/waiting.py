"""Calls that may be done at once or take time, without a task for those that are done at once."""

from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, TypeVar

__all__ = ["begun", "settled"]

T = TypeVar("T")


async def settled(answer: T | Awaitable[T]) -> T:
    """Return an answer, awaiting it where it is awaitable."""
    if hasattr(type(answer), "__await__"):
        return await answer  # type: ignore[misc,no-any-return]
    return answer  # type: ignore[return-value]


def begun(work: Coroutine[Any, Any, None]) -> Awaitable[None] | None:
    """Run a coroutine up to its first wait. Returns its rest, to be awaited in a task; ``None`` where it is
    done.

    The part that runs here has no current task, and must not need one.
    """
    try:
        first = work.send(None)
    except StopIteration:
        return None
    return _Rest(work, first)


class _Rest:
    """A coroutine that waits for ``first``."""

    __slots__ = ("_first", "_work")

    def __init__(self, work: Coroutine[Any, Any, None], first: Any) -> None:
        self._work = work
        self._first = first

    def __await__(self) -> Generator[Any, Any, None]:
        work, wanted = self._work, self._first
        try:
            while True:
                try:
                    got = yield wanted
                except BaseException as error:
                    wanted = work.throw(error)
                else:
                    wanted = work.send(got)
        except StopIteration:
            return
