"""Engine.IO's client in a simulation: it does with a connection what engine.io-client does.

In: packets to send; what comes by wires. Out: messages, and the end, to whoever made it.
"""

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal, NamedTuple, Protocol

from heartwire.testing.simulation.loop import VirtualLoop
from heartwire.testing.simulation.network import Application, Blocked, Path, Wire

__all__ = ["Habits", "Pipe", "PipeWire"]

Transport = Literal["polling", "websocket"]
Method = Literal["GET", "POST", "WEBSOCKET"]

SEPARATOR: Final = "\x1e"


class Habits(NamedTuple):
    """How a client goes about.

    Attributes:
        transports: it begins with the first, and tries to come to the second.
        agent: its User-Agent.
        aborts: whether it gives up a request that it needs no more; else that goes on until it is answered.
    """

    transports: tuple[Transport, ...] = ("polling", "websocket")
    agent: str = "node"
    aborts: bool = True


class PipeWire(Wire):
    """One request to Socket.IO's address, or a WebSocket."""

    def __init__(
        self, loop: VirtualLoop, path: Path, method: Method, query: str, body: bytes, agent: str, **ends: Any
    ) -> None:
        is_socket = method == "WEBSOCKET"
        transport = "websocket" if is_socket else "polling"
        super().__init__(
            loop, path, "websocket" if is_socket else "commands", transport=transport, body=body, **ends
        )
        query = f"EIO=4&transport={transport}{query}"
        headers = [(b"host", b"server"), (b"user-agent", agent.encode())]
        self._scope |= {"path": "/socket.io/", "raw_path": b"/socket.io/", "query_string": query.encode()}
        if not is_socket:
            headers += [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
            self._scope["method"] = method
        self._scope["headers"] = headers


class Owner(Protocol):
    """What a pipe belongs to."""

    def opened(self, pipe: "Pipe") -> None:
        """Packets may be sent."""

    def message(self, pipe: "Pipe", text: str) -> None:
        """A message came."""

    def ended(self, pipe: "Pipe", reason: str) -> None:
        """Nothing comes any more."""


class Pipe:
    """One connection, from handshake to end.

    Args:
        find: as for `Wire`.

    Attributes:
        state: "opening", "open" or "closed".
        transport: the present one.
        heard_at: when something came.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        path: Path,
        habits: Habits,
        owner: Owner,
        find: Callable[[Wire], Application | Blocked],
    ) -> None:
        self.state = "opening"
        self.sid = ""
        self.transport: Transport = habits.transports[0]
        self.heard_at = loop.now_s
        self._loop, self._path, self._habits, self._owner, self._find = loop, path, habits, owner, find
        self._waiting: list[str] = []
        self._poll: PipeWire | None = None
        self._post: PipeWire | None = None
        self._probe: PipeWire | None = None
        self._socket: PipeWire | None = None
        self._is_upgrading = False
        self._allowed_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        if self.transport == "polling":
            self._poll_again()
        else:
            self._socket = self._wire("WEBSOCKET", self._hear_socket)

    def send(self, packet: str) -> None:
        """Send a packet, once that can be done."""
        self._waiting.append(packet)
        self._flush()

    def end(self, reason: str) -> None:
        """End it from here. Idempotent."""
        if self.state == "closed":
            return
        was_open, self.state = self.state == "open", "closed"
        if self._timer is not None:
            self._timer.cancel()
        if was_open and self.transport == "polling" and not reason.startswith("transport close"):
            self._wire("POST", lambda event: None, "1")
        poll, self._poll, post, self._post = self._poll, None, self._post, None
        for wire in (poll, post) if self._habits.aborts else ():
            if wire is not None:
                wire.abandon()
        for wire in (self._socket, self._probe):
            if wire is not None:
                wire.abandon()
        self._socket = self._probe = None
        self._owner.ended(self, reason)

    # -- wires -----------------------------------------------------------------------------------------------

    def _wire(self, method: Method, hear: Callable[[Any], None], body: str = "") -> PipeWire:
        query = f"&sid={self.sid}" if self.sid else ""
        agent = self._habits.agent
        ends: Any = {"find": self._find, "hear": hear}
        return PipeWire(self._loop, self._path, method, query, body.encode(), agent, **ends)

    def _poll_again(self) -> None:
        self._poll = self._wire("GET", lambda event: self._polled(event))

    def _polled(self, event: Any) -> None:
        if self.state == "closed":
            return
        if isinstance(event, tuple) or event["status"] != 200:
            self.end(f"transport error: poll {_said(event)}")
            return
        for packet in event["body"].decode().split(SEPARATOR):
            self._take(packet)
            if self.state == "closed":  # by what it took
                return
        self._poll = None
        if self._is_upgrading:
            self._switch()
        else:
            self._poll_again()

    def _posted(self, event: Any) -> None:
        if self.state == "closed":
            return
        if isinstance(event, tuple) or event["status"] != 200:
            self.end(f"transport error: post {_said(event)}")
            return
        self._post = None
        if self._is_upgrading:
            self._switch()
        self._flush()

    def _hear_socket(self, event: Any) -> None:
        if self.state == "closed":
            return
        if isinstance(event, tuple) or event["type"] == "websocket.close":
            how = "close" if self.state == "open" else "error"
            self.end(f"transport {how}: {event[0] if isinstance(event, tuple) else event.get('reason', '')}")
        elif event["type"] == "websocket.send":
            self._take(event["text"])

    # -- packets ---------------------------------------------------------------------------------------------

    def _take(self, packet: str) -> None:
        kind, data = packet[:1], packet[1:]
        self.heard_at = self._loop.now_s
        if kind == "0":
            self._open(json.loads(data))
        elif kind == "1":
            self.end("transport close")
        elif kind == "2":
            self._watch()
            self.send("3")
        elif kind == "4":
            self._owner.message(self, data)

    def _open(self, told: dict[str, Any]) -> None:
        self.sid, self.state = told["sid"], "open"
        self._allowed_s = (told["pingInterval"] + told["pingTimeout"]) / 1000
        self._watch()
        self._owner.opened(self)
        if (
            self.state == "open"
            and "websocket" in told["upgrades"]
            and "websocket" in self._habits.transports
        ):
            self._probe = self._wire("WEBSOCKET", self._hear_probe)

    def _watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._allowed_s, partial(self.end, "ping timeout"))

    def _flush(self) -> None:
        if self.state != "open" or self._is_upgrading or not self._waiting:
            return
        if self._socket is not None:
            waiting, self._waiting = self._waiting, []
            for packet in waiting:
                self._socket.say(packet)
        elif self._post is None:
            body = SEPARATOR.join(self._waiting)
            self._waiting = []
            self._post = self._wire("POST", self._posted, body)

    # -- the upgrade -----------------------------------------------------------------------------------------

    def _hear_probe(self, event: Any) -> None:
        if self._socket is not None:
            self._hear_socket(event)
            return
        if self.state == "closed" or self._probe is None:
            return
        if isinstance(event, tuple) or event["type"] == "websocket.close":
            self._probe = None  # a client that has stopped to poll waits for its own ping timeout
        elif event["type"] == "websocket.accept":
            self._probe.say("2probe")
        elif event["text"] == "3probe":
            self._is_upgrading = True
            self._switch()

    def _switch(self) -> None:
        """Go on by the WebSocket, once no request is under way."""
        if self._probe is None or self._poll is not None or self._post is not None:
            return
        self._socket, self._probe, self.transport = self._probe, None, "websocket"
        self._socket.say("5")
        self._is_upgrading = False
        self._flush()


def _said(event: Any) -> str:
    return event[0] if isinstance(event, tuple) else f"{event['status']} {event['body'].decode()}"
