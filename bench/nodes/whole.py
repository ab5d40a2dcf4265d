"""How long it takes until a node is whole that follows many channels, after a restart of the store.

The node is a hub in this process, its readers are links that write nowhere: what is measured is the store,
the engine and the switchboard.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bench.nodes.deployments import cpu_ns
from bench.nodes.work import Figures
from heartwire import Hub
from heartwire.engines.contract import FeedState
from heartwire.types import NOW, Channel, Position, Publication
from tools.chaos.stores import Store

__all__ = ["whole"]

_LONGEST_S: Final = 60


class _Link:
    """A reader that takes everything, as the switchboard sees it."""

    paused = False
    serial = 0

    def __init__(self) -> None:
        self.sink = self
        self.gaps = 0

    def write(self, payload: bytes) -> None:
        """Write nowhere."""

    def close(self, code: int, reason: str = "") -> None:
        """Never closed here."""

    def gap(self, position: Position) -> None:
        """Count it."""
        self.gaps += 1


class _Format:
    join = None

    def encode(self, publication: Publication) -> bytes:
        return publication.data

    def joined(self, channel: Channel, position: Position, *, recovered: bool) -> None:
        """Nothing to write."""


def whole(store: Store, channels: int) -> Figures:
    """Follow so many channels, of which each tenth was published to; kill the store and start it again."""
    return asyncio.run(_whole(store, channels))


async def _whole(store: Store, channels: int) -> Figures:
    names = [Channel(f"c{number}") for number in range(channels)]
    hub = Hub(store.url)
    await hub.start()
    try:
        for some in range(0, channels, 10_000):
            await asyncio.gather(*(hub.publish(name, "x") for name in names[some : some + 10_000 : 10]))
        link: Any = _Link()
        resident = _resident_bytes(store.pid)
        began = time.monotonic()
        for number, name in enumerate(names):
            hub.node.switchboard.follow(link, name, _Format(), NOW, listener=link)  # type: ignore[arg-type]
            if number % 1000 == 0:
                await asyncio.sleep(0)
        await _until(lambda: all(topic.epoch for topic in hub.node.switchboard.topics.values()))
        followed_s = time.monotonic() - began
        figures = {"followed_s": followed_s, "store_bytes_per_channel": 0.0}
        figures["store_bytes_per_channel"] = (_resident_bytes(store.pid) - resident) / channels
        return figures | await _restart(hub, store)
    finally:
        await hub.stop()


async def _restart(hub: Hub, store: Store) -> Figures:
    states: list[FeedState] = []
    feed = hub.node.engine._feed  # type: ignore[attr-defined]
    heard = feed.state
    feed.state = lambda state, why: (states.append(state), heard(state, why))
    await asyncio.to_thread(store.kill)
    await asyncio.to_thread(store.start)
    began, cpu = time.monotonic(), time.process_time()
    topics = hub.node.switchboard.topics
    await _until(lambda: states[-1:] == ["up"])
    await _until(lambda: not any(topic.reads for topic in topics.values()))
    figures = {"whole_s": time.monotonic() - began, "node_cpu_s": time.process_time() - cpu}
    return figures | {"store_cpu_s": cpu_ns(store.pid) / 1e9}


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(_LONGEST_S):
        while not condition():  # noqa: ASYNC110 - looked at from outside, where nothing tells
            await asyncio.sleep(0.02)


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
