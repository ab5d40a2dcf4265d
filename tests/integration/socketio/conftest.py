"""Socket.IO servers for tests, on either door."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
import pytest

import heartwire.socketio as socketio
from heartwire.testing.server import serving
from tests.integration.socketio.wire import Wire

Serve = Callable[[socketio.AsyncServer], AbstractAsyncContextManager[str]]
"""Serves a Socket.IO server; yields its URL."""

Connect = Callable[[socketio.AsyncServer], AbstractAsyncContextManager[Wire]]


@pytest.fixture(params=["native", "asgi"])
def serve(request: pytest.FixtureRequest) -> Serve:
    """By Heartwire's own protocol classes, as `heartwire serve` does; and by plain uvicorn."""

    def serve(sio: socketio.AsyncServer) -> AbstractAsyncContextManager[str]:
        app: Any = sio.hub if request.param == "native" else socketio.ASGIApp(sio)
        return serving(app, hub=sio.hub)

    return serve


@pytest.fixture
def connect(serve: Serve) -> Connect:
    """A client of the bare protocol."""

    @contextlib.asynccontextmanager
    async def connect(sio: socketio.AsyncServer) -> AsyncIterator[Wire]:
        async with serve(sio) as url, aiohttp.ClientSession() as http:
            yield Wire(url, http, sio.hub.options.socketio_path + "/")

    return connect


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - it is told by a plain call
            await asyncio.sleep(0.005)
