"""The store that the nodes of a simulation share: what Redis or PostgreSQL is to real ones.

In: calls of nodes, in order on the connection of each. Out: answers; and on each node's feed what it watches.
It can be away, lose all it has, and be taken over by a copy that had not yet got the last of it.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, Final

from heartwire.engines.changes import Enter, Key, Leave
from heartwire.engines.contract import Recorded, StreamWrite, Told, epoch_of
from heartwire.testing.simulation.engine import Store, World
from heartwire.testing.simulation.links import Connection
from heartwire.testing.simulation.truth import Truth
from heartwire.types import Channel, Member, Message, Position, Publication

__all__ = ["SharedStore"]

_NODE: Final = "store"


class SharedStore:
    """See the module. A node's name is its life: it never comes back under the same one.

    Attributes:
        memory: the streams.
        feeds, commands: the connections by which it tells each node, and those of calls.
        away_until: no connection is taken before.
    """

    def __init__(self, world: World, truth: Truth) -> None:
        self.feeds: dict[str, Connection] = {}
        self.commands: dict[str, Connection] = {}
        self.away_until = 0.0
        self._world, self._truth = world, truth
        self._lives = 0
        self.lose()

    # -- life ------------------------------------------------------------------------------------------------

    def lose(self) -> None:
        """Lose everything, and with it all connections."""
        self._lives += 1
        self.memory = Store(f"shared {self._lives} of {self._world.seed}", self._world.wall)
        self.memory._notify, self.memory._removed = self._kept, self._ended
        self._tokens: dict[str, tuple[Channel, int]] = {}
        self._nodes: dict[str, float] = {}
        self._members: dict[Channel, dict[str, tuple[str, float, Member]]] = {}
        self._announced: dict[Key, tuple[str, Member]] = {}
        self._users: dict[str, dict[str, str]] = {}
        self._author = ""
        self._told: Publication | None = None
        self._records: dict[Channel, list[Recorded]] = {}  # each as it was written
        self.cut("the store is gone")

    def fail_over(self, lost: int) -> None:
        """A copy takes over that has not got the last ``lost`` publications of each stream. Their offsets are
        used again, in new epochs."""
        self.cut("another server is the store now")
        self._lives += 1
        for channel, stream in self.memory._streams.items():
            was = Position(stream.epoch, max(0, stream.head - lost))
            if stream.record is not None:
                was = self._record_before(channel, was)
            stream.head = was.offset
            stream.items = [one for one in stream.items if one.offset <= was.offset]
            for key, (offset, _) in list((stream.keys or {}).items()):
                if offset > was.offset:
                    del stream.keys[key]  # type: ignore[union-attr]
            self._renew(channel, was, self.fenced(channel, was.epoch))
        heads = {channel: stream.head for channel, stream in self.memory._streams.items()}
        self._tokens = {
            token: place for token, place in self._tokens.items() if place[1] <= heads.get(place[0], 0)
        }

    def _record_before(self, channel: Channel, was: Position) -> Position:
        """Go back to the last record that was written up to a position. Returns its own."""
        written = self._records[channel]
        while written and written[-1].head.offset > was.offset:
            written.pop()
        self.memory._streams[channel].record = written[-1] if written else None
        return Position(was.epoch, written[-1].head.offset if written else 0)

    def _renew(self, channel: Channel, was: Position, epoch: str) -> None:
        stream = self.memory._streams[channel]
        stream.epoch = epoch
        stream.items = [_in_epoch(one, stream.epoch) for one in stream.items]
        self._truth.renew(channel, was, stream.epoch)

    def fenced(self, channel: Channel, was: str) -> str:
        """The epoch of a stream that was in the epoch ``was``, now that another server has it."""
        return epoch_of(f"{was} {self._lives}", channel)

    def go_away(self, seconds: float) -> None:
        """Take no connection for so long."""
        self.away_until = max(self.away_until, self._world.loop.now_s + seconds)
        self.cut("the store is away")

    def cut(self, why: str) -> None:
        """End all connections."""
        for connection in (*self.commands.values(), *self.feeds.values()):
            connection.cut(why)
        self.commands.clear()
        self.feeds.clear()

    @property
    def is_there(self) -> bool:
        return self._world.loop.now_s >= self.away_until

    # -- connections -----------------------------------------------------------------------------------------

    def carry_out(self, connection: Connection, work: tuple[Any, Callable[["SharedStore"], Any]]) -> None:
        """Answer a call."""
        call, what = work
        answer = what(self)
        if connection.is_cut_next:
            connection.cut("it broke before the answer came")
        else:
            connection.down.send((call, answer))

    def hear(self, connection: Connection, what: tuple[str, Channel]) -> None:
        """A node asks for something on its feed: "subscribe" or "unsubscribe"."""
        verb, channel = what
        if verb == "subscribe":
            connection.subscribed.add(channel)
            connection.down.send(("confirmed", channel))
        else:
            connection.subscribed.discard(channel)

    def _tell(self, channel: Channel, thing: Any) -> None:
        for feed in self.feeds.values():
            if channel in feed.subscribed:
                feed.tell(thing)

    # -- streams ---------------------------------------------------------------------------------------------

    def append(
        self, node: str, token: str, channel: Channel, message: Message, options: Any
    ) -> tuple[Position, bool]:
        """Append, unless ``token`` says that this was done. Returns the position, and whether it is new."""
        done = self._tokens.get(token)
        if done is not None:
            return Position(self.memory.head(channel).epoch, done[1]), False
        self._author, self._told = node, None
        keep, key, key_ttl_s = options
        position = self.memory.append(channel, message, keep, key=key, key_ttl_s=key_ttl_s)
        if self._told is not None:
            self._tokens[token] = channel, position.offset
        return position, self._told is not None

    def _kept(self, publication: Publication) -> None:
        self._told = publication
        self._truth.record(publication)
        self._tell(publication.channel, ("publication", self._author, publication))

    def remove(self, channel: Channel) -> Position:
        position = self.memory.remove(channel)
        self._tell(channel, ("removed", channel, position))
        return position

    def write(self, node: str, channel: Channel, change: StreamWrite) -> Recorded:
        """See `Records.write`."""
        self._author = node
        before, found = self.memory.record(channel), self.memory.write(channel, change)
        if found.revision not in (0, before.revision):
            self._records.setdefault(channel, []).append(found)
            if not change.expects:
                del self._records[channel][:-1]
        return found

    def _ended(self, channel: Channel, position: Position) -> None:
        self._tell(channel, ("removed", channel, position))

    def renew(self, channel: Channel, epoch: str) -> Position:
        """Give a stream another epoch, if it still has this one."""
        head = self.memory.head(channel)
        if head.epoch == epoch and channel in self.memory._streams:
            self._lives += 1
            self._renew(channel, head, epoch_of(f"{epoch} {self._lives}", channel))
        return self.memory.head(channel)

    # -- nodes -----------------------------------------------------------------------------------------------

    def beat(self, node: str, lease_s: float) -> bool:
        """A node lives. Returns whether its lease had held."""
        now = self._world.wall()
        held = self._nodes.get(node, 0) > now
        self._nodes[node] = now + lease_s
        return held

    def part(self, node: str) -> None:
        """A node goes."""
        self._nodes[node] = 0

    def nodes(self) -> list[str]:
        now = self._world.wall()
        return [node for node, until in self._nodes.items() if until > now]

    def reap(self) -> None:
        """Remove the members of dead nodes, and tell their leaves."""
        alive = set(self.nodes())
        for node in self._nodes.keys() - alive:
            del self._nodes[node]
        for members in self._members.values():
            for client, (node, until, _) in list(members.items()):
                if until == math.inf and node not in alive:
                    del members[client]
        for (channel, _), (node, member) in list(self._announced.items()):
            if node not in alive:
                self.announce(node, channel, "leave", member)
        for clients in self._users.values():
            for client, node in list(clients.items()):
                if node not in alive:
                    del clients[client]

    def send(self, node: str, to: str | None, body: bytes) -> None:
        """Hand on what a node sends another, or all others."""
        for name, feed in self.feeds.items():
            if name == to or (to is None and name != node):
                feed.tell(("mail", body))

    def probe(self, node: str) -> None:
        """Tell a node by its feed that it was asked to."""
        if node in self.feeds:
            self.feeds[node].tell(("probe",))

    # -- members and users -----------------------------------------------------------------------------------

    def change(
        self, node: str, changes: dict[Key, Enter | Leave], dismissed: Iterable[tuple[str, str]]
    ) -> None:
        """Write changes of a node's members and users."""
        now = self._world.wall()
        for (channel, client), change in changes.items():
            members = self._members.setdefault(channel, {})
            if isinstance(change, Leave):
                members.pop(client, None)
            else:
                members[client] = node, now + change.ttl_s, change.member
        for user, client in dismissed:
            self._users.get(user, {}).pop(client, None)

    def members(self, channel: Channel) -> list[Member]:
        now, alive = self._world.wall(), set(self.nodes())
        members = self._members.get(channel, {}).values()
        return [one for node, until, one in members if until > now and (until < math.inf or node in alive)]

    def announce(
        self, node: str, channel: Channel, told: Told, member: Member, *, again: bool = False
    ) -> None:
        """Tell a join or a leave; ``again``: unless the join was told and no leave since."""
        key = channel, member.client
        if again and key in self._announced:
            return
        if told == "join":
            self._announced[key] = node, member
        elif self._announced.pop(key, None) is None:
            return
        self._tell(channel, ("member", channel, told, member))

    def admit(self, node: str, user: str, client: str, limit: float) -> bool:
        """See `UserLimits.admit`."""
        clients, alive = self._users.setdefault(user, {}), {*self.nodes(), node}
        others = [one for one, of in clients.items() if of in alive and one != client]
        if len(others) >= limit:
            return False
        clients[client] = node
        return True


def _in_epoch(one: Publication, epoch: str) -> Publication:
    return Publication(
        one.channel, epoch, one.offset, one.data, one.is_text, one.publisher, one.time_ms, one.origin
    )
