"""Socket.IO v5 on both doors: the cases of the protocol's own suite, and what clients count on beyond it."""

import asyncio
import json

import pytest

import heartwire.socketio as socketio
from tests.integration.socketio.conftest import Connect, until


@pytest.fixture
def sio() -> socketio.AsyncServer:
    """A server as the protocol's suite asks for."""
    sio = socketio.AsyncServer(connect_timeout=0.3)
    for namespace in ("/", "/custom"):

        async def connect(sid: str, environ: object, auth: object, namespace: str = namespace) -> None:
            await sio.emit("auth", auth or {}, to=sid, namespace=namespace)

        sio.on("connect", connect, namespace=namespace)

    @sio.on("message")
    async def message(sid: str, *arguments: object) -> None:
        await sio.emit("message-back", arguments, to=sid)

    @sio.on("message-with-ack")
    async def message_with_ack(sid: str, *arguments: object) -> tuple[object, ...]:
        return arguments

    return sio


@pytest.mark.parametrize("auth", [None, {"token": "123"}])
@pytest.mark.parametrize(("namespace", "head"), [("/", ""), ("/custom", "/custom,")])
async def test_joining(
    sio: socketio.AsyncServer, connect: Connect, auth: dict[str, str] | None, namespace: str, head: str
) -> None:
    async with connect(sio) as wire, wire.opened() as socket:
        await socket.send(f"40{head}{'' if auth is None else json.dumps(auth)}")
        joined = str(await socket.next())
        assert joined.startswith(f"40{head}")
        assert list(json.loads(joined.removeprefix(f"40{head}"))) == ["sid"]
        assert await socket.next() == f"42{head}" + json.dumps(["auth", auth or {}], separators=(",", ":"))


async def test_an_unknown_namespace_is_refused_and_the_connection_lives(
    sio: socketio.AsyncServer, connect: Connect
) -> None:
    async with connect(sio) as wire, wire.opened() as socket:
        await socket.send("40/random")
        assert await socket.next() == '44/random,{"message":"Invalid namespace"}'
        assert "sid" in await socket.join()


@pytest.mark.parametrize(
    "first", ["4abc", "40{", '40["x"]', '42["early"]', "41", '43["x"]', "44{}", "49", '42/custom,["x"]']
)
async def test_what_may_not_come_first_ends_the_connection(
    sio: socketio.AsyncServer, connect: Connect, first: str
) -> None:
    async with connect(sio) as wire, wire.opened() as socket:
        await socket.send(first)
        await socket.ends()


async def test_who_joins_nothing_is_ended(sio: socketio.AsyncServer, connect: Connect) -> None:
    async with connect(sio) as wire, wire.opened() as socket:
        await socket.ends()


async def test_leaving(sio: socketio.AsyncServer, connect: Connect) -> None:
    left: list[tuple[str, str]] = []
    sio.on("disconnect", lambda sid, reason: left.append(("/", reason)))
    sio.on("disconnect", lambda sid, reason: left.append(("/custom", reason)), namespace="/custom")
    async with connect(sio) as wire, wire.opened() as socket:
        await socket.join()
        await socket.join("/custom")
        await socket.send("41/custom,")
        await until(lambda: left)
        await socket.send('42["message","x"]')
        while (got := await socket.next()) != '42["message-back","x"]':
            assert str(got).startswith("42")
        await socket.send("41")
        await until(lambda: len(left) == 2)
    assert left == [("/custom", "client disconnect"), ("/", "client disconnect")]


async def test_events(sio: socketio.AsyncServer, connect: Connect) -> None:
    async with connect(sio) as wire, wire.opened() as socket:
        await socket.join()
        assert await socket.next() == '42["auth",{}]'
        await socket.send('42["message",1,"2",{"3":[true]}]')
        assert await socket.next() == '42["message-back",1,"2",{"3":[true]}]'
        await socket.send('42456["message-with-ack",1,"2",{"3":[false]}]')
        assert await socket.next() == '43456[1,"2",{"3":[false]}]'
        await socket.send('421["nobody-listens"]', '422["message-with-ack"]')
        assert await socket.next() == "432[]"


async def test_binary_events(sio: socketio.AsyncServer, connect: Connect) -> None:
    holes = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}'
    async with connect(sio) as wire, wire.opened() as socket:
        await socket.join()
        assert await socket.next() == '42["auth",{}]'
        await socket.send(f'452-["message",{holes}]', b"\1\2\3", b"\4\5\6")
        assert await socket.next() == f'452-["message-back",{holes}]'
        assert [await socket.next(), await socket.next()] == [b"\1\2\3", b"\4\5\6"]
        await socket.send(f'452-789["message-with-ack",{holes}]', b"\1\2\3", b"\4\5\6")
        assert await socket.next() == f"462-789[{holes}]"
        assert [await socket.next(), await socket.next()] == [b"\1\2\3", b"\4\5\6"]


@pytest.mark.parametrize(
    "words",
    [
        ["4abc"],
        ["42{}"],
        ["42[]"],
        ['42abc["message"]'],
        ["49"],
        ['42["connect"]'],
        ['42["disconnect"]'],
        ["42[true]"],
        ["40"],
        ['43["x"]'],
        ["44{}"],
        [b"\1"],
        ['451-["message",{"_placeholder":true,"num":0}]', '42["message"]'],
        ['451-["message",{"_placeholder":true,"num":1}]', b"\1"],
        ['45999-["message"]'],
        ['42/nowhere,["message"]'],
        ["42" + "[" * 5000 + '"message"' + "]" * 5000],
        ["42" + "1" * 200 + '["message"]'],
        ['451-["message",' + "[" * 900 + '{"_placeholder":true,"num":0}' + "]" * 901, b"\1"],
        ["40/" + "n" * 600],
    ],
)
async def test_what_is_no_packet_ends_the_connection(
    sio: socketio.AsyncServer, connect: Connect, words: list[str | bytes]
) -> None:
    reasons: list[str] = []
    sio.on("disconnect", lambda sid, reason: reasons.append(reason))
    async with connect(sio) as wire, wire.opened() as socket:
        await socket.join()
        await socket.send(*words)
        await socket.ends()
    await until(lambda: reasons)
    assert reasons == ["transport error"]


async def test_the_server_refuses(connect: Connect) -> None:
    sio = socketio.AsyncServer(namespaces=["/no", "/shut"])

    @sio.on("connect", namespace="/no")
    def refuse(sid: str, environ: object) -> None:
        raise socketio.exceptions.ConnectionRefusedError("not you", {"code": 7})

    @sio.on("connect", namespace="/shut")
    def shut(sid: str, environ: object) -> bool:
        return False

    @sio.on("connect", namespace="/broken")
    def broken(sid: str, environ: object) -> None:
        raise RuntimeError("a fault of the program")

    async with connect(sio) as wire, wire.opened() as socket:
        await socket.send("40/no,", "40/shut,")
        got = sorted([str(await socket.next()), str(await socket.next())])
        assert got == [
            '44/no,{"message":"not you","data":{"code":7}}',
            '44/shut,{"message":"Connection rejected by server"}',
        ]
        await socket.send("40/broken,")
        assert await socket.next() == '44/broken,{"message":"internal server error"}'
        assert sio.manager.rooms == {}


async def test_the_server_disconnects_a_client_from_one_namespace(
    sio: socketio.AsyncServer, connect: Connect
) -> None:
    reasons: list[str] = []
    sio.on("disconnect", lambda sid, reason: reasons.append(reason))
    async with connect(sio) as wire, wire.opened() as socket:
        sid = (await socket.join())["sid"]
        await socket.join("/custom")
        await sio.disconnect(sid)
        while (got := await socket.next()) != "41":
            assert str(got).startswith("42")
        assert reasons == ["server disconnect"]
        await sio.emit("still", namespace="/custom")
        while (got := await socket.next()) != '42/custom,["still"]':
            assert str(got).startswith("42/custom,")


async def test_calls_and_callbacks(sio: socketio.AsyncServer, connect: Connect) -> None:
    async with connect(sio) as wire, wire.opened() as socket:
        sid = (await socket.join())["sid"]
        assert await socket.next() == '42["auth",{}]'
        call = asyncio.ensure_future(sio.call("question", ("a", b"\1"), to=sid))
        assert await socket.next() == '451-1["question","a",{"_placeholder":true,"num":0}]'
        assert await socket.next() == b"\1"
        await socket.send('431["yes",2]')
        assert await call == ("yes", 2)
        answers: list[object] = []
        await sio.emit("other", to=sid, callback=lambda *got: answers.append(got))
        assert await socket.next() == '422["other"]'
        await socket.send("439[]", "432[]", "432[]")  # one that nobody waits for, and one twice
        await until(lambda: answers)
        with pytest.raises(socketio.exceptions.TimeoutError):
            await sio.call("silence", to=sid, timeout=0.01)
        assert answers == [()]


async def test_parts_of_binary_events_stay_together(sio: socketio.AsyncServer, connect: Connect) -> None:
    async with connect(sio) as wire, wire.opened() as socket:
        await socket.join()
        assert await socket.next() == '42["auth",{}]'
        await asyncio.gather(*(sio.emit("n", (n, bytes([n]), bytes([n]))) for n in range(50)))
        for n in range(50):
            text = str(await socket.next())
            assert text.startswith(f'452-["n",{n},'), text
            assert [await socket.next(), await socket.next()] == [bytes([n])] * 2


async def test_by_polls(sio: socketio.AsyncServer, connect: Connect) -> None:
    async with connect(sio) as wire:
        sid = await wire.open()
        await wire.post(sid, "40")
        parts: list[str] = []
        while len(parts) < 2:
            parts += (await wire.poll(sid)).body.split("\x1e")
        assert parts[0].startswith("40{")
        assert parts[1] == '42["auth",{}]'
        await wire.post(sid, '451-["message",{"_placeholder":true,"num":0}]\x1ebAQID')
        polled = (await wire.poll(sid)).body
        assert polled == '451-["message-back",{"_placeholder":true,"num":0}]\x1ebAQID'
