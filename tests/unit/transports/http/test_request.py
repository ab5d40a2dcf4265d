"""What is not HTTP, and what stands behind a request that is not answered yet."""

import json
import logging

import pytest

from heartwire import Hub
from tests.unit.transports.tools import Wire, at_rest, serve_native, until

POLL = b"GET /channels/a?wait=50&client=me HTTP/1.1\r\nHost: localhost\r\n\r\n"
STREAM = b"GET /channels/a HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
CHUNKED = b"POST /channels/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
POST = b"POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
NONSENSE = b"nonsense\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (NONSENSE, "Invalid HTTP request received."),
        (b"GET /channels/a HTTP/1.1\r\nHost\x00: localhost\r\n\r\n", "Invalid HTTP request received."),
        (CHUNKED + b"x\r\n", "Invalid HTTP request received."),
        (b"GET /channels/a HTTP/1.1\r\nX: " + b"x" * 300_000, "Header lines are too long."),
    ],
)
async def test_what_is_not_http_is_answered_as_any_error(sent: bytes, message: str) -> None:
    hub = Hub()
    async with serve_native(hub) as served, await Wire.open(served) as wire:
        await wire.send(sent)
        answer = await wire.answer()
        assert answer.status == 400
        assert answer.header("content-type") == "application/json"
        assert json.loads(answer.body) == {
            "error": {"code": "bad_request", "message": message, "retry": False}
        }
        assert await wire.rest() == b""
        await until(lambda: at_rest(hub))


async def test_nonsense_does_not_overtake_the_answer_before_it() -> None:
    hub = Hub()
    async with serve_native(hub) as served, await Wire.open(served) as wire:
        await wire.send(POLL)
        await until(lambda: len(hub.node.connections) == 1)
        await wire.send(NONSENSE)
        await hub.publish("a", "news")
        answer = await wire.answer()
        assert [one["data"] for one in json.loads(answer.body)["publications"]] == ["news"]
        assert (await wire.answer()).status == 400
        assert await wire.rest() == b""


async def test_nonsense_right_behind_a_request() -> None:
    """The message was published, and its publisher was told that it was nonsense."""
    hub = Hub()
    async with serve_native(hub) as served, await Wire.open(served) as wire:
        await wire.send(POST + NONSENSE)
        assert (await wire.answer()).status == 200
        assert (await wire.answer()).status == 400
        assert await wire.rest() == b""


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
async def test_upgrade_that_is_ignored_costs_no_body(framing: bytes) -> None:
    """Java's HttpClient offers h2c with the first request to every server."""
    body = b"hello" if b"5" in framing else b"5\r\nhello\r\n0\r\n\r\n"
    upgrade = (
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQBAAAAAAIAAAAA\r\n"
    )
    head = b"POST /channels/a HTTP/1.1\r\nHost: localhost\r\n" + upgrade + framing + b"\r\n\r\n"
    hub = Hub()
    async with serve_native(hub) as served:
        for at in range(1, len(head + body), 7):
            async with await Wire.open(served) as wire:
                await wire.send((head + body)[:at], (head + body)[at:])
                assert (await wire.answer()).status == 200
                if b"5" in framing:
                    await wire.send(POLL.replace(b"wait=50", b"since=earliest"))
                    answer = await wire.answer()
                    assert {one["data"] for one in json.loads(answer.body)["publications"]} == {"hello"}


async def test_a_body_that_breaks_behind_another_request_leaves_its_answer_alone() -> None:
    hub = Hub()
    async with serve_native(hub) as served, await Wire.open(served) as wire:
        await wire.send(POLL)
        await until(lambda: len(hub.node.connections) == 1)
        await wire.send(CHUNKED + b"x\r\n")
        await hub.publish("a", "news")
        assert (await wire.answer()).status == 200
        assert (await wire.answer()).status == 400
        assert await wire.rest() == b""


async def test_a_stream_with_a_request_behind_it_ends_with_its_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub = Hub()
    async with serve_native(hub) as served:
        wire = await Wire.open(served)
        await wire.send(STREAM + POLL)
        await wire.until(b"id: ")
        wire.reset()
        await hub.publish("a", "news")
        await hub.publish("a", "more news")
        await until(lambda: at_rest(hub))
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
