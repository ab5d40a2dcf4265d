"""The parent of `heartwire serve --workers N`.

In: settings, and the hub as this process has imported it. Out: a store process, where the engine cannot be
shared by itself; N workers attached to it; their banner. The parent binds the address, and its sockets stay
open as long as it lives, so connections that come while a worker is replaced wait instead of being refused.

* What dies is started again.
* SIGTERM and SIGINT end the workers, then the store; a second SIGINT kills all.
* SIGHUP replaces the workers, one after the other, with new ones, which load configuration and code again.
* Children notice by the end of their control connection that the parent is gone, and end themselves.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from heartwire.engines.contract import shared_engine
from heartwire.errors import ConfigError, HeartwireError
from heartwire.hub.hub import Hub
from heartwire.server.config import Settings
from heartwire.server.run import listen, prepare, url_of
from heartwire.server.workers.child import Child, backoff_s, ending
from heartwire.server.workers.worker import Assignment

__all__ = ["count_of", "serve_many"]

log = logging.getLogger("heartwire")

_END_S: Final = 10
"""How long a worker has to end, beside ``drain_s``: what it gives requests under way, and its store, with
room to spare."""

_STORE_S: Final = 5
_STEADY_S: Final = 10
"""A process that has lived so long starts again without a longer pause than the first."""


def count_of(settings: Settings) -> int:
    """How many workers the settings ask for."""
    if settings.workers != "auto":
        return settings.workers
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def serve_many(settings: Settings, hub: Hub, *, started: Callable[[str], None]) -> None:
    """Serve with several workers until a signal ends them. ``started`` is called with the URL once all accept
    connections. Raises `HeartwireError`: why one of them could not start."""
    if sys.platform == "win32":
        raise ConfigError("workers", settings.workers, "1: Windows has no Unix sockets to share a store by")
    prepare(settings, hub)
    count = count_of(settings)
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(one) for one in listen(settings, count)]
        place = None
        if shared_engine(hub.node.engine) is None:
            if hub.engine_url is None:
                fix = "a URL: workers share the hub's engine, and cannot share an object"
                raise ConfigError("engine", hub.node.engine, fix)
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="heartwire-"))
            place = Path(folder, "store")
        parent = _Parent(settings, hub.engine_url, place, end_s=_END_S + hub.options.drain_s)
        up = partial(started, url_of(settings, listeners[0]))
        asyncio.run(parent.run([listeners[number % len(listeners)] for number in range(count)], up))


class _Slot:
    """The place of one child, which is replaced by another when it has ended."""

    def __init__(self, start: Callable[[], Awaitable[Child]]) -> None:
        self.start = start
        self.child: Child | None = None


class _Parent:
    """See the module."""

    def __init__(self, settings: Settings, engine: str | None, store: Path | None, *, end_s: float) -> None:
        self._settings = settings
        self._end_s = end_s
        self._engine = engine
        self._store_path = store
        self._store = None if store is None else _Slot(self._start_store)
        self._workers: list[_Slot] = []
        self._children: set[Child] = set()  # those that live
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_rolling = self._rolls_again = False
        self._ending = asyncio.Event()

    async def run(self, listeners: Sequence[socket.socket], started: Callable[[], None]) -> None:
        """Start all, and keep them alive until a signal comes."""
        starts = [partial(self._start_worker, number, one) for number, one in enumerate(listeners, 1)]
        self._workers = [_Slot(start) for start in starts]
        with self._signals():
            try:
                start = asyncio.ensure_future(self._start())
                asked = asyncio.ensure_future(self._ending.wait())
                await asyncio.wait([start, asked], return_when=asyncio.FIRST_COMPLETED)
                if start.done():
                    start.result()
                    started()
                    await asked
                start.cancel()
                await asyncio.gather(start, return_exceptions=True)
            finally:
                await self._stop()

    # -- children --------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        if self._store is not None:
            await self._fill(self._store)
        await asyncio.gather(*map(self._fill, self._workers))

    async def _fill(self, slot: _Slot) -> None:
        slot.child = await slot.start()
        await slot.child.until_up()
        self._do(self._keep(slot, slot.child))

    async def _start_store(self) -> Child:
        ends = socket.socketpair()
        assert self._engine is not None
        settings = self._settings
        # -P: a module of the working directory does not hide one of Python's.
        command = [sys.executable, "-P", "-m", "heartwire.server.workers.store"]
        command += ["--engine", self._engine, "--socket", str(self._store_path)]
        command += ["--control", str(ends[1].fileno())]
        command += ["--log-format", settings.log_format, "--log-level", settings.log_level]
        return self._born(await Child.start("the store", command, ends))

    async def _start_worker(self, number: int, listener: socket.socket) -> Child:
        ends = socket.socketpair()
        assignment = Assignment(
            len(self._workers),
            listener.fileno(),
            ends[1].fileno(),
            self._engine,
            None if self._store_path is None else str(self._store_path),
        )
        command = [sys.executable, *sys.orig_argv[1:]]
        descriptors = [listener.fileno()]
        start = partial(Child.start, descriptors=descriptors, environment=assignment.put())
        return self._born(await start(f"worker {number}", command, ends))

    def _born(self, child: Child) -> Child:
        self._children.add(child)
        return child

    async def _keep(self, slot: _Slot, child: Child) -> None:
        """Put another child into the slot whenever its own has ended."""
        failures = 0
        while True:
            status = await child.until_ended()
            self._children.discard(child)
            if slot.child is child:
                failures = 0 if child.age_s > _STEADY_S else failures
                pause_s = backoff_s(failures)
                failures += 1
                log.error("%s %s; another starts in %g s", child, ending(status), pause_s)
                await asyncio.sleep(pause_s)
            if slot.child is child:
                slot.child = await slot.start()
                try:
                    await slot.child.until_up()
                    log.warning("%s is up", slot.child)
                except HeartwireError as error:
                    log.error("%s: %s", slot.child, error)
            assert slot.child is not None
            child = slot.child

    # -- signals ---------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        acts = {signal.SIGTERM: self._end, signal.SIGINT: self._interrupt, signal.SIGHUP: self._roll}
        for number, act in acts.items():
            loop.add_signal_handler(number, act)
        yield

    def _end(self) -> None:
        self._ending.set()

    def _interrupt(self) -> None:
        if self._ending.is_set():
            for child in self._children:
                child.kill()
        self._ending.set()

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        store = None if self._store is None else self._store.child
        await asyncio.gather(*(child.end(self._end_s) for child in self._children if child is not store))
        if store is not None:
            await store.end(_STORE_S)

    def _roll(self) -> None:
        """Replace the workers; once more afterwards, if that is under way."""
        self._rolls_again = self._is_rolling
        if not self._is_rolling:
            self._is_rolling = True
            self._do(self._replace_workers())

    async def _replace_workers(self) -> None:
        while self._is_rolling:
            log.info("replacing the workers, one after the other")
            for slot in self._workers:
                try:
                    await self._replace(slot)
                except HeartwireError as error:
                    log.error("a new worker does not come up, so the old ones stay: %s", error)
                    break
            else:
                log.info("all workers are new")
            self._is_rolling, self._rolls_again = self._rolls_again, False

    async def _replace(self, slot: _Slot) -> None:
        new = await slot.start()
        try:
            await new.until_up()
        except HeartwireError:
            self._children.discard(new)
            raise
        old, slot.child = slot.child, new
        assert old is not None
        await old.end(self._end_s)
        log.info("%s is up in place of %s", new, old)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
