"""Heartwire behind nginx, Caddy and HAProxy, as docs/deploy.md configures them."""

import asyncio
import contextlib
import json
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import aiohttp
import h2.connection
import h2.events
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from heartwire import Hub
from heartwire.client.options import TRANSPORTS
from heartwire.dialects.plain.requests import MAX_WAIT_S
from heartwire.hub.options import HubOptions
from heartwire.server.config import Settings
from heartwire.server.run import uvicorn_config
from heartwire.testing import ServerProcess, run_server
from tests.integration.client.tools import client_of, data, each_transport, take, until
from tests.integration.proxies.proxy import HAPROXY_HTTP, KINDS, SITE, Proxy, run_proxy, server_flags, snippet
from tests.integration.wire import TIMEOUT_S

pytestmark = pytest.mark.slow

BIG: Final = "x" * 900_000
PER_ADDRESS: Final = 8
ADDED_MS: Final = 20
ROUNDS: Final = 15


class Site(NamedTuple):
    """A server and the proxy before it."""

    proxy: Proxy
    server: ServerProcess


@pytest.fixture(scope="module", autouse=True)
def name_of_this_machine() -> Iterator[None]:
    """The site's name leads to this machine, for every client of this process."""
    resolve = socket.getaddrinfo
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            socket,
            "getaddrinfo",
            lambda host, *more, **options: resolve(
                "127.0.0.1" if host in (SITE, SITE.encode()) else host, *more, **options
            ),
        )
        yield


@pytest.fixture(scope="module", params=KINDS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server started as docs/deploy.md says, behind each proxy."""
    config = f"max_connections_per_address = {PER_ADDRESS}"
    flags = (*server_flags(), "--access-log")
    with (
        run_server(*flags, engine="sqlite:///test.db", config=config) as server,
        run_proxy(request.param, server.port, tmp_path_factory.mktemp("proxy")) as proxy,
    ):
        yield Site(proxy, server)


@each_transport
async def test_what_is_published_comes_as_it_was(transport: str, site: Site, channel: str) -> None:
    messages = ["grüße", b"\0\xff", {"a": [1]}, BIG]
    client = client_of(site.proxy.url, transport, ssl=site.proxy.trust())
    async with client, client.subscribe(channel) as subscription:
        for message in messages:
            await client.publish(channel, message)
        assert data(await take(subscription, len(messages))) == messages
        assert client.transport == transport


# -- nothing is held back ------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def by_client(
    transport: str, url: str, trust: ssl.SSLContext, channel: str
) -> AsyncIterator[AsyncIterator[Any]]:
    client = client_of(url, transport, ssl=trust)
    async with client, client.subscribe(channel) as subscription:
        yield subscription


@contextlib.asynccontextmanager
async def by_stream(
    path: str, url: str, trust: ssl.SSLContext, channel: str
) -> AsyncIterator[AsyncIterator[Any]]:
    """The publications of a stream of the Centrifugal dialect."""
    commands = [{"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": channel}}]
    body = "\n".join(json.dumps(command) for command in commands)
    async with aiohttp.ClientSession() as session, session.post(url + path, data=body, ssl=trust) as response:
        lines = response.content
        while b'"subscribe"' not in await lines.readline():
            pass
        yield (line async for line in lines if b'"pub"' in line)


async def delay_ms(proxy: Proxy, server: ServerProcess, url: str, kind: str, channel: str) -> float:
    """How long a publication, made at the server, takes to a subscriber at the URL, at the median."""
    loop = asyncio.get_running_loop()
    follow = by_client if kind in TRANSPORTS else by_stream
    delays = []
    async with (
        client_of(server.url, "websocket") as publisher,
        follow(kind, url, proxy.trust(), channel) as publications,
    ):
        for number in range(ROUNDS):
            began = loop.time()
            await publisher.publish(channel, number)
            await asyncio.wait_for(anext(publications), TIMEOUT_S)
            delays.append(loop.time() - began)
    return median(delays) * 1000


async def check_delay(proxy: Proxy, server: ServerProcess, kind: str, channel: str) -> None:
    """A proxy adds less than 20 ms. One that buffers adds more in each attempt."""
    for attempt in range(3):
        direct = await delay_ms(proxy, server, server.url, kind, f"{channel}-{attempt}a")
        proxied = await delay_ms(proxy, server, proxy.url, kind, f"{channel}-{attempt}b")
        if proxied - direct < ADDED_MS:
            return
    pytest.fail(f"{kind}: {proxied:.1f} ms behind the proxy, {direct:.1f} ms without it")


KINDS_OF_STREAMS = [*TRANSPORTS[:3], "/connection/http_stream", "/connection/sse"]


@pytest.mark.parametrize("kind", KINDS_OF_STREAMS)
async def test_nothing_is_held_back(kind: str, site: Site, channel: str) -> None:
    await check_delay(site.proxy, site.server, kind, channel)


async def test_haproxy_without_tls_holds_nothing_back(channel: str, tmp_path: Path) -> None:
    """Only there did events come 208 ms late: it waits for more to send, unless `option http-no-delay`."""
    with run_server(*server_flags()) as server, run_proxy(HAPROXY_HTTP, server.port, tmp_path) as proxy:
        for kind in KINDS_OF_STREAMS:
            await check_delay(proxy, server, kind, channel + kind.replace("/", "-"))


class Http2:
    """One request over HTTP/2."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy, self._reader, self._writer = proxy, reader, writer
        self._machine = h2.connection.H2Connection()
        self._body = b""
        self.status = b""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, proxy: Proxy) -> AsyncIterator["Http2"]:
        trust = proxy.trust("h2", "http/1.1")
        reader, writer = await asyncio.open_connection(SITE, proxy.port, ssl=trust)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        try:
            yield cls(proxy, reader, writer)
        finally:
            writer.close()

    def send(self, method: str, path: str, headers: dict[str, str]) -> None:
        """Send the request. After CONNECT both ways stay open."""
        self._machine.initiate_connection()
        authority = f"{SITE}:{self._proxy.port}"
        head = {":method": method, ":scheme": "https", ":authority": authority, ":path": path} | headers
        self._machine.send_headers(1, list(head.items()), end_stream=method != "CONNECT")
        self._writer.write(self._machine.data_to_send())

    async def until(self, mark: bytes) -> bytes:
        """The body's bytes so far, once the mark is among them; what follows is kept for the next call."""
        while mark not in self._body:
            chunk = await asyncio.wait_for(self._reader.read(65536), TIMEOUT_S)
            assert chunk, f"the proxy closed; so far {self._body!r}"
            for event in self._machine.receive_data(chunk):
                if isinstance(event, h2.events.ResponseReceived):
                    self.status = dict(event.headers)[b":status"]
                elif isinstance(event, h2.events.DataReceived):
                    self._body += event.data
                    self._machine.acknowledge_received_data(event.flow_controlled_length, 1)
            self._writer.write(self._machine.data_to_send())
        found, mark, self._body = self._body.partition(mark)
        return found + mark


async def test_event_streams_over_http_2(site: Site, channel: str) -> None:
    """A browser has more than six of them there. The page's origin is compared with HTTP/2's `:authority`."""
    async with Http2.open(site.proxy) as stream, client_of(site.server.url, "websocket") as publisher:
        headers = {"accept": "text/event-stream", "origin": site.proxy.url}
        stream.send("GET", f"/channels/{channel}", headers)
        await stream.until(b"retry: ")
        assert stream.status == b"200"
        for number in range(3):
            await publisher.publish(channel, number)
            assert b"data: %d" % number in await stream.until(b"data: %d\n" % number)


async def test_websockets_over_http_2(tmp_path: Path) -> None:
    """HAProxy offers them (RFC 8441), so browsers that have a connection over HTTP/2 open them on it."""
    with run_server(*server_flags()) as server, run_proxy("haproxy", server.port, tmp_path) as proxy:
        async with Http2.open(proxy) as stream, client_of(server.url, "websocket") as publisher:
            headers = {":protocol": "websocket", "sec-websocket-version": "13", "origin": proxy.url}
            stream.send("CONNECT", "/channels/a?since=earliest", headers)
            for text in ("one", "two"):
                await publisher.publish("a", text)
                await stream.until(b"\x81\x03" + text.encode())
            assert stream.status == b"200"


# -- what else has to pass -----------------------------------------------------------------------------------


def ask(site: Site, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, Any]:
    """Status and JSON of a request through the proxy."""
    with contextlib.closing(site.proxy.connection()) as connection:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


async def test_the_health_check(site: Site, request: pytest.FixtureRequest) -> None:
    assert ask(site, "GET", "/health") == (200, {"status": "ok"})
    if request.node.callspec.params["site"] == "haproxy":
        await until(lambda: '"GET /health HTTP/1.0" 200' in site.server.log)  # its own, which has no Host


def test_a_refusal_of_ours_arrives(site: Site) -> None:
    """The limit that our refusal names, and not the proxy's, ends an upload."""
    limit = HubOptions().max_message_bytes
    status, told = ask(site, "POST", "/channels/a", b"x" * (limit + 1))
    assert (status, told["error"]["code"]) == (413, "message_too_large")
    assert str(limit) in told["error"]["message"]


def test_pages_of_the_site_may_publish_and_others_may_not(site: Site) -> None:
    assert ask(site, "POST", "/channels/a", b"x", Origin=site.proxy.url)[0] == 200
    status, told = ask(site, "POST", "/channels/a", b"x", Origin="https://evil.example")
    assert (status, told["error"]["code"]) == (403, "origin_refused")


def socket_from(site: Site, source: str, **headers: str) -> connect:
    """A WebSocket from an address of this machine."""
    options: dict[str, Any] = {"local_addr": (source, 0), "ssl": site.proxy.trust(), "proxy": None}
    url = f"wss://{SITE}:{site.proxy.port}/channels/addresses?since=earliest"
    return connect(url, additional_headers=headers, **options)


def stream_from(site: Site, source: str, **headers: str) -> int:
    """The status of an event stream from an address of this machine."""
    with contextlib.closing(site.proxy.connection(source)) as connection:
        headers |= {"Accept": "text/event-stream"}
        connection.request("GET", "/channels/addresses", headers=headers)
        return connection.getresponse().status


async def test_limits_count_the_clients_own_address(site: Site) -> None:
    """Not the proxy's, and none that the client chooses."""
    ask(site, "POST", "/channels/addresses", b"x")
    chosen = {"X-Forwarded-For": "9.9.9.9"}
    async with asyncio.timeout(TIMEOUT_S), contextlib.AsyncExitStack() as stack:
        for _ in range(PER_ADDRESS):
            assert await (await stack.enter_async_context(socket_from(site, "127.0.0.2"))).recv()
        for headers in ({}, chosen):
            assert stream_from(site, "127.0.0.2", **headers) == 429
            async with socket_from(site, "127.0.0.2", **headers) as refused:
                with pytest.raises(ConnectionClosed, match="1013"):
                    await refused.recv()
        assert stream_from(site, "127.0.0.3") == 200
        async with socket_from(site, "127.0.0.3") as other:
            assert await other.recv()


@pytest.mark.parametrize(
    ("source", "path", "accept"),
    [
        ("127.0.0.4", "/channels/left", "text/event-stream"),
        ("127.0.0.5", "/channels/left?wait=50", "application/json"),
    ],
    ids=["sse", "longpoll"],
)
async def test_a_client_that_leaves_is_gone_at_once(source: str, path: str, accept: str, site: Site) -> None:
    """Not only with the next heartbeat, or the end of its poll."""
    with contextlib.ExitStack() as stack:

        def one_more() -> None:
            connection = stack.enter_context(contextlib.closing(site.proxy.connection(source)))
            connection.request("GET", path, headers={"Accept": accept})

        def is_full() -> bool:
            if stream_from(site, source) == 429:
                return True
            one_more()  # the look may have taken the place of one, which was refused
            return False

        for _ in range(PER_ADDRESS):
            one_more()
        await until(is_full)
    await until(lambda: stream_from(site, source) == 200, TIMEOUT_S / 2)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_open_server_has_to_be_given_the_sites_name(kind: str, tmp_path: Path) -> None:
    """As docs/deploy.md says where it shows the flag."""
    with run_server() as server, run_proxy(kind, server.port, tmp_path) as proxy:
        site = Site(proxy, server)
        status, told = ask(site, "GET", "/channels/a")
        assert (status, told["error"]["code"]) == (421, "host_refused")
        with pytest.raises(InvalidStatus, match="HTTP 421"):
            await socket_from(site, "127.0.0.1")


async def test_a_restart_behind_the_proxy_loses_nothing(site: Site, channel: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        clients = [client_of(site.proxy.url, name, ssl=site.proxy.trust()) for name in TRANSPORTS]
        subscriptions = []
        for client in clients:
            await stack.enter_async_context(client)
            subscriptions.append(await stack.enter_async_context(client.subscribe(channel)))
        publishes = [asyncio.ensure_future(clients[0].publish(channel, number)) for number in range(10)]
        await publishes[0]
        await asyncio.to_thread(site.server.restart)
        publishes += [asyncio.ensure_future(clients[0].publish(channel, number)) for number in range(10, 20)]
        for subscription in subscriptions:
            assert data(await take(subscription, 20)) == list(range(20))
        await asyncio.gather(*publishes)


def test_no_timeout_is_shorter_than_a_silence_of_ours() -> None:
    options = HubOptions()
    silence_s = max(options.ping_interval_s + options.pong_timeout_s, options.sse_heartbeat_s, MAX_WAIT_S)
    for proxy, pattern in {
        "nginx": r"proxy_(?:read|send)_timeout +(\d+)s",
        "haproxy": r"timeout (?:client|server|tunnel) +(\d+)s",
    }.items():
        limits = [int(found) for found in re.findall(pattern, snippet(proxy))]
        assert limits
        assert min(limits) > silence_s * 1.2, proxy


def test_caddy_drops_an_idle_connection_before_the_server_does() -> None:
    """Else it would send a request on one that is being closed, and answer 502 for a POST."""
    (idle_s,) = re.findall(r"keepalive (\d+)s", snippet("caddy"))
    assert int(idle_s) < uvicorn_config(Settings(engine="memory"), Hub("memory")).timeout_keep_alive
