"""Events from processes that serve nobody, and channels that follow a session to another node."""

import asyncio
import json
import tempfile
from typing import Any

import pytest

import heartwire.socketio as socketio
from heartwire import EngineError
from tests.integration.nodes.deployment import store_process
from tests.integration.socketio.nodes import Nodes, Raw, nodes


def rooms(made: Nodes, number: int, sio: socketio.AsyncServer) -> None:
    """A room for all, and what is followed from CONNECT on."""

    @sio.event
    async def connect(sid: str, environ: dict[str, Any]) -> None:
        await sio.enter_room(sid, "all")
        await sio.follow(sid, "news")

    @sio.event
    async def disconnect(sid: str, reason: str) -> None:
        made.log.append(("disconnect", number, reason))


async def test_emitting_from_elsewhere() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, store_process(f"sqlite:///{folder}/db", folder):
        url = f"attached://{folder}/s"
        outside, in_threads = socketio.AsyncRedisManager(url, write_only=True), socketio.RedisManager(url)
        async with nodes(rooms, engine=url) as made, Raw.connected(made, at=0) as client:
            sid = next(iter(made.servers[0].manager.rooms["/"]["all"]))
            await outside.emit("a", (1, b"\1"), room="all")
            await asyncio.gather(*(asyncio.to_thread(in_threads.emit, "b", n, to=sid) for n in range(3)))
            await outside.emit("to others", skip_sid=sid)
            await outside.leave_room(sid, "/", "all")
            await outside.emit("to nobody", room="all")
            await outside.enter_room(sid, "/", "all")
            await outside.emit("c", room=["all", "elsewhere"])
            got = await client.until(1, lambda packet: packet == '42["c"]')
            assert got[:2] == ['451-["a",1,{"_placeholder":true,"num":0}]', "bAQ=="]
            assert sorted(got[2:]) == ['42["b",0]', '42["b",1]', '42["b",2]', '42["c"]']
            await asyncio.to_thread(in_threads.disconnect, sid)
            await made.seen("disconnect", 0, "server disconnect")
        await outside.close()
        await outside.close()
        await asyncio.to_thread(in_threads.close)
        await asyncio.to_thread(in_threads.close)


async def test_a_store_that_is_not_there_is_an_error_and_the_next_call_tries_again() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        url = f"attached://{folder}/s"
        outside = socketio.AsyncRedisManager(url)
        with pytest.raises((EngineError, OSError)):
            await asyncio.wait_for(outside.emit("a"), 8)
        with store_process(f"sqlite:///{folder}/db", folder):
            await outside.emit("a")
            await outside.close()


async def test_what_a_client_follows_goes_with_its_session() -> None:
    """None is lost, none comes twice, while the session goes to the node that its WebSocket came to."""
    async with nodes(rooms) as made, Raw.connected(made, at=0) as client:
        hub = made.servers[0].hub
        await hub.publish("news", 0)
        publishing = asyncio.ensure_future(publish(hub, 1, 200))
        got = [data_of(one) for one in await client.until(0, lambda one: one.startswith('42["publication"'))]
        async with client.upgraded(1, poll_at=0) as socket:
            await publishing
            got += [data_of(one) for one in client._packets if one not in ("2", "6")]
            while 199 not in got:
                text = await socket.receive_str()
                if text.startswith("42"):
                    got.append(data_of(text))
        assert got == list(range(200))


async def publish(hub: Any, first: int, end: int) -> None:
    for n in range(first, end):
        await hub.publish("news", n)


def data_of(packet: str) -> int:
    assert packet.startswith('42["publication",'), packet
    return int(json.loads(packet[2:])[1])
