"""Bodies: what a program publishes, as text or bytes."""

import dataclasses
import datetime
import math

import msgspec
import pytest

from heartwire.client.received import json_of
from heartwire.hub.hooks import answer_bytes
from heartwire.messages import Body, to_body, to_json


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"\xff", Body(False, b"\xff")),
        (bytearray(b"x"), Body(False, b"x")),
        (memoryview(b"x"), Body(False, b"x")),
        ("é", Body(True, "é".encode())),
        ("", Body(True, b"")),
        ({"text": "hi"}, Body(True, b'{"text":"hi"}')),
        ([1, None, True], Body(True, b"[1,null,true]")),
        (5, Body(True, b"5")),
        (None, Body(True, b"null")),
    ],
)
def test_what_a_program_publishes(data: object, body: Body) -> None:
    assert to_body(data) == body


def test_data_that_cannot_be_json_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="object"):
        to_body(object())


@dataclasses.dataclass
class Reading:
    value: float


@pytest.mark.parametrize(
    "data",
    [
        math.nan,
        -math.inf,
        {"deep": [{"er": math.inf}]},
        {1: math.nan},
        (None, math.nan),
        Reading(math.nan),
        "half \ud83d",
        {"a": object()},
    ],
)
def test_what_json_would_change_or_cannot_hold_is_refused_by_all_that_writes_it(data: object) -> None:
    with pytest.raises(TypeError, match=r"cannot be written as JSON|unsupported"):
        to_json(data)
    with pytest.raises(TypeError):
        json_of(data)
    with pytest.raises(TypeError):
        answer_bytes(data)
    if not isinstance(data, str):
        with pytest.raises(TypeError):
            to_body(data)


@pytest.mark.parametrize(
    ("data", "written"),
    [
        ({"a": None, "b": "null"}, b'{"a":null,"b":"null"}'),
        ({1: None}, b'{"1":null}'),
        ([msgspec.Raw(b"null")], b"[null]"),
        (Reading(1.5), b'{"value":1.5}'),
        ([None, datetime.date(2026, 1, 2)], b'[null,"2026-01-02"]'),
    ],
)
def test_nulls_are_written(data: object, written: bytes) -> None:
    assert to_json(data) == written
