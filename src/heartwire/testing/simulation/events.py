"""Simulations from a seed alone: it draws the clients, their options, and what goes wrong when."""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, Final

from heartwire.client.options import TRANSPORTS
from heartwire.testing.simulation.client import SimulatedClient
from heartwire.testing.simulation.network import Blocked, Wire
from heartwire.testing.simulation.world import Simulation

__all__ = ["CHANCES", "CHANNELS", "Events"]

CHANNELS: Final = ("a", "b", "c")
_SINGLE_TRANSPORTS: Final = (*("websocket",) * 3, *("sse",) * 2, *("longpoll",) * 2, "poll")


def _any_options(chance: Random) -> dict[str, Any]:
    options: dict[str, Any] = {
        "transports": _any_transports(chance),
        "pong_timeout_s": chance.choice((10, 4, 4)),
        "max_pending_items": chance.choice((1000, 1000, 20, 4)),
        "max_pending_bytes": chance.choice((4_194_304, 4_194_304, 2000)),
        "max_pending_age_s": chance.choice((120, 120, 120, 9)),
        "max_in_flight": chance.choice((64, 64, 8, 3, 1)),
        "backoff_cap_s": chance.choice((20, 5)),
        "attempt_burst": chance.choice((5, 5, 2)),
        "attempt_rate_per_s": chance.choice((0.5, 1)),
        "upgrade_after_s": chance.choice((10, 4)),
        "poll_interval_s": chance.choice((1, 2)),
        "poll_wait_s": chance.choice((25, 25, 7)),
        "tick_s": chance.choice((1, 4)),
    }
    if chance.random() < 0.15:
        options["first_transport"] = chance.choice(options["transports"])
    return options


def _any_transports(chance: Random) -> tuple[str, ...]:
    kind = chance.random()
    if kind < 0.4:
        return TRANSPORTS
    if kind < 0.85:
        return (chance.choice(_SINGLE_TRANSPORTS),)
    return tuple(name for name in TRANSPORTS if chance.random() < 0.5) or TRANSPORTS[1:]


class Events:
    """Makes things happen in a world: each private method without arguments from `CHANCES` is one event.

    Args:
        chance: draws what happens. Latencies are drawn by each client's own.
    """

    def __init__(self, world: Simulation, chance: Random, channels: tuple[str, ...]) -> None:
        self._world = world
        self._chance = chance
        self._channels = channels[: chance.randint(1, len(channels))]
        self._undone: dict[Callable[[], None], Any] = {}
        self._said = 0
        world.server.slow_down(chance.choice((0, 0, 0, 0.002, 0.05, 0.3)))
        self._publishers: list[SimulatedClient] = []
        for _ in range(chance.choice((1, 2, 2, 3, 3, 4))):
            self._come(follows=True, publishes=chance.random() < 0.5)
        for _ in range(chance.choice((0, 1, 1, 2)) if self._publishers else 1):
            self._come(follows=False, publishes=True)

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
        for channel in self._channels:
            self._say(channel)
        world.run_until_quiet()
        world.run_until_members_are_right()
        world.end()

    def _draw(self) -> Callable[[Any], None]:
        return self._chance.choices(_EVENTS, cum_weights=_WEIGHTS)[0]

    # -- clients ---------------------------------------------------------------------------------------------

    def _come(self, *, follows: bool, publishes: bool) -> SimulatedClient:
        chance = self._chance
        client = self._world.client(starts=False, **_any_options(chance))
        client.leak_s = chance.choice((0, 0, 0.02, 0.5))
        client.path.latency_s = chance.choice((0.001, 0.02, 0.02, 0.1, 0.4))
        client.path.jitter_s = chance.choice((0, 0.01, 0.1))
        client.path.window_bytes = chance.choice((65_536, 65_536, 4096, 500))
        if follows:
            for channel in self._channels:
                if chance.random() < 0.7:
                    client.follow(channel, chance.choice((None, None, "earliest")))
        if publishes:
            self._publishers.append(client)
        client.start()
        return client

    def _awake(self, among: list[SimulatedClient] | None = None) -> SimulatedClient | None:
        clients = among or self._world.clients
        able = [client for client in clients if not client.is_closed and not client.is_asleep]
        return self._chance.choice(able) if able else None

    def _publish(self) -> None:
        client = self._awake(self._publishers)
        if client is None:
            return
        chance = self._chance
        channel = chance.choice(self._channels)
        for _ in range(chance.choice((1, 1, 1, 2, 3, 6, 12, 12, 30))):
            text = "é" * chance.choice((0, 0, 0, 1, 40, 400))
            where = chance.choice(self._channels) if chance.random() < 0.2 else channel
            client.publish(where, text, chance.choice(_ENCODINGS))

    def _speak(self) -> None:
        channel = self._chance.choice(self._channels)
        for _ in range(350 if self._chance.random() < 0.04 else self._chance.choice((1, 1, 1, 2, 5, 20))):
            self._say(channel)

    def _say(self, channel: str) -> None:
        if self._world.server.state == "up":
            self._said += 1
            self._world.server.publish(channel, f"s-{self._said}")

    def _refollow(self) -> None:
        client = self._awake()
        if client is None:
            return
        channel = self._chance.choice(self._channels)
        since = client.unfollow(channel)
        again = self._chance.choice((since, since, since, None, "earliest"))
        self._world.note(client.name, f"follows {channel} no more, but will from {again}")
        self._later(self._short_s(), partial(self._follow, client, channel, again))

    def _follow(self, client: SimulatedClient, channel: str, since: Any) -> None:
        if not client.is_closed and channel not in client.followed:
            client.follow(channel, since)

    def _pause(self) -> None:
        if (client := self._awake()) and client.followed:
            channel = self._chance.choice(sorted(client.followed))
            self._world.note(client.name, f"pauses {channel}")
            client.pause(channel)
            self._later(self._long_s(), partial(client.resume, channel))

    def _replace(self) -> None:
        """Close a client, and have another one go on from its positions."""
        client = self._awake()
        if client is None or len(self._world.clients) > 8:
            return
        client.close()
        other = self._come(follows=False, publishes=client in self._publishers)
        for channel, following in client.followed.items():
            other.follow(channel, following.position)

    def _sleep(self) -> None:
        if client := self._awake():
            self._world.note(client.name, "sleeps")
            client.sleep(stops_clock=self._chance.random() < 0.5)
            self._later(self._long_s(), partial(client.wake, reads_first=self._chance.random() < 0.5))

    def _jump(self) -> None:
        if client := self._awake():
            client.jump(self._chance.uniform(-100, 100))

    def _hint(self) -> None:
        if client := self._awake():
            client.hint(self._chance.choice(("wake", "wake", "network_down", "network_up", "network_up")))

    # -- the network -----------------------------------------------------------------------------------------

    def _one(self, what: str = "") -> SimulatedClient:
        """Choose a client, and note what happens to it."""
        clients = self._world.clients
        one = self._chance.choice([client for client in clients if not client.is_closed] or clients)
        if what:
            self._world.note(one.name, what)
        return one

    def _wires(self, client: SimulatedClient) -> list[Wire]:
        return [wire for wire in client.path.wires if not wire.is_over_for_client]

    def _cut(self) -> None:
        chance = self._chance
        sides = (0, 0, 0, chance.uniform(0, 20), None)
        self._world.cut(self._one(), client_after_s=chance.choice(sides), server_after_s=chance.choice(sides))

    def _half_open(self) -> None:
        client, which = self._one(), self._chance.choice(("up", "down", "both"))
        self._world.note(client.name, f"half open: {which}")
        for wire in self._wires(client):
            wire.break_silently(up=which != "down", down=which != "up")

    def _dark(self) -> None:
        client, how = self._one(), self._chance.choice(_BLOCKED)
        self._world.note(client.name, f"has no network: {how}")
        client.path.is_dark = how
        lanes = [lane for wire in self._wires(client) for lane in (wire.up, wire.down)]
        self._hold(client, lanes, self._long_s())

    def _slow(self) -> None:
        client = self._one("reads nothing")
        self._hold(client, [wire.down for wire in self._wires(client)], self._long_s())

    def _hold(self, client: SimulatedClient, lanes: list[Any], seconds: float) -> None:
        for lane in lanes:
            lane.hold()

        def undo() -> None:
            client.path.is_dark = None
            for lane in lanes:
                lane.release()

        self._later(seconds, undo)

    def _block(self) -> None:
        client, transport, how = self._one(), self._chance.choice(TRANSPORTS), self._chance.choice(_BLOCKED)
        self._world.note(client.name, f"{transport} is blocked: {how}")
        client.path.blocked[transport] = how
        self._later(self._long_s(), lambda: client.path.blocked.pop(transport, None) and None)

    def _buffer(self) -> None:
        client = self._one("answers are held back until they are complete")
        client.path.buffers = True
        self._later(self._long_s(), lambda: setattr(client.path, "buffers", False))

    def _impatient(self) -> None:
        client = self._one()
        client.path.longest_s = self._chance.uniform(1, 6)
        self._world.note(client.name, f"requests are cut after {client.path.longest_s:.1f} s")
        self._later(self._long_s(), lambda: setattr(client.path, "longest_s", 0.0))

    def _late(self) -> None:
        self._one("the next request is late").path.late_s.append(self._chance.uniform(0.3, 25))

    def _lose_answer(self) -> None:
        self._one("the next answer is lost").path.lost_answers.append(self._chance.random() < 0.5)

    def _move(self) -> None:
        """Move a client to another network, with another latency."""
        self._one().path.latency_s = self._chance.choice((0.001, 0.02, 0.1, 0.4))

    # -- the server ------------------------------------------------------------------------------------------

    def _restart(self) -> None:
        world, chance = self._world, self._chance
        if world.server.state != "up":
            return
        if (how := chance.random()) < 0.4:
            world.server.stop()
        else:
            world.server.kill(closes=how < 0.8)
        if chance.random() < 0.2:
            world.server.lose_store()
        self._later(self._short_s(), lambda: world.server.start() if world.server.state != "up" else None)

    def _fail_store(self) -> None:
        seconds = self._short_s()
        self._world.note("server", f"the store fails for {seconds:.2f} s")
        self._world.server.engine.fail(seconds)

    def _forget(self) -> None:
        if self._world.server.state == "up":
            self._world.server.forget(self._chance.choice(self._channels))

    # -- time ------------------------------------------------------------------------------------------------

    def _short_s(self) -> float:
        return self._chance.random() ** 3 * 10

    def _long_s(self) -> float:
        return 0.2 + self._chance.random() ** 2 * 45

    def _later(self, seconds: float, work: Callable[[], Any]) -> None:
        """Do it after so long, or when all faults end."""
        self._undone[work] = self._world.loop.call_later(seconds, self._undo, work)

    def _undo(self, work: Callable[[], None]) -> None:
        self._undone.pop(work).cancel()
        work()


_ENCODINGS: Final = ("", "", "text", "base64")
_BLOCKED: Final[tuple[Blocked, ...]] = ("refused", "silent")

CHANCES: Final[tuple[tuple[Callable[[Events], None], int], ...]] = (
    (Events._publish, 30),
    (Events._speak, 8),
    (Events._cut, 9),
    (Events._half_open, 6),
    (Events._dark, 4),
    (Events._slow, 5),
    (Events._block, 4),
    (Events._buffer, 2),
    (Events._impatient, 2),
    (Events._late, 4),
    (Events._lose_answer, 4),
    (Events._move, 1),
    (Events._restart, 4),
    (Events._fail_store, 3),
    (Events._forget, 2),
    (Events._refollow, 4),
    (Events._pause, 3),
    (Events._replace, 1),
    (Events._sleep, 2),
    (Events._jump, 1),
    (Events._hint, 3),
)
_EVENTS: Final = tuple(event for event, _ in CHANCES)
_WEIGHTS: Final = tuple(sum(weight for _, weight in CHANCES[: index + 1]) for index in range(len(CHANCES)))
