"""The WebSocket handshake of RFC 6455 4.2, byte by byte, and what a browser may and may not do."""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from heartwire.testing.server import ServerProcess, run_server
from tests.integration.wire import KEY, Answer, Raw, frame, handshake, publish, ws


def shake(
    url: str, path: str = "/channels/a", *, key: str | None = KEY, version: str | None = "13", **headers: str
) -> Answer:
    with Raw(url) as raw:
        raw.send(handshake(url, path, key=key, version=version, **headers))
        return raw.answer()


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose namespace `chat` speaks two subprotocols, and which another origin may use."""
    folder = tmp_path_factory.mktemp("chosen")
    Path(folder, "heartwire.toml").write_text(
        'allowed_origins = ["https://app.example"]\nallow_unknown_namespaces = true\n'
        '[namespaces.chat]\nsubprotocols = ["v2", "v1"]\n'
    )
    with run_server("--config", "heartwire.toml", folder=folder) as server:
        yield server


def test_the_example_handshake(server: ServerProcess) -> None:
    answer = shake(server.url, "/channels/chat", Sec_WebSocket_Protocol="chat, superchat")
    assert answer.status == 101
    assert answer.headers["sec-websocket-accept"] == "HSmrc0sMlYUkAGmm5OPpG2HaGWk="
    assert answer.headers["sec-websocket-protocol"] == "chat"
    assert answer.headers["upgrade"].lower() == "websocket"
    assert answer.headers["connection"].lower() == "upgrade"
    assert "sec-websocket-extensions" not in answer.headers


def test_accept_is_computed_from_the_key(server: ServerProcess) -> None:
    for number in range(3):
        key = base64.b64encode(bytes([number]) * 16).decode()
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        assert shake(server.url, key=key).headers["sec-websocket-accept"] == base64.b64encode(digest).decode()


@pytest.mark.parametrize("version", ["8", "0", "12", "14", "abc", "", None])
def test_another_version_is_answered_with_ours(server: ServerProcess, version: str | None) -> None:
    answer = shake(server.url, version=version)
    shown = version or "is missing"
    message = f"Sec-WebSocket-Version {shown}: this server speaks 13"
    assert answer.error == (426, "upgrade_required", message, False)
    assert answer.headers["sec-websocket-version"] == "13"
    assert answer.headers["upgrade"].lower() == "websocket"
    assert answer.headers["connection"].lower() == "close"


@pytest.mark.parametrize(
    "key",
    [None, "", "short==", "x3JJHMbDL1EzLkh9GBhXDw=", "x3JJHMbDL1EzLkh9GBhXDw==x", "!3JJHMbDL1EzLkh9GBhXDw=="],
)
def test_bad_key(server: ServerProcess, key: str | None) -> None:
    answer = shake(server.url, key=key)
    assert answer.error == (
        400,
        "bad_request",
        "Sec-WebSocket-Key is missing or not 16 bytes in base64",
        False,
    )
    assert answer.headers["connection"].lower() == "close"


@pytest.mark.parametrize("path", ["/channels/a", "/channels?channel=a", "/"])
def test_another_origin_is_refused_in_the_handshake(server: ServerProcess, path: str) -> None:
    answer = shake(server.url, path, Origin="https://evil.example")
    message = "origin 'https://evil.example' is not this server's: add it to allowed_origins"
    assert answer.error == (403, "origin_refused", message, False)
    assert answer.headers["connection"].lower() == "close"


def test_a_refused_origin_is_not_a_fault_of_the_server(chosen: ServerProcess) -> None:
    for path in ("/channels/a", "/"):
        assert shake(chosen.url, path, Origin="https://evil.example").status == 403
    assert shake(chosen.url, version="8").status == 426
    assert shake(chosen.url, key="x").status == 400
    assert shake(chosen.url).status == 101
    assert "without completing handshake" not in chosen.log
    assert "Traceback" not in chosen.log


def test_own_origin_and_no_origin_and_a_listed_one(server: ServerProcess, chosen: ServerProcess) -> None:
    assert shake(server.url).status == 101
    assert shake(server.url, Origin=server.url).status == 101
    assert shake(chosen.url, Origin="https://app.example").status == 101
    assert shake(chosen.url, Origin="https://app.example.evil").status == 403
    assert shake(chosen.url, Origin="http://app.example").status == 403


def test_host_without_port_matches_the_default_port(chosen: ServerProcess) -> None:
    request = handshake(chosen.url, "/channels/a", Origin="http://app.example:80")
    host = f"Host: {chosen.url.removeprefix('http://')}"
    with Raw(chosen.url) as raw:
        raw.send(request.replace(host, "Host: APP.example"))
        assert raw.answer().status == 101


def test_offered_subprotocol_that_the_namespace_lists(chosen: ServerProcess) -> None:
    def chosen_of(offered: str, channel: str = "chat:1") -> str | None:
        answer = shake(chosen.url, f"/channels/{channel}", Sec_WebSocket_Protocol=offered)
        assert answer.status == 101
        return answer.headers.get("sec-websocket-protocol")

    assert chosen_of("v1, v2") == "v1"
    assert chosen_of("v3,v2,v1") == "v2"
    assert chosen_of("v3") is None
    assert chosen_of("v3", "other") == "v3"


def test_subprotocols_in_several_headers(server: ServerProcess) -> None:
    request = handshake(server.url, "/channels/a", Sec_WebSocket_Protocol="one").removesuffix("\r\n")
    with Raw(server.url) as raw:
        raw.send(request + "Sec-WebSocket-Protocol: two\r\n\r\n")
        assert raw.answer().headers["sec-websocket-protocol"] == "one"


@pytest.mark.parametrize("offered", ["", " ", ","])
def test_empty_list_of_subprotocols_is_none(server: ServerProcess, offered: str) -> None:
    answer = shake(server.url, Sec_WebSocket_Protocol=offered)
    assert answer.status == 101
    assert "sec-websocket-protocol" not in answer.headers


def test_header_names_and_tokens_in_any_case(server: ServerProcess) -> None:
    request = handshake(server.url, "/channels/a").replace("Upgrade: websocket", "UPGRADE: WebSocket")
    request = request.replace("Connection: Upgrade", "connection: keep-alive, uPgRaDe").replace(
        "Sec-WebSocket-Key", "sec-websocket-KEY"
    )
    with Raw(server.url) as raw:
        raw.send(request)
        assert raw.answer().headers["sec-websocket-accept"] == "HSmrc0sMlYUkAGmm5OPpG2HaGWk="


def test_a_handshake_in_single_bytes(server: ServerProcess, channel: str) -> None:
    with Raw(server.url) as raw:
        for byte in handshake(server.url, f"/channels/{channel}").encode():
            raw.send(bytes([byte]))
        assert raw.answer().status == 101
        raw.send(frame(1, b"hi"))
        assert raw.frame() == (1, b"hi")


def test_upgrade_without_connection_upgrade_is_an_ordinary_request(
    server: ServerProcess, channel: str
) -> None:
    """RFC 9110 7.8: `Upgrade` counts only with `Connection: Upgrade`; it must not be taken for a WebSocket,
    nor hang."""
    request = handshake(server.url, f"/channels/{channel}").replace("Connection: Upgrade\r\n", "")
    with Raw(server.url) as raw:
        raw.send(request)
        assert raw.answer().status in (200, 400, 426)


def test_a_script_that_only_knows_the_address_stays_connected(server: ServerProcess) -> None:
    """It connects to `ws://127.0.0.1:PORT`, sends a text, and closes unless something comes back."""
    with ws(server.url, "") as socket:
        for number in range(5):
            socket.send(f"are you there? {number}")
            assert socket.recv(3) == f"are you there? {number}"
    with ws(server.url, "/") as socket, ws(server.url, "/channels/lobby") as lobby:
        socket.send("hi")
        assert lobby.recv() == "hi"
        publish(server.url, "lobby", "all")
        assert [socket.recv(), socket.recv()] == ["hi", "all"]


@pytest.mark.parametrize("more", [{}, {"x_several": "1\r\nX-Several: 2"}], ids=["front", "uvicorn"])
def test_frames_in_the_packet_of_the_handshake_are_served(
    server: ServerProcess, more: dict[str, str]
) -> None:
    """They were dropped in silence; clients exist that send them."""
    with Raw(server.url) as raw:
        raw.send(handshake(server.url, "/channels/early?heartbeat=beat", **more).encode() + frame(1, b"beat"))
        assert raw.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        assert raw.frame() == (1, b"beat")
