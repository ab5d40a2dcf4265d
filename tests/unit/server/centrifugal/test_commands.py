"""Batches of commands, without a server."""

from typing import Any

from heartwire import Hub
from tests.unit.hub.test_life import asked


async def test_a_batch_that_asks_nothing_has_an_empty_answer() -> None:
    hub = Hub()
    heard: list[Any] = []
    hub.on_message(lambda client, data: heard.append(data))
    assert await asked(hub.asgi(), "POST", "/connection/commands", b'{"send":{"data":1}}') == (200, "")
    assert heard == [1]
    await hub.stop()
