"""Addresses, bodies and events of durable streams."""

import pytest

from heartwire import ConfigError, LimitExceeded, Refused
from heartwire.client import streams_wire
from heartwire.client.streams_wire import Lost, body_of, cut_events, kind_of, stream_url

ADDRESSES = [
    (("http://h", "streams", "answer:42"), "http://h/streams/answer:42"),
    (("http://h/below/", "/v1/stream/", "a/b c"), "http://h/below/v1/stream/a/b%20c"),
    (("http://h", "", "é?#%"), "http://h/%C3%A9%3F%23%25"),
    (("http://h", "streams", "https://other:1/s?token=x"), "https://other:1/s?token=x"),
]


@pytest.mark.parametrize(("given", "url"), ADDRESSES)
def test_addresses(given: tuple[str, str, str], url: str) -> None:
    assert stream_url(*given) == url


@pytest.mark.parametrize("name", ["", "a/../b", ".", "a\nb", "x" * 256])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(Refused):
        stream_url("http://h", "streams", name)


@pytest.mark.parametrize("name", ["http://", "https://u:p@host/s", "http://host/s#f"])
def test_addresses_that_cannot_be(name: str) -> None:
    with pytest.raises(ConfigError):
        stream_url("http://h", "streams", name)


def test_kinds() -> None:
    kinds = [
        kind_of(one) for one in ("application/json", "Application/JSON; charset=utf-8", "text/x", "a/b", "")
    ]
    assert kinds == ["json", "json", "text", "bytes", "bytes"]
    assert kind_of("application/ndjson") == "bytes"


def test_bodies() -> None:
    assert body_of({"a": "é"}, "application/json", 100) == '{"a":"é"}'.encode()
    assert body_of(None, "application/json", 100) == b"null"
    assert body_of("é", "text/plain", 100) == "é".encode()
    assert body_of(memoryview(b"x"), "text/plain", 100) == b"x"
    with pytest.raises(TypeError, match="str or bytes"):
        body_of({}, "text/plain", 100)
    with pytest.raises(TypeError):
        body_of(float("nan"), "application/json", 100)
    with pytest.raises(ValueError, match="nothing"):
        body_of("", "text/plain", 100)
    with pytest.raises(LimitExceeded):
        body_of("x" * 101, "text/plain", 100)


STREAM = (
    b": hello\r\n\r\nevent: data\ndata: [1,\ndata:2]\n\nevent:control\r\ndata: {}\r\n\r\n"
    b"event: data\ndata:  a\ndata: \n\n\n\ndata: \xc3\xa9\n\n"
)
EVENTS = [("", ""), ("data", "[1,\n2]"), ("control", "{}"), ("data", " a\n"), ("", ""), ("", "é")]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_come_in_any_pieces(size: int) -> None:
    found, rest = [], b""
    for at in range(0, len(STREAM), size):
        events, rest = cut_events(rest + STREAM[at : at + size])
        found += events
    assert ([one for one in found if one != ("", "")], rest) == (
        [one for one in EVENTS if one != ("", "")],
        b"",
    )


def test_an_event_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_wire, "MAX_ANSWER", 10)
    with pytest.raises(Lost):
        cut_events(b"data: 123456")
