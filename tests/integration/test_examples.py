"""The examples do what they say, each on a real server."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect

import heartwire
from heartwire import Hub
from heartwire.testing.server import run_server, serving
from tests.integration.wire import Stream, get, post, publish, ws

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def listen(session: aiohttp.ClientSession, url: str) -> Any:
    """Start an event stream, and wait for its first id."""
    response = await session.get(url, headers={"Accept": "text/event-stream"})
    assert response.status == 200
    while not (await response.content.readline()).startswith(b"id: "):
        pass
    return response


async def event(response: Any) -> str:
    while not (line := await response.content.readline()).startswith(b"data: "):
        assert line
    return str(line.decode()[6:-1])


@pytest.mark.slow
async def test_fastapi_chat() -> None:
    chat = load("fastapi_chat")
    async with serving(chat.app, hub=chat.hub) as url, aiohttp.ClientSession() as session:
        channel = f"{url}/realtime/channels/chat:lobby"
        stream = await listen(session, channel)
        async with connect(channel.replace("http", "ws", 1) + "?name=bob", proxy=None) as socket:
            async with session.post(
                f"{channel}?name=ann", data=b"hello", headers={"Content-Type": "text/plain"}
            ) as answer:
                assert answer.status == 200
            assert await socket.recv() == "hello"
            assert await event(stream) == "hello"
            async with session.post(f"{url}/announce/lobby?text=Lunch!") as answer:
                assert (await answer.json())["position"].endswith(".2")
            assert await socket.recv() == '{"announcement":"Lunch!"}'
            async with session.get(f"{channel}/presence") as answer:
                assert sorted(member["user"] for member in (await answer.json())["presence"]) == ["", "bob"]
        async with session.post(channel, data=b"hello") as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (403, "forbidden")
        async with session.get(f"{channel}?since=earliest") as answer:
            first, second = (await answer.json())["publications"]
            assert first["publisher"]["user"] == "ann"
            assert second["data"] == {"announcement": "Lunch!"}
        stream.close()


@pytest.mark.slow
async def test_starlette_chat() -> None:
    chat = load("starlette_chat")
    async with serving(chat.app, hub=chat.hub) as url, aiohttp.ClientSession() as session:
        async with session.get(url) as answer:
            page = await answer.text()
            (path,) = re.findall(r'"(/realtime/channels/[^"]+)"', page)
        async with connect(url.replace("http", "ws", 1) + path, proxy=None) as socket:
            await socket.send("typed")
            async with session.post(f"{url}/announce", data="from the program") as answer:
                assert answer.status == 200
            assert [await socket.recv(), await socket.recv()] == ["typed", "from the program"]
        async with connect(url.replace("http", "ws", 1) + path, proxy=None) as socket:
            assert await socket.recv() == "typed"


@pytest.mark.slow
@pytest.mark.usefixtures("unconfigured_django")
async def test_django_chat() -> None:
    chat = load("django_chat")
    async with serving(chat.app, hub=chat.hub) as url, aiohttp.ClientSession() as session:
        stream = await listen(session, f"{url}/realtime/channels/chat")
        async with session.post(f"{url}/announce/", data={"text": "hello"}) as answer:
            assert (await answer.json())["position"].endswith(".1")
        assert await event(stream) == "hello"
        async with connect(
            f"{url.replace('http', 'ws', 1)}/realtime/channels/chat?since=earliest", proxy=None
        ) as socket:
            assert await socket.recv() == "hello"
        async with session.get(f"{url}/nowhere/") as answer:
            assert answer.status == 404
        stream.close()


@pytest.mark.slow
def test_hub_only() -> None:
    with run_server("hub_only:hub", engine=None, folder=EXAMPLES) as server:
        ann, bob, boss = ({"Authorization": f"Bearer {name}-token"} for name in ("ann", "bob", "boss"))
        with ws(server.url, "/channels/team:red?token=boss-token") as socket:
            assert publish(server.url, "team:red", "hello", **ann)
            assert socket.recv() == "hello"
        assert post(server.url, "team:red", "hello").error == (
            401,
            "unauthorized",
            "send a token: Authorization: Bearer TOKEN, or ?token=TOKEN",
            False,
        )
        assert post(server.url, "team:red", "hello", **bob).error == (
            403,
            "forbidden",
            "bob is not in team:red",
            False,
        )
        assert get(server.url, "/channels/audit:log?since=earliest", **ann).status == 403
        assert post(server.url, "audit:log", "forged", **boss).status == 403
        log = get(server.url, "/channels/audit:log?since=earliest", **boss).json["publications"]
        assert [item["data"] for item in log] == [{"user": "ann", "channel": "team:red"}]
        assert get(server.url, "/channels/elsewhere:1", **ann).error[1] == "unknown_channel"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_control_c_ends_an_embedded_hub(number: signal.Signals) -> None:
    """Plain uvicorn waits for open streams before it tells the application; the hub ends them when it hears
    the signal."""
    command = (sys.executable, "-m", "uvicorn", "starlette_chat:app", "--port", "0", "--no-access-log")
    with subprocess.Popen(
        command, cwd=EXAMPLES, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        try:
            assert process.stderr is not None
            url = ""
            while not url:
                line = process.stderr.readline()
                assert line
                match = re.search(r"http://127\.0\.0\.1:\d+", line)
                url = match[0] if match else ""
            with Stream(url, "/realtime/channels/a") as stream, ws(url, "/realtime/channels/a"):
                stream.joined()
                began = time.monotonic()
                process.send_signal(number)
                assert list(stream) == []
                assert process.wait(5) in (0, -number, 128 + number)
                assert time.monotonic() - began < 2
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()


@pytest.mark.slow
def test_python_client(tmp_path: Path) -> None:
    """Both are stopped and started, and so is the server: what was measured is shown once, in order.

    The sensor is read last: the pipe has to hold all it says until then.
    """

    def program(what: str) -> "subprocess.Popen[str]":
        command = [
            sys.executable,
            str(EXAMPLES / "python_client.py"),
            what,
            "kitchen",
            "--url",
            server.url,
            "--every-s",
            "0.05",
        ]
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=os.environ)

    def read(process: "subprocess.Popen[str]", count: int) -> list[str]:
        assert process.stdout is not None
        lines: list[str] = []
        while len(lines) < count:
            line = process.stdout.readline()
            assert line, "it ended"
            if "°C" in line:
                lines.append(line.split()[-2])
        return lines

    with run_server(engine="sqlite:///sensor.db") as server, program("measure") as sensor:
        try:
            with program("watch") as first:
                shown = read(first, 5)
                first.send_signal(signal.SIGINT)
                assert first.stdout is not None
                shown += [line.split()[-2] for line in first.stdout.read().splitlines() if "°C" in line]
                assert first.wait(10) == 0
            with program("watch") as second:
                shown += read(second, 5)
                server.restart()
                shown += read(second, 20)
                second.kill()
            measured = read(sensor, len(shown))
            assert [f"{float(one):.1f}" for one in shown] == measured
        finally:
            sensor.kill()


# -- what the README shows -----------------------------------------------------------------------------------


async def test_publish_from_python() -> None:
    hub = Hub()
    async with hub.lifespan():
        position = await hub.publish("chat:42", {"text": "hi"})
        assert (position.offset, str(position)) == (1, f"{position.epoch}.1")
        assert await hub.publish("chat:42", "once", idempotency_key="k") == await hub.publish(
            "chat:42", "twice", idempotency_key="k"
        )
        assert (await hub.publish("chat:42", b"\x00")).offset == 3
        with pytest.raises(TypeError):
            await hub.publish("chat:42", object())
        with pytest.raises(heartwire.Refused, match="holds '\\\\n'"):
            await hub.publish("a\nb", "x")
        with pytest.raises(heartwire.LimitExceeded, match="is over the limit of 1048576"):
            await hub.publish("a", "x" * (1024 * 1024 + 1))


async def test_the_hub_starts_with_the_first_request_where_nobody_gave_it_a_lifespan() -> None:
    hub = Hub()
    application = hub.asgi()

    async def without_lifespan(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await application(scope, receive, send)

    async with (
        serving(without_lifespan, hub=hub) as url,
        connect(f"{url.replace('http', 'ws', 1)}/channels/a", proxy=None) as socket,
    ):
        await hub.publish("a", "x")
        assert await socket.recv() == "x"
    await hub.stop()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"max_mesage_bytes": 1},
            "Hub = 'max_mesage_bytes': no such option; did you mean max_message_bytes?",
        ),
        ({"max_message_bytes": 0}, "Hub: max_message_bytes = 0: Expected `int` >= 1"),
        ({"ping_interval_s": 1}, "pong_timeout_s = 10: less than ping_interval_s (1)"),
        (
            {"namespaces": {"chat": {"history": 1}}},
            "Hub: namespaces.chat = 'history': no such option; did you mean history_size?",
        ),
    ],
)
def test_wrong_options_of_a_hub(options: dict[str, Any], told: str) -> None:
    with pytest.raises(heartwire.ConfigError, match=f"^{re.escape(told)}$"):
        Hub(**options)


def test_wrong_options_of_a_namespace() -> None:
    with pytest.raises(
        heartwire.ConfigError, match="namespace 'chat' = 'history': no such option; did you mean history_size"
    ):
        Hub().namespace("chat", history=1)  # type: ignore[call-arg]
