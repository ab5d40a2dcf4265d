"""The store: an engine, and the nodes attached to it by a Unix socket.

In: calls of the nodes (`heartwire.engines.wire`). Out: answers, and to each node the publications, removals,
joins and leaves of the channels that it watches. The engine stays the one writer that it is in one process,
so every promise of it is kept by the same code.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from heartwire.core.waiting import settled
from heartwire.engines.contract import Engine, Feed
from heartwire.engines.pipe import Pipe
from heartwire.engines.wire import (
    VERSION,
    Call,
    Tell,
    change_of,
    member_parts,
    origin_of,
    packed,
    publisher_of,
    read_result_parts,
    start_of,
)
from heartwire.errors import EngineError, EngineUnavailable
from heartwire.store.nodes import Node, Store
from heartwire.transports.unix import bind_unix
from heartwire.types import NOW, Channel, Member, Message, Position

__all__ = ["serve"]

log = logging.getLogger("heartwire")

MAX_BACKLOG_BYTES: Final = 64 * 1024 * 1024
"""A node that takes nothing is cut off over this; it comes back, and reads what it has missed."""


class _Connection(Pipe):
    """The connection of a node."""

    def __init__(self, store: Store) -> None:
        super().__init__(self._handle, max_backlog_bytes=MAX_BACKLOG_BYTES)
        self._store = store
        self._node: Node | None = None
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
            case Call.RECORD:
                self._settle(parts[0], partial(engine.record, parts[1]))
            case Call.WRITE:
                number, channel, change = parts
                self._settle(number, partial(engine.write, channel, change_of(change, node=node.number)))
            case Call.HEADS:
                self._settle(parts[0], lambda: asyncio.ensure_future(self._heads(parts[1])))
            case Call.MEMBERS:
                self._settle(parts[0], lambda: asyncio.ensure_future(self._members(parts[1])))
            case Call.SWEEP:
                for channel, size, ttl_s in parts[1]:
                    store.keep(channel, size, ttl_s)
                self._settle(parts[0], lambda: asyncio.ensure_future(engine.sweep(store.retention)))
            case Call.NODES:
                self._answer(parts[0], store.nodes())
            case Call.ADMIT:
                number, user, client, limit = parts
                self._answer(number, store.admit(node, user, client, limit))
            case _:
                self._told(node, kind, parts)

    def _told(self, node: Node, kind: int, parts: list[Any]) -> None:
        """What is not answered."""
        store, engine = self._store, self._store.engine
        match kind:
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
            case Call.TOUCH:
                engine.touch(parts[0])
            case Call.SEND:
                store.send(node, *parts)
            case Call.DISMISS:
                store.dismiss(node, *parts)
            case _:
                raise ValueError(f"call {kind}")

    def _hello(self, number: int, version: int, name: str, failures: int = 0, *has: Any) -> None:
        if version != VERSION:
            message = f"the store speaks version {VERSION}, the node {version}: start both anew"
            self.write(packed(Tell.REFUSED, message))
            return
        self._failures = failures
        store = self._store
        self._node = store.join(name, self, *has)
        forgets = getattr(store.engine, "forgets", False)
        self.write(packed(Tell.WELCOME, self._node.number, store.life, forgets))

    # -- calls that are answered -----------------------------------------------------------------------------

    def _append(self, node: Node, parts: list[Any]) -> None:
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
    await engine.start(Feed(store.publication, removed=store.tell_removed))
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
