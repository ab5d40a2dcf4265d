"""Presence in this process's memory, for engines that serve one process."""

import asyncio
from typing import Final

from heartwire.engines.contract import Clock
from heartwire.types import Channel, Member

__all__ = ["SWEPT_AT_ONCE", "Leases"]

SWEPT_AT_ONCE: Final = 256
"""About a millisecond of work: so long a sweep holds up the event loop."""


class Leases:
    """`Presence` over a dict: the base of `MemoryEngine` and `SqliteEngine`. Leases end with the process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._leases: dict[Channel, dict[str, tuple[Member, float]]] = {}

    def lease(self, channel: Channel, member: Member, ttl_s: float) -> None:
        self._leases.setdefault(channel, {})[member.client] = (member, self._clock() + ttl_s)

    def release(self, channel: Channel, client: str) -> None:
        held = self._leases.get(channel)
        if held is not None and held.pop(client, None) is not None and not held:
            del self._leases[channel]

    async def members(self, channel: Channel) -> list[Member]:
        now = self._clock()
        return [member for member, until in self._leases.get(channel, {}).values() if until > now]

    async def sweep_leases(self) -> None:
        """Forget the expired leases, `SWEPT_AT_ONCE` channels in a turn of the loop."""
        now = self._clock()
        for count, channel in enumerate(list(self._leases), 1):
            held = self._leases.get(channel, {})
            for client in [client for client, (_, until) in held.items() if until <= now]:
                self.release(channel, client)
            if count % SWEPT_AT_ONCE == 0:
                await asyncio.sleep(0)
