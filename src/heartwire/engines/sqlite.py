"""Streams in one SQLite file: no service to run, and they survive a restart.

One thread owns the connection. It takes what has queued up, does it all in one transaction (group commit) and
answers after the commit. In WAL mode the operating system holds a commit, so a killed process loses nothing
that was answered; ``synchronous="full"`` also flushes the disk, for power loss, once per group. The file is
locked while it is open: two processes on one file would not hear of each other's publications.
`sqlite_store` has the reads and writes of a transaction, `sqlite_mark` notices a WAL that was cut.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, Literal, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

from heartwire.engines.clock import forward
from heartwire.engines.contract import Clock, Feed, ReadResult, Recorded, Retention, StreamWrite
from heartwire.engines.leases import Leases
from heartwire.engines.sqlite_file import explain
from heartwire.engines.sqlite_store import Store, Told
from heartwire.errors import ConfigError, EngineError, EngineUnavailable
from heartwire.types import Channel, Message, Position, Publication, Start

__all__ = ["SqliteEngine"]

log = logging.getLogger("heartwire")

_GROUP: Final = 512
_SLICES: Final = 400
_MAX_QUEUED: Final = 20_000
_MAX_QUEUED_BYTES: Final = 128 * 1024 * 1024

Job = Callable[[Store], Any]
Done = list[tuple[asyncio.Future[Any], Any, Sequence[Told]]]
"""Who waits, the answer or the error, and what to notify of."""


class SqliteEngine(Leases):
    """`Engine` over one file. Presence leases are in memory: they are this process's connections.

    Args:
        path: the file; made if missing.
        synchronous: "normal" survives a killed process, "full" also a power cut.

    Promises: an answered `append` is committed. When appends fail, all that were handed in before the
    failure was reported fail too: nothing overtakes what its publisher will send again. At most 20,000
    appends or 128 MiB wait for the thread; over that `append` raises `EngineUnavailable` at once.
    """

    def __init__(
        self, path: str | Path, *, synchronous: Literal["normal", "full"] = "normal", clock: Clock = forward
    ) -> None:
        super().__init__(clock)
        self.path = Path(path)
        self.synchronous = synchronous
        self._jobs: SimpleQueue[_Task | None] = SimpleQueue()
        self._queued = self._queued_bytes = self._failures = 0
        self._thread: threading.Thread | None = None
        self._logged = ""  # the last failure that was logged

    @classmethod
    def from_url(cls, url: str) -> Self:
        """``sqlite:///RELATIVE`` or ``sqlite:////ABSOLUTE``; ``?synchronous=full``. Raises `ConfigError`."""
        parts = urlsplit(url)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        synchronous = query.pop("synchronous", "normal")
        path = parts.path[1:]
        if parts.netloc or not path or query or "://" not in url:
            raise ConfigError(
                "engine", url, "sqlite:///FILE (three slashes), with ?synchronous=full&shared=yes at most"
            )
        if synchronous not in ("normal", "full"):
            raise ConfigError("engine", url, "synchronous is normal or full")
        return cls(path, synchronous="full" if synchronous == "full" else "normal")

    async def start(self, feed: Feed) -> None:
        self._notify, self._removed = feed.publication, feed.removed
        self._loop = asyncio.get_running_loop()
        opened = self._loop.create_future()
        name = f"heartwire {self.path.name}"
        self._thread = threading.Thread(target=self._run, args=(opened,), name=name, daemon=True)
        self._thread.start()
        try:
            await opened
        except EngineError:
            self._thread = None
            raise

    async def stop(self) -> None:
        if self._thread is not None:
            thread, self._thread = self._thread, None
            self._jobs.put(None)
            await asyncio.to_thread(thread.join)
            await asyncio.sleep(0)  # answers of the last group are in the loop's queue

    def append(
        self,
        channel: Channel,
        message: Message,
        keep: Retention,
        *,
        key: str | None = None,
        key_ttl_s: float = 300,
    ) -> asyncio.Future[Position]:
        size = self._check_room(len(message.data))
        return self._submit(
            lambda store: store.append(channel, message, keep, key, key_ttl_s), size, after=self._failures
        )

    def read(
        self, channel: Channel, start: Start, keep: Retention, *, limit: int, max_bytes: int
    ) -> asyncio.Future[ReadResult]:
        return self._submit(lambda store: store.read(channel, start, keep, limit, max_bytes))

    def remove(self, channel: Channel) -> asyncio.Future[Position]:
        return self._submit(lambda store: store.remove(channel))

    def record(self, channel: Channel) -> asyncio.Future[Recorded]:
        return self._submit(lambda store: store.record(channel))

    def write(self, channel: Channel, change: StreamWrite) -> asyncio.Future[Recorded]:
        data = sum(len(message.data) for message in change.messages)
        size = self._check_room(data + len(change.record or b""))
        return self._submit(lambda store: store.write(channel, change), size)

    def touch(self, channel: Channel) -> None:
        """See `Records.touch`. The file has it to within a tenth of the record's ``ttl_s``."""
        if self._thread is not None and self._queued < _MAX_QUEUED:
            touched = self._submit(lambda store: store.touch(channel))
            touched.add_done_callback(asyncio.Future.exception)  # nobody waits for it

    async def streams(self) -> AsyncIterator[tuple[Channel, Position]]:
        """See `Portable.streams`."""
        found, last = await self._submit(lambda store: store.streams(0))
        while last:
            for channel, head in found:
                yield channel, head
            found, last = await self._submit(lambda store, last=last: store.streams(last))  # type: ignore[misc]

    async def restore(
        self,
        channel: Channel,
        head: Position,
        publications: Sequence[Publication],
        record: Recorded | None = None,
    ) -> None:
        """See `Portable.restore`."""
        await self._submit(lambda store: store.restore(channel, head, publications, record))

    async def sweep(self, retention: Callable[[Channel], Retention]) -> None:
        """See `Engine.sweep`. Each call goes through the next 100,000 streams, in transactions of 250, and
        lets others' between."""
        await self.sweep_leases()
        for _ in range(_SLICES):
            if await self._submit(lambda store: store.sweep(retention)):
                break

    def _check_room(self, size: int) -> int:
        if self._queued >= _MAX_QUEUED or self._queued_bytes + size > _MAX_QUEUED_BYTES:
            why = f"{self._queued} publications are waiting for the disk; nothing was published"
            raise EngineUnavailable(f"{self.path}: {why}")
        return size

    def _submit(self, job: Job, size: int = 0, *, after: int | None = None) -> asyncio.Future[Any]:
        if self._thread is None:
            raise EngineUnavailable(f"{self.path}: the engine is not running")
        future = self._loop.create_future()
        self._queued += 1
        self._queued_bytes += size
        self._jobs.put(_Task(job, future, size, after))
        return future

    # -- the thread ------------------------------------------------------------------------------------------

    def _run(self, opened: asyncio.Future[None]) -> None:
        try:
            store = Store(self.path, self.synchronous, self._clock)
        except Exception as error:  # whatever it is, `start` raises it
            self._loop.call_soon_threadsafe(opened.set_exception, explain(error, self.path))
            return
        self._loop.call_soon_threadsafe(opened.set_result, None)
        running = True
        while running:
            group = [self._jobs.get()]
            with contextlib.suppress(Empty):
                while len(group) < _GROUP:
                    group.append(self._jobs.get_nowait())
            running = None not in group
            self._do(store, [task for task in group if task is not None])
        store.close()

    def _do(self, store: Store, group: "list[_Task]") -> None:
        done: Done
        late = [task for task in group if task.after not in (None, store.failures)]
        group = [task for task in group if task.after in (None, store.failures)]
        try:
            with store.transaction():
                done = [(task.future, task.job(store), store.told()) for task in group]
        except Exception as error:  # whatever it is, all callers get it, and the thread lives on
            store.failures += 1
            failure = explain(error, self.path)
            if str(failure) != self._logged:
                self._logged = str(failure)
                log.error("%s", failure)
            done = [(task.future, failure, ()) for task in group]
        why = f"{self.path}: what came before it was not stored"
        done += [(task.future, EngineUnavailable(why), ()) for task in late]
        size = sum(task.size for task in (*group, *late))
        # The loop is closed when the program ends without stop(): then nobody waits.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._settle, done, size, store.failures)

    def _settle(self, done: Done, size: int, failures: int) -> None:
        self._failures = failures
        self._queued -= len(done)
        self._queued_bytes -= size
        for future, answer, told in done:
            for one in told:
                if isinstance(one, Publication):
                    self._notify(one)
                else:
                    self._removed(*one)
            if future.done():
                continue
            if isinstance(answer, EngineError):
                future.set_exception(answer)
            else:
                future.set_result(answer)


class _Task(NamedTuple):
    """Work for the thread. ``after``: how many failed groups the caller of an `append` knew of."""

    job: Job
    future: asyncio.Future[Any]
    size: int
    after: int | None
