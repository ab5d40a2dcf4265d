"""What a hub does without being asked: heartbeats and deadlines, leases, sweeps, and reading for those who
catch up."""

import asyncio
import logging
import random
from functools import partial
from typing import TYPE_CHECKING, Final

from heartwire.core.switchboard import ReadResult
from heartwire.core.topic import Topic
from heartwire.errors import EngineError
from heartwire.types import Start

if TYPE_CHECKING:
    from heartwire.hub.hub import Hub

__all__ = ["Upkeep"]

log = logging.getLogger("heartwire")

_READ_ITEMS: Final = 256
_READ_BYTES: Final = 64 * 1024
"""A reader that catches up reads this much at a time, so that it shares the engine with others."""

_SWEEP_S: Final = 60


class Upkeep:
    """Of one hub, while it runs. Attributes: ``tasks`` are what `stop` ends."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self.tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin. The hub's liveness has been set up."""
        self.tasks = [self._hub.loop.create_task(work) for work in (self._tick(), self._keep_house())]

    async def stop(self) -> None:
        """End. Idempotent."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _tick(self) -> None:
        hub = self._hub
        tick_s = min(hub.liveness.tick_s, hub.stream_liveness.tick_s)
        while True:
            await asyncio.sleep(tick_s)
            now = hub.clock()
            hub.liveness.advance(now)
            hub.stream_liveness.advance(now)
            hub.deadlines.advance(now)

    async def _keep_house(self) -> None:
        hub = self._hub
        swept = hub.clock()
        while True:
            await asyncio.sleep(hub.lease_s / 3 * random.uniform(0.9, 1))
            hub.switchboard.sweep()
            self._renew_leases()
            if hub.clock() - swept > _SWEEP_S:
                swept = hub.clock()
                hub.rates.sweep(swept)
                try:
                    await hub.engine.sweep(hub.namespaces.retention)
                except EngineError as error:
                    log.error("old publications could not be swept: %s", error)

    def _renew_leases(self) -> None:
        hub = self._hub
        for topic in list(hub.switchboard.topics.values()):
            if hub.namespaces.of(topic.channel).presence:
                for subscription in topic.subscriptions:
                    if subscription.member is not None:
                        hub.engine.lease(topic.channel, subscription.member, hub.lease_s)

    # -- reading ---------------------------------------------------------------------------------------------

    def read(self, topic: Topic, start: Start) -> None:
        """For the switchboard: read a page from ``start``, and call `Switchboard.read_done`."""
        loop = self._hub.loop
        try:
            answer = self._hub.read(topic.channel, start, limit=_READ_ITEMS, max_bytes=_READ_BYTES)
        except EngineError as error:
            loop.call_soon(self._read_failed, topic, start, error)
            return
        if isinstance(answer, ReadResult):
            # Not at once: a long way to catch up would be as deep a recursion, and hold up everybody else.
            loop.call_soon(self._hub.switchboard.read_done, topic, start, answer)
        else:
            answer.add_done_callback(partial(self._read_answered, topic, start))

    def _read_answered(self, topic: Topic, start: Start, answer: "asyncio.Future[ReadResult]") -> None:
        error = None if answer.cancelled() else answer.exception()
        if error is None and not answer.cancelled():
            self._hub.switchboard.read_done(topic, start, answer.result())
        else:
            self._read_failed(topic, start, error)

    def _read_failed(self, topic: Topic, start: Start, error: BaseException | None) -> None:
        log.error("channel %r could not be read: %s", topic.channel, error)
        for subscription in self._hub.switchboard.read_failed(topic, start):
            subscription.link.close(3004, f"the store could not be read: {error}")
