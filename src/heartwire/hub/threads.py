"""Threads beside the hub's event loop: the application's functions that block, and calls from there."""

import asyncio
import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

__all__ = ["called_in", "off_loop", "running_loop"]

T = TypeVar("T")
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def off_loop(function: FunctionT) -> FunctionT:
    """Return a function of the application so that it may block: ``async def`` as it is, others in a
    thread."""
    if _is_async(function):
        return function

    @wraps(function)
    async def in_thread(*arguments: Any) -> Any:
        if getattr(asyncio.get_running_loop(), "has_no_threads", False):  # virtual time
            answer: Any = function(*arguments)
        else:
            answer = await run_in_threadpool(function, *arguments)
        return await answer if inspect.isawaitable(answer) else answer

    return in_thread  # type: ignore[return-value]  # every caller takes awaitables too


def _is_async(function: Callable[..., Any]) -> bool:
    """Whether it is ``async def``: a function, a method, a ``partial`` of one, an object's ``__call__``."""
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def called_in(loop: asyncio.AbstractEventLoop, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function on a loop's thread, and wait for what it returns."""

    if running_loop() is loop:
        return function(*arguments)

    async def call() -> T:
        return function(*arguments)

    return asyncio.run_coroutine_threadsafe(call(), loop).result()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop of this thread, if one runs."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
