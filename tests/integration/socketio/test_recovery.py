"""Recovery: clients that return go on as who they were, with what they missed; or are told that they cannot."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import socketio as clients  # type: ignore[import-untyped]

import heartwire.socketio as socketio
from heartwire.errors import ConfigError, EngineUnavailable
from heartwire.testing.server import serving
from tests.integration.socketio.conftest import Connect, until
from tests.integration.socketio.wire import WireSocket


def make(engine: str | None = None, **options: Any) -> socketio.AsyncServer:
    """A server that recovers the clients of these tests, whose library is python-socketio's too."""
    recovery = socketio.RecoveryOptions(applies=lambda environ, auth: True, **options)
    sio = socketio.AsyncServer(engine, connection_state_recovery=recovery)
    told: list[tuple[Any, ...]] = []
    sio.told = told  # type: ignore[attr-defined]

    @sio.event
    def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
        told.append(("connect", sid, environ["heartwire.recovered"], auth))

    @sio.event
    def disconnect(sid: str, reason: str) -> None:
        told.append(("disconnect", sid, reason))

    @sio.event
    async def room(sid: str, name: str) -> str:
        await sio.enter_room(sid, name)
        return name

    return sio


def gone(sio: socketio.AsyncServer) -> bool:
    """Whether nobody is there."""
    return not sio.manager.rooms


async def event(socket: WireSocket) -> list[Any]:
    """The next event."""
    text = str(await socket.next())
    assert text.startswith("42"), text
    return json.loads(text[2:])  # type: ignore[no-any-return]


async def back(socket: WireSocket, joined: dict[str, Any], offset: str | None = None) -> dict[str, Any]:
    """Come back. Returns the answer to CONNECT."""
    auth = {"pid": joined["pid"]} | ({"offset": offset} if offset else {})
    return await socket.join(auth={**auth, "token": 1})


async def test_what_was_missed_follows_in_order_by_rooms(connect: Connect) -> None:
    sio = make()
    async with connect(sio) as wire:
        async with wire.opened() as socket:
            joined = await socket.join(auth={"token": 0})
            assert sorted(joined) == ["pid", "sid"]
            await socket.send('421["room","red"]')
            assert await socket.next() == '431["red"]'
            await sio.emit("before", 1, room="red")
            _, one, offset = await event(socket)
            assert one == 1
            await sio.save_session(joined["sid"], {"name": "Ann"})
        await until(lambda: gone(sio))
        for n in range(300):  # more than is read at a time
            await sio.emit("missed", n, room="red")
            await sio.emit("missed", -n, room="blue")
        await sio.emit("missed", (b"\1", "all"))
        await sio.emit("missed", "not you", skip_sid=joined["sid"])
        async with wire.opened() as socket:
            assert await back(socket, joined, offset) == joined
            for n in range(300):
                name, value, offset = await event(socket)
                assert (name, value) == ("missed", n)
            text = str(await socket.next())
            assert text.startswith('451-["missed",{"_placeholder":true,"num":0},"all","')
            assert await socket.next() == b"\1"
            await sio.emit("live", room="red")
            assert (await event(socket))[0] == "live"
            assert await sio.get_session(joined["sid"]) == {"name": "Ann"}
            assert set(sio.rooms(joined["sid"])) == {joined["sid"], "red"}
            assert sio.recovered(joined["sid"])
    sid = joined["sid"]
    assert sio.told[:3] == [  # type: ignore[attr-defined]
        ("connect", sid, False, {"token": 0}),
        ("disconnect", sid, "transport close"),
        ("connect", sid, True, {"token": 1}),
    ]


async def test_a_connection_that_seems_alive_is_taken_over_twice_in_a_row(connect: Connect) -> None:
    sio = make()
    async with connect(sio) as wire, wire.opened() as first, wire.opened() as second, wire.opened() as third:
        joined = await first.join()
        await sio.emit("a")
        offset = (await event(first))[-1]
        await sio.emit("b")
        assert await back(second, joined, offset) == joined
        assert (await event(second))[0] == "b"
        await first.ends()
        assert await back(third, joined, offset) == joined
        assert (await event(third))[0] == "b"
        await second.ends()
        kinds = [(kind, sid == joined["sid"]) for kind, sid, *_ in sio.told]  # type: ignore[attr-defined]
        assert kinds == [("connect", True), *[("disconnect", True), ("connect", True)] * 2]


async def test_before_the_first_event_a_client_goes_on_where_it_came(connect: Connect) -> None:
    sio = make()
    await sio.hub.start()
    await sio.emit("too early")
    async with connect(sio) as wire:
        async with wire.opened() as socket:
            joined = await socket.join()
        await until(lambda: gone(sio))
        await sio.emit("missed")
        async with wire.opened() as socket:
            assert await back(socket, joined) == joined
            assert (await event(socket))[0] == "missed"
        await until(lambda: gone(sio))
        async with wire.opened() as socket:  # the text of an event of an older client is no offset
            assert await back(socket, joined, "hello") == joined
            assert (await event(socket))[0] == "missed"


@pytest.mark.parametrize("pid", ["", "x" * 32, "x" * 5000, 7, None])
async def test_an_unknown_secret_is_a_new_client(connect: Connect, pid: object) -> None:
    async with connect(make()) as wire, wire.opened() as socket:
        answer = await socket.join(auth={"pid": pid, "offset": "abcdefgh.1"})
        assert answer["pid"] != pid


async def test_a_secret_counts_in_its_namespace_only(connect: Connect) -> None:
    sio = make()
    sio.on("connect", lambda sid, environ: None, namespace="/other")
    async with connect(sio) as wire, wire.opened() as socket:
        joined = await socket.join()
        other = await socket.join("/other", auth={"pid": joined["pid"]})
        assert other["pid"] != joined["pid"]
        assert other["sid"] != joined["sid"]


async def test_history_that_ended_is_told_by_a_new_session(connect: Connect) -> None:
    sio = make(history_size=3)
    async with connect(sio) as wire:
        async with wire.opened() as socket:
            joined = await socket.join()
            await sio.emit("a")
            offset = (await event(socket))[-1]
        await until(lambda: gone(sio))
        for n in range(10):
            await sio.emit("missed", n)
        for router in sio._server.routers.values():
            router.flush()
            router._tail.clear()  # else memory has it
        async with wire.opened() as socket:
            answer = await back(socket, joined, offset)
            assert answer["pid"] != joined["pid"]
            assert answer["sid"] != joined["sid"]
            await sio.emit("live")
            assert (await event(socket))[0] == "live"


@pytest.mark.parametrize("by", ["client", "server"])
async def test_a_client_that_has_left_for_good_is_not_recovered(connect: Connect, by: str) -> None:
    sio = make()
    async with connect(sio) as wire:
        async with wire.opened() as socket:
            joined = await socket.join()
            if by == "client":
                await socket.send("41")
            else:
                await sio.disconnect(joined["sid"])
                assert await socket.next() == "41"
            await until(lambda: gone(sio))
        async with wire.opened() as socket:
            assert (await back(socket, joined))["pid"] != joined["pid"]


async def test_rooms_and_session_outlive_the_process(connect: Connect, tmp_path: Path) -> None:
    engine = f"sqlite:///{tmp_path}/recovery.db"
    sio = make(engine)
    async with connect(sio) as wire, wire.opened() as socket:
        joined = await socket.join()
        await socket.send('421["room","red"]')
        assert await socket.next() == '431["red"]'
        await sio.save_session(joined["sid"], {"n": 1})
        await sio.emit("a", room="red")
        offset = (await event(socket))[-1]
    sio = make(engine)
    async with connect(sio) as wire:
        await sio.emit("b", room="red")
        async with wire.opened() as socket:
            assert await back(socket, joined, offset) == joined
            assert (await event(socket))[0] == "b"
            assert await sio.get_session(joined["sid"]) == {"n": 1}
            assert "red" in sio.rooms(joined["sid"])


async def test_only_clients_that_know_it_are_recovered(connect: Connect) -> None:
    sio = socketio.AsyncServer(connection_state_recovery=True)
    async with connect(sio) as wire:
        async with wire.socket(
            "EIO=4&transport=websocket", **{"User-Agent": "Python/3.12 aiohttp/3.9"}
        ) as socket:
            await socket.next()
            assert list(await socket.join()) == ["sid"]
            await sio.emit("a", 1)
            assert await event(socket) == ["a", 1]
        async with wire.socket("EIO=4&transport=websocket", **{"User-Agent": "Mozilla/5.0"}) as socket:
            await socket.next()
            assert "pid" in await socket.join()
            await sio.emit("a", 1, ignore_queue=True)  # also what is not kept says where its client is
            name, value, offset = await event(socket)
            assert (name, value) == ("a", 1)
            assert isinstance(offset, str)


async def test_no_other_dialect_shows_the_streams() -> None:
    sio = make()
    async with serving(sio.hub) as url, aiohttp.ClientSession() as http:
        await sio.emit("secret")
        for channel in ("socketio:%2F", "socketio:pid:0000"):
            async with http.get(f"{url}/channels/{channel}?since=earliest") as answer:
                assert answer.status == 403
            async with http.post(f"{url}/channels/{channel}", data=b"x") as answer:
                assert answer.status == 403


async def test_a_session_that_cannot_be_written_is_an_error(connect: Connect) -> None:
    sio = make()
    async with connect(sio) as wire, wire.opened() as socket:
        joined = await socket.join()
        with pytest.raises(TypeError):
            await sio.save_session(joined["sid"], {"socket": object()})
        await sio.save_session(joined["sid"], {"fine": 1})


async def test_a_client_that_cannot_be_kept_is_not_let_in(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    sio = make()

    def fail(*arguments: object) -> None:
        raise EngineUnavailable("the disk is full")

    async with connect(sio) as wire, wire.opened() as socket:
        monkeypatch.setattr(sio.hub.node.engine, "write", fail)
        await socket.send("40")
        assert await socket.next() is None
        await until(lambda: len(sio.told) == 2)  # type: ignore[attr-defined]
        assert [kind for kind, *_ in sio.told] == ["connect", "disconnect"]  # type: ignore[attr-defined]


async def test_a_session_that_cannot_be_written_keeps_nobody_in_a_room(connect: Connect) -> None:
    sio = make()

    @sio.on("connect")
    async def save(sid: str, environ: dict[str, Any]) -> None:
        sio._server.member(sid, "/").session = {"socket": object()}

    async with connect(sio) as wire, wire.opened() as socket:
        await socket.send("40")
        assert await socket.next() is None
        await until(lambda: gone(sio))
        assert sio.told == [("disconnect", sio.told[0][1], "transport error")]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "given", [{"max_disconnection_duration": 120}, socketio.RecoveryOptions(history_size=0)]
)
def test_options_that_are_none_are_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="connection_state_recovery"):
        socketio.AsyncServer(connection_state_recovery=given)


async def test_a_function_that_fails_keeps_its_client_out_and_the_connection_lives(connect: Connect) -> None:
    def fail(environ: object, auth: object) -> bool:
        raise RuntimeError("a fault of the program")

    sio = socketio.AsyncServer(connection_state_recovery=fail)
    async with connect(sio) as wire, wire.opened() as socket:
        await socket.send("40", "40/nowhere")
        got = sorted([str(await socket.next()), str(await socket.next())])
        assert got == ['44/nowhere,{"message":"Invalid namespace"}', '44{"message":"internal server error"}']


async def test_namespaces_that_nobody_is_in_are_forgotten(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heartwire.server.socketio.server.MAX_ROUTERS", 3)
    recovery = socketio.RecoveryOptions(applies=lambda environ, auth: True)
    sio = socketio.AsyncServer(namespaces="*", connection_state_recovery=recovery)
    async with connect(sio) as wire, wire.opened() as stays:
        await stays.join("/stays")
        for n in range(10):
            async with wire.opened() as socket:
                await socket.join(f"/n{n}")
            await until(lambda: list(sio.manager.rooms) == ["/stays"])
        assert len(sio._server.routers) <= 3
        await sio.emit("a", namespace="/stays")
        assert str(await stays.next()).startswith('42/stays,["a"')


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_clients_that_know_no_recovery_get_all_at_least_once_by_a_key(
    connect: Connect, transport: str
) -> None:
    def key(environ: Mapping[str, Any], auth: Any) -> str | None:
        return str(auth["device"]) if auth and "device" in auth else None

    recovery = socketio.RecoveryOptions(applies=lambda environ, auth: False, key=key)
    sio = socketio.AsyncServer(connection_state_recovery=recovery, ping_interval=0.5, ping_timeout=0.4)
    came: list[tuple[str, bool]] = []

    @sio.on("connect")
    async def enter(sid: str, environ: dict[str, Any], auth: Any) -> None:
        came.append((sid, environ["heartwire.recovered"]))
        if not environ["heartwire.recovered"]:
            await sio.enter_room(sid, "red")

    def client_of(got: list[Any]) -> Any:
        client = clients.AsyncClient(reconnection=False)
        client.on("n", got.append)  # a handler with one argument
        return client

    async with connect(sio) as wire:
        url = wire.address.partition("/socket.io")[0]
        got: list[Any] = []
        client = client_of(got)
        await client.connect(url, auth={"device": "phone"}, transports=[transport])
        for n in range(5):
            await sio.emit("n", n, room="red")
        await until(lambda: got == [0, 1, 2, 3, 4])
        [member] = sio._server.routers["/"].members.values()
        router = sio._server.routers["/"]
        await until(lambda: member.recovery.start == router.position)  # a pong has confirmed them
        member.engine.lose("transport close")
        await until(lambda: gone(sio))
        for n in range(5, 10):
            await sio.emit("n", n, room="red")
        await client.disconnect()
        got = []
        client = client_of(got)
        await client.connect(url, auth={"device": "phone"}, transports=[transport])
        await until(lambda: got == [5, 6, 7, 8, 9])
        other: list[Any] = []
        stranger = client_of(other)
        await stranger.connect(url, auth={"device": "tablet"}, transports=[transport])
        forged = client_of(other)
        await forged.connect(url, auth={"pid": "key:/:phone"}, transports=[transport])
        await forged.disconnect()
        await stranger.disconnect()
        await client.disconnect()
    assert [is_recovered for _, is_recovered in came] == [False, True, False, False]
    assert came[0][0] == came[1][0]
    assert other == []
