"""The client's machine in a simulation: carries out its outputs over simulated wires, and checks them."""

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final, Literal

from heartwire.client import outputs as out
from heartwire.client.machine import Hint, Machine
from heartwire.client.options import Options
from heartwire.client.states import ABNORMAL
from heartwire.client.wire import closed_by_http
from heartwire.testing.simulation.network import Path, Wire
from heartwire.types import Position

if TYPE_CHECKING:
    from heartwire.testing.simulation.world import Simulation

__all__ = ["ChannelRecord", "Publish", "SimulatedClient", "body_of"]

Since = Position | Literal["earliest"] | None


@dataclass(slots=True)
class Publish:
    """One publish. ``body``: the bytes in the stream; ``outcome``: ``None`` before there is one."""

    channel: str
    body: bytes
    outcome: out.Published | out.Rejected | None = None


class ChannelRecord:
    """A followed channel, as the application sees it.

    Attributes:
        position: of the last output; ``None`` before the first.
        head: of the stream when it began; the oldest that any node may know.
        bodies: the publications delivered, with their positions.
    """

    def __init__(self, channel: str, since: Since, head: Position) -> None:
        self.channel, self.since, self.head = channel, since, head
        self.position = since if isinstance(since, Position) else None
        self.is_placed = False
        self.bodies: list[tuple[Position, bytes]] = []
        self.gaps: list[out.Gap] = []


@dataclass(slots=True)
class _Connection:
    """The wires of one generation."""

    transport: str
    frame: str
    wire: Wire | None = None
    send: Wire | None = None
    poll: Wire | None = None
    session: str = ""
    node: str = ""
    text: str = ""  # of an event stream, up to where it has been read


class SimulatedClient:
    """A `Machine` with its clocks and its path to the server. Made by `Simulation.client`.

    Attributes:
        attempts: when each was made, by the client's clock.
        heard_at: when something last came in on the connection in use, by the client's clock.
        hinted_at: when the system last gave a hint; infinity: never.
        leak_s: how long the shell still hands on input of a connection that the machine has closed.
    """

    def __init__(self, world: "Simulation", name: str, options: Options, path: Path, chance: Random) -> None:
        self.world, self.name, self.options, self.path = world, name, options, path
        self.is_closed = self.is_asleep = False
        self.followed: dict[str, ChannelRecord] = {}
        self.published: dict[str, Publish] = {}
        self.attempts: list[float] = []
        self.heard_at = 0.0
        self.hinted_at = math.inf
        self.leak_s = 0.0
        self._loop = world.loop
        self._slept_s = 0.0
        self._slept_from: float | None = None
        self._ahead_s = 0.0
        self._jumped_at = -math.inf
        self._missed: list[Callable[[], None]] = []
        self._connections: dict[int, _Connection] = {}
        self._timer: Any = None
        self._serial = 0
        self.machine = Machine(options, prefix=name, draw=chance.random, now=self.now(), wall=self._wall())

    def now(self) -> float:
        """Return the time of its monotonic clock."""
        return self._loop.now_s - self._slept_s

    def _wall(self) -> float:
        return self.world.wall() + self._ahead_s

    # -- calls of the application ----------------------------------------------------------------------------

    def start(self) -> None:
        self._do(Machine.start)

    def close(self) -> None:
        self.is_closed = True
        self._do(Machine.close)

    def follow(self, channel: str, since: Since = None) -> None:
        if self.is_asleep:
            self._missed.append(partial(self.follow, channel, since))
            return
        self.followed[channel] = ChannelRecord(channel, since, self.world.server.head_anywhere(channel))
        self._do(Machine.subscribe, channel, since)

    def unfollow(self, channel: str) -> Position | None:
        """Stop following a channel. Return the position to go on from another time."""
        following = self.followed.pop(channel, None)
        self._do(Machine.unsubscribe, channel)
        return following.position if following is not None else None

    def pause(self, channel: str) -> None:
        if self.is_asleep:
            self._missed.append(partial(self.pause, channel))
        else:
            self._do(Machine.pause, channel)

    def resume(self, channel: str) -> None:
        if self.is_asleep:
            self._missed.append(partial(self.resume, channel))
        else:
            self._do(Machine.resume, channel)

    def publish(self, channel: str, text: str = "", encoding: str = "") -> str:
        """Publish a unique message that ends in ``text``. Return its key."""
        self._serial += 1
        body = f"{self.name}-{self._serial}{text}"
        kept = body.encode() if encoding else json.dumps(body).encode()
        data = json.dumps(body)
        if encoding == "base64":
            data = json.dumps(b64encode(kept).decode())
        key = self.machine.publish(channel, data, encoding, self.now())
        self.published[key] = Publish(channel, kept)
        self._carry_out()
        return key

    def hint(self, kind: Hint) -> None:
        """Give a hint of the system."""
        self.world.note(self.name, kind)
        # A clock that has jumped is noticed at the next tick, and then the time for a proof starts afresh.
        self.hinted_at = self.now() if self.now() > self._jumped_at + self.options.tick_s else math.inf
        self._do(Machine.hint, kind)

    # -- the computer ----------------------------------------------------------------------------------------

    def sleep(self, *, stops_clock: bool) -> None:
        """Stop in the middle of everything, like a laptop that is shut."""
        if not self.is_asleep:
            self.is_asleep = True
            self._slept_from = self._loop.now_s if stops_clock else None

    def wake(self, *, reads_first: bool) -> None:
        """Go on. Input that came meanwhile is read before or after the timers are handled."""
        if not self.is_asleep:
            return
        self.is_asleep = False
        if self._slept_from is not None:
            self._slept_s += self._loop.now_s - self._slept_from
        self.heard_at = self.now()
        self.hinted_at = math.inf
        missed, self._missed = self._missed, []
        if not reads_first:
            self._due()
        for call in missed:
            call()
        self._due()

    def jump(self, seconds: float) -> None:
        """Change the wall clock."""
        self._ahead_s += seconds
        self.hinted_at = math.inf
        self._jumped_at = self.now()

    # -- the machine -----------------------------------------------------------------------------------------

    def _do(self, method: Callable[..., None], *arguments: Any) -> None:
        method(self.machine, *arguments, self.now())
        self._carry_out()

    def _due(self) -> None:
        self._timer = None
        if not self.is_asleep:
            self.machine.handle_deadline(self.now(), self._wall())
            self._carry_out()

    def _carry_out(self) -> None:
        machine = self.machine
        while machine.outputs:
            outputs, machine.outputs[:] = list(machine.outputs), []
            for output in outputs:
                self.world.note(self.name, output)
                if type(output) in _HOW:
                    _HOW[type(output)](self, output)
                self.world.checks.look_at_output(self, output)
        self.world.checks.look_at(self)
        deadline, timer = machine.next_deadline(), self._timer
        # Rounded up: a moment too early would be so again and again.
        when = math.inf if deadline is None else deadline + self._slept_s + 1e-9
        if timer is not None and (timer.when() > when or deadline is None):
            timer.cancel()
            timer = self._timer = None
        if timer is None and deadline is not None:
            self._timer = self._loop.call_at(when, self._due)

    # -- wires -----------------------------------------------------------------------------------------------

    def _open(self, output: out.Open) -> None:
        self.attempts.append(self.now())
        connection = _Connection(output.transport, output.frame)
        self._connections[output.generation] = connection
        if output.transport in ("websocket", "sse"):
            kind: Any = output.transport
            body = "" if kind == "websocket" else output.frame
            hear = self._hear_socket if kind == "websocket" else self._hear_stream
            connection.wire = self._wire(kind, connection, partial(hear, output.generation), body)

    def _wire(
        self, kind: Any, to: _Connection, hear: Callable[[Any], None], body: str, query: str = ""
    ) -> Wire:
        ends: Any = {"find": self.world.server.find, "hear": partial(self._hear, hear)}
        request: Any = {"transport": to.transport, "body": body.encode(), "query": query.encode()}
        return Wire(self._loop, self.path, kind, **request, **ends)

    def _hear(self, hear: Callable[[Any], None], event: Any) -> None:
        if self.is_asleep:
            self._missed.append(partial(self._hear, hear, event))
            return
        hear(event)
        self._carry_out()

    def _hear_socket(self, generation: int, event: Any) -> None:
        connection = self._connections.get(generation)
        if connection is None or connection.wire is None:
            return
        if isinstance(event, tuple):
            self._lost(generation, event)
        elif event["type"] == "websocket.accept":
            connection.wire.say(connection.frame)
        elif event["type"] == "websocket.send":
            self._received(generation, event["text"])
        else:
            self.machine.lost(generation, event["code"], event["reason"], self.now())

    def _hear_stream(self, generation: int, event: Any) -> None:
        connection = self._connections.get(generation)
        if connection is None:
            return
        if isinstance(event, tuple):
            self._lost(generation, event)
        elif event["type"] == "http.response.start":
            connection.frame = "" if event["status"] == 200 else str(event["status"])
        elif connection.frame:
            code, reason = closed_by_http(int(connection.frame), event["body"].decode())
            self.machine.lost(generation, code, reason, self.now())
        else:
            text = connection.text + event["body"].decode().replace("\r\n", "\n")
            *events, connection.text = text.split("\n\n")
            lines = [line[6:] for one in events for line in one.split("\n") if line.startswith("data: ")]
            if lines:
                self._received(generation, "\n".join(lines))
            if not event.get("more_body"):
                self.machine.lost(generation, ABNORMAL, "the stream has ended", self.now())

    def _received(self, generation: int, text: str) -> None:
        self.machine.received(generation, text, self.now())
        current = self.machine.current
        if current is not None and current.generation == generation:
            self.heard_at = self.now()

    def _lost(self, generation: int, how: tuple[str, str], *, was_poll: bool = False) -> None:
        word, reason = how
        lost = partial(self.machine.lost, is_reachable=word != "unreachable", was_poll=was_poll)
        lost(generation, ABNORMAL, reason or word, self.now())

    def _session(self, output: out.Session) -> None:
        connection = self._connections[output.generation]
        connection.session, connection.node = output.session, output.node

    def _send(self, output: out.Send) -> None:
        connection = self._connections[output.generation]
        if connection.transport == "websocket":
            assert connection.wire is not None
            connection.wire.say(output.frame)
            return
        kind, body = "commands", output.frame
        if connection.transport == "sse":
            kind = "emulation"
            body = json.dumps({"session": connection.session, "node": connection.node, "data": output.frame})
        hear = partial(self._hear_answer, output.generation, was_poll=False)
        connection.send = self._wire(kind, connection, hear, body)

    def _poll(self, output: out.Poll) -> None:
        connection = self._connections[output.generation]
        if connection.poll is not None:
            connection.poll.abandon()
        query = f"wait={output.wait_s:.3f}" if output.wait_s else ""
        hear = partial(self._hear_answer, output.generation, was_poll=True)
        connection.poll = self._wire("commands", connection, hear, output.frame, query)

    def _hear_answer(self, generation: int, event: Any, *, was_poll: bool) -> None:
        if generation not in self._connections:
            return
        if isinstance(event, tuple):
            self._lost(generation, event, was_poll=was_poll)
        elif event["status"] not in (200, 204):
            code, reason = closed_by_http(event["status"], event["body"].decode())
            after_s = float(dict(event["headers"]).get(b"retry-after", 0))
            self.machine.lost(generation, code, reason, self.now(), was_poll=was_poll, after_s=after_s)
        else:
            if event["body"]:
                self._received(generation, event["body"].decode())
            (self.machine.polled if was_poll else self.machine.sent)(generation, self.now())

    def _close(self, output: out.Close) -> None:
        if self.leak_s:
            self._loop.call_later(self.leak_s, self._really_close, output.generation)
        else:
            self._really_close(output.generation)

    def _really_close(self, generation: int) -> None:
        connection = self._connections.pop(generation, None)
        if connection is not None:
            for wire in (connection.wire, connection.send, connection.poll):
                if wire is not None:
                    wire.abandon()


def body_of(output: out.Delivered) -> bytes:
    """Return the bytes in the stream of a publication that was delivered."""
    if output.encoding == "base64":
        return b64decode(json.loads(output.data))
    return json.loads(output.data).encode() if output.encoding == "text" else output.data.encode()


_HOW: Final[dict[type, Callable[[SimulatedClient, Any], None]]] = {
    out.Open: SimulatedClient._open,
    out.Session: SimulatedClient._session,
    out.Send: SimulatedClient._send,
    out.Poll: SimulatedClient._poll,
    out.Close: SimulatedClient._close,
}
"""The other outputs are the application's, or stand in the trace alone."""
