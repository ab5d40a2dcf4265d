"""The promises about members, over all nodes of a simulation."""

from typing import Final

from heartwire.engines.contract import Told
from heartwire.testing.simulation.server import Whole
from heartwire.types import Channel

__all__ = ["MEMBERS_WITHIN_S", "Members"]

MEMBERS_WITHIN_S: Final = 30
"""So long after a node was killed its members may be listed."""


class Members:
    """Checks what each node hears of members, and at the end who is listed."""

    def __init__(self, world: Whole) -> None:
        self._world = world
        self._last: dict[str, dict[tuple[str, str], Told]] = {}

    def heard(self, node: str, channel: str, told: Told, client: str) -> None:
        """A node was told of a join or leave: check that it is not told twice."""
        last = self._last.setdefault(node, {})
        if last.get((channel, client)) == told:
            self._world.checks.fail(node, f"is told twice in a row of a {told} of {client} in {channel}")
        last[channel, client] = told

    def missed(self, node: str) -> None:
        """A node may have missed some: the next may be like the last."""
        self._last.pop(node, None)

    def untold(self) -> None:
        """What a node had to tell may not have got through: all others may have missed some."""
        self._last.clear()

    @property
    def are_right(self) -> bool:
        return not self._wrong()

    def at_the_end(self) -> None:
        """Check that those are listed who follow, and nobody else."""
        for channel, (listed, there) in self._wrong().items():
            what = f"{sorted(listed - there)} are listed and gone, {sorted(there - listed)} follow unlisted"
            self._world.checks.fail("store", f"members of {channel}: {what}")

    def _wrong(self) -> dict[str, tuple[set[str], set[str]]]:
        """By channel: who is listed, and who follows; where that is not the same."""
        server = self._world.server
        if server.store is None:
            return {}
        there: dict[str, set[str]] = {}
        for node in server.nodes:
            namespaces = node.hub.node.namespaces
            for connection in node.hub.node.connections:
                for name in connection.channels if connection.transport != "commands" else ():  # no members
                    if namespaces.of(Channel(name)).presence:
                        there.setdefault(name, set()).add(connection.id)
        wrong = {}
        for channel in {*server.truth.streams, *there}:
            listed = {member.client for member in server.store.members(Channel(channel))}
            if listed != there.get(channel, set()):
                wrong[channel] = listed, there.get(channel, set())
        return wrong
