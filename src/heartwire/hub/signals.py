"""SIGINT and SIGTERM, handled before the server handles them.

An ASGI server waits for open streams and polls before it tells the application of a shutdown, so they would
hold it up for ever. We hear the signal first, end them, and hand the signal on to whoever handled it before.
"""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

__all__ = ["heard"]


@contextlib.contextmanager
def heard(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> Iterator[None]:
    """Run ``act`` on the loop when a signal asks the process to end. Off the main thread nothing is heard."""
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
