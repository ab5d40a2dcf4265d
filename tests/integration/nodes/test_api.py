"""A call of the HTTP API concerns all nodes, whichever one it is sent to."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import cent
import pytest

from heartwire.testing.server import ServerProcess
from tests.integration.api.test_connections import CONFIG, KEY, Person, person
from tests.integration.nodes.deployment import deployment
from tests.integration.wire import request

Servers = list[ServerProcess]


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with deployment(3, config=CONFIG) as servers:
        yield servers


@pytest.fixture
def api(servers: Servers) -> Iterator[cent.Client]:
    """Of the first of them."""
    with cent.Client(f"{servers[0].url}/api", KEY) as client:
        yield client


@pytest.fixture
def ann(servers: Servers, request: pytest.FixtureRequest) -> Iterator[list[Person]]:
    """One user, connected to each of them."""
    with ExitStack() as stack:
        yield [stack.enter_context(person(server.url, request.node.name)) for server in servers]


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


def test_disconnect(api: cent.Client, ann: list[Person], user: str) -> None:
    api.disconnect(cent.DisconnectRequest(user=user))
    assert [one.end() for one in ann] == [(3503, "force disconnect")] * 3


def test_disconnect_of_one_connection(api: cent.Client, ann: list[Person], user: str) -> None:
    api.disconnect(cent.DisconnectRequest(user=user, client=ann[1].client))
    assert ann[1].end() == (3503, "force disconnect")
    api.subscribe(cent.SubscribeRequest(user=user, channel="feed:rest"))
    for one in (ann[0], ann[2]):
        assert one.hear()["push"]["channel"] == "feed:rest"


def test_subscribe_and_unsubscribe(api: cent.Client, ann: list[Person], user: str) -> None:
    api.subscribe(cent.SubscribeRequest(user=user, channel="feed:1", data={"why": "new"}))
    for one in ann:
        assert one.hear()["push"]["subscribe"]["data"] == {"why": "new"}
    presence = api.presence(cent.PresenceRequest(channel="feed:1")).presence
    assert set(presence) == {one.client for one in ann}
    api.publish(cent.PublishRequest(channel="feed:1", data="hi"))
    for one in ann:
        assert one.hear()["push"]["pub"]["data"] == "hi"
    api.unsubscribe(cent.UnsubscribeRequest(user=user, channel="feed:1"))
    for one in ann:
        assert one.hear()["push"]["unsubscribe"]["code"] == 2000
    assert api.presence_stats(cent.PresenceStatsRequest(channel="feed:1")).num_clients == 0


def test_refresh(api: cent.Client, ann: list[Person], user: str) -> None:
    api.refresh(cent.RefreshRequest(user=user, expired=True))
    assert [one.end()[0] for one in ann] == [3005] * 3


def test_a_bad_request_is_refused_by_the_node_it_is_sent_to(
    api: cent.Client, ann: list[Person], user: str
) -> None:
    with pytest.raises(cent.CentApiResponseError, match="3000 to 4999"):
        api.disconnect(cent.DisconnectRequest(user=user, disconnect=cent.Disconnect(code=1, reason="")))
    api.disconnect(cent.DisconnectRequest(user=user))
    assert [one.end() for one in ann] == [(3503, "force disconnect")] * 3


def test_channels_and_info_are_of_all_nodes(api: cent.Client, ann: list[Person], user: str) -> None:
    api.subscribe(cent.SubscribeRequest(user=user, channel="feed:seen"))
    assert api.channels(cent.ChannelsRequest(pattern="feed:seen")).channels["feed:seen"].num_clients == 3
    nodes = api.info(cent.InfoRequest()).nodes
    assert len({node.uid for node in nodes}) == 3
    assert all(node.num_clients >= 1 for node in nodes)


def test_history_and_its_removal_hold_on_all_nodes(api: cent.Client, servers: Servers) -> None:
    api.publish(cent.PublishRequest(channel="feed:old", data=1))
    with cent.Client(f"{servers[1].url}/api", KEY) as other:
        assert len(other.history(cent.HistoryRequest(channel="feed:old", limit=9)).publications) == 1
        other.history_remove(cent.HistoryRemoveRequest(channel="feed:old"))
    assert api.history(cent.HistoryRequest(channel="feed:old", limit=9)).publications == []


@pytest.mark.slow
def test_what_a_node_does_not_confirm_is_an_error_and_a_view_without_it_says_so() -> None:
    def call(server: ServerProcess, method: str, **body: Any) -> Any:
        answer = request(server.url, "POST", f"/api/{method}", json.dumps(body), {"X-API-Key": KEY})
        return answer.json

    with deployment(2, config=CONFIG) as (one, killed):
        assert call(one, "disconnect", user="nobody") == {"result": {}}
        killed.kill()
        answer = call(one, "disconnect", user="nobody")
        assert answer["error"] == {"code": 100, "message": "1 of 2 nodes confirmed; try again"}
        info = call(one, "info")["result"]
        assert len(info["nodes"]) == 1
        assert "did not answer" in info["warnings"][0]
        _until(lambda: call(one, "disconnect", user="nobody") == {"result": {}})


def _until(is_so: Callable[[], bool]) -> None:
    """A node that was killed is given up 5 s later; each of these calls takes one."""
    for _ in range(20):
        if is_so():
            return
    pytest.fail("it has not come about")
