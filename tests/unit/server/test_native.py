"""What an application sees of a WebSocket handshake, the same on either door."""

from typing import Any

import pytest
from starlette.requests import HTTPConnection

from heartwire import Hub
from tests.unit.transports.tools import connected, serve_asgi, serve_native


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
