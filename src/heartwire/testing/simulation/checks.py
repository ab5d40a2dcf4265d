"""The promises that hold in every simulation: `docs/promises.md`, as code."""

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from heartwire.client import outputs as out
from heartwire.client.connection import Connection
from heartwire.dialects.centrifugal import SessionSettings
from heartwire.hub.hub import Hub
from heartwire.server.centrifugal.connection import CentrifugalConnection
from heartwire.testing.simulation.client import ChannelRecord, SimulatedClient, body_of
from heartwire.types import Position

if TYPE_CHECKING:
    from heartwire.testing.simulation.world import Simulation

__all__ = ["Checks"]

_SLACK_S: Final = 0.01
_LONG_S: Final = 90
"""Enough to notice a dead link, wait, try each transport, and publish everything again."""

_CONNECT_WITHIN_S: Final = SessionSettings("").connect_within_s
_MAX_BACKLOG_BYTES: Final = 96 * 1024
"""The most a server may hold for one connection, with messages as small as a simulation's."""


class Checks:
    """Checks everything that clients receive, as it comes. ``problems``: the broken promises, in words."""

    def __init__(self, world: "Simulation") -> None:
        self.problems: list[str] = []
        self._world = world
        self._healed_at = math.inf
        self._progress: dict[str, float] = {}  # when something was acknowledged
        self._asked: dict[str, tuple[int, float, float]] = {}  # attempts seen, tokens of the bucket, when

    def fail(self, who: str, what: str) -> None:
        self.problems.append(f"{who}: {what}")
        self._world.note(who, f"BROKEN: {what}")

    def healed(self) -> None:
        self._healed_at = self._world.loop.now_s

    def look_at_output(self, client: SimulatedClient, output: object) -> None:
        """Check an output for the application; ignore all others."""
        if check := _CHECKED.get(type(output)):
            check(self, client, output)

    # -- what subscribers receive ----------------------------------------------------------------------------

    def delivered(self, client: SimulatedClient, output: out.Delivered) -> None:
        """Check that it is the next publication, and no other."""
        following = client.followed.get(output.channel)
        position = Position(output.epoch, output.offset)
        if following is None:
            self.fail(client.name, f"{output.channel} {position} was delivered, and is not followed")
            return
        at = following.position
        if at is None or not following.is_placed:
            self.fail(client.name, f"{output.channel} {position} was delivered before its position was known")
        elif position != Position(at.epoch, at.offset + 1):
            self.fail(client.name, f"{output.channel} {position} was delivered after {at}")
        true, body = self._world.server.truth.at(output.channel, position), body_of(output)
        if body != true:
            self.fail(client.name, f"{output.channel} {position} is {true!r}, and {body!r} was delivered")
        self._is_the_same(client, output.channel, position, body)
        following.position = position
        following.bodies.append((position, body))

    def _is_the_same(self, client: SimulatedClient, channel: str, position: Position, body: bytes) -> None:
        """Check that nobody was told of another publication at this position."""
        first = self._world.server.truth.read(channel, position, body)
        if first != body:
            self.fail(client.name, f"{channel} {position} is {body!r}, and was {first!r} for another")

    def gap(self, client: SimulatedClient, output: out.Gap) -> None:
        """Check that it begins where delivery stopped, and leaves out nothing that is kept."""
        following = client.followed.get(output.channel)
        before = Position(output.before_epoch, output.before_offset)
        after = Position(output.after_epoch, output.after_offset)
        what = f"{output.channel}: a gap from {before} to {after}"
        if following is None or following.position != before:
            self.fail(client.name, f"{what} was reported at {following and following.position}")
            return
        if before.epoch == after.epoch and after.offset <= before.offset:
            self.fail(client.name, f"{what}: there is nothing in it")
        self._is_gone(client, output.channel, after, what)
        head = self._world.server.head(output.channel)
        if before.epoch == head.epoch and after.epoch != head.epoch:
            self.fail(client.name, f"{what}, and the stream is at {head}")
        following.position = after
        following.is_placed = True
        following.gaps.append(output)

    def _is_gone(self, client: SimulatedClient, channel: str, up_to: Position, what: str) -> None:
        """Check that nothing at or before this position is kept."""
        oldest = self._world.server.before_oldest(channel)
        if up_to.epoch == oldest.epoch and up_to.offset > oldest.offset:
            self.fail(client.name, f"{what}, and what is after {oldest} is kept")

    def subscribed(self, client: SimulatedClient, output: out.Subscribed) -> None:
        """Check that a channel is placed where it was, or where it was to begin."""
        following = client.followed.get(output.channel)
        position = Position(output.epoch, output.offset)
        placed = f"was placed at {position}"
        if following is None:
            self.fail(client.name, f"{output.channel} {placed}, and is not followed")
            return
        if following.position is not None:
            if following.position != position:
                self.fail(client.name, f"{output.channel} is at {following.position}, and {placed}")
        elif following.since == "earliest":
            what = f"{output.channel} is to begin with the oldest, and {placed}"
            self._is_gone(client, output.channel, position, what)
        elif not self._was_head(following, position):
            what = f"it was at {following.head} when it was followed"
            self.fail(client.name, f"{output.channel} {placed}; {what}")
        following.position = position
        following.is_placed = True

    def _was_head(self, following: ChannelRecord, position: Position) -> bool:
        """Whether this was the head at some time after the client asked for the channel."""
        head = self._world.server.head(following.channel)
        lowest = following.head.offset if following.head.epoch == position.epoch else 0
        stream = self._world.server.truth.streams.get(following.channel, {}).get(position.epoch, [])
        now = head.offset if head.epoch == position.epoch else 0
        return lowest <= position.offset <= max(len(stream), now)

    def unsubscribed(self, client: SimulatedClient, output: out.Unsubscribed) -> None:
        """Fail: no server ends a subscription here."""
        self.fail(client.name, f"{output.channel} was ended: {output.code} {output.reason}")

    # -- what publishers receive -----------------------------------------------------------------------------

    def published(self, client: SimulatedClient, output: out.Published | out.Rejected) -> None:
        """Check that an outcome is the only one, and agrees with the stream."""
        publish = client.published[output.key]
        if publish.outcome is not None:
            self.fail(client.name, f"{output.key} has a second outcome: {output}, after {publish.outcome}")
        publish.outcome = output
        now_s = self._world.loop.now_s
        well_since = max(self._healed_at, self._progress.get(client.name, 0))
        if isinstance(output, out.Published):
            self._progress[client.name] = now_s
            position = Position(output.epoch, output.offset)
            true = self._world.server.truth.at(publish.channel, position)
            if true != publish.body:
                what = f"{output.key} was acknowledged at {publish.channel} {position}, where {true!r} is"
                self.fail(client.name, what)
            self._is_the_same(client, publish.channel, position, publish.body)
        elif output.is_unknown and now_s > well_since + _LONG_S:
            what = f"was given up, though all is well for long: {output.message}"
            self.fail(client.name, f"{output.key} {what}")

    def _outcomes(self, client: SimulatedClient) -> None:
        truth = self._world.server.truth
        last: dict[tuple[str, str], tuple[int, str]] = {}
        for key, publish in client.published.items():
            places = self._once(client.name, (publish.channel, publish.body))
            match publish.outcome:
                case None:
                    self.fail(client.name, f"{key} has no outcome")
                case out.Rejected(is_unknown=False) if places:
                    self.fail(client.name, f"{key} was refused, and is at {places[0]}")
                case out.Published(epoch=epoch, offset=offset) if (
                    publish.channel,
                    publish.body,
                ) not in truth.lost:  # what was lost may have been published again, behind later ones
                    before, of = last.get((publish.channel, epoch), (0, ""))
                    if offset <= before:
                        what = f"{publish.channel}: {key} is at {offset}, before {of} at {before}"
                        self.fail(client.name, what)
                    last[publish.channel, epoch] = offset, key

    def _once(self, who: str, published: tuple[str, bytes]) -> list[Position]:
        """Check that a message is in each epoch once at most. Returns where it is."""
        places = self._world.server.truth.places.get(published, [])
        if len({place.epoch for place in places}) < len(places):
            where = ", ".join(map(str, places))
            self.fail(who, f"{published[1]!r} was published {len(places)} times in {published[0]}: {where}")
        return places

    # -- bounds, attempts, liveness --------------------------------------------------------------------------

    def look_at(self, client: SimulatedClient) -> None:
        """Check bounds, attempts and liveness after each thing that a client did."""
        if not client.is_asleep:
            self._bounds(client)
            self._attempts(client)
            if client.machine.current is not None:
                self._liveness(client, client.machine.current)

    def _bounds(self, client: SimulatedClient) -> None:
        machine, options = client.machine, client.options
        traffic = machine.traffic
        for what, waiting in (("publishes", traffic.publishes), ("requests", traffic.requests)):
            if len(waiting) > options.max_pending_items or waiting.size_bytes > options.max_pending_bytes:
                self.fail(client.name, f"{len(waiting)} {what} wait, {waiting.size_bytes} bytes")
        current = machine.current
        if current is None:
            return
        flying, queued = traffic.publishes._in_flight, len(current.queue)
        if flying > options.max_in_flight or queued > options.max_in_flight + 200:
            self.fail(client.name, f"{flying} publishes are on the way, {queued} commands wait to be sent")
        if len(current.waiting) > options.max_in_flight + 200:
            self.fail(client.name, f"{len(current.waiting)} answers are waited for")

    def _attempts(self, client: SimulatedClient) -> None:
        options = client.options
        seen, tokens, when = self._asked.get(client.name, (0, options.attempt_burst, 0.0))
        for at in client.attempts[seen:]:
            tokens = min(options.attempt_burst, tokens + (at - when) * options.attempt_rate_per_s) - 1
            when = at
            if tokens < -_SLACK_S:
                self.fail(client.name, f"attempt {len(client.attempts)} at {at:.3f} is one too many")
        self._asked[client.name] = len(client.attempts), tokens, when

    def _liveness(self, client: SimulatedClient, current: Connection) -> None:
        options, now_s = client.options, client.now()
        # The probe twice: one is given after a sleep.
        allowed_s = current.ping_interval_s + options.pong_timeout_s + 2 * options.probe_timeout_s
        if current.is_pull:
            # A poll that is cut is repeated at once, because only a middlebox may have been impatient.
            allowed_s = options.poll_wait_s + options.poll_interval_s + options.probe_timeout_s
            allowed_s += 2 * options.pong_timeout_s
        if now_s - client.heard_at > allowed_s + _SLACK_S:
            self.fail(client.name, f"has heard nothing for {now_s - client.heard_at:.1f} s, and goes on")
        was_proved = max(client.heard_at, current.online_at or 0) >= client.hinted_at
        if not was_proved and now_s > client.hinted_at + options.probe_timeout_s + _SLACK_S:
            hint = f"had a hint of the network at {client.hinted_at:.1f}"
            self.fail(client.name, f"{hint}, has heard nothing since, and goes on")

    def look_at_server(self) -> None:
        """Check that the server gives dead connections up, and bounds what it holds for each."""
        world = self._world
        hub = world.server.hub
        allowed_s = max(hub.options.ping_interval_s + hub.options.pong_timeout_s, _CONNECT_WITHIN_S)
        allowed_s += 0.2 * hub.options.pong_timeout_s + 1
        for client in world.clients:
            for wire in client.path.wires:
                dead_at = wire.up.dead_at
                if wire.kind == "sse" and dead_at is not None:
                    # Its pongs come in other requests, for as long as the client takes it to be alive.
                    down_dead_at = wire.down.dead_at
                    dead_at = None if down_dead_at is None else max(dead_at, down_dead_at) + allowed_s
                lasts = wire.kind in ("websocket", "sse") and wire.task is not None and not wire.task.done()
                if lasts and dead_at is not None and world.loop.now_s - dead_at > allowed_s:
                    self.fail("server", f"a {wire.kind} of {client.name} is dead since {dead_at:.1f}")
        for node in world.server.nodes:
            self._backlogs(node.hub)

    def _backlogs(self, hub: Hub) -> None:
        for one in hub.node.connections:
            if isinstance(one, CentrifugalConnection) and one.link.backlog_bytes > _MAX_BACKLOG_BYTES:
                self.fail("server", f"{one.link.backlog_bytes} bytes wait for {one.id}")

    # -- the end ---------------------------------------------------------------------------------------------

    @property
    def is_quiet(self) -> bool:
        """Whether every client is online and has everything."""
        head = self._world.server.head
        return self._world.writers.are_done and all(
            client.machine.state.value == "online"
            and not len(client.machine.traffic.publishes)
            and all(following.position == head(name) for name, following in client.followed.items())
            for client in self._world.clients
            if not client.is_closed
        )

    def at_the_end(self) -> None:
        """Check that every client has everything, and every publish its outcome."""
        server = self._world.server
        self._world.writers.at_the_end()
        for client in self._world.clients:
            if not client.is_closed:
                if client.machine.state.value != "online":
                    self.fail(client.name, f"is {client.machine.state.value}")
                for following in client.followed.values():
                    head = server.head(following.channel)
                    if following.position != head:
                        what = f"{following.channel} is at {following.position}, and the stream at {head}"
                        self.fail(client.name, what)
                if waiting := len(client.machine.traffic.publishes):
                    self.fail(client.name, f"{waiting} publishes still wait")
            self._outcomes(client)
        for said in server.said:
            self._once("server", said)

    def after_the_end(self) -> None:
        """Check that nothing is left of the clients and the server."""
        loop = self._world.loop
        for task in sorted(asyncio.all_tasks(loop), key=repr):
            self.fail("loop", f"a task is left: {task.get_coro()}")
        for timer in loop.timers:
            self.fail("loop", f"a timer is left: {timer}")
        for fault in (*loop.faults, *self._world.faults):
            self.fail("loop", f"{fault!r}")
        for node in self._world.server.nodes:
            if len(node.hub.node.connections):
                self.fail(f"server{node.name}", "connections are left")


_CHECKED: Final[dict[type, Callable[[Checks, SimulatedClient, Any], None]]] = {
    out.Delivered: Checks.delivered,
    out.Gap: Checks.gap,
    out.Subscribed: Checks.subscribed,
    out.Unsubscribed: Checks.unsubscribed,
    out.Published: Checks.published,
    out.Rejected: Checks.published,
}
