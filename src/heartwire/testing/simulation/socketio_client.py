"""A client of Socket.IO in a simulation: it does what socket.io-client does, with connection state recovery.

In: what its application does; packets, from its pipe. Out: packets; what it has got, to the checks.
"""

import json
import re
from functools import partial
from random import Random
from typing import Any, Final, Protocol

from heartwire.testing.simulation.loop import VirtualLoop
from heartwire.testing.simulation.network import Application, Blocked, Path, Wire
from heartwire.testing.simulation.socketio_pipe import Habits, Pipe

__all__ = ["JoinedNamespace", "SocketClient"]

_PACKET: Final = re.compile(r"(\d)(?:(/[^,]*),?)?(\d*)(.*)", re.DOTALL)
_CONNECT_WITHIN_S: Final = 20
_AGAIN_S: Final = 1
"""After this an application tries again where it was refused, or sent away."""


class Heard(Protocol):
    """The part of the checks that clients report to."""

    def joined(self, client: "SocketClient", namespace: "JoinedNamespace", had: str) -> None:
        """A CONNECT was answered; ``had``: the sid before."""

    def got(self, client: "SocketClient", namespace: "JoinedNamespace", event: dict[str, Any]) -> None:
        """A handler of an event is called."""

    def acknowledged(self, client: "SocketClient", id: int, arguments: list[Any]) -> None:
        """An answer came to what the client has sent."""


class World(Protocol):
    """The part of a world that clients use."""

    loop: VirtualLoop

    @property
    def heard(self) -> Heard:
        """The checks."""

    def note(self, who: str, what: object) -> None:
        """Add to the trace."""

    def find_for(self, client: "SocketClient", wire: Wire) -> Application | Blocked:
        """Where a connection of a client arrives."""


class JoinedNamespace:
    """One namespace of a client.

    Attributes:
        pid, offset: what it has to return by.
        waiting: events that came before their CONNECT.
        is_away: whether it was left for good, and nothing is taken.
        asked_with: the ``pid`` that it has last asked with.
        heard_s: when something had come before it was last left.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.sid = ""
        self.last_sid = ""
        self.pid: str | None = None
        self.offset: str | None = None
        self.is_connected = self.is_recovered = False
        self.is_away = False
        self.waiting: list[list[Any]] = []
        self.heard_s = 0.0
        self.asked_with = ""

    def packet(self, kind: int, data: Any, id: int | None = None) -> str:
        """Write a packet of it."""
        where = f"{self.name}," if self.name != "/" else ""
        text = "" if data is None else json.dumps(data, separators=(",", ":"))
        return f"4{kind}{where}{'' if id is None else id}{text}"


class SocketClient:
    """One client, from its first connection to its last.

    Args:
        rooms: those that it asks for when it comes anew.

    Attributes:
        is_closed: whether its application has ended it.
        sent: how many events it has sent on the present connection.
    """

    def __init__(
        self, world: World, name: str, path: Path, chance: Random, habits: Habits, rooms: list[str]
    ) -> None:
        self.world, self.name, self.path, self.habits, self.rooms = world, name, path, habits, rooms
        self.is_closed = False
        self.pipe: Pipe | None = None
        self.namespaces = {"/": JoinedNamespace("/")}
        self.sent = 0
        self.connections = 0
        self._chance = chance
        self._attempts = 0
        self._ids = 0
        self._heard_s = 0.0
        self.asked: dict[int, int] = {}

    @property
    def main(self) -> JoinedNamespace:
        return self.namespaces["/"]

    @property
    def is_online(self) -> bool:
        return all(one.is_connected for one in self.namespaces.values())

    # -- its application -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect, and stay so."""
        if self.is_closed or self.pipe is not None:
            return
        self.connections += 1
        self.sent = 0
        self.world.note(self.name, "connects")
        find = partial(self.world.find_for, self)
        self.pipe = Pipe(self.world.loop, self.path, self.habits, self, find)
        self.world.loop.call_later(_CONNECT_WITHIN_S, self._too_late, self.pipe)

    def say(self, *, asks: bool) -> None:
        """Send an event with the number that it has on this connection."""
        if self.pipe is None or not self.main.is_connected:
            return
        self.sent += 1
        self._ids += asks
        if asks:
            self.asked[self._ids] = self.sent
        body = {"client": self.name, "connection": self.connections, "number": self.sent}
        self.pipe.send(self.main.packet(2, ["say", body], self._ids if asks else None))

    def leave(self) -> None:
        """Leave the namespace; the application comes back later, anew."""
        if self.pipe is not None and self.main.is_connected:
            self.world.note(self.name, "leaves the namespace")
            self.pipe.send(self.main.packet(1, None))
            self._heard_s = self.pipe.heard_at
            self._left(self.main)
            self.main.is_away = True
            self._join_later(self.main)

    def break_off(self) -> None:
        """End the connection as a client that has noticed that its network has changed."""
        if self.pipe is not None:
            self.pipe.end("transport error")

    def close(self) -> None:
        """End for good."""
        self.is_closed = True
        if self.pipe is not None:
            if self.main.is_connected:
                self.pipe.send(self.main.packet(1, None))
            self.pipe.end("forced close")

    # -- its pipe: see `Owner` -------------------------------------------------------------------------------

    def opened(self, pipe: Pipe) -> None:
        """See `Owner.opened`."""
        self._attempts = 0
        for namespace in self.namespaces.values():
            self._join(namespace)

    def message(self, pipe: Pipe, text: str) -> None:
        """See `Owner.message`."""
        found = _PACKET.fullmatch(text)
        assert found is not None, text
        kind, name, id, data = found.groups()
        namespace = self.namespaces[name or "/"]
        content: Any = json.loads(data) if data else None
        if kind == "0":
            self._joined(namespace, content)
        elif kind == "1":
            self._heard_s = pipe.heard_at
            self._left(namespace)
            namespace.is_away = True
            self._join_later(namespace)
        elif kind == "2":
            if namespace.is_connected:
                self._handle(namespace, content, id)
            elif not namespace.is_away:
                namespace.waiting.append([content, id])
        elif kind == "3":
            self.world.heard.acknowledged(self, int(id), content)
        else:
            self.world.note(self.name, f"is refused: {content}")
            self._join_later(namespace)

    def ended(self, pipe: Pipe, reason: str) -> None:
        """See `Owner.ended`."""
        self.world.note(self.name, f"has lost its connection: {reason}")
        self.pipe, self._heard_s = None, pipe.heard_at
        for namespace in self.namespaces.values():
            self._left(namespace)
        if not self.is_closed:
            delay_s = min(5, 2**self._attempts) * (0.5 + self._chance.random())
            self._attempts += 1
            self.world.loop.call_later(delay_s, self.start)

    # -- inside ----------------------------------------------------------------------------------------------

    def _too_late(self, pipe: Pipe) -> None:
        if pipe.state == "opening":
            pipe.end("timeout")

    def _join(self, namespace: JoinedNamespace) -> None:
        if self.pipe is None or self.pipe.state != "open" or namespace.is_connected:
            return
        auth: dict[str, Any] = {"name": self.name, "rooms": self.rooms}
        namespace.asked_with = namespace.pid or ""
        if namespace.pid is not None:
            auth = {"pid": namespace.pid, **auth}
            if namespace.offset is not None:
                auth["offset"] = namespace.offset
        self.pipe.send(namespace.packet(0, auth))

    def _join_later(self, namespace: JoinedNamespace) -> None:
        pipe = self.pipe
        self.world.loop.call_later(
            _AGAIN_S, lambda: self._join(namespace) if self.pipe is pipe and not self.is_closed else None
        )

    def _joined(self, namespace: JoinedNamespace, content: dict[str, Any]) -> None:
        pid, had = content.get("pid"), namespace.last_sid
        namespace.is_recovered = pid is not None and pid == namespace.pid
        namespace.sid = namespace.last_sid = content["sid"]
        namespace.pid = pid
        namespace.is_connected, namespace.is_away = True, False
        self.world.note(
            self.name,
            f"is {namespace.sid}{', recovered' if namespace.is_recovered else ''} in {namespace.name}",
        )
        self.world.heard.joined(self, namespace, had)
        waiting, namespace.waiting = namespace.waiting, []
        for arguments, id in waiting:
            self._handle(namespace, arguments, id)

    def _left(self, namespace: JoinedNamespace) -> None:
        if namespace.is_connected:
            namespace.is_connected = False
            namespace.heard_s = self._heard_s

    def _handle(self, namespace: JoinedNamespace, content: list[Any], id: str) -> None:
        name, *arguments = content
        self.world.note(self.name, f"{name} {arguments}")
        self.world.heard.got(self, namespace, arguments[0])
        if id:
            if self.pipe is not None:
                self.pipe.send(namespace.packet(3, [arguments[0]["n"]], int(id)))
        elif namespace.pid and isinstance(arguments[-1], str):
            namespace.offset = arguments[-1]
