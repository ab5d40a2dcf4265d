"""What a reading of a durable stream asks, and what it makes of the answers."""

from typing import Any

import pytest

from heartwire import Options, Refused, Unauthorized
from heartwire.client.streams_reading import Live, Reading
from heartwire.client.streams_wire import Answer, Lost, Retry

JSON = "application/json"


def reading(live: Live = True, offset: str = "-1") -> Reading:
    options = Options(backoff_base_s=1, backoff_cap_s=8)
    return Reading(offset, live, Retry(options, lambda: 1.0, 0.0), stable_after_s=10)


def answer(
    to: str,
    body: bytes = b"",
    kind: str = JSON,
    *,
    status: int = 200,
    tail: bool = True,
    closed: bool = False,
) -> Answer:
    headers = {"Stream-Next-Offset": to, "Content-Type": kind}
    headers |= {"Stream-Up-To-Date": "true"} if tail else {}
    headers |= {"Stream-Closed": "true"} if closed else {}
    return Answer(status, headers, body)


def caught_up(kind: str = JSON, live: Live = True) -> Reading:
    made = reading(live)
    made.query(0)
    made.answered(answer("1", kind=kind), 0)
    return made


def test_it_catches_up_and_goes_on_with_an_event_stream() -> None:
    one = reading()
    assert one.query(0) == {"offset": "-1"}
    assert one.answered(answer("1", b"[1, 2]", tail=False), 0) == [1, 2]
    assert one.query(0) == {"offset": "1"}
    assert one.answered(answer("2", b'["x"]'), 0) == ["x"]
    assert (one.query(0), one.is_sse) == ({"offset": "2", "live": "sse"}, True)
    assert one.event("data", "[3]", 1) == ()
    assert one.event("data", "[4]", 1) == ()
    assert one.offset == "2"  # what came belongs to the control after it
    assert one.event("control", '{"streamNextOffset": "4", "streamCursor": "77", "upToDate": true}', 1) == [
        3,
        4,
    ]
    assert (one.offset, one.is_over) == ("4", False)
    assert one.query(2) == {"offset": "4", "live": "sse", "cursor": "77"}
    assert one.event("control", '{"streamNextOffset": "4", "streamClosed": true}', 3) == []
    assert (one.is_over, one.is_closed) == (True, True)


def test_what_comes_without_a_control_is_asked_for_again() -> None:
    one = caught_up()
    one.query(0)
    one.event("data", "[1]", 0)
    one.lost(Lost("cut"), 0)
    one.query(1)
    one.event("data", "[1]", 1)
    assert one.event("control", '{"streamNextOffset": "2"}', 1) == [1]


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_reading_that_is_not_live_ends_at_the_tail(is_closed: bool) -> None:
    one = reading(live=False)
    one.query(0)
    assert one.answered(answer("5", b"[1]", closed=is_closed), 0) == [1]
    assert (one.is_over, one.is_closed, one.is_live) == (True, is_closed, False)


def test_bytes_come_by_long_polls() -> None:
    one = caught_up("application/octet-stream")
    assert one.query(0) == {"offset": "1", "live": "long-poll"}
    assert one.answered(answer("2", b"\xff", "application/octet-stream"), 0) == [b"\xff"]
    one.query(0)
    assert one.answered(answer("2", status=204), 30) == []
    assert one.content_type == "application/octet-stream"


def test_long_polls_where_they_are_wanted() -> None:
    assert caught_up(live="long-poll").query(0) == {"offset": "1", "live": "long-poll"}


def test_an_event_stream_that_brings_nothing_gives_way_to_long_polls_until_one_of_those_fails() -> None:
    one = caught_up()
    one.query(0)
    one.lost(Lost("nothing came"), 8)
    assert one.query(9)["live"] == "long-poll"
    one.answered(answer("2", b"[1]"), 9)
    assert one.query(10)["live"] == "long-poll"
    one.lost(Lost("no connection", is_reachable=False), 11)
    assert one.query(11)["live"] == "long-poll"
    one.lost(Lost("cut"), 12)
    assert one.query(12)["live"] == "sse"
    one.event("control", '{"streamNextOffset": "2"}', 12)
    one.lost(Lost("the event stream ended"), 72)
    assert one.query(72)["live"] == "sse"


def test_a_server_without_event_streams() -> None:
    one = caught_up()
    one.query(0)
    with pytest.raises(Lost):
        one.answered(Answer(400, {}), 0)
    one.lost(Lost("none"), 0)
    one.query(1)
    with pytest.raises(Refused, match="HTTP 400"):
        one.answered(Answer(400, {}), 1)


@pytest.mark.parametrize("text", ["é", "€", "𝄞"])
def test_no_character_of_text_is_cut(text: str) -> None:
    data = text.encode()
    for at in range(1, len(data)):
        one = reading()
        one.query(0)
        assert one.answered(answer("1", b"a" + data[:at], "text/plain"), 0) == []
        assert one.offset == "-1"  # whoever goes on from it gets the whole character
        assert one.query(0) == {"offset": "1", "live": "long-poll"}  # which brings the bytes
        assert one.answered(answer("2", data[at:] + b"b", "text/plain"), 0) == [f"a{text}b"]
        assert (one.offset, one.query(0)["live"]) == ("2", "sse")


def test_text_that_is_not_utf_8_waits_for_nothing() -> None:
    one = reading()
    one.query(0)
    assert one.answered(answer("1", b"caf\xe9", "text/plain"), 0) == []
    one.query(0)
    assert one.answered(answer("2", b"!", "text/plain", closed=True), 0) == ["caf\ufffd!"]
    other = reading()
    other.query(0)
    assert other.answered(answer("1", b"\x80\x80\x80\x80", "text/plain"), 0) == ["\ufffd" * 4]


def test_half_a_character_at_the_end_of_a_closed_stream() -> None:
    one = reading()
    one.query(0)
    assert one.answered(answer("1", b"a\xc3", "text/plain"), 0) == []
    one.query(0)
    assert one.answered(answer("1", kind="text/plain", closed=True), 0) == ["a\ufffd"]
    assert one.offset == "1"


REFUSALS: list[tuple[Answer, type[Exception], str]] = [
    (Answer(404, {}), Refused, "stream_not_found"),
    (Answer(410, {}), Refused, "stream_gone"),
    (Answer(403, {}), Refused, "forbidden"),
    (Answer(401, {}), Unauthorized, "unauthorized"),
    (Answer(404, {}, b'{"error": {"code": "unknown_channel", "message": "m"}}'), Refused, "unknown_channel"),
    (Answer(404, {}, b'{"error": {"code": "odd", "message": "m"}}'), Refused, "stream_not_found"),
    (Answer(418, {}), Refused, "bad_request"),
]


@pytest.mark.parametrize(("given", "kind", "name"), REFUSALS)
def test_refusals(given: Answer, kind: type[Exception], name: str) -> None:
    one = reading()
    one.query(0)
    with pytest.raises(kind) as caught:
        one.answered(given, 0)
    found: Any = caught.value
    assert found.code.name == name


LOST = [
    Answer(503, {"Retry-After": "7"}),
    Answer(429, {"Retry-After": "7"}),
    Answer(200, {}, b"<html>log in first"),  # of a network's, not of the server
    answer("1", b"{}"),
    answer("1", b"[1"),
]


@pytest.mark.parametrize("given", LOST)
def test_what_is_asked_again(given: Answer) -> None:
    one = reading()
    one.query(0)
    with pytest.raises(Lost) as caught:
        one.answered(given, 0)
    assert one.lost(caught.value, 0) == (7 if given.status > 200 else 1)
    assert one.query(0) == {"offset": "-1"}


@pytest.mark.parametrize("event", ["", "[]", '{"upToDate": true}', '{"streamNextOffset": 1}'])
def test_controls_that_are_none(event: str) -> None:
    with pytest.raises(Lost):
        caught_up().event("control", event, 0)


def test_a_server_that_does_not_hold_polls_is_asked_ever_more_rarely() -> None:
    one = caught_up(live="long-poll")
    waits = []
    for now in range(3):
        one.query(now)
        with pytest.raises(Lost) as caught:
            one.answered(answer("1", status=204), now + 0.1)
        waits.append(one.lost(caught.value, now + 0.1))
    assert waits == [1, 2, 4]
    one.query(5)
    assert one.answered(answer("1", status=204), 5.6) == []  # held, if not for long


def test_progress_and_a_long_life_make_the_next_wait_short() -> None:
    one = caught_up()
    assert [one.lost(Lost("cut"), 0) for _ in range(3)] == [1, 2, 4]
    one.query(0)
    one.event("control", '{"streamNextOffset": "2"}', 0)
    assert one.lost(Lost("cut"), 0) == 1
    one.query(0)
    assert one.lost(Lost("cut"), 9) == 2
    one.query(0)
    assert one.lost(Lost("cut"), 10) == 1


def test_attempts_take_from_a_bucket() -> None:
    options = Options(backoff_base_s=0.1, backoff_cap_s=0.1, attempt_burst=2, attempt_rate_per_s=0.1)
    one = Reading("-1", True, Retry(options, lambda: 0.0, 0.0), stable_after_s=10)
    assert [one.lost(Lost("cut"), 0) for _ in range(3)] == [0, 0, pytest.approx(10.001)]
