"""The connections between the nodes of a simulation and their store, and what goes wrong on them."""

from collections.abc import Callable
from typing import Any, Final

from heartwire.testing.simulation.loop import VirtualLoop
from heartwire.testing.simulation.network import Lane, Path

__all__ = ["LOST", "Connection"]

LOST: Final = ("lost",)
"""Stands for what was lost on the way, so that the checks know."""


class Connection:
    """One ordered connection of a node to the store.

    Args:
        at_store, at_node: take what arrives there, in the order it was sent.

    Attributes:
        ended: done once the node knows that it is over: why.
        has_faults: something on it was or will be late or lost, and it is not over.
        is_cut_next: it ends once the store has carried out the next call, before it answers.
        subscribed: the channels that the store tells of on it.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        path: Path,
        at_store: Callable[["Connection", Any], None],
        at_node: Callable[[Any], None],
    ) -> None:
        self.ended = loop.create_future()
        self.has_faults = False
        self._drops = 0
        self.is_cut_next = False
        self.subscribed: set[str] = set()
        self.up = Lane(loop, path, lambda thing: at_store(self, thing))
        self.down = Lane(loop, path, at_node)

    @property
    def is_over(self) -> bool:
        return self.ended.done()

    def tell(self, thing: Any) -> None:
        """Send the node what it has not asked for."""
        if self._drops:
            self._drops -= 1
            self.down.send(LOST)
        else:
            self.down.send(thing)

    def lose(self, count: int) -> None:
        """Lose so many of the next things that the store tells of itself."""
        self.has_faults, self._drops = True, count

    def stall(self) -> None:
        """Bring the node nothing, until `go_on` was called as often."""
        self.has_faults = True
        self.down.hold()

    def go_on(self) -> None:
        """See `stall`."""
        self.down.release()

    def break_silently(self, *, up: bool = False, down: bool = False) -> None:
        """Pass nothing in one direction. Nobody is told."""
        self.has_faults = True
        if up:
            self.up.kill()
        if down:
            self.down.kill()

    def cut(self, why: str) -> None:
        """End it at both ends; what is on its way is lost. Idempotent."""
        self.up.kill()
        self.down.kill()
        if not self.ended.done():
            self.ended.set_result(why)
