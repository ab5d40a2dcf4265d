"""What has to be true in a simulation, whatever happens: `docs/promises.md`, as code."""

import asyncio
import math
from typing import TYPE_CHECKING, Final

from heartwire.client import outputs as out
from heartwire.dialects.centrifugal import SessionSettings
from heartwire.server.centrifugal.connection import CentrifugalConnection
from heartwire.testing.simulation.client import Following, SimulatedClient
from heartwire.types import Position

if TYPE_CHECKING:
    from heartwire.testing.simulation.world import Simulation

__all__ = ["Checks"]

_SLACK_S: Final = 0.01
_LONG_S: Final = 90
"""Time enough for the worst: to notice that a link is dead, to wait, to try each transport, and to say
everything again."""

_CONNECT_WITHIN_S: Final = SessionSettings("").connect_within_s
_MAX_BACKLOG_BYTES: Final = 96 * 1024
"""What a server may hold for one connection, with messages as small as a simulation's."""


class Checks:
    """Looks at everything that clients are told, as it comes.

    Attributes:
        problems: promises that were broken, in words.
    """

    def __init__(self, world: "Simulation") -> None:
        self.problems: list[str] = []
        self._world = world
        self._healed_at = math.inf
        self._progress: dict[str, float] = {}  # when something was acknowledged
        self._asked: dict[str, tuple[int, float, float]] = {}  # attempts seen, tokens of the bucket, when

    def fail(self, who: str, what: str) -> None:
        """A promise was broken."""
        self.problems.append(f"{who}: {what}")
        self._world.note(who, f"BROKEN: {what}")

    def healed(self) -> None:
        """From now on all is well."""
        self._healed_at = self._world.loop.now_s

    # -- what subscribers are told ---------------------------------------------------------------------------

    def delivered(self, client: SimulatedClient, output: out.Delivered, body: bytes) -> None:
        """The next publication, and no other."""
        following = client.followed.get(output.channel)
        told = Position(output.epoch, output.offset)
        if following is None:
            self.fail(client.name, f"{output.channel} {told} was delivered, and is not followed")
            return
        at = following.position
        if at is None or not following.is_placed:
            self.fail(client.name, f"{output.channel} {told} was delivered before a position was told")
        elif told != Position(at.epoch, at.offset + 1):
            self.fail(client.name, f"{output.channel} {told} was delivered after {at}")
        true = self._world.server.truth.at(output.channel, told)
        if body != true:
            self.fail(client.name, f"{output.channel} {told} is {true!r}, and {body!r} was delivered")
        following.position = told
        following.bodies.append((told, body))

    def gap(self, client: SimulatedClient, output: out.Gap) -> None:
        """It begins where delivery stopped, and nothing that it leaves out was to be had."""
        following = client.followed.get(output.channel)
        before, after = (
            Position(output.before_epoch, output.before_offset),
            Position(output.after_epoch, output.after_offset),
        )
        told = f"{output.channel}: a gap from {before} to {after}"
        if following is None or following.position != before:
            self.fail(client.name, f"{told} was told at {following and following.position}")
            return
        if before.epoch == after.epoch and after.offset <= before.offset:
            self.fail(client.name, f"{told}: there is nothing in it")
        self._is_gone(client, output.channel, after, told)
        head = self._world.server.head(output.channel)
        if before.epoch == head.epoch and after.epoch != head.epoch:
            self.fail(client.name, f"{told}, and the stream is at {head}")
        following.position = after
        following.is_placed = True
        following.gaps.append(output)

    def _is_gone(self, client: SimulatedClient, channel: str, up_to: Position, told: str) -> None:
        """Whether nothing that is kept is at or before this position."""
        oldest = self._world.server.before_oldest(channel)
        if up_to.epoch == oldest.epoch and up_to.offset > oldest.offset:
            self.fail(client.name, f"{told}, and what is after {oldest} is kept")

    def subscribed(self, client: SimulatedClient, output: out.Subscribed) -> None:
        """A channel is placed: where it was, or where it was to begin."""
        following = client.followed.get(output.channel)
        told = Position(output.epoch, output.offset)
        if following is None:
            self.fail(client.name, f"{output.channel} was placed at {told}, and is not followed")
        elif following.position is not None:
            if following.position != told:
                self.fail(
                    client.name, f"{output.channel} is at {following.position}, and was placed at {told}"
                )
        elif following.since == "earliest":
            self._is_gone(
                client,
                output.channel,
                told,
                f"{output.channel} is to begin with the oldest, and was placed at {told}",
            )
        elif not self._was_head(following, told):
            self.fail(
                client.name,
                f"{output.channel} was placed at {told}; it was at {following.head} when it was followed",
            )
        if following is not None:
            following.position = told
            following.is_placed = True

    def _was_head(self, following: Following, told: Position) -> bool:
        """Whether the stream was there at some time after it was asked for."""
        head = self._world.server.head(following.channel)
        lowest = following.head.offset if following.head.epoch == told.epoch else 0
        stream = self._world.server.truth.streams.get(following.channel, {}).get(told.epoch, [])
        return lowest <= told.offset <= max(len(stream), head.offset if head.epoch == told.epoch else 0)

    def unsubscribed(self, client: SimulatedClient, output: out.Unsubscribed) -> None:
        """Nobody does that here."""
        self.fail(client.name, f"{output.channel} was ended: {output.code} {output.reason}")

    # -- what publishers are told ----------------------------------------------------------------------------

    def published(self, client: SimulatedClient, output: out.Published | out.Rejected) -> None:
        """An outcome: the only one, and what it says of the stream is so."""
        publish = client.published[output.key]
        if publish.outcome is not None:
            self.fail(client.name, f"{output.key} has a second outcome: {output}, after {publish.outcome}")
        publish.outcome = output
        if isinstance(output, out.Published):
            self._progress[client.name] = self._world.loop.now_s
        elif (
            output.is_unknown
            and self._world.loop.now_s > max(self._healed_at, self._progress.get(client.name, 0)) + _LONG_S
        ):
            self.fail(
                client.name, f"{output.key} was given up, though all is well for long: {output.message}"
            )
        if isinstance(output, out.Published):
            told = Position(output.epoch, output.offset)
            true = self._world.server.truth.at(publish.channel, told)
            if true != publish.body:
                self.fail(
                    client.name,
                    f"{output.key} was acknowledged at {publish.channel} {told}, where {true!r} is",
                )

    def _outcomes(self, client: SimulatedClient) -> None:
        truth = self._world.server.truth
        last: dict[tuple[str, str], tuple[int, str]] = {}
        for key, publish in client.published.items():
            places = truth.places.get((publish.channel, publish.body), [])
            if len({place.epoch for place in places}) < len(places):
                self.fail(
                    client.name, f"{key} was published {len(places)} times: {', '.join(map(str, places))}"
                )
            match publish.outcome:
                case None:
                    self.fail(client.name, f"{key} has no outcome")
                case out.Rejected(is_unknown=False) if places:
                    self.fail(client.name, f"{key} was refused, and is at {places[0]}")
                case out.Published(epoch=epoch, offset=offset):
                    before, of = last.get((publish.channel, epoch), (0, ""))
                    if offset <= before:
                        self.fail(
                            client.name, f"{publish.channel}: {key} is at {offset}, before {of} at {before}"
                        )
                    last[publish.channel, epoch] = offset, key

    # -- bounds, attempts, liveness --------------------------------------------------------------------------

    def look_at(self, client: SimulatedClient) -> None:
        """After each thing that a client did."""
        if client.is_asleep:
            return
        machine, options = client.machine, client.options
        for what, waiting in (
            ("publishes", machine.traffic.publishes),
            ("requests", machine.traffic.requests),
        ):
            if len(waiting) > options.max_pending_items or waiting.size_bytes > options.max_pending_bytes:
                self.fail(client.name, f"{len(waiting)} {what} wait, {waiting.size_bytes} bytes")
        seen, tokens, when = self._asked.get(client.name, (0, options.attempt_burst, 0.0))
        if len(client.attempts) > seen:
            for at in client.attempts[seen:]:
                tokens = min(options.attempt_burst, tokens + (at - when) * options.attempt_rate_per_s) - 1
                when = at
                if tokens < -_SLACK_S:
                    self.fail(client.name, f"attempt {len(client.attempts)} at {at:.3f} is one too many")
            self._asked[client.name] = len(client.attempts), tokens, when
        current = machine.current
        if current is None:
            return
        flying = machine.traffic.publishes._in_flight
        if flying > options.max_in_flight or len(current.queue) > options.max_in_flight + 200:
            self.fail(
                client.name,
                f"{flying} publishes are on the way, {len(current.queue)} commands wait to be sent",
            )
        if len(current.waiting) > options.max_in_flight + 200:
            self.fail(client.name, f"{len(current.waiting)} answers are waited for")
        allowed_s = (
            current.ping_interval_s + options.pong_timeout_s + 2 * options.probe_timeout_s
        )  # one is given after a sleep
        if current.is_pull:
            # One that is cut is asked for again at once, because only a middlebox may have been impatient.
            allowed_s = (
                options.poll_wait_s
                + options.poll_interval_s
                + 2 * options.pong_timeout_s
                + options.probe_timeout_s
            )
        if client.now() - client.heard_at > allowed_s + _SLACK_S:
            self.fail(
                client.name, f"has heard nothing for {client.now() - client.heard_at:.1f} s, and goes on"
            )
        was_proved = max(client.heard_at, current.online_at or 0) >= client.hinted_at
        if not was_proved and client.now() > client.hinted_at + options.probe_timeout_s + _SLACK_S:
            self.fail(
                client.name,
                f"was told of the network at {client.hinted_at:.1f}, has heard nothing since, and goes on",
            )

    def look_at_server(self) -> None:
        """Now and then."""
        world = self._world
        hub = world.server.hub
        allowed_s = max(hub.options.ping_interval_s + hub.options.pong_timeout_s, _CONNECT_WITHIN_S)
        allowed_s += 0.2 * hub.options.pong_timeout_s + 1
        for client in world.clients:
            for wire in client.path.wires:
                dead_at = wire.up.dead_at
                if wire.kind == "sse" and dead_at is not None:
                    # Its pongs come in other requests, for as long as the client takes it to be alive.
                    dead_at = (
                        None if wire.down.dead_at is None else max(dead_at, wire.down.dead_at) + allowed_s
                    )
                is_served = wire.task is not None and not wire.task.done()
                lasts = wire.kind in ("websocket", "sse")
                if dead_at is not None and is_served and lasts and world.loop.now_s - dead_at > allowed_s:
                    self.fail("server", f"a {wire.kind} of {client.name} is dead since {dead_at:.1f}")
        for connection in hub.node.connections:
            if (
                isinstance(connection, CentrifugalConnection)
                and connection.backlog_bytes > _MAX_BACKLOG_BYTES
            ):
                self.fail("server", f"{connection.backlog_bytes} bytes wait for {connection.id}")

    # -- the end ---------------------------------------------------------------------------------------------

    @property
    def is_quiet(self) -> bool:
        """Whether everybody has what there is."""
        server = self._world.server
        for client in self._world.clients:
            if client.is_closed:
                continue
            if client.machine.state.value != "online" or len(client.machine.traffic.publishes):
                return False
            for following in client.followed.values():
                if following.position != server.head(following.channel):
                    return False
        return True

    def at_the_end(self) -> None:
        """All was healed, and time was given."""
        server = self._world.server
        for client in self._world.clients:
            if not client.is_closed:
                if client.machine.state.value != "online":
                    self.fail(client.name, f"is {client.machine.state.value}")
                for following in client.followed.values():
                    head = server.head(following.channel)
                    if following.position != head:
                        self.fail(
                            client.name,
                            f"{following.channel} is at {following.position}, and the stream at {head}",
                        )
                if waiting := len(client.machine.traffic.publishes):
                    self.fail(client.name, f"{waiting} publishes still wait")
            self._outcomes(client)

    def after_the_end(self) -> None:
        """Everybody has left, and the server has stopped."""
        loop = self._world.loop
        for task in sorted(asyncio.all_tasks(loop), key=repr):
            self.fail("loop", f"a task is left: {task.get_coro()}")
        for timer in loop.timers:
            self.fail("loop", f"a timer is left: {timer}")
        for fault in (*loop.faults, *self._world.faults):
            self.fail("loop", f"{fault!r}")
        if len(self._world.server.hub.node.connections):
            self.fail("server", "connections are left")
