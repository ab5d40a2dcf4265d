"""Requests of pages, which name their origin, get the same answers on both doors: at the front in the short way."""

import asyncio
from typing import Any

import pytest

import heartwire.socketio as socketio
from heartwire.server.socketio import requests
from tests.integration.socketio.conftest import Connect

FRIEND = "http://friend.example"
ENEMY = "http://enemy.example"


def allowed(origin: str) -> bool:
    return origin == FRIEND


def failing(origin: str) -> bool:
    raise RuntimeError("the list of friends is lost")


@pytest.mark.parametrize("origins", [[FRIEND], FRIEND, "*", allowed])
async def test_a_page_that_may_use_the_server_reads_polls_and_posts(connect: Connect, origins: Any) -> None:
    sio = socketio.AsyncServer(cors_allowed_origins=origins)
    async with connect(sio) as wire:
        sid = await wire.open()
        query = f"EIO=4&transport=polling&sid={sid}"
        posted = await wire.ask("POST", query, "40", Origin=FRIEND)
        polled = await wire.ask("GET", query, Origin=FRIEND)
        assert (posted.status, posted.body) == (200, "ok")
        assert polled.body.startswith("40{")
        for answer in (posted, polled):
            assert answer.headers["access-control-allow-origin"] == FRIEND
            assert answer.headers["access-control-allow-credentials"] == "true"
            assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize("origins", [[FRIEND], None, allowed])
async def test_another_page_does_not_and_the_session_goes_on(connect: Connect, origins: Any) -> None:
    sio = socketio.AsyncServer(cors_allowed_origins=origins)
    async with connect(sio) as wire:
        sid = await wire.open()
        query = f"EIO=4&transport=polling&sid={sid}"
        for method, body in (("POST", "40"), ("GET", None)):
            refused = await wire.ask(method, query, body, Origin=ENEMY)
            assert (refused.status, refused.code) == (400, 3)
            assert "access-control-allow-origin" not in refused.headers
        await wire.post(sid, "40")
        assert (await wire.poll(sid)).body.startswith("40{")


async def test_no_headers_are_sent_where_something_before_us_sends_them(connect: Connect) -> None:
    async with connect(socketio.AsyncServer(cors_allowed_origins=[])) as wire:
        sid = await wire.open()
        answer = await wire.ask("POST", f"EIO=4&transport=polling&sid={sid}", "40", Origin=ENEMY)
        assert answer.status == 200
        assert "access-control-allow-origin" not in answer.headers


async def test_a_function_that_fails_ends_a_request_and_not_the_connection(connect: Connect) -> None:
    async with connect(socketio.AsyncServer(cors_allowed_origins=failing)) as wire:
        sid = await wire.open()
        answer = await wire.ask("GET", f"EIO=4&transport=polling&sid={sid}", Origin=FRIEND)
        assert answer.status == 500


async def test_an_error_of_a_poll_is_readable_to_its_page(connect: Connect) -> None:
    sio = socketio.AsyncServer(cors_allowed_origins=[FRIEND])
    async with connect(sio) as wire:
        sid = await wire.open()
        query = f"EIO=4&transport=polling&sid={sid}"
        polls = [asyncio.ensure_future(wire.ask("GET", query, Origin=FRIEND)) for _ in range(2)]
        answers = await asyncio.gather(*polls)
        assert sorted(answer.status for answer in answers) == [200, 400]
        assert {answer.headers["access-control-allow-origin"] for answer in answers} == {FRIEND}


@pytest.mark.parametrize("serve", ["native"], indirect=True)
async def test_the_front_answers_them_itself(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the tests above would compare one way with itself."""
    asked: list[str] = []
    answer = requests.answer

    async def noted(server: Any, call: Any) -> Any:
        asked.append(call.request.method)
        return await answer(server, call)

    monkeypatch.setattr(requests, "answer", noted)
    async with connect(socketio.AsyncServer(cors_allowed_origins=[FRIEND])) as wire:
        sid = await wire.open()
        query = f"EIO=4&transport=polling&sid={sid}"
        for method, body in (("POST", "40"), ("GET", None), ("POST", '42["x"]'), ("POST", "41")):
            assert (await wire.ask(method, query, body, Origin=FRIEND)).status == 200
    assert asked == ["GET"], "the handshake alone"
