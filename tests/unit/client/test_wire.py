"""What goes over a client's wire; most of it is in tests/vectors/wire.json, for all implementations."""

import json
from typing import Any

import pytest

from heartwire.client.wire import closed_by_http, command, replies, retry_after_s, take_frame, text
from heartwire.codes import verdict
from tests.vectors.telling import FOLDER

VECTORS: dict[str, list[dict[str, Any]]] = json.loads((FOLDER / "wire.json").read_text("utf-8"))


@pytest.mark.parametrize(
    "one", VECTORS["closed_by_http"], ids=lambda one: f"{one['status']} {one['body'][:20]}"
)
def test_closed_by_http(one: dict[str, Any]) -> None:
    assert closed_by_http(one["status"], one["body"]) == (one["code"], one["reason"])


@pytest.mark.parametrize("one", VECTORS["retry_after_s"], ids=lambda one: one["reason"])
def test_retry_after(one: dict[str, Any]) -> None:
    assert retry_after_s(one["reason"]) == one["seconds"]


@pytest.mark.parametrize("one", VECTORS["verdict"], ids=lambda one: str(one["code"]))
def test_verdict(one: dict[str, Any]) -> None:
    assert verdict(one["code"]) == one["verdict"]


@pytest.mark.parametrize("one", VECTORS["replies"], ids=lambda one: one["data"][:30])
def test_replies_whole(one: dict[str, Any]) -> None:
    if one["replies"] is None:
        with pytest.raises(ValueError, match=r".*"):
            list(replies(one["data"]))
    else:
        assert len(list(replies(one["data"]))) == one["replies"]


@pytest.mark.parametrize("one", VECTORS["replies"], ids=lambda one: one["data"][:30])
def test_replies_broken_off_are_replies_or_an_error(one: dict[str, Any]) -> None:
    for length in range(len(one["data"])):
        try:
            assert len(list(replies(one["data"][:length]))) <= (one["replies"] or 1)
        except ValueError:
            pass


def test_an_error_says_what_it_was() -> None:
    with pytest.raises(ValueError, match="'<html>'"):
        list(replies("<html>"))


def test_json_that_nests_too_deep_is_an_error() -> None:
    with pytest.raises(ValueError, match="recursion"):
        list(replies('{"id":1,"rpc":' + "[" * 100_000 + "]" * 100_000 + "}"))


def test_a_command_is_one_line() -> None:
    assert command(1, "publish", {"data": "a\nb"}) == '{"id":1,"publish":{"data":"a\\nb"}}'
    with pytest.raises(TypeError):
        text(object())


def test_frames_take_what_fits_and_one_that_does_not_goes_alone() -> None:
    commands = ["a" * 100_000, "b" * 60_000, "c" * 5_000, "d" * 1_000]
    assert take_frame(commands) == "a" * 100_000
    assert take_frame(commands) == "b" * 60_000 + "\n" + "c" * 5_000
    assert take_frame(commands) == "d" * 1_000
    assert take_frame(commands) == ""


@pytest.mark.parametrize("method", ["rpc", "presence", "presence_stats", "history"])
def test_the_answer_to_a_question_is_the_json_it_is(method: str) -> None:
    # msgspec reads a field of ``Raw | None`` as null or nothing: an answer ended the connection as not of the
    # protocol.
    (reply,) = replies(f'{{"id":3,"{method}":{{"data": [1, "é"]}}}}')
    assert bytes(getattr(reply, method)).decode() == '{"data": [1, "é"]}'


@pytest.mark.parametrize(
    "line",
    [
        '{"id":1,"connect":{"client":"c","data":{"hello":1}}}',
        '{"id":2,"subscribe":{"epoch":"e","data":"x"}}',
        '{"push":{"channel":"a","pub":{"data":1,"info":{"user":"u","conn_info":{"x":1}}}}}',
    ],
)
def test_data_of_the_application_may_be_anything(line: str) -> None:
    assert len(list(replies(line))) == 1
