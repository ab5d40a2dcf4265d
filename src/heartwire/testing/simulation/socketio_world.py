"""A simulation of the Socket.IO dialect: real hubs and servers, clients that do what socket.io-client does.

with SocketWorld(seed=7) as world:
    alice = world.come("alice", rooms=["a"])
    world.run_for(1)
    world.programs[""].emit(world.next_number(), ["a"], [], "")
    world.cut(alice)
    world.run_for(30)
"""

import itertools
from random import Random
from typing import Any

from heartwire.server.socketio.recovery import RecoveryOptions
from heartwire.testing.simulation.network import Application, Blocked, Path, Wire
from heartwire.testing.simulation.nodes import MakeHub, SimulatedNode
from heartwire.testing.simulation.socketio_checks import SocketChecks
from heartwire.testing.simulation.socketio_client import SocketClient
from heartwire.testing.simulation.socketio_model import Model
from heartwire.testing.simulation.socketio_pipe import Habits
from heartwire.testing.simulation.socketio_program import Program
from heartwire.testing.simulation.world import Simulation

__all__ = ["SocketWorld"]

_GONE_WITHIN_S = 60


class SocketWorld(Simulation):
    """See the module, and `Simulation`.

    Args:
        recovery: whether clients are recovered.
        history_size: how much is kept for them.
        is_sticky: whether all connections of a client come to one node, while that is there.
        slow_s: how long a connect handler takes.
        options: of `AsyncServer`.

    Attributes:
        programs: by the name of their node.
        questions: the numbers of events that are to be answered.
    """

    clients: list[SocketClient]  # type: ignore[assignment]
    checks: SocketChecks
    is_socketio = True

    def __init__(
        self,
        seed: int = 0,
        *,
        hub: MakeHub | None = None,
        nodes: int = 1,
        recovery: bool = True,
        history_size: int = 10_000,
        is_sticky: bool = True,
        slow_s: float = 0,
        **options: Any,
    ) -> None:
        self._is_made = False
        self.programs: dict[str, Program] = {}
        self.model = Model(is_shared=nodes > 1)
        self.questions: set[int] = set()
        self.keeps = recovery or nodes > 1
        self.max_disconnection_s = 120.0
        self.is_short_of_history = history_size < 10_000
        self.next_number = itertools.count(1).__next__
        self._slow_s, self.is_sticky = slow_s, is_sticky
        self._options = {"ping_interval": 25, "ping_timeout": 20, **options}
        if recovery:
            self._options["connection_state_recovery"] = RecoveryOptions(
                self.max_disconnection_s, history_size=history_size
            )
        self._losses, self._lost_s = 1, 0.0
        self._begun: list[tuple[SimulatedNode, str]] = []
        super().__init__(seed, hub=hub, nodes=nodes)
        self.checks = SocketChecks(self, self.model)
        self._is_made = True
        for node, life in self._begun:
            self.begins(node, life)

    @property
    def heard(self) -> SocketChecks:
        return self.checks

    @property
    def lost_s(self) -> float:
        """When the store has last lost something, or may have."""
        store = self.server.store
        losses = self.server._stores if store is None else store._lives
        if losses != self._losses:
            self._losses, self._lost_s = losses, self.loop.now_s
        return self._lost_s

    def life(self, node: str, number: int) -> str:
        """See `World.life`: the name of a node is in the sids of its sessions, as eight digits."""
        return f"{int(node.strip('-') or 0):04x}{number:04x}"

    def begins(self, node: SimulatedNode, life: str) -> None:
        """See `World.begins`."""
        if not self._is_made:
            self._begun.append((node, life))
            return
        before = self.programs.get(node.name)
        if before is not None and not before.is_dead:  # it has stopped, and did not wait for all handlers
            self.checks.excuse(before.members())
            before.is_dead = True
        node.hub.node.new_secret = map(f"{life}s{{}}".format, itertools.count(1)).__next__
        program = Program(node, life, self.model, self.checks, self._options, self._slow_s)
        self.programs[node.name] = program

    def ends(self, node: SimulatedNode) -> None:
        """See `World.ends`."""
        program = self.programs[node.name]
        self.checks.died(program.life, program.members())
        program.die()

    def come(
        self,
        name: str = "",
        *,
        habits: Habits = Habits(),  # noqa: B008
        rooms: list[str],
        starts: bool = True,
    ) -> SocketClient:
        """Add a client; connect it now if it ``starts``."""
        number = len(self.clients) + 1
        name = name or f"client{number}"
        chance = Random(f"{self.seed} {name}")
        client = SocketClient(self, name, Path(f"10.0.0.{number}", chance), chance, habits, rooms)
        self.clients.append(client)
        if starts:
            client.start()
        return client

    def find_for(self, client: SocketClient, wire: Wire) -> Application | Blocked:
        """See `socketio_client.World`."""
        server = self.server
        if not self.is_sticky or len(server.nodes) == 1:
            return server.find(wire)
        at = self.clients.index(client)
        nodes = [server.nodes[(at + step) % len(server.nodes)] for step in range(len(server.nodes))]
        node = next((one for one in nodes if one.state in ("up", "silent")), nodes[0])
        wire.server = node
        if node.state == "up":
            return node.application
        return "silent" if node.state == "silent" else "refused"

    def run_for(self, seconds: float) -> None:
        """See `Simulation.run_for`."""
        assert self.lost_s <= self.loop.now_s  # look at it before and after
        super().run_for(seconds)
        assert self.lost_s <= self.loop.now_s

    def heal(self) -> None:
        """See `Simulation.heal`."""
        self.note("world", "is healed")
        for client in self.clients:
            client.path.heal()
        self.server.heal()
        self.checks.healed()

    def run_until_members_are_right(self) -> None:
        """Pass: this dialect has no members."""

    def end(self) -> None:
        """See `Simulation.end`."""
        for client in self.clients:
            client.close()
        self.loop.run_for(_GONE_WITHIN_S)
        for client in self.clients:
            for wire in list(client.path.wires):
                wire.abandon()
        self.server.stop()
        self.loop.run_until_idle(within_s=120)
        self.checks.after_the_end()
        self._raise()
