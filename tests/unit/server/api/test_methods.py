"""The HTTP API of a hub, without a server."""

from heartwire import Hub
from tests.unit.hub.test_publishing import http


async def test_without_a_key_the_api_is_off_and_names_the_option() -> None:
    answer = await http(Hub(), "/api/info", "{}", {"x-api-key": ""})
    assert answer["error"]["code"] == "not_found"
    assert "api_key" in answer["error"]["message"]


async def test_info_counts_the_seconds_since_the_hub_was_made() -> None:
    hub = Hub(api_key="k")
    now = 100.0
    hub.node.clocks.monotonic = lambda: now
    application = hub.asgi()
    now = 107.9
    answer = await http(hub, "/api/info", "{}", {"x-api-key": "k"}, application)
    (node,) = answer["result"]["nodes"]
    assert node["uptime"] == 7
    assert (node["num_clients"], node["num_users"], node["num_channels"], node["num_subs"]) == (0, 0, 0, 0)
    assert node["uid"] == hub.node.connections.node_id
    await hub.stop()
