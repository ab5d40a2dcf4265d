"""A whole system in virtual time: a real hub, real client machines and a network with faults, driven by hand.

    with Simulation(seed=7) as world:
        alice = world.client(transports=("websocket",))
        alice.follow("chat")
        world.run_for(1)
        world.cut(alice)
        world.run_for(30)

Leaving the block heals everything, lets time pass until all is quiet, and checks every promise: `Broken`
names those that were not kept. `events` drives one from a seed alone.
"""

import hashlib
import logging
import random
import sys
from types import TracebackType
from typing import Any, Final, Self

from heartwire.client.options import Options
from heartwire.errors import HeartwireError
from heartwire.hub.hub import Hub
from heartwire.testing.simulation.backend import Backend
from heartwire.testing.simulation.checks import Checks
from heartwire.testing.simulation.client import SimulatedClient
from heartwire.testing.simulation.feeds import Feeds
from heartwire.testing.simulation.loop import VirtualLoop
from heartwire.testing.simulation.members import MEMBERS_WITHIN_S, Members
from heartwire.testing.simulation.network import Path, Wire
from heartwire.testing.simulation.nodes import MakeHub, SimulatedNode
from heartwire.testing.simulation.server import SimulatedServer
from heartwire.testing.simulation.writers import Writers

__all__ = ["Broken", "Simulation", "again"]

_QUIET_WITHIN_S: Final = 240
_WALL_S: Final = 1_700_000_000.0


class Broken(AssertionError):
    """``problems``: the promises that were not kept. The message has the story, and how to repeat it."""

    def __init__(self, world: "Simulation") -> None:
        self.problems = world.checks.problems
        self._world = world
        super().__init__(self._message(world.story()))

    def whole_story(self) -> str:
        """The message, with the story from its beginning."""
        return self._message(self._world.story(sys.maxsize))

    def _message(self, story: str) -> str:
        problems = "\n".join(self.problems[:10])
        return f"{story}\n\n{problems}\n\n{again(self._world.seed, is_socketio=self._world.is_socketio)}"


def again(seed: int, *, is_socketio: bool = False) -> str:
    """The command that repeats a seed."""
    return f"Again: python -m heartwire.testing.simulation{' --socketio' * is_socketio} --seed {seed}"


class Simulation:
    """One server, its clients and their network. See the module for its use. ``trace``: when, to whom, what.

    Args:
        seed: decides everything that is drawn at random.
        hub: makes the hub of each life of a node, given the engine; default: `Hub`.
        nodes: how many the server has; more than one share a store.
    """

    is_socketio = False

    def __init__(self, seed: int = 0, *, hub: MakeHub | None = None, nodes: int = 1) -> None:
        self.seed = seed
        self.loop = VirtualLoop()
        self.trace: list[tuple[float, str, Any]] = []
        self.clients: list[SimulatedClient] = []
        self.checks = Checks(self)
        self.members = Members(self)
        self._feeds = Feeds(self)
        self._log = _Faults()
        self.backend = Backend(self)
        self.server = SimulatedServer(self, hub or Hub, nodes)
        self.writers = Writers(self)

    def wall(self) -> float:
        """Wall-clock time, in seconds, for all but clients whose clock jumped."""
        return _WALL_S + self.loop.now_s

    def note(self, who: str, what: object) -> None:
        self.trace.append((self.loop.now_s, who, what))

    def life(self, node: str, number: int) -> str:
        """See `World.life`."""
        return f"node{node}{number}"

    def begins(self, node: SimulatedNode, life: str) -> None:
        """See `World.begins`."""

    def ends(self, node: SimulatedNode) -> None:
        """See `World.ends`."""

    def wires(self) -> list[Wire]:
        """All wires of all clients."""
        paths = [*(client.path for client in self.clients), self.backend.path]
        return [wire for path in paths for wire in path.wires]

    # -- clients, faults, time -------------------------------------------------------------------------------

    def client(self, name: str = "", *, starts: bool = True, **options: Any) -> SimulatedClient:
        """Add a client with ``options`` of `heartwire.client.options`; connect it now if it ``starts``."""
        number = len(self.clients) + 1
        name = name or f"client{number}"
        chance = random.Random(f"{self.seed} {name}")
        client = SimulatedClient(self, name, Options(**options), Path(f"10.0.0.{number}", chance), chance)
        self.clients.append(client)
        if starts:
            client.start()
        return client

    def cut(
        self, client: SimulatedClient, *, client_after_s: float | None = 0, server_after_s: float | None = 0
    ) -> None:
        """Cut all connections of a client; each side notices after so long, ``None``: not at all."""
        when = f"it notices after {client_after_s} s, the server after {server_after_s} s"
        self.note(client.name, f"is cut; {when}")
        for wire in list(client.path.wires):
            wire.cut(client_after_s, server_after_s)

    def run_for(self, seconds: float) -> None:
        """Let time pass. Raises `Broken`."""
        self.loop.run_for(seconds)
        self.checks.look_at_server()
        self._feeds.look()
        self._raise()

    def heal(self) -> None:
        """End all faults: of the network, the server, the store and sleeping clients."""
        self.note("world", "is healed")
        for client in self.clients:
            client.path.heal()
            client.wake(reads_first=True)
        self.server.heal()
        self.checks.healed()

    def run_until_quiet(self) -> None:
        """Let time pass until every client has everything. Raises `Broken` where that does not happen."""
        for _ in range(_QUIET_WITHIN_S * 4):
            self.run_for(0.25)
            if self.checks.is_quiet:
                break
        self.checks.at_the_end()
        self._raise()

    def run_until_members_are_right(self) -> None:
        """Let time pass until those are listed who follow. Raises `Broken` where that does not happen."""
        for _ in range(MEMBERS_WITHIN_S * 4):
            if self.members.are_right:
                return
            self.run_for(0.25)
        self.members.at_the_end()
        self._raise()

    def end(self) -> None:
        """Close all clients and stop the server. Raises `Broken` where something is left."""
        for client in self.clients:
            if not client.is_closed:
                client.close()
        self.loop.run_for(3)
        self.server.stop()
        self.loop.run_until_idle(within_s=120)
        self.checks.after_the_end()
        self._raise()

    # -- begin and end ---------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.heal()
                self.run_until_quiet()
                self.run_until_members_are_right()
                self.end()
        finally:
            self.discard()

    def discard(self) -> None:
        """Close the loop and restore what was patched, however it ended. Idempotent."""
        if self.loop.is_closed():
            return
        self.loop.discard()
        self._log.end()

    @property
    def faults(self) -> list[BaseException]:
        """Exceptions that the hub logged and that are not refusals."""
        return self._log.found

    @property
    def digest(self) -> str:
        """A hash of the trace: the same for the same seed and the same program."""
        digest = hashlib.blake2b(digest_size=8)
        for when, who, what in self.trace:
            digest.update(f"{when!r} {who} {what!r}\n".encode())
        return digest.hexdigest()

    def story(self, last: int = 150) -> str:
        """The last lines of the trace."""
        begin = self.trace[0][0] if self.trace else 0.0
        lines = [f"{when - begin:9.3f}  {who:<8} {_short(what)}" for when, who, what in self.trace[-last:]]
        if len(self.trace) > last:
            lines.insert(0, f"… {len(self.trace) - last} lines before")
        return "\n".join(lines)

    def _raise(self) -> None:
        if self.checks.problems:
            raise Broken(self)


def _short(what: object) -> str:
    text = what if isinstance(what, str) else repr(what)
    text = text.replace("\n", " ")
    return text if len(text) <= 240 else f"{text[:200]} … {text[-35:]}"


class _Faults(logging.Handler):
    """Collects the faults that the hub logs, exceptions that are not refusals, until it is ended."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[BaseException] = []
        self._logger = logging.getLogger("heartwire")
        self._before, self._logger.propagate = self._logger.propagate, False
        self._logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, HeartwireError):
            self.found.append(error)

    def end(self) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = self._before
