"""The Centrifugal protocol over HTTP as it is on the wire: http_stream, SSE, the emulation endpoint and
batches of commands."""

import http.client
import json
import re
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import centrifuge.protocol.client_pb2 as pb
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from heartwire.dialects.centrifugal.protobuf_codec import delimited, split
from heartwire.hub.options import HubOptions
from heartwire.hub.tokens import make_token
from tests.integration.centrifugal.sdk.app import SECRET
from tests.integration.centrifugal.sdk.harness import Server, serving, until

MAX_FRAME_BYTES = HubOptions(max_message_bytes=65536).max_frame_bytes
JSON_TYPE = "application/json"
PROTOBUF_TYPE = "application/octet-stream"
Kind = Literal["http_stream", "sse", "sse-post", "protobuf"]
KINDS: list[Kind] = ["http_stream", "sse", "sse-post", "protobuf"]
_numbers = count(1)


@pytest.fixture(scope="module", params=["native", "wsproto"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("http"), request.param) as server:
        yield server


@pytest.fixture
def name() -> str:
    return f"n{next(_numbers)}-{time.monotonic_ns():x}"


def ask(
    server: Server, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One request; status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    read = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    connection.close()
    return read


def said(commands: list[dict[str, Any]], *, is_binary: bool) -> bytes:
    """Commands in their framing."""
    if is_binary:
        return b"".join(
            delimited(ParseDict(command, pb.Command()).SerializeToString()) for command in commands
        )
    return "\n".join(map(json.dumps, commands)).encode()


class Stream:
    """One connection, as a client has it: a stream, and requests beside it."""

    def __init__(self, server: Server, kind: Kind, *first: dict[str, Any], **headers: str) -> None:
        self._server = server
        self.kind = kind
        self._is_binary = kind == "protobuf"
        self._id = 1
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        body = said(list(first) or [{"id": 1, "connect": {}}], is_binary=self._is_binary)
        media_type = PROTOBUF_TYPE if self._is_binary else JSON_TYPE
        if kind == "sse":
            self._connection.request("GET", f"/connection/sse?cf_connect={quote(body)}", headers=headers)
        else:
            path = "sse" if kind == "sse-post" else "http_stream"
            self._connection.request(
                "POST", f"/connection/{path}", body, {"Content-Type": media_type, **headers}
            )
        self.answer = self._connection.getresponse()
        assert self.answer.status == 200, self.answer.read()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.answer.close()
        self._connection.close()

    def read(self) -> Any:
        """The next message; ``None`` at the end."""
        if self._is_binary:
            return self._read_binary()
        line = self.answer.readline()
        if self.kind.startswith("sse"):
            while line in (b"\n", b"\r\n"):
                line = self.answer.readline()
            assert not line or line.startswith(b"data: ")
            line = line.removeprefix(b"data: ")
        assert not line or (line.endswith(b"\n") and len(line) > 1)
        assert line.isascii() or self.kind != "http_stream"
        return json.loads(line) if line else None

    def _read_binary(self) -> Any:
        size, shift = 0, 0
        while True:
            byte = self.answer.read(1)
            if not byte:
                return None
            size |= (byte[0] & 0x7F) << shift
            shift += 7
            if byte[0] < 0x80:
                break
        return MessageToDict(pb.Reply.FromString(self.answer.read(size)), preserving_proto_field_name=True)

    def open(self) -> "Stream":
        told = self.read()["connect"]
        self.session, self.node = told["session"], told["node"]
        return self

    def emulate(self, *commands: dict[str, Any]) -> int:
        """Commands by a request of their own; its status."""
        data = said(list(commands), is_binary=self._is_binary)
        if self._is_binary:
            body = pb.EmulationRequest(session=self.session, node=self.node, data=data).SerializeToString()
            return ask(self._server, "POST", "/emulation", body, Content_Type=PROTOBUF_TYPE)[0]
        told = json.dumps({"session": self.session, "node": self.node, "data": data.decode()})
        return ask(self._server, "POST", "/emulation", told.encode(), Content_Type=JSON_TYPE)[0]

    def say(self, **command: Any) -> Any:
        """One command, and its reply; pushes before it are dropped."""
        self._id += 1
        assert self.emulate({"id": self._id, **command}) == 204
        while (message := self.read()).get("id") != self._id:
            pass
        return message


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


def test_stream_and_emulation(server: Server, kind: Kind, name: str) -> None:
    """From connect to the disconnect push, which is the last message."""
    channel = f"room:{name}é"
    with Stream(server, kind) as stream:
        headers = {name.lower(): value for name, value in stream.answer.getheaders()}
        assert headers["x-accel-buffering"] == "no"
        assert "no-store" in headers["cache-control"]
        told = stream.read()["connect"]
        assert (told["ping"], told["pong"]) == (25, True)
        assert len(told["session"]) >= 32
        stream.session, stream.node = told["session"], told["node"]
        assert stream.say(subscribe={"channel": channel})["subscribe"]["recoverable"]
        data = "AP8=" if kind == "protobuf" else "é😀"
        assert stream.emulate({"id": 50, "publish": {"channel": channel, "data": data}}) == 204
        messages = [stream.read() for _ in range(3)]
        pushes = [message["push"] for message in messages if "push" in message]
        reply = next(message for message in messages if message.get("id") == 50)
        assert reply["publish"].keys() == (set() if kind == "protobuf" else {"epoch", "offset"})
        assert pushes[0]["join"]["info"]["client"] == told["client"]
        assert pushes[1]["pub"]["data"] == data
        stream.emulate(
            {
                "id": 51,
                "rpc": {
                    "method": "kick",
                    "data": "eyJjb2RlIjo0NTAxfQ==" if kind == "protobuf" else {"code": 4501},
                },
            }
        )
        while (message := stream.read()) is not None:
            last = message
        assert last == {"push": {"disconnect": {"code": 4501, "reason": "as you asked"}}}
        assert stream.emulate({"id": 52, "presence": {"channel": channel}}) == 204  # gone: nobody's fault


def test_bad_token_is_a_disconnect_push(server: Server, kind: Kind) -> None:
    with Stream(server, kind, {"id": 1, "connect": {"token": "bad"}}) as stream:
        assert stream.read()["push"]["disconnect"]["code"] == 3500
        assert stream.read() is None


def test_first_request_may_hold_more(server: Server, kind: Kind, name: str) -> None:
    """All that a client has to say when it comes back, in one round trip; the replies in order, that of
    `connect` first."""
    channel = f"news:{name}"
    data = "MQ==" if kind == "protobuf" else 1
    commands: list[dict[str, Any]] = [
        {"id": 1, "connect": {}},
        {"id": 2, "subscribe": {"channel": channel, "recover": True}},
        {"id": 3, "subscribe": {"channel": f"{channel}-2"}},
        {"id": 4, "rpc": {"method": "echo", "data": data}},
        {"id": 5, "ping": {}},
        *({"id": id, "publish": {"channel": channel, "data": data}} for id in (6, 7)),
    ]
    with Stream(server, kind, *commands) as stream:
        messages = [stream.read() for _ in range(len(commands) + 2)]
        assert [message["id"] for message in messages if "id" in message] == [
            command["id"] for command in commands
        ]
        assert "connect" in messages[0]
        assert [int(message["push"]["pub"]["offset"]) for message in messages if "push" in message] == [1, 2]


def test_malformed_commands_end_the_session(server: Server) -> None:
    with Stream(server, "http_stream") as stream:
        stream.open()
        told = json.dumps({"session": stream.session, "node": stream.node, "data": "{}x"})
        assert ask(server, "POST", "/emulation", told.encode())[0] == 204
        assert stream.read()["push"]["disconnect"]["code"] == 3501
        assert stream.read() is None


def test_stream_that_is_aborted_leaves_presence_at_once(server: Server, kind: Kind, name: str) -> None:
    """[T] A JavaScript test wants presence exact within 2 s."""
    channel = f"room:{name}"
    with Stream(server, "http_stream") as stays:
        stays.open().say(subscribe={"channel": channel})
        with Stream(server, kind) as goes:
            goes.open().say(subscribe={"channel": channel})
            assert stays.say(presence_stats={"channel": channel})["presence_stats"]["num_clients"] == 2
        while "leave" not in (push := stays.read()).get("push", {}):
            pass
        assert stays.say(presence_stats={"channel": channel})["presence_stats"]["num_clients"] == 1
        assert push["push"]["channel"] == channel


def test_requests_of_a_session_are_answered_in_order(server: Server) -> None:
    with Stream(server, "http_stream") as stream:
        stream.open()
        calls = [{"id": id, "rpc": {"method": ("echo", "add")[id % 2], "data": [id]}} for id in range(10, 60)]
        for call in calls:
            assert stream.emulate(call) == 204
        assert [stream.read()["id"] for _ in calls] == [call["id"] for call in calls]


REFUSED = [
    ("GET", "/connection/http_stream", b"", {}, 405),
    ("PUT", "/connection/sse", b"", {}, 405),
    ("GET", "/emulation", b"", {}, 405),
    ("GET", "/connection/commands", b"", {}, 405),
    ("GET", "/connection/sse", b"", {}, 400),
    ("GET", "/connection/sse?cf_connect=", b"", {}, 400),
    ("POST", "/connection/sse", b"", {}, 400),
    ("POST", "/connection/http_stream", b"", {}, 400),
    ("POST", "/connection/http_stream", b" " * (MAX_FRAME_BYTES + 1), {}, 413),
    ("POST", "/connection/commands", b"", {}, 400),
    ("POST", "/connection/commands", b"{", {}, 400),
    ("POST", "/connection/commands", b"{}", {"Content_Type": PROTOBUF_TYPE}, 400),
    ("POST", "/connection/commands", b" " * (MAX_FRAME_BYTES + 1), {}, 413),
    ("POST", "/emulation", b"", {}, 400),
    ("POST", "/emulation", b'{"session":"x"', {}, 400),
    ("POST", "/emulation", b'{"session":1}', {}, 400),
    ("POST", "/emulation", b'{"session":"x","node":"another","data":"{}"}', {}, 404),
    ("POST", "/emulation", b'{"session":"\xff"}', {}, 400),
    ("POST", "/emulation", b"\xff", {"Content_Type": PROTOBUF_TYPE}, 400),
    ("POST", "/emulation", b" " * 500_000, {}, 413),
    ("POST", "/emulation", b'{"data":"%b"}' % (b"x" * (MAX_FRAME_BYTES + 1)), {}, 413),
    ("POST", "/connection/webtransport", b"{}", {}, 404),
    *(
        (method, path, body, {"Origin": "https://evil.example"}, 403)
        for method, path, body in [
            ("POST", "/connection/http_stream", b'{"id":1,"connect":{}}'),
            ("GET", "/connection/sse?cf_connect=%7B%7D", b""),
            ("POST", "/emulation", b"{}"),
            ("OPTIONS", "/emulation", b""),
            ("POST", "/connection/commands", b'{"id":1,"connect":{}}'),
        ]
    ),
]


@pytest.mark.parametrize(("method", "path", "body", "headers", "status"), REFUSED, ids=range(len(REFUSED)))
def test_refusal(
    server: Server, method: str, path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    got, _, answer = ask(server, method, path, body, **headers)
    assert got == status
    assert json.loads(answer)["error"]["code"]


@pytest.mark.parametrize(
    "path", ["/connection/http_stream", "/connection/sse", "/emulation", "/connection/commands"]
)
def test_preflight(server: Server, path: str) -> None:
    origin = f"http://127.0.0.1:{server.port}"
    status, headers, body = ask(
        server, "OPTIONS", path, Origin=origin, Access_Control_Request_Headers="content-type,x-a"
    )
    assert (status, body) == (204, b"")
    assert headers["access-control-allow-origin"] == origin
    assert headers["access-control-allow-credentials"] == "true"
    assert headers["access-control-allow-headers"] == "content-type,x-a"
    assert {"POST", "OPTIONS"} <= set(headers["access-control-allow-methods"].split(", "))
    assert headers["access-control-max-age"] == "7200"


def test_stream_is_for_the_page_that_asks(server: Server, kind: Kind) -> None:
    origin = f"http://127.0.0.1:{server.port}"
    with Stream(server, kind, Origin=origin) as stream:
        assert stream.answer.getheader("access-control-allow-origin") == origin


def test_nothing_is_left_of_streams(server: Server, name: str) -> None:
    channel = f"room:{name}"
    for _ in range(10):
        with Stream(server, "http_stream") as stream:
            stream.open().say(subscribe={"channel": channel})
    with Stream(server, "http_stream") as stream:
        stream.open()
        until(
            lambda: "num_clients" in stream.say(presence_stats={"channel": channel})["presence_stats"],
            "it is answered",
        )
        until(
            lambda: not stream.say(presence_stats={"channel": channel})["presence_stats"]["num_clients"],
            "all have left",
        )


def test_slow_reader_is_caught_up(server: Server, name: str) -> None:
    """Who does not read for a while gets all of it, in order, once it reads."""
    size, total = 60_000, 200
    channel = f"news:{name}"
    with Stream(server, "http_stream") as slow, Stream(server, "http_stream") as publisher:
        slow.open().say(subscribe={"channel": channel})
        publisher.open()
        for number in range(total):
            publisher.say(publish={"channel": channel, "data": {"n": number, "pad": "x" * size}})
        assert [slow.read()["push"]["pub"]["offset"] for _ in range(total)] == list(range(1, total + 1))


@pytest.mark.slow
def test_ping_and_pong(tmp_path: Path) -> None:
    with (
        serving(tmp_path, APP_PING_S="1") as server,
        Stream(server, "http_stream") as quiet,
        Stream(server, "sse") as answers,
    ):
        quiet.open()
        answers.open()
        for _ in range(3):
            assert answers.read() == {}
            assert answers.emulate({}) == 204
        assert quiet.read() == {}
        with pytest.raises((http.client.IncompleteRead, ConnectionError, AssertionError)):
            assert quiet.read() is not None  # no pong came, and its connection is broken off


def test_shutdown_is_a_disconnect_push(tmp_path: Path) -> None:
    with serving(tmp_path) as server, Stream(server, "http_stream") as stream, Stream(server, "sse") as other:
        stream.open()
        other.open()
        server.stop()
        for one in (stream, other):
            end = one.read()["push"]["disconnect"]
            assert end["code"] == 3001
            assert re.fullmatch(r"shutdown; retry_after_ms=\d", end["reason"])  # of two, at 500 a second
            assert one.read() is None


# -- Protobuf over WebSocket ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "offered", "answer"),
    [
        ("", ["centrifuge-protobuf"], "centrifuge-protobuf"),
        ("", ["x", "centrifuge-protobuf", "centrifuge-json"], "centrifuge-protobuf"),
        ("?cf_protocol=protobuf", [], None),
        ("?format=protobuf", [], None),
    ],
)
def test_protobuf_over_websocket(
    server: Server, query: str, offered: list[str], answer: str | None, name: str
) -> None:
    url = f"ws://127.0.0.1:{server.port}/connection/websocket{query}"
    protocols = [Subprotocol(one) for one in offered] or None
    with connect(url, compression=None, proxy=None, subprotocols=protocols) as socket:
        assert socket.subprotocol == answer
        channel = f"news:{name}"
        commands: list[dict[str, Any]] = [
            {"id": 1, "connect": {}},
            {"id": 2, "subscribe": {"channel": channel}},
        ]
        socket.send(
            said([*commands, {"id": 3, "publish": {"channel": channel, "data": "AP8="}}], is_binary=True)
        )
        heard: list[Any] = []
        while len(heard) < 4:
            frame = socket.recv(timeout=10)
            assert isinstance(frame, bytes)
            heard += [MessageToDict(pb.Reply.FromString(message)) for message in split(frame)]
        assert [message.get("id") for message in heard[:2]] == [1, 2]
        (push,) = [message["push"] for message in heard if "push" in message]
        assert (push["channel"], push["pub"]["data"], push["pub"]["offset"]) == (channel, "AP8=", "1")


# -- batches of commands -------------------------------------------------------------------------------------


def batch(server: Server, *commands: dict[str, Any], **headers: str) -> list[Any]:
    """A batch, and what is answered."""
    status, told, body = ask(
        server, "POST", "/connection/commands", said(list(commands), is_binary=False), **headers
    )
    assert (status, told["content-type"]) == (200, "application/x-ndjson")
    return [json.loads(line) for line in body.splitlines()]


def bearer(user: str) -> str:
    return "Bearer " + make_token({"sub": user}, SECRET)


def test_batch_reads_what_was_missed(server: Server, name: str) -> None:
    """A client that polls: from its position to the top, each publication once."""
    channel = f"news:{name}"
    (told,) = batch(server, {"id": 1, "subscribe": {"channel": channel}})
    position = {"epoch": told["subscribe"]["epoch"], "offset": told["subscribe"].get("offset", 0)}
    heard: list[int] = []
    for turn in range(3):
        published = batch(
            server, *({"id": id, "publish": {"channel": channel, "data": turn}} for id in range(1, 201))
        )
        assert sorted(reply["id"] for reply in published) == list(range(1, 201))
        while True:
            (told,) = batch(server, {"id": 7, "subscribe": {"channel": channel, "recover": True, **position}})
            assert told["subscribe"]["recovered"]
            offsets = [one["offset"] for one in told["subscribe"].get("publications", ())]
            heard += offsets
            position["offset"] = max([position["offset"], *offsets])
            if not offsets:
                break
    assert heard == list(range(1, 601))


def test_batch_reports_a_position_that_is_gone(server: Server, name: str) -> None:
    channel = f"short:{name}"
    batch(server, *({"id": id, "publish": {"channel": channel, "data": id}} for id in range(1, 8)))
    (told,) = batch(server, {"id": 1, "subscribe": {"channel": channel, "recover": True, "offset": 1}})
    assert "recovered" not in told["subscribe"]
    assert told["subscribe"]["offset"] == 7


def test_batch_of_everything(server: Server, name: str) -> None:
    channel = f"room:{name}"
    connect = {
        "id": 1,
        "connect": {"token": bearer("7").partition(" ")[2], "data": {"channels": [f"feed:{name}"]}},
    }
    replies = batch(
        server,
        connect,
        {"id": 2, "subscribe": {"channel": channel}},
        {"id": 3, "publish": {"channel": channel, "data": "a"}},
        {"id": 4, "rpc": {"method": "echo", "data": 1}},
        {"id": 5, "presence": {"channel": channel}},
        {"id": 6, "rpc": {"method": "fault"}},
        {"id": 7, "subscribe": {"channel": channel}},
    )
    by_id = {reply["id"]: reply for reply in replies}
    assert by_id[1]["connect"]["data"]["hello"] == "7"
    assert "session" not in by_id[1]["connect"]
    assert f"feed:{name}" in by_id[1]["connect"]["subs"]
    assert by_id[3]["publish"]["offset"] == 1
    assert by_id[4]["rpc"]["data"] == {"user": "7", "data": 1}
    assert by_id[5]["presence"]["presence"] == {}  # it only reads, and is not there
    assert (by_id[6]["error"]["code"], by_id[7]["error"]["code"]) == (100, 105)
    (page,) = batch(server, {"id": 9, "history": {"channel": channel, "limit": 9}})
    assert [one["info"]["user"] for one in page["history"]["publications"]] == ["7"]


def test_batch_may_leave_connect_out(server: Server) -> None:
    """The request says who it is."""
    (reply,) = batch(server, {"id": 9, "rpc": {"method": "echo"}}, Authorization=bearer("42"))
    assert reply == {"id": 9, "rpc": {"data": {"user": "42", "data": None}}}
    (told,) = batch(server, {"id": 9, "rpc": {"method": "echo"}}, Authorization="Bearer bad")
    assert told["push"]["disconnect"]["code"] == 3500


def test_batch_whose_connect_is_refused_stops(server: Server) -> None:
    expired = make_token({"sub": "7", "exp": 1}, SECRET)
    (reply,) = batch(server, {"id": 1, "connect": {"token": expired}}, {"id": 2, "rpc": {"method": "echo"}})
    assert (reply["id"], reply["error"]["code"]) == (1, 109)
    (told,) = batch(server, {"id": 1, "connect": {"token": "bad"}}, {"id": 2, "rpc": {"method": "echo"}})
    assert told["push"]["disconnect"]["code"] == 3500


def test_batch_that_is_malformed_later_is_answered_so_far(server: Server) -> None:
    body = (
        b'{"id":1,"rpc":{"method":"add","data":[1,2]}}\nnonsense\n{"id":2,"rpc":{"method":"add","data":[]}}'
    )
    status, _, answer = ask(server, "POST", "/connection/commands", body)
    one, end = [json.loads(line) for line in answer.splitlines()]
    assert (status, one["rpc"]["data"], end["push"]["disconnect"]["code"]) == (200, 3, 3501)


def test_batch_in_protobuf(server: Server, name: str) -> None:
    channel = f"news:{name}"
    commands: list[dict[str, Any]] = [
        {"id": 1, "publish": {"channel": channel, "data": "AP8="}},
        {"id": 2, "history": {"channel": channel, "limit": 1}},
    ]
    body = said(commands, is_binary=True)
    status, headers, answer = ask(server, "POST", "/connection/commands", body, Content_Type=PROTOBUF_TYPE)
    assert (status, headers["content-type"]) == (200, PROTOBUF_TYPE)
    replies = {
        message["id"]: message
        for message in (MessageToDict(pb.Reply.FromString(one)) for one in split(answer))
    }
    assert replies[2]["history"]["publications"][0]["data"] == "AP8="


def test_batch_has_bounds(server: Server, name: str) -> None:
    """An answer stops where it is too long, and says so."""
    channel = f"news:{name}"
    batch(server, {"id": 1, "publish": {"channel": channel, "data": "x" * 60_000}})
    replies = batch(
        server, *({"id": id, "history": {"channel": channel, "limit": 1}} for id in range(1, 201))
    )
    assert 60 < len(replies) < 100
    end = replies[-1]["push"]["disconnect"]
    assert end["code"] == 3008
    assert "ask for the rest" in end["reason"]


def test_batches_are_counted_by_address(tmp_path: Path) -> None:
    with serving(tmp_path, APP_RATE="0.001") as server:
        replies = [
            batch(server, {"id": 1, "publish": {"channel": "news:a", "data": 1}})[0] for _ in range(21)
        ]
        assert ["error" in reply for reply in replies] == [False] * 20 + [True]
        assert replies[-1]["error"]["code"] == 111
