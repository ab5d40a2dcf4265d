"""The Centrifugal protocol as it is on the wire, over the native door and over ASGI."""

import base64
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from heartwire.hub.options import HubOptions
from tests.integration.centrifugal.sdk.harness import Sdk, Server, node_modules, serving, until

MAX_MESSAGE_BYTES = 65536
MAX_FRAME_BYTES = HubOptions(max_message_bytes=MAX_MESSAGE_BYTES).max_frame_bytes


@pytest.fixture(scope="module", params=["native", "wsproto"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("wire"), request.param) as server:
        yield server


class Wire:
    """A WebSocket that hides nothing but the frames."""

    def __init__(self, server: Server, query: str = "", **options: Any) -> None:
        url = f"ws://127.0.0.1:{server.port}/connection/websocket{query}"
        defaults: dict[str, Any] = {
            "compression": None,
            "proxy": None,
            "ping_interval": None,
            "max_size": None,
        }
        self.socket: ClientConnection = connect(url, **(defaults | options)).__enter__()
        self._lines: list[Any] = []
        self._id = 0

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def read(self) -> Any:
        """The next message."""
        if not self._lines:
            frame = self.socket.recv(timeout=10)
            assert isinstance(frame, str)
            assert all(frame.split("\n")), "a blank line"
            self._lines = [json.loads(line) for line in frame.split("\n")]
        return self._lines.pop(0)

    def say(self, **command: Any) -> Any:
        """One command, and its reply; pushes before it are dropped."""
        self._id += 1
        self.socket.send(json.dumps({"id": self._id} | command))
        while (message := self.read()).get("id") != self._id:
            pass
        return message

    def open(self) -> "Wire":
        assert "connect" in self.say(connect={})
        return self

    def closed(self) -> tuple[int, str]:
        """Read to the end; the close code and reason."""
        with pytest.raises(ConnectionClosed) as raised:
            self._read_to_the_end()
        assert raised.value.rcvd is not None
        return raised.value.rcvd.code, raised.value.rcvd.reason

    def _read_to_the_end(self) -> None:
        while True:
            self.socket.recv(timeout=10)


def test_first_frame_may_hold_connect_and_subscribes(server: Server) -> None:
    """[T] As centrifuge-js sends it; also in a binary frame, and with a newline at the end."""
    with Wire(server) as wire:
        wire.socket.send(
            b'{"connect":{"name":"js"},"id":1}\n{"subscribe":{"channel":"news:a","flag":1},"id":2}\n'
        )
        assert wire.read()["connect"]["ping"] == 25
        assert wire.read()["subscribe"]["recoverable"]


@pytest.mark.parametrize(
    ("offered", "answer"),
    [
        ([], None),
        (["centrifuge-json"], "centrifuge-json"),
        (["x", "centrifuge-json"], "centrifuge-json"),
        (["x"], None),
    ],
)
def test_subprotocol(server: Server, offered: list[str], answer: str | None) -> None:
    with Wire(server, subprotocols=[Subprotocol(name) for name in offered] or None) as wire:
        assert wire.socket.subprotocol == answer
        wire.open()


def test_empty_subprotocol_header_is_none(server: Server) -> None:
    """[T] centrifuge-python sends the header without a value."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        lines = [
            "GET /connection/websocket HTTP/1.1",
            "Host: localhost",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: ",
        ]
        raw.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = raw.recv(4096).lower()
    assert answer.startswith(b"http/1.1 101")
    assert b"sec-websocket-protocol" not in answer


def test_origin_of_another_is_refused(server: Server) -> None:
    with pytest.raises(InvalidStatus) as raised:
        Wire(server, origin="https://evil.example")
    assert raised.value.response.status_code == 403
    with Wire(server, origin=f"http://127.0.0.1:{server.port}") as wire:
        wire.open()


MALFORMED = [
    ("malformed JSON", b'{"id":2', 3501),
    ("empty frame", b"", 3501),
    ("blank line", b'{"id":2,"rpc":{"method":"add","data":[]}}\n\n', 3501),
    ("wrong type", b'{"id":"2"}', 3501),
    ("unknown command", b'{"id":2,"dance":{}}', 3501),
    ("second connect", b'{"id":2,"connect":{}}', 3501),
    ("unsolicited pong", b"{}", 3501),
    ("not UTF-8", b'{"id":2,"rpc":{"method":"\xff"}}', 3501),
    ("too large", b" " * (MAX_FRAME_BYTES + 1), 1009),
]


@pytest.mark.parametrize(("what", "data", "code"), MALFORMED, ids=[row[0] for row in MALFORMED])
def test_malformed_input_closes(server: Server, what: str, data: bytes, code: int) -> None:
    with Wire(server) as wire:
        wire.open()
        wire.socket.send(data)
        got, reason = wire.closed()
        assert got == code
        # [T] With an empty reason, or one that is JSON, centrifuge-js comes back after a terminal code.
        assert reason or code == 1009
        with pytest.raises(ValueError, match=r".+"):
            json.loads(reason)


def test_command_before_connect_closes(server: Server) -> None:
    with Wire(server) as wire:
        wire.socket.send('{"id":1,"subscribe":{"channel":"news:a"}}')
        assert wire.closed()[0] == 3501


def test_large_message_goes_through(server: Server) -> None:
    with Wire(server) as wire:
        wire.open().say(subscribe={"channel": "news:large"})
        assert "publish" in wire.say(publish={"channel": "news:large", "data": "é" * 10_000})


def test_idempotency_key_publishes_once(server: Server) -> None:
    with Wire(server) as wire:
        wire.open()
        kept = wire.say(publish={"channel": "news:once", "data": 1, "idempotency_key": "k"})["publish"]
        wire.say(publish={"channel": "news:once", "data": 2})
        for _ in range(3):
            assert (
                wire.say(publish={"channel": "news:once", "data": 1, "idempotency_key": "k"})["publish"]
                == kept
            )
        page = wire.say(history={"channel": "news:once", "limit": 10})["history"]
        assert (page["epoch"], page["offset"]) == (kept["epoch"], kept["offset"] + 1)


def test_client_pings(server: Server) -> None:
    with Wire(server) as wire:
        assert wire.open().say(ping={}) == {"id": 2, "ping": {}}


def test_text_and_json_strings_are_distinguished(server: Server) -> None:
    with Wire(server) as wire:
        wire.open()
        wire.say(publish={"channel": "news:told-apart", "data": "hello"})
        wire.say(publish={"channel": "news:told-apart", "data": "hello", "encoding": "text"})
        page = wire.say(history={"channel": "news:told-apart", "limit": 10})["history"]["publications"]
        assert [(one["data"], one.get("tags")) for one in page] == [
            ("hello", None),
            ("hello", {"encoding": "text"}),
        ]


def test_bytes_are_published_in_base64(server: Server) -> None:
    with Wire(server) as wire:
        wire.open().say(subscribe={"channel": "news:encoded"})
        wire.socket.send(b'{"id":9,"publish":{"channel":"news:encoded","data":"AP8=","encoding":"base64"}}')
        messages = [wire.read(), wire.read()]
        (push,) = [message["push"] for message in messages if "push" in message]
        assert (push["pub"]["data"], push["pub"]["tags"]) == ("AP8=", {"encoding": "base64"})


def test_publish_with_a_key_does_not_overtake_one_that_was_refused(tmp_path: Path) -> None:
    with serving(tmp_path, APP_RATE="0.001") as server, Wire(server) as wire:
        wire.open()

        def keyed(id: int) -> str:
            return json.dumps(
                {"id": id, "publish": {"channel": "news:order", "data": id, "idempotency_key": f"k{id}"}}
            )

        wire.socket.send("\n".join(map(keyed, range(101, 126))))  # 20 may come at once
        replies = sorted((wire.read() for _ in range(25)), key=lambda reply: int(reply["id"]))
        assert [reply.get("error", {}).get("code", 0) for reply in replies] == [0] * 20 + [111] + [409] * 4
        assert [reply["publish"]["offset"] for reply in replies[:20]] == list(range(1, 21))
        assert all(reply["error"]["temporary"] for reply in replies[20:])


def test_unsubscribe_reason_is_never_empty(server: Server) -> None:
    """[T] centrifuge-python goes deaf without one."""
    with Wire(server) as wire:
        wire.open().say(subscribe={"channel": "news:reason"})
        wire.socket.send(
            json.dumps({"id": 9, "rpc": {"method": "drop", "data": {"channel": "news:reason", "code": 2500}}})
        )
        messages = [wire.read(), wire.read()]
        (push,) = [message["push"] for message in messages if "push" in message]
        assert push["unsubscribe"] == {"code": 2500, "reason": "as you asked"}


def test_plain_and_centrifugal_share_a_channel(server: Server) -> None:
    from heartwire.hub.tokens import make_token
    from tests.integration.centrifugal.sdk.app import SECRET

    url = f"ws://127.0.0.1:{server.port}/channels/news:shared?format=json&token={make_token({'sub': '1'}, SECRET)}"
    with connect(url, compression=None, proxy=None) as plain, Wire(server) as wire:
        plain.recv(timeout=10)  # where it stands
        wire.open().say(subscribe={"channel": "news:shared"})
        plain.send("from plain")
        push = wire.read()["push"]["pub"]
        assert (push["data"], push["offset"]) == ("from plain", 1)
        assert json.loads(plain.recv(timeout=10))["data"] == "from plain"
        wire.say(publish={"channel": "news:shared", "data": {"a": 1}})
        told = json.loads(plain.recv(timeout=10))
        assert (told["data"], told["position"].rpartition(".")[2]) == ({"a": 1}, "2")


def test_closed_socket_leaves_presence_at_once(server: Server) -> None:
    with Wire(server) as stays:
        stays.open().say(subscribe={"channel": "room:leave"})
        with Wire(server) as goes:
            goes.open().say(subscribe={"channel": "room:leave"})
            assert stays.say(presence_stats={"channel": "room:leave"})["presence_stats"]["num_clients"] == 2
        while "leave" not in (push := stays.read()).get("push", {}):
            pass
        assert push["push"]["leave"]["info"]["client"]
        assert stays.say(presence_stats={"channel": "room:leave"})["presence_stats"]["num_clients"] == 1


def test_slow_reader_is_caught_up(server: Server) -> None:
    """Who does not read for a while holds no memory here, and gets all of it, in order, once it reads."""
    size, count = 60_000, 300
    with Wire(server) as slow, Wire(server) as publisher:
        slow.open().say(subscribe={"channel": "news:slow"})
        publisher.open()
        for number in range(count):
            publisher.say(publish={"channel": "news:slow", "data": {"n": number, "pad": "x" * size}})
        offsets = [slow.read()["push"]["pub"]["offset"] for _ in range(count)]
        assert offsets == list(range(1, count + 1))


@pytest.mark.parametrize("kind", ["js", "python"])
def test_sdks_over_asgi(server: Server, kind: str) -> None:
    if kind == "js":
        node_modules()
    with Sdk(kind) as sdk:
        sdk.open(server.url)
        sdk.subscribe("room:asgi")
        sdk.do("publish", channel="room:asgi", data=1)
        sdk.wait("publication")
        sdk.begin("rpc", method="kick", data={"code": 4501})
        assert sdk.wait("disconnected")["code"] == 4501


@pytest.mark.slow
def test_ping_without_a_pong(tmp_path: Path) -> None:
    with serving(tmp_path, APP_PING_S="1") as server, Wire(server) as quiet, Wire(server) as answers:
        quiet.open()
        answers.open()
        assert answers.read() == {}
        answers.socket.send("{}")
        assert quiet.closed() == (3012, "no pong")
        assert answers.read() == {}
        answers.socket.send("{}\n{}")
        assert answers.closed()[0] == 3501


def test_too_fast(tmp_path: Path) -> None:
    with serving(tmp_path, APP_RATE="0.001") as server, Wire(server) as wire:
        wire.open()
        replies = [wire.say(publish={"channel": "news:fast", "data": 1}) for _ in range(21)]
        assert ["error" in reply for reply in replies] == [False] * 20 + [True]
        assert replies[-1]["error"]["code"] == 111
        for _ in range(20):
            wire.socket.send('{"id":99,"publish":{"channel":"news:fast","data":1}}')
        assert wire.closed() == (3013, "too many requests")


def test_server_without_room_is_left_in_peace(server: Server) -> None:
    """What is left of connections that are gone: nothing."""
    for _ in range(20):
        with Wire(server) as wire:
            wire.open().say(subscribe={"channel": "room:gone"})
    with Wire(server) as wire:
        wire.open()
        until(
            lambda: wire.say(presence_stats={"channel": "room:gone"})["presence_stats"]["num_clients"] == 0,
            "all have left",
        )


def test_compression_is_declined(server: Server) -> None:
    """[T] Both SDKs offer it; with it on, Node inflates asynchronously, and one of centrifuge-js' own tests
    is flaky."""
    with Wire(server, compression="deflate") as wire:
        wire.open()
        assert wire.socket.response is not None
        # Over ASGI it is the server's to say.
        assert server.door != "native" or "Sec-WebSocket-Extensions" not in wire.socket.response.headers


def test_publish_hook_sees_messages_of_plain_clients(server: Server) -> None:
    from heartwire.hub.tokens import make_token
    from tests.integration.centrifugal.sdk.app import SECRET

    url = f"ws://127.0.0.1:{server.port}/channels/news:hooked?format=json&token={make_token({'sub': '1'}, SECRET)}"
    with connect(url, compression=None, proxy=None) as plain:
        plain.recv(timeout=10)  # where it stands
        plain.send('"forbidden"')
        assert json.loads(plain.recv(timeout=10))["error"]["code"] == "forbidden"
        plain.send('"fault"')
        assert json.loads(plain.recv(timeout=10))["error"]["code"] == "internal"
        plain.send('"shout"')
        assert json.loads(plain.recv(timeout=10))["data"] == {"shouted": "HELLO"}


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("encoding", ["text", "base64", ""])
def test_limit_is_of_the_message_not_of_its_escapes_and_envelope(
    server: Server, encoding: str, over: int
) -> None:
    """A message of just the limit once ended the connection where JSON made its frame longer."""
    size = MAX_MESSAGE_BYTES + over
    if encoding == "base64":
        data = base64.b64encode(bytes(size)).decode()
    else:
        data = "\x01" * size if encoding == "text" else "x" * (size - 2)  # two quotes belong to the message
    from heartwire.hub.tokens import make_token
    from tests.integration.centrifugal.sdk.app import SECRET

    with Wire(server) as wire:
        wire.socket.send(json.dumps({"id": 1, "connect": {"token": make_token({"sub": "1"}, SECRET)}}))
        assert "connect" in wire.read()
        publish = {"channel": f"news:limit-{encoding}-{over}", "data": data, "encoding": encoding}
        wire.socket.send(json.dumps({"id": 2, "publish": publish}))
        reply = wire.read()
        assert ("publish" in reply) == (not over), reply
        if over:
            assert reply["error"]["code"] == 106
            assert f"{size} is over the limit of {MAX_MESSAGE_BYTES}" in reply["error"]["message"]
