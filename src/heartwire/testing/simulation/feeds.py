"""The promises of a node about what other nodes publish, in a simulation of several."""

from typing import Final

from heartwire.testing.simulation.nodes import SimulatedNode
from heartwire.testing.simulation.server import Whole

__all__ = ["Feeds"]

_SOON_S: Final = 3
"""So long what is on its way may take, with the slowest store."""
_SILENT_S: Final = 11
"""After so long a feed that brings nothing is given up: it is probed after 5 s, and has 5 s to answer."""


class Feeds:
    """Checks that each node hears of all that is published, or knows that it does not."""

    def __init__(self, world: Whole) -> None:
        self._world = world

    def look(self) -> None:
        """Check all nodes that are up."""
        if self._world.server.store is not None:
            for node in self._world.server.nodes:
                if node.state == "up":
                    self._look_at(node)

    def _look_at(self, node: SimulatedNode) -> None:
        engine, now_s = node.engine, self._world.loop.now_s
        feed = engine.feed_link
        if now_s > engine.changed_at + 1 and (feed is None or engine.commands is None):
            state = node.hub.node.readiness.state
            if state != "down" or not node.hub.node.switchboard.is_deaf:
                self._fail(node, f"has not reached its store since {engine.changed_at:.1f}, and is {state}")
        if feed is None:
            return
        dead_at = feed.down.dead_at
        if dead_at is not None and now_s > dead_at + _SILENT_S:
            self._fail(node, f"keeps a feed that is dead since {dead_at:.1f}")
        is_well = not feed.has_faults and engine.is_up and now_s > engine.changed_at + _SOON_S
        if is_well:
            self._hears_all(node)

    def _hears_all(self, node: SimulatedNode) -> None:
        server = self._world.server
        then_ms = (self._world.wall() - _SOON_S) * 1000
        for channel, topic in node.hub.node.switchboard.topics.items():
            if topic.epoch and topic.epoch == server.head(channel).epoch:
                offset = server.truth.offset_at(channel, topic.epoch, then_ms)
                if topic.head < offset:
                    what = f"{channel} is at {topic.head} here, though it was at {offset} {_SOON_S} s ago"
                    self._fail(node, f"{what}, and the feed is well")

    def _fail(self, node: SimulatedNode, what: str) -> None:
        self._world.checks.fail(f"server{node.name}", what)
