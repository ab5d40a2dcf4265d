"""SIGINT and SIGTERM, handled before the server handles them.

An ASGI server waits for open streams and polls before it tells the application of a shutdown, so they would
hold it up for ever. We hear the signal first, end them, and hand the signal on to whoever handled it before.
uvicorn also ends without one (``should_exit``, ``limit_max_requests``): there we act right before its
shutdown, in the turn of the loop in which it stops listening, so that it refuses nothing that it accepted.
"""

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

__all__ = ["heard"]


@contextlib.contextmanager
def heard(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> Iterator[None]:
    """Run ``act`` on the loop when a signal asks the process to end, or uvicorn does.

    Off the main thread no signal is heard.
    """
    server = _uvicorn()
    with _signalled(loop, act) if server is None else _before_shutdown(server, act):
        yield


@contextlib.contextmanager
def _before_shutdown(server: Any, act: Callable[[], None]) -> Iterator[None]:
    shutdown = server.shutdown

    async def act_first(*arguments: Any, **named: Any) -> None:
        act()
        await shutdown(*arguments, **named)

    server.shutdown = act_first
    try:
        yield
    finally:
        server.shutdown = shutdown


def _uvicorn() -> Any:
    """The uvicorn server that runs this loop; an application has no other way to it than its coroutine."""
    uvicorn: Any = sys.modules.get("uvicorn")
    for task in asyncio.all_tasks() if uvicorn is not None else ():
        work: Any = task.get_coro()
        while (frame := getattr(work, "cr_frame", None)) is not None:
            server = frame.f_locals.get("self")
            if isinstance(server, uvicorn.Server):
                return server
            work = work.cr_await
    return None


@contextlib.contextmanager
def _signalled(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[signal.Signals, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(act)
        previous = before[signal.Signals(number)]
        if callable(previous):
            previous(number, frame)
        elif previous == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, previous in before.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, previous if previous is not None else signal.SIG_DFL)
