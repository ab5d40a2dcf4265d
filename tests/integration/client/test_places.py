"""The Python client where the server has moved, stands behind a load balancer, or behind a proxy."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from heartwire import ConfigError, Hub
from heartwire.testing import ServerProcess, serving
from tests.integration.client.test_transports import tls
from tests.integration.client.tools import Story, client_of, data, each_transport, take, until

pytestmark = [pytest.mark.filterwarnings("error::ResourceWarning")]


@contextlib.asynccontextmanager
async def moved(to: str, status: int = 308) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that says of each address that it is below another, and the requests it has had."""
    asked: list[str] = []
    accepted: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ")[1]
            asked.append(head)
            writer.write(f"HTTP/1.1 {status} Moved\r\nLocation: {to}{path}\r\nContent-Length: 0\r\n".encode())
            writer.write(b"Connection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
        finally:
            for writer in accepted:  # one that its client has left may not have been read yet
                writer.transport.abort()
            await asyncio.sleep(0)


@each_transport
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_server_that_has_moved_to_tls(
    status: int, transport: str, server: ServerProcess, channel: str, tmp_path: Path
) -> None:
    # A redirect turned POST into GET: there was no way through.
    async with (
        tls(server.url, tmp_path) as (url, context),
        moved(url, status) as (old, asked),
        client_of(old, transport, ssl=context) as client,
        client.subscribe(channel) as subscription,
    ):
        await client.publish(channel, "x")
        assert data(await take(subscription, 1)) == ["x"]
        assert client.transport == transport
        assert len(asked) == 1, "what it has learnt holds for the connection"


@each_transport
async def test_a_server_that_has_moved_twice(transport: str, server: ServerProcess, channel: str) -> None:
    async with moved(server.url) as (first, _), moved(first) as (old, _), client_of(old, transport) as client:
        assert (await client.publish(channel, "x")).offset == 1


@each_transport
async def test_another_host_is_named_and_gets_nothing(transport: str) -> None:
    # The handshake of a WebSocket went to whoever was named, and the token with it.
    async with moved("http://elsewhere.example") as (url, _), client_of(url, transport) as client:
        story = Story(client)
        await until(lambda: story.closed)
        reason = story.closed[0].reason
        assert reason.startswith("moved to http://elsewhere.example/connection/")
        assert reason.endswith(": give that address, if it is the server")
        assert client.state != "closed", "a page to log in to a network sends everybody elsewhere for a while"


async def test_never_from_tls_to_plain(server: ServerProcess, tmp_path: Path) -> None:
    async with (
        moved(server.url) as (url, _),
        tls(url, tmp_path) as (secure, context),
        client_of(secure, "websocket", ssl=context) as client,
    ):
        story = Story(client)
        await until(lambda: story.closed)
        assert story.closed[0].reason.startswith(f"moved to {server.url}/connection/websocket")


async def test_a_circle_ends(channel: str) -> None:
    async with moved("") as (url, asked), client_of(url, "poll") as client:
        story = Story(client)
        await until(lambda: story.closed)
        assert story.closed[0].reason.startswith(f"moved to {url}/, in a circle")
        assert len([one for one in asked if one.startswith("POST /connection/commands")]) >= 5


@each_transport
async def test_a_cookie_of_a_load_balancer_at_an_ip_address_comes_back(transport: str) -> None:
    # Cookies of IP addresses were dropped, and those with quotes in them changed.
    hub = Hub()
    inner = hub.asgi()
    seen: list[bytes] = []
    connected: list[Any] = []

    @hub.on_connect
    async def connect(client: Any) -> None:
        connected.append(client)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def sticky(message: Any) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                cookie = (b"set-cookie", b'SERVERID=a|"b"; Path=/')
                message = {**message, "headers": [*message.get("headers", []), cookie]}
            await send(message)

        if scope["type"] in ("http", "websocket"):
            seen.append(dict(scope["headers"]).get(b"cookie", b""))
        await inner(scope, receive, sticky)

    async with serving(app, hub=hub) as url, client_of(url, transport) as client:
        await client.publish("a", 1)
        if transport in ("websocket", "sse"):
            connected[0].disconnect(3011, "come back")
        await until(lambda: len(connected) > 1)
        await client.publish("a", 2)
    assert seen[0] == b""
    assert set(seen[1:]) == {b'SERVERID=a|"b"'}


async def test_a_proxy_that_is_not_supported_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "socks5://proxy:1080")
    with pytest.raises(ConfigError, match="http_proxy = 'socks5://proxy'"):
        async with client_of("http://example.com"):
            pass
