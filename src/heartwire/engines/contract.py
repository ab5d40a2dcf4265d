"""The contract of an engine, and the pure functions that engines share.

The hub calls engines; engines call ``notify``. `heartwire.testing.check_engine` tests an implementation
against this contract.
"""

import asyncio
import base64
import hashlib
from collections.abc import Callable
from typing import Protocol

import msgspec

from heartwire.core.switchboard import ReadResult
from heartwire.types import EARLIEST, Channel, Member, Message, Position, Publication, Start

__all__ = ["Clock", "Engine", "Notify", "Presence", "ReadResult", "Retention", "epoch_of", "plan_read"]

Clock = Callable[[], float]
"""Seconds since 1970 that only go forward: see `heartwire.engines.clock`."""

Notify = Callable[[Publication], None]
"""Called with every publication that is kept, in offset order per channel, on the event loop's thread."""


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


class Engine(Presence, Protocol):
    """A store of streams: the log of each channel. For now it keeps presence too.

    `append`, `read` and `remove` return the answer itself where the store is in this process's memory, else a
    future, so that the fast case needs no task; `heartwire.core.waiting.settled` awaits either.

    Promises:
        * the offsets of one epoch count 1, 2, 3 ... without holes; a lost stream gets another epoch;
        * an answered `append` is kept (each engine documents how durably), and every later `read` shows it;
        * `append` calls made in order by one caller are applied in that order;
        * ``notify`` is called once per publication, in order, before the append is answered.
    """

    async def start(self, notify: Notify) -> None:
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
        """Trim channels without new publications by age; forget old keys. Called about every minute."""


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
