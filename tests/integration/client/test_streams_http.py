"""The requests that the Python client makes for streams: tokens, other hosts, redirects, servers that are not
of the protocol. The servers here answer what a test says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest
from aiohttp import web

import heartwire
from heartwire import ProtocolError, Refused, Unauthorized
from tests.integration.client.tools import FAST, nothing_left

pytestmark = [pytest.mark.filterwarnings("error::ResourceWarning")]

END: Final = {"Stream-Next-Offset": "9", "Stream-Up-To-Date": "true", "Stream-Closed": "true"}
JSON: Final = {"Content-Type": "application/json"}


@contextlib.asynccontextmanager
async def answering(answer: Callable[[web.BaseRequest], web.StreamResponse]) -> AsyncIterator[str]:
    """A server of one function; its address."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return answer(request)

    server = web.Server(handle)
    runner = web.ServerRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def read(client: Any, name: str = "s", **arguments: Any) -> list[Any]:
    async with asyncio.timeout(10):
        return [one async for one in client.stream(name).read(**arguments)]


async def test_a_token_that_lasts() -> None:
    seen = []

    def answer(request: web.BaseRequest) -> web.Response:
        seen.append((request.path_qs, request.headers.get("Authorization"), request.headers.get("X-Tenant")))
        is_right = request.headers.get("Authorization") == "Bearer right"
        return web.Response(status=200 if is_right else 401, headers=END | JSON, body=b"[1]")

    async with answering(answer) as url, nothing_left():
        assert await read(heartwire.connect(url, token="right", headers={"X-Tenant": "t"})) == [1]
        with pytest.raises(Unauthorized):
            await read(heartwire.connect(url, token="wrong"))
    assert seen == [
        ("/streams/s?offset=-1", "Bearer right", "t"),
        ("/streams/s?offset=-1", "Bearer wrong", None),
    ]


async def test_tokens_of_a_function() -> None:
    tokens = iter(["old", "wrong", None, "new", "wrong", "wrong"])
    right = {"old", "new"}

    async def get_token() -> Any:
        return next(tokens)

    def answer(request: web.BaseRequest) -> web.Response:
        is_right = request.headers.get("Authorization", "").removeprefix("Bearer ") in right
        return web.Response(status=200 if is_right else 401, headers=END | JSON, body=b"[1]")

    async with answering(answer) as url, nothing_left():
        client = heartwire.connect(url, get_token=get_token, options=FAST)
        assert await read(client) == [1]
        assert await read(client) == [1]  # the same token
        right.discard("old")
        with pytest.raises(Unauthorized):  # "wrong" is refused, too
            await read(client)
        assert await read(client) == [1]  # None is none for now
        right.discard("new")
        with pytest.raises(Unauthorized):
            await read(client)


async def test_a_function_that_gives_no_token() -> None:
    async with answering(lambda _: web.Response(headers=END)) as url:
        client = heartwire.connect(url, get_token=lambda: "two\nlines", options=FAST)
        with pytest.raises(heartwire.ConfigError, match="get_token"):
            await read(client)


async def test_another_host_gets_neither_token_nor_headers() -> None:
    seen = []

    def answer(request: web.BaseRequest) -> web.Response:
        seen.append((request.path_qs, "Authorization" in request.headers, "X-Tenant" in request.headers))
        return web.Response(headers=END | JSON, body=b"[1]")

    async with answering(answer) as own, answering(answer) as other:
        client = heartwire.connect(f"{own}/below", token="secret", headers={"X-Tenant": "t"})
        for name in (f"{other}/a?sign=x", f"{own}/b", "c"):
            assert await read(client, name) == [1]
    assert seen == [
        ("/a?sign=x&offset=-1", False, False),
        ("/b?offset=-1", True, True),
        ("/below/streams/c?offset=-1", True, True),
    ]


async def test_a_stream_that_has_moved() -> None:
    def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(status=308, headers={"Location": "https://elsewhere/streams/s"})

    async with answering(answer) as url, nothing_left():
        with pytest.raises(ProtocolError, match="https://elsewhere/streams/s"):
            await read(heartwire.connect(url, token="secret"))


async def test_what_is_no_durable_stream_is_not_taken_for_one() -> None:
    """The page by which a network wants one to log in is 200, and text."""
    answers = iter(
        [
            web.Response(body=b"<html>", content_type="text/html"),
            web.Response(status=503, headers={"Retry-After": "0"}),
            web.Response(status=429),
            web.Response(headers=END | JSON, body=b"{}"),
            web.Response(headers=END | JSON, body=b"[2]"),
        ]
    )
    async with answering(lambda _: next(answers)) as url, nothing_left():
        assert await read(heartwire.connect(url, options=FAST)) == [2]


async def test_a_server_without_event_streams() -> None:
    seen = []
    at_tail = {"Stream-Next-Offset": "1", "Stream-Up-To-Date": "true", "Stream-Cursor": "77"}

    def answer(request: web.BaseRequest) -> web.Response:
        seen.append(request.query_string)
        if request.query.get("live") == "sse":
            return web.Response(status=400)
        is_live = "live" in request.query
        return web.Response(headers=JSON | (END if is_live else at_tail), body=b"[2]" if is_live else b"[1]")

    async with answering(answer) as url, nothing_left():
        assert await read(heartwire.connect(url, options=FAST)) == [1, 2]
    assert seen == ["offset=-1", "offset=1&live=sse&cursor=77", "offset=1&live=long-poll&cursor=77"]


async def test_closing_with_data_is_sent_again_with_the_same_number() -> None:
    """Its first answer is lost: the server says that it has it."""
    seen = []

    def answer(request: web.BaseRequest) -> web.Response:
        if request.method == "HEAD":
            return web.Response(headers=JSON)
        seen.append(
            {name: value for name, value in request.headers.items() if name.startswith(("Prod", "Str"))}
        )
        return web.Response(status=503 if len(seen) == 1 else 204)

    async with answering(answer) as url, nothing_left():
        await heartwire.connect(url, options=FAST).stream("s").close({"last": True})
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert (seen[0]["Producer-Seq"], seen[0]["Stream-Closed"]) == ("0", "true")


async def test_deleting_what_is_gone_by_then() -> None:
    statuses = iter([503, 404, 404])
    async with answering(lambda _: web.Response(status=next(statuses))) as url, nothing_left():
        stream = heartwire.connect(url, options=FAST).stream("s")
        await stream.delete()
        with pytest.raises(Refused):
            await stream.delete()
