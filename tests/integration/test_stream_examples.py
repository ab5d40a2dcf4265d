"""The examples of streams that outlive their request, and the tutorial's program, each on a real server."""

import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from starlette.responses import StreamingResponse

from heartwire.testing.server import serving
from tests.integration.test_examples import load
from tests.unit.test_docs import blocks, text_of

pytestmark = pytest.mark.slow

Answer = aiohttp.ClientResponse


async def chunks(answer: Answer, count: int = 0) -> list[dict[str, Any]]:
    """So many events of JSON, or all to the end."""
    found: list[dict[str, Any]] = []
    async for line in answer.content:
        if line.startswith(b"data: {"):
            found.append(json.loads(line[6:]))
        if count and len(found) == count:
            break
    return found


def words(events: list[dict[str, Any]]) -> str:
    return "".join(event.get("delta", "") for event in events)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENGINE", "memory://")
    return tmp_path


async def test_fastapi_ai_chat(folder: Path) -> None:
    chat = load("fastapi_ai_chat")
    asked = {
        "id": "c",
        "messages": [{"id": "m", "role": "user", "parts": [{"type": "text", "text": "Why?"}]}],
    }
    async with serving(chat.app, hub=chat.hub) as url, aiohttp.ClientSession(url) as session:
        async with session.get("/api/chat/c/stream") as answer:
            assert answer.status == 204
        async with session.post("/api/chat", json=asked) as answer:  # and it is broken off
            assert answer.headers["x-vercel-ai-ui-message-stream"] == "v1"
            first = await chunks(answer, 5)
        async with (
            session.get("/api/chat/c/stream") as resumed,
            session.post("/api/chat", json=asked) as again,
            session.get("/api/chat/c/stream?message=m") as third,
        ):
            assert [await chunks(one, 5) for one in (resumed, again, third)] == [first] * 3
            async with session.post("/api/chat/c/stop") as answer:
                assert await answer.json() is True
            rest = await chunks(resumed)
            assert rest[-1] == {"type": "abort"}
            assert [await chunks(one) for one in (again, third)] == [rest] * 2
        assert words(first).startswith("the ")
        async with session.get("/api/chat/c") as answer:
            assert await answer.json() == [{"id": "m", "text": "Why?"}]
        async with session.post("/api/chat/c/stop") as answer:
            assert await answer.json() is False


@pytest.mark.usefixtures("unconfigured_django")
async def test_django_ai_stream() -> None:
    example = load("django_ai_stream")
    async with serving(example.app, hub=example.hub) as url, aiohttp.ClientSession(url) as session:
        async with session.get("/answers/42/") as answer:
            assert answer.status == 404
        async with session.post("/answers/42/?question=Why") as answer:
            first = await answer.content.readexactly(4)
        async with session.get("/answers/42/") as resumed:
            assert await resumed.content.readexactly(4) == first == b"You "
            async with session.post("/answers/42/stop/") as answer:
                assert await answer.json() == {"stopped": True}
            assert (await resumed.content.read()).endswith(b"\n[aborted]\n")


async def test_agent_stream(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE", f"sqlite:///{folder}/runs.db?shared=yes")
    one, other = load("agent_stream"), load("agent_stream")
    async with serving(other.app, hub=other.hub) as other_url, aiohttp.ClientSession() as session:
        async with serving(one.app, hub=one.hub) as url, session.post(f"{url}/runs/7?task=tea") as answer:
            begun = await chunks(answer, 13)
        async with session.get(f"{other_url}/runs/7") as answer:
            whole = await chunks(answer)
    assert whole[:13] == begun
    assert [event["stepName"] for event in whole if event["type"] == "STEP_FINISHED"] == list(one.STEPS)
    assert [event["type"] for event in whole if "RUN" in event["type"]] == ["RUN_STARTED", "RUN_FINISHED"]
    assert words(whole).endswith("The tea is made. Here it is. ")


async def test_the_five_lines_of_the_tutorial(folder: Path) -> None:
    """The program from before, changed as the tutorial says, and its next block beside it."""
    page = text_of("docs/streams-tutorial.md")
    before, resume = blocks(page, "python")[:2]
    (changes,) = blocks(page, "diff")
    lines = changes.splitlines()
    assert sum(line.startswith("+") for line in lines) == 5
    after = before
    for removed, added in re.findall(r"^-(.*)\n\+(.*)$", changes, re.MULTILINE):
        assert after.count(removed) == 1
        after = after.replace(removed, added)
    imports, *rest = (line[1:] for line in lines if line[:1] == "+")
    program = f"{imports}\n" + after.replace("app = FastAPI", "\n".join(rest[:2]) + "\napp = FastAPI", 1)
    program += resume.partition("FastAPI(lifespan=hub.lifespan)\n")[2]
    names: dict[str, Any] = {"__name__": "tutorial"}
    exec(program, names)
    assert StreamingResponse is names["StreamingResponse"]
    said = "You asked: why "
    async with serving(names["app"], hub=names["hub"]) as url, aiohttp.ClientSession(url) as session:
        async with session.post("/answers/1?question=why") as answer:
            assert await answer.content.readexactly(4) == b"You "
        async with session.get("/answers/1") as answer:
            assert await answer.text() == said
        async with session.post("/answers/1?question=why") as answer:
            assert await answer.text() == said
        async with session.get("/answers/2") as answer:
            assert answer.status == 204
