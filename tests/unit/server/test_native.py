"""What an application sees of a WebSocket handshake, the same on either door."""

from typing import Any

import pytest
from starlette.requests import HTTPConnection

from heartwire import Hub
from tests.unit.transports.tools import KEY, Wire, connected, handshake, serve_asgi, serve_native


@pytest.mark.parametrize("serve", [serve_native, serve_asgi])
@pytest.mark.parametrize(
    ("target", "path"), [("/channels/a%20b%C3%A9", "/channels/a bé"), ("/channels/a", "/channels/a")]
)
async def test_the_path_is_decoded(serve: Any, target: str, path: str) -> None:
    hub = Hub()
    seen: list[str] = []

    @hub.authenticate
    def who(request: HTTPConnection) -> str:
        seen.append(request.scope["path"])
        return "ann"

    async with serve(hub) as served, await connected(served, target):
        assert seen == [path]


@pytest.mark.parametrize("serve", [serve_native, serve_asgi])
async def test_clients_with_the_same_headers_have_a_key_each(serve: Any) -> None:
    hub = Hub()
    seen: list[str] = []

    @hub.authenticate
    def who(request: HTTPConnection) -> str:
        seen.append(request.headers["sec-websocket-key"])
        return "ann"

    keys = ["x3JJHMbDL1EzLkh9GBhXDw==", "dGhlIHNhbXBsZSBub25jZQ=="]
    async with serve(hub) as served:
        for key in keys:
            async with await Wire.open(served) as wire:
                await wire.send(handshake("/channels/a").replace(KEY.encode(), key.encode()))
                assert (await wire.answer()).status == 101
    assert seen == keys
