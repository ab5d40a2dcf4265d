"""The HTTP API, driven by `cent`, Centrifugo's own Python library, against a real server on each engine."""

import base64
import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import cent
import pytest
from websockets.sync.client import connect

from heartwire.testing.server import run_server

KEY = "an-api-key"
CONFIG = f"""
api_key = "{KEY}"
[namespaces.chat]
history_size = 5
[namespaces.quiet]
presence = false
publish = false
"""


@pytest.fixture(scope="module", params=["memory", "sqlite:///streams.db"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with run_server(engine=request.param, config=CONFIG) as server:
        yield server.url


@pytest.fixture
def chat() -> str:
    """A channel that no other test uses."""
    return f"chat:{uuid4()}"


@pytest.fixture
def api(url: str) -> Iterator[cent.Client]:
    with cent.Client(f"{url}/api", KEY) as client:
        yield client


def post(url: str, path: str, body: bytes = b"{}", headers: dict[str, str] | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request("POST", path, body, {"X-API-Key": KEY} if headers is None else headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def offsets(result: cent.HistoryResult) -> list[int]:
    return [publication.offset for publication in result.publications]


def history(api: cent.Client, channel: str, **options: Any) -> cent.HistoryResult:
    return api.history(cent.HistoryRequest(channel=channel, **options))


def test_publish_is_delivered_and_kept(api: cent.Client, url: str, chat: str) -> None:
    with connect(url.replace("http", "ws", 1) + f"/channels/{chat}?format=json") as socket:
        position = json.loads(socket.recv())["position"]
        published = api.publish(cent.PublishRequest(channel=chat, data={"text": "hi"}))
        assert published.offset == 1
        assert position == f"{published.epoch}.0"
        assert json.loads(socket.recv())["data"] == {"text": "hi"}
    result = history(api, chat, limit=10)
    assert (result.offset, result.epoch) == (1, published.epoch)
    assert [publication.data for publication in result.publications] == [{"text": "hi"}]


@pytest.mark.parametrize("data", ["text", "42", 42, None, [1, {"a": "é\u2028"}], True, 1.5])
def test_every_json_value_comes_back_as_itself(url: str, data: Any, chat: str) -> None:
    body = json.dumps({"channel": chat, "data": data}).encode()
    assert post(url, "/api/publish", body)[0] == 200
    told = post(url, "/api/history", json.dumps({"channel": chat, "limit": 1}).encode())[1]["result"][
        "publications"
    ]
    assert told == [{"offset": 1, "data": data}]


def test_bytes_are_published_from_base64(api: cent.Client, url: str, chat: str) -> None:
    with connect(url.replace("http", "ws", 1) + f"/channels/{chat}") as socket:
        api.publish(
            cent.PublishRequest(channel=chat, data={}, b64data=base64.b64encode(b"\x00\xff").decode())
        )
        assert socket.recv() == b"\x00\xff"


def test_a_key_publishes_once_in_each_channel(api: cent.Client, chat: str) -> None:
    request = cent.PublishRequest(channel=chat, data=1, idempotency_key="k")
    assert api.publish(request) == api.publish(request)
    api.broadcast(cent.BroadcastRequest(channels=[chat, chat + "2"], data=2, idempotency_key="k"))
    assert [history(api, channel).offset for channel in (chat, chat + "2")] == [1, 1]


def test_broadcast_answers_for_each_channel(api: cent.Client, chat: str) -> None:
    result = api.broadcast(
        cent.BroadcastRequest(channels=[chat, "nowhere:1", "a\nb", chat + "2", "quiet:1"], data=1)
    )
    assert [response.error and response.error.code for response in result.responses] == [
        None,
        102,
        107,
        None,
        None,
    ]
    assert [response.result and response.result.offset for response in result.responses] == [
        1,
        None,
        None,
        1,
        1,
    ]


def test_history_pages(api: cent.Client, chat: str) -> None:
    for number in range(1, 8):
        api.publish(cent.PublishRequest(channel=chat, data=number))
    epoch = history(api, chat).epoch
    assert offsets(history(api, chat)) == []
    assert offsets(history(api, chat, limit=2)) == [3, 4]
    assert offsets(history(api, chat, limit=-1)) == [3, 4, 5, 6, 7]
    assert offsets(history(api, chat, limit=2**64)) == [3, 4, 5, 6, 7]
    assert offsets(history(api, chat, limit=2, since=cent.StreamPosition(offset=4, epoch=epoch))) == [5, 6]
    assert offsets(history(api, chat, limit=2, since=cent.StreamPosition(offset=1, epoch=epoch))) == [3, 4]
    assert offsets(history(api, chat, limit=9, since=cent.StreamPosition(offset=7, epoch=epoch))) == []
    assert offsets(history(api, chat, limit=9, since=cent.StreamPosition(offset=99))) == []
    assert offsets(history(api, chat, limit=2, reverse=True)) == [7, 6]
    assert offsets(history(api, chat, limit=-1, reverse=True)) == [7, 6, 5, 4, 3]
    assert offsets(
        history(api, chat, limit=9, reverse=True, since=cent.StreamPosition(offset=5, epoch=epoch))
    ) == [4, 3]
    assert (
        offsets(history(api, chat, limit=9, reverse=True, since=cent.StreamPosition(offset=3, epoch=epoch)))
        == []
    )
    assert history(api, chat, limit=1, reverse=True).offset == 7


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"since": cent.StreamPosition(offset=1, epoch="another")}, 112),
        ({"since": cent.StreamPosition(offset=0), "reverse": True}, 107),
    ],
)
def test_history_that_cannot_be_read(api: cent.Client, options: dict[str, Any], code: int, chat: str) -> None:
    with pytest.raises(cent.CentApiResponseError) as refusal:
        history(api, chat, limit=1, **options)
    assert refusal.value.code == code


def test_history_remove_forgets_and_goes_on(api: cent.Client, url: str, chat: str) -> None:
    for number in range(3):
        last = api.publish(cent.PublishRequest(channel=chat, data=number))
    with connect(
        url.replace("http", "ws", 1) + f"/channels/{chat}?format=json"
    ) as follower:  # so that a tail is in memory
        follower.recv()
        api.publish(cent.PublishRequest(channel=chat, data=3))
        follower.recv()
        api.history_remove(cent.HistoryRemoveRequest(channel=chat))
        assert offsets(history(api, chat, limit=-1)) == []
        with connect(
            url.replace("http", "ws", 1) + f"/channels/{chat}?format=json&since={last.epoch}.3"
        ) as late:
            assert json.loads(late.recv()) == {"position": f"{last.epoch}.4", "recovered": False}
            api.publish(cent.PublishRequest(channel=chat, data=4))
            for socket in (follower, late):
                assert json.loads(socket.recv())["position"] == f"{last.epoch}.5"
    assert offsets(history(api, chat, limit=-1)) == [5]
    api.history_remove(cent.HistoryRemoveRequest(channel=f"{chat}unborn"))
    assert history(api, f"{chat}unborn").offset == 0


def test_presence(api: cent.Client, url: str, chat: str) -> None:
    assert api.presence(cent.PresenceRequest(channel=chat)).presence == {}
    with connect(url.replace("http", "ws", 1) + f"/channels/{chat}?format=json") as socket:
        socket.recv()
        presence = api.presence(cent.PresenceRequest(channel=chat)).presence
        assert [(info.client, info.user) for info in presence.values()] == [
            (client, "") for client in presence
        ]
        stats = api.presence_stats(cent.PresenceStatsRequest(channel=chat))
        assert (stats.num_clients, stats.num_users) == (1, 1)
    with pytest.raises(cent.CentApiResponseError) as refusal:
        api.presence(cent.PresenceRequest(channel="quiet:1"))
    assert refusal.value.code == 108


def test_channels_and_info() -> None:
    with (
        run_server(config=CONFIG) as server,
        cent.Client(f"{server.url}/api", KEY) as api,
        connect(f"{server.ws_url}/channels?channel=chat:1&channel=chat:2&channel=quiet:1&heartbeat=x") as one,
        connect(f"{server.ws_url}/channels/chat:1?format=json") as other,
    ):
        one.send("x")
        for socket in (one, other):
            socket.recv()
        channels = api.channels(cent.ChannelsRequest()).channels
        assert {name: told.num_clients for name, told in channels.items()} == {
            "chat:1": 2,
            "chat:2": 1,
            "quiet:1": 1,
        }
        assert set(api.channels(cent.ChannelsRequest(pattern="chat:*")).channels) == {"chat:1", "chat:2"}
        (node,) = api.info(cent.InfoRequest()).nodes
        assert (node.num_clients, node.num_channels, node.num_subs, node.num_users) == (2, 3, 4, 1)


@pytest.mark.parametrize("parallel", [False, True])
def test_batch(api: cent.Client, parallel: bool, chat: str) -> None:
    requests = [
        cent.PublishRequest(channel=chat, data=1),
        cent.BroadcastRequest(channels=[chat + "2", chat + "3"], data=2),
        cent.HistoryRequest(channel=chat + "4", limit=1),
        cent.PresenceStatsRequest(channel=chat),
    ]
    replies = api.batch(cent.BatchRequest(requests=requests, parallel=parallel)).replies
    assert [type(reply) for reply in replies] == [
        cent.PublishResult,
        cent.BroadcastResult,
        cent.HistoryResult,
        cent.PresenceStatsResult,
    ]
    assert replies[0].offset == 1  # type: ignore[attr-defined]


def test_a_batch_goes_on_after_a_command_that_failed(url: str) -> None:
    commands = [
        {"publish": {}},
        {"none": {}},
        {},
        {"publish": {"channel": "x:1", "data": 1}},
        {"publish": {"channel": "chat:1", "data": 1}},
    ]
    status, answer = post(url, "/api/batch", json.dumps({"commands": commands}).encode())
    assert status == 200
    assert [reply.get("error", {}).get("code", 0) for reply in answer["replies"]] == [107, 107, 107, 102, 0]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"X-API-Key": "wrong"}, 401),
        ({"X-API-Key": "ü"}, 401),
        ({"Authorization": f"Bearer {KEY}"}, 401),
        ({"Authorization": f"apikey {KEY}"}, 200),
        ({"X-API-Key": KEY}, 200),
    ],
)
def test_the_key_is_required(url: str, headers: dict[str, str], status: int) -> None:
    answer = post(url, "/api/info", headers=headers)
    assert answer[0] == status
    if status == 401:
        assert answer[1]["error"]["code"] == "unauthorized"


def test_cent_reports_a_wrong_key(url: str) -> None:
    with cent.Client(f"{url}/api", "wrong") as client, pytest.raises(cent.CentUnauthorizedError):
        client.info(cent.InfoRequest())


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/api/nothing", b"{}", 404, "not_found"),
        ("/api/publish", b"{", 400, "bad_request"),
        ("/api/publish", b'{"data":' + b"[" * 20000, 400, "bad_request"),
        # These ended as a fault of the server, or as text that is none.
        ("/api/publish", b'{"channel":"chat:1\xff","data":1}', 400, "invalid_utf8"),
        ("/api/publish", b'{"channel":"chat:1","data":"\xff"}', 400, "invalid_utf8"),
        ("/api/publish", b"[]", 200, 107),
        ("/api/publish", b"", 200, 107),
        ("/api/publish", b'{"channel":1,"data":1}', 200, 107),
        ("/api/publish", b'{"channel":"chat:1"}', 200, 107),
        ("/api/publish", b'{"channel":"","data":1}', 200, 107),
        ("/api/publish", b'{"channel":"chat:1","b64data":"%"}', 200, 107),
        ("/api/publish", '{"channel":"chat:1","b64data":"\u00e9"}'.encode(), 200, 107),
        ("/api/publish", b'{"channel":"chat:1","data":1,"idempotency_key":"\\n"}', 200, 107),
        ("/api/publish", b'{"channel":"nowhere:1","data":1}', 200, 102),
        ("/api/publish", b'{"channel":"chat:1","data":1,"skip_history":true}', 200, 108),
        ("/api/publish", b'{"channel":"chat:1","data":1,"tags":{"a":"b"}}', 200, 108),
        ("/api/publish", b'{"channel":"chat:1","data":"' + b"x" * (1 << 20) + b'"}', 200, 106),
        (
            "/api/publish",
            b'{"channel":"chat:1","data":"' + b"x" * (1 << 22) + b'"}',
            413,
            "message_too_large",
        ),
        ("/api/history", b'{"channel":"nowhere:1"}', 200, 102),
        ("/api/presence", b'{"channel":"a\\nb"}', 200, 107),
    ],
)
def test_what_is_refused(url: str, path: str, body: bytes, status: int, code: int | str) -> None:
    told, answer = post(url, path, body)
    assert (told, answer["error"]["code"]) == (status, code)
    assert answer["error"]["message"]


def test_without_a_key_there_is_no_api() -> None:
    with run_server() as server:
        for headers in ({}, {"X-API-Key": ""}):
            assert post(server.url, "/api/info", headers=headers)[0] == 404


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (f"/api/info?api_key={KEY}", {}, 200),
        ("/api/info", {"Authorization": f"apikey {KEY}"}, 200),
        ("/api/info?api_key=wrong", {}, 401),
        ("/api/info?api_key=%ED%A0%BD", {}, 401),
        ("/api/info", {}, 401),
    ],
)
def test_the_key_is_taken_where_other_clients_of_the_api_put_it(
    url: str, path: str, headers: dict[str, str], status: int
) -> None:
    assert post(url, path, headers=headers)[0] == status


def test_a_channel_that_the_last_follower_left_is_not_listed(url: str, api: cent.Client, chat: str) -> None:
    """It was listed with no clients for a while."""
    with connect(url.replace("http", "ws", 1) + "/connection/websocket") as socket:
        commands: list[dict[str, Any]] = [{"connect": {}}, {"subscribe": {"channel": chat}}]
        for id, command in enumerate(commands, 1):
            socket.send(json.dumps({"id": id, **command}))
            socket.recv(timeout=10)
        listed = api.channels(cent.ChannelsRequest(pattern=chat)).channels
        assert {name: info.num_clients for name, info in listed.items()} == {chat: 1}
        socket.send(json.dumps({"id": 3, "unsubscribe": {"channel": chat}}))
        socket.recv(timeout=10)
        assert api.channels(cent.ChannelsRequest(pattern=chat)).channels == {}


def versioned(url: str, channel: str, version: int, epoch: str = "", **more: Any) -> int:
    body = {"channel": channel, "data": version, "version": version, "version_epoch": epoch, **more}
    status, answer = post(url, "/api/publish", json.dumps(body).encode())
    assert status == 200
    offset: int = answer["result"]["offset"]
    return offset


def test_an_older_or_equal_version_is_dropped(url: str, api: cent.Client, chat: str) -> None:
    """`version` was ignored: 5, 3, 5 were all delivered."""
    assert [versioned(url, chat, version) for version in (5, 3, 5, 6)] == [1, 1, 1, 2]
    assert [one.data for one in history(api, chat, limit=10).publications] == [5, 6]
    # Another epoch counts anew, and a publish without a version is not compared.
    assert [versioned(url, chat, 1, "b"), versioned(url, chat, 1, "b"), versioned(url, chat, 0)] == [3, 3, 4]
    body = {"channels": [chat], "data": 0, "version": 1, "version_epoch": "b"}
    (_, answer) = post(url, "/api/broadcast", json.dumps(body).encode())
    assert answer["result"]["responses"][0]["result"]["offset"] == 4
    for bad in (-1, 1.5, "1"):
        status, answer = post(
            url, "/api/publish", json.dumps({"channel": chat, "data": 1, "version": bad}).encode()
        )
        assert (status, answer["error"]["code"]) == (200, 107)


def test_a_version_that_was_not_stored_is_not_remembered(url: str, chat: str) -> None:
    """Its repetition would be taken for an old one, and be lost."""
    body = {"channel": chat, "data": "x", "version": 5, "idempotency_key": "no key"}
    assert post(url, "/api/publish", json.dumps(body).encode())[1]["error"]["code"] == 107
    assert versioned(url, chat, 5) == 1
