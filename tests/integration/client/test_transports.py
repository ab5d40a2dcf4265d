"""The Python client over each transport, and what a server refuses, on real servers."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

import heartwire
from heartwire import EARLIEST, ConnectionClosed, Forbidden, Hub, Position, Received, Refused
from heartwire.hub.tokens import make_token
from heartwire.testing import ServerProcess, serving
from tests.integration.certificates import self_signed
from tests.integration.client.tools import FAST, Story, client_of, data, each_transport, take, until

SECRET = "a secret of thirty-two bytes or more"
MESSAGES: list[Any] = [
    "text",
    "",
    "grüße 💬 \0",
    b"bytes",
    b"",
    bytes(range(256)),
    {"a": [1, None, 2.5]},
    7,
    None,
    True,
    "{}",
]


@each_transport
async def test_what_is_published_comes_as_it_was(transport: str, server: ServerProcess, channel: str) -> None:
    async with client_of(server.url, transport) as client, client.subscribe(channel) as subscription:
        called: list[Received] = []
        other = client_of(server.url, transport)
        async with other:
            await other.subscribe(channel, called.append).ready()
            positions = [await client.publish(channel, message) for message in MESSAGES]
            received = await take(subscription, len(MESSAGES))
            await until(lambda: len(called) == len(MESSAGES))
        # The text "{}" is JSON, and comes as what it says.
        assert data(received) == [*MESSAGES[:-1], {}]
        assert called == received
        assert [one.position for one in received] == positions
        assert {one.channel for one in received} == {channel}
        assert [one.payload for one in received[:4]] == [b"text", b"", "grüße 💬 \0".encode(), b"bytes"]
        assert subscription.position == positions[-1]
        assert (client.state, client.transport) == ("online", transport)


@each_transport
async def test_presence_history_and_rpc(transport: str) -> None:
    hub = Hub()

    @hub.rpc("double")
    async def double(identity: Any, number: Any) -> Any:
        if not isinstance(number, int):
            raise Refused("bad_request", "numbers only")
        return number * 2

    async with serving(hub) as url, client_of(url, transport) as client, client.subscribe("a"):
        positions = [await client.publish("a", number) for number in range(5)]
        assert data(await client.history("a")) == [0, 1, 2, 3, 4]
        assert data(await client.history("a", limit=2, since=positions[1])) == [2, 3]
        assert [one.position for one in await client.history("a", limit=2, reverse=True)] == positions[:2:-1]
        present = await client.presence("a")
        assert list(present) == (
            [] if transport in ("longpoll", "poll") else [client.client_id]
        )  # polls have no presence
        assert await client.rpc("double", 21) == 42
        with pytest.raises(Refused, match="numbers only"):
            await client.rpc("double", "x")
        with pytest.raises(Refused) as raised:
            await client.rpc("triple")
        assert raised.value.code.name == "method_not_found"


@each_transport
async def test_since(transport: str, server: ServerProcess, channel: str) -> None:
    async with client_of(server.url, transport) as client:
        positions = [await client.publish(channel, number) for number in range(700)]
        for since, first in ((EARLIEST, 0), ("earliest", 0), (positions[9], 10), (str(positions[698]), 699)):
            subscription = client.subscribe(channel, since=since)
            assert data(await take(subscription, 700 - first)) == list(range(first, 700))
            subscription.unsubscribe()
        async with client.subscribe(channel) as subscription:
            await client.publish(channel, "now")
            assert data(await take(subscription, 1)) == ["now"]


@each_transport
async def test_a_position_that_is_gone_is_a_gap(transport: str, server: ServerProcess, channel: str) -> None:
    async with client_of(server.url, transport) as client:
        story = Story(client)
        position = await client.publish(channel, "kept")
        old = Position("another", 5)
        subscription = client.subscribe(channel, since=old)
        told: list[Any] = []
        subscription.on_gap(told.append)
        await client.publish(channel, "new")
        got = data(await take(subscription, 1))
        while got[-1] != "new":
            got += data(await take(subscription, 1))
        assert got in (["kept", "new"], ["new"])  # whatever is kept comes after a gap
        assert told == story.gaps
        (gap,) = told
        assert (gap.before_epoch, gap.before_offset, gap.after_epoch) == (*old, position.epoch)
        assert gap.after_offset == (0 if got[0] == "kept" else 1)


@each_transport
async def test_an_idempotency_key_of_ones_own(transport: str, server: ServerProcess, channel: str) -> None:
    async with client_of(server.url, transport) as client:
        first = await client.publish(channel, "once", idempotency_key="k")
        assert await client.publish(channel, "twice", idempotency_key="k") == first
        assert data(await client.history(channel)) == ["once"]


@each_transport
async def test_many_channels(transport: str, server: ServerProcess, channel: str) -> None:
    async with client_of(server.url, transport) as client:
        subscriptions = [client.subscribe(f"{channel}.{number}") for number in range(100)]
        await asyncio.gather(*(subscription.ready() for subscription in subscriptions))
        for number in range(100):
            await client.publish(f"{channel}.{number}", number)
        for number, subscription in enumerate(subscriptions):
            assert data(await take(subscription, 1)) == [number]


@each_transport
async def test_a_hub_under_a_path(transport: str) -> None:
    """The hub is mounted below; the URL may end in a slash or not."""
    hub = Hub()
    app = Starlette(routes=[Mount("/real/time", hub.asgi())], lifespan=hub.lifespan)
    async with serving(app, hub=hub) as url:
        for base in (f"{url}/real/time", f"{url}/real/time/"):
            async with client_of(base, transport) as client, client.subscribe(base[-1]) as subscription:
                await client.publish(base[-1], "x")
                assert data(await take(subscription, 1)) == ["x"]


# -- refusals ------------------------------------------------------------------------------------------------


@each_transport
async def test_refusals_leave_the_connection(transport: str) -> None:
    hub = Hub()

    @hub.namespace("open")
    def may(identity: Any, action: str, channel: str) -> bool:
        return channel == "open:me"

    async with serving(hub) as url, client_of(url, transport) as client:
        story = Story(client)
        with pytest.raises(Forbidden):
            await client.publish("open:you", "x")
        subscription = client.subscribe("open:you")
        for _ in range(2):
            with pytest.raises(Forbidden):
                await subscription.ready()
        with pytest.raises(Forbidden):
            await anext(subscription)
        for channel, name in (("else:1", "unknown_channel"), ("a\tb", "bad_channel")):
            with pytest.raises(Refused) as raised:
                await client.publish(channel, "x")
            assert raised.value.code.name == name
            with pytest.raises(Refused) as raised:
                await client.subscribe(channel).ready()
            assert raised.value.code.name == name
        assert (await client.publish("open:me", "x" * 800)).offset == 1
        assert (client.state, [closed.code for closed in story.closed]) == ("online", [])


@each_transport
async def test_a_message_too_large_for_the_connection_is_refused_alone(transport: str) -> None:
    """Over a WebSocket it ends the connection with 1009, by POST it is 413: nothing else may be lost by
    that."""
    hub = Hub(max_message_bytes=1000)
    async with serving(hub) as url, client_of(url, transport, FAST._replace(max_in_flight=4)) as client:
        subscription = await client.subscribe("a").ready()
        large = asyncio.ensure_future(client.publish("a", "x" * 900_000))
        small = [asyncio.ensure_future(client.publish("a", number)) for number in range(20)]
        with pytest.raises(Refused):
            await asyncio.wait_for(large, 10)
        async with asyncio.timeout(10):
            assert [(await answer).offset for answer in small] == list(range(1, 21))
        assert data(await take(subscription, 20)) == list(range(20))


async def test_a_message_over_the_limit_of_the_client(server: ServerProcess, channel: str) -> None:
    async with client_of(server.url, "", FAST._replace(max_message_bytes=10, max_pending_items=2)) as client:
        with pytest.raises(Refused, match="max_message_bytes"):
            await client.publish(channel, "x" * 10)
    async with client_of(
        "http://127.0.0.1:1", "", FAST._replace(max_pending_items=2, close_timeout_s=0.01)
    ) as client:
        waiting = [asyncio.ensure_future(client.publish(channel, "x")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="max_pending_items"):
            await client.publish(channel, "x")
        assert client.pending == 2
    for publish in waiting:
        with pytest.raises(heartwire.GivenUp):
            await publish


@each_transport
@pytest.mark.parametrize("message", ["x" * 1_048_573, b"x" * 800_000, "\n" * 600_000], ids=type)
async def test_a_message_whose_frame_is_too_large_costs_no_connection(
    message: Any, transport: str, server: ServerProcess, channel: str
) -> None:
    # Its JSON is within the limit, or the message is, but not the frame: the server ended the connection.
    async with client_of(server.url, transport) as client:
        story = Story(client)
        await client.wait_online()
        with pytest.raises(Refused, match="over the limit of 1048576"):
            await client.publish(channel, message)
        with pytest.raises(Refused, match="a request of"):
            await client.rpc("nothing", "x" * 1_048_540)
        assert (await client.publish(channel, "x" * 1_048_200)).offset == 1
        assert story.closed == []


# -- who -----------------------------------------------------------------------------------------------------


def signed(lasts_s: float, user: str = "ann") -> str:
    return make_token({"sub": user, "exp": int(time.time() + lasts_s)}, SECRET)


@each_transport
async def test_a_token_says_who(transport: str) -> None:
    async with serving(Hub(token_hmac_secret_key=SECRET)) as url:
        async with client_of(url, transport, token=signed(3600)) as client:
            await client.wait_online()
        for token in ("nonsense", signed(-5)):
            async with client_of(url, transport, token=token) as client:
                Story(client)  # else the error is logged
                with pytest.raises(ConnectionClosed, match="token"):
                    await client.wait_online()


@pytest.mark.slow
@each_transport
async def test_a_token_that_runs_out_is_renewed(transport: str) -> None:
    """Asked for once to begin with, and again before it is over; nothing is lost meanwhile."""
    asked: list[float] = []

    async def get_token() -> str:
        asked.append(time.time())
        return signed(2)

    hub = Hub(token_hmac_secret_key=SECRET)
    hub.namespace("", allow_subscribe_for_client=True)
    async with serving(hub) as url, client_of(url, transport, get_token=get_token) as client:
        subscription = await client.subscribe("a").ready()
        number = 0
        async with asyncio.timeout(15):
            while len(asked) < 4:
                await hub.publish("a", number)
                assert data(await take(subscription, 1)) == [number]
                number += 1
        assert client.state != "closed"


async def test_closed_for_good() -> None:
    hub = Hub()
    connected: list[Any] = []

    @hub.on_connect
    async def connect(client: Any) -> None:
        connected.append(client)

    async with serving(hub) as url, client_of(url) as client:
        story = Story(client)
        subscription = await client.subscribe("a").ready()
        connected[0].disconnect(3503, "enough")
        with pytest.raises(ConnectionClosed, match="3503 enough"):
            await anext(subscription)
        assert (client.state, len(connected), [error.close_code for error in story.errors]) == (
            "closed",
            1,
            [3503],
        )
        assert story.closed[-1].next_attempt_s == -1


# -- TLS -----------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def tls(url: str, folder: Path) -> AsyncIterator[tuple[str, ssl.SSLContext]]:
    """The same server behind TLS, and a context that trusts it."""
    certificate, key = self_signed(folder, "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    port = int(url.rpartition(":")[2])
    tasks: set[asyncio.Task[Any]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65536):
                writer.write(chunk)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        for source, target in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.ensure_future(carry(source, target))
            tasks.add(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    try:
        trusting = ssl.create_default_context(cafile=str(certificate))
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", trusting
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@each_transport
async def test_tls(transport: str, tmp_path: Path) -> None:
    async with serving(Hub()) as plain, tls(plain, tmp_path) as (url, trusting):
        for check in (trusting, False):
            async with client_of(url, transport, ssl=check) as client, client.subscribe("a") as subscription:
                await client.publish("a", "x")
                assert data(await take(subscription, 1)) == ["x"]
        async with client_of(url, transport) as client:
            story = Story(client)
            await until(lambda: story.closed)
            assert "certificate" in story.closed[0].reason
            assert client.state != "online"
