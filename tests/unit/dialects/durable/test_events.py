"""Event streams of the durable dialect: what a reader makes of them is what was appended."""

import base64
import json
import re
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartwire.dialects.durable.codec import Kind, token
from heartwire.dialects.durable.events import EventFormat, Remainders, remainder_of
from heartwire.types import ENDED, Channel, Position, Publication

CHANNEL: Final = Channel("answer:1")


def publications(pieces: list[bytes]) -> list[Publication]:
    return [Publication(CHANNEL, "e", at, data, False, None, 0) for at, data in enumerate(pieces, 1)]


def end_after(count: int) -> Publication:
    return Publication(CHANNEL, "e", count + 1, b'{"reason":"done"}', True, ENDED, 0)


def formatted(kind: Kind, head: int, remainders: Remainders | None = None) -> EventFormat:
    return EventFormat(
        kind,
        remainders or Remainders(),
        is_head=lambda channel, position: position.offset == head,
        cursor=lambda: 7,
    )


def parsed(stream: bytes) -> list[tuple[str, str, str]]:
    """Events as the HTML standard reads them: their name, data and id."""
    events = []
    for block in re.split(r"(?:\r\n|\n|\r){2}", stream.decode())[:-1]:
        fields: dict[str, list[str]] = {}
        for line in re.split(r"\r\n|\n|\r", block):
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
        events.append((fields["event"][0], "\n".join(fields["data"]), fields["id"][0]))
    return events


def data_of(stream: bytes) -> list[str]:
    return [data for name, data, _ in parsed(stream) if name == "data"]


def controls(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(data) for name, data, _ in parsed(stream) if name == "control"]


def test_a_flush_is_one_event_and_its_control() -> None:
    sent = publications([b'{"n":1}', b"[2]"])
    stream = formatted("json", 2).join(sent, sent[-1])
    assert parsed(stream) == [
        ("data", '[{"n":1},[2]]', "e_0000000000000002"),
        (
            "control",
            '{"streamNextOffset":"e_0000000000000002","streamCursor":"7","upToDate":true}',
            "e_0000000000000002",
        ),
    ]


def test_what_is_not_the_head_is_not_up_to_date() -> None:
    sent = publications([b"a"])
    assert "upToDate" not in controls(formatted("text", 2).join(sent, sent[-1]))[0]


def test_the_end_is_a_control_without_a_cursor() -> None:
    told = {"streamNextOffset": "e_0000000000000001", "upToDate": True, "streamClosed": True}
    assert controls(formatted("text", 2).ended(end_after(1))) == [told]


def test_a_reader_at_the_head_is_told_so_at_once() -> None:
    format = formatted("text", 3)
    at_head = format.joined(CHANNEL, Position("e", 3), recovered=True)
    assert at_head is not None
    assert controls(at_head)[0]["upToDate"] is True
    assert format.joined(CHANNEL, Position("e", 2), recovered=True) is None
    assert format.joined(CHANNEL, Position("x", 0), recovered=False) is None


def test_bytes_are_one_base64() -> None:
    sent = publications([b"\x00\xff", b"\r"])
    (data,) = data_of(formatted("bytes", 2).join(sent, sent[-1]))
    assert base64.b64decode(data) == b"\x00\xff\r"


def test_text_that_others_sent_to_a_stream_of_json_is_a_string_there() -> None:
    sent = publications([b"not json", b"\xff"])
    assert json.loads(data_of(formatted("json", 2).join(sent, sent[-1]))[0]) == ["not json", "\ufffd"]


@pytest.mark.parametrize("line", ["", " ", "  two", "event: control", "data:x", ":", "id: 9"])
def test_lines_are_what_they_were(line: str) -> None:
    sent = publications([f"{line}\n\n{line}\n".encode()])
    assert data_of(formatted("text", 1).join(sent, sent[-1])) == [f"{line}\n\n{line}\n"]


@given(st.text(), st.data())
def test_no_character_is_cut(text: str, draw: st.DataObject) -> None:
    """However a text is cut into appends, appends into flushes, and the reading into connections."""
    raw = text.encode("utf-8", "replace")
    cuts = sorted(set(draw.draw(st.lists(st.integers(1, max(1, len(raw) - 1)), max_size=12))))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True) if raw[a:b]]
    sent = publications(pieces)
    format, stream, at = formatted("text", -1), b"", 0
    while at < len(sent):
        if draw.draw(st.booleans()):  # another connection, to another server
            remainders = Remainders()
            before = [one for one in sent if at - 3 < one.offset <= at]
            remainders.put(CHANNEL, Position("e", at), remainder_of(before))
            format = formatted("text", -1, remainders)
        size = draw.draw(st.integers(1, len(sent) - at))
        stream += format.join(sent[at : at + size], sent[at + size - 1])
        at += size
    stream += format.ended(end_after(len(sent)))
    assert "\ufffd" not in "".join(data_of(stream)) or "\ufffd" in raw.decode()
    wanted = raw.decode().replace("\r\n", "\n").replace("\r", "\n")
    assert "".join(data_of(stream)) == wanted


def test_ids_are_offsets() -> None:
    sent = publications([b"a", b"b"])
    for _, _, id in parsed(formatted("text", 2).join(sent, sent[-1])):
        assert id == token(Position("e", 2))
