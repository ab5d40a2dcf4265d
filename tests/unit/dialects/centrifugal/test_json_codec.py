"""The JSON encoding of the Centrifugal protocol: what is read, what is refused, how data is carried."""

import base64
import json
from typing import Any

import msgspec
import pytest

from heartwire.dialects.centrifugal import JSON, PROTOBUF, Codec, PushFormat
from heartwire.dialects.centrifugal.types import (
    ClientInfo,
    Command,
    Empty,
    ErrorBody,
    Fault,
    PresenceStatsResult,
    SubscribeResult,
)
from heartwire.errors import Refused
from heartwire.types import Channel, Member, Position, Publication, Publisher

COMMANDS: list[tuple[bytes, dict[str, Any]]] = [
    (b"{}", {"id": 0}),
    (b'{"id":4294967295,"connect":{}}', {"id": 4294967295}),
    (b'{"connect":{"name":"js"},"id":1}', {"id": 1}),
    (
        (
            b' {"id": 2 , "unknown": [1, {"a": null}], "publish": {"channel": "a", "data": {"x": [1, 2]},'
            b' "new": 1}} '
        ),
        {"id": 2},
    ),
    (
        b'{"id":3,"subscribe":{"channel":"a","recover":true,"offset":18446744073709551615,"epoch":"e","flag":3}}',
        {"id": 3},
    ),
]


@pytest.mark.parametrize(("line", "fields"), COMMANDS)
def test_command_is_read(line: bytes, fields: dict[str, Any]) -> None:
    (command,) = JSON.commands(line)
    assert all(getattr(command, name) == value for name, value in fields.items())


def test_frame_is_read_line_by_line() -> None:
    lines = [line for line, _ in COMMANDS]
    assert [command.id for command in JSON.commands(b"\n".join(lines))] == [0, 4294967295, 1, 2, 3]
    assert [command.id for command in JSON.commands(b"\n".join(lines) + b"\n")] == [0, 4294967295, 1, 2, 3]


@pytest.mark.parametrize(("line", "fields"), COMMANDS)
def test_command_that_is_cut_anywhere_is_refused(line: bytes, fields: dict[str, Any]) -> None:
    """A frame is a whole message: half a command is not waited for."""
    stripped = line.strip()
    for size in range(len(stripped)):
        with pytest.raises(ValueError, match=r".+"):
            list(JSON.commands(stripped[:size]))


@pytest.mark.parametrize("tail", [b"x", b"{}", b",", b"\n\n", b"\nx", b"\0"])
def test_tail_is_refused_after_the_commands_before_it(tail: bytes) -> None:
    commands = iter(JSON.commands(b'{"id":1,"connect":{}}\n{"id":2,"rpc":{}}' + tail))
    command = next(commands)
    assert isinstance(command, Command)
    assert command.id == 1
    with pytest.raises(ValueError, match=r".+"):
        list(commands)


MALFORMED = [
    b"",
    b"\n",
    b"\n{}",
    b"{}\n\n{}",
    b"hello",
    b"[]",
    b"null",
    b'"text"',
    b"1",
    b'{"id":-1,"rpc":{}}',
    b'{"id":4294967296,"rpc":{}}',
    b'{"id":"1","rpc":{}}',
    b'{"id":1.5,"rpc":{}}',
    b'{"id":1,"publish":{"channel":"a","data":{"x":}}}',
    b'{"id":1,"publish":{"channel":"a","data":"\x01"}}',
    b'{"id":1,"publish":{"channel":"a","data":"\xff"}}',
    b'{"id":1,"publish":{"channel":"a","data":' + b"[" * 5000 + b"}}",
    '{"id":1,"rpc":{}}'.encode("utf-16"),
]


@pytest.mark.parametrize("data", MALFORMED)
def test_malformed_frame_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        list(JSON.commands(data))


@pytest.mark.parametrize(
    "data",
    [
        b'{"id":7,"subscribe":"a"}',
        b'{"id":7,"subscribe":{"channel":1}}',
        b'{"id":7,"subscribe":{"channel":"a","recover":1}}',
        b'{"id":7,"subscribe":{"channel":"a","offset":-1}}',
        b'{"id":7,"subscribe":{"channel":"\\ud83d"}}',
        b'{"id":7,"connect":{"subs":[]}}',
    ],
)
def test_wrong_arguments_of_one_command_leave_the_others(data: bytes) -> None:
    """They ended the connection, with everything else that it carried."""
    before, fault, after = JSON.commands(b'{"id":6,"ping":{}}\n' + data + b'\n{"id":8,"ping":{}}')
    assert (before.id, fault.id, after.id) == (6, 7, 8)
    assert isinstance(fault, Fault)
    assert fault.why


def test_payload_is_kept_as_it_came() -> None:
    (command,) = JSON.commands(b'{"id":1,"publish":{"channel":"a","data": {"b" : 1.10, "a":"\\u00e9"} }}')
    assert isinstance(command, Command)
    assert command.publish is not None
    assert bytes(command.publish.data) == b'{"b" : 1.10, "a":"\\u00e9"}'


def test_zero_values_are_left_out_but_for_those_that_are_always_there() -> None:
    assert JSON.reply(7, "unsubscribe", Empty()) == b'{"id":7,"unsubscribe":{}}'
    assert JSON.reply(7, "subscribe", SubscribeResult()) == b'{"id":7,"subscribe":{}}'
    assert (
        JSON.reply(7, "presence_stats", PresenceStatsResult(0, 0))
        == b'{"id":7,"presence_stats":{"num_clients":0,"num_users":0}}'
    )
    assert (
        JSON.error(7, ErrorBody(103, "permission denied"))
        == b'{"id":7,"error":{"code":103,"message":"permission denied"}}'
    )
    assert json.loads(JSON.error(8, ErrorBody(100, "x", True)))["error"]["temporary"] is True
    join = b'{"push":{"channel":"a","join":{"info":{"user":"","client":"c"}}}}'
    assert JSON.membership("a", "join", ClientInfo("", "c")) == join


def _publication(data: bytes, *, is_text: bool, publisher: Publisher | None = None) -> Publication:
    return Publication(Channel("a"), "e", 5, data, is_text, publisher, 0)


TEXT = {"encoding": "text"}

CARRIED: list[tuple[bytes, bool, Any, Any]] = [
    (b'{"a": 1}', True, {"a": 1}, None),
    (b'"text"', True, "text", None),
    (b"42", True, 42, None),
    (b"null", True, None, None),
    (b'{\n "a":\r\n [1,\n2]}\n', True, {"a": [1, 2]}, None),
    (b"hello", True, "hello", TEXT),
    (b'"hello"', True, "hello", None),
    (b"two\nlines", True, "two\nlines", TEXT),
    (b"", True, "", TEXT),
    (b"12 monkeys", True, "12 monkeys", TEXT),
    ("é\u2028".encode(), True, "é\u2028", TEXT),
    (b"[" * 3000, True, "[" * 3000, TEXT),
    (b'{"a":1}', False, {"a": 1}, None),
    (b"\x00\xff", False, base64.b64encode(b"\x00\xff").decode(), {"encoding": "base64"}),
    (b'"\xff"', False, base64.b64encode(b'"\xff"').decode(), {"encoding": "base64"}),
    (b"hello", False, base64.b64encode(b"hello").decode(), {"encoding": "base64"}),
    (b"", False, "", {"encoding": "base64"}),
]


@pytest.mark.parametrize(("data", "is_text", "value", "tags"), CARRIED)
def test_data_is_carried_on_one_line(data: bytes, is_text: bool, value: Any, tags: Any) -> None:
    inside = JSON.publication(_publication(data, is_text=is_text))
    assert b"\n" not in inside
    told = json.loads(inside)
    assert told["data"] == value
    assert told.get("tags") == tags
    assert told["offset"] == 5


def test_publication_names_its_publisher() -> None:
    inside = JSON.publication(
        _publication(b"1", is_text=True, publisher=Publisher("42", "c", b'{"name":\n"Al"}'))
    )
    assert json.loads(inside)["info"] == {"user": "42", "client": "c", "conn_info": {"name": "Al"}}
    inside = JSON.publication(_publication(b"1", is_text=True, publisher=Publisher("", "c")))
    assert json.loads(inside)["info"] == {"user": "", "client": "c"}


def test_info_that_is_not_json_is_a_string() -> None:
    info = JSON.info(Member("c", "u", b"plain words", b'{"a":1}'))
    assert json.loads(msgspec.json.encode(info)) == {
        "user": "u",
        "client": "c",
        "conn_info": "plain words",
        "chan_info": {"a": 1},
    }


def test_pushes_are_the_publications_in_their_channel() -> None:
    insides = [JSON.publication(_publication(b"%d" % number, is_text=True)) for number in range(3)]
    joined = JSON.join(JSON.publications('a"b', insides))
    told = [json.loads(line) for line in joined.split(b"\n")]
    assert [push["push"]["pub"]["data"] for push in told] == [0, 1, 2]
    assert {push["push"]["channel"] for push in told} == {'a"b'}


def test_format_encodes_once_and_joins_into_one_frame() -> None:
    format = PushFormat(JSON, JSON.join)
    other = PushFormat(JSON, tuple)
    assert format.encode == other.encode  # so that the core encodes a publication once for both
    last = _publication(b"1", is_text=True)
    frames = [format.encode(last)] * 2
    assert len(format.join(frames, last).split(b"\n")) == 2
    assert len(other.join(frames, last)) == 2
    assert (
        json.loads(format.membership(Channel("a"), "leave", Member("c")))["push"]["leave"]["info"]["client"]
        == "c"
    )
    assert format.joined(Channel("a"), Position("e", 5), recovered=True) is None  # type: ignore[func-returns-value]


def test_value_is_parsed() -> None:
    assert JSON.value(b'{"a":1}') == {"a": 1}
    assert JSON.value(b"") is None


@pytest.mark.parametrize("payload", [b"9" * 5000, b"[" * 3000 + b"]" * 3000])
@pytest.mark.parametrize("codec", [JSON, PROTOBUF], ids=lambda codec: codec.name)
def test_value_that_python_has_not_is_refused(codec: Codec, payload: bytes) -> None:
    """It ended as a fault of the server, with a traceback in its log."""
    if codec is PROTOBUF and payload[:1] == b"[":
        assert codec.value(payload) == payload  # too deep to be known as JSON: bytes
        return
    with pytest.raises(Refused, match=r"^data: ") as refused:
        codec.value(payload)
    assert refused.value.code.name == "bad_request"


def test_commands_are_typed() -> None:
    (command,) = JSON.commands(b'{"id":1,"send":{"data":1}}')
    assert isinstance(command, Command)
    assert command.send is not None


def test_payload_that_is_not_text_is_base64() -> None:
    assert bytes(JSON.payload(b"\xff")) == b'"/w=="'
