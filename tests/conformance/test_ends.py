"""The end of a durable stream on each transport of each server: told once, last, to whoever follows by then and
to whoever comes later."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

import heartwire
from heartwire import EARLIEST, Hub
from heartwire.client.options import TRANSPORTS, Options
from heartwire.streams.record import Claim, StreamOptions
from heartwire.types import Channel, Message
from tests.conformance.test_transports import Serving, hypercorn, mounted, native, uvicorn

STREAM: Final = Channel("answer:1")
OTHER: Final = Channel("answer:2")

Heard = AsyncIterator[tuple[str, Any]]
"""Messages and ends, and last how the transport itself ended."""

Way = Callable[[aiohttp.ClientSession, str], Heard]


async def raw_socket(session: aiohttp.ClientSession, url: str) -> Heard:
    async with session.ws_connect(f"{url}/channels/{STREAM}?since=earliest") as socket:
        while (message := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
            yield "message", message.data
        yield "closed", (message.data, message.extra)


async def json_socket(session: aiohttp.ClientSession, url: str) -> Heard:
    async with session.ws_connect(f"{url}/channels/{STREAM}?since=earliest&format=json") as socket:
        while (message := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
            frame = json.loads(message.data)
            if "recovered" not in frame:
                yield ("end", frame["end"]) if "end" in frame else ("message", frame["data"])
        yield "closed", (message.data, message.extra)


async def socket_of_two(session: aiohttp.ClientSession, url: str) -> Heard:
    """Of which the other goes on, and has to be heard after the end."""
    path, after = f"{url}/channels?channel={STREAM}&channel={OTHER}&since=earliest", secrets.token_hex(8)
    async with session.ws_connect(path) as socket:
        async for message in socket:
            frame = json.loads(message.data)
            if "end" in frame:
                yield "end", (frame["channel"], frame["end"])
                await socket.send_json({"channel": OTHER, "data": after})
            elif frame.get("channel") == STREAM:
                yield "message", frame["data"]
            elif frame.get("data") == after:
                break
        yield "closed", "not by the server"


async def events(session: aiohttp.ClientSession, url: str, query: str = "") -> Heard:
    headers = {"accept": "text/event-stream"}
    path = f"{url}/channels/{STREAM}?since=earliest{query}"
    seen = ""
    async with session.get(path, headers=headers) as answer:
        async for block in _blocks(answer):
            if "data" in block:
                seen = block["id"]
                yield block.get("event", "message"), block["data"]
    async with session.get(path, headers=headers | {"last-event-id": seen}) as answer:
        yield "closed", answer.status


async def json_events(session: aiohttp.ClientSession, url: str) -> Heard:
    async for kind, data in events(session, url, "&format=json"):
        yield kind, json.loads(data)["data"] if kind == "message" else data


async def _blocks(answer: aiohttp.ClientResponse) -> AsyncIterator[dict[str, str]]:
    block: dict[str, str] = {}
    async for line in answer.content:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            block[name] = value
        else:
            yield block
            block = {}


async def polls(session: aiohttp.ClientSession, url: str, wait: str = "") -> Heard:
    since = "earliest"
    ends: list[Any] = []
    while not ends:
        async with session.get(f"{url}/channels/{STREAM}?since={since}{wait}") as answer:
            page = await answer.json()
        for publication in page["publications"]:
            yield "message", publication["data"]
        since, ends = page["position"], page.get("ends", [])
    for end in ends:
        yield "end", end["end"]
    async with session.get(f"{url}/channels/{STREAM}?since={since}{wait}") as answer:
        again = await answer.json()
    yield "closed", (again["publications"], again["ends"] == ends, again["position"] == since)


async def long_polls(session: aiohttp.ClientSession, url: str) -> Heard:
    async for heard in polls(session, url, "&wait=20"):
        yield heard


def sdk(transport: Any) -> Way:
    """Our client over the Centrifugal dialect."""

    async def follow(session: aiohttp.ClientSession, url: str) -> Heard:
        options = Options(transports=(transport,), poll_interval_s=0.05)
        async with heartwire.connect(url, options=options) as client:
            subscription = client.subscribe(STREAM, since=EARLIEST)
            async for received in subscription:
                yield "message", received.data
            yield "end", subscription.end
            await client.history(OTHER, limit=1)  # the connection lives
            yield "closed", client.state

    return follow


DONE: Final = {"reason": "done"}
CLOSE: Final = (1000, "stream closed: done")
WAYS: Final[dict[str, tuple[Way, list[Any]]]] = {
    "raw socket": (raw_socket, [("closed", CLOSE)]),
    "JSON socket": (json_socket, [("end", DONE), ("closed", CLOSE)]),
    "socket of two": (socket_of_two, [("end", (STREAM, DONE)), ("closed", "not by the server")]),
    "events": (events, [("end", '{"reason":"done"}'), ("closed", 204)]),
    "JSON events": (json_events, [("end", '{"reason":"done"}'), ("closed", 204)]),
    "polls": (polls, [("end", DONE), ("closed", ([], True, True))]),
    "long polls": (long_polls, [("end", DONE), ("closed", ([], True, True))]),
    **{name: (sdk(name), [("end", "done"), ("closed", "online")]) for name in TRANSPORTS},
}


@pytest.mark.parametrize(
    ("server", "engine"),
    [*((server, "memory") for server in (native, uvicorn, mounted, hypercorn)), (native, "sqlite")],
)
async def test_the_end_is_told_once_and_last(server: Serving, engine: str, tmp_path: Path) -> None:
    hub = Hub("memory" if engine == "memory" else f"sqlite:///{tmp_path}/ends.db")
    hub.namespace("answer", durable=True)
    async with server(hub) as url, aiohttp.ClientSession() as session:
        streams = hub.node.streams
        for channel in (STREAM, OTHER):
            await streams.create(channel, StreamOptions(content_type="text/plain"))
        await streams.append(STREAM, [Message(b"one")])
        begun = {name: asyncio.Event() for name in WAYS}
        live = [
            asyncio.ensure_future(_all(way(session, url), begun[name])) for name, (way, _) in WAYS.items()
        ]
        async with asyncio.timeout(20):
            await asyncio.gather(*(one.wait() for one in begun.values()))
            await streams.append(STREAM, [Message(b"two")], Claim(close="done"))
            heard = dict(zip(WAYS, await asyncio.gather(*live), strict=True))
            late = await asyncio.gather(
                *(_all(way(session, url), asyncio.Event()) for way, _ in WAYS.values())
            )
    expected = {name: [("message", "one"), ("message", "two"), *ending] for name, (_, ending) in WAYS.items()}
    assert heard == expected
    assert dict(zip(WAYS, late, strict=True)) == expected


async def _all(heard: Heard, begun: asyncio.Event) -> list[tuple[str, Any]]:
    got = []
    async with aclosing(heard) as items:  # type: ignore[type-var]
        async for item in items:
            got.append(item)
            begun.set()
    return got
