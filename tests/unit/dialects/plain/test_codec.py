"""Encoding of the plain dialect: the JSON rule, pages, refusals; and messages on sockets of several channels."""

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartwire.channels import to_channel
from heartwire.dialects.plain.codec import (
    data_json,
    error_json,
    joined_json,
    members_json,
    page_json,
    parse_command,
    position_json,
    publication_json,
    since_json,
)
from heartwire.errors import Refused
from heartwire.messages import Body
from heartwire.types import Channel, Member, Position, Publication, Publisher

A = Channel("a")


def publication(data: bytes, *, is_text: bool = True, publisher: Publisher | None = None) -> Publication:
    return Publication(A, "ep", 7, data, is_text, publisher, 1_700_000_000_000)


def not_json(constant: str) -> Any:
    raise ValueError(constant)


# -- the rule ------------------------------------------------------------------------------------------------


JSON_TEXTS = r"""{"a":[1,2]} | [] | "x" | 0 | -1.5e+3 | true | false | null | 1e999 | "\u00e9\n" | {"a":1,"a":2}
    | 12345678901234567890"""
OTHER_TEXTS = r"""hello | { | [1,] | {"a":1,} | {"a" 1} | {'a':1} | 01 | 1. | .5 | +1 | - | 1e | 0x1 | NaN | Infinity
    | -Infinity | tr | nul | True | 1 2 | [1 2] | []] | "a | "\x" | "\u12" | é | 💬"""


def texts(listed: str, *others: str) -> list[str]:
    return [text.strip() for text in listed.split("|")] + list(others)


@pytest.mark.parametrize("text", texts(JSON_TEXTS, ' \t\r\n{"a": 1} \n', '"é\u2028"', "[" * 100 + "]" * 100))
def test_text_that_is_json_is_carried_as_that_json(text: str) -> None:
    assert data_json(text.encode(), True) == b'"data":' + text.strip(" \t\r\n").encode()


@pytest.mark.parametrize(
    "text", texts(OTHER_TEXTS, "", " ", '"a\nb"', '"\0"', "\ufeff1", "\x0b1", "1\x0c", "\U0010ffff")
)
def test_text_that_is_not_json_is_carried_as_a_string(text: str) -> None:
    written = data_json(text.encode(), True)
    assert written.startswith(b'"data":"')
    assert json.loads(b"{" + written + b"}") == {"data": text}


def test_text_that_nests_too_deep_is_carried_as_a_string() -> None:
    text = "[" * 100_000 + "]" * 100_000
    assert json.loads(b"{" + data_json(text.encode(), True) + b"}") == {"data": text}


@pytest.mark.parametrize("data", [b"", b"\0\xff", b"[1]", bytes(range(256))])
def test_bytes_are_carried_as_base64_and_marked(data: bytes) -> None:
    told = json.loads(b"{" + data_json(data, False) + b"}")
    assert told == {"data": base64.b64encode(data).decode(), "encoding": "base64"}


@given(
    st.text()
    | st.text('{}[]",:0123456789.eE+- \\truefalsn\n"')
    | st.from_regex(r"[\[{\"\-0-9tfn][\x20-\x7e]*")
)
def test_any_text_is_written_as_json(text: str) -> None:
    told = json.loads(b"{" + data_json(text.encode(), True) + b"}", parse_constant=not_json)
    assert list(told) == ["data"]
    try:
        value = json.loads(text, parse_constant=not_json)
    except ValueError:
        value = text
    # A lone surrogate escape is grammar, but no text: it is carried as the string it came as.
    assert told["data"] in (value, text)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(JSON, st.booleans())
def test_any_json_value_arrives_as_itself(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert json.loads(b"{" + data_json(text.encode(), True) + b"}") == {"data": json.loads(text)}


# -- what is written -----------------------------------------------------------------------------------------


def test_publication_has_its_position_its_data_and_what_else_there_is() -> None:
    assert publication_json(publication(b"hi")) == b'{"position":"ep.7","data":"hi"}'
    assert (
        publication_json(publication(b"\xff", is_text=False))
        == b'{"position":"ep.7","data":"/w==","encoding":"base64"}'
    )
    ann = Publisher("ann", "c-1")
    assert (
        publication_json(publication(b"[]", publisher=ann), with_channel=True)
        == b'{"position":"ep.7","channel":"a","data":[],"publisher":{"user":"ann","client":"c-1"}}'
    )
    bob = Publisher('b"ob', "", b'{"age":7}')
    assert json.loads(publication_json(publication(b"", publisher=bob))) == {
        "position": "ep.7",
        "data": "",
        "publisher": {"user": 'b"ob', "client": "", "info": {"age": 7}},
    }


def test_page_lists_publications_and_where_they_end() -> None:
    items = [publication_json(publication(b"1")), publication_json(publication(b"x"))]
    assert (
        page_json(items, "ep.7", recovered=True)
        == b'{"publications":[{"position":"ep.7","data":1},{"position":"ep.7","data":"x"}],"position":"ep.7","recovered":true}'
    )
    assert (
        page_json([], "ep.7~-", recovered=False)
        == b'{"publications":[],"position":"ep.7~-","recovered":false}'
    )


def test_small_notices() -> None:
    assert joined_json(None, Position("ep", 7), recovered=True) == b'{"position":"ep.7","recovered":true}'
    assert (
        joined_json(A, Position("ep", 7), recovered=False)
        == b'{"position":"ep.7","recovered":false,"channel":"a"}'
    )
    assert position_json("ep.7~-") == b'{"position":"ep.7~-"}'
    assert since_json("ep.7~ep.8") == b'{"since":"ep.7~ep.8","recovered":true}'


def test_members_are_listed_in_the_order_of_their_clients() -> None:
    members = [Member("c-2", "bob", b"[1]"), Member("c-1")]
    assert (
        members_json(members)
        == b'{"presence":[{"client":"c-1","user":""},{"client":"c-2","user":"bob","info":[1]}]}'
    )
    assert members_json([]) == b'{"presence":[]}'


def test_refusal_has_its_code_and_whether_to_retry() -> None:
    assert (
        error_json("slow", 'a "b"', retry=False)
        == b'{"error":{"code":"slow","message":"a \\"b\\"","retry":false}}'
    )
    assert json.loads(error_json("x", "y", retry=True, after_s=1.5))["error"]["retry_after_s"] == 1.5


# -- commands ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "channel", "body"),
    [
        (b'{"channel":"a","data":"hi"}', "a", Body(True, b"hi")),
        (b'{"data":"hi","channel":"a","later":1}', "a", Body(True, b"hi")),
        (b'{"channel":"\\u00e9:1","data":"\\u00e9\\n"}', "é:1", Body(True, "é\n".encode())),
        (b'{"channel":"a","data":{"b": [1, 2]}}', "a", Body(True, b'{"b": [1, 2]}')),
        (b'{"channel":"a","data":null}', "a", Body(True, b"null")),
        (b'{"channel":"a","data": 5 }', "a", Body(True, b"5")),
        (b'{"channel":"a","data":"","encoding":null}', "a", Body(True, b"")),
        (b'{"channel":"a","data":"/w==","encoding":"base64"}', "a", Body(False, b"\xff")),
        (b' {"channel":"a","data":"","encoding":"base64"}\n', "a", Body(False, b"")),
    ],
)
def test_command_is_a_channel_and_data(command: bytes, channel: str, body: Body) -> None:
    assert parse_command(command) == (channel, body)


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        (b"", "bad_request", 'expected {"channel":"NAME","data":…}: '),
        (b"hello", "bad_request", 'expected {"channel":"NAME","data":…}: '),
        (b"[]", "bad_request", 'expected {"channel":"NAME","data":…}: '),
        (b'{"channel":"a"}', "bad_request", 'expected {"channel":"NAME","data":…}: '),
        (b'{"data":"a"}', "bad_request", 'expected {"channel":"NAME","data":…}: '),
        (b'{"channel":5,"data":"a"}', "bad_request", 'expected {"channel":"NAME","data":…}: '),
        (b'{"channel":"a","data":01}', "bad_request", 'expected {"channel":"NAME","data":…}: '),
        (b'{"channel":"a","data":"\\ud800"}', "bad_request", 'expected {"channel":"NAME","data":…}: '),
        (b'{"channel":"a","data":"b"} x', "bad_request", 'expected {"channel":"NAME","data":…}: '),
        (b'{"channel":"a","data":' + b"[" * 100_000, "bad_request", 'expected {"channel":"NAME","data":…}: '),
        (
            b'{"channel":"a","data":5,"encoding":"base64"}',
            "bad_request",
            'expected {"channel":"NAME","data":…}: ',
        ),
        (
            b'{"channel":"a","data":"!","encoding":"base64"}',
            "bad_request",
            'expected {"channel":"NAME","data":…}: ',
        ),
        (
            b'{"channel":"a","data":"/w=","encoding":"base64"}',
            "bad_request",
            'expected {"channel":"NAME","data":…}: ',
        ),
        (
            b'{"channel":"a","data":"x","encoding":"hex"}',
            "bad_request",
            "encoding 'hex': \"base64\", or leave it out",
        ),
        (
            b'{"channel":"a\\nb","data":"x"}',
            "bad_channel",
            "channel 'a\\nb' holds '\\n': no control characters",
        ),
        (b'{"channel":"","data":"x"}', "bad_channel", "channel ''… has 0 bytes"),
        (b'{"channel":"a","data":"\xff"}', "invalid_utf8", "text is not UTF-8 at byte 23"),
    ],
)
def test_command_that_is_none_is_refused(command: bytes, code: str, told: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_command(command)
    assert caught.value.code.name == code
    assert str(caught.value).startswith(told)


@given(st.binary() | st.text('{}[]",:channeldtoig0123456789 \\"').map(str.encode))
def test_command_is_read_or_refused(command: bytes) -> None:
    with contextlib.suppress(Refused):
        channel, body = parse_command(command)
        assert to_channel(channel) == channel
        assert not body.is_text or body.data.decode() is not None


@given(st.binary())
def test_bytes_sent_are_bytes_read(data: bytes) -> None:
    command = json.dumps({"channel": "a", "data": base64.b64encode(data).decode(), "encoding": "base64"})
    assert parse_command(command.encode()) == ("a", Body(False, data))


@given(JSON)
def test_value_sent_is_text_read(value: object) -> None:
    _, body = parse_command(json.dumps({"channel": "a", "data": value}).encode())
    assert body.is_text
    assert (body.data.decode() if isinstance(value, str) else json.loads(body.data)) == value
