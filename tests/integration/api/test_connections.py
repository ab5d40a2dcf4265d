"""The HTTP API about who is connected, driven by `cent`, seen by clients of the Centrifugal protocol in its
bare JSON."""

import json
import queue
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cent
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

import heartwire
from heartwire.hub.tokens import make_token
from heartwire.testing.server import run_server

KEY = "an-api-key"
SECRET = "a secret that is long enough for HS256"
CONFIG = f"""
api_key = "{KEY}"
token_hmac_secret_key = "{SECRET}"
[namespaces.feed]
[namespaces.chat]
allow_subscribe_for_client = true
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with run_server(config=CONFIG) as server:
        yield server.url


@pytest.fixture
def api(url: str) -> Iterator[cent.Client]:
    with cent.Client(f"{url}/api", KEY) as client:
        yield client


class Person:
    """A client of the Centrifugal protocol."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._lines: list[str] = []
        self._id = 0
        self.client = ""

    def ask(self, method: str, **request: Any) -> Any:
        self._id += 1
        self._socket.send(json.dumps({"id": self._id, method: request}))
        return self.hear()

    def hear(self) -> Any:
        if not self._lines:
            frame = self._socket.recv(timeout=10)
            assert isinstance(frame, str)
            self._lines = frame.strip().split("\n")
        return json.loads(self._lines.pop(0))

    def end(self) -> tuple[int, str]:
        """What the connection was ended with; nothing else is said before."""
        with pytest.raises(ConnectionClosed) as closed:
            self.hear()
        assert closed.value.rcvd is not None
        return closed.value.rcvd.code, closed.value.rcvd.reason


@contextmanager
def person(url: str, user: str, **claims: Any) -> Iterator[Person]:
    with connect(url.replace("http", "ws", 1) + "/connection/websocket") as socket:
        one = Person(socket)
        one.client = one.ask("connect", token=make_token({"sub": user, **claims}, SECRET))["connect"][
            "client"
        ]
        yield one


def test_subscribe_makes_server_side_subscriptions(api: cent.Client, url: str) -> None:
    api.publish(cent.PublishRequest(channel="feed:1", data=1))
    with person(url, "ann") as ann, person(url, "ann") as other:
        api.subscribe(
            cent.SubscribeRequest(user="ann", channel="feed:1", data={"why": "new"}, info={"is": "reader"})
        )
        for one in (ann, other):
            push = one.hear()["push"]
            assert push["channel"] == "feed:1"
            assert push["subscribe"]["data"] == {"why": "new"}
            assert push["subscribe"]["offset"] == 1
        api.publish(cent.PublishRequest(channel="feed:1", data="hi"))
        for one in (ann, other):
            assert one.hear()["push"]["pub"]["data"] == "hi"
        presence = api.presence(cent.PresenceRequest(channel="feed:1")).presence
        assert {(info.user, json.dumps(info.chan_info)) for info in presence.values()} == {
            ("ann", '{"is": "reader"}')
        }
        assert set(presence) == {ann.client, other.client}


def test_subscribe_can_recover_from_a_position(api: cent.Client, url: str) -> None:
    first = api.publish(cent.PublishRequest(channel="feed:2", data=1))
    api.publish(cent.PublishRequest(channel="feed:2", data=2))
    with person(url, "bob") as bob:
        since = cent.StreamPosition(offset=1, epoch=first.epoch)
        api.subscribe(cent.SubscribeRequest(user="bob", channel="feed:2", recover_since=since))
        assert "subscribe" in bob.hear()["push"]
        assert bob.hear()["push"]["pub"]["data"] == 2


def test_a_command_can_be_for_one_connection_of_a_user(api: cent.Client, url: str) -> None:
    with person(url, "cid") as one, person(url, "cid") as other:
        api.subscribe(cent.SubscribeRequest(user="cid", channel="feed:3", client=one.client))
        assert one.hear()["push"]["channel"] == "feed:3"
        assert api.presence_stats(cent.PresenceStatsRequest(channel="feed:3")).num_clients == 1
        api.disconnect(cent.DisconnectRequest(user="cid", client=other.client))
        assert other.end() == (3503, "force disconnect")
        api.disconnect(cent.DisconnectRequest(user="dan", client=one.client))
        api.publish(cent.PublishRequest(channel="feed:3", data=1))
        assert one.hear()["push"]["pub"]["data"] == 1


def test_unsubscribe_ends_a_subscription_for_good(api: cent.Client, url: str) -> None:
    with person(url, "eve") as eve:
        assert "subscribe" in eve.ask("subscribe", channel="chat:1")
        api.unsubscribe(cent.UnsubscribeRequest(user="eve", channel="chat:1"))
        push = eve.hear()["push"]
        assert push == {"channel": "chat:1", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}
        assert api.presence(cent.PresenceRequest(channel="chat:1")).presence == {}


def test_disconnect_with_a_reason_but_for_some(api: cent.Client, url: str) -> None:
    with person(url, "fay") as one, person(url, "fay") as other:
        why = cent.Disconnect(code=4501, reason="paid no rent")
        api.disconnect(cent.DisconnectRequest(user="fay", disconnect=why, whitelist=[one.client]))
        assert other.end() == (4501, "paid no rent")
        assert "subscribe" in one.ask("subscribe", channel="chat:2")


def test_disconnect_reaches_the_plain_dialect_too(api: cent.Client, url: str) -> None:
    address = (
        url.replace("http", "ws", 1)
        + "/channels/chat:3?format=json&token="
        + make_token({"sub": "gus"}, SECRET)
    )
    with connect(address) as socket:
        socket.recv()
        api.disconnect(cent.DisconnectRequest(user="gus"))
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 3503


def test_refresh_changes_when_connections_expire(api: cent.Client, url: str) -> None:
    with person(url, "hal", exp=time.time() + 3600) as hal:
        api.refresh(cent.RefreshRequest(user="hal", expire_at=int(time.time()) + 7200))
        refreshed = hal.hear()["push"]["refresh"]
        assert refreshed["expires"] is True
        assert refreshed["ttl"] == pytest.approx(7200, abs=5)
        api.refresh(cent.RefreshRequest(user="hal"))
        assert hal.hear()["push"]["refresh"] == {}
        api.refresh(cent.RefreshRequest(user="hal", expired=True))
        assert hal.end() == (3005, "connection expired")
    with person(url, "hal") as hal:
        api.refresh(cent.RefreshRequest(user="hal", expire_at=1))
        assert hal.end()[0] == 3005


@pytest.mark.slow
def test_our_client_has_another_token_before_the_time_that_was_set(api: cent.Client, url: str) -> None:
    asked: queue.Queue[float] = queue.Queue()
    closed: list[Any] = []

    def get_token() -> str:
        asked.put(time.time())
        return make_token({"sub": "ivy", "exp": time.time() + 3600}, SECRET)

    with heartwire.connect_sync(url, get_token=get_token) as client:
        client.on("close", closed.append)
        client.wait_online()
        asked.get(timeout=10)
        api.refresh(cent.RefreshRequest(user="ivy", expire_at=int(time.time()) + 2))
        asked.get(timeout=10)
        assert (client.state, closed) == ("online", [])


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (cent.SubscribeRequest(user="x", channel="nowhere:1"), 102),
        (cent.SubscribeRequest(user="x", channel="feed:1", b64data="%"), 107),
        (cent.SubscribeRequest(user="x", channel="feed:1", b64info="\u00e9"), 107),
        (cent.SubscribeRequest(user="x", channel="feed:1", b64data=b64encode(b"[" * 5000).decode()), 107),
        (cent.DisconnectRequest(user="x", disconnect=cent.Disconnect(code=1000, reason="no")), 107),
        (cent.DisconnectRequest(user="x", disconnect=cent.Disconnect(code=4000, reason="x" * 124)), 107),
    ],
)
def test_what_is_refused(api: cent.Client, request_: Any, code: int) -> None:
    with pytest.raises(cent.CentApiResponseError) as refusal:
        getattr(api, request_.api_method)(request_)
    assert refusal.value.code == code


def test_commands_for_unknown_users_are_not_an_error(api: cent.Client) -> None:
    api.subscribe(cent.SubscribeRequest(user="nobody", channel="feed:1"))
    api.unsubscribe(cent.UnsubscribeRequest(user="nobody", channel="feed:1"))
    api.disconnect(cent.DisconnectRequest(user="nobody"))
    api.refresh(cent.RefreshRequest(user="nobody"))
