"""The store: an engine, and the nodes attached to it by a Unix socket.

In: calls of the nodes (`heartwire.engines.wire`). Out: answers, and to each node the publications, removals,
joins and leaves of the channels that it watches. The engine stays the one writer that it is in one process,
so every promise of it is kept by the same code.

A node whose connection ends has `GRACE_S` to come back; then its members are gone, and their leaves told.
"""

import asyncio
import contextlib
import itertools
import logging
import math
import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from heartwire.core.waiting import settled
from heartwire.engines.contract import Engine, Feed, Retention, Told
from heartwire.engines.pipe import Pipe
from heartwire.engines.wire import (
    VERSION,
    Call,
    Tell,
    member_parts,
    origin_of,
    packed,
    publication_parts,
    publisher_of,
    read_result_parts,
    start_of,
)
from heartwire.errors import EngineError, EngineUnavailable
from heartwire.transports.unix import bind_unix
from heartwire.types import NOW, Channel, Member, Message, Position, Publication

__all__ = ["GRACE_S", "Store", "serve"]

log = logging.getLogger("heartwire")

GRACE_S: Final = 5
MAX_BACKLOG_BYTES: Final = 64 * 1024 * 1024
"""A node that takes nothing is cut off over this; it comes back, and reads what it has missed."""

_MAX_KEPT: Final = 100_000
_ALL: Final = Retention(2**62, 10**9)


class Store:
    """See the module."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._watching: dict[Channel, dict[_Node, None]] = {}
        self._nodes: dict[str, _Node] = {}
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
        self, name: str, connection: "_Connection", watched: list[Channel], members: list[Any]
    ) -> "_Node":
        """A node says who it is, and what it has; it may have been here before."""
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = _Node(name, next(self._numbers))
        elif node.connection is not None:
            node.connection.abort()
        node.join(connection)
        for channel in node.watched - set(watched):
            self.unwatch(node, channel)
        for channel in watched:
            self.watch(node, channel)
        for channel, parts in members:
            self.lease(node, channel, Member(*parts))
        self._lose(node, node.members - {(channel, parts[0]) for channel, parts in members})
        return node

    def lease(self, node: "_Node", channel: Channel, member: Member) -> None:
        """A member is there as long as its node."""
        node.members.add((channel, member.client))
        self.engine.lease(channel, member, math.inf)

    def _lose(self, node: "_Node", members: set[tuple[Channel, str]]) -> None:
        for channel, client in members:
            node.members.discard((channel, client))
            self.engine.release(channel, client)
            member = node.announced.pop((channel, client), None)
            if member is not None:
                self._tell_member(channel, "leave", member)

    def part(self, node: "_Node") -> None:
        """The connection of a node has ended."""
        for channel in node.watched:
            self._unwatch(node, channel)
        node.watched.clear()
        node.connection = None
        if not self._is_closed:
            node.gone = asyncio.get_running_loop().call_later(GRACE_S, self._forget, node)

    def _forget(self, node: "_Node") -> None:
        del self._nodes[node.name]
        self._lose(node, node.members | node.announced.keys())

    # -- watching --------------------------------------------------------------------------------------------

    def watch(self, node: "_Node", channel: Channel) -> None:
        node.watched.add(channel)
        self._watching.setdefault(channel, {})[node] = None

    def unwatch(self, node: "_Node", channel: Channel) -> None:
        node.watched.discard(channel)
        self._unwatch(node, channel)

    def _unwatch(self, node: "_Node", channel: Channel) -> None:
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

    def announce(self, node: "_Node", channel: Channel, told: Told, member: Member) -> None:
        if told == "join":
            node.announced[channel, member.client] = member
        else:
            node.announced.pop((channel, member.client), None)
        self._tell_member(channel, told, member)

    def _tell_member(self, channel: Channel, told: Told, member: Member) -> None:
        frame = packed(Tell.MEMBER, channel, told, member_parts(member))
        self._tell(self._watching.get(channel, {}), frame)

    def _tell(self, nodes: "dict[_Node, None]", frame: bytes) -> None:
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


class _Node:
    """One node: what it watches, and its members."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.connection: _Connection | None = None
        self.gone: asyncio.TimerHandle | None = None
        self.watched: set[Channel] = set()
        self.members: set[tuple[Channel, str]] = set()  # those that live as long as it
        self.announced: dict[tuple[Channel, str], Member] = {}

    def join(self, connection: "_Connection") -> None:
        self.connection = connection
        if self.gone is not None:
            self.gone.cancel()
            self.gone = None


class _Connection(Pipe):
    """The connection of a node."""

    def __init__(self, store: Store) -> None:
        super().__init__(self._handle, max_backlog_bytes=MAX_BACKLOG_BYTES)
        self._store = store
        self._node: _Node | None = None
        self._failures = 0

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        node, self._node = self._node, None
        if node is not None and node.connection is self:
            self._store.part(node)

    def _handle(self, frame: list[Any]) -> None:
        kind, *parts = frame
        if kind == Call.HELLO:
            self._hello(*parts)
            return
        node = self._node
        assert node is not None, "hello comes first"
        store, engine = self._store, self._store.engine
        match kind:
            case Call.APPEND:
                self._append(node, parts)
            case Call.READ:
                self._read(*parts)
            case Call.REMOVE:
                number, channel = parts
                self._remove(number, channel)
            case Call.HEADS:
                self._settle(parts[0], lambda: asyncio.ensure_future(self._heads(parts[1])))
            case Call.MEMBERS:
                self._settle(parts[0], lambda: asyncio.ensure_future(self._members(parts[1])))
            case Call.SWEEP:
                for channel, size, ttl_s in parts[1]:
                    store.keep(channel, size, ttl_s)
                self._settle(parts[0], lambda: asyncio.ensure_future(engine.sweep(store.retention)))
            case Call.WATCH:
                store.watch(node, parts[0])
            case Call.UNWATCH:
                store.unwatch(node, parts[0])
            case Call.LEASE:
                channel, member, ttl_s = parts
                if ttl_s is None:
                    store.lease(node, channel, Member(*member))
                else:
                    engine.lease(channel, Member(*member), ttl_s)
            case Call.RELEASE:
                channel, client = parts
                node.members.discard((channel, client))
                engine.release(channel, client)
            case Call.ANNOUNCE:
                channel, told, member = parts
                store.announce(node, channel, told, Member(*member))
            case _:
                raise ValueError(f"call {kind}")

    def _hello(
        self, number: int, version: int, name: str, watched: list[Channel], members: list[Any]
    ) -> None:
        if version != VERSION:
            message = f"the store speaks version {VERSION}, the node {version}: start both anew"
            self.write(packed(Tell.FAILURE, number, "", message))
            return
        self._node = self._store.join(name, self, watched, members)
        self._answer(number, self._node.number)

    # -- calls that are answered -----------------------------------------------------------------------------

    def _append(self, node: _Node, parts: list[Any]) -> None:
        number, seen, channel, data, is_text, who, serial, size, ttl_s, key, key_ttl_s = parts
        if seen != self._failures:  # it was sent before its node heard that an earlier one failed
            self._failed(number, EngineUnavailable("what came before it was not stored"), counts=True)
            return
        message = Message(data, is_text, publisher_of(who), origin_of(node.number, serial))
        keep = self._store.keep(channel, size, ttl_s)
        append = partial(self._store.engine.append, channel, message, keep, key=key, key_ttl_s=key_ttl_s)
        self._settle(number, append, tuple, counts=True)

    def _read(
        self, number: int, channel: Channel, start: Any, size: int, ttl_s: float, limit: int, max_bytes: int
    ) -> None:
        keep = self._store.keep(channel, size, ttl_s)
        read = partial(self._store.engine.read, channel, start_of(start), keep)
        self._settle(number, partial(read, limit=limit, max_bytes=max_bytes), read_result_parts)

    def _remove(self, number: int, channel: Channel) -> None:
        def removed(position: Position) -> tuple[Any, ...]:
            self._store.tell_removed(channel, position)
            return tuple(position)

        self._settle(number, partial(self._store.engine.remove, channel), removed)

    def _settle(
        self,
        number: int,
        work: Callable[[], Any],
        parts_of: Callable[[Any], Any] = lambda value: value,
        *,
        counts: bool = False,
    ) -> None:
        """Answer a call with what ``work`` returns, at once or as a future. ``counts``: it is an append."""
        try:
            answer = work()
        except EngineError as error:
            self._failed(number, error, counts=counts)
            return
        if not isinstance(answer, asyncio.Future):
            self._answer(number, parts_of(answer))
            return

        def done(future: asyncio.Future[Any]) -> None:
            error = future.exception()
            if error is None:
                self._answer(number, parts_of(future.result()))
            else:
                self._failed(number, error, counts=counts)

        answer.add_done_callback(done)

    def _answer(self, number: int, value: Any) -> None:
        self.write(packed(Tell.ANSWER, number, value))

    def _failed(self, number: int, error: BaseException, *, counts: bool = False) -> None:
        if not isinstance(error, EngineError):
            log.error("the store failed", exc_info=error)
        self._failures += counts
        name = error.code.name if isinstance(error, EngineError) else ""
        self.write(packed(Tell.FAILURE, number, name, str(error)))

    async def _heads(self, channels: list[Channel]) -> list[tuple[Any, ...]]:
        heads = []
        for channel in channels:
            keep = self._store.retention(channel)
            result = await settled(self._store.engine.read(channel, NOW, keep, limit=0, max_bytes=1))
            heads.append(tuple(result.head))
        return heads

    async def _members(self, channel: Channel) -> list[tuple[Any, ...]]:
        return [member_parts(member) for member in await self._store.engine.members(channel)]


@contextlib.asynccontextmanager
async def serve(engine: Engine, path: Path) -> AsyncIterator[Store]:
    """Serve an engine on a Unix socket, which only its owner may use, as long as the block runs.

    Raises:
        EngineError: it cannot be opened.
        ConfigError: something else than a socket is at the path.
        OSError: the socket cannot be made.
    """
    store = Store(engine)
    await engine.start(Feed(store.publication))
    try:
        with contextlib.closing(bind_unix("socket", str(path), 0o600)) as listener:
            loop = asyncio.get_running_loop()
            server = await loop.create_unix_server(partial(_Connection, store), sock=listener)
            try:
                yield store
            finally:
                server.close()
                store.close()
                os.unlink(path)
    finally:
        await engine.stop()
