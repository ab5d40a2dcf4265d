"""The engine of a node that shares a store process with others of its host.

In: the calls of `SharedEngine`. Out: frames of `heartwire.engines.wire` on a Unix socket, one write a turn of
the event loop; and what the store tells, to the node's feed. The store (`heartwire.store`) keeps the
promises; this end keeps the order, and repairs what a broken connection leaves open.

When the connection breaks (the store was killed, say) calls wait for ``patience_s``, and those under way are
sent again. Applied once are appends with a key, writes of records, which name what they change, and all that
a store had in memory only, and lost. Of an append without a key nobody could tell whether the file has it: it
raises `EngineUncertain`, and so do those behind it. Once the store is there again the node watches its
channels anew, asks where they are, and has those read that have missed something.
"""

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol, Self
from urllib.parse import urlsplit

from heartwire.engines.attached_calls import Calls
from heartwire.engines.contract import Feed, ReadResult, Recorded, Retention, StreamWrite, Told
from heartwire.engines.own_node import OwnNode
from heartwire.engines.pipe import Pipe
from heartwire.engines.wire import (
    MOST,
    VERSION,
    Call,
    Tell,
    change_parts,
    keep_parts,
    member_of,
    member_parts,
    packed,
    publication_of,
    publisher_parts,
    start_part,
)
from heartwire.errors import ConfigError, EngineError, EngineUnavailable
from heartwire.types import Channel, Member, Message, Position, Start

__all__ = ["AttachedEngine", "StoreProcess"]

log = logging.getLogger("heartwire")

_MAX_CALLS: Final = 20_000
_MAX_BYTES: Final = 128 * 1024 * 1024
_HEADS: Final = 1000
_MAX_USED: Final = 10_000
_RETRY_S: Final = 0.05
_REFUSED_S: Final = 1
_STOP_S: Final = 10
_SUMMONED_S: Final = 60
"""How long the start waits for a store that is started first: it may have a large file to check."""


class StoreProcess(Protocol):
    """A store that is started when nobody serves it."""

    def locate(self) -> Path:
        """Where its socket is, for this process."""

    async def summon(self) -> None:
        """Have one started, where nobody else has done it. Raises `EngineError`: why it cannot be."""


class AttachedEngine(OwnNode):
    """`SharedEngine` by way of a store process.

    Args:
        path: the store's Unix socket.
        patience_s: how long calls wait for a store that is away.
        store: in place of ``path``.

    Promises: those of the store's own engine. At most 20,000 calls or 128 MiB are under way; over that
    `append` raises `EngineUnavailable` at once.
    """

    is_shared: Literal[True] = True

    def __init__(
        self, path: str | Path = "", *, patience_s: float = 5, store: StoreProcess | None = None
    ) -> None:
        super().__init__()
        self.path = Path(path)
        self.patience_s = patience_s
        self._store = store
        self._number = 0  # the node's, in the store's present life
        self._feed = Feed()
        self._pipe: Pipe | None = None
        self._calls = Calls()
        self._sent = 0  # the newest call that an earlier connection may have brought to the store
        self._failures = 0  # of appends, as heard from the store
        self._life = ""  # the store's
        self._forgets = False  # it loses all with its life
        self._watched: dict[Channel, None] = {}
        self._used: OrderedDict[Channel, None] = OrderedDict()  # by their last append
        self._members: dict[tuple[Channel, str], Member] = {}
        self._admitted: dict[tuple[str, str], None] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._welcome: asyncio.Future[Any]

    @classmethod
    def from_url(cls, url: str) -> Self:
        """``attached:///ABSOLUTE/SOCKET``. Raises `ConfigError`."""
        parts = urlsplit(url)
        if parts.netloc or parts.query or len(parts.path) < 2:
            raise ConfigError("engine", url, "attached:///ABSOLUTE/SOCKET, where a store process listens")
        return cls(parts.path)

    @property
    def is_reachable(self) -> bool:
        return self._pipe is not None

    # -- life ------------------------------------------------------------------------------------------------

    async def start(self, feed: Feed) -> None:
        """See `Engine.start`. Waits ``patience_s`` for the store, longer for one that is started first."""
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        self._begin_node()
        if self._store is not None:
            self.path = self._store.locate()
        try:
            async with asyncio.timeout(self.patience_s if self._store is None else _SUMMONED_S):
                await self._connect()
        except TimeoutError:
            raise EngineUnavailable(f"{self.path}: no store process listens there") from None
        self._keeper = self._loop.create_task(self._keep_connected())

    async def stop(self) -> None:
        """See `Engine.stop`."""
        if self._keeper is None:
            return
        await self._calls.settled(_STOP_S)
        keeper, self._keeper = self._keeper, None
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            await pipe.close()
        self._calls.fail(self._calls, f"{self.path}: the engine has stopped", sent=self._calls.last)

    async def _keep_connected(self) -> None:
        while True:
            pipe = self._pipe
            assert pipe is not None
            await asyncio.wait([pipe.ended])  # which a cancelled task leaves alone
            self._pipe = None
            log.error("%s: the store is gone; waiting for it", self.path)
            self._feed.state("down", f"{self.path}: the store is gone")
            self._broken()
            await self._connect()
            log.warning("%s: the store is there again", self.path)

    async def _connect(self) -> None:
        """Connect, however long it takes, and bring the store up to date about this node."""
        while True:
            try:
                _, pipe = await self._loop.create_unix_connection(self._new_pipe, str(self.path))
            except OSError:
                await self._summon()
                await asyncio.sleep(_RETRY_S)
                continue
            members = [(channel, member_parts(member)) for (channel, _), member in self._members.items()]
            watched, admitted = list(self._watched), list(self._admitted)
            self._welcome = self._loop.create_future()
            pipe.write(packed(Call.HELLO, 0, VERSION, self.node, self._failures, watched, members, admitted))
            await asyncio.wait([self._welcome, pipe.ended], return_when=asyncio.FIRST_COMPLETED)
            if not self._welcome.done():
                await asyncio.sleep(_RETRY_S)
                continue
            try:
                self._number, life, self._forgets = self._welcome.result()
            except EngineError as error:
                await pipe.close()
                if self._keeper is None:
                    raise
                log.error("%s: %s", self.path, error)
                await asyncio.sleep(_REFUSED_S)
                continue
            if life == self._life:  # it was not the store that broke off, so it has what it had
                self._calls.fail_unsure(self._sent, f"{self.path}: the connection to the store broke off")
            self._life = life
            self._joined(pipe, watched, members)
            for user, client in set(admitted) - self._admitted.keys():
                self._say(Call.DISMISS, user, client)
            return

    def _new_pipe(self) -> Pipe:
        return Pipe(self._hear, max_backlog_bytes=math.inf)

    async def _summon(self) -> None:
        """Have a store started, where that is ours to do. At the start of the engine a failure is its."""
        if self._store is None:
            return
        try:
            await self._store.summon()
        except EngineError as error:
            if self._keeper is None:
                raise
            log.error("%s: %s", self.path, error)
            await asyncio.sleep(_REFUSED_S)

    def _joined(
        self, pipe: Pipe, watched: list[Channel], members: list[tuple[Channel, tuple[Any, ...]]]
    ) -> None:
        """Say what has come since the hello, and send what waits."""
        self._pipe = pipe
        for channel in self._watched.keys() - set(watched):
            self._say(Call.WATCH, channel)
        said = {(channel, parts[0]) for channel, parts in members}
        for (channel, client), member in self._members.items():
            if (channel, client) not in said:
                self._say(Call.LEASE, channel, member_parts(member), None)
        for channel in set(watched) - self._watched.keys():
            self._say(Call.UNWATCH, channel)
        for channel, client in said - self._members.keys():
            self._say(Call.RELEASE, channel, client)
        for frame in self._calls.frames():
            pipe.write(frame)
        watched = list(self._watched)
        parts = [watched[at : at + _HEADS] for at in range(0, len(watched), _HEADS)]
        if self._keeper is not None:
            self._feed.state("behind", f"{self.path}: asking where the channels are")
        asked = [self._ask_heads(part) for part in parts]

        def repaired(future: asyncio.Future[Any]) -> None:
            if self._keeper is not None and self._pipe is pipe:
                self._feed.state("up", "")

        asyncio.gather(*asked, return_exceptions=True).add_done_callback(repaired)

    def _ask_heads(self, channels: list[Channel]) -> asyncio.Future[list[Position]]:
        def answered(future: asyncio.Future[list[Position]]) -> None:
            if future.cancelled() or future.exception() is not None:
                return  # the connection broke again
            for channel, head in zip(channels, future.result(), strict=True):
                self._feed.behind(channel, head)

        asked = self.heads(channels)
        asked.add_done_callback(answered)
        return asked

    def _broken(self) -> None:
        """Fail the appends that the store may have; the rest is sent again, or was not sent yet."""
        self._sent = self._calls.last
        if not self._forgets:
            self._calls.fail_unsure(self._sent, f"{self.path}: the store broke off")
        self._loop.call_later(self.patience_s, self._lose_patience, list(self._calls))

    def _lose_patience(self, numbers: list[int]) -> None:
        if self._pipe is None:
            self._calls.fail(numbers, f"{self.path}: the store is away", sent=self._sent)

    # -- the connection --------------------------------------------------------------------------------------

    def _call(self, kind: Call, *parts: Any, can_repeat: bool = True) -> asyncio.Future[Any]:
        """Send a call that is answered; now, or once the store is there."""
        if self._keeper is None and self._pipe is None:
            raise EngineUnavailable(f"{self.path}: the engine is not running")
        call = self._calls.add(kind, *parts, can_repeat=can_repeat)
        if self._pipe is not None:
            self._pipe.write(call.frame)
        else:
            self._loop.call_later(self.patience_s, self._lose_patience, [self._calls.last])
        return call.future

    def _say(self, kind: Call, *parts: Any) -> None:
        """Send what is not answered; what the store has to know is said again when it comes back."""
        if self._pipe is not None:
            self._pipe.write(packed(kind, *parts))

    def _hear(self, frame: list[Any]) -> None:
        kind, *parts = frame
        match kind:
            case Tell.PUBLICATION:
                self._feed.publication(publication_of(parts, node=self._number))
            case Tell.ANSWER:
                self._calls.answered(*parts)
            case Tell.FAILURE:
                self._failures += self._calls.failed(*parts)
            case Tell.WELCOME:
                self._welcome.set_result(parts)
            case Tell.REFUSED:
                self._welcome.set_exception(EngineError(*parts))
            case Tell.REMOVED:
                self._feed.removed(parts[0], Position(*parts[1]))
            case Tell.MEMBER:
                self._feed.member(parts[0], parts[1], member_of(parts[2]))
            case Tell.MAIL:
                self._feed.mail(parts[0])
            case _:
                raise ValueError(f"the store tells {kind}")

    # -- the engine ------------------------------------------------------------------------------------------

    def append(
        self,
        channel: Channel,
        message: Message,
        keep: Retention,
        *,
        key: str | None = None,
        key_ttl_s: float = 300,
    ) -> asyncio.Future[Position]:
        self._check_room(len(message.data))
        self._used[channel] = None
        self._used.move_to_end(channel)
        if len(self._used) > _MAX_USED:
            self._used.popitem(last=False)
        return self._call(
            Call.APPEND,
            self._failures,
            channel,
            message.data,
            message.is_text,
            publisher_parts(message.publisher),
            message.origin,
            *keep_parts(keep),
            key,
            key_ttl_s,
            can_repeat=key is not None,
        )

    def _check_room(self, size: int) -> None:
        if len(self._calls) >= _MAX_CALLS or self._calls.bytes + size > _MAX_BYTES:
            why = f"{len(self._calls)} calls are waiting for the store; nothing was published"
            raise EngineUnavailable(f"{self.path}: {why}")

    def read(
        self, channel: Channel, start: Start, keep: Retention, *, limit: int, max_bytes: int
    ) -> asyncio.Future[ReadResult]:
        limit, max_bytes = min(limit, MOST), min(max_bytes, MOST)
        return self._call(Call.READ, channel, start_part(start), *keep_parts(keep), limit, max_bytes)

    def remove(self, channel: Channel) -> asyncio.Future[Position]:
        return self._call(Call.REMOVE, channel)

    def record(self, channel: Channel) -> asyncio.Future[Recorded]:
        return self._call(Call.RECORD, channel)

    def write(self, channel: Channel, change: StreamWrite) -> asyncio.Future[Recorded]:
        self._check_room(sum(len(message.data) for message in change.messages) + len(change.record or b""))
        return self._call(Call.WRITE, channel, change_parts(change))

    def touch(self, channel: Channel) -> None:
        self._say(Call.TOUCH, channel)

    async def sweep(self, retention: Callable[[Channel], Retention]) -> None:
        """See `Engine.sweep`. The store goes by what its nodes have said last of each channel."""
        await self._call(Call.SWEEP, [(one, *keep_parts(retention(one))) for one in self._used])

    def watch(self, channel: Channel) -> None:
        self._watched[channel] = None
        self._say(Call.WATCH, channel)

    def unwatch(self, channel: Channel) -> None:
        self._watched.pop(channel, None)
        self._say(Call.UNWATCH, channel)

    def heads(self, channels: Sequence[Channel]) -> asyncio.Future[list[Position]]:
        return self._call(Call.HEADS, list(channels))

    def announce(self, channel: Channel, told: Told, member: Member) -> None:
        """See `SharedEngine.announce`. While the store is away nobody hears of joins; of leaves, later."""
        self._say(Call.ANNOUNCE, channel, told, member_parts(member))

    # -- presence --------------------------------------------------------------------------------------------

    def lease(self, channel: Channel, member: Member, ttl_s: float) -> None:
        is_for_good = ttl_s == math.inf
        if is_for_good:
            self._members[channel, member.client] = member
        self._say(Call.LEASE, channel, member_parts(member), None if is_for_good else ttl_s)

    def release(self, channel: Channel, client: str) -> None:
        self._members.pop((channel, client), None)
        self._say(Call.RELEASE, channel, client)

    async def members(self, channel: Channel) -> list[Member]:
        return await self._call(Call.MEMBERS, channel)  # type: ignore[no-any-return]

    # -- nodes and users -------------------------------------------------------------------------------------

    async def nodes(self) -> list[str]:
        return await self._call(Call.NODES)  # type: ignore[no-any-return]

    def send(self, node: str | None, body: bytes) -> None:
        self._say(Call.SEND, node, body)

    async def admit(self, user: str, client: str, limit: int) -> bool:
        is_admitted: bool = await self._call(Call.ADMIT, user, client, limit)
        if is_admitted:
            self._admitted[user, client] = None
        return is_admitted

    def dismiss(self, user: str, client: str) -> None:
        self._admitted.pop((user, client), None)
        self._say(Call.DISMISS, user, client)
