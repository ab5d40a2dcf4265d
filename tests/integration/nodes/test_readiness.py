"""A node whose store is away: its readers stay, and a balancer is told once it has been deaf for a while."""

import tempfile
from pathlib import Path

import aiohttp
import pytest

from heartwire import Hub, connect
from heartwire.engines.attached import AttachedEngine
from heartwire.engines.memory import MemoryEngine
from heartwire.hub.readiness import DEAF_S
from heartwire.store.serve import serve
from heartwire.testing.server import serving
from tests.unit.transports.tools import until


async def _get(url: str, path: str) -> tuple[int, dict[str, str]]:
    async with aiohttp.ClientSession() as session, session.get(url + path) as answer:
        return answer.status, await answer.json()


async def test_a_deaf_node_takes_itself_out_and_its_readers_stay() -> None:
    engine = MemoryEngine()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = Path(folder, "s")
        hub = Hub(AttachedEngine(path, patience_s=0.05))
        store = serve(engine, path)
        await store.__aenter__()
        async with serving(hub) as url, connect(url) as client, client.subscribe("a") as messages:
            await client.publish("a", "before")
            assert (await anext(messages)).data == "before"
            client_id = client.client_id
            now = hub.node.clocks.monotonic()
            hub.node.clocks.monotonic = lambda: now
            assert await _get(url, "/ready") == (200, {"status": "ready", "feed": "up", "store": "up"})
            await store.__aexit__(None, None, None)
            await until(lambda: hub.node.readiness.state == "down")
            away = {"feed": "down", "store": "down", "why": f"{path}: the store is gone"}
            assert await _get(url, "/ready") == (200, {"status": "ready", **away})
            hub.node.clocks.monotonic = lambda: now + DEAF_S
            assert await _get(url, "/ready") == (503, {"status": "deaf", **away})
            assert await _get(url, "/health") == (200, {"status": "ok", **away})
            with pytest.raises(Exception, match="the store is away"):
                await hub.publish("a", "nobody takes this")
            async with serve(engine, path):
                await until(lambda: hub.node.readiness.state == "up")
                assert (await _get(url, "/ready"))[0] == 200
                await hub.publish("a", "after")
                assert (await anext(messages)).data == "after"
                assert client.client_id == client_id
