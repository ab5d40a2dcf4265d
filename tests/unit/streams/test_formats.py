"""The formats `text`, `ndjson` and `sse`, and the register of formats."""

from typing import Any

import pytest

from heartwire.errors import ConfigError
from heartwire.messages import Body, to_body
from heartwire.streams.formats import Text, format_of, register
from heartwire.types import Channel, Publication


def kept(name: str, values: list[object]) -> list[Publication]:
    """What a stream has of the values of a run."""
    shaper = format_of(name).shaper()
    given = [*shaper.begin(), *(one for value in values for one in shaper.add(value)), *shaper.finish()]
    bodies = [one if isinstance(one, Body) else to_body(one) for one in given]
    return [
        Publication(Channel("answer:1"), "epoch", at, body.data, body.is_text, None, 0)
        for at, body in enumerate(bodies, 1)
    ]


def answer(name: str, values: list[object], reason: str = "done", detail: str = "") -> bytes:
    format = format_of(name)
    return b"".join(map(format.frame, kept(name, values))) + format.end(reason, detail)


@pytest.mark.parametrize(
    ("name", "values", "whole"),
    [
        ("text", ["He", "", "llo\n", b"w\xc3\xb6rld"], "Hello\nwörld"),
        ("ndjson", ["a\nb", "", 1, None, {"ö": [1.5]}], '"a\\nb"\n1\nnull\n{"ö":[1.5]}\n'),
        (
            "sse",
            ["one\r\ntwo\rthree\n", 5, {"a": 1}, '"', " x"],
            "id: epoch.1\ndata: one\ndata: two\ndata: three\ndata: \n\nid: epoch.2\ndata: 5\n\n"
            'id: epoch.3\ndata: {"a":1}\n\nid: epoch.4\ndata: "\n\nid: epoch.5\ndata:  x\n\n'
            'id: end\nevent: end\ndata: {"reason":"done"}\n\n',
        ),
    ],
)
def test_a_whole_answer(name: str, values: list[object], whole: str) -> None:
    assert answer(name, values).decode() == whole


@pytest.mark.parametrize("detail", ["", "the quota is used up"])
@pytest.mark.parametrize("reason", ["error", "aborted", "interrupted"])
@pytest.mark.parametrize("name", ["text", "ndjson", "sse"])
def test_one_that_is_not_whole_says_so(name: str, reason: str, detail: str) -> None:
    end = answer(name, ["x"], reason, detail).removeprefix(answer(name, ["x"]))
    assert reason in end.decode()
    assert detail in end.decode()


@pytest.mark.parametrize(
    ("name", "value"), [("text", {"a": 1}), ("text", None), ("ndjson", float("nan")), ("sse", object())]
)
def test_a_value_that_does_not_fit_is_refused(name: str, value: Any) -> None:
    with pytest.raises(TypeError):
        kept(name, [value])


def test_a_stream_that_others_wrote_keeps_its_lines() -> None:
    """By the protocol: JSON with line ends, or text that is no JSON at all."""
    pretty = Publication(Channel("answer:1"), "epoch", 1, b'{\n"a":\r\n1}', True, None, 0)
    assert format_of("ndjson").frame(pretty) == b'{ "a": 1}\n'
    words = Publication(Channel("answer:1"), "epoch", 1, b'"quoted" \xff', False, None, 0)
    assert format_of("sse").frame(words) == b'id: epoch.1\ndata: "quoted" \xff\n\n'


def test_a_format_is_known_by_its_name_or_is_itself() -> None:
    mine = Text()
    register("mine", mine)
    assert format_of("mine") is format_of(mine) is mine
    with pytest.raises(ConfigError, match=r"one of .*ndjson, .*text"):
        format_of("yours")
