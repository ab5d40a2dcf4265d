"""Everything that is refused, over every transport it can come in by, with the exact answer.

HTTP answers a status and a JSON error. A WebSocket is closed after the handshake, so that a browser can read
why; the reason of a close is the same message, cut to the 123 bytes that a close frame has.
"""

import contextlib
import http.client
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from heartwire.testing.server import ServerProcess, run_server
from tests.integration.wire import Answer, Raw, Stream, ask, get, handshake, post, publish, request, until, ws

CONFIG = """
max_message_bytes = 1000
max_channels_per_request = 3
[namespaces.news]
publish = false
[namespaces.quiet]
presence = false
[namespaces.hidden]
"""

HUB = """
from heartwire import Forbidden, Hub, Unauthorized

hub = Hub()

@hub.authenticate
def who(request):
    token = request.headers.get("authorization") or request.query_params.get("token")
    if token is None:
        return None
    if token != "good":
        raise Unauthorized("token is not known")
    return "ann"

@hub.namespace("room")
def may(identity, action, channel):
    if channel == "room:secret":
        raise Forbidden("this room is secret")
    return identity.user == "ann" or action == "subscribe"
"""


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with small limits and namespaces."""
    folder = tmp_path_factory.mktemp("strict")
    Path(folder, "heartwire.toml").write_text(CONFIG)
    with run_server("--config", "heartwire.toml", folder=folder) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A hub of somebody's own code, which asks who everybody is."""
    folder = tmp_path_factory.mktemp("guarded")
    Path(folder, "guarded_hub.py").write_text(HUB)
    with run_server("guarded_hub:hub", engine=None, folder=folder) as server:
        yield server


def closed(socket: ClientConnection) -> tuple[int, str]:
    """Read to the end; the code and reason of the close."""
    with socket, contextlib.suppress(ConnectionClosed):
        while True:
            socket.recv(10)
    return socket.close_code or 0, socket.close_reason or ""


def cut(message: str) -> str:
    return message.encode()[:123].decode(errors="ignore")


# -- requests to follow --------------------------------------------------------------------------------------


def _poll(url: str, path: str, query: str) -> tuple[int, str, str, bool]:
    return get(url, f"{path}?{query}").error


def _long_poll(url: str, path: str, query: str) -> tuple[int, str, str, bool]:
    return get(url, f"{path}?wait=20&{query}").error


def _sse(url: str, path: str, query: str) -> tuple[int, str, str, bool]:
    with Stream(url, f"{path}?{query}") as stream:
        return stream.refusal.error


FOLLOW_OVER_HTTP: Final = {"poll": _poll, "long poll": _long_poll, "SSE": _sse}


class Row(NamedTuple):
    """A request that is refused: path, query, and what is answered."""

    path: str
    query: str
    status: int
    close_code: int
    code: str
    message: str


LONG = "x" * 256
ROWS: Final = {
    "no channel": Row(
        "/channels",
        "",
        400,
        3501,
        "bad_channel",
        "no channel named: /channels/NAME, or /channels?channel=A&channel=B",
    ),
    "empty channel": Row(
        "/channels",
        "channel=",
        400,
        3501,
        "bad_channel",
        "channel ''… has 0 bytes: a channel name has 1 to 255 bytes of UTF-8",
    ),
    "long channel": Row(
        f"/channels/{LONG}",
        "",
        400,
        3501,
        "bad_channel",
        f"channel '{'x' * 32}'… has 256 bytes: a channel name has 1 to 255 bytes of UTF-8",
    ),
    "long channel in bytes": Row(
        "/channels/" + "%E2%82%AC" * 86,
        "",
        400,
        3501,
        "bad_channel",
        f"channel '{'€' * 32}'… has 258 bytes: a channel name has 1 to 255 bytes of UTF-8",
    ),
    "line feed": Row(
        "/channels/a%0Ab", "", 400, 3501, "bad_channel", "channel 'a\\nb' holds '\\n': no control characters"
    ),
    "zero": Row(
        "/channels/%00", "", 400, 3501, "bad_channel", "channel '\\x00' holds '\\x00': no control characters"
    ),
    "delete": Row(
        "/channels/a%7F",
        "",
        400,
        3501,
        "bad_channel",
        "channel 'a\\x7f' holds '\\x7f': no control characters",
    ),
    "C1 control": Row(
        "/channels/a%C2%85",
        "",
        400,
        3501,
        "bad_channel",
        "channel 'a\\x85' holds '\\x85': no control characters",
    ),
    "not UTF-8": Row(
        "/channels/a%FF",
        "",
        400,
        3501,
        "bad_channel",
        "channel 'a\\udcff' is not UTF-8: percent-encode its UTF-8 bytes",
    ),
    "too many channels": Row(
        "/channels",
        "channel=a&channel=b&channel=c&channel=d",
        400,
        3505,
        "too_many_channels",
        "channels in one request: 4 is over the limit of 3 (max_channels_per_request)",
    ),
    "nonsense position": Row(
        "/channels/a",
        "since=yesterday",
        400,
        3501,
        "bad_position",
        "since='yesterday': `earliest`, or a position as an answer gave it",
    ),
    "position with a sign": Row(
        "/channels/a",
        "since=abc.-1",
        400,
        3501,
        "bad_position",
        "since='abc.-1': `earliest`, or a position as an answer gave it",
    ),
    "position with a leading zero": Row(
        "/channels/a",
        "since=abc.01",
        400,
        3501,
        "bad_position",
        "since='abc.01': `earliest`, or a position as an answer gave it",
    ),
    "position too big": Row(
        "/channels/a",
        "since=abc.9999999999999999999",
        400,
        3501,
        "bad_position",
        "since='abc.9999999999999999999': `earliest`, or a position as an answer gave it",
    ),
    "position of several channels": Row(
        "/channels/a",
        "since=abc.1~abc.2",
        400,
        3501,
        "bad_position",
        "since='abc.1~abc.2': `earliest`, or a position as an answer gave it",
    ),
    "position of fewer channels": Row(
        "/channels",
        "channel=a&channel=b&since=abc.1",
        400,
        3501,
        "bad_position",
        "since='abc.1' is a position of 1 channels, the request has 2: use a position that the same set of"
        " channels gave",
    ),
    "nonsense in a vector": Row(
        "/channels",
        "channel=a&channel=b&since=abc.1~nonsense",
        400,
        3501,
        "bad_position",
        "since='nonsense': `earliest`, or a position as an answer gave it",
    ),
    "unknown format": Row(
        "/channels/a", "format=xml", 400, 3501, "bad_request", "format='xml': one of raw, json"
    ),
    "unknown echo": Row("/channels/a", "echo=maybe", 400, 3501, "bad_request", "echo='maybe': one of 1, 0"),
    "bad client": Row(
        "/channels/a", "client=a%20b", 400, 3501, "bad_request", "client='a b': 1 to 64 of A-Z a-z 0-9 . _ -"
    ),
    "long client": Row(
        "/channels/a",
        f"client={LONG}",
        400,
        3501,
        "bad_request",
        f"client='{'x' * 64}': 1 to 64 of A-Z a-z 0-9 . _ -",
    ),
    "unknown namespace": Row(
        "/channels/nowhere:1",
        "",
        404,
        3507,
        "unknown_channel",
        "channel 'nowhere:1': namespace 'nowhere' is not configured; add it, or set allow_unknown_namespaces",
    ),
    "no such address": Row(
        "/elsewhere/a",
        "",
        404,
        3508,
        "not_found",
        "nothing at '/elsewhere/a': channels are at /channels/NAME",
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("follow", FOLLOW_OVER_HTTP.values(), ids=FOLLOW_OVER_HTTP)
def test_refused_over_http(strict: ServerProcess, row: Row, follow: Callable[[str, str, str], Any]) -> None:
    assert follow(strict.url, row.path, row.query) == (row.status, row.code, row.message, False)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("format", ["", "&format=json"], ids=["raw", "json"])
def test_refused_over_websocket(strict: ServerProcess, row: Row, format: str) -> None:
    query = row.query if row.query.startswith("format=") else row.query + format
    code, reason = closed(ws(strict.url, f"{row.path}?{query}"))
    message = "no WebSocket here: channels are at /channels/NAME" if row.code == "not_found" else row.message
    assert (code, reason) == (row.close_code, cut(message))


@pytest.mark.parametrize(
    "row", [row for row in ROWS.values() if row.code in ("bad_channel", "unknown_channel")]
)
def test_refused_to_publish(strict: ServerProcess, row: Row) -> None:
    if row.path == "/channels":
        return
    told = (row.status, row.code, row.message, False)
    assert request(strict.url, "POST", row.path, "x").error == told
    assert get(strict.url, f"{row.path}/presence").error == told


@pytest.mark.parametrize("text", ["56", "-1", "abc", "nan", "inf", "-0.1", "1e9", "55.001", "%20"])
def test_wait_out_of_range(strict: ServerProcess, text: str) -> None:
    told = (400, "bad_wait", f"wait={text.replace('%20', ' ')!r}: a number of seconds from 0 to 55", False)
    assert get(strict.url, f"/channels/a?wait={text}").error == told
    assert get(strict.url, f"/channels?channel=a&channel=b&wait={text}").error == told


@pytest.mark.parametrize("path", ["/channels/a", "/channels?channel=a&channel=b"])
def test_bad_position_in_headers(strict: ServerProcess, path: str) -> None:
    """Browsers and caches send whatever they have: it is a gap, or nothing, and never an error."""
    assert get(strict.url, path, Last_Event_ID="x y").json["recovered"] is False
    assert get(strict.url, path, If_None_Match='"x y"').json["recovered"] is True
    message = get(strict.url, path + ("&" if "?" in path else "?") + "since=x%20y").error[2]
    assert message.startswith("since='x y'")


def test_default_limit_of_channels_in_one_request(server: ServerProcess) -> None:
    path = "/channels?" + "&".join(f"channel=c{number}" for number in range(1001))
    message = "channels in one request: 1001 is over the limit of 1000 (max_channels_per_request)"
    assert get(server.url, path).error == (400, "too_many_channels", message, False)
    assert closed(ws(server.url, path)) == (3505, message)


def test_methods_and_addresses(strict: ServerProcess) -> None:
    for method in ("PUT", "DELETE", "PATCH"):
        message = f"{method} /channels/a: this address takes GET, POST, OPTIONS"
        assert request(strict.url, method, "/channels/a").error == (405, "method_not_allowed", message, False)
    message = "POST /channels/a/presence: this address takes GET, OPTIONS"
    assert request(strict.url, "POST", "/channels/a/presence").error == (
        405,
        "method_not_allowed",
        message,
        False,
    )
    for path in ("/channels/a/b", "/channels/a/presence/b", "/channel/a", "/..%2f..%2fetc%2fpasswd", "/%00"):
        assert get(strict.url, path).error[:2] == (404, "not_found"), path


# -- messages ------------------------------------------------------------------------------------------------

TOO_LARGE = "bytes of this message: 1001 is over the limit of 1000 (max_message_bytes)"


def test_message_too_large_by_post(strict: ServerProcess) -> None:
    assert post(strict.url, "a", "x" * 1001).error == (413, "message_too_large", TOO_LARGE, False)
    assert post(strict.url, "a", b"\x00" * 1001, None).error == (413, "message_too_large", TOO_LARGE, False)
    assert post(strict.url, "a", "x" * 1000).status == 200


def test_message_too_large_in_chunks(strict: ServerProcess) -> None:
    with Raw(strict.url) as raw:
        raw.send("POST /channels/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        raw.send(b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n")
        assert raw.answer().error == (413, "message_too_large", TOO_LARGE, False)


def test_message_too_large_is_refused_before_it_is_sent(strict: ServerProcess) -> None:
    with Raw(strict.url) as raw:
        raw.send("POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\nx")
        message = "bytes of this message: 1000000000 is over the limit of 1000 (max_message_bytes)"
        assert raw.answer().error == (413, "message_too_large", message, False)


@pytest.mark.parametrize("query", ["", "?format=json"])
@pytest.mark.parametrize("message", ["x" * 1001, b"x" * 1001])
def test_message_too_large_by_websocket(strict: ServerProcess, query: str, message: str | bytes) -> None:
    socket = ws(strict.url, f"/channels/a{query}")
    socket.send("x" * 1000)
    socket.send(message)
    assert closed(socket) == (1009, TOO_LARGE)


def test_message_too_large_in_fragments(strict: ServerProcess) -> None:
    socket = ws(strict.url, "/channels/a")
    try:
        socket.send(["x" * 600, "y" * 401])
    except ConnectionClosed:
        pass  # it was refused before its end was sent
    assert closed(socket) == (1009, TOO_LARGE)


@pytest.mark.parametrize("size", [100_000, 2_000_000])
def test_message_far_too_large_by_websocket(strict: ServerProcess, size: int) -> None:
    socket = ws(strict.url, "/channels/a")
    try:
        socket.send(b"x" * size)
    except ConnectionClosed:
        pass  # it was refused before it was all sent
    message = f"bytes of this message: {size} is over the limit of 1000 (max_message_bytes)"
    assert closed(socket) == (1009, message)


def test_default_limit_of_a_message(server: ServerProcess, channel: str) -> None:
    limit = 1024 * 1024
    message = f"bytes of this message: {limit + 1} is over the limit of {limit} (max_message_bytes)"
    assert post(server.url, channel, b"x" * limit).status == 200
    assert post(server.url, channel, b"x" * (limit + 1)).error == (413, "message_too_large", message, False)
    socket = ws(server.url, f"/channels/{channel}")
    socket.send(b"y" * limit)
    assert socket.recv(10) == b"y" * limit
    socket.send(b"y" * (limit + 1))
    assert closed(socket) == (1009, message)


@pytest.mark.parametrize(
    ("key", "shown"), [("", "''"), ("a b", "'a b'"), ("x" * 256, f"'{'x' * 64}'"), ("sch\xf6n", "'schön'")]
)
def test_bad_idempotency_key(strict: ServerProcess, key: str, shown: str) -> None:
    answer = post(strict.url, "a", "x", Idempotency_Key=key)
    told = (400, "bad_idempotency_key", f"idempotency key {shown}: 1 to 255 visible ASCII characters", False)
    assert answer.error == told


def test_text_that_is_not_utf8(strict: ServerProcess, channel: str) -> None:
    message = "text is not UTF-8 at byte 2: send UTF-8, or bytes as application/octet-stream"
    for content_type in (
        "text/plain",
        "application/json",
        "application/x-www-form-urlencoded",
        "application/vnd.a+json",
    ):
        assert post(strict.url, channel, b"ok\xff", content_type).error == (
            400,
            "invalid_utf8",
            message,
            False,
        )
    assert post(strict.url, channel, b"ok\xff", "application/octet-stream").status == 200


def test_charset_that_is_not_utf8(strict: ServerProcess, channel: str) -> None:
    message = "charset 'latin-1': text is UTF-8 here; convert it, or send bytes"
    answer = post(strict.url, channel, b"x", 'text/plain; charset="latin-1"')
    assert answer.error == (415, "unsupported_charset", message, False)
    assert post(strict.url, channel, b"x", "text/plain;charset=UTF-8").status == 200


def test_a_namespace_that_clients_may_not_publish_to(strict: ServerProcess) -> None:
    message = "clients may not publish to 'news:1' (publish = false in its namespace)"
    assert post(strict.url, "news:1", "x").error == (403, "forbidden", message, False)
    socket = ws(strict.url, "/channels/news:1")
    socket.send("x")
    assert closed(socket) == (3507, message)
    with ws(strict.url, "/channels/news:1?format=json") as socket:
        socket.recv()
        for _ in range(2):
            socket.send("x")
            assert json.loads(socket.recv()) == {
                "error": {"code": "forbidden", "message": message, "retry": False}
            }


def test_presence_that_is_off(strict: ServerProcess) -> None:
    message = "presence is off in 'quiet:1' (presence = false in its namespace)"
    assert get(strict.url, "/channels/quiet:1/presence").error == (501, "not_available", message, False)
    with ws(strict.url, "/channels/quiet:1") as socket:
        socket.send("x")
        assert socket.recv() == "x"


@pytest.mark.parametrize(
    ("sent", "code", "message"),
    [
        ("not json", "bad_request", r'expected \{"channel":"NAME","data":…\}: .+'),
        ("[]", "bad_request", r'expected \{"channel":"NAME","data":…\}: .+'),
        ('{"data":1}', "bad_request", r'expected \{"channel":"NAME","data":…\}: .+channel.+'),
        ('{"channel":"a"}', "bad_request", r'expected \{"channel":"NAME","data":…\}: .+data.+'),
        (
            '{"channel":"a","data":"!","encoding":"base64"}',
            "bad_request",
            r'expected \{"channel":"NAME","data":…\}: .+',
        ),
        (
            '{"channel":"a","data":1,"encoding":"hex"}',
            "bad_request",
            r'encoding \'hex\': "base64", or leave it out',
        ),
        (
            '{"channel":"a\\nb","data":1}',
            "bad_channel",
            r"channel 'a\\nb' holds '\\n': no control characters",
        ),
        ('{"channel":"c","data":1}', "forbidden", r"channel 'c' is not one that this connection follows"),
        (b"\xff", "invalid_utf8", ""),
    ],
)
def test_bad_command_on_a_socket_of_several_channels(
    strict: ServerProcess, sent: str | bytes, code: str, message: str
) -> None:
    socket = ws(strict.url, "/channels?channel=a&channel=b")
    socket.recv()
    socket.send(sent)
    if code == "invalid_utf8":
        assert closed(socket) == (
            1007,
            "text is not UTF-8 at byte 0: send UTF-8, or bytes as application/octet-stream",
        )
        return
    with socket:
        error = json.loads(socket.recv())["error"]
        assert (error["code"], error["retry"]) == (code, False)
        assert re.fullmatch(message, error["message"]), error
        socket.send('{"channel":"a","data":"alive"}')
        assert '"data":"alive"' in str(socket.recv())


# -- how many, how fast --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_connections_on_this_node() -> None:
    message = "connections on this node: 3 is over the limit of 2 (max_connections)"
    with run_server("--max-connections", "2") as server:
        position = publish(server.url, "a", "x")
        with Stream(server.url, "/channels/a") as first:
            first.joined()
            second = ws(server.url, "/channels/a")
            with Stream(server.url, "/channels/a") as third:
                assert third.refusal.error == (503, "node_full", message, True)
                assert third.headers["retry-after"] == "1"
            answer = get(server.url, f"/channels/a?since={position}&wait=20")
            assert answer.error == (503, "node_full", message, True)
            assert closed(ws(server.url, "/channels/a")) == (1013, message)
            # What is answered at once needs no place.
            assert len(get(server.url, "/channels/a?since=earliest").json["publications"]) == 1
            assert post(server.url, "a", "y").status == 200
            second.close()
            until(lambda: Stream(server.url, "/channels/a").status == 200)


@pytest.mark.slow
def test_connections_from_one_address() -> None:
    message = "connections from 127.0.0.1: 2 is over the limit of 1 (max_connections_per_address)"
    with run_server("--max-connections-per-address", "1") as server, ws(server.url, "/channels/a") as mine:
        with Stream(server.url, "/channels/a") as other:
            assert other.refusal.error == (429, "too_many_connections", message, True)
            assert other.headers["retry-after"] == "1"
        assert get(server.url, "/channels/a?wait=20").error == (429, "too_many_connections", message, True)
        assert closed(ws(server.url, "/channels/a")) == (1013, message)
        with ws(server.url, "/channels/a", source_address=("127.0.0.2", 0)) as neighbour:
            mine.send("hi")
            assert neighbour.recv() == "hi"


@pytest.mark.slow
def test_publish_rate_of_a_connection() -> None:
    message = "messages come faster than 0.1 a second, 2 at once (publish_rate_per_s, publish_burst)"
    with run_server("--publish-rate-per-s", "0.1", environment={"HEARTWIRE_PUBLISH_BURST": "2"}) as server:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=10)
        answers = [
            ask(connection, "POST", "/channels/a", "x", {"Content-Type": "text/plain"}) for _ in range(3)
        ]
        connection.close()
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert answers[2].error == (429, "too_many_requests", message, True)
        assert 8 <= int(answers[2].headers["retry-after"]) <= 10
        assert 8 < answers[2].json["error"]["retry_after_s"] <= 10

        socket = ws(server.url, "/channels/b")
        for _ in range(3):
            socket.send("x")
        assert closed(socket) == (3013, message)
        with ws(server.url, "/channels/c?format=json&heartbeat=ping") as socket:
            for _ in range(3):
                socket.send("x")
            told = [json.loads(socket.recv()) for _ in range(4)]
            error = next(item["error"] for item in told if "error" in item)
            assert (error["code"], error["message"], error["retry"]) == ("too_many_requests", message, True)
            assert len([item for item in told if "data" in item]) == 2
            socket.send("ping")  # heartbeats are no messages, and the connection lives
            assert socket.recv() == "ping"
        assert len(get(server.url, "/channels/c?since=earliest").json["publications"]) == 2


# -- who -----------------------------------------------------------------------------------------------------


def test_credentials_that_are_not_known(guarded: ServerProcess) -> None:
    told = (401, "unauthorized", "token is not known", False)
    bad = {"Authorization": "bad"}
    for answer in (
        get(guarded.url, "/channels/a", **bad),
        get(guarded.url, "/channels/a?wait=20", **bad),
        get(guarded.url, "/channels/a/presence", **bad),
        get(guarded.url, "/channels/a", Accept="text/event-stream", **bad),
        post(guarded.url, "a", "x", **bad),
    ):
        assert answer.error == told
        assert answer.headers["www-authenticate"] == "Bearer"
    assert closed(ws(guarded.url, "/channels/a?token=bad")) == (3500, "token is not known")


def test_what_one_may_not_do(guarded: ServerProcess) -> None:
    message = "an anonymous client may not publish to 'room:1'"
    assert post(guarded.url, "room:1", "x").error == (403, "forbidden", message, False)
    socket = ws(guarded.url, "/channels/room:1")
    socket.send("x")
    assert closed(socket) == (3507, message)
    for follow in FOLLOW_OVER_HTTP.values():
        assert follow(guarded.url, "/channels/room:secret", "token=good") == (
            403,
            "forbidden",
            "this room is secret",
            False,
        )
    assert closed(ws(guarded.url, "/channels/room:secret?token=good")) == (3507, "this room is secret")
    both = "/channels?channel=room:1&channel=room:secret&token=good"
    assert closed(ws(guarded.url, both)) == (3507, "this room is secret")
    assert get(guarded.url, both).error == (403, "forbidden", "this room is secret", False)


def test_publications_name_their_publisher(guarded: ServerProcess) -> None:
    with ws(guarded.url, "/channels/room:2?format=json&token=good") as socket:
        socket.recv()
        socket.send("hi")
        told = json.loads(socket.recv())
        (member,) = get(guarded.url, "/channels/room:2/presence", Authorization="good").json["presence"]
        assert told["publisher"] == {"user": "ann", "client": member["client"]}
        assert member["user"] == "ann"
    (item,) = get(guarded.url, "/channels/room:2?since=earliest").json["publications"]
    assert item["publisher"] == told["publisher"]


# -- HTTP that is none ---------------------------------------------------------------------------------------


def answer_to(server: ServerProcess, data: bytes) -> Answer:
    with Raw(server.url) as raw:
        raw.send(data)
        return raw.answer()


def test_http_that_is_broken(strict: ServerProcess) -> None:
    assert answer_to(strict, b"nonsense\r\n\r\n").status == 400
    assert (
        answer_to(strict, b"GET /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n").status
        == 400
    )
    assert (
        answer_to(
            strict, b"POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n"
        ).status
        == 400
    )
    assert "Traceback" not in strict.log


def test_a_bad_handshake_on_every_websocket_address(strict: ServerProcess) -> None:
    for path in ("/", "/channels/a", "/channels?channel=a", "/channels/a?format=xml"):
        answer = answer_to(strict, handshake(strict.url, path, version="12").encode())
        assert answer.status == 426, path
