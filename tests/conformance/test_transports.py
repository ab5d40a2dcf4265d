"""One suite over each WebSocket transport: the native one, and ASGI on two servers."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.routing import Mount

from heartwire import Hub
from heartwire.testing import PromiseBroken
from heartwire.testing.server import serving
from heartwire.testing.transports import (
    TRANSPORT_CHECKS,
    TransportCheck,
    Wire,
    check_transport,
    text_that_is_not_utf8_closes,
)

LIMIT = 50_000

Serving = Callable[[Hub], AbstractAsyncContextManager[str]]


def native(hub: Hub) -> AbstractAsyncContextManager[str]:
    """As `heartwire serve` does it."""
    return serving(hub)


def uvicorn(hub: Hub) -> AbstractAsyncContextManager[str]:
    return serving(hub.asgi(), hub=hub)


@asynccontextmanager
async def mounted(hub: Hub) -> AsyncIterator[str]:
    """Below a prefix of somebody else's application."""
    app = Starlette(routes=[Mount("/realtime", hub.asgi())], lifespan=hub.lifespan)
    async with serving(app, hub=hub) as url:
        yield f"{url}/realtime"


@asynccontextmanager
async def hypercorn(hub: Hub) -> AsyncIterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.graceful_timeout = 0.2
    config.errorlog = None
    done = asyncio.Event()
    app: Any = hub.asgi()
    async with hub.lifespan():
        task = asyncio.ensure_future(serve(app, config, shutdown_trigger=done.wait))
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            hub.drain()
            done.set()
            await task


@pytest.mark.slow
@pytest.mark.parametrize("server", [native, uvicorn, mounted, hypercorn])
async def test_transport(server: Serving, loop_factory: object) -> None:
    # Hypercorn 0.18 drops the connection without a close, before the application hears of it.
    theirs = (text_that_is_not_utf8_closes,) if server is hypercorn else ()
    async with server(Hub(max_message_bytes=LIMIT)) as url:
        checks = [check for check in TRANSPORT_CHECKS if check not in theirs]
        await check_transport(url, max_message_bytes=LIMIT, checks=checks)


@pytest.mark.slow
async def test_transport_over_sqlite(tmp_path: Path) -> None:
    async with native(Hub(f"sqlite:///{tmp_path}/check.db", max_message_bytes=LIMIT)) as url:
        await check_transport(url, max_message_bytes=LIMIT)


async def test_a_broken_promise_is_reported() -> None:
    async def hears_what_nobody_said(wire: Wire) -> None:
        async with wire.connected() as talk:
            await talk.say("one")
            await talk.hear("a message comes back", "two")

    checks: list[TransportCheck] = [TRANSPORT_CHECKS[0], hears_what_nobody_said]
    async with native(Hub()) as url:
        with pytest.raises(PromiseBroken, match="a message comes back: got 'one', expected 'two'") as broken:
            await check_transport(url, checks=checks)
    assert broken.value.__notes__ == ["in hears_what_nobody_said"]
