"""Presence in this process's memory, for engines that serve one process."""

from heartwire.engines.contract import Clock
from heartwire.types import Channel, Member

__all__ = ["Leases"]


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

    def sweep_leases(self) -> None:
        """Forget the expired leases."""
        now = self._clock()
        for channel, held in list(self._leases.items()):
            for client in [client for client, (_, until) in held.items() if until <= now]:
                self.release(channel, client)
