"""Readers, which follow channels over a transport, come back where they were, and keep a tale of it.

`by_client` reads with the Python client; `plainly` with requests of the plain dialect, and changes the node
often: each poll is a connection of its own, a stream is left after a while.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, NamedTuple

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, TCPConnector, WSMsgType

import heartwire
from heartwire import EARLIEST, Position, Received
from heartwire.client.client import Client
from heartwire.client.options import TRANSPORTS, Transport
from heartwire.client.outputs import Gap as ToldGap
from tools.chaos.publishers import PATIENT
from tools.chaos.verdict import Gap, Seen, Tale

__all__ = ["Reader", "by_client", "late", "plainly"]

_AGAIN_S: Final = 0.1
_STAY_S: Final = 5.0
"""The longest that a plain reader stays with a stream."""


class Reader:
    """Somebody who reads.

    Attributes:
        tales: one of each channel that it follows.
        troubles: what nobody had to tell it: refusals, the end of a subscription.
        connections: how many it has had.
    """

    def __init__(self, name: str, channels: list[str]) -> None:
        self.name = name
        self.tales = [Tale(name, channel) for channel in channels]
        self.troubles: list[str] = []
        self.connections = 0


# -- the Python client ---------------------------------------------------------------------------------------


async def by_client(reader: Reader, url: str, transport: Transport) -> None:
    """Follow all its channels over one connection, until cancelled."""
    async with heartwire.connect(url, transports=(transport,), options=PATIENT) as client:
        client.on("open", lambda _: _count(reader))
        client.on("error", lambda error: reader.troubles.append(f"{reader.name} ended: {error!r}"))
        for tale in reader.tales:
            await _follow(client, tale)
        await asyncio.Event().wait()


def _count(reader: Reader) -> None:
    reader.connections += 1


async def _follow(client: Client, tale: Tale) -> None:
    def took(received: Received) -> None:
        assert received.position is not None
        tale.events.append(Seen(received.position, str(received.data)))

    def missed(gap: ToldGap) -> None:
        tale.events.append(Gap(Position(gap.after_epoch, gap.after_offset)))

    subscription = client.subscribe(tale.channel, took, since=EARLIEST)
    subscription.on_gap(missed)
    position = (await subscription.ready()).position
    if position is not None:
        tale.begin(position)


# -- plain requests ------------------------------------------------------------------------------------------


async def late(reader: Reader, url: str) -> None:
    """Read all that is kept of each channel, from the beginning."""
    async with ClientSession() as session:
        for tale in reader.tales:
            is_read = False
            while not is_read:
                await asyncio.sleep(_AGAIN_S)
                is_read = await _is_read(tale, session, f"{url}/channels/{tale.channel}")


async def _is_read(tale: Tale, session: ClientSession, url: str) -> bool:
    before = tale.at
    try:
        since = str(before) if before is not None else "earliest"
        await _poll(_Plain(session, url, tale, since, 0))
    except (ClientError, OSError):
        return False
    return tale.at == before


class _Plain(NamedTuple):
    """A connection, or a poll, of a plain reader.

    Attributes:
        since: where it goes on: "earliest", or a position.
        stay_s: how long it stays with a node.
    """

    session: ClientSession
    url: str
    tale: Tale
    since: str
    stay_s: float

    def take(self, message: dict[str, Any]) -> None:
        """Take a publication, or a notice."""
        if message.get("recovered") is False:
            self.tale.events.append(Gap(Position.parse(message["position"])))
        elif "data" in message:
            self.tale.events.append(Seen(Position.parse(message["position"]), message["data"]))
        else:
            self.tale.begin(Position.parse(message["position"]))


async def plainly(reader: Reader, url: str, transport: Transport, seed: int) -> None:
    """Follow each channel with requests of its own, until cancelled."""
    async with (
        ClientSession(connector=TCPConnector(force_close=True), timeout=ClientTimeout(60)) as session,
        asyncio.TaskGroup() as group,
    ):
        for tale in reader.tales:
            chance = random.Random(f"{seed} {tale}")
            group.create_task(
                _read_on(reader, tale, _READS[transport], session, f"{url}/channels/{tale.channel}", chance)
            )


async def _read_on(
    reader: Reader,
    tale: Tale,
    read: "Callable[[_Plain], Awaitable[None]]",
    session: ClientSession,
    url: str,
    chance: random.Random,
) -> None:
    while True:
        since = str(tale.at) if tale.at is not None else "earliest"
        reader.connections += 1
        try:
            await read(_Plain(session, url, tale, since, chance.uniform(1, _STAY_S)))
        except _Refused as refused:
            reader.troubles.append(f"{tale}: {refused}")
        except (ClientError, OSError, TimeoutError):
            pass
        await asyncio.sleep(_AGAIN_S)


class _Refused(Exception):
    """The server does not want this request, now or later."""


async def _check(response: ClientResponse) -> None:
    if response.status in (429, 503):
        raise ClientError("later")
    if response.status not in (200, 304):
        raise _Refused(f"{response.status} {await response.text()}")


async def _poll(plain: _Plain, *, wait_s: int = 0) -> None:
    async with plain.session.get(plain.url, params={"since": plain.since, "wait": wait_s}) as response:
        await _check(response)
        answer = await response.json()
    if not answer["recovered"]:
        first = answer["publications"][0]["position"] if answer["publications"] else ""
        oldest = Position.parse(first or answer["position"])
        plain.tale.events.append(Gap(oldest._replace(offset=oldest.offset - bool(first))))
    for publication in answer["publications"]:
        plain.take(publication)
    plain.tale.begin(Position.parse(answer["position"]))


async def _long_poll(plain: _Plain) -> None:
    """The first does not wait: in a channel that nobody publishes to, it would be without a position for as
    long as it may wait."""
    await _poll(plain, wait_s=25 if plain.tale.at is not None else 0)


async def _stream(plain: _Plain) -> None:
    headers = {"Accept": "text/event-stream"}
    if plain.since != "earliest":
        headers["Last-Event-ID"] = plain.since
    params = {"format": "json", "since": "earliest"}
    async with plain.session.get(plain.url, params=params, headers=headers) as response:
        await _check(response)
        position = ""
        async with asyncio.timeout(plain.stay_s):
            async for line in _lines(response):
                word, _, rest = line.partition(": ")
                if word == "data":
                    plain.take(json.loads(rest))
                    position = ""
                elif word == "id":
                    position = rest
                elif not line and position:  # without data: here the stream begins
                    plain.tale.begin(Position.parse(position))


async def _lines(response: ClientResponse) -> AsyncIterator[str]:
    """The lines that are whole: one that was cut off is none."""
    rest = b""
    async for piece in response.content.iter_any():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.decode()


async def _socket(plain: _Plain) -> None:
    params = {"format": "json", "since": plain.since}
    async with plain.session.ws_connect(plain.url, params=params) as socket, asyncio.timeout(plain.stay_s):
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                plain.take(json.loads(message.data))


_READS: Final[dict[Transport, Callable[[_Plain], Awaitable[None]]]] = {
    "websocket": _socket,
    "sse": _stream,
    "longpoll": _long_poll,
    "poll": _poll,
}
assert tuple(_READS) == TRANSPORTS
