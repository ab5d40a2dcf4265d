"""The promises of the Socket.IO dialect, as code: what is told to clients and programs, against the model."""

import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from heartwire.dialects.socketio.packet import Json
from heartwire.server.socketio.entries import EMIT, unpacked
from heartwire.testing.simulation.checks import Checks
from heartwire.testing.simulation.server import STALE_S
from heartwire.testing.simulation.socketio_client import JoinedNamespace, SocketClient
from heartwire.testing.simulation.socketio_model import Emitted, Model
from heartwire.testing.simulation.socketio_program import Program

if TYPE_CHECKING:
    from heartwire.testing.simulation.socketio_world import SocketWorld

__all__ = ["STREAM", "SocketChecks"]

STREAM: Final = "socketio:/"
_JSON: Final = Json()
_LEFT_BY_A_DEAD_NODE: Final = "Task was destroyed but it is pending!"


class SocketChecks(Checks):
    """Checks what comes, as it comes, and at the end what has not come."""

    def __init__(self, world: "SocketWorld", model: Model) -> None:
        super().__init__(world)
        self._socket_world, self._model = world, model
        self._got: dict[str, dict[int, int]] = {}  # by sid: numbers, with their place in the stream
        self._last: dict[str, int] = {}
        self._ranks: dict[int, int] = {}
        self._bodies: dict[int, bytes] = {}
        self._read = 0
        self._came: Counter[str] = Counter()
        self._left: Counter[str] = Counter()
        self._excused: Counter[str] = Counter()
        self._said: dict[tuple[str, int], int] = {}
        self._answers: set[int] = set()
        self.ended: set[str] = set()
        self.killed: set[str] = set()
        self._came_s: dict[str, float] = {}

    # -- what clients are told: see `Heard` ------------------------------------------------------------------

    def joined(self, client: SocketClient, namespace: JoinedNamespace, had: str) -> None:
        """Check that a client that asks for it goes on as the one it was, unless what it missed is lost."""
        if namespace.is_recovered:
            if namespace.sid != had:
                self.fail(client.name, f"is recovered as {namespace.sid}, and was {had}")
            return
        if namespace.sid in self._got:
            self.fail(client.name, f"is {namespace.sid}, anew, and was told so before")
        self._got[namespace.sid] = {}
        if namespace.asked_with and not self._may_be_new(client, namespace, had):
            self.fail(client.name, f"was {had}, is {namespace.sid}, and nothing is lost")

    def _may_be_new(self, client: SocketClient, namespace: JoinedNamespace, had: str) -> bool:
        world = self._socket_world
        if had in self.ended or world.is_short_of_history:
            return True
        is_long = world.loop.now_s - namespace.heard_s > world.max_disconnection_s
        knows_after_s = STALE_S if world.server.store is not None else 0
        return is_long or world.lost_s >= self._came_s[had] - knows_after_s

    def got(self, client: SocketClient, namespace: JoinedNamespace, event: dict[str, Any]) -> None:
        """Check that an event is for this client, that it has not had it, and that it comes in order."""
        number, sid = event["n"], namespace.sid
        emitted, got = self._model.events.get(number), self._got[sid]
        if emitted is None:
            self.fail(client.name, f"gets {event}, which nobody has emitted")
            return
        if number in got:
            self.fail(client.name, f"gets {number} twice")
        if self._model.is_wrong(emitted, sid):
            self.fail(client.name, f"gets {number}, which is for {emitted.rooms}, not for {sid}")
        rank = self._rank(number)
        got[number] = rank
        if not rank:
            return
        last = self._last.get(sid, 0)
        if rank < last:
            self.fail(client.name, f"gets {number} out of order")
        self._last[sid] = max(last, rank)

    def acknowledged(self, client: SocketClient, id: int, arguments: list[Any]) -> None:
        """Check that an answer is the first, and the right one."""
        asked = client.asked.pop(id, None)
        if asked is None:
            self.fail(client.name, f"{id} is answered, and was answered before or never asked")
        elif arguments != [asked]:
            self.fail(client.name, f"{id} asked for {asked}, and is answered {arguments}")

    # -- what programs are told: see `Records` ---------------------------------------------------------------

    def came(self, life: str, sid: str) -> None:
        """Note that a program is asked to let a client in, which it does."""
        self._socket_world.note(life, f"is told that {sid} comes")
        self._came[sid] += 1
        self._came_s.setdefault(sid, self._socket_world.loop.now_s)
        if not any(program.life == life and program.node.state == "up" for program in self._programs()):
            self._excused[sid] += 1  # its process ends, and does not wait for handlers

    def died(self, life: str, sids: list[str]) -> None:
        """A program is killed that had these clients: it is not told that they leave."""
        self.killed.add(life)
        self.excuse(sids)

    def excuse(self, sids: list[str]) -> None:
        """The process of a program has ended without telling it that these clients leave."""
        self._excused.update(sids)

    def refused(self, life: str, sid: str) -> None:
        """Note that it could not."""
        self._socket_world.note(life, f"refuses {sid}")
        if self._came[sid] > self._left[sid]:  # else its connection has ended before it was refused
            self._came[sid] -= 1

    def disconnected(self, life: str, sid: str) -> None:
        """Check that it was there."""
        self._socket_world.note(life, f"is told that {sid} has left")
        self._left[sid] += 1
        if self._left[sid] > self._came[sid] and not self._moves:  # who gave it away may not know of it
            self.fail(life, f"is told {self._left[sid]} times that {sid} left, which came {self._came[sid]}")

    def said(self, sid: str, body: dict[str, Any]) -> None:
        """Check that events of one connection come in order, each once, without holes."""
        key = body["client"], body["connection"]
        last = self._said.get(key, 0)
        if body["number"] != last + 1:
            self.fail(body["client"], f"said {body['number']}, which came after {last}")
        self._said[key] = body["number"]

    def answered(self, number: int, answer: Any) -> None:
        """Check that an answer is the first, and the right one."""
        if number in self._answers:
            self.fail("program", f"{number} is answered twice")
        self._answers.add(number)
        if answer != number:
            self.fail("program", f"{number} is answered {answer!r}")

    @property
    def _moves(self) -> bool:
        """Whether sessions go from node to node."""
        return not self._socket_world.is_sticky and len(self._socket_world.server.nodes) > 1

    def _programs(self) -> list[Program]:
        return list(self._socket_world.programs.values())

    # -- the stream ------------------------------------------------------------------------------------------

    def _rank(self, number: int) -> int:
        """The place of an event among all that were kept; 0: it is in no stream."""
        if not self._socket_world.keeps:
            return number if number not in self._socket_world.questions else 0
        if number not in self._ranks:
            self._read_on()
        return self._ranks.get(number, 0)

    def _read_on(self) -> None:
        places = self._socket_world.server.truth.places
        for channel, body in itertools.islice(places, self._read, None):
            self._read += 1
            entry = unpacked(body) if channel == STREAM else None
            if entry is not None and entry.kind == EMIT:
                text = entry.messages[0][1]
                number = _JSON.loads(text[text.index(b"[") :])[1]["n"]
                self._ranks[number], self._bodies[number] = self._read, body

    def _is_lost(self, number: int) -> bool:
        self._rank(number)
        body = self._bodies.get(number)
        return body is not None and (STREAM, body) in self._socket_world.server.truth.lost

    # -- the end ---------------------------------------------------------------------------------------------

    @property
    def is_quiet(self) -> bool:
        """Whether every client is there and has everything."""
        clients = [client for client in self._socket_world.clients if not client.is_closed]
        return all(client.is_online for client in clients) and not any(map(self._missing, clients))

    def _missing(self, client: SocketClient) -> list[Emitted]:
        sid = client.main.sid
        got = self._got.get(sid, {})
        return [
            event
            for number, event in self._model.events.items()
            if number not in got and self._model.is_due(event, sid) and not self._is_lost(number)
        ]

    def at_the_end(self) -> None:
        """Check that every client is there, and has got what was for it."""
        for client in self._socket_world.clients:
            if client.is_closed:
                continue
            if not client.is_online:
                self.fail(client.name, "is not connected, though all is well")
            elif missing := self._missing(client):
                numbers = [event.number for event in missing]
                self.fail(client.name, f"has not got {numbers} as {client.main.sid}")

    def after_the_end(self) -> None:
        """Check that each client that was let in has left, once."""
        for sid, times in self._came.items():
            missing = times - self._left[sid]
            if missing > self._excused[sid] and not (
                self.killed and self._moves
            ):  # on its way to who was killed
                self.fail(
                    "program", f"let {sid} in {times} times, and was told {self._left[sid]} times it left"
                )
        for program in self._programs():
            if program.server.sessions:
                self.fail(program.life, f"has sessions that are over: {list(program.server.sessions)}")
        if not self.killed and len(self._socket_world.server.nodes) == 1:
            super().after_the_end()
            return
        for fault in (*self._socket_world.loop.faults, *self._socket_world.faults):
            if fault != _LEFT_BY_A_DEAD_NODE:
                self.fail("loop", f"{fault!r}")
