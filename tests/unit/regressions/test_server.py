"""Faults that simulations found in the server, each as small as it can be."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from heartwire import Hub


@pytest.mark.parametrize("path", ["/connection/sse", "/channels/a"])
def test_client_that_is_gone_before_its_stream_begins_is_not_a_fault(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Found by seed 1521: a traceback in the log, and an attempt to answer 500."""
    is_plain = path == "/channels/a"
    body = b"" if is_plain else b'{"id":1,"connect":{}}'
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET" if is_plain else "POST",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"here"), (b"accept", b"text/event-stream")],
        "client": ("1.2.3.4", 5),
    }
    received: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]
    sent = []

    async def receive() -> MutableMapping[str, Any]:
        return received.pop() if received else {"type": "http.disconnect"}

    async def send(event: MutableMapping[str, Any]) -> None:
        sent.append(event["type"])
        raise ConnectionResetError

    async def main() -> None:
        hub = Hub()
        async with asyncio.timeout(5):
            await hub.asgi()(scope, receive, send)
        assert not hub.node.connections
        assert not hub.node.connections
        await hub.stop()

    asyncio.run(main())
    assert caplog.records == []
    assert set(sent) <= {"http.response.start", "http.response.body"}
