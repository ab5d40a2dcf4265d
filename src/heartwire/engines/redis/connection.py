"""A connection that is made again whenever it ends."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable

from heartwire.engines.calls import retry_s
from heartwire.engines.redis.pipe import Pipe
from heartwire.errors import ConfigError, EngineError

__all__ = ["Lasting"]

log = logging.getLogger("heartwire")


class Lasting(ABC):
    """See the module. A subclass opens it, and is told when it is there and when it has ended."""

    def __init__(self, name: str, chance: Callable[[], float]) -> None:
        self.name = name
        self._chance = chance
        self._pipe: Pipe | None = None
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    async def _open(self) -> Pipe:
        """Open it. Raises `EngineUnavailable` and `ConfigError`."""

    @abstractmethod
    def _opened(self, pipe: Pipe) -> None:
        """It is there."""

    @abstractmethod
    def _ended(self, why: str) -> None:
        """It has ended."""

    @property
    def is_there(self) -> bool:
        return self._pipe is not None

    async def start(self) -> None:
        """Connect, and stay connected from then on. Raises `EngineUnavailable` and `ConfigError`."""
        self._begin(await self._open())

    def begin(self) -> None:
        """Connect as soon as possible, and stay connected."""
        self._begin(None)

    def _begin(self, pipe: Pipe | None) -> None:
        if pipe is not None:
            self._pipe = pipe
            self._opened(pipe)
        self._task = asyncio.get_running_loop().create_task(self._stay_connected(pipe))

    async def stop(self) -> None:
        """End the connection."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.abort("the engine stops")
            await asyncio.wait([pipe.ended])

    def abort(self, why: str) -> None:
        """End the connection; another one is made."""
        if self._pipe is not None:
            self._pipe.abort(why)

    async def _stay_connected(self, pipe: Pipe | None) -> None:
        while True:
            if pipe is None:
                pipe = await self._open_at_last()
                self._pipe = pipe
                self._opened(pipe)
            await asyncio.wait([pipe.ended])  # which a cancelled task leaves alone
            self._pipe = None
            why = f"{self.name}: {pipe.ended.result()}"
            log.error("%s; connecting again", why)
            self._ended(why)
            pipe = None

    async def _open_at_last(self) -> Pipe:
        tries = 0
        while True:
            try:
                return await self._open()
            except (EngineError, ConfigError) as error:
                log.log(logging.WARNING if tries == 5 else logging.DEBUG, "%s: %s", self.name, error)
            await asyncio.sleep(retry_s(tries, self._chance()))
            tries += 1
