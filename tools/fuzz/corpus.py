"""What is valid: requests, frames' contents and commands of each dialect."""

import base64
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import jwt

from heartwire.dialects.centrifugal import client_pb2 as pb
from heartwire.dialects.centrifugal.protobuf_codec import delimited
from tools.fuzz.target import API_KEY, TOKEN_KEY

__all__ = [
    "API_CALLS",
    "CHANNELS",
    "KEY",
    "NODE",
    "PLAIN_MESSAGES",
    "SESSION",
    "SOCKETS",
    "commands",
    "emulation",
    "handshake",
    "plain_requests",
    "request",
    "to_protobuf",
]

KEY: Final = b"x3JJHMbDL1EzLkh9GBhXDw=="
SESSION: Final = b"SESSIONSESSIONSESSIONSESSIONSESS"
NODE: Final = b"NODENODE"
"""Stand for those of the stream that the batch has opened; as long as these are."""

TOKEN: Final = jwt.encode({"sub": "42", "exp": 4_000_000_000}, TOKEN_KEY, "HS256")
CHANNELS: Final = ("a", "b", "%C3%BC", "a%2Fb", "joins:1", "cache:1", "closed:1")
_VECTORS: Final = Path(__file__).parents[2] / "tests" / "vectors"

JSON: Final = "application/json"
PROTOBUF: Final = "application/octet-stream"


def request(method: str, target: str, body: bytes | None = None, /, **headers: str) -> bytes:
    """A request; header names with ``_`` for ``-``. A body has its length, unless it is sent in chunks."""
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
    if body is not None and "Transfer_Encoding" not in headers:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def plain_requests() -> list[bytes]:
    """Requests to all addresses of the plain dialect, and to those that belong to none."""
    page = {"Origin": "https://app.example"}
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    made = [
        request("GET", f"/channels/{channel}{query}")
        for channel in CHANNELS
        for query in ("", "?since=earliest", "?since=-&wait=0.02", "?wait=0.02&client=me", "/presence")
    ]
    made += [
        request("GET", "/channels?channel=a&channel=b&since=earliest&token=" + TOKEN),
        request("GET", "/channels?channel=a&channel=b&wait=0.02", If_None_Match='"x.1~y.2", W/"z"'),
        request("GET", "/channels/a", Accept="text/event-stream", **bearer),
        request("GET", "/channels/a?format=json&since=earliest", Accept="text/event-stream"),
        request("GET", "/channels?channel=a&channel=b", Accept="text/event-stream", Last_Event_ID="x.1~-"),
        request("HEAD", "/channels/a", Accept="text/event-stream"),
        request("HEAD", "/channels/a?wait=20", **bearer),
        request("OPTIONS", "/channels/a", Access_Control_Request_Method="POST", **page),
        request("POST", "/channels/a", b"hello", Content_Type="text/plain"),
        request(
            "POST", "/channels/a", b'{"a":[1,2.5e3,"x"]}', Content_Type="application/json; charset=utf-8"
        ),
        request("POST", "/channels/b", b"\x00\xff\x80", Content_Type=PROTOBUF, Idempotency_Key="k1"),
        request("POST", "/channels/b", b"spam", **page, **bearer),
        request("POST", "/channels/a", b"5\r\nhello\r\n0\r\n\r\n", Transfer_Encoding="chunked"),
        request(
            "POST", "/channels/a", b"3;x=y\r\nabc\r\n0\r\nTrailer: x\r\n\r\n", Transfer_Encoding="chunked"
        ),
        request("POST", "/channels/a", b"hi", Expect="100-continue"),
        request("POST", "/channels/a", b"hi", Content_Encoding="gzip"),
        request("POST", "/channels/a", b"x" * 17_000),
        request("PUT", "/channels/a", b"hi"),
        request("GET", "/health"),
        request("GET", "/", **page),
        request("GET", "/heartwire.js", If_None_Match='"x"', Accept_Encoding="gzip"),
        request("GET", "/heartwire.js", Range="bytes=0-99,200-300"),
        request("GET", "/demo/../../etc/passwd"),
        request("GET", "http://localhost/channels/a?since=earliest"),
        handshake("/connection/websocket", Sec_WebSocket_Version="12"),
    ]
    return made


def handshake(path: str, **headers: str) -> bytes:
    """An opening handshake."""
    given = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Key": KEY.decode()}
    return request("GET", path, **(given | {"Sec_WebSocket_Version": "13"} | headers))


SOCKETS: Final = (
    "/",
    "/channels/a",
    "/channels/a?format=json&since=earliest",
    "/channels/%C3%BC?heartbeat=ping&echo=0&format=json",
    "/channels?channel=a&channel=b",
    "/channels/closed:1?format=json",
    f"/channels/a?token={TOKEN}",
)
PLAIN_MESSAGES: Final = (
    b"hello",
    b"ping",
    "sch\u00f6n \U0001f600".encode(),
    b'{"channel":"a","data":{"x":1}}',
    b'{"channel":"b","data":"AAEC","encoding":"base64"}',
    b"",
    b"spam",
    b"x" * 300,
)


@cache
def commands() -> list[dict[str, Any]]:
    """Commands of the Centrifugal dialect without ids: one of each kind, and what our clients send."""
    mine: list[dict[str, Any]] = [
        {"connect": {}},
        {
            "connect": {
                "token": TOKEN,
                "name": "fuzz",
                "version": "1",
                "data": {"x": [1]},
                "headers": {"a": "b"},
            }
        },
        {"connect": {"subs": {"a": {"recover": True, "epoch": "x", "offset": 3}}}},
        {"subscribe": {"channel": "a"}},
        {"subscribe": {"channel": "b", "recover": True, "offset": 1, "epoch": "x", "from_oldest": True}},
        {"subscribe": {"channel": "joins:1", "positioned": True, "recoverable": True, "join_leave": True}},
        {"subscribe": {"channel": "cache:1", "token": TOKEN, "data": {"y": 1}, "delta": "fossil", "type": 1}},
        {"unsubscribe": {"channel": "a"}},
        {"publish": {"channel": "a", "data": {"text": "hi"}, "idempotency_key": "k2", "round": 1}},
        {"publish": {"channel": "b", "data": "AAEC", "encoding": "base64"}},
        {"publish": {"channel": "b", "data": "spam", "encoding": "text", "type": 2, "key": "x"}},
        {"presence": {"channel": "a"}},
        {"presence_stats": {"channel": "a"}},
        {"history": {"channel": "a", "limit": -1, "since": {"offset": 1, "epoch": "x"}, "reverse": True}},
        {"ping": {}},
        {"rpc": {"method": "echo", "data": {"x": 1}}},
        {"send": {"data": "hi"}},
        {"refresh": {"token": TOKEN}},
        {"sub_refresh": {"channel": "a", "token": TOKEN}},
        {},
    ]
    known = {json.dumps(command) for command in mine}
    return mine + [command for command in _of_vectors() if json.dumps(command) not in known]


def _of_vectors() -> Iterator[dict[str, Any]]:
    """The commands that the client's scenarios send, each once."""
    seen = set()
    for path in sorted(_VECTORS.glob("*.json")):
        for command in _commands_in(json.loads(path.read_text("utf-8"))):
            text = json.dumps(command)
            if text not in seen:
                seen.add(text)
                yield command


def _commands_in(value: Any) -> Iterator[dict[str, Any]]:
    match value:
        case ["Open" | "Send", *_, list(sent)]:
            yield from (
                {key: one[key] for key in one if key != "id"} for one in sent if isinstance(one, dict)
            )
        case list():
            for item in value:
                yield from _commands_in(item)
        case dict():
            for item in value.values():
                yield from _commands_in(item)


def to_protobuf(id: int, command: dict[str, Any]) -> bytes:
    """A command, after its length. Fields that Protobuf does not have are left out."""
    message = pb.Command(id=id)
    for name, value in command.items():
        _fill(message, name, value)
    return delimited(message.SerializeToString())


def _fill(message: Any, name: str, value: Any) -> None:
    field = message.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        return
    if field.type == field.TYPE_BYTES:
        setattr(message, name, json.dumps(value).encode())
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        for key, item in value.items():
            if isinstance(item, str):
                getattr(message, name)[key] = item
            else:
                _fill_all(getattr(message, name)[key], item)
    elif field.message_type is not None:
        getattr(message, name).SetInParent()
        _fill_all(getattr(message, name), value)
    else:
        setattr(message, name, value)


def _fill_all(message: Any, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        _fill(message, name, value)


def emulation(data: bytes, *, is_protobuf: bool) -> bytes:
    """The body of a request that carries commands of the batch's stream."""
    if is_protobuf:
        made = pb.EmulationRequest(session=SESSION.decode(), node=NODE.decode(), data=data)
        return bytes(made.SerializeToString())
    given = {"session": SESSION.decode(), "node": NODE.decode(), "data": data.decode()}
    return json.dumps(given, ensure_ascii=False).encode()


_DEEP: Final = base64.b64encode(b"[" * 3000).decode()
API_CALLS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("publish", {"channel": "a", "data": {"text": "hi"}, "idempotency_key": "k3"}),
    ("publish", {"channel": "a", "b64data": "AAEC", "version": 7, "version_epoch": "v"}),
    ("publish", {"channel": "a", "data": 1, "skip_history": True, "tags": {"a": "b"}}),
    ("broadcast", {"channels": ["a", "b"], "data": [1, None, "x"]}),
    ("history", {"channel": "a", "limit": 10, "since": {"offset": 1, "epoch": "x"}, "reverse": True}),
    ("history", {"channel": "b", "limit": -1}),
    ("history_remove", {"channel": "a"}),
    ("presence", {"channel": "a"}),
    ("presence_stats", {"channel": "a"}),
    ("channels", {"pattern": "[a-z]*?"}),
    ("info", {}),
    ("subscribe", {"user": "", "channel": "a", "info": {"x": 1}, "data": 1, "expire_at": 4_000_000_000}),
    ("subscribe", {"user": "42", "channel": "a", "override": {"presence": {"value": False}}}),
    ("subscribe", {"user": "42", "channel": "b", "recover_since": {"offset": 1, "epoch": "x"}}),
    ("subscribe", {"user": "42", "channel": "b", "b64info": "eyJ4IjoxfQ==", "b64data": _DEEP}),
    ("unsubscribe", {"user": "", "channel": "a", "client": "x", "session": SESSION.decode()}),
    ("disconnect", {"user": "42", "whitelist": ["x"], "disconnect": {"code": 4000, "reason": "bye"}}),
    ("disconnect", {"user": "", "session": SESSION.decode()}),
    ("refresh", {"user": "42", "expire_at": 4_000_000_000}),
    ("refresh", {"user": "", "expired": True, "client": "x"}),
    ("batch", {"commands": [{"publish": {"channel": "a", "data": 1}}, {"info": {}}], "parallel": True}),
)
"""Methods of the HTTP API, with their requests."""

API_HEADERS: Final = {"X_API_Key": API_KEY, "Content_Type": JSON}
