"""Going on at once where nothing has to be waited for, without an event loop of one's own."""

from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, TypeVar

__all__ = ["begun", "settled"]

T = TypeVar("T")


async def settled(answer: T | Awaitable[T]) -> T:
    """The value of an answer that may take time."""
    if hasattr(type(answer), "__await__"):
        return await answer  # type: ignore[misc,no-any-return]
    return answer  # type: ignore[return-value]


def begun(work: Coroutine[Any, Any, None]) -> Awaitable[None] | None:
    """Begin a coroutine; ``None`` where that was all, else the rest of it, to be awaited (in a task).

    What it awaits in the first stretch must not ask for the current task: there is none.
    """
    try:
        first = work.send(None)
    except StopIteration:
        return None
    return _Rest(work, first)


class _Rest:
    """A coroutine that has stopped at ``first``."""

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
