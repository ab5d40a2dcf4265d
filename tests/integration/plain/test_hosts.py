"""Pages of foreign names: DNS rebinding against `heartwire serve` on this machine, and origins that are no
URLs, by every door."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from heartwire import Hub
from heartwire.testing.server import ServerProcess, run_server
from tests.integration.wire import Answer, Raw, handshake
from tests.unit.transports.tools import SERVERS, Wire, soon
from tests.unit.transports.tools import handshake as shake

HUB = """
from heartwire import Hub
hub = Hub()
@hub.authenticate
def who(request):
    return "ann"
"""

REQUESTS = {
    "poll": "GET /channels/a HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "poll, ordinary way": "GET /channels/a?x=1 HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "post": "POST /channels/a HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2\r\n\r\nhi",
    "post of a page": "POST /channels/a HTTP/1.1\r\nHost: HOST\r\nOrigin: http://HOST\r\nContent-Length: 2\r\n\r\nhi",
    "stream": "GET /channels/a HTTP/1.1\r\nHost: HOST\r\nAccept: text/event-stream\r\n\r\n",
    "presence": "GET /channels/a/presence HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "demo page": "GET / HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "api": "POST /api/info HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2\r\n\r\n{}",
    "Centrifugal stream": "POST /connection/sse HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n\r\n",
    "WebSocket": handshake("http://HOST", "/channels/a", Origin="http://HOST"),
    "Centrifugal WebSocket": handshake("http://HOST", "/connection/websocket", Origin="http://HOST"),
}


def asked(server: ServerProcess, request: str, host: str) -> Answer:
    with Raw(server.url) as raw:
        raw.send(request.replace("HOST", host))
        return raw.answer()


@pytest.fixture(scope="module")
def named() -> Iterator[ServerProcess]:
    """A server that has two names more."""
    config = 'allowed_origins = ["https://page.example"]'
    with run_server("--allowed-host", "app.example", config=config) as server:
        yield server


@pytest.mark.parametrize("kind", REQUESTS)
def test_an_open_server_on_this_machine_does_not_answer_to_foreign_names(
    kind: str, server: ServerProcess
) -> None:
    """A page that binds its name to 127.0.0.1 read and published: to its browser it was of our origin."""
    host = f"evil.example:{server.port}"
    answer = asked(server, REQUESTS[kind], host)
    fix = f"host {host!r} is not this server's: add it to allowed_hosts"
    assert answer.error == (421, "host_refused", fix, False)


@pytest.mark.parametrize("kind", ["poll", "post of a page", "demo page", "WebSocket"])
@pytest.mark.parametrize("host", ["127.0.0.1:PORT", "localhost:PORT", "[::1]", "chat.localhost"])
def test_it_answers_to_names_of_this_machine(kind: str, host: str, server: ServerProcess) -> None:
    assert asked(server, REQUESTS[kind], host.replace("PORT", str(server.port))).status in (101, 200)


@pytest.mark.parametrize("kind", ["poll", "post of a page", "WebSocket"])
def test_it_answers_to_the_names_it_is_given(kind: str, named: ServerProcess) -> None:
    for host in ("app.example", "APP.example:443", "page.example"):
        assert asked(named, REQUESTS[kind], host).status in (101, 200)
    assert asked(named, REQUESTS[kind], "evil.example").status == 421


def test_a_server_that_asks_who_it_is_answers_to_any_name(tmp_path: Path) -> None:
    """A foreign page has no credentials of ours, and a proxy's names are not ours to know."""
    (tmp_path / "rebound.py").write_text(HUB)
    with run_server("rebound:hub", engine=None, folder=tmp_path) as server:
        assert asked(server, REQUESTS["poll"], "app.example").status == 200


def test_a_proxy_check_without_a_name_is_answered(server: ServerProcess) -> None:
    with Raw(server.url) as raw:
        raw.send("GET /health HTTP/1.0\r\n\r\n")
        assert raw.answer().status == 200


@pytest.mark.parametrize("door", SERVERS)
async def test_a_hub_that_lists_its_names_holds_to_them_at_every_door(door: str) -> None:
    hub = Hub(allowed_hosts=["app.example"])
    async with SERVERS[door](hub) as served:
        for host, status in (("app.example", 101), ("127.0.0.1", 101), ("evil.example", 421)):
            wire = await Wire.open(served)
            await wire.send(shake("/channels/a", host=host))
            assert (await soon(wire.answer())).status == status


@pytest.mark.parametrize("door", SERVERS)
@pytest.mark.parametrize("path", ["/channels/a", "/connection/websocket"])
async def test_an_origin_that_is_no_url_is_refused_and_not_a_fault(
    path: str, door: str, caplog: pytest.LogCaptureFixture
) -> None:
    """`Origin: http://[` was answered with 500 and a traceback, and a native WebSocket died of it."""
    async with SERVERS[door](Hub()) as served:
        wire = await Wire.open(served)
        await wire.send(shake(path, "Origin: http://["))
        assert (await soon(wire.answer())).status == 403
        wire = await Wire.open(served)
        await wire.send(b"GET /channels/a HTTP/1.1\r\nHost: a\r\nOrigin: http://[\r\n\r\n")
        assert (await soon(wire.answer())).status == 403
    assert not [record for record in caplog.records if record.exc_info]
