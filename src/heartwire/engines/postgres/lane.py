"""A connection that is made again when it breaks, and the calls that go by it in order: `Lane`."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

from heartwire.engines.calls import Call, Calls, Room, retry_s
from heartwire.engines.postgres.driver import BROKEN, Connection, asyncpg, is_broken
from heartwire.engines.postgres.opening import Store
from heartwire.errors import EngineUnavailable

__all__ = ["Ask", "Lane"]

log = logging.getLogger("heartwire")


class Ask(NamedTuple):
    """The kind of call that is one statement: its rows are the answer."""

    sql: str
    arguments: tuple[Any, ...]


class Lane(ABC):
    """See the module. ``changed`` is called when the connection has come or gone (with a reason).

    Attributes:
        calls: what waits, and what was sent.
    """

    def __init__(
        self, store: Store, room: Room, clock: Callable[[], float], chance: Callable[[], float]
    ) -> None:
        self.calls = Calls(room)
        self.changed: Callable[[str], None] = lambda why: None
        self._store = store
        self._clock, self._chance = clock, chance
        self._wake = asyncio.Event()
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._why = ""

    @property
    def is_there(self) -> bool:
        """Whether calls can be sent."""
        return self._connection is not None

    def add(self, call: Call) -> None:
        self.calls.add(call, self._clock())
        self._wake.set()

    def ask(self, sql: str, *arguments: Any) -> "asyncio.Future[Any]":
        """Run one statement when its turn comes; it may run twice."""
        if self._task is None:
            raise EngineUnavailable(f"{self._store.name}: the engine is not running")
        answer = asyncio.get_running_loop().create_future()
        self.add(Call(Ask, Ask(self._store.sql(sql), arguments), answer))
        return answer

    def abort(self, why: str) -> None:
        """End the connection; another is made."""
        self._why = why
        if self._connection is not None:
            self._connection.terminate()

    async def start(self) -> None:
        """Begin, and wait for the first connection."""
        loop = asyncio.get_running_loop()
        come: asyncio.Future[None] = loop.create_future()
        self.changed = lambda why: None if come.done() else come.set_result(None)
        self._task = loop.create_task(self._run())
        await come

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            connection = await self._connect()
            connection.add_termination_listener(lambda _: self._wake.set())
            self._connection, self._why = connection, ""
            self.changed("")
            try:
                await self._serve(connection)
                why = self._why or "the connection has ended"
            except BROKEN as error:
                why = self._why or str(error) or type(error).__name__
            except Exception as error:
                log.exception("%s: a turn of a connection failed", self._store.name)
                why = str(error)
            finally:
                self._connection = None
                connection.terminate()
            log.warning("%s: %s", self._store.name, why)
            self._lost()
            self.changed(f"{self._store.name}: {why}")

    async def _connect(self) -> Connection:
        """Connect, however long it takes."""
        tries = 0
        while True:
            try:
                return await self._open()
            except (*BROKEN, asyncpg.PostgresError) as error:
                log.info("%s: %s", self._store.name, error or type(error).__name__)
            await asyncio.sleep(retry_s(tries, self._chance()))
            tries += 1

    async def _open(self) -> Connection:
        return await self._store.connect()

    async def _serve(self, connection: Connection) -> None:
        """Work until the connection ends."""
        while not connection.is_closed():
            if self._has_work():
                await self._turn(connection)
            else:
                self._wake.clear()
                await self._wake.wait()

    def _lost(self) -> None:
        """The connection has ended: what was sent is doubtful."""
        self.calls.broken()

    def _has_work(self) -> bool:
        return bool(self.calls.waiting)

    @abstractmethod
    async def _turn(self, connection: Connection) -> None:
        """Do some of what waits. Raises `BROKEN`."""

    async def _do_ask(self, connection: Connection, call: Call) -> None:
        """Run the statement of the oldest call that is out."""
        ask: Ask = call.parts
        try:
            rows = await connection.fetch(ask.sql, *ask.arguments)
        except Exception as error:
            self._refuse(connection, [call], error)
        else:
            self.calls.answered().succeed(rows)

    def _refuse(self, connection: Connection, run: list[Call], error: Exception) -> None:
        """A statement for the oldest calls that are out was refused. Raises what has ended the connection."""
        if is_broken(error, connection) or not isinstance(error, asyncpg.PostgresError | asyncpg.DataError):
            raise error
        for _ in run:
            why = f"{self._store.name}: {error}; nothing was stored"
            self.calls.fail(self.calls.answered(), EngineUnavailable(why))
