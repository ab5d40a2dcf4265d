"""A client of the bare protocols, for tests: requests, polls and WebSockets, whose words a test writes itself."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp

__all__ = ["Answer", "Wire", "WireSocket"]

WAIT_S = 10


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    body: str
    headers: Any = None

    @property
    def code(self) -> int:
        """The code of an error."""
        return int(json.loads(self.body)["code"])


class WireSocket:
    """A WebSocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def send(self, *messages: str | bytes) -> None:
        for message in messages:
            await (
                self._socket.send_bytes(message)
                if isinstance(message, bytes)
                else self._socket.send_str(message)
            )

    async def next(self, *, pings: bool = False) -> str | bytes | None:
        """The next message but for pings; ``None``: the end."""
        async with asyncio.timeout(WAIT_S):
            while True:
                message = await self._socket.receive()
                if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                    return None
                if pings or message.data != "2":
                    return message.data  # type: ignore[no-any-return]

    async def ends(self) -> int | None:
        """Read to the end. Returns the close code."""
        while await self.next() is not None:
            pass
        return self._socket.close_code

    async def join(self, namespace: str = "/", auth: Any = None) -> dict[str, Any]:
        """Join a namespace. Returns the payload of the answer."""
        head = "" if namespace == "/" else f"{namespace},"
        await self.send(f"40{head}{'' if auth is None else json.dumps(auth)}")
        while not (text := str(await self.next())).startswith(f"40{head}"):
            assert text.startswith("42"), text
        return json.loads(text.removeprefix(f"40{head}"))  # type: ignore[no-any-return]


class Wire:
    """Requests to one server's address."""

    def __init__(self, url: str, http: aiohttp.ClientSession, path: str = "/socket.io/") -> None:
        self.address = url + path
        self._http = http

    async def ask(self, method: str, query: str, body: str | bytes | None = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with asyncio.timeout(WAIT_S):
            async with self._http.request(
                method, f"{self.address}?{query}", data=body, headers=named
            ) as answer:
                return Answer(answer.status, await answer.text(), answer.headers)

    async def open(self) -> str:
        """Begin with a poll. Returns the sid."""
        answer = await self.ask("GET", "EIO=4&transport=polling")
        assert answer.status == 200, answer
        return str(json.loads(answer.body[1:])["sid"])

    async def poll(self, sid: str) -> Answer:
        return await self.ask("GET", f"EIO=4&transport=polling&sid={sid}")

    async def post(self, sid: str, body: str | bytes) -> Answer:
        return await self.ask("POST", f"EIO=4&transport=polling&sid={sid}", body)

    @contextlib.asynccontextmanager
    async def socket(
        self, query: str = "EIO=4&transport=websocket", **headers: str
    ) -> AsyncIterator[WireSocket]:
        """A WebSocket as it is, before its first message."""
        async with self._http.ws_connect(f"{self.address}?{query}", headers=headers, autoping=True) as socket:
            yield WireSocket(socket)

    @contextlib.asynccontextmanager
    async def opened(self, query: str = "") -> AsyncIterator[WireSocket]:
        """A session that began with a WebSocket."""
        async with self.socket(f"EIO=4&transport=websocket{query}") as socket:
            assert str(await socket.next()).startswith("0{")
            yield socket
