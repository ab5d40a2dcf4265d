"""What requests of the Durable Streams protocol say, and what is refused at once."""

import pytest

from heartwire.dialects.durable.codec import cursor, entity_tag, kind_of, messages_of, time_text, token
from heartwire.dialects.durable.requests import (
    Append,
    Create,
    Fork,
    Read,
    parse_append,
    parse_create,
    parse_read,
    parse_token,
)
from heartwire.errors import Refused
from heartwire.types import EARLIEST, NOW, Position
from tests.unit.refusals import refused


def test_a_creation_with_nothing_said() -> None:
    assert parse_create({}) == Create("", None, None, False, None)


def test_a_creation_with_all_said() -> None:
    given = {
        "content-type": " text/plain ",
        "stream-ttl": "60",
        "stream-closed": "TRUE",
        "stream-forked-from": "/streams/a",
        "stream-fork-offset": "abc_0000000000000002",
        "stream-fork-sub-offset": "3",
    }
    fork = Fork("/streams/a", Position("abc", 2), 3)
    assert parse_create(given) == Create("text/plain", 60, None, True, fork)


@pytest.mark.parametrize("ttl", ["", "-1", "+1", "01", "1.5", "1e3", "abc", "0", "9" * 20, "1_0", "١"])
def test_lifetimes_that_are_none(ttl: str) -> None:
    with refused("bad_request"):
        parse_create({"stream-ttl": ttl})


@pytest.mark.parametrize(
    "time", ["", "tomorrow", "2030-01-01", "2030-01-01T00:00:00", "2030-13-01T00:00:00Z"]
)
def test_times_that_are_none(time: str) -> None:
    with refused("bad_request"):
        parse_create({"stream-expires-at": time})


def test_times() -> None:
    for text in ("2030-01-31T12:00:00Z", "2030-01-31t13:00:00.000+01:00"):
        ends_ms = parse_create({"stream-expires-at": text}).ends_ms
        assert ends_ms is not None
        assert time_text(ends_ms) == "2030-01-31T12:00:00.000Z"


@pytest.mark.parametrize(
    "headers",
    [
        {"stream-ttl": "1", "stream-expires-at": "2030-01-31T12:00:00Z"},
        {"stream-fork-sub-offset": "0"},
        {"stream-fork-offset": "abc_0000000000000002"},
        {"stream-forked-from": "/a", "stream-fork-sub-offset": "1"},
        {
            "stream-forked-from": "/a",
            "stream-fork-sub-offset": "01",
            "stream-fork-offset": "abc_0000000000000002",
        },
        {"content-type": "x" * 256},
    ],
)
def test_creations_that_contradict_themselves(headers: dict[str, str]) -> None:
    with refused("bad_request"):
        parse_create(headers)


def test_appends() -> None:
    assert parse_append({"stream-closed": "yes"}) == Append("", False, "", None)
    given = {"content-type": "text/plain", "stream-seq": "09", "stream-closed": "true"}
    producer = {"producer-id": "p", "producer-epoch": "0", "producer-seq": "007"}
    assert parse_append(given | producer) == Append("text/plain", True, "09", ("p", 0, 7))


@pytest.mark.parametrize("number", ["", "-1", "1.5", "1e3", "abc", "1abc", str(2**53), "9" * 30])
def test_producers_numbers_that_are_none(number: str) -> None:
    good = {"producer-id": "p", "producer-epoch": "0", "producer-seq": "0"}
    for name in ("producer-epoch", "producer-seq"):
        with refused("bad_request"):
            parse_append(good | {name: number})


def test_a_producer_is_named_whole() -> None:
    good = {"producer-id": "p", "producer-epoch": "0", "producer-seq": "0"}
    for name in good:
        with refused("bad_request"):
            parse_append({key: value for key, value in good.items() if key != name})
    for name in ("", "p" * 256):
        with refused("bad_request"):
            parse_append(good | {"producer-id": name})


def test_reads() -> None:
    at = token(Position("a_b", 5))
    assert parse_read([], None) == Read(EARLIEST, "", None)
    assert parse_read([("offset", "-1"), ("other", "1")], None) == Read(EARLIEST, "", None)
    assert parse_read([("offset", "now"), ("live", "sse"), ("cursor", "12")], None) == Read(NOW, "sse", 12)
    assert parse_read([("offset", at), ("cursor", "x")], None) == Read(Position("a_b", 5), "", None)
    # An `EventSource` asks for the same address again, and says what it has.
    assert parse_read([("offset", "-1"), ("live", "sse")], at).start == Position("a_b", 5)
    assert parse_read([("offset", "-1")], at).start is EARLIEST


@pytest.mark.parametrize(
    "offset", ["", "a", "a b_0000000000000001", "abc_1", "abc_0000000000000001,", "-2", "NOW"]
)
def test_offsets_that_are_none(offset: str) -> None:
    with refused("bad_position"):
        parse_read([("offset", offset)], None)


@pytest.mark.parametrize(
    "query", [[("live", "sse")], [("live", "long-poll")], [("offset", "-1"), ("offset", "-1")]]
)
def test_one_offset(query: list[tuple[str, str]]) -> None:
    with refused("bad_position"):
        parse_read(query, None)


def test_an_unknown_way_to_follow() -> None:
    with refused("bad_request"):
        parse_read([("offset", "-1"), ("live", "websocket")], None)


def test_tokens_are_in_the_order_of_their_offsets() -> None:
    tokens = [token(Position("h3Xk9QzT", offset)) for offset in (0, 9, 10, 17, 10**15)]
    assert tokens == sorted(tokens)
    assert [parse_token(one).offset for one in tokens] == [0, 9, 10, 17, 10**15]


def test_kinds() -> None:
    for content_type in ("application/json", "Application/JSON; charset=utf-8"):
        assert kind_of(content_type) == "json"
    assert kind_of("text/x; a=b") == "text"
    for content_type in ("", "application/ndjson", "application/problem+json", "image/png"):
        assert kind_of(content_type) == "bytes"


def test_messages_of_json() -> None:
    assert messages_of("json", b'[[1, 2],[3], "a,]" ]') == [b"[1, 2]", b"[3]", b'"a,]"']
    assert messages_of("json", b"[[[1]]]") == [b"[[1]]"]
    assert messages_of("json", b' {"a": 1e400}\n') == [b'{"a": 1e400}']
    assert messages_of("json", b"[]") == []
    assert messages_of("bytes", b"[1,2]") == [b"[1,2]"]
    assert messages_of("json", b"") == []


@pytest.mark.parametrize("body", [b"[1,2", b"{}{}", b"nul", b"[1,]", b" ", b"[" * 100_000, b"NaN"])
def test_what_is_no_json(body: bytes) -> None:
    with pytest.raises(Refused):
        messages_of("json", body)


def test_cursors_only_grow() -> None:
    now_s = 1_728_432_000 + 20 * 1000
    assert cursor(now_s, None, lambda least, most: least) == 1000
    assert cursor(now_s, 999, lambda least, most: least) == 1000
    assert cursor(now_s, 1000, lambda least, most: least) == 1001
    assert cursor(now_s, 5000, lambda least, most: most) == 5180


def test_a_tag_says_whether_the_stream_is_closed() -> None:
    start, end = Position("e", 1), Position("e", 3)
    assert entity_tag(start, end, is_closed=True) != entity_tag(start, end, is_closed=False)
