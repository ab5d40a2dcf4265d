"""The contract of an engine, and the pure functions that engines share.

The hub calls engines; engines call a `Feed`. `heartwire.testing.check_engine` tests an implementation
against this contract.
"""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import msgspec

from heartwire.core.switchboard import ReadResult
from heartwire.types import EARLIEST, Channel, Member, Message, Position, Publication, Start

__all__ = [
    "Bus",
    "Clock",
    "Engine",
    "Feed",
    "FeedState",
    "Portable",
    "Presence",
    "ReadResult",
    "Recorded",
    "Records",
    "Retention",
    "SharedEngine",
    "StreamWrite",
    "Told",
    "UserLimits",
    "epoch_of",
    "plan_read",
    "shared_engine",
]

Clock = Callable[[], float]
"""Seconds since 1970 that only go forward: see `heartwire.engines.clock`."""

Told = Literal["join", "leave"]

FeedState = Literal["up", "behind", "down"]
"""Of what a shared engine tells: all; all, and the repair of what was missed is under way; nothing, because
the store, or its feed, is away."""


def _ignored(*about: object) -> None:
    pass


@dataclass(slots=True)
class Feed:
    """What an engine tells its node, as functions. They are called on the event loop's thread.

    Attributes:
        publication: every publication that is kept, in offset order per channel; a shared engine tells those
            of channels that are watched.
        behind: a watched stream is at this position, whatever was told: who is not there has to read.
        removed: the publications of a watched channel are forgotten, up to this position.
        member: somebody joined or left a watched channel, on any node.
        mail: another node has sent this: see `SharedEngine.send`.
        state: how much of all this comes now, and in words why; "up" before anything is said.
    """

    publication: Callable[[Publication], None] = _ignored
    behind: Callable[[Channel, Position], None] = _ignored
    removed: Callable[[Channel, Position], None] = _ignored
    member: Callable[[Channel, Told, Member], None] = _ignored
    mail: Callable[[bytes], None] = _ignored
    state: Callable[[FeedState, str], None] = _ignored


class Retention(msgspec.Struct, frozen=True):
    """What a stream keeps: the newest ``history_size`` publications, none older than ``history_ttl_s``."""

    history_size: int
    history_ttl_s: float
    is_followed: bool = False
    """In a sweep: somebody here reads the stream, so an engine that forgets empty ones keeps its place."""

    def since_ms(self, now: float) -> int:
        """What is older than this has ended."""
        return int(max(0, now - self.history_ttl_s) * 1000)


class Presence(Protocol):
    """The members of channels, as leases.

    Promises: calls are applied in order; a lease that is not renewed ends by itself.
    """

    def lease(self, channel: Channel, member: Member, ttl_s: float) -> None:
        """Make a member present for the next ``ttl_s`` seconds, or renew its lease. Never blocks."""

    def release(self, channel: Channel, client: str) -> None:
        """End a member's lease, where there is one. Never blocks."""

    async def members(self, channel: Channel) -> list[Member]:
        """Return the members that hold a lease, on any node."""


class Recorded(NamedTuple):
    """A stream record as the store has it: what a durable stream keeps beside its publications.

    Attributes:
        revision: names this state of it; 0: there is none, or its time has ended.
        record: its bytes, which the engine does not understand; empty where there is none.
        head: the last position of the stream.
        written_ms: when it was last written.
        now_ms: the store's time of the answer; both in milliseconds, by one clock for all nodes.
        ttl_s, ends_ms: its lifetime, see `StreamWrite`.
    """

    revision: int
    record: bytes
    head: Position
    written_ms: int
    now_ms: int
    ttl_s: float = 0
    ends_ms: int = 0


class StreamWrite(NamedTuple):
    """One change of a stream record, and what is appended in the same step.

    Attributes:
        expects: the revision that it changes; 0: there is no record. A stream that begins so forgets its
            publications, if it has any, and goes on in another epoch.
        revision: what it then has: 1 to 2**52, drawn at random, so that no two writes have the same.
        record: its bytes then; ``None``: record and publications are forgotten, and the epoch ends.
        messages: are appended, at consecutive offsets.
        ttl_s: the record ends, and its publications are forgotten, so long after its last write or `touch`;
            0: this does not end it.
        ends_ms: the same at a time, in milliseconds since 1970.
    """

    expects: int
    revision: int
    record: bytes | None
    messages: Sequence[Message] = ()
    ttl_s: float = 0
    ends_ms: int = 0


class Records(Protocol):
    """Stream records: small states that change in one step with what is appended to their streams.

    What is decided on a record is decided by its reader, who writes on the condition that nothing has changed
    meanwhile. A stream with a record is not written to by `Engine.append`, and is kept whole: the retention
    it is read with has no end.
    """

    def record(self, channel: Channel) -> Recorded | asyncio.Future[Recorded]:
        """Return the record of a stream."""

    def write(self, channel: Channel, change: StreamWrite) -> Recorded | asyncio.Future[Recorded]:
        """Change a record, if it still has the revision that the change expects.

        Returns:
            What the store has afterwards. The change was made where its revision is that of the change (for
            one that ends the record: 0), by this call or by an earlier one of the same change.
        Raises (at once or through the future):
            EngineUnavailable: nothing was stored, or what was will show in `record`.
        Promises: atomic; kept as an answered `append` is, so every later `record` and `read` shows it;
            applied in order with other writes, appends and removes of this node; cancelling the future does
            not undo it. The feed is told of each publication before the answer, or of a very large write by
            `Feed.behind`; and by `Feed.removed` of an epoch that ended, with the position in the next. A
            record whose time is over may end untold, until somebody asks for it.
        """

    def touch(self, channel: Channel) -> None:
        """Let a record's ``ttl_s`` begin now, or a tenth of it ago, if there is one. Never blocks."""


class Engine(Presence, Records, Protocol):
    """A store of streams: the log of each channel. For now it keeps presence too.

    `append`, `read` and `remove` return the answer itself where the store is in this process's memory, else a
    future, so that the fast case needs no task; `heartwire.core.waiting.settled` awaits either.

    Promises:
        * the offsets of one epoch count 1, 2, 3 ... without holes; a lost stream gets another epoch;
        * an answered `append` is kept (each engine documents how durably), and every later `read` shows it;
        * `append` calls made in order by one caller are applied in that order;
        * the feed is told of each publication once, in order, before the append is answered.
    """

    async def start(self, feed: Feed) -> None:
        """Open the store.

        Raises:
            EngineCorrupt: the store is damaged or another program's; it is left as it is.
            EngineUnavailable: the store cannot be reached or is in use.
        """

    async def stop(self) -> None:
        """Finish the appends under way and close the store. Idempotent."""

    def append(
        self,
        channel: Channel,
        message: Message,
        keep: Retention,
        *,
        key: str | None = None,
        key_ttl_s: float = 300,
    ) -> Position | asyncio.Future[Position]:
        """Append one message, then trim to ``keep``.

        Args:
            keep: the retention of the channel.
            key: idempotency key; used again within ``key_ttl_s`` of its first use here, it appends nothing.
        Returns:
            The position of the message; with a key used before, the position of its first use.
        Raises (at once or through the future):
            EngineUnavailable: nothing was appended.
            EngineUncertain: it may have been; the same key tells.
        Promises: atomic; cancelling the future does not undo the append. An append that fails through its
            future fails all later ones made before that future was done, so that a retry does not land behind
            them.
        """

    def read(
        self, channel: Channel, start: Start, keep: Retention, *, limit: int, max_bytes: int
    ) -> ReadResult | asyncio.Future[ReadResult]:
        """Read publications after ``start``, oldest first.

        Args:
            start: ``NOW`` reads nothing but the head.
            limit: most publications to return, >= 0.
            max_bytes: stop after the publication that reaches it.
        Returns:
            See `ReadResult`. A stream without publications is at offset 0 of the epoch that its first append
            will have.
        """

    def remove(self, channel: Channel) -> Position | asyncio.Future[Position]:
        """Forget the publications of a channel. Returns the position after them.

        Promises: applied in order with `append`; epoch, offsets, keys and leases continue, so a reader that
        had not seen all of the stream gets a gap.
        """

    async def sweep(self, retention: Callable[[Channel], Retention]) -> None:
        """Trim channels without new publications by age; forget old keys, and streams whose record has ended.
        Called about every minute."""


class Bus(Protocol):
    """What nodes say to each other.

    Attributes:
        node: the name of this node, which others use; the same from before `Engine.start` on.
    """

    node: str

    async def nodes(self) -> list[str]:
        """Return the nodes that are there, this one too. One that was cut off counts until it is given up, at
        most 30 s later. Raises `EngineUnavailable`."""

    def send(self, node: str | None, body: bytes) -> None:
        """Send to a node, or to all but this one, by `Feed.mail`. Never blocks.

        Promises: what one node sends another comes in order, each once, or not at all; nothing tells which.
        """


class UserLimits(Protocol):
    """How many connections each user has, over all nodes."""

    async def admit(self, user: str, client: str, limit: int) -> bool:
        """Count a connection, unless ``limit`` others are there. It counts until `dismiss`, or as long as its
        node; admitted again, it counts once. Raises `EngineUnavailable`.

        Promises: atomic over nodes.
        """

    def dismiss(self, user: str, client: str) -> None:
        """Count a connection no more. Never blocks."""


class SharedEngine(Engine, Bus, UserLimits, Protocol):
    """A store that other nodes use too. Its feed tells what is watched here, whichever node it came from.

    Presence holds as long as its node: a lease of ``math.inf`` seconds ends with the node, within 30 s.

    Promises: calls are applied in order with `append` and `read`: what is kept after a read that follows a
    `watch` is told, or `Feed.behind` tells that something was not. ``Publication.origin`` of what came from
    another node is 0. Before the append is answered a publication is told on the node that appended it, where
    that watches the channel and `Feed.state` is "up"; on others soon after.
    """

    is_shared: Literal[True]

    @property
    def is_reachable(self) -> bool:
        """Whether the store takes calls now."""

    def watch(self, channel: Channel) -> None:
        """Tell of a channel from now on. Never blocks."""

    def unwatch(self, channel: Channel) -> None:
        """Tell of it no more. Never blocks."""

    def heads(self, channels: Sequence[Channel]) -> asyncio.Future[list[Position]]:
        """Return the last positions of streams, as `read` from ``NOW`` does of one."""

    def announce(self, channel: Channel, told: Told, member: Member) -> None:
        """Have all nodes that watch a channel hear of a member, this one too. Never blocks. The leaves of
        members whose node is gone are told by the store, once."""


class Portable(Engine, Protocol):
    """An engine whose streams can be copied to another store: see `heartwire.engines.copying`."""

    def streams(self) -> AsyncIterator[tuple[Channel, Position]]:
        """All streams of the store, in any order, with their last positions."""

    async def restore(
        self,
        channel: Channel,
        head: Position,
        publications: Sequence[Publication],
        record: Recorded | None = None,
    ) -> None:
        """Have a stream of another store here: it is at ``head``, and ``publications`` of it are kept, oldest
        first, at their offsets and times. Called again with the same head, it keeps later ones too. Its
        record, if it has one, is given with the first of them, and its lifetime begins anew. Nobody uses the
        stream meanwhile. Tells no feed.
        """


def shared_engine(engine: Engine) -> SharedEngine | None:
    """The engine, where other nodes may use its store too."""
    return engine if getattr(engine, "is_shared", False) else None  # type: ignore[return-value]


def epoch_of(life: str, channel: Channel) -> str:
    """The epoch of a stream born in a store's ``life``: 8 characters, different in each channel and life."""
    digest = hashlib.blake2b(f"{life},{channel}".encode(), digest_size=6).digest()
    return base64.urlsafe_b64encode(digest).decode()


def plan_read(start: Start, head: Position, oldest: int) -> tuple[int, bool]:
    """Return the offset to read after, and whether that continues ``start``. Pure.

    ``oldest`` is the oldest kept offset, ``head.offset + 1`` where nothing is kept.
    """
    if isinstance(start, Position):
        if start.epoch == head.epoch and oldest - 1 <= start.offset <= head.offset:
            return start.offset, True
        return oldest - 1, False
    return (oldest - 1 if start is EARLIEST else head.offset), True
