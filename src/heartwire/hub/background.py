"""Background tasks of one node: heartbeats, deadlines, leases, sweeps."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from heartwire.core.deadlines import Deadlines
from heartwire.core.liveness import Liveness
from heartwire.hub.clocks import Clocks
from heartwire.hub.options import HubOptions

__all__ = ["Background"]

_SWEEP_S: Final = 60


class Background:
    """See the module.

    Args:
        renew: renews leases; called every third of ``lease_s``, a little earlier by chance.
        sweep: forgets what is too old; called about every minute.
    Attributes:
        deadlines: of any part of the node.
        liveness: the wheel of connections whose peers answer; there from `start` on.
        stream_liveness: the wheel of streams, whose peers cannot.
        tasks: ended by `stop`.
    """

    liveness: Liveness
    stream_liveness: Liveness

    def __init__(
        self,
        options: HubOptions,
        clocks: Clocks,
        *,
        lease_s: float,
        renew: Callable[[], None],
        sweep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.deadlines = Deadlines()
        self.tasks: list[asyncio.Task[None]] = []
        self._options = options
        self._clocks = clocks
        self._lease_s = lease_s
        self._renew = renew
        self._sweep = sweep

    def start(self) -> None:
        """Begin, on the running event loop."""
        options = self._options
        bound = {"pong_timeout_s": options.pong_timeout_s, "now": self._clocks.monotonic()}
        self.liveness = Liveness(ping_interval_s=options.ping_interval_s, **bound)
        # Streams are promised both: a heartbeat as often as they ask for, and a dead peer noticed in time.
        stream_interval_s = min(options.sse_heartbeat_s, options.ping_interval_s)
        stream_interval_s = max(stream_interval_s, options.pong_timeout_s * 1.1)
        self.stream_liveness = Liveness(ping_interval_s=stream_interval_s, **bound)
        loop = asyncio.get_running_loop()
        self.tasks = [loop.create_task(work) for work in (self._tick(), self._keep_house())]

    async def stop(self) -> None:
        """End. Idempotent."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _tick(self) -> None:
        tick_s = min(self.liveness.tick_s, self.stream_liveness.tick_s)
        while True:
            await asyncio.sleep(tick_s)
            now = self._clocks.monotonic()
            self.liveness.advance(now)
            self.stream_liveness.advance(now)
            self.deadlines.advance(now)

    async def _keep_house(self) -> None:
        swept = self._clocks.monotonic()
        while True:
            await asyncio.sleep(self._lease_s / 3 * self._clocks.chance.uniform(0.9, 1))
            self._renew()
            if self._clocks.monotonic() - swept > _SWEEP_S:
                swept = self._clocks.monotonic()
                await self._sweep(swept)
