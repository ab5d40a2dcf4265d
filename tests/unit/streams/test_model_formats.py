"""The formats of models and agents, read by the packages that they are for."""

import dataclasses
import json
from collections.abc import Callable, Iterable
from typing import Any, Final

import httpx2
import msgspec
import openai
import pytest
from ag_ui.core import CustomEvent, Event, RunStartedEvent, TextMessageContentEvent
from openai.types.chat import ChatCompletionChunk
from pydantic import TypeAdapter

from heartwire.messages import to_json
from heartwire.streams.ag_ui import AgUi
from heartwire.streams.ai_sdk import AiSdk
from heartwire.streams.events import fields, sse
from heartwire.streams.formats import Format, ResumingShaper, format_of
from heartwire.streams.openai import OpenAi
from heartwire.types import Channel, Publication
from tests.js.node import need_packages, node

AI: Final = AiSdk(new_id=lambda: "m1")
OPEN_AI: Final = OpenAi("words-1", new_id=lambda: "chatcmpl-1", clock=lambda: 1_700_000_000.5)


def ag_ui() -> AgUi:
    ids = iter("abcdef")
    return AgUi(new_id=lambda: next(ids))


def kept(format: Format, values: Iterable[object], *, is_done: bool = True) -> list[Any]:
    shaper = format.shaper()
    events = list(shaper.begin())
    for value in values:
        events += shaper.add(value)
    return [*events, *(shaper.finish() if is_done else ())]


def answer(format: Format, values: Iterable[object], reason: str = "done", detail: str = "") -> bytes:
    """All that a reader gets."""
    events = kept(format, values, is_done=reason == "done")
    told = [
        format.frame(Publication(Channel("a"), "e", offset, to_json(event), True, None, 0))
        for offset, event in enumerate(events, 1)
    ]
    return b"".join([*told, format.end(reason, detail)])


# -- the AI SDK ----------------------------------------------------------------------------------------------


def chat(values: Iterable[object], reason: str = "done", detail: str = "") -> dict[str, Any]:
    need_packages()
    ran = node("ai_chat.mjs", answer(AI, values, reason, detail).decode())
    assert ran.returncode == 0, ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout)
    return told


@pytest.mark.slow
def test_the_ai_sdk_shows_text_and_chunks_once_also_after_a_resume() -> None:
    tool = {"type": "tool-input-available", "toolCallId": "t", "toolName": "look", "input": {"at": 1}}
    found = {"type": "tool-output-available", "toolCallId": "t", "output": "rain"}
    told = chat(["sun", "ny\n", tool, found, "It ", "rains", {"type": "data-sky", "data": {"grey": True}}])
    assert [part.get("text") or part["type"] for part in told["parts"]] == [
        "sunny\n",
        "tool-look",
        "It rains",
        "data-sky",
    ]
    assert [part["state"] for part in told["parts"][:3]] == ["done", "output-available", "done"]
    assert told["parts"][1]["output"] == "rain"
    assert (told["ids"], told["isSame"], told["status"], told["errors"]) == (["m1"], True, "ready", [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reason", "detail", "status", "errors"),
    [
        ("aborted", "", "ready", []),
        ("interrupted", "", "error", ["interrupted"] * 2),
        ("error", "no money", "error", ["no money"] * 2),
    ],
)
def test_the_ai_sdk_is_told_of_other_ends_and_keeps_the_text(
    reason: str, detail: str, status: str, errors: list[str]
) -> None:
    told = chat(["so ", "far"], reason, detail)
    assert [part["text"] for part in told["parts"]] == ["so far"]
    assert (told["ids"], told["status"], told["errors"]) == (["m1"], status, errors)


def test_a_run_of_the_ai_sdk_may_have_a_start_and_a_finish_of_its_own() -> None:
    start, finish = {"type": "start", "messageId": "mine"}, {"type": "finish", "finishReason": "length"}
    delta = {"type": "text-delta", "id": "text-1", "delta": "a"}
    parts = [{"type": "text-start", "id": "text-1"}, delta, {"type": "text-end", "id": "text-1"}]
    assert kept(AI, [start, "a", finish]) == [start, *parts, finish]
    assert kept(AI, []) == [{"type": "start", "messageId": "m1"}, {"type": "finish"}]
    assert answer(AI, [], "aborted").endswith(b'data: {"type":"abort"}\n\ndata: [DONE]\n\n')
    assert format_of("ai-sdk").headers == {"x-vercel-ai-ui-message-stream": "v1"}


# -- AG-UI ---------------------------------------------------------------------------------------------------


def events(values: Iterable[object], reason: str = "done", detail: str = "") -> list[Any]:
    blocks = answer(ag_ui(), values, reason, detail).removesuffix(b"\n\n").split(b"\n\n")
    read = TypeAdapter[Any](Event)
    return [read.validate_json(block.removeprefix(b"data: ")) for block in blocks]


def test_ag_ui_gets_a_whole_run_of_strings() -> None:
    told = events(["sun", "ny", CustomEvent(name="sky", value="grey"), "!"])
    assert [event.type.value for event in told] == [
        "RUN_STARTED",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "CUSTOM",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    assert [event.message_id for event in told if hasattr(event, "message_id")] == ["text-c"] * 4 + [
        "text-d"
    ] * 3
    assert (told[0].thread_id, told[0].run_id, told[-1].run_id) == ("a", "b", "b")


def test_ag_ui_takes_a_run_that_names_itself_and_tells_of_other_ends() -> None:
    mine = RunStartedEvent(thread_id="t", run_id="r")
    text = TextMessageContentEvent(message_id="x", delta="hi")
    told = events([mine, text])
    assert [event.type.value for event in told] == ["RUN_STARTED", "TEXT_MESSAGE_CONTENT", "RUN_FINISHED"]
    assert (told[-1].thread_id, told[-1].run_id) == ("t", "r")
    ended = {"type": "RUN_FINISHED", "threadId": "t", "runId": "r", "result": 1}
    assert [event.type.value for event in events([mine, ended])] == ["RUN_STARTED", "RUN_FINISHED"]
    assert [event.type.value for event in events([])] == ["RUN_STARTED", "RUN_FINISHED"]
    last = events(["a"], "interrupted")[-1]
    assert (last.type.value, last.message, last.code) == ("RUN_ERROR", "interrupted", "interrupted")
    assert events(["a"], "error", "no money")[-1].message == "no money"


# -- OpenAI --------------------------------------------------------------------------------------------------


def completion(values: Iterable[object], reason: str = "done", detail: str = "") -> list[ChatCompletionChunk]:
    """What OpenAI's own client reads."""
    content = answer(OPEN_AI, values, reason, detail)
    headers = {"content-type": OPEN_AI.media_type}
    sent = httpx2.MockTransport(lambda request: httpx2.Response(200, headers=headers, content=content))
    with httpx2.Client(transport=sent) as http:
        client = openai.OpenAI(api_key="x", base_url="http://model", http_client=http, max_retries=0)
        return list(client.chat.completions.create(model="words-1", messages=[], stream=True))


def test_the_client_of_openai_reads_text() -> None:
    chunks = completion(["sun", "ny"])
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["sun", "ny", None]
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant", None, None]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, "stop"]
    assert {(chunk.id, chunk.model, chunk.created) for chunk in chunks} == {
        ("chatcmpl-1", "words-1", 1_700_000_000)
    }
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk.model_dump())


def test_chunks_of_openai_pass_as_they_are() -> None:
    upstream = completion(["a"])
    assert [chunk.choices[0].finish_reason for chunk in completion(upstream)] == [None, "stop"]
    usage = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}
    assert completion([usage])[0].choices == []


def test_the_client_of_openai_raises_where_a_run_did_not_end_well() -> None:
    with pytest.raises(openai.APIError, match="interrupted") as raised:
        completion(["a"], "interrupted")
    assert raised.value.code == "interrupted"
    with pytest.raises(openai.APIError, match="no money"):
        completion(["a"], "error", "no money")


# -- runs that another one goes on with ----------------------------------------------------------------------

HALVES: Final[dict[str, tuple[list[Any], list[Any]]]] = {
    "in a text": (["a", "b"], ["c"]),
    "after an event": (["a", {"type": "CUSTOM", "name": "n", "value": 1}], ["b"]),
    "before an event": (["a"], [{"type": "CUSTOM", "name": "n", "value": 1}, "b"]),
    "at the beginning": ([], ["a"]),
    "at the end": (["a"], []),
}


@pytest.mark.parametrize("halves", HALVES.values(), ids=HALVES)
@pytest.mark.parametrize("name", ["ai-sdk", "ag-ui", "openai"])
def test_a_run_that_is_handed_over_reads_as_one(name: str, halves: tuple[list[Any], list[Any]]) -> None:
    """Whole runs and halved ones draw the same names, so that they can be compared."""
    formats: dict[str, Callable[[], Format]] = {
        "ai-sdk": lambda: AI,
        "ag-ui": ag_ui,
        "openai": lambda: OPEN_AI,
    }
    first, second = halves
    whole = kept(formats[name](), first + second)
    begun = kept(format := formats[name](), first, is_done=False)
    other = format.shaper()
    assert isinstance(other, ResumingShaper)
    other_events = list(other.resume([to_json(event).decode() for event in begun]))
    for value in second:
        other_events += other.add(value)
    assert begun + other_events + list(other.finish()) == whole


def test_what_others_have_appended_is_no_trouble() -> None:
    for format in (AI, ag_ui(), OPEN_AI):
        shaper = format.shaper()
        assert isinstance(shaper, ResumingShaper)
        assert list(shaper.resume(["[1]", b'"text"', "{}"])) == []


# -- what they share -----------------------------------------------------------------------------------------


@dataclasses.dataclass
class Of:
    type: str


class Made(msgspec.Struct, rename="camel"):
    type: str
    run_id: int = 1


def test_events_are_anything_with_fields() -> None:
    assert fields({"a": 1}) == {"a": 1}
    assert fields(Of("x")) == {"type": "x"}
    assert fields(Made("x")) == {"type": "x", "runId": 1}
    assert fields(CustomEvent(name="n", value=1)) == {"type": "CUSTOM", "name": "n", "value": 1}
    for value in (b"bytes", 1, None, ["a"], object()):
        with pytest.raises(TypeError):
            fields(value)


def test_an_event_of_several_lines_is_one_block() -> None:
    """Others append to a stream too, and write JSON as they like."""
    assert sse(b'{"a":\r\n1}') == b'data: {"a":\ndata: 1}\n\n'
    assert sse(b"a\rid: 5\n\nevent: b") == b"data: a\ndata: id: 5\ndata: \ndata: event: b\n\n"
