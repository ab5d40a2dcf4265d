"""A server of MCP whose one tool waits for the test. ``app`` is that of the engine that the environment names
(``ENGINE``), and is told by POST."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import Context, MCPServer
from mcp.types import JSONRPCMessage, JSONRPCResponse
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from heartwire import Hub
from heartwire.mcp import EventStore


class Tokens:
    """Everybody's token is their name."""

    async def verify_token(self, token: str) -> AccessToken | None:
        return AccessToken(token=token, client_id=token, scopes=[], subject=token)


class Kept(EventStore):
    """Says when the answer is kept."""

    def __init__(self, hub: Hub, worker: "Worker") -> None:
        super().__init__(hub)
        self._worker = worker

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        event_id = await super().store_event(stream_id, message)
        if isinstance(message, JSONRPCResponse) and self._worker.go.is_set():
            self._worker.is_done.set()
        return event_id


class Worker:
    """See the module."""

    def __init__(self, hub: Hub, *, asks_tokens: bool = False) -> None:
        self.hub = hub
        self.cut, self.go, self.is_done = asyncio.Event(), asyncio.Event(), asyncio.Event()
        url: Any = AnyHttpUrl("http://127.0.0.1")
        auth: Any = {
            "auth": AuthSettings(issuer_url=url, resource_server_url=None),
            "token_verifier": Tokens(),
        }
        self.server = MCPServer("test", log_level="ERROR", **(auth if asks_tokens else {}))
        self.server.add_tool(self.count)
        store = Kept(hub, self)
        served = store.wrap(self.server.streamable_http_app(event_store=store, retry_interval=10))
        routes = [Route("/told/{event}", self.told, methods=["POST"]), Mount("/", served)]
        self.app = Starlette(routes=routes, lifespan=self.lifespan)

    async def count(self, to: int, context: Context) -> str:
        """Say 1, cut the client off when the test says so, and go on when it says so."""
        await context.report_progress(1, to)
        await self.cut.wait()
        await context.close_sse_stream()
        await self.go.wait()
        for number in range(2, to + 1):
            await context.report_progress(number, to)
        return f"counted to {to}"

    async def told(self, request: Request) -> Response:
        if (event := request.path_params["event"]) == "is_done":
            await self.is_done.wait()
        getattr(self, event).set()
        return Response()

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        async with self.hub.lifespan(), self.server.session_manager.run():
            yield


def __getattr__(name: str) -> Starlette:
    if name == "app":
        return Worker(Hub(os.environ["ENGINE"])).app
    raise AttributeError(name)
