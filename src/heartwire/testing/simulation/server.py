"""The server of a simulation: one address, and behind it one node, or several on a store that they share."""

from random import Random
from typing import Any, Final, Protocol

from heartwire.hub.hub import Hub
from heartwire.testing.simulation.engine import SimulatedEngine, Store, World
from heartwire.testing.simulation.network import Application, Blocked, Wire
from heartwire.testing.simulation.nodes import MakeHub, SimulatedNode
from heartwire.testing.simulation.shared_engine import SimulatedSharedEngine
from heartwire.testing.simulation.store import SharedStore
from heartwire.testing.simulation.truth import Truth
from heartwire.types import EARLIEST, Channel, Position

__all__ = ["SimulatedServer", "Whole"]

STALE_S: Final = 30
"""So long a node may take to find out that its feed has told it nothing: a silent one is probed and given up
after 10 s, and what is lost of one that speaks is found when heads are compared, twice in 20 s."""


class SimulatedServer:
    """See the module. With one node its methods are that node's; with several they are for all of them.

    Attributes:
        nodes: each can be killed alone.
        store: what several nodes share; ``None`` where there is one.
        delay_s: how slow the store is.
        said: what the application has published: channel and text, which should be unique.
    """

    def __init__(self, world: World, make: MakeHub, nodes: int = 1) -> None:
        self.truth = Truth()
        self.delay_s = 0.0
        self.said: dict[tuple[str, bytes], None] = {}
        self._world = world
        self._stores = 0
        self._chance = Random(f"{world.seed} balancer")
        self.store: SharedStore | None = None
        if nodes == 1:
            self._own = self._new_store()
            self.nodes = [SimulatedNode(world, "", make, self._own_engine)]
        else:
            self.store = SharedStore(world, self.truth)
            self.nodes = [
                SimulatedNode(world, f"-{number}-", make, self._shared_engine)
                for number in range(1, nodes + 1)
            ]

    @property
    def hub(self) -> Hub:
        return self.nodes[0].hub

    @property
    def engine(self) -> Any:
        return self.nodes[0].engine

    @property
    def state(self) -> str:
        """ "up" where any node is."""
        states = [node.state for node in self.nodes]
        return "up" if "up" in states else states[0]

    # -- life and death --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the nodes that are down."""
        for node in self.nodes:
            if node.state not in ("up", "starting"):
                node.start()

    def stop(self) -> None:
        """Stop as SIGTERM does: close every connection, and end after a grace time."""
        for node in self.nodes:
            if node.state == "up":
                node.stop()

    def kill(self, *, closes: bool = True) -> None:
        """End as ``kill -9`` does, where the system ``closes`` the connections, or else as a power cut."""
        for node in self.nodes:
            if node.state == "up":
                node.kill(closes=closes)

    def heal(self) -> None:
        """End all faults."""
        self.start()
        if self.store is None:
            self.engine.fails_until = 0
        else:
            self.store.away_until = 0
            for node in self.nodes:
                node.engine.path.heal()

    def slow_down(self, delay_s: float) -> None:
        """Make the store so slow, in each life."""
        self.delay_s = delay_s
        for node in self.nodes:
            node.engine.delay_s = delay_s

    def find(self, wire: Wire) -> Application | Blocked:
        """The application at this address, or how a connection to it fails."""
        node = self.nodes[0]
        if len(self.nodes) > 1:  # the balancer knows who refuses, and not yet who is silent
            able = [one for one in self.nodes if one.state in ("up", "silent")]
            node = self._chance.choice(able or self.nodes)
        wire.server = node
        if node.state == "up":
            return node.application
        return "silent" if node.state == "silent" else "refused"

    def any_node(self) -> SimulatedNode | None:
        """One of those that are up, by chance."""
        able = [node for node in self.nodes if node.state == "up"]
        return able[0] if len(able) == 1 else self._chance.choice(able) if able else None

    def publish(self, channel: str, data: object) -> None:
        """Publish, as the application that holds the hub of any node."""
        if node := self.any_node():
            if isinstance(data, str):
                self.said[channel, data.encode()] = None
            node.call(lambda hub: hub.publish(channel, data))

    def forget(self, channel: str) -> None:
        """Remove the history of a channel."""
        if node := self.any_node():
            self._world.note("server", f"forgets what is kept of {channel}")
            node.call(lambda hub: hub.remove_history(channel))

    # -- the store -------------------------------------------------------------------------------------------

    def lose_store(self) -> None:
        """Lose everything that was kept. With one node: only while it is down."""
        self._world.note("server", "has lost its store")
        if self.store is None:
            self._own = self._new_store()
        else:
            self.store.lose()

    def _new_store(self) -> Store:
        self._stores += 1
        return Store(f"store {self._stores} of {self._world.seed}", self._world.wall)

    def _own_engine(self, name: str) -> SimulatedEngine:
        engine = SimulatedEngine(self._world, self._own, self.truth)
        engine.delay_s = self.delay_s
        return engine

    def _shared_engine(self, name: str) -> SimulatedSharedEngine:
        assert self.store is not None
        engine = SimulatedSharedEngine(self._world, self.store, name)
        engine.delay_s = self.delay_s
        return engine

    # -- the state of streams --------------------------------------------------------------------------------

    @property
    def _streams(self) -> Store:
        return self._own if self.store is None else self.store.memory

    def head(self, channel: str) -> Position:
        return self._streams.head(channel)

    def head_anywhere(self, channel: str) -> Position:
        """The oldest head that a node may still take for the present one."""
        head = self.head(channel)
        if self.store is None:
            return head
        then_ms = (self._world.wall() - STALE_S) * 1000
        return Position(head.epoch, self.truth.offset_at(channel, head.epoch, then_ms))

    def before_oldest(self, channel: str) -> Position:
        """The position before the oldest publication kept."""
        keep = self.hub.node.namespaces.retention(Channel(channel))
        return self._streams.read(Channel(channel), EARLIEST, keep, limit=0, max_bytes=1).start


class Failing(Protocol):
    """The part of `Checks` that others report to."""

    def fail(self, who: str, what: str) -> None:
        """A promise is broken."""


class Whole(World, Protocol):
    """The part of a `Simulation` that checks of its server use."""

    @property
    def server(self) -> SimulatedServer:
        """The server."""

    @property
    def checks(self) -> Failing:
        """What broken promises are reported to."""
