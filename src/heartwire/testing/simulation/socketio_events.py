"""Simulations of the Socket.IO dialect from a seed alone: it draws servers, clients and what goes wrong."""

from collections.abc import Callable
from random import Random
from typing import Any, Final

from heartwire.core.topic import TailLimits
from heartwire.hub.hub import Hub
from heartwire.testing.simulation.node_events import NodeEvents
from heartwire.testing.simulation.socketio_client import SocketClient
from heartwire.testing.simulation.socketio_model import ALL
from heartwire.testing.simulation.socketio_pipe import Habits
from heartwire.testing.simulation.socketio_program import Program
from heartwire.testing.simulation.socketio_world import SocketWorld

__all__ = ["run_socket_seed"]

ROOMS: Final = ("a", "b", "c")
_NODES: Final = (1, 1, 1, 2, 2, 3)
_TRANSPORTS: Final[tuple[Any, ...]] = (
    ("polling", "websocket"),
    ("polling", "websocket"),
    ("polling",),
    ("websocket",),
)


def run_socket_seed(seed: int) -> SocketWorld:
    """Run one seed to its end. Returns its world. Raises `Broken`, with the story and the seed."""
    chance = Random(f"{seed} socketio")
    nodes = chance.choice(_NODES)
    interval_s, timeout_s = chance.choice(((25, 20), (6, 2), (6, 2)))
    world = SocketWorld(
        seed,
        hub=_hub(chance, interval_s, timeout_s),
        nodes=nodes,
        recovery=chance.random() < 0.85,
        history_size=chance.choice((10_000, 10_000, 10_000, 10_000, 20)),
        is_sticky=nodes == 1 or chance.random() < 0.3,
        slow_s=chance.choice((0, 0, 0, 0.5, 3)),
        ping_interval=interval_s,
        ping_timeout=timeout_s,
        always_connect=chance.random() < 0.15,
    )
    try:
        SocketEvents(world, chance).run()
    finally:
        world.discard()
    return world


def _hub(chance: Random, interval_s: float, timeout_s: float) -> Callable[[Any], Hub]:
    tail_items = chance.choice((1024, 1024, 8))

    def make(engine: Any) -> Hub:
        hub = Hub(engine, ping_interval_s=interval_s, pong_timeout_s=timeout_s)
        hub.node.switchboard._limits = TailLimits(topic_items=tail_items)
        return hub

    return make


class SocketEvents(NodeEvents):
    """Makes things happen in a world, with the troubles of `Events` and `NodeEvents`."""

    _world: SocketWorld

    def __init__(self, world: SocketWorld, chance: Random) -> None:
        self._world, self._chance = world, chance
        self._undone = {}
        self._is_one = len(world.server.nodes) == 1
        world.server.slow_down(chance.choice((0, 0, 0, 0.002, 0.05, 0.3)))
        for _ in range(chance.choice((1, 2, 3, 3, 4))):
            self._new_client()

    def run(self) -> None:
        """Draw and run 20 to 60 events, then heal and check. Raises `Broken`."""
        chance, world = self._chance, self._world
        for _ in range(chance.randint(20, 60)):
            self._draw()(self)
            kind = chance.random()
            longest_s = 0.2 if kind < 0.5 else 2 if kind < 0.85 else 8 if kind < 0.975 else 30
            world.run_for(chance.random() * longest_s)
        while self._undone:
            self._undo(next(iter(self._undone)))
        world.heal()
        world.run_until_quiet()
        for room in (*ROOMS, ALL):
            self._emit_to([room], [])
        world.run_until_quiet()
        world.end()

    def _draw(self) -> Callable[[Any], None]:
        table = _OF_ONE if self._is_one else _OF_SEVERAL
        return self._chance.choices([event for event, _ in table], [weight for _, weight in table])[0]

    # -- clients ---------------------------------------------------------------------------------------------

    def _new_client(self) -> None:
        chance = self._chance
        habits = Habits(
            chance.choice(_TRANSPORTS),
            "aiohttp" if chance.random() < 0.15 else "node",
            aborts=chance.random() < 0.7,
        )
        rooms = [room for room in ROOMS if chance.random() < 0.6]
        client = self._world.come(habits=habits, rooms=rooms, starts=False)
        client.path.latency_s = chance.choice((0.001, 0.02, 0.02, 0.1, 0.4))
        client.path.jitter_s = chance.choice((0, 0.01, 0.1))
        client.path.window_bytes = chance.choice((65_536, 65_536, 4096, 500))
        client.start()

    def _a_client(self) -> SocketClient:
        return self._chance.choice(self._world.clients)

    def _say(self, channel: str = "") -> None:
        client = self._a_client()
        for _ in range(self._chance.choice((1, 1, 2, 5))):
            client.say(asks=self._chance.random() < 0.5)

    def _break_off(self) -> None:
        client = self._a_client()
        self._world.note(client.name, "breaks off")
        client.break_off()

    def _leave(self) -> None:
        client = self._a_client()
        if client.main.is_connected:
            self._world.checks.ended.add(client.main.sid)
            client.leave()

    # -- the program -----------------------------------------------------------------------------------------

    def _a_program(self) -> Program | None:
        able = [one for one in self._world.programs.values() if one.node.state == "up"]
        return self._chance.choice(able) if able else None

    def _emit(self) -> None:
        chance = self._chance
        for _ in range(chance.choice((1, 1, 1, 2, 3, 6, 12, 12, 30, 100 if chance.random() < 0.2 else 1))):
            kind = chance.random()
            rooms = [chance.choice(ROOMS)] if kind < 0.8 else [ALL] if kind < 0.9 else list(ROOMS[:2])
            sids = [client.main.sid for client in self._world.clients if client.main.sid]
            skip = [chance.choice(sids)] if sids and chance.random() < 0.1 else []
            self._emit_to(rooms, skip, "é" * chance.choice((0, 0, 0, 1, 40, 400)))

    def _emit_to(self, rooms: list[str], skip: list[str], pad: str = "") -> None:
        if program := self._a_program():
            number = self._world.next_number()
            self._world.note(program.life, f"emits {number} to {rooms}{f' but {skip}' if skip else ''}")
            program.emit(number, rooms, skip, pad)

    def _a_member(self) -> tuple[Program, str] | None:
        program = self._a_program()
        sids = program.sids() if program is not None else []
        return (program, self._chance.choice(sids)) if program is not None and sids else None

    def _ask(self) -> None:
        if found := self._a_member():
            program, sid = found
            number = self._world.next_number()
            self._world.questions.add(number)
            self._world.note(program.life, f"asks {sid} {number}")
            program.ask(number, sid)

    def _move_member(self) -> None:
        if found := self._a_member():
            program, sid = found
            room, is_in = self._chance.choice(ROOMS), self._chance.random() < 0.6
            self._world.note(program.life, f"has {sid} {'enter' if is_in else 'leave'} {room}")
            program.move(sid, room, is_in=is_in)

    def _close_room(self) -> None:
        if program := self._a_program():
            room = self._chance.choice(ROOMS)
            self._world.note(program.life, f"closes {room}")
            program.close_room(room)

    def _dismiss(self) -> None:
        if found := self._a_member():
            program, sid = found
            self._world.note(program.life, f"disconnects {sid}")
            self._world.checks.ended.add(sid)
            program.disconnect(sid)


_BOTH: Final[tuple[tuple[Callable[[Any], None], int], ...]] = (
    (SocketEvents._emit, 40),
    (SocketEvents._say, 12),
    (SocketEvents._ask, 6),
    (SocketEvents._move_member, 10),
    (SocketEvents._close_room, 1),
    (SocketEvents._dismiss, 1),
    (SocketEvents._leave, 1),
    (SocketEvents._break_off, 6),
    (SocketEvents._cut, 9),
    (SocketEvents._half_open, 7),
    (SocketEvents._dark, 4),
    (SocketEvents._slow, 6),
    (SocketEvents._block, 3),
    (SocketEvents._late, 4),
    (SocketEvents._lose_answer, 5),
    (SocketEvents._move, 1),
)
_OF_ONE: Final = (*_BOTH, (SocketEvents._restart, 5), (SocketEvents._fail_store, 3))
_OF_SEVERAL: Final = (
    *_BOTH,
    (SocketEvents._restart_node, 6),
    (SocketEvents._store_away, 3),
    (SocketEvents._fail_over, 2),
    (SocketEvents._cut_off, 3),
    (SocketEvents._cut_link, 5),
    (SocketEvents._lose_append, 4),
    (SocketEvents._deafen, 3),
    (SocketEvents._unheard, 2),
    (SocketEvents._stall, 3),
    (SocketEvents._late_feed, 4),
    (SocketEvents._drop, 4),
)
