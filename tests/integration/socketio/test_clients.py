"""The public clients of Socket.IO, unchanged: socket.io-client in Node, and python-socketio's four."""

import asyncio
import json
from pathlib import Path
from typing import Any, Final

import pytest
import socketio as clients  # type: ignore[import-untyped]

import heartwire.socketio as socketio
from tests.integration.socketio.conftest import Serve, until
from tests.js.node import need_packages

SCRIPT: Final = Path(__file__).with_name("client.mjs")


def make() -> socketio.AsyncServer:
    """What the clients talk to."""
    sio = socketio.AsyncServer()
    reasons: dict[str, str] = {}
    times: dict[str, int] = {}

    @sio.event
    async def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
        await sio.emit("welcome", auth, to=sid)

    @sio.event
    def disconnect(sid: str, reason: str) -> None:
        reasons[sid] = reason

    sio.on("sum", lambda sid, a, b: a + b)
    sio.on("values", lambda sid, one: (one, "b", {"c": None}))
    sio.on("nothing", lambda sid: None)
    sio.on("binary", lambda sid, data: data)
    sio.on("reasons", lambda sid, left: reasons.get(left))
    heard: list[object] = []
    sio.on("volatile", lambda sid, value: heard.append(value))
    sio.on("volatile?", lambda sid: heard)
    sio.on("disconnect me", lambda sid: sio.disconnect(sid))

    @sio.on("call me")
    async def call_me(sid: str, text: str) -> Any:
        return list(await sio.call("question", text, to=sid))

    @sio.event
    async def many(sid: str, count: int) -> None:
        for n in range(count):
            await sio.emit("n", (n, bytes([n])), to=sid)

    @sio.event
    async def never(sid: str) -> None:
        await asyncio.Event().wait()

    @sio.event
    async def enter(sid: str, room: str) -> None:
        await sio.enter_room(sid, room)

    @sio.event
    async def tell(sid: str, room: str, data: Any) -> None:
        await sio.emit("to room", data, room=room, skip_sid=sid)

    @sio.on("second time")
    async def second_time(sid: str) -> str | None:
        times[sid] = times.get(sid, 0) + 1
        if times[sid] < 2:
            await asyncio.Event().wait()
        return f"after {times[sid]}"

    @sio.on("connect", namespace="/admin")
    def admin(sid: str, environ: dict[str, Any], auth: Any) -> None:
        if not auth:
            raise socketio.exceptions.ConnectionRefusedError("who are you?", {"code": 401})

    sio.on("whoami", lambda sid: "the admin", namespace="/admin")
    return sio


async def node(*arguments: str, script: Path = SCRIPT) -> dict[str, Any]:
    """Run a client in Node. Returns what it saw."""
    need_packages()
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("node", str(script), *arguments, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(30):
            out, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, error.decode()
    return json.loads(out)  # type: ignore[no-any-return]


@pytest.mark.parametrize("mode", ["polling", "websocket", "upgrade"])
async def test_socket_io_client(serve: Serve, mode: str) -> None:
    async with serve(make()) as url:
        saw = await node(url, mode)
    saw.pop("left")
    assert saw.pop("volatile") in ([], [1])  # its client drops it where it cannot be sent at once
    assert saw == {
        "auth": {"token": "secret"},
        "recovered": False,
        "transport": "polling" if mode == "polling" else "websocket",
        "answer": 3,
        "values": "a",  # its promise takes the first
        "binary": [True, [1, 2, 3]],
        "called": ["hello!", 2],
        "many": [[n, [n]] for n in range(20)],
        "late": "operation has timed out",
        "room": {"text": "hi"},
        "refused": ["who are you?", {"code": 401}],
        "nowhere": "Invalid namespace",
        "named": "the admin",
        "expelled": "io server disconnect",
        "retried": "after 2",
        "reasons": "client disconnect",
    }


@pytest.mark.parametrize("mode", ["polling", "websocket", "upgrade"])
async def test_python_async_client(serve: Serve, mode: str) -> None:
    async with serve(make()) as url:
        client = clients.AsyncClient(reconnection=False)
        got: list[Any] = []
        client.on("welcome", got.append)
        client.on("n", lambda n, blob: got.append((n, blob)))
        client.on("question", lambda text: (f"{text}!", 2))
        reasons: list[str] = []
        client.on("disconnect", lambda reason: reasons.append(reason))
        chosen = {"polling": ["polling"], "websocket": ["websocket"], "upgrade": None}[mode]
        await client.connect(url, auth={"token": "secret"}, transports=chosen)
        await until(lambda: got == [{"token": "secret"}])
        assert client.transport() == ("polling" if mode == "polling" else "websocket")
        assert await client.call("sum", (1, 2)) == 3
        assert tuple(await client.call("values", "a")) == ("a", "b", {"c": None})
        assert await client.call("nothing") is None
        assert await client.call("binary", {"deep": [b"\1\2"]}) == {"deep": [b"\1\2"]}
        assert await client.call("call me", "hello") == ["hello!", 2]
        await client.call("many", 20)  # more than its client takes from one poll
        await until(lambda: len(got) == 21)
        assert got[1:] == [(n, bytes([n])) for n in range(20)]
        await client.emit("disconnect me")
        await until(lambda: reasons)
        await client.disconnect()


async def test_python_namespaces_and_refusals(serve: Serve) -> None:
    async with serve(make()) as url:
        client = clients.AsyncClient(reconnection=False)
        errors: list[Any] = []
        client.on("connect_error", errors.append, namespace="/admin")
        with pytest.raises(clients.exceptions.ConnectionError):
            await client.connect(url, namespaces=["/admin"], wait_timeout=5)
        assert errors == [{"message": "who are you?", "data": {"code": 401}}]
        await client.connect(url, namespaces=["/", "/admin"], auth={"token": "x"})
        assert await client.call("whoami", namespace="/admin") == "the admin"
        assert await client.call("sum", (2, 3)) == 5
        await client.disconnect()


async def test_python_simple_clients(serve: Serve) -> None:
    def talk(url: str) -> list[Any]:
        with clients.SimpleClient(reconnection=False) as client:
            client.connect(url, auth={"token": "t"})
            return [client.receive(timeout=5), client.call("sum", (3, 4), timeout=5)]

    def full(url: str) -> list[Any]:
        client = clients.Client(reconnection=False)
        client.connect(url, transports=["polling"])
        try:
            return [client.call("sum", (5, 6), timeout=5), client.transport()]
        finally:
            client.disconnect()

    async with serve(make()) as url:
        assert await asyncio.to_thread(talk, url) == [["welcome", {"token": "t"}], 7]
        assert await asyncio.to_thread(full, url) == [11, "polling"]
        async with clients.AsyncSimpleClient(reconnection=False) as client:
            await client.connect(url)
            assert (await client.receive(timeout=5))[0] == "welcome"
            assert await client.call("sum", (7, 8), timeout=5) == 15
