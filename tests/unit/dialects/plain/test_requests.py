"""Decoding of the plain dialect: requests, and the text of every refusal."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartwire.dialects.plain.requests import MAX_WAIT_S, Follow, Vector, body_is_text, parse_follow
from heartwire.errors import LimitExceeded
from heartwire.types import EARLIEST, NOW, Channel, Position, Start
from tests.unit.refusals import refusal

A, B = Channel("a"), Channel("b")
P5, P9 = Position("e-_1", 5), Position("f", 9)


def follow(*names: str, resume: str | None = None, is_multi: bool = False, **query: str) -> Follow:
    return parse_follow(names or ["a"], query, max_channels=3, is_multi=is_multi, resume=resume)


# -- where to start ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "start"),
    [(None, NOW), ("", NOW), ("-", NOW), ("earliest", EARLIEST), ("e-_1.5", P5), ("f.0", Position("f", 0))],
)
def test_since_is_a_start(since: str | None, start: Start) -> None:
    query: dict[str, Any] = {} if since is None else {"since": since}
    parsed = follow(**query)
    assert parsed.starts == {A: start}
    assert parsed.has_start is bool(since)


@pytest.mark.parametrize(
    "since",
    [
        "0",
        "5",
        "e",
        "e.",
        ".5",
        "e.05",
        "e.-1",
        "e.+1",
        "e.5 ",
        " e.5",
        "e.5.6",
        "é.5",
        "e.٥",
        "now",
        "Earliest",
        "e.1~f.2",
        "e.5\n",
    ],
)
@pytest.mark.parametrize("is_long", [False, True])
def test_since_that_is_not_a_position_is_refused(since: str, is_long: bool) -> None:
    since = since + "!" * 100 if is_long else since
    told = f"since={since[:64]!r}: `earliest`, or a position as an answer gave it"
    assert refusal(lambda: follow(since=since)) == ("bad_position", told)


@pytest.mark.parametrize("since", ["e.1000000000000000000", "e" * 33 + ".1", "\0", "e,5"])
def test_since_out_of_bounds_is_refused(since: str) -> None:
    assert refusal(lambda: follow(since=since))[0] == "bad_position"


def test_position_of_a_header_wins_over_since() -> None:
    assert follow(resume="f.9", since="e-_1.5").starts == {A: P9}
    assert follow(last_event_id="f.9", since="e-_1.5").starts == {A: P9}
    assert follow(resume="", since="e-_1.5").starts == {A: P5}


def test_vector_holds_the_starts_of_several_channels_in_sorted_order() -> None:
    vector = Vector({B: P9, A: P5, Channel("c"): NOW, Channel("d"): EARLIEST})
    assert str(vector) == "e-_1.5~f.9~-~earliest"
    assert list(vector.positions) == ["a", "b", "c", "d"]
    parsed = follow("c", "b", "a", is_multi=True, since="e-_1.5~f.9~-")
    assert parsed.starts == {A: P5, B: P9, Channel("c"): NOW}
    assert parsed.channels == ("c", "b", "a")
    assert str(Vector({})) == ""


def test_vector_is_known_once_every_position_is() -> None:
    assert Vector({A: P5, B: P9}).is_known
    assert not Vector({A: P5, B: NOW}).is_known


@given(
    st.dictionaries(
        st.text("abc", min_size=1).map(Channel),
        st.sampled_from([NOW, EARLIEST, P5, P9]),
        min_size=1,
        max_size=3,
    )
)
def test_vector_is_read_as_it_was_written(starts: dict[Channel, Start]) -> None:
    assert follow(*starts, is_multi=True, since=str(Vector(starts))).starts == starts


@pytest.mark.parametrize(("since", "count"), [("e.5", 1), ("e.5~f.9~g.1", 3), ("~~~", 4)])
def test_vector_of_other_channels_is_refused(since: str, count: int) -> None:
    told = (
        f"since={since!r} is a position of {count} channels, the request has 2: use a position that the same"
        " set of channels gave"
    )
    assert refusal(lambda: follow("a", "b", is_multi=True, since=since)) == ("bad_position", told)


def test_vector_with_a_bad_part_is_refused() -> None:
    told = "since='': `earliest`, or a position as an answer gave it"
    assert refusal(lambda: follow("a", "b", is_multi=True, since="e.5~")) == ("bad_position", told)


# -- the rest of a request -----------------------------------------------------------------------------------


def test_request_without_parameters_has_the_defaults() -> None:
    assert follow() == Follow((A,), False, {A: NOW}, False)
    assert follow(is_multi=True).json  # several channels have to be told apart


def test_request_with_everything_is_read_and_the_unknown_ignored() -> None:
    query: dict[str, Any] = {
        "since": "earliest",
        "wait": "25",
        "format": "json",
        "echo": "0",
        "heartbeat": "♥",
        "client": "c-1",
        "x": "y",
    }
    assert follow(**query) == Follow((A,), False, {A: EARLIEST}, True, 25, True, False, "♥", "c-1")
    assert not follow(format="raw", echo="1").json


def test_channel_named_twice_counts_once() -> None:
    assert follow("a", "b", "a", is_multi=True, since="e-_1.5~f.9").channels == ("a", "b")


def test_request_without_a_channel_is_refused() -> None:
    told = "no channel named: /channels/NAME, or /channels?channel=A&channel=B"
    assert refusal(lambda: parse_follow([], {}, max_channels=3, is_multi=True)) == ("bad_channel", told)


def test_too_many_channels_are_refused_with_the_limit() -> None:
    with pytest.raises(LimitExceeded) as caught:
        follow("a", "b", "c", "d", is_multi=True)
    assert str(caught.value) == "channels in one request: 4 is over the limit of 3 (max_channels_per_request)"
    assert (caught.value.code.name, caught.value.value, caught.value.limit) == ("too_many_channels", 4, 3)


@pytest.mark.parametrize(
    ("wait", "seconds"), [("", 0), ("0", 0), ("25", 25), ("0.5", 0.5), ("55", MAX_WAIT_S), ("5.5e1", 55)]
)
def test_wait_is_seconds(wait: str, seconds: float) -> None:
    assert follow(wait=wait).wait_s == seconds


@pytest.mark.parametrize(
    "wait", ["-1", "55.01", "1e9", "inf", "-inf", "nan", "soon", "25s", "0x10", "--1", "9" * 100]
)
def test_wait_out_of_range_is_refused(wait: str) -> None:
    told = f"wait={wait[:32]!r}: a number of seconds from 0 to 55"
    assert refusal(lambda: follow(wait=wait)) == ("bad_wait", told)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("format", "xml", "format='xml': one of raw, json"),
        ("format", "", "format='': one of raw, json"),
        ("format", "x" * 99, f"format={'x' * 32!r}: one of raw, json"),
        ("echo", "false", "echo='false': one of 1, 0"),
        ("client", "", "client='': 1 to 64 of A-Z a-z 0-9 . _ -"),
        ("client", "a b", "client='a b': 1 to 64 of A-Z a-z 0-9 . _ -"),
        ("client", "x" * 65, f"client={'x' * 64!r}: 1 to 64 of A-Z a-z 0-9 . _ -"),
        ("client", "é", "client='é': 1 to 64 of A-Z a-z 0-9 . _ -"),
    ],
)
def test_parameter_that_is_none_of_the_choices_is_refused(name: str, value: str, told: str) -> None:
    query: dict[str, Any] = {name: value}
    assert refusal(lambda: follow(**query)) == ("bad_request", told)


# -- bodies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        (None, b"text", True),
        ("", "é".encode(), True),
        (None, b"\xff", False),
        ("text/plain", b"", True),
        ("Text/HTML; Charset=UTF-8", b"x", True),
        ('text/plain; charset="utf-8"', b"x", True),
        ("text/plain;charset=utf8", b"x", True),
        ("text/plain; charset=us-ascii", b"x", True),
        ("text/plain; format=flowed", b"x", True),
        ("application/json", b"[", True),
        ("application/json ; charset=utf-8", b"[", True),
        ("application/xml", b"<", True),
        ("application/problem+json", b"{}", True),
        ("image/svg+xml", b"<svg/>", False),
        ("application/atom+xml", b"<", True),
        ("application/x-www-form-urlencoded", b"hello", True),
        ("application/octet-stream", b"text", False),
        ("application/octet-stream", b"\xff", False),
        ("image/png", b"\xff", False),
        ("multipart/form-data; boundary=x", b"x", False),
        ("nonsense", b"x", False),
    ],
)
def test_content_type_distinguishes_text_from_bytes(
    content_type: str | None, body: bytes, expected: bool
) -> None:
    assert body_is_text(content_type, body) is expected


def test_text_in_another_charset_is_refused() -> None:
    told = "charset 'iso-8859-1': text is UTF-8 here; convert it, or send bytes"
    assert refusal(lambda: body_is_text("text/plain; charset=iso-8859-1", b"x")) == (
        "unsupported_charset",
        told,
    )
