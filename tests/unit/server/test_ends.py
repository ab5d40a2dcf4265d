"""Ends of durable streams on the plain dialect's HTTP: what polls and event streams say at the end and behind
it, of one channel and of several."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from heartwire import Hub
from heartwire.streams.record import Claim, Step, StreamOptions
from heartwire.types import Channel, Message
from tests.unit.transports.tools import Answer, Served, Wire, at_rest, serve_native, soon, until

A, B = Channel("s:a"), Channel("s:b")
DONE = {"reason": "done"}
EVENTS = "Accept: text/event-stream\r\n"


@contextlib.asynccontextmanager
async def stage() -> AsyncIterator[tuple[Hub, Served]]:
    """A server with two streams, of which the first has a message."""
    hub = Hub()
    hub.namespace("s", durable=True)
    async with serve_native(hub) as served:
        for channel in (A, B):
            await hub.node.streams.create(channel, StreamOptions(content_type="text/plain"))
        await hub.node.streams.append(A, [Message(b"one")])
        yield hub, served


async def close(hub: Hub, channel: Channel = A, *messages: bytes) -> None:
    await hub.node.streams.append(channel, list(map(Message, messages)), Claim(close="done"))


async def get(served: Served, query: str, headers: str = "") -> Answer:
    wire = await asked(served, query, headers)
    return await soon(wire.answer())


async def asked(served: Served, query: str, headers: str = "") -> Wire:
    wire = await Wire.open(served)
    await wire.send(f"GET /channels{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode())
    return wire


def page(answer: Answer) -> Any:
    assert answer.status == 200
    return json.loads(answer.body)


async def held(hub: Hub, served: Served, query: str) -> Wire:
    before = len(hub.node.connections)
    wire = await asked(served, query)
    await until(lambda: len(hub.node.connections) == before + 1)
    return wire


@pytest.mark.parametrize("wait", ["", "&wait=50"])
@pytest.mark.parametrize(
    "header", ["", "Accept: */*\r\nOrigin: http://127.0.0.1\r\n"], ids=["quick", "whole"]
)
async def test_a_poll_from_now_on_a_closed_stream_is_told_and_its_next_one_too(
    wait: str, header: str
) -> None:
    async with stage() as (hub, served):
        await close(hub)
        since = ""
        for _ in range(3):
            told = page(await get(served, f"/{A}?{since}{wait}", header))
            assert (told["publications"], told["recovered"]) == ([], True)
            assert told["ends"] == [{"position": told["position"], "end": DONE}]
            since = f"since={told['position']}"
        assert at_rest(hub)


async def test_a_poll_at_the_end_is_told_also_where_a_topic_remembers_it() -> None:
    async with stage() as (hub, served):
        wire = await held(hub, served, f"/{A}?wait=50")
        await close(hub)
        first = page(await soon(wire.answer()))
        again = page(await get(served, f"/{A}?since={first['position']}"))
        assert again["ends"] == first["ends"] != []


async def test_a_held_poll_gets_what_came_with_the_end_and_then_the_end() -> None:
    async with stage() as (hub, served):
        wire = await held(hub, served, f"/{A}?wait=50")
        await close(hub, A, b"two")
        first = page(await soon(wire.answer()))
        assert [one["data"] for one in first["publications"]] == ["two"]
        assert page(await get(served, f"/{A}?since={first['position']}&wait=50"))["ends"][0]["end"] == DONE


async def test_what_is_known_is_not_modified_but_for_an_end() -> None:
    async with stage() as (hub, served):
        known = page(await get(served, f"/{A}?since=earliest"))["position"]
        tag = f'If-None-Match: "{known}"\r\n'
        assert (await get(served, f"/{A}?since={known}", tag)).status == 304
        await close(hub)
        told = await get(served, f"/{A}?since={known}", tag)
        assert page(told)["ends"] != []
        assert dict(told.headers)["etag"] != f'"{known}"'
        at_end = page(told)["position"]
        for tag in (f'If-None-Match: "{at_end}"\r\n', "If-None-Match: *\r\n"):
            assert page(await get(served, f"/{A}?since={at_end}", tag))["ends"] != []


async def test_the_end_of_one_channel_does_not_end_a_poll_of_several() -> None:
    async with stage() as (hub, served):
        query = f"?channel={A}&channel={B}"
        await close(hub)
        first = page(await get(served, f"{query}&since=earliest&wait=50"))
        assert [one["data"] for one in first["publications"]] == ["one"]
        ((end),) = first["ends"]
        assert (end["channel"], end["end"]) == (A, DONE)
        wire = await held(hub, served, f"{query}&since={first['position']}&wait=50")  # it is no news any more
        await hub.publish(B, "news")
        second = page(await soon(wire.answer()))
        assert [one["data"] for one in second["publications"]] == ["news"]
        wire = await held(hub, served, f"{query}&since={second['position']}&wait=50")
        await close(hub, B)
        third = page(await soon(wire.answer()))
        assert {end["channel"] for end in third["ends"]} == {A, B}
        assert page(await get(served, f"{query}&since={third['position']}&wait=50"))["ends"] != []


async def test_an_event_stream_of_several_ends_with_the_last_of_them() -> None:
    async with stage() as (hub, served):
        query = f"?channel={A}&channel={B}"
        await close(hub)
        wire = await asked(served, f"{query}&since=earliest", EVENTS)
        body = await wire.until(b'"end":{"reason":"done"}}\n\n')
        await hub.publish(B, "news")
        await wire.until(b"news")
        await close(hub, B)
        body = await wire.rest()
        last = body.rpartition(b"id: ")[2].partition(b"\n")[0].decode()
        assert (body.count(b"event: end"), b'"channel":"s:b"' in body) == (1, True)
        assert (await get(served, f"{query}", f"{EVENTS}Last-Event-ID: {last}\r\n")).status == 204
        before = f"{query}&since={last.split('~')[0]}~{str(last.split('~')[1])[:-1]}1"
        assert (await get(served, before, EVENTS)).status == 200


async def test_an_event_stream_at_the_end_is_refused_so_that_nobody_comes_back() -> None:
    async with stage() as (hub, served):
        await close(hub)
        end = page(await get(served, f"/{A}?since=earliest"))["position"]
        for query, header in ((f"?since={end}", ""), ("", f"Last-Event-ID: {end}\r\n")):
            answer = await get(served, f"/{A}{query}", EVENTS + header)
            assert (answer.status, answer.body) == (204, b"")
        wire = await asked(served, f"/{A}", EVENTS)  # from now: it has to hear of the end
        assert f"id: {end}\nevent: end\ndata: {json.dumps(DONE, separators=(',', ':'))}\n\n".encode() in (
            await wire.rest()
        )
        assert at_rest(hub)


async def test_a_stream_that_was_deleted_and_made_again_has_not_ended() -> None:
    async with stage() as (hub, served):
        await close(hub)
        end = page(await get(served, f"/{A}?since=earliest"))["position"]
        await hub.node.streams.change(A, lambda record, now_ms: Step(None, (), None))
        await hub.node.streams.create(A, StreamOptions(content_type="text/plain"))
        told = page(await get(served, f"/{A}?since={end}"))
        assert (told["recovered"], told.get("ends")) == (False, None)
        wire = await held(hub, served, f"/{A}?wait=50")
        await hub.publish(A, "news")
        assert page(await soon(wire.answer()))["publications"][0]["data"] == "news"
