"""The nodes of a store: what each watches, its members and its users' connections.

In: what nodes say, from `heartwire.store.serve`; publications, from the engine. Out: frames to the nodes that
they concern. A node whose connection ends has `GRACE_S` to come back; then its members are gone, and their
leaves told.
"""

import asyncio
import itertools
import math
import secrets
from collections import OrderedDict
from typing import Any, Final

from heartwire.engines.contract import Engine, Retention, Told
from heartwire.engines.pipe import Pipe
from heartwire.engines.wire import Tell, member_parts, packed, publication_parts
from heartwire.types import Channel, Member, Position, Publication

__all__ = ["GRACE_S", "Node", "Store"]

GRACE_S: Final = 5

_MAX_KEPT: Final = 100_000
_ALL: Final = Retention(2**62, 10**9)


class Node:
    """One node: what it watches, and its members."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.connection: Pipe | None = None
        self.gone: asyncio.TimerHandle | None = None
        self.watched: set[Channel] = set()
        self.members: set[tuple[Channel, str]] = set()  # those that live as long as it
        self.announced: dict[tuple[Channel, str], Member] = {}
        self.admitted: set[tuple[str, str]] = set()

    def join(self, connection: Pipe) -> None:
        self.connection = connection
        if self.gone is not None:
            self.gone.cancel()
            self.gone = None


class Store:
    """See the module.

    Attributes:
        life: another one each time.
        idle: set while no node is connected.
        joins: how often one has connected.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.life = secrets.token_hex(8)
        self.idle = asyncio.Event()
        self.idle.set()
        self.joins = 0
        self._watching: dict[Channel, dict[Node, None]] = {}
        self._nodes: dict[str, Node] = {}
        self._clients: dict[str, set[str]] = {}  # of users whose connections are limited
        self._numbers = itertools.count(1)
        self._kept: OrderedDict[Channel, Retention] = OrderedDict()
        self._is_closed = False

    def close(self) -> None:
        """End all connections; the nodes have gone, or will wait for another store."""
        self._is_closed = True
        for node in list(self._nodes.values()):
            if node.connection is not None:
                node.connection.abort()
            if node.gone is not None:
                node.gone.cancel()

    def join(
        self, name: str, connection: Pipe, watched: list[Channel], members: list[Any], admitted: list[Any]
    ) -> Node:
        """A node says who it is, and what it has; it may have been here before."""
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = Node(name, next(self._numbers))
        elif node.connection is not None:
            node.connection.abort()
        node.join(connection)
        self.joins += 1
        self.idle.clear()
        for channel in node.watched - set(watched):
            self.unwatch(node, channel)
        for channel in watched:
            self.watch(node, channel)
        for channel, parts in members:
            self.lease(node, channel, Member(*parts))
        self._lose(node, node.members - {(channel, parts[0]) for channel, parts in members})
        said = {(user, client) for user, client in admitted}
        for one in node.admitted - said:
            self.dismiss(node, *one)
        for user, client in said:
            self.admit(node, user, client, math.inf)
        return node

    def lease(self, node: Node, channel: Channel, member: Member) -> None:
        """A member is there as long as its node."""
        node.members.add((channel, member.client))
        self.engine.lease(channel, member, math.inf)

    def _lose(self, node: Node, members: set[tuple[Channel, str]]) -> None:
        for channel, client in members:
            node.members.discard((channel, client))
            self.engine.release(channel, client)
            member = node.announced.pop((channel, client), None)
            if member is not None:
                self._tell_member(channel, "leave", member)

    def part(self, node: Node) -> None:
        """The connection of a node has ended."""
        for channel in node.watched:
            self._unwatch(node, channel)
        node.watched.clear()
        node.connection = None
        if all(one.connection is None for one in self._nodes.values()):
            self.idle.set()
        if not self._is_closed:
            node.gone = asyncio.get_running_loop().call_later(GRACE_S, self._forget, node)

    def _forget(self, node: Node) -> None:
        del self._nodes[node.name]
        self._lose(node, node.members | node.announced.keys())
        for one in tuple(node.admitted):
            self.dismiss(node, *one)

    # -- nodes and users -------------------------------------------------------------------------------------

    def send(self, sender: Node, name: str | None, body: bytes) -> None:
        """Hand on what a node sends another, or all others."""
        chosen = self._nodes.values() if name is None else filter(None, [self._nodes.get(name)])
        self._tell({node: None for node in chosen if node is not sender}, packed(Tell.MAIL, body))

    def nodes(self) -> list[str]:
        """Those that are there, or have `GRACE_S` to come back."""
        return list(self._nodes)

    def admit(self, node: Node, user: str, client: str, limit: float) -> bool:
        """See `UserLimits.admit`."""
        clients = self._clients.setdefault(user, set())
        if client not in clients and len(clients) >= limit:
            return False
        clients.add(client)
        node.admitted.add((user, client))
        return True

    def dismiss(self, node: Node, user: str, client: str) -> None:
        """See `UserLimits.dismiss`."""
        node.admitted.discard((user, client))
        clients = self._clients.get(user, set())
        clients.discard(client)
        if not clients:
            self._clients.pop(user, None)

    # -- watching --------------------------------------------------------------------------------------------

    def watch(self, node: Node, channel: Channel) -> None:
        node.watched.add(channel)
        self._watching.setdefault(channel, {})[node] = None

    def unwatch(self, node: Node, channel: Channel) -> None:
        node.watched.discard(channel)
        self._unwatch(node, channel)

    def _unwatch(self, node: Node, channel: Channel) -> None:
        watching = self._watching.get(channel)
        if watching is not None:
            watching.pop(node, None)
            if not watching:
                del self._watching[channel]

    def publication(self, publication: Publication) -> None:
        watching = self._watching.get(publication.channel)
        if watching:
            self._tell(watching, packed(Tell.PUBLICATION, *publication_parts(publication)))

    def tell_removed(self, channel: Channel, position: Position) -> None:
        self._tell(self._watching.get(channel, {}), packed(Tell.REMOVED, channel, tuple(position)))

    def announce(self, node: Node, channel: Channel, told: Told, member: Member) -> None:
        if told == "join":
            node.announced[channel, member.client] = member
        else:
            node.announced.pop((channel, member.client), None)
        self._tell_member(channel, told, member)

    def _tell_member(self, channel: Channel, told: Told, member: Member) -> None:
        frame = packed(Tell.MEMBER, channel, told, member_parts(member))
        self._tell(self._watching.get(channel, {}), frame)

    def _tell(self, nodes: "dict[Node, None]", frame: bytes) -> None:
        for node in nodes:
            if node.connection is not None:
                node.connection.write(frame)

    # -- retention -------------------------------------------------------------------------------------------

    def keep(self, channel: Channel, size: int, ttl_s: float) -> Retention:
        """What a node says that a channel keeps. Sweeps go by what was said last."""
        keep = Retention(size, ttl_s)
        self._kept[channel] = keep
        self._kept.move_to_end(channel)
        if len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)
        return keep

    def retention(self, channel: Channel) -> Retention:
        """What a sweep leaves; all of what nobody has named in this life."""
        keep = self._kept.get(channel, _ALL)
        return Retention(keep.history_size, keep.history_ttl_s, channel in self._watching)
