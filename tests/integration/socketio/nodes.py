"""Socket.IO servers on one store, and a client that sends each request to the one that a test names."""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import aiohttp

from heartwire import Hub
from heartwire.socketio import AsyncServer
from heartwire.testing.server import serving
from tests.integration.client.tools import until
from tests.integration.nodes.deployment import store_process

__all__ = ["WITHIN_S", "Nodes", "Raw", "browser", "nodes", "told"]

WITHIN_S: Final = 10


class Nodes:
    """Servers of one deployment, each with a URL of its own; ``log``: what handlers saw, as (node, ...)."""

    def __init__(self) -> None:
        self.servers: list[AsyncServer] = []
        self.urls: list[str] = []
        self.log: list[tuple[Any, ...]] = []

    async def seen(self, *entry: Any) -> None:
        """Wait until handlers have seen something."""
        await until(lambda: entry in self.log, WITHIN_S, lambda: self.log)


@contextlib.asynccontextmanager
async def nodes(
    setup: Callable[[Nodes, int, AsyncServer], None], count: int = 2, *, engine: str = "", **options: Any
) -> AsyncIterator[Nodes]:
    """Run servers in this process.

    Args:
        setup: registers the handlers of one of them.
        engine: what they share; default: a store of their own, of a SQLite file.
        options: of `AsyncServer`.
    """
    made = Nodes()
    async with contextlib.AsyncExitStack() as stack:
        if not engine:
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp"))
            stack.enter_context(store_process(f"sqlite:///{folder}/test.db", folder))
            engine = f"attached://{folder}/s"
        for number in range(count):
            server = AsyncServer(Hub(engine), **options)
            setup(made, number, server)
            made.servers.append(server)
            made.urls.append(await stack.enter_async_context(serving(server.hub)))
        yield made


def browser() -> aiohttp.ClientSession:
    """A client of HTTP that does not say that it is Python's: those are not recovered."""
    timeout = aiohttp.ClientTimeout(WITHIN_S)
    return aiohttp.ClientSession(timeout=timeout, headers={"User-Agent": "Mozilla/5.0"})


class Raw:
    """One client, by hand: each of its requests is sent to the node that the test names. ``got``: the packets
    up to the answer to its CONNECT."""

    def __init__(self, http: aiohttp.ClientSession, made: Nodes) -> None:
        self.sid = ""
        self.got: list[str] = []
        self._http, self._urls = http, made.urls
        self._packets: list[str] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(
        cls, made: Nodes, at: int, namespace: str = "/", via: int = 0
    ) -> AsyncIterator["Raw"]:
        """A client whose session began at a node, and that has joined a namespace by posts to another."""
        async with browser() as http:
            client = cls(http, made)
            await client.open(at)
            await client.post(via, "40" if namespace == "/" else f"40{namespace},")
            client.got = await client.until(via, lambda packet: packet.startswith("40"))
            yield client

    def _url(self, node: int, transport: str = "polling") -> str:
        sid = f"&sid={self.sid}" if self.sid else ""
        return f"{self._urls[node]}/socket.io/?EIO=4&transport={transport}{sid}"

    async def open(self, node: int) -> None:
        """Begin a session."""
        status, body = await self.get(node)
        assert status == 200
        self.sid = json.loads(body[1:])["sid"]

    async def begin_anew(self, node: int) -> None:
        """Begin another session, as after a break."""
        self.sid = ""
        self._packets.clear()
        await self.open(node)

    async def get(self, node: int) -> tuple[int, str]:
        """Poll. Returns status and body."""
        async with self._http.get(self._url(node)) as answer:
            return answer.status, await answer.text()

    async def post(self, node: int, *packets: str) -> tuple[int, str]:
        """Post packets. Returns status and body."""
        async with self._http.post(self._url(node), data="\x1e".join(packets)) as answer:
            return answer.status, await answer.text()

    async def until(self, node: int, wanted: Callable[[str], bool]) -> list[str]:
        """Poll until a packet comes that is wanted. Returns all up to it, without pings."""
        got: list[str] = []
        while True:
            while self._packets:
                packet = self._packets.pop(0)
                if packet != "2":
                    got.append(packet)
                if wanted(packet):
                    return got
            status, body = await self.get(node)
            assert status == 200, body
            self._packets += body.split("\x1e")

    def socket(self, node: int) -> Any:
        """A WebSocket of the session, as an async context manager."""
        return self._http.ws_connect(self._url(node, "websocket"))

    @contextlib.asynccontextmanager
    async def upgraded(self, node: int, poll_at: int = 0) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Upgrade at a node, as clients do: probe, let the poll end, take over."""
        polling = asyncio.ensure_future(self.get(poll_at))
        async with self.socket(node) as socket:
            await socket.send_str("2probe")
            assert await socket.receive_str() == "3probe"
            status, body = await polling
            assert status == 200
            self._packets += body.split("\x1e")
            await socket.send_str("5")
            yield socket


async def told(socket: aiohttp.ClientWebSocketResponse, wanted: str | None) -> list[str]:
    """Receive until a message comes that is wanted (``None``: any). Returns all up to it, without pings."""
    got: list[str] = []
    while not got or wanted not in (None, got[-1]):
        message = (await socket.receive(timeout=WITHIN_S)).data
        if isinstance(message, bytes):
            message = message.decode()
        if message == "2":
            await socket.send_str("3")
        else:
            got.append(message)
    return got
