"""The workloads: each takes a running server, and returns its figures by name."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from bench.nodes.deployments import cpu_ns
from bench.processes import descendants
from bench.streams.servers import Kind
from bench.streams.wires import Events, Http, open_events

__all__ = ["WORK", "Figures"]

Figures = dict[str, float]

_WRITERS: Final = 20
_READERS: Final = 1000
_PIECE: Final = b"x" * 65_536
_PIECES: Final = 512
_SMALL: Final = b"x" * 4096
_SMALL_PIECES: Final = 2048
_LAST_S: Final = 20


async def append(kind: Kind, pid: int, port: int, seconds: float) -> Figures:
    """20 connections append to a stream each, one request at a time; and publish to a channel each."""
    figures = {"append_us": await _posts(kind.stream, pid, port, seconds, is_stream=True)}
    if kind.channel:
        figures["publish_us"] = await _posts(kind.channel, pid, port, seconds, is_stream=False)
    return figures


async def events(kind: Kind, pid: int, port: int, seconds: float) -> Figures:
    """1,000 readers of one stream's events, and of one channel's; 8 messages outstanding."""
    figures = {"stream_us": await _fan_out(kind, pid, port, seconds, is_stream=True)}
    if kind.channel:
        figures["channel_us"] = await _fan_out(kind, pid, port, seconds, is_stream=False)
    return figures


async def catch_up(kind: Kind, pid: int, port: int, seconds: float) -> Figures:
    """One reader takes 32 MiB, in as many answers as the server makes of it."""
    http, path = await _filled(kind, port)
    before_mb, began = _resident_mb(pid, "VmRSS"), time.monotonic()
    _forget_highest(pid)
    size, offset = 0, "-1"
    while True:
        headers, body = await http.ask("GET", f"{path}?offset={offset}")
        size, offset = size + len(body), headers["stream-next-offset"]
        if headers.get("stream-up-to-date"):
            break
    assert size == len(_PIECE) * _PIECES, "something is lost"
    http.close()
    seconds = time.monotonic() - began
    return {"seconds": seconds, "grown_mb": _resident_mb(pid, "VmHWM") - before_mb}


async def stalled(kind: Kind, pid: int, port: int, seconds: float) -> Figures:
    """1,000 readers open the events of 8 MiB from the start, and read nothing of them. Each holds a message
    at most: these have 4 KiB."""
    http, path = await _filled(kind, port, _SMALL, _SMALL_PIECES)
    before_mb = _resident_mb(pid, "VmRSS")
    readers = await open_events(_READERS, path + kind.events.format("-1"), port, stalled=True)
    await asyncio.sleep(1)
    grown_mb = _resident_mb(pid, "VmRSS") - before_mb
    for reader in readers:
        reader.transport.abort()
    http.close()
    return {"grown_mb": grown_mb}


WORK: Final[dict[str, Callable[[Kind, int, int, float], Awaitable[Figures]]]] = {
    "append": append,
    "events": events,
    "catch_up": catch_up,
    "stalled": stalled,
}


# -- parts ---------------------------------------------------------------------------------------------------


async def _posts(path: str, pid: int, port: int, seconds: float, *, is_stream: bool) -> float:
    """CPU of the server for one request, in microseconds."""
    writers = [await Http.open(port) for _ in range(_WRITERS)]
    places = [path.format(f"post-{at}") for at in range(_WRITERS)]
    if is_stream:
        creator = await Http.open(port)  # Heartwire serves what follows a PUT on a connection less directly
        for place in places:
            await creator.ask("PUT", place)
        creator.close()
    count = 0

    async def work(writer: Http, place: str, until: float) -> None:
        nonlocal count
        while time.monotonic() < until:
            await writer.ask("POST", place, b"~%064d~" % count)
            count += 1

    for is_warm in (False, True):
        until, before, count = time.monotonic() + (seconds if is_warm else 0.5), cpu_ns(pid), 0
        await asyncio.gather(*(work(*one, until) for one in zip(writers, places, strict=True)))
    used = cpu_ns(pid) - before
    for writer in writers:
        writer.close()
    return used / count / 1000


async def _fan_out(kind: Kind, pid: int, port: int, seconds: float, *, is_stream: bool) -> float:
    """CPU of the server for one delivery, in microseconds."""
    http = await Http.open(port)
    path = (kind.stream if is_stream else kind.channel).format("fan")
    if is_stream:
        await http.ask("PUT", path)
    query = kind.events.format("now") if is_stream else ""
    readers = await open_events(_READERS, path + query, port)
    await _windowed(readers, path, port, 0.5)
    before = cpu_ns(pid)
    deliveries = await _windowed(readers, path, port, seconds)
    used = cpu_ns(pid) - before
    for reader in readers:
        reader.transport.abort()
    http.close()
    return used / deliveries / 1000


async def _windowed(readers: list[Events], path: str, port: int, seconds: float) -> int:
    """Publish from 8 connections, each again when all readers have all. Returns how many deliveries."""
    publishers = [await Http.open(port) for _ in range(8)]
    until = time.monotonic() + seconds
    heard, sent = 0, 0
    rounds: list[tuple[int, asyncio.Future[None]]] = []
    for reader in readers:
        reader.count = 0

    def hear(count: int) -> None:
        nonlocal heard
        heard += count
        while rounds and heard >= rounds[0][0] * len(readers):
            rounds.pop(0)[1].set_result(None)

    for reader in readers:
        reader.heard = hear

    async def publish(http: Http) -> None:
        nonlocal sent
        while time.monotonic() < until:
            sent += 1
            done = asyncio.get_running_loop().create_future()
            rounds.append((sent, done))
            await http.ask("POST", path, b"~%064d~" % sent)
            await asyncio.wait_for(done, _LAST_S)

    await asyncio.gather(*map(publish, publishers))
    assert all(reader.count == sent for reader in readers), "something is lost or doubled"
    for http in publishers:
        http.close()
    return heard


async def _filled(kind: Kind, port: int, piece: bytes = _PIECE, pieces: int = _PIECES) -> tuple[Http, str]:
    """A stream of so many messages; 32 MiB of them."""
    http, path = await Http.open(port), kind.stream.format("large")
    await http.ask("PUT", path)
    for _ in range(pieces):
        await http.ask("POST", path, piece)
    return http, path


def _forget_highest(pid: int) -> None:
    """Let VmHWM begin anew."""
    for one in descendants(pid):
        Path(f"/proc/{one}/clear_refs").write_text("5")


def _resident_mb(pid: int, field: str) -> float:
    total = 0
    for one in descendants(pid):
        for line in Path(f"/proc/{one}/status").read_text().splitlines():
            if line.startswith(field):
                total += int(line.split()[1])
    return total / 1024
