"""What happens in a simulation of several nodes: to each of them, to their store, and between both."""

from collections.abc import Callable
from typing import Any, Final

from heartwire.testing.simulation.events import CHANCES, Events
from heartwire.testing.simulation.links import Connection
from heartwire.testing.simulation.nodes import SimulatedNode
from heartwire.testing.simulation.store import SharedStore

__all__ = ["NodeEvents"]


class NodeEvents(Events):
    """`Events`, where one of several nodes is killed, and where the store's connections fail."""

    def _draw(self) -> Callable[[Any], None]:
        return self._chance.choices(_EVENTS, cum_weights=_WEIGHTS)[0]

    @property
    def _store(self) -> SharedStore:
        store = self._world.server.store
        assert store is not None
        return store

    def _a_node(self) -> SimulatedNode | None:
        able = [node for node in self._world.server.nodes if node.state == "up"]
        return self._chance.choice(able) if able else None

    def _note(self, node: SimulatedNode, what: str) -> None:
        self._world.note(f"server{node.name}", what)

    # -- nodes -----------------------------------------------------------------------------------------------

    def _restart_node(self) -> None:
        node, chance = self._a_node(), self._chance
        if node is None:
            return
        how = chance.random()
        if how < 0.25:
            node.stop()
        elif how < 0.4:
            node.drain(self._short_s())
        else:
            node.kill(closes=how < 0.8)
        seconds = self._long_s() if chance.random() < 0.3 else self._short_s()
        self._later(seconds, lambda: node.start() if node.state in ("refused", "silent") else None)

    def _disconnect(self) -> None:
        ids = [id for node in self._world.server.nodes for id in node.open_ids()]
        if ids:
            self._world.backend.disconnect(self._chance.choice(ids))

    # -- the store -------------------------------------------------------------------------------------------

    def _store_away(self) -> None:
        seconds = self._long_s() if self._chance.random() < 0.2 else self._short_s()
        self._world.note("store", f"is away for {seconds:.2f} s")
        self._store.go_away(seconds)
        if self._chance.random() < 0.15:
            self._world.server.lose_store()

    def _fail_over(self) -> None:
        lost, seconds = self._chance.choice((0, 1, 1, 2, 5, 20)), self._short_s() / 3
        self._world.note("store", f"fails over in {seconds:.2f} s; the last {lost} of each stream are lost")
        self._store.go_away(seconds)
        self._store.fail_over(lost)

    # -- between both ----------------------------------------------------------------------------------------

    def _a_link(self, kind: str, what: str) -> Connection | None:
        """A connection of a node that is up, "commands" or "feed_link", and a note of what happens to it."""
        node = self._a_node()
        link: Connection | None = None if node is None else getattr(node.engine, kind)
        if node is not None and link is not None:
            self._note(node, what)
        return link

    def _cut_off(self) -> None:
        """Cut both connections of a node, which finds no other for a while."""
        node = self._a_node()
        if node is not None:
            seconds = self._long_s()
            self._note(node, f"does not reach the store for {seconds:.1f} s")
            path, node_links = node.engine.path, (node.engine.commands, node.engine.feed_link)
            path.is_dark = "refused"
            for link in node_links:
                if link is not None:
                    link.cut("cut off")
            self._later(seconds, lambda: setattr(path, "is_dark", None))

    def _cut_link(self) -> None:
        kind = self._chance.choice(("commands", "feed_link", "feed_link"))
        if link := self._a_link(kind, f"{kind} is cut"):
            link.cut("cut")

    def _lose_append(self) -> None:
        if link := self._a_link("commands", "the next call is carried out, and its answer lost"):
            link.is_cut_next = True

    def _deafen(self) -> None:
        if link := self._a_link("feed_link", "hears nothing of its feed from now on"):
            link.break_silently(down=True)

    def _unheard(self) -> None:
        kind = self._chance.choice(("commands", "feed_link"))
        if link := self._a_link(kind, f"nothing that it says on {kind} arrives"):
            link.break_silently(up=True)

    def _stall(self) -> None:
        kind = self._chance.choice(("commands", "feed_link", "feed_link"))
        if link := self._a_link(kind, f"{kind} stalls"):
            link.stall()
            self._later(self._long_s(), lambda: link.go_on())  # each another, though the link is one

    def _late_feed(self) -> None:
        if link := self._a_link("feed_link", "what it says on feed_link is late"):
            link.up.hold()
            self._later(self._chance.random() * 4, lambda: link.up.release())

    def _drop(self) -> None:
        count = self._chance.choice((1, 1, 2, 10))
        if link := self._a_link("feed_link", f"will not hear of the next {count}"):
            link.lose(count)


_OF_ONE: Final = ("_restart", "_fail_store")
_CHANCES: Final[tuple[tuple[Callable[[Any], None], int], ...]] = (
    *((event, weight) for event, weight in CHANCES if event.__name__ not in _OF_ONE),
    (NodeEvents._restart_node, 6),
    (NodeEvents._disconnect, 4),
    (NodeEvents._store_away, 3),
    (NodeEvents._fail_over, 4),
    (NodeEvents._cut_off, 3),
    (NodeEvents._cut_link, 5),
    (NodeEvents._lose_append, 4),
    (NodeEvents._deafen, 3),
    (NodeEvents._unheard, 2),
    (NodeEvents._stall, 3),
    (NodeEvents._late_feed, 4),
    (NodeEvents._drop, 4),
)
_EVENTS: Final = tuple(event for event, _ in _CHANCES)
_WEIGHTS: Final = tuple(sum(weight for _, weight in _CHANCES[: index + 1]) for index in range(len(_CHANCES)))
