"""The Protobuf encoding of the Centrifugal protocol: what is read, what is refused, and that it says what
JSON says.

The other side is the schema of centrifuge-python, so that our field numbers are checked against somebody
else's.
"""

from typing import Any

import centrifuge.protocol.client_pb2 as theirs
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from msgspec import Raw, Struct

from heartwire.dialects.centrifugal import PROTOBUF, Phase, PushFormat, Session, SessionSettings
from heartwire.dialects.centrifugal.codec import Method
from heartwire.dialects.centrifugal.protobuf_codec import connect_command, delimited, emulation_request, split
from heartwire.dialects.centrifugal.types import (
    UINT32,
    ClientInfo,
    Command,
    ConnectRequest,
    ConnectResult,
    DisconnectBody,
    Empty,
    ErrorBody,
    Fault,
    HistoryRequest,
    HistoryResult,
    MessageBody,
    PresenceResult,
    PresenceStatsResult,
    PublishRequest,
    PublishResult,
    RefreshRequest,
    RefreshResult,
    RpcRequest,
    RpcResult,
    SendRequest,
    StreamPosition,
    SubRefreshRequest,
    SubscribeBody,
    SubscribeRequest,
    SubscribeResult,
    UnsubscribeBody,
    UnsubscribeRequest,
)
from heartwire.dialects.centrifugal.values import Post
from heartwire.types import Channel, Member, Publication, Publisher
from tests.unit.dialects.centrifugal.fakes import FakePort

BYTES = b"\x00\xff\n"
TOP = 2**64 - 1


def _said(**command: Any) -> bytes:
    """A command as centrifuge-python writes it."""
    data: bytes = ParseDict(command, theirs.Command()).SerializeToString()
    return delimited(data)


def _heard(data: bytes) -> list[dict[str, Any]]:
    """Messages as centrifuge-python reads them."""
    found = []
    for message in split(data):
        reply = theirs.Reply()
        reply.ParseFromString(message)
        assert not reply.FindInitializationErrors()
        found.append(MessageToDict(reply, preserving_proto_field_name=True))
    return found


COMMANDS: list[tuple[bytes, Command]] = [
    (delimited(b""), Command()),
    (_said(id=UINT32, connect={}), Command(UINT32, connect=ConnectRequest())),
    (
        _said(
            id=1,
            connect={
                "token": "t",
                "data": "AP8K",
                "name": "n",
                "version": "v",
                "headers": {"a": "b"},
                "subs": {"c": {"recover": True, "offset": 5, "epoch": "e"}},
            },
        ),
        Command(
            1,
            connect=ConnectRequest(
                "t",
                Raw(BYTES),
                {"c": SubscribeRequest(recover=True, epoch="e", offset=5)},
                "n",
                "v",
                {"a": "b"},
            ),
        ),
    ),
    (
        _said(
            id=2,
            subscribe={
                "channel": "é",
                "token": "t",
                "recover": True,
                "epoch": "e",
                "offset": str(TOP),
                "data": "AP8K",
                "positioned": True,
                "recoverable": True,
                "join_leave": True,
                "delta": "fossil",
                "tf": {},
                "flag": 3,
            },
        ),
        Command(
            2,
            subscribe=SubscribeRequest(
                "é", "t", True, "e", TOP, Raw(BYTES), True, True, True, "fossil", Raw(b"{}"), 3
            ),
        ),
    ),
    (_said(id=2, subscribe={"channel": "a"}), Command(2, subscribe=SubscribeRequest("a"))),
    (_said(id=3, unsubscribe={"channel": "a"}), Command(3, unsubscribe=UnsubscribeRequest("a"))),
    (
        _said(id=4, publish={"channel": "a", "data": "AP8K"}),
        Command(4, publish=PublishRequest("a", Raw(BYTES))),
    ),
    (_said(id=5, presence={"channel": "a"}), Command(5, presence=UnsubscribeRequest("a"))),
    (_said(id=6, presence_stats={"channel": "a"}), Command(6, presence_stats=UnsubscribeRequest("a"))),
    (_said(id=7, history={"channel": "a", "limit": -1}), Command(7, history=HistoryRequest("a", -1))),
    (
        _said(
            id=8, history={"channel": "a", "limit": 2, "since": {"offset": 1, "epoch": "e"}, "reverse": True}
        ),
        Command(8, history=HistoryRequest("a", 2, StreamPosition(1, "e"), True)),
    ),
    (_said(id=12, ping={}), Command(12, ping=Empty())),
    (_said(id=9, rpc={"method": "m", "data": "AP8K"}), Command(9, rpc=RpcRequest("m", Raw(BYTES)))),
    (_said(send={"data": "AP8K"}), Command(0, send=SendRequest(Raw(BYTES)))),
    (_said(id=10, refresh={"token": "t"}), Command(10, refresh=RefreshRequest("t"))),
    (
        _said(id=11, sub_refresh={"channel": "a", "token": "t"}),
        Command(11, sub_refresh=SubRefreshRequest("a", "t")),
    ),
]


def _plain(value: Any) -> Any:
    """A struct with its payloads as bytes, to be compared."""
    if isinstance(value, Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return bytes(value) if isinstance(value, Raw) else value


@pytest.mark.parametrize(("data", "command"), COMMANDS, ids=range(len(COMMANDS)))
def test_command_is_read(data: bytes, command: Command) -> None:
    (read,) = PROTOBUF.commands(data)
    assert _plain(read) == _plain(command)


def test_frame_of_several_is_read() -> None:
    frame = b"".join(data for data, _ in COMMANDS)
    assert [command.id for command in PROTOBUF.commands(frame)] == [command.id for _, command in COMMANDS]


@pytest.mark.parametrize("data", [data for data, _ in COMMANDS], ids=range(len(COMMANDS)))
def test_command_that_is_cut_anywhere_is_refused(data: bytes) -> None:
    """A frame is a whole message: half a command is not waited for."""
    for size in range(len(data)):
        with pytest.raises(ValueError, match=r".+"):
            list(PROTOBUF.commands(data[:size]))


@pytest.mark.parametrize("data", [data for data, _ in COMMANDS], ids=range(len(COMMANDS)))
@pytest.mark.parametrize("tail", [b"\x80", b"\x05abc", b"\x01\xff", b"\xff\xff\xff\xff\x0f", b"\xff" * 11])
def test_tail_is_refused_after_the_commands_before_it(data: bytes, tail: bytes) -> None:
    commands = PROTOBUF.commands(data + tail)
    next(commands)
    with pytest.raises(ValueError, match=r".+"):
        next(commands)


MALFORMED = [
    ("empty frame", b""),
    ("field number 0", b"\x01\x00"),
    ("inner length beyond the message", b"\x02\x2a\x05"),
    ("channel that is not UTF-8, without an id", delimited(b"\x2a\x03\x0a\x01\xff")),
    ("length of 4 GiB", b"\xff\xff\xff\xff\x0f"),
    ("length without an end", b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"),
    ("JSON", b'{"id":1,"connect":{}}'),
]


@pytest.mark.parametrize("data", [data for _, data in MALFORMED], ids=[what for what, _ in MALFORMED])
def test_malformed_frame_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        list(PROTOBUF.commands(data))


def test_text_that_is_not_utf8_leaves_the_other_commands() -> None:
    """Half a surrogate pair of a browser's text arrives as such bytes, and ended the connection."""
    ping = b"\x04\x08\x06\x5a\x00"
    before, fault, after = PROTOBUF.commands(ping + delimited(b"\x08\x07\x2a\x03\x0a\x01\xff") + ping)
    assert isinstance(fault, Fault)
    assert (before.id, fault.id, after.id) == (6, 7, 6)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, 2097151, 2097152])
def test_length_of_every_width(size: int) -> None:
    message = b"x" * size
    framed = delimited(message)
    assert list(split(framed)) == [message]
    assert list(split(framed * 2)) == [message] * 2


@pytest.mark.parametrize("data", [b"\x02\x0a\x00", b"\x02\x28\x01"])
def test_field_of_another_type_is_one_that_is_not_known(data: bytes) -> None:
    (command,) = PROTOBUF.commands(data)
    assert command == Command()


def test_unknown_fields_are_skipped() -> None:
    (command,) = PROTOBUF.commands(delimited(b"\x08\x07" + b"\xa2\x06\x03abc" + b"\x32\x03\x0a\x01a"))
    assert isinstance(command, Command)
    assert (command.id, command.unsubscribe) == (7, UnsubscribeRequest("a"))


def test_what_is_ours_of_publish() -> None:
    """Their schema skips it; see the row of `RESULTS`."""
    from heartwire.dialects.centrifugal.client_pb2 import Command as Ours
    from heartwire.dialects.centrifugal.client_pb2 import Reply

    said = Ours(id=1, publish={"channel": "a", "data": b"x", "idempotency_key": "k", "round": 7})
    (command,) = PROTOBUF.commands(delimited(said.SerializeToString()))
    assert isinstance(command, Command)
    assert command.publish is not None
    assert PROTOBUF.post(command.publish) == Post(b"x", False, "k", 7)
    (message,) = split(PROTOBUF.reply(1, "publish", PublishResult("e", TOP)))
    assert Reply.FromString(message).publish == Reply(publish={"epoch": "e", "offset": TOP}).publish


def _publication(data: bytes, offset: int = 5, publisher: Publisher | None = None) -> Publication:
    return Publication(Channel("a"), "e", offset, data, False, publisher, 0)


INSIDE = PROTOBUF.raw(PROTOBUF.publication(_publication(BYTES)))
PUB = {"data": "AP8K", "offset": "5"}
INFO = ClientInfo("u", "c", Raw(b"1"), Raw(b"2"))
SUB = SubscribeResult(True, 60, True, "e", (INSIDE, INSIDE), True, 3, True, Raw(b"d"), True)
SUB_TOLD = {
    "expires": True,
    "ttl": 60,
    "recoverable": True,
    "epoch": "e",
    "publications": [PUB, PUB],
    "recovered": True,
    "offset": "3",
    "positioned": True,
    "data": "ZA==",
    "was_recovering": True,
}

RESULTS: list[tuple[Method, Any, dict[str, Any]]] = [
    ("connect", ConnectResult("c", "v"), {"client": "c", "version": "v"}),
    (
        "connect",
        ConnectResult("c", "v", True, 9, Raw(b"d"), {"a": SUB, "b": SubscribeResult()}, 25, True, "s", "n"),
        {
            "client": "c",
            "version": "v",
            "expires": True,
            "ttl": 9,
            "data": "ZA==",
            "subs": {"a": SUB_TOLD, "b": {}},
            "ping": 25,
            "pong": True,
            "session": "s",
            "node": "n",
        },
    ),
    ("subscribe", SUB, SUB_TOLD),
    ("subscribe", SubscribeResult(), {}),
    ("unsubscribe", Empty(), {}),
    ("publish", PublishResult("e", TOP), {}),
    (
        "presence",
        PresenceResult({"c": INFO, "d": ClientInfo("", "d")}),
        {
            "presence": {
                "c": {"user": "u", "client": "c", "conn_info": "MQ==", "chan_info": "Mg=="},
                "d": {"client": "d"},
            }
        },
    ),
    ("presence_stats", PresenceStatsResult(2, 1), {"num_clients": 2, "num_users": 1}),
    ("history", HistoryResult([INSIDE], "e", TOP), {"publications": [PUB], "epoch": "e", "offset": str(TOP)}),
    ("history", HistoryResult([], "e", 0), {"epoch": "e"}),
    ("ping", Empty(), {}),
    ("rpc", RpcResult(), {}),
    ("rpc", RpcResult(Raw(BYTES)), {"data": "AP8K"}),
    ("refresh", RefreshResult(True, 7), {"expires": True, "ttl": 7}),
    ("sub_refresh", RefreshResult(True, 2**40), {"expires": True, "ttl": UINT32}),
]


@pytest.mark.parametrize(("method", "result", "told"), RESULTS)
def test_result_is_there_even_where_it_is_empty(method: Method, result: Any, told: dict[str, Any]) -> None:
    assert _heard(PROTOBUF.reply(7, method, result)) == [{"id": 7, method: told}]


def test_error() -> None:
    assert _heard(PROTOBUF.error(7, ErrorBody(103, "no"))) == [
        {"id": 7, "error": {"code": 103, "message": "no"}}
    ]
    assert _heard(PROTOBUF.error(7, ErrorBody(100, "x", True)))[0]["error"]["temporary"] is True


def test_pushes() -> None:
    pushes = [
        (
            PROTOBUF.push("unsubscribe", "a", UnsubscribeBody(2500, "r")),
            {"unsubscribe": {"code": 2500, "reason": "r"}},
        ),
        (PROTOBUF.push("subscribe", "a", SubscribeBody(True, "e", 1, True, Raw(b"d"))), None),
        (
            PROTOBUF.membership("a", "join", INFO),
            {"join": {"info": {"user": "u", "client": "c", "conn_info": "MQ==", "chan_info": "Mg=="}}},
        ),
        (PROTOBUF.membership("a", "leave", ClientInfo("", "c")), {"leave": {"info": {"client": "c"}}}),
    ]
    subscribe = {"recoverable": True, "epoch": "e", "offset": "1", "positioned": True, "data": "ZA=="}
    for message, told in pushes:
        assert _heard(message) == [{"push": {"channel": "a", **(told or {"subscribe": subscribe})}}]
    told = {"disconnect": {"code": 3500, "reason": "r"}}
    assert _heard(PROTOBUF.push("disconnect", "", DisconnectBody(3500, "r"))) == [{"push": told}]
    assert _heard(PROTOBUF.push("message", "", MessageBody(Raw(b"d")))) == [
        {"push": {"message": {"data": "ZA=="}}}
    ]
    assert _heard(PROTOBUF.push("refresh", "", RefreshResult(True, 1))) == [
        {"push": {"refresh": {"expires": True, "ttl": 1}}}
    ]
    assert _heard(PROTOBUF.ping) == [{}]


@pytest.mark.parametrize("size", [0, 1, 120, 127, 128, 20_000])
def test_publications_that_are_put_together_by_hand_read_well(size: int) -> None:
    publisher = Publisher("42", "c", b'{"name":"Al"}')
    insides = [PROTOBUF.publication(_publication(b"\xff" * size, offset, publisher)) for offset in (1, TOP)]
    frame = PROTOBUF.join(PROTOBUF.publications("é" * (size % 100 + 1), insides))
    one, other = split(frame)
    for message, offset in ((one, 1), (other, TOP)):
        reply = theirs.Reply.FromString(message)
        assert (reply.push.channel, reply.push.pub.offset) == ("é" * (size % 100 + 1), offset)
        assert reply.push.pub.data == b"\xff" * size
        assert (reply.push.pub.info.user, reply.push.pub.info.conn_info) == ("42", b'{"name":"Al"}')


def test_format_encodes_once_and_joins_into_one_frame() -> None:
    format = PushFormat(PROTOBUF, PROTOBUF.join)
    last = _publication(BYTES)
    frames = [format.encode(last)] * 2
    assert [push["push"]["pub"] for push in _heard(format.join(frames, last))] == [PUB, PUB]
    assert (
        _heard(format.membership(Channel("a"), "leave", Member("c")))[0]["push"]["leave"]["info"]["client"]
        == "c"
    )


@pytest.mark.parametrize(
    ("payload", "value"),
    [(b"", None), (b'{"a":1}', {"a": 1}), (b"hello", b"hello"), (BYTES, BYTES), (b'"\xff"', b'"\xff"')],
)
def test_value_is_parsed_where_it_is_json(payload: bytes, value: Any) -> None:
    assert PROTOBUF.value(payload) == value


def test_payload_is_any_bytes() -> None:
    assert bytes(PROTOBUF.payload(BYTES)) == BYTES
    assert PROTOBUF.info(Member("c", "u", None, BYTES)).conn_info is None


def test_emulation_request() -> None:
    said = theirs.EmulationRequest(node="n", session="s", data=BYTES).SerializeToString()
    assert emulation_request(said) == ("s", "n", BYTES)
    assert emulation_request(b"") == ("", "", b"")
    for size in range(1, len(said)):
        if size not in (3, 6):  # ends of fields
            with pytest.raises(ValueError, match=r".+"):
                emulation_request(said[:size])


class _Outlet:
    """Keeps what was written."""

    paused = heard = takes = False

    def __init__(self) -> None:
        self.data = b""
        self.closed: tuple[int, str] | None = None

    def write(self, messages: list[bytes]) -> bool:
        self.data += PROTOBUF.join(messages)
        return True

    def announce(self, channel: Channel, kind: Any, member: Member, made: dict[Any, Any]) -> None:
        raise NotImplementedError

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def give_up(self) -> None:
        raise NotImplementedError

    def look(self) -> None:
        raise NotImplementedError

    async def drained(self) -> None:
        raise NotImplementedError


def _session() -> tuple[Session, _Outlet]:
    outlet = _Outlet()
    return Session(FakePort(), PROTOBUF, outlet, SessionSettings("v"), client="c", now=0), outlet


def test_session_speaks_it() -> None:
    session, outlet = _session()
    frame = connect_command(1) + _said(id=2, subscribe={"channel": "a", "recover": True})
    frame += _said(id=3, publish={"channel": "a", "data": "AP8K"}) + _said(id=4, publish={"channel": "a"})
    assert session.receive(frame, 0) is None
    connected, subscribed, *rest = _heard(outlet.data)
    assert connected["connect"]["client"] == "c"
    assert subscribed["subscribe"]["recovered"]
    assert sorted(message.get("id", 0) for message in rest) == [0, 0, 3, 4]
    assert [message["push"]["pub"] for message in rest if "push" in message] == [
        {"data": "AP8K", "offset": "1"},
        {"offset": "2"},
    ]


def test_pong_is_the_empty_message() -> None:
    session, outlet = _session()
    session.receive(connect_command(1), 0)
    session.asked = True
    session.heard = False
    session.ping()
    assert outlet.data.endswith(b"\0")
    session.receive(b"\0", 1)
    assert session.heard
    session.receive(b"\0", 1)
    assert outlet.closed is not None
    assert outlet.closed[0] == 3501


def test_malformed_frame_ends_the_session() -> None:
    session, outlet = _session()
    session.receive(connect_command(1) + b"\x05", 0)
    assert session.phase is Phase.CLOSED
    assert outlet.closed is not None
    assert outlet.closed[0] == 3501
