"""Responses of an application that follow a stream: over uvicorn, over our classes for it, behind middleware."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import aiohttp
import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.middleware.base import BaseHTTPMiddleware

from heartwire import Hub
from heartwire.streams.formats import Text, format_of, register
from heartwire.transports.http.request import HeartwireHttpProtocol
from heartwire.types import Channel, Publication
from tests.unit.hub.test_runs import WORDS, Model
from tests.unit.transports.tools import Served, Wire, at_rest, run, soon, until

ANSWER: Final = "".join(WORDS)


class Chat:
    """An application: POST starts an answer, GET resumes it, DELETE stops it."""

    def __init__(self, **options: Any) -> None:
        self.hub = Hub(allow_anonymous=True, drain_s=0, **options)
        self.hub.namespace("answer", durable=True)
        self.model = Model()
        self.app = FastAPI(lifespan=self.hub.lifespan)

        @self.app.post("/chat/{id}")
        async def chat(id: str, format: str = "text", user: str = "") -> Response:
            return await self.hub.stream_response(f"answer:{id}", self.model, format=format, user=user)

        @self.app.api_route("/chat/{id}", methods=["GET", "HEAD"])
        async def resume(id: str, request: Request, format: str = "text") -> Response:
            after = request.headers.get("last-event-id")
            return await self.hub.resume_response(f"answer:{id}", format=format, after=after)

        @self.app.delete("/chat/{id}")
        async def stop(id: str) -> bool:
            return await self.hub.cancel_stream(f"answer:{id}")

    @property
    def readers(self) -> int:
        topic = self.hub.node.switchboard.topics.get(Channel("answer:1"))
        return len(topic.subscriptions) if topic is not None else 0


def add_middleware(app: FastAPI) -> None:
    async def pass_on(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        return await call_next(request)

    app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)


DOORS: Final = ["uvicorn", "ours", "middleware"]


@contextlib.asynccontextmanager
async def serving(chat: Chat, door: str) -> AsyncIterator[Served]:
    if door == "middleware":
        add_middleware(chat.app)
    http: Any = HeartwireHttpProtocol if door == "ours" else "auto"
    config = uvicorn.Config(chat.app, http=http, lifespan="on", log_config=None)
    async with run(config, hub=chat.hub) as served:
        yield served


@pytest.mark.parametrize("door", DOORS)
async def test_an_answer_is_read_while_it_is_made_and_whenever_afterwards(door: str) -> None:
    chat = Chat()
    async with serving(chat, door) as served, aiohttp.ClientSession(served.url) as http:
        async with http.post("/chat/1") as first, http.post("/chat/1") as second:
            assert first.headers["cache-control"] == "no-store, no-transform"
            assert first.headers["content-type"] == "text/plain; charset=utf-8"
            chat.model.allow(1)
            assert await soon(first.content.readexactly(len(WORDS[0]))) == WORDS[0].encode()
            chat.model.allow(1)
            assert await soon(second.content.readexactly(len(WORDS[0] + WORDS[1])))
            async with http.get("/chat/1") as third:
                chat.model.allow(100)
                assert await soon(third.text()) == ANSWER
            assert WORDS[0] + await soon(first.text()) == ANSWER
            assert (await soon(second.text())) == "".join(WORDS[2:])
        async with http.get("/chat/1") as late, http.post("/chat/1") as again:
            assert [await soon(late.text()), await soon(again.text())] == [ANSWER, ANSWER]
        async with http.head("/chat/1") as head:
            assert head.headers["content-type"] == "text/plain; charset=utf-8"
            assert (head.status, await soon(head.read())) == (200, b"")
        assert chat.model.runs == 1
        await until(lambda: at_rest(chat.hub))


@pytest.mark.parametrize("door", DOORS)
async def test_who_goes_away_stops_nothing_and_who_stops_ends_it_for_all(door: str) -> None:
    chat = Chat()
    async with serving(chat, door) as served, aiohttp.ClientSession(served.url) as http:
        async with http.post("/chat/1") as first:
            chat.model.allow(1)
            await soon(first.content.readany())
            first.close()
        await until(lambda: chat.readers == 0)
        chat.model.allow(1)
        await until(lambda: chat.model.said == 2)
        async with http.get("/chat/1") as other, http.get("/chat/1?format=sse") as events:
            await soon(other.content.readexactly(len(WORDS[0] + WORDS[1])))
            async with http.delete("/chat/1") as stopped:
                assert await stopped.json() is True
            assert await soon(other.text()) == "\n[aborted]\n"
            assert (await soon(events.text())).endswith('id: end\nevent: end\ndata: {"reason":"aborted"}\n\n')
        await until(lambda: chat.model.outcome)
        async with http.delete("/chat/1") as stopped:
            assert await stopped.json() is False


@pytest.mark.parametrize("door", DOORS)
async def test_readers_that_stop_reading_hold_up_nobody_and_hold_nothing(door: str) -> None:
    """20 MB for each of 10 readers who take none of it: the process has the stream, and their positions."""
    chat = Chat(max_message_bytes=100_000)
    piece, count = "x" * 50_000, 400

    async def much() -> AsyncIterator[str]:
        for _ in range(count):
            yield piece
            await asyncio.sleep(0)

    async with serving(chat, door) as served, contextlib.AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(await Wire.open(served)) for _ in range(10)]
        chat.model = much  # type: ignore[assignment]
        for wire in wires:
            await wire.send(b"POST /chat/1 HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 0\r\n\r\n")
        await until(lambda: chat.readers == len(wires))
        await until(lambda: not chat.hub.node.runs._runs)
        waiting = [connection.link.backlog_bytes for connection in chat.hub.node.connections]  # type: ignore[attr-defined]
        assert len(waiting) == len(wires)
        assert sum(waiting) < 10 * 200_000
        body = (await soon(wires[0].answer())).body
        assert len(body) == count * len(piece)


@pytest.mark.parametrize("door", ["uvicorn", "ours"])
async def test_an_answer_that_is_not_whole_breaks_off(door: str) -> None:
    chat = Chat()
    async with serving(chat, door) as served, aiohttp.ClientSession(served.url) as http:
        async with http.post("/chat/1") as reader:
            chat.model.allow(1)
            await soon(reader.content.readexactly(len(WORDS[0])))
            chat.hub.drain()
            with pytest.raises(aiohttp.ClientPayloadError):
                await soon(reader.text())
        async with http.get("/chat/1") as refused:
            assert refused.status == 503


async def test_an_event_source_goes_on_after_the_event_it_has_and_stops_at_the_end() -> None:
    chat = Chat()
    async with serving(chat, "uvicorn") as served, aiohttp.ClientSession(served.url) as http:
        chat.model.allow(100)
        async with http.post("/chat/1?format=sse") as whole:
            events = (await soon(whole.text())).split("\n\n")[1:-1]
        ids = [event.split("\n")[0].removeprefix("id: ") for event in events]
        assert [event.split("\n")[1:] for event in events[:-1]] == [[f"data: {word}"] for word in WORDS]
        assert ids[-1] == "end"
        for at in (0, 20, 38, 39):
            async with http.get("/chat/1?format=sse", headers={"last-event-id": ids[at]}) as rest:
                assert (await soon(rest.text())).split("\n\n")[1:-1] == events[at + 1 :]
        async with http.get("/chat/1?format=sse", headers={"last-event-id": "end"}) as nothing:
            assert nothing.status == 204
        for wrong, status in (("x", 400), ("abcdefgh.3", 409), (ids[39].replace("40", "42"), 409)):
            async with http.get("/chat/1?format=sse", headers={"last-event-id": wrong}) as refused:
                assert refused.status == status


async def test_there_is_an_answer_for_every_error() -> None:
    chat = Chat(max_streams_per_user=1)
    async with serving(chat, "uvicorn") as served, aiohttp.ClientSession(served.url) as http:
        async with http.get("/chat/1") as none:
            assert (none.status, await none.text()) == (204, "")
        async with http.post("/chat/1?user=ann"), http.post("/chat/2?user=ann") as refused:
            assert refused.status == 429
            assert (await refused.json())["error"]["code"] == "too_many_streams"
        async with http.post("/chat/1?format=nothing") as unknown:
            assert unknown.status == 500


async def test_an_idle_answer_of_events_has_heartbeats_and_others_have_none() -> None:
    chat = Chat()
    async with (
        serving(chat, "uvicorn") as served,
        aiohttp.ClientSession(served.url) as http,
        http.post("/chat/1?format=sse") as events,
        http.get("/chat/1?format=ndjson") as lines,
    ):
        assert await soon(events.content.readexactly(3)) == b":\n\n"
        await until(lambda: chat.readers == 2)
        for connection in chat.hub.node.connections:
            connection.ping()  # type: ignore[attr-defined]
        assert await soon(events.content.readexactly(3)) == b":\n\n"
        chat.model.allow(100)
        assert [json.loads(line) async for line in lines.content] == WORDS


async def test_a_format_of_somebody_that_fails_costs_only_its_own_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Text):
        def frame(self, publication: Publication) -> bytes:
            if publication.offset == 2:
                raise RuntimeError("a fault of this format")
            return super().frame(publication)

    register("broken", Broken())
    assert isinstance(format_of("broken"), Broken)
    chat = Chat()
    async with (
        serving(chat, "uvicorn") as served,
        aiohttp.ClientSession(served.url) as http,
        http.post("/chat/1?format=broken") as broken,
        http.get("/chat/1") as good,
    ):
        await until(lambda: chat.readers == 2)
        chat.model.allow(100)
        assert await soon(broken.text()) == ANSWER.replace(WORDS[1], "", 1)
        assert await soon(good.text()) == ANSWER
    assert "a fault of this format" in caplog.text


async def test_pieces_are_the_same_bytes_for_frameworks_with_responses_of_their_own() -> None:
    chat = Chat()
    async with chat.hub.lifespan():
        await chat.hub.start_stream("answer:1", chat.model)
        pieces = chat.hub.stream_pieces("answer:1")
        chat.model.allow(1)
        assert await soon(anext(pieces)) == WORDS[0].encode()
        chat.model.allow(100)
        assert WORDS[0] + b"".join([piece async for piece in pieces]).decode() == ANSWER
        others = chat.hub.stream_pieces("answer:1")
        await soon(anext(others))
        await others.aclose()
        await until(lambda: at_rest(chat.hub))
