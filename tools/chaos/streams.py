"""Kill nodes and the store while producers append to durable streams: ``make chaos CHAOS='--streams'``.

In each round a node or the store is killed and started again. Eight producers send each append until it is
answered, with its number; four readers follow by long polls, from the offset they have. At the end each
stream must hold what each producer sent, once and in order, and each reader must have read just that.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from tools.chaos.balancer import balancer
from tools.chaos.run import Chaos, Victims, servers
from tools.chaos.stores import STORES
from tools.chaos.verdict import Kept

__all__ = ["StreamsOutcome", "stream_chaos"]

_STREAMS: Final = ["s:a", "s:b", "s:c", "s:d"]
_AGAIN_S: Final = 0.05
_TAKEN: Final = (200, 204)
_GONE: Final = 410


@dataclass
class StreamsOutcome:
    """What has happened.

    Attributes:
        sent: the last number of each producer, by stream and name.
        repeated: appends that were sent more than once.
        kills: how often each was killed.
        problems: the broken promises; none: all is well.
    """

    kills: dict[str, int]
    sent: dict[tuple[str, str], int] = field(default_factory=dict)
    repeated: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def acknowledged(self) -> int:
        return sum(self.sent.values())


def stream_chaos(what: Chaos, rounds: int, say: Callable[[str], None]) -> StreamsOutcome:
    """Run it; ``what.seconds`` and ``what.every_s`` are not looked at."""
    with servers(what) as (victims, sockets):
        if STORES[what.engine].kept is Kept.NOTHING:
            del victims["the store"]  # it would take the streams with it

        async def run() -> StreamsOutcome:
            async with balancer(sockets) as url, aiohttp.ClientSession(url) as session:
                return await _run(what, rounds, victims, session, say)

        return asyncio.run(run())


async def _run(
    what: Chaos, rounds: int, victims: Victims, session: aiohttp.ClientSession, say: Callable[[str], None]
) -> StreamsOutcome:
    outcome = StreamsOutcome(dict.fromkeys(victims, 0))
    read = {stream: bytearray() for stream in _STREAMS}
    for stream in _STREAMS:
        await _ask(session, "PUT", stream, {"Content-Type": "text/plain"})
    ended = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for stream in _STREAMS:
            group.create_task(_follow(session, stream, read[stream]))
        async with asyncio.TaskGroup() as producing:
            for stream in _STREAMS:
                for name in ("x", "y"):
                    producing.create_task(_produce(session, stream, name, outcome, ended))
            await _kill(what, rounds, victims, outcome, say)
            ended.set()
        for stream in _STREAMS:
            await _ask(session, "POST", stream, {"Stream-Closed": "true"})
    for stream in _STREAMS:
        _judge(outcome, stream, bytes(read[stream]), await _whole(session, stream))
    return outcome


async def _kill(
    what: Chaos, rounds: int, victims: Victims, outcome: StreamsOutcome, say: Callable[[str], None]
) -> None:
    chance = random.Random(what.seed)
    for number in range(1, rounds + 1):
        await asyncio.sleep(chance.uniform(0.05, 0.4))
        name = chance.choice(sorted(victims))
        outcome.kills[name] += 1
        await asyncio.to_thread(victims[name].kill)
        await asyncio.sleep(chance.uniform(0, 0.2))
        await asyncio.to_thread(victims[name].start)
        say(
            f"round {number} of {rounds}: {name} was killed; {outcome.acknowledged:,} appends answered,"
            f" {outcome.repeated} sent again"
        )


async def _produce(
    session: aiohttp.ClientSession, stream: str, name: str, outcome: StreamsOutcome, ended: asyncio.Event
) -> None:
    headers = {"Content-Type": "text/plain", "Producer-Id": name, "Producer-Epoch": "0"}
    number = 0
    while not ended.is_set():
        outcome.repeated += await _ask(
            session, "POST", stream, headers | {"Producer-Seq": str(number)}, f"{name} {number}\n".encode()
        )
        number += 1
        outcome.sent[stream, name] = number


async def _follow(session: aiohttp.ClientSession, stream: str, read: bytearray) -> None:
    """Read on from the offset there is, until the stream is closed. A store that may have lost something says
    so by another epoch: then from the start."""
    offset = "-1"
    while True:
        try:
            async with session.get(f"/streams/{stream}?offset={offset}&live=long-poll") as answer:
                if answer.status == _GONE:
                    offset, read[:] = "-1", b""
                if answer.status not in _TAKEN:
                    await asyncio.sleep(_AGAIN_S)
                    continue
                body = await answer.read()
                read += body
                offset = answer.headers["Stream-Next-Offset"]
                if answer.headers.get("Stream-Closed") == "true":
                    return
        except aiohttp.ClientError:
            await asyncio.sleep(_AGAIN_S)


async def _ask(
    session: aiohttp.ClientSession, method: str, stream: str, headers: dict[str, str], body: bytes = b""
) -> int:
    """Ask until it is answered. Returns how often it was sent again.

    Raises ``RuntimeError`` for a refusal.
    """
    for again in range(10_000):
        with contextlib.suppress(aiohttp.ClientError):
            async with session.request(
                method, f"/streams/{stream}", headers=headers, data=body or None
            ) as answer:
                if answer.status < 300:
                    return again
                if answer.status < 500:
                    raise RuntimeError(f"{method} {stream}: {answer.status} {await answer.text()}")
        await asyncio.sleep(_AGAIN_S)
    raise RuntimeError(f"{method} {stream}: it was never answered")


async def _whole(session: aiohttp.ClientSession, stream: str) -> bytes:
    content, offset = b"", "-1"
    while True:
        async with session.get(f"/streams/{stream}?offset={offset}") as answer:
            content += await answer.read()
            offset = answer.headers["Stream-Next-Offset"]
            if answer.headers.get("Stream-Up-To-Date") == "true":
                return content


def _judge(outcome: StreamsOutcome, stream: str, read: bytes, kept: bytes) -> None:
    if read != kept:
        outcome.problems.append(f"{stream}: a reader has {len(read)} bytes, the stream {len(kept)}")
    lines = [line.split() for line in kept.decode().splitlines()]
    for name in ("x", "y"):
        numbers = [int(number) for one, number in lines if one == name]
        count = outcome.sent.get((stream, name), 0)
        if numbers != list(range(count)):
            lost, more = set(range(count)) - set(numbers), len(numbers) - len(set(numbers))
            outcome.problems.append(
                f"{stream}: producer {name} sent {count}, {len(numbers)} are there:"
                f" {len(lost)} lost, {more} doubled"
            )
