"""One node of a simulated server: a real hub and its ASGI application, in one life after the other."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Coroutine
from functools import partial
from random import Random
from typing import Any, Final

from heartwire.engines.contract import shared_engine
from heartwire.errors import EngineError, EngineUnavailable, NotStarted
from heartwire.hub.hub import Hub
from heartwire.testing.simulation.engine import World
from heartwire.testing.simulation.network import Application, Blocked, Wire

__all__ = ["MakeHub", "SimulatedNode"]

MakeHub = Callable[[Any], Hub]
"""Makes the hub of one life of a node. It must use the engine it is given."""

_GRACE_S: Final = 2


class SimulatedNode:
    """A process, and the hub that lives in it.

    Args:
        name: "" where it is the only one.
        make_engine: makes the engine of a life, given the life's name.

    Attributes:
        hub, engine: of this life; while it is down, of the last one.
        state: "up", "starting", or how a connection fails.
    """

    hub: Hub
    engine: Any

    def __init__(self, world: World, name: str, make: MakeHub, make_engine: Callable[[str], Any]) -> None:
        self.name = name
        self.state: Blocked | str = "refused"
        self._world, self._make, self._make_engine = world, make, make_engine
        self._who = f"server{name}"
        self._lives = 0
        self._calls: set[asyncio.Task[None]] = set()
        self._starting: asyncio.Task[None] | None = None
        self.start()

    def start(self) -> None:
        world = self._world
        self._lives += 1
        life = world.life(self.name, self._lives)
        self.engine = self._make_engine(life)
        self.hub = self._make(self.engine)
        node = self.hub.node
        if node.engine is not self.engine:
            raise ValueError("the hub has to use the engine that it is given")
        node.connections.node_id = life
        node.new_secret = map("session{}".format, itertools.count(1)).__next__
        node.clocks.monotonic = world.loop.time
        node.clocks.wall = node.clocks.forward = world.wall
        node.clocks.chance = Random(f"{world.seed} {life}")
        world.begins(self, life)
        self.application: Application = self.hub.asgi()
        if shared_engine(self.engine) is None:
            self._is_up()
        else:
            self.state = "starting"
            self._starting = world.loop.create_task(self._start(self.hub))

    def _is_up(self) -> None:
        self.state = "up"
        self._world.note(self._who, f"is up, life {self._lives}")

    async def _start(self, hub: Hub) -> None:
        """Come up once the store is there; until then the process fails, and is started anew."""
        while True:
            with contextlib.suppress(EngineUnavailable):
                await hub.start()
                self._is_up()
                return

    def call(self, work: Callable[[Hub], Coroutine[Any, Any, Any]]) -> None:
        """Do something as the application that holds the hub."""
        hub = self.hub

        async def may_fail() -> None:
            with contextlib.suppress(EngineError, NotStarted):  # it may stop right after the call
                await hub.node.ensure_started()
                await work(hub)

        task = self._world.loop.create_task(may_fail())
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    def open_ids(self) -> list[str]:
        """The public names of its open connections."""
        if self.state != "up":
            return []
        return [one.id for one in self.hub.node.connections if one.is_open and one.transport != "commands"]

    def drain(self, seconds: float) -> None:
        """Send all clients away, take no other, and stop after a while."""
        hub = self.hub
        self.state = "refused"
        self._world.note(self._who, f"sends its clients away, and stops after {seconds:.1f} s")
        self._world.loop.call_soon(hub.node.drain)
        self._world.loop.call_later(seconds, partial(self._stop, hub))

    def stop(self) -> None:
        """Stop as SIGTERM does: close every connection, and end after a grace time."""
        self.state = "refused"
        self._world.note(self._who, "stops")
        self._stop(self.hub)

    def _stop(self, hub: Hub) -> None:
        self._world.loop.create_task(hub.stop())
        self._world.loop.call_later(_GRACE_S, self._exit, self._wires())

    def _exit(self, wires: list[Wire]) -> None:
        for wire in wires:
            if wire.task is not None and not wire.task.done():
                wire.end(closes=True)

    def _wires(self) -> list[Wire]:
        return [wire for wire in self._world.wires() if wire.task is not None and wire.server is self]

    def kill(self, *, closes: bool = True) -> None:
        """End as ``kill -9`` does, where the system ``closes`` the connections, or else as a power cut."""
        self.state = "refused" if closes else "silent"
        self._world.note(self._who, "is killed" if closes else "loses power")
        self.engine.kill()
        self._world.ends(self)
        for wire in self._wires():
            wire.end(closes=closes)
        node = self.hub.node
        tasks: list[asyncio.Future[Any]] = [*node.background.tasks, *node.streams._store.under_way]
        for task in (*tasks, *self._calls, *filter(None, [self._starting])):
            task.cancel()
