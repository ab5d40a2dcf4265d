"""The workloads. Each opens its connections, warms up, and returns its figures by name."""

import asyncio
from collections.abc import Sequence
from statistics import quantiles
from typing import Final

from bench.nodes.deployments import Deployment
from bench.nodes.wires import Peer, many

__all__ = ["Figures", "cost", "deliver", "fanout", "interest"]

Figures = dict[str, float]

_RATE_PER_S: Final = 100
_WINDOW: Final = 8
_LAST_S: Final = 20
"""The longest wait for the last message."""


async def deliver(run: Deployment, seconds: float, size: int) -> Figures:
    """100 messages a second from a connection of the first node to one of it, and one of the last node."""
    last = len(run.nodes) - 1
    [publisher] = await many(1, run.wire("bench"), run.nodes[0][0])
    same = await many(1, run.wire("bench"), run.nodes[0][0], is_timed=True)
    other = await many(1, run.wire("bench"), run.nodes[last][0], is_timed=True) if last else []
    await _warm(publisher, [*same, *other])
    count = int(seconds * _RATE_PER_S)
    for _ in range(count):
        publisher.publish()
        await asyncio.sleep(1 / _RATE_PER_S)
    await _until_all(same + other, count)
    figures = _waits("same", same)
    if other:
        figures |= _waits("other", other)
    _close([publisher, *same, *other])
    return figures


async def cost(run: Deployment, seconds: float, size: int) -> Figures:
    """8 messages outstanding, from the first node to one connection of each other node (of one: its own)."""
    [publisher] = await many(1, run.wire("bench"), run.nodes[0][0])
    readers = []
    for port, _ in run.nodes[1:] or run.nodes:
        readers += await many(1, run.wire("bench"), port, is_timed=True)
    await _warm(publisher, readers)
    figures = await _windowed(run, [publisher], readers, seconds, _WINDOW)
    _close([publisher, *readers])
    return figures


async def fanout(run: Deployment, seconds: float, size: int) -> Figures:
    """1 message outstanding, to so many connections of each node."""
    [publisher] = await many(1, run.wire("bench"), run.nodes[0][0])
    readers = []
    for port, _ in run.nodes:
        readers += await many(size, run.wire("bench"), port, is_timed=True)
    await _warm(publisher, readers)
    figures = await _windowed(run, [publisher], readers, seconds, 1)
    _close([publisher, *readers])
    return figures


async def interest(run: Deployment, seconds: float, size: int) -> Figures:
    """10 times ``size`` channels of one connection each, spread over the nodes; 8 messages outstanding, from
    the first node to a few of them, whose readers are on the last."""
    readers: list[Peer] = []
    publishers: list[Peer] = []
    for number in range(10 * size):
        node = -1 if number < _WINDOW else number % len(run.nodes)
        readers += await many(1, run.wire(f"c{number}"), run.nodes[node][0], is_timed=True)
    for number in range(_WINDOW):
        publishers += await many(1, run.wire(f"c{number}"), run.nodes[0][0])
    for publisher, reader in zip(publishers, readers, strict=False):
        await _warm(publisher, [reader])
    figures = await _windowed(run, publishers, readers[:_WINDOW], seconds, 1, is_each=True)
    _close([*publishers, *readers])
    return figures


# -- parts ---------------------------------------------------------------------------------------------------


async def _warm(publisher: Peer, readers: Sequence[Peer]) -> None:
    """Publish until every reader has heard something, and nothing is under way."""
    async with asyncio.timeout(_LAST_S):
        while not all(reader.count for reader in readers):
            publisher.publish()
            await asyncio.sleep(0.05)
        heard = -1
        while heard != (heard := sum(reader.count for reader in readers)):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    for reader in readers:
        reader.count = 0
        reader.waits_ns.clear()


async def _until_all(readers: Sequence[Peer], count: int) -> None:
    """Raises ``TimeoutError`` where something is lost, ``RuntimeError`` where something is doubled."""
    async with asyncio.timeout(_LAST_S):
        while any(reader.count < count for reader in readers):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    if any(reader.count > count for reader in readers):
        raise RuntimeError("messages were doubled")


async def _windowed(
    run: Deployment,
    publishers: Sequence[Peer],
    readers: Sequence[Peer],
    seconds: float,
    window: int,
    *,
    is_each: bool = False,
) -> Figures:
    """Publish whenever there is room in the window. ``is_each``: each publisher has its reader and window."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    sent = [0] * len(publishers)
    heard_at = 0.0
    left = [0]

    def pump() -> None:
        nonlocal heard_at
        heard_at = loop.time()
        if heard_at >= end:
            return
        for number, publisher in enumerate(publishers):
            done = readers[number].count if is_each else left[0] // len(readers)
            while sent[number] - done < window:
                publisher.publish()
                sent[number] += 1

    def one_more() -> None:
        left[0] = sum(reader.count for reader in readers) if len(readers) <= _WINDOW else left[0] + 1
        pump()

    for reader in readers:
        reader.heard = one_more
    before = [run.node_cpu_ns(number) for number in range(len(run.nodes))]
    store = run.store_cpu_ns()
    began = loop.time()
    pump()
    await asyncio.sleep(seconds)
    if is_each:
        for number, reader in enumerate(readers):
            await _until_all([reader], sent[number])
    else:
        await _until_all(readers, sent[0])
    cpu = [run.node_cpu_ns(number) - was for number, was in enumerate(before)]
    published = sum(sent)
    delivered = sum(reader.count for reader in readers)
    figures = {"publishes_per_s": published / (heard_at - began)}
    figures["first_node_us_per_publish"] = cpu[0] / 1000 / published
    if len(cpu) > 1:
        figures["other_node_us_per_publish"] = sum(cpu[1:]) / 1000 / published / (len(cpu) - 1)
    figures["nodes_us_per_delivery"] = sum(cpu) / 1000 / delivered
    figures["store_us_per_publish"] = (run.store_cpu_ns() - store) / 1000 / published
    return figures | _waits("deliver", readers)


def _waits(name: str, readers: Sequence[Peer]) -> Figures:
    waits = sorted(wait for reader in readers for wait in reader.waits_ns)
    points = quantiles(waits, n=100)
    return {f"{name}_p50_ms": points[49] / 1e6, f"{name}_p99_ms": points[98] / 1e6}


def _close(peers: Sequence[Peer]) -> None:
    for peer in peers:
        peer.heard = lambda: None
        peer.transport.abort()
