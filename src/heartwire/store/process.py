"""The life of a store process: it opens its engine, reports, serves, and ends when nobody needs it.

A store ends last. Asked to (by SIGTERM, or because the parent that started it is gone) it waits until its
nodes have left, since whoever asks may have asked them at the same time, and they drain first.
"""

import asyncio
import contextlib
import logging
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from heartwire.engines.registry import open_engine
from heartwire.engines.reports import report
from heartwire.errors import EngineUnavailable, HeartwireError
from heartwire.store.nodes import Store
from heartwire.store.serve import serve

__all__ = ["Life", "run"]

log = logging.getLogger("heartwire")

_LAST_S: Final = 10
"""How long a store that was asked to end waits for its nodes."""


@dataclass(frozen=True, kw_only=True)
class Life:
    """How a store process begins and ends.

    Attributes:
        control: where it reports that it is up, or why not.
        linger_s: it ends so long after its last node has left; ``None``: when the process at the other end of
            ``control`` does. Signals end it in any case, SIGINT at once.
    """

    control: socket.socket | None = None
    linger_s: float | None = None


async def run(engine: str, path: Path, life: Life) -> None:
    """Serve the engine of a URL on a Unix socket. Raises `HeartwireError`, which it has reported."""
    async with contextlib.AsyncExitStack() as stack:
        if life.control is not None:
            stack.enter_context(life.control)
        try:
            store = await stack.enter_async_context(serve(open_engine(engine), path))
        except (OSError, HeartwireError) as error:
            why = EngineUnavailable(f"{path}: {error.strerror}") if isinstance(error, OSError) else error
            if life.control is not None:
                report(life.control, why)
            raise why from error
        endings = _endings(life)
        if life.control is not None:
            report(life.control)
        log.debug("store at %s", path)
        await _until_over(store, life.linger_s, *endings)


def _endings(life: Life) -> tuple[asyncio.Event, asyncio.Event]:
    """What is set when it shall end: as the last, and at once."""
    loop = asyncio.get_running_loop()
    last, now = asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, last.set)
    loop.add_signal_handler(signal.SIGINT, now.set)
    control = life.control
    if control is not None and life.linger_s is None:

        def gone() -> None:  # nothing is sent this way: what can be read is the end
            loop.remove_reader(control)
            last.set()

        loop.add_reader(control, gone)
    return last, now


async def _until_over(store: Store, linger_s: float | None, last: asyncio.Event, now: asyncio.Event) -> None:
    async def asked() -> None:
        await last.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_S):
                await store.idle.wait()

    async def left_alone(linger_s: float) -> None:
        joins = -1
        while not (store.idle.is_set() and store.joins == joins):
            await store.idle.wait()
            joins = store.joins
            await asyncio.sleep(linger_s)

    waits = [asyncio.ensure_future(asked()), asyncio.ensure_future(now.wait())]
    if linger_s is not None:
        waits.append(asyncio.ensure_future(left_alone(linger_s)))
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
