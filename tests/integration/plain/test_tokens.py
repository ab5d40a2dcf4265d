"""The plain dialect with token keys: who comes in, what they may do, and what the access log says of it."""

import http.client
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from heartwire import ConfigError, Hub
from heartwire.hub.tokens import make_token
from heartwire.server.config import Settings
from heartwire.server.run import serve
from heartwire.testing.server import run_server

SECRET = "a secret that is long enough for HS256"
CONFIG = f"""
token_hmac_secret_key = "{SECRET}"
[namespaces.chat]
allow_subscribe_for_client = true
allow_publish_for_subscriber = true
allow_presence_for_client = true
[namespaces.open]
allow_subscribe_for_client = true
allow_subscribe_for_anonymous = true
"""
ANN = make_token({"sub": "ann", "info": {"age": 7}}, SECRET)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with run_server(config=CONFIG) as server:
        yield server.url


def get(
    url: str, path: str, *, method: str = "GET", body: bytes | None = None, **headers: Any
) -> tuple[int, Any, str | None]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read()), response.getheader("www-authenticate")
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/channels/chat:1", {"Authorization": f"Bearer {ANN}"}),
        ("/channels/chat:1", {"Authorization": f"bearer {ANN}"}),
        (f"/channels/chat:1?token={ANN}", {}),
        (f"/channels/chat:1?access_token={ANN}", {}),
        ("/channels/%23ann", {"Authorization": f"Bearer {ANN}"}),
    ],
)
def test_a_token_lets_in(url: str, path: str, headers: dict[str, Any]) -> None:
    assert get(url, path, **headers)[0] == 200


@pytest.mark.parametrize(
    ("token", "told"),
    [
        ("", "no token"),
        ("x", "not a JSON Web Token"),
        (make_token({"sub": "ann"}, "another secret, and long enough too"), "no key of ours"),
        (make_token({"exp": time.time() - 1}, SECRET), "expired at"),
        (make_token({"sub": "ann", "channel": "chat:1"}, SECRET), "subscription token"),
    ],
)
def test_clients_without_a_good_token_are_refused(url: str, token: str, told: str) -> None:
    status, answer, challenge = get(url, f"/channels/chat:1?token={token}")
    assert (status, answer["error"]["code"], challenge) == (401, "unauthorized", "Bearer")
    assert told in answer["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/channels/chat:1/presence", 200),
        ("POST", "/channels/chat:1", 403),  # only subscribers may, and a POST follows nothing
        ("GET", "/channels/open:1", 200),
        ("GET", "/channels/open:1/presence", 403),
        ("GET", "/channels/nowhere:1", 404),
        ("GET", "/channels/%23bob", 403),
        ("GET", "/channels/%24chat:1", 403),
        ("GET", "/channels/unnamed", 403),
    ],
)
def test_options_decide_what_they_may_do(url: str, method: str, path: str, status: int) -> None:
    assert (
        get(url, path, method=method, body=b"x" if method == "POST" else None, Authorization=f"Bearer {ANN}")[
            0
        ]
        == status
    )


def test_a_websocket_is_let_in_by_its_query_and_publishes_as_its_user(url: str) -> None:
    address = url.replace("http", "ws", 1) + "/channels/chat:2?format=json"
    with connect(f"{address}&token={ANN}") as socket:
        socket.recv()
        socket.send("hi")
        heard = json.loads(socket.recv())
        assert heard["data"] == "hi"
        assert heard["publisher"]["user"] == "ann"
        assert heard["publisher"]["info"] == {"age": 7}
    with connect(address) as socket, pytest.raises(ConnectionClosed) as closed:
        socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 3500


@pytest.mark.parametrize(
    ("setting", "statuses"),
    [
        ("allow_anonymous", {"chat:1": 403, "open:1": 200, "$chat:1": 403}),
        ("insecure", {"chat:1": 200, "open:1": 200, "$chat:1": 200}),
    ],
)
def test_clients_without_a_token_can_be_admitted(setting: str, statuses: dict[str, int]) -> None:
    with run_server(config=f"{setting} = true\n{CONFIG}") as server:
        assert {
            name: get(server.url, f"/channels/{name.replace('$', '%24')}")[0] for name in statuses
        } == statuses
        assert get(server.url, "/channels/chat:1?token=x")[0] == 401


def test_the_access_log_has_no_tokens() -> None:
    with run_server("--access-log", config=CONFIG) as server:
        for name in ("token", "access_token"):
            get(server.url, f"/channels/chat:1?since=earliest&{name}={ANN}&wait=0")
        server.stop()
    assert server.log.count("token=...&wait=0") == 2
    assert ANN not in server.log


@pytest.mark.parametrize("options", [{}, {"token_hmac_secret_key": SECRET, "insecure": True}])
def test_a_public_address_needs_authentication(options: dict[str, Any]) -> None:
    settings = Settings(host="203.0.113.1", port=1, **options)
    with pytest.raises(ConfigError, match="nobody is asked who they are"):
        serve(settings, Hub(**options), started=lambda url: None)


def test_a_public_address_with_token_keys_is_fine() -> None:
    settings = Settings(host="203.0.113.1", port=1, token_hmac_secret_key=SECRET)
    with pytest.raises(ConfigError, match="cannot listen"):  # as this machine does not have that address
        serve(settings, Hub(token_hmac_secret_key=SECRET), started=lambda url: None)
