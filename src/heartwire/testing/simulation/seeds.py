"""Simulations from a seed alone: it draws the hubs, the clients, and what goes wrong when."""

from random import Random
from typing import Any, Final

from heartwire.core.topic import TailLimits
from heartwire.engines.contract import shared_engine
from heartwire.hub.hub import Hub
from heartwire.testing.simulation.events import CHANNELS, Events
from heartwire.testing.simulation.network import API_KEY
from heartwire.testing.simulation.node_events import NodeEvents
from heartwire.testing.simulation.nodes import MakeHub
from heartwire.testing.simulation.world import Simulation

__all__ = ["run_seed"]

_NODES: Final = (*(1,) * 10, 2, 2, 3)
_STREAMS: Final = 0.6


def run_seed(seed: int, *, hub: MakeHub | None = None, channels: tuple[str, ...] = CHANNELS) -> Simulation:
    """Run one seed to its end. Returns its world. Raises `Broken`, with the story and the seed.

    Args:
        seed: decides everything that happens.
        hub: as for `Simulation`; default: hubs with options drawn from the seed.
        channels: the seed uses some of them.
    """
    chance = Random(seed)
    nodes = Random(f"{seed} nodes").choice(_NODES)
    world = Simulation(seed, hub=hub or _any_hub(chance), nodes=nodes)
    if hub is None and nodes > 1 and Random(f"{seed} streams").random() < _STREAMS:
        world.writers.begin()
    try:
        (Events if nodes == 1 else NodeEvents)(world, chance, channels).run()
    finally:
        world.discard()
    return world


def _any_hub(chance: Random) -> MakeHub:
    ping_interval_s, pong_timeout_s = chance.choice(((25, 10), (6, 2), (6, 2)))
    options: dict[str, Any] = {"ping_interval_s": ping_interval_s, "pong_timeout_s": pong_timeout_s}
    if chance.random() < 0.2:
        options |= {"publish_rate_per_s": 4, "publish_burst": 6}
    size, ttl_s = chance.choice((10_000, 10_000, 40, 5)), chance.choice((86_400, 86_400, 15))
    tail_items = chance.choice((1024, 1024, 8))

    def make(engine: Any) -> Hub:
        is_shared = shared_engine(engine) is not None
        hub = Hub(engine, **options, api_key=API_KEY if is_shared else "")
        hub.namespace("", history_size=size, history_ttl_s=ttl_s, presence=is_shared, join_leave=is_shared)
        hub.namespace("answer", durable=True)
        hub.node.switchboard._limits = TailLimits(topic_items=tail_items)
        return hub

    return make
