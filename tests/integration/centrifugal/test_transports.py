"""The official SDKs over what is not JSON over WebSocket: http_stream and SSE with the emulation endpoint,
and Protobuf.

The tests are those of `test_sdks`, with other clients.
"""

import http.client
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.centrifugal import test_sdks as sdks
from tests.integration.centrifugal.sdk.harness import Sdk, Server, node_modules, serving, until
from tests.integration.centrifugal.test_sdks import Make, token

server, make, name = sdks.server, sdks.make, sdks.name

KINDS = ["js-http_stream", "js-sse", "js-protobuf", "js-http_stream-protobuf", "python-protobuf"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    if request.param.startswith("js"):
        node_modules()
    return str(request.param)


test_connect_with_a_token = sdks.test_connect_with_a_token
test_bad_token_is_for_good = sdks.test_bad_token_is_for_good
test_connect_hook_refuses = sdks.test_connect_hook_refuses
test_everything_once = sdks.test_everything_once
test_joins_for_those_who_ask = sdks.test_joins_for_those_who_ask
test_subscription_that_is_refused = sdks.test_subscription_that_is_refused
test_subscription_token = sdks.test_subscription_token
test_tokens_are_refreshed = sdks.test_tokens_are_refreshed
test_server_subscribes_and_unsubscribes = sdks.test_server_subscribes_and_unsubscribes
test_unsubscribed_by_the_server = sdks.test_unsubscribed_by_the_server
test_disconnected_by_the_server = sdks.test_disconnected_by_the_server
test_disconnect_hook_is_called = sdks.test_disconnect_hook_is_called
test_several_hundred_channels_on_one_connection = sdks.test_several_hundred_channels_on_one_connection
test_cache_recovery = sdks.test_cache_recovery
test_position_that_is_gone_is_a_gap = sdks.test_position_that_is_gone_is_a_gap
test_nothing_is_lost_when_the_link_is_cut = sdks.test_nothing_is_lost_when_the_link_is_cut
test_nothing_is_lost_when_the_server_is_killed = sdks.test_nothing_is_lost_when_the_server_is_killed
test_shutdown_asks_clients_to_come_back = sdks.test_shutdown_asks_clients_to_come_back


@pytest.mark.slow
def test_pings_keep_a_busy_connection(make: Make, tmp_path: Path) -> None:
    """As over WebSocket, but with more time: a pong is a request, which comes after those that are under
    way."""
    with serving(tmp_path, APP_PING_S="2") as server:
        sdk = make()
        delay = {"maxServerPingDelay": 500} if sdk.kind == "js" else {"max_server_ping_delay": 0.5}
        sdk.open(server.url, **delay)
        sdk.subscribe("news:a")
        began = time.monotonic()
        number = 0
        while time.monotonic() - began < 6:
            number += 1
            sdk.do("publish", channel="news:a", data=number)
        sdk.wait("publication", number)
        ends = sdk.do("history", channel="news:ends", options={"limit": 9})["publications"]
        assert (len(sdk.of("connected")), sdk.of("disconnected"), ends) == (1, [], [])


def test_payloads_are_any_bytes_between_protobuf_clients(server: Server, name: str) -> None:
    """What is JSON is that for JSON clients, other bytes are base64 for them; a plain client gets the
    bytes."""
    node_modules()
    channel = f"news:{name}"
    with Sdk("js-protobuf") as js, Sdk("python-protobuf") as python, Sdk("js") as json, Sdk("js-sse") as sse:
        for sdk in (js, python, json, sse):
            sdk.open(server.url)
            sdk.subscribe(channel)
        sent: list[Any] = [{"bytes": [0, 255, 10, 13]}, {"a": "é"}, {"bytes": [34, 255, 34]}]
        for number, data in enumerate(sent):
            (js, python)[number % 2].do("publish", channel=channel, data=data)
        json.do("publish", channel=channel, data=["from", "JSON"])
        for sdk in (js, python, json, sse):
            sdk.wait("publication", 4)
            assert sdk.offsets(channel) == [1, 2, 3, 4]
        for sdk in (js, python):
            assert [one["data"] for one in sdk.of("publication")] == [*sent, ["from", "JSON"]]
        for sdk in (json, sse):
            assert [one["data"] for one in sdk.of("publication")] == [
                "AP8KDQ==",
                {"a": "é"},
                "Iv8i",
                ["from", "JSON"],
            ]
            assert [one["tags"] for one in sdk.of("publication")] == [{"encoding": "base64"}, None] * 2
        assert js.do("rpc", method="echo", data={"bytes": [1, 2]}) is not None
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(
        "GET", f"/channels/{channel}?since=earliest", headers={"Authorization": f"Bearer {token('reader')}"}
    )
    page = connection.getresponse().read()
    connection.close()
    assert page.count(b'"encoding":"base64"') == 2


@pytest.mark.parametrize("kind", ["js-http_stream", "js-sse"], indirect=True)
def test_characters_come_whole(make: Make, server: Server, name: str) -> None:
    """[T] centrifuge-js decodes http_stream chunk by chunk: large payloads of characters of several bytes are
    cut somewhere."""
    sdk = make()
    sdk.open(server.url)
    sdk.subscribe(f"news:{name}")
    data = "aé漢😀" * 4000
    sdk.do("publish", channel=f"news:{name}", data=data)
    assert sdk.wait("publication")["data"] == data


def test_token_is_not_in_the_log(tmp_path: Path) -> None:
    """centrifuge-js puts `connect` into the URL of an event stream; access logs are not to have it."""
    node_modules()
    with serving(tmp_path, HEARTWIRE_ACCESS_LOG="true") as logged, Sdk("js-sse") as sdk:
        secret = token("quiet")
        sdk.open(logged.url, token=secret)
        sdk.do("close")
        until(lambda: "GET /connection/sse?cf_connect=..." in logged.log, "the request is logged")
        assert secret.partition(".")[2] not in logged.log
