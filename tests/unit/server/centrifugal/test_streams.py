"""The streams of the Centrifugal dialect are lines of ASCII, or events."""

import json
from typing import Any

import pytest

from heartwire.server.centrifugal import streams as centrifugal_http
from heartwire.server.centrifugal.streams import ascii_lines

TEXTS = ["plain", "é", "漢字", "a😀b😀😀c", "\u2028\u2029", "é" * 1000 + "😀", '"quoted" \\ back', "\x7f\x80"]


@pytest.mark.parametrize("text", TEXTS)
def test_stream_is_ascii_lines(text: str) -> None:
    messages = [json.dumps({"a": text}, ensure_ascii=False).encode(), b"{}"]
    lines = ascii_lines(messages)
    assert lines.isascii()
    assert lines.endswith(b"\n")
    assert [json.loads(line) for line in lines.splitlines()] == [{"a": text}, {}]


def test_events_are_one_each() -> None:
    pack: Any = centrifugal_http._EVENTS.format.pack
    assert pack([b'{"a":1}', b"{}"]) == b'data: {"a":1}\n\ndata: {}\n\n'
