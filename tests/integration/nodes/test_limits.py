"""A user has so many connections, on whichever nodes and over whichever transports they are."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from websockets.exceptions import ConnectionClosed

from heartwire.hub.tokens import make_token
from heartwire.testing.server import ServerProcess, run_server
from tests.integration.api.test_connections import SECRET, person
from tests.integration.nodes.deployment import deployment
from tests.integration.wire import Stream, get, until, ws

CONFIG = f"""
max_connections_per_user = 2
token_hmac_secret_key = "{SECRET}"
[namespaces.chat]
allow_subscribe_for_client = true
allow_publish_for_client = true
"""

MESSAGE = "connections of this user: 3 is over the limit of 2 (max_connections_per_user)"


@pytest.fixture(scope="module", params=["one", "two"])
def servers(request: pytest.FixtureRequest) -> Iterator[list[ServerProcess]]:
    """Two nodes; or one, twice."""
    with ExitStack() as stack:
        if request.param == "one":
            yield [stack.enter_context(run_server(config=CONFIG))] * 2
        else:
            yield stack.enter_context(deployment(2, config=CONFIG))


@pytest.fixture
def query(request: pytest.FixtureRequest) -> str:
    """Who asks, and for what."""
    return f"/channels/chat:1?token={make_token({'sub': request.node.name}, SECRET)}"


def test_a_third_connection_is_ended_until_one_has_left(
    servers: list[ServerProcess], query: str, request: pytest.FixtureRequest
) -> None:
    here, there = (server.url for server in servers)
    user = request.node.name
    with ws(here, query), person(there, user) as second:
        with ws(there, query) as third, pytest.raises(ConnectionClosed) as closed:
            third.recv(timeout=10)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (3504, MESSAGE)
        with person(here, user) as third_person:
            assert third_person.end() == (3504, MESSAGE)
        refused = get(there, f"{query}&wait=20")
        assert refused.error == (403, "connection_limit", MESSAGE, False)
        with Stream(here, query, {"Accept": "text/event-stream"}) as stream:
            assert all(event.data is None for event in stream)
            assert stream.retry_ms == 3_600_000
        assert second.ask("subscribe", channel="chat:1")["subscribe"]["epoch"]
    until(lambda: _is_open(there, query))


def _is_open(url: str, query: str) -> bool:
    """Whether a new connection stays; the end of the others takes a moment."""
    with ws(url, query) as socket:
        socket.send("hello")
        try:
            return socket.recv(timeout=10) == "hello"
        except ConnectionClosed:
            return False
