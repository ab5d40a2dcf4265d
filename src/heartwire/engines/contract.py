"""The contract of an engine, and what engines share. `heartwire.testing.check_engine` puts any implementation
through it."""

import asyncio
import base64
import hashlib
from collections.abc import Callable
from typing import Protocol

import msgspec

from heartwire.core.switchboard import ReadResult
from heartwire.types import EARLIEST, Channel, Member, Message, Position, Publication, Start

__all__ = ["Clock", "Engine", "Leases", "Notify", "ReadResult", "Retention", "epoch_of", "plan_read"]

Clock = Callable[[], float]
"""Seconds since 1970, like ``time.time``."""

Notify = Callable[[Publication], None]
"""Told of every publication that is kept, in offset order per channel, on the event loop's thread."""


class Retention(msgspec.Struct, frozen=True):
    """How much of a stream is kept: the newest ``history_size`` publications, none older than
    ``history_ttl_s`` seconds."""

    history_size: int
    history_ttl_s: float


class Engine(Protocol):
    """Where streams live.

    `append` and `read` answer at once where the store is in this process's memory, and with a future where it
    is not, so that the fast case pays for no task; `heartwire.core.waiting.settled` awaits either.

    Promises of every engine:
        * offsets of one epoch count 1, 2, 3 ... without holes; a lost stream gets another epoch;
        * an answered `append` is kept (how durably, each engine says) and every later `read` shows it;
        * `append` calls made in order by one caller are applied in that order;
        * ``notify`` is called once per publication, in order, before the append is answered.
    """

    async def start(self, notify: Notify) -> None:
        """Open the store. Raises `EngineCorrupt` for one that is damaged or not ours (which is left as it
        is), `EngineUnavailable` for one that cannot be reached or is in use."""

    async def stop(self) -> None:
        """Finish what was begun and close. Idempotent."""

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
            key: idempotency key. Within ``key_ttl_s`` of its first use in this channel the same key appends
                nothing and answers the first position.
        Raises (at once or through the future):
            EngineUnavailable: nothing was appended.
        Promises: atomic; cancelling the future does not undo the append. One that fails through its future
        takes with it all
        that were handed in after it and before that future was told: what is sent again must not land behind
            them.
        """

    def read(
        self, channel: Channel, start: Start, keep: Retention, *, limit: int, max_bytes: int
    ) -> ReadResult | asyncio.Future[ReadResult]:
        """Read at most ``limit`` (>= 0) publications after ``start``, no more once ``max_bytes`` are read (at
        least one).

        ``NOW`` reads nothing and tells the head. A stream that has no publications yet is at offset 0 of the
        epoch that its first append will have.
        """

    def remove(self, channel: Channel) -> Position | asyncio.Future[Position]:
        """Forget the publications that are kept, and answer the position after them.

        Promises: the stream goes on: its epoch and offsets continue, keys hold, leases too. A reader who had
        not seen all of it is told of a gap. Applied in order with `append`.
        """

    def lease(self, channel: Channel, member: Member, ttl_s: float) -> None:
        """Note that a member is present for the next ``ttl_s`` seconds. Never blocks; applied in the order of
        calls."""

    def release(self, channel: Channel, client: str) -> None:
        """The member left. Never blocks; applied in the order of calls."""

    async def members(self, channel: Channel) -> list[Member]:
        """Who holds a lease, on any node."""

    async def sweep(self, retention: Callable[[Channel], Retention]) -> None:
        """Trim what has grown old in channels nobody publishes to; forget old keys. Called every minute or
        so."""


def epoch_of(life: str, channel: Channel) -> str:
    """The epoch of a stream born in a store's ``life``: 8 characters, another one in each channel and each
    life."""
    return base64.urlsafe_b64encode(
        hashlib.blake2b(f"{life},{channel}".encode(), digest_size=6).digest()
    ).decode()


def plan_read(start: Start, head: Position, oldest: int) -> tuple[int, bool]:
    """Decide a read: after which offset, and whether that continues ``start``.

    ``oldest`` is the oldest kept offset, ``head.offset + 1`` where nothing is kept. Pure; the same for every
    engine.
    """
    if isinstance(start, Position):
        if start.epoch == head.epoch and oldest - 1 <= start.offset <= head.offset:
            return start.offset, True
        return oldest - 1, False
    return (oldest - 1 if start is EARLIEST else head.offset), True


class Leases:
    """Presence leases in this process's memory, for engines of one process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._leases: dict[Channel, dict[str, tuple[Member, float]]] = {}

    def lease(self, channel: Channel, member: Member, ttl_s: float) -> None:
        """See `Engine.lease`."""
        self._leases.setdefault(channel, {})[member.client] = (member, self._clock() + ttl_s)

    def release(self, channel: Channel, client: str) -> None:
        """See `Engine.release`."""
        held = self._leases.get(channel)
        if held is not None and held.pop(client, None) is not None and not held:
            del self._leases[channel]

    async def members(self, channel: Channel) -> list[Member]:
        """See `Engine.members`."""
        now = self._clock()
        return [member for member, until in self._leases.get(channel, {}).values() if until > now]

    def sweep_leases(self) -> None:
        """Forget what has expired."""
        now = self._clock()
        for channel, held in list(self._leases.items()):
            for client in [client for client, (_, until) in held.items() if until <= now]:
                self.release(channel, client)
