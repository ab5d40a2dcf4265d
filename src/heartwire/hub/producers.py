"""Producers of an application: whatever yields the values of a run, as one asynchronous iterator."""

import asyncio
import contextlib
import contextvars
import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

from heartwire.hub.threads import off_loop

__all__ = ["Producer", "values_of"]

_Values: TypeAlias = AsyncIterable[Any] | Iterable[Any]
Producer: TypeAlias = _Values | Callable[[], _Values | Awaitable[_Values]]
"""An asynchronous or synchronous iterable, such as a generator; or a function without arguments that returns
one."""


async def values_of(producer: Producer) -> AsyncGenerator[Any, None]:
    """Yield the values of a producer, one at a time: it goes on when the next one is asked for.

    One that is synchronous runs in a thread of its own. Its end, by whatever cause, closes the producer.
    Raises what it raises, ``TypeError`` for anything else.
    """
    made: Any = off_loop(producer)() if callable(producer) else producer
    while inspect.isawaitable(made):
        made = await made
    if isinstance(made, AsyncIterable):
        values = aiter(made)
    elif isinstance(made, Iterable) and not isinstance(made, str | bytes):
        values = _from_thread(iter(made))
    else:
        raise TypeError(f"a producer yields values, or returns what does, not {made!r:.100}")
    try:
        async for value in values:
            yield value
    finally:
        if hasattr(values, "aclose"):
            await values.aclose()


async def _from_thread(values: Iterator[Any]) -> AsyncGenerator[Any, None]:
    loop = asyncio.get_running_loop()
    if getattr(loop, "has_no_threads", False):  # virtual time
        for value in values:
            yield value
        return
    end = object()
    run: Callable[..., Any] = contextvars.copy_context().run
    thread = ThreadPoolExecutor(1, "heartwire-producer")
    try:
        while (value := await loop.run_in_executor(thread, run, next, values, end)) is not end:
            yield value
    finally:
        close = getattr(values, "close", None)
        if close is not None:
            with contextlib.suppress(RuntimeError):  # after the `next` under way, which nobody waits for
                thread.submit(run, close)
        thread.shutdown(wait=False)
