"""The surface of python-socketio's server, as programs use it."""

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from typing import Any

import pytest

import heartwire.socketio as socketio
from heartwire import ConfigError, Hub, Position
from tests.integration.socketio.conftest import Connect, until

# -- handlers ------------------------------------------------------------------------------------------------


async def test_who_handles_an_event(connect: Connect) -> None:
    """A namespace's own function, its catch-all, the function of all namespaces, their catch-all; then the
    objects, in the same order."""
    sio = socketio.AsyncServer(namespaces="*")
    seen: list[tuple[object, ...]] = []

    def note(*arguments: object) -> None:
        seen.append(tuple(one for one in arguments if one not in sids))

    sio.on("own", lambda *got: note("own", *got), namespace="/a")
    sio.on("*", lambda *got: note("any", *got), namespace="/a")
    sio.on("own", lambda *got: note("own of all", *got), namespace="*")
    sio.on("other", lambda *got: note("other of all", *got), namespace="*")

    class Objects(socketio.AsyncNamespace):
        async def on_third(self, *got: object) -> None:
            note(self.namespace, *got)

    sio.register_namespace(Objects("/c"))
    sio.register_namespace(Objects("*"))
    sids: list[str] = []
    async with connect(sio) as wire, wire.opened() as socket:
        for namespace in ("/a", "/b", "/c"):
            sids += [(await socket.join(namespace))["sid"]]
        sent = [
            '/a,["own",1]',
            '/a,["other"]',
            '/b,["own",2]',
            '/b,["other"]',
            '/c,["third",3]',
            '/b,["third"]',
        ]
        await socket.send(*(f"42{one}" for one in sent))
        await until(lambda: len(seen) == 6)
    assert seen == [
        ("own", 1),
        ("any", "other"),
        ("own of all", "/b", 2),
        ("other of all", "/b"),
        ("/c", 3),
        ("*", "/b"),
    ]


async def test_decorators_and_arguments(connect: Connect) -> None:
    """Connect handlers with and without auth, disconnect handlers with and without a reason."""
    sio = socketio.AsyncServer()
    seen: list[tuple[object, ...]] = []

    def came(sid: str, environ: dict[str, Any]) -> None:
        seen.append(("/", environ["QUERY_STRING"].partition("&")[0], environ["asgi.scope"]["type"]))

    @sio.on("connect", namespace="/auth")
    async def connect_with_auth(sid: str, environ: dict[str, Any], auth: object) -> None:
        seen.append(("/auth", auth))

    @sio.event(namespace="/auth")
    def disconnect(sid: str) -> None:
        seen.append(("left /auth",))

    @sio.on("disconnect")
    async def left(sid: str, reason: str) -> None:
        assert sio.get_environ(sid) is not None
        assert await sio.get_session(sid) == {"name": "ann"}
        seen.append(("left /", reason == sio.reason.CLIENT_DISCONNECT))

    sio.on("connect", came)
    async with connect(sio) as wire, wire.opened() as socket:
        sid = (await socket.join())["sid"]
        async with sio.session(sid) as session:
            session["name"] = "ann"
        await socket.join("/auth", {"token": 1})
        await socket.send("41/auth,", "41")
        await until(lambda: len(seen) == 4)
        with pytest.raises(KeyError):
            await sio.get_session(sid)
    assert seen == [("/", "EIO=4", "websocket"), ("/auth", {"token": 1}), ("left /auth",), ("left /", True)]


async def test_a_handler_that_fails_is_logged_and_the_connection_lives(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    sio = socketio.AsyncServer()
    sio.on("fail", lambda sid: 1 / 0)
    sio.on("fine", lambda sid: "yes")
    async with connect(sio) as wire, wire.opened() as socket:
        sid = (await socket.join())["sid"]
        await sio.emit("question", to=sid, callback=lambda answer: 1 / 0)
        assert await socket.next() == '421["question"]'
        await socket.send('421["fail"]', '431["answer"]', '422["fine"]')
        assert await socket.next() == '432["yes"]'
        await until(lambda: len(caplog.records) == 2)
    assert all(one.exc_info and one.exc_info[0] is ZeroDivisionError for one in caplog.records)


async def test_events_one_after_the_other(connect: Connect) -> None:
    """With ``async_handlers=False`` a handler is done before the next begins; else they overlap."""
    sio = socketio.AsyncServer(async_handlers=False)
    order: list[str] = []
    first = asyncio.Event()

    @sio.event
    async def slow(sid: str) -> None:
        order.append("slow")
        await first.wait()
        order.append("slow is done")

    sio.on("quick", lambda sid: order.append("quick"))
    async with connect(sio) as wire, wire.opened() as socket:
        sid = (await socket.join())["sid"]
        await socket.send('42["slow"]', '42["quick"]')
        await until(lambda: order)
        await sio.emit("in between", to=sid)
        assert await socket.next() == '42["in between"]'
        first.set()
        await until(lambda: len(order) == 3)
        with pytest.raises(RuntimeError, match="async_handlers"):
            await sio.call("question", to=sid)
    assert order == ["slow", "slow is done", "quick"]


async def test_always_connect(connect: Connect) -> None:
    sio = socketio.AsyncServer(always_connect=True)

    async def came(sid: str, environ: object, auth: object) -> bool:
        await sio.emit("hello", to=sid)
        return auth is None

    sio.on("connect", came)
    async with connect(sio) as wire, wire.opened() as socket:
        await socket.join()
        assert await socket.next() == '42["hello"]'
    async with connect(sio) as wire, wire.opened() as socket:
        await socket.join(auth={"token": "wrong"})
        assert await socket.next() == '42["hello"]'
        assert await socket.next() == '41{"message":"Connection rejected by server"}'


# -- rooms ---------------------------------------------------------------------------------------------------


async def test_rooms(connect: Connect) -> None:
    sio = socketio.AsyncServer()
    async with connect(sio) as wire, wire.opened() as a, wire.opened() as b, wire.opened() as c:
        sids = [(await one.join())["sid"] for one in (a, b, c)]
        await sio.enter_room(sids[0], "red")
        await sio.enter_room(sids[1], "red")
        await sio.enter_room(sids[1], 7)
        assert set(sio.rooms(sids[1])) == {sids[1], "red", 7}
        assert sio.rooms("nobody") == []
        assert list(sio.manager.rooms["/"]["red"]) == sids[:2]
        assert len(list(sio.manager.get_participants("/", None))) == 3
        await sio.emit("to two rooms", room=["red", 7])
        await sio.emit("to others", skip_sid=[sids[0], sids[2]])
        await sio.emit("to one", (1, {"a": b"\1"}), to=sids[2])
        await sio.send("text", to="red", skip_sid=sids[1])
        await sio.leave_room(sids[1], "red")
        await sio.emit("to who is left", to="red")
        await sio.close_room("red")
        await sio.emit("to nobody", to="red")
        await sio.emit("end")
        got = []
        for one in (a, b, c):
            mine = []
            while (text := await one.next()) != '42["end"]':
                mine.append(text)
            got.append(mine)
        with pytest.raises(ValueError, match="not connected"):
            await sio.enter_room("nobody", "red")
    assert got == [
        ['42["to two rooms"]', '42["message","text"]', '42["to who is left"]'],
        ['42["to two rooms"]', '42["to others"]'],
        ['451-["to one",1,{"a":{"_placeholder":true,"num":0}}]', b"\1"],
    ]


async def test_each_client_of_a_room_is_asked(connect: Connect) -> None:
    sio = socketio.AsyncServer()
    answers: list[object] = []

    async def answered(answer: object) -> None:
        answers.append(answer)

    async with connect(sio) as wire, wire.opened() as a, wire.opened() as b:
        for one in (a, b):
            await sio.enter_room((await one.join())["sid"], "red")
            await sio.emit("before", to="nobody", callback=answered)  # as an event for nobody
        await sio.emit("question", to="red", callback=answered)
        for name, one in (("a", a), ("b", b)):
            assert await one.next() == '421["question"]'
            await one.send(f'431["{name}"]')
        await until(lambda: len(answers) == 2)
        with pytest.raises(ValueError, match="callback"):
            await sio.emit("question", callback=answered)
        with pytest.raises(socketio.exceptions.TimeoutError):
            await sio.call("question", to="nobody")
        with pytest.raises(ValueError, match="broadcast"):
            await sio.call("question")
    assert sorted(map(str, answers)) == ["a", "b"]


async def test_a_namespace_as_a_class(connect: Connect) -> None:
    class Chat(socketio.AsyncNamespace):
        async def on_connect(self, sid: str, environ: object) -> None:
            await self.enter_room(sid, "lobby")
            await self.save_session(sid, {"name": "ann"})

        async def on_say(self, sid: str, text: str) -> tuple[str, list[str]]:
            async with self.session(sid) as session:
                await self.emit("said", (session["name"], text), room="lobby", skip_sid="nobody")
            return text, [str(room) for room in self.rooms(sid) if room != sid]

        async def on_leave(self, sid: str) -> None:
            await self.leave_room(sid, "lobby")
            await self.close_room("lobby")
            await self.send("bye", to=sid)
            await self.disconnect(sid)

    sio = socketio.AsyncServer()
    sio.register_namespace(Chat("/chat"))
    with pytest.raises(ValueError, match="namespace"):
        sio.register_namespace(object())  # type: ignore[arg-type]
    async with connect(sio) as wire, wire.opened() as socket:
        sid = (await socket.join("/chat"))["sid"]
        await socket.send('42/chat,5["say","hi"]')
        assert await socket.next() == '42/chat,["said","ann","hi"]'
        assert await socket.next() == '43/chat,5["hi",["lobby"]]'
        assert sio.transport(sid, "/chat") == "websocket"
        await socket.send('42/chat,["leave"]')
        assert await socket.next() == '42/chat,["message","bye"]'
        assert await socket.next() == "41/chat,"


# -- channels ------------------------------------------------------------------------------------------------


def events(texts: Sequence[object]) -> list[list[Any]]:
    return [json.loads(str(text)[2:]) for text in texts]


async def test_following_a_channel(connect: Connect) -> None:
    sio = socketio.AsyncServer()
    async with connect(sio) as wire, wire.opened() as socket:
        sid = (await socket.join())["sid"]
        await sio.hub.publish("news", "before")
        start = await sio.follow(sid, "news", event="news")
        published = [await sio.hub.publish("news", value) for value in ({"a": [1]}, "text", b"\1")]
        texts = [await socket.next() for _ in range(4)]
        assert start.offset == 1
        assert events(texts[:2]) == [
            ["news", {"a": [1]}, str(published[0])],
            ["news", "text", str(published[1])],
        ]
        assert texts[2] == f'451-["news",{{"_placeholder":true,"num":0}},"{published[2]}"]'
        assert texts[3] == b"\1"
        await sio.follow(sid, "news", since=published[0])  # in the place of the first
        assert events([await socket.next()]) == [["publication", "text", str(published[1])]]
        await socket.next()
        await socket.next()
        await sio.unfollow(sid, "news")
        await sio.unfollow(sid, "news")
        await sio.hub.publish("news", "after")
        await sio.emit("end")
        assert await socket.next() == '42["end"]'
        with pytest.raises(ValueError, match="position"):
            await sio.follow(sid, "news", since="yesterday")
        with pytest.raises(ValueError, match="not connected"):
            await sio.follow("nobody", "news")
    await until(
        lambda: (
            not sio.hub.node.switchboard.topics
            or not any(topic.subscriptions for topic in sio.hub.node.switchboard.topics.values())
        )
    )


async def test_following_from_the_connect_handler(connect: Connect) -> None:
    """What is kept comes behind the answer to CONNECT, however much it is; and the end of a durable stream."""
    sio = socketio.AsyncServer()
    sio.hub.namespace("job", durable=True)

    async def came(sid: str, environ: object, auth: dict[str, Any]) -> None:
        for channel, since in auth.items():
            await sio.follow(sid, channel, since=since)

    sio.on("connect", came)
    async with connect(sio) as wire:
        for n in range(3):
            await sio.hub.publish("big", f"{n}" * 700_000)  # no number that JSON readers know
        async with sio.hub.stream("job:1") as stream:
            await stream.write("made")
        async with wire.opened() as socket:
            await socket.join(auth={"big": "earliest"})
            got = events([await socket.next() for _ in range(3)])
            assert [text[:1] + str(len(text)) for _, text, _ in got] == ["0700000", "1700000", "2700000"]
        async with wire.opened() as socket:
            await socket.join(auth={"job:1": "earliest"})
            made, end = events([await socket.next(), await socket.next()])
            assert made[:2] == ["publication", "made"]
            assert (end[0], end[1], end[3]) == ("publication_end", "job:1", "done")
        async with wire.opened() as socket:
            await sio.hub.publish("news", "kept")
            await socket.join(auth={"news": str(Position("another-epoch", 1))})
            gap, kept = events([await socket.next(), await socket.next()])
            assert gap[:2] == ["publication_gap", "news"]
            assert kept[:2] == ["publication", "kept"]


async def test_a_client_that_goes_with_much_unread_holds_up_nobody(connect: Connect) -> None:
    """Its connection is full for good: waiting until it takes something must not keep the loop busy."""
    sio = socketio.AsyncServer()
    left: list[str] = []

    async def came(sid: str, environ: object) -> None:
        await sio.follow(sid, "big", since=Position("another-epoch", 1))

    sio.on("connect", came)
    sio.on("disconnect", lambda sid, reason: left.append(reason))
    async with connect(sio) as wire:
        for _ in range(3):
            await sio.hub.publish("big", "x" * 700_000)
        began = time.monotonic()
        async with wire.opened() as socket:
            await socket.join()
            assert str(await socket.next()).startswith('42["publication_gap"')
        await until(lambda: left)
        assert time.monotonic() - began < 10


async def test_a_recovered_client_is_followed_for_from_where_it_was(connect: Connect) -> None:
    """The namespace's offset is behind the position, and neither loses nor doubles anything."""
    sio = socketio.AsyncServer(connection_state_recovery=lambda environ, auth: True)

    async def came(sid: str, environ: dict[str, Any], auth: dict[str, Any] | None) -> None:
        await sio.follow(sid, "news", since=(auth or {}).get("since"))

    sio.on("connect", came)
    async with connect(sio) as wire:
        async with wire.opened() as socket:
            joined = await socket.join()
            await sio.emit("own", 1)
            await sio.hub.publish("news", "one")
            (_, _, offset), (_, _, position, same) = sorted(
                events([await socket.next(), await socket.next()]), key=len
            )
            assert same in (offset, joined_at(offset))
        await until(lambda: not sio.manager.rooms)
        await sio.emit("own", 2)
        await sio.hub.publish("news", "two")
        async with wire.opened() as socket:
            auth = {"pid": joined["pid"], "offset": offset, "since": position}
            await socket.send("40" + json.dumps(auth))
            got = [str(await socket.next()) for _ in range(3)]
            await sio.emit("end")
            assert str(await socket.next()).startswith('42["end"')
    assert json.loads(got[0][2:]) == {"sid": joined["sid"], "pid": joined["pid"]}
    assert got[1].startswith('42["own",2,')
    assert got[2].startswith('42["publication","two",')


def joined_at(offset: str) -> str:
    """The position before the first event."""
    return str(Position(Position.parse(offset).epoch, 0))


# -- the server ----------------------------------------------------------------------------------------------


async def test_times_set_at_startup(connect: Connect) -> None:
    sio = socketio.AsyncServer()
    sio.eio.ping_interval, sio.eio.ping_timeout = 4, 2.5
    assert (sio.eio.ping_interval, sio.eio.ping_timeout) == (4, 2.5)
    with pytest.raises(ConfigError, match="ping_timeout"):
        sio.eio.ping_timeout = 0
    async with connect(sio) as wire:
        opened = json.loads((await wire.ask("GET", "EIO=4&transport=polling")).body[1:])
        assert (opened["pingInterval"], opened["pingTimeout"]) == (4000, 2500)


async def test_shutdown_ends_connections_and_the_server_goes_on(connect: Connect) -> None:
    sio = socketio.AsyncServer()
    async with connect(sio) as wire:
        async with wire.opened() as socket:
            await socket.join()
            await sio.shutdown()
            await socket.ends()
        async with wire.opened() as socket:
            await socket.join()


async def test_tasks_and_sleep(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    sio = socketio.AsyncServer()

    async def work(a: int, *, b: int) -> int:
        await sio.sleep(0)
        return a // b

    assert await sio.start_background_task(work, 6, b=3) == 2
    with pytest.raises(ZeroDivisionError):
        await sio.start_background_task(work, 6, b=0)
    assert "a background task failed" in caplog.text


def test_the_admin_page_is_not_spoken_to(caplog: pytest.LogCaptureFixture) -> None:
    socketio.AsyncServer().instrument(auth={"username": "admin", "password": "x"}, mode="production")
    assert "instrument() has no effect" in caplog.text


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"ping_intervall": 1}, "ping_intervall = 1: is not an option of a Socket.IO server"),
        ({"serializer": "msgpack"}, "only the default one, JSON"),
        ({"ping_interval": 0}, "ping_interval = 0: more than 0"),
        ({"transports": ["polling", "flash"]}, "one of polling, websocket"),
        ({"client_manager": object()}, "better, give AsyncServer the engine's URL"),
        ({"client_manager": socketio.AsyncRedisManager(write_only=True)}, "not write-only"),
        ({"hub_or_engine": 7}, "hub_or_engine = 7: a Hub, or the URL of an engine"),
        ({"cookie": {"path": "/"}}, "a dictionary with a name"),
    ],
)
def test_wrong_options(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        socketio.AsyncServer(**options)


def test_options_without_effect_are_taken() -> None:
    socketio.AsyncServer(
        logger=logging.getLogger("x"), engineio_logger=True, async_mode="asgi", monitor_clients=False
    )


def test_a_hub_has_one_server() -> None:
    hub = Hub()
    socketio.AsyncServer(hub)
    with pytest.raises(ConfigError, match="server already"):
        socketio.AsyncServer(hub)


def test_a_manager_names_the_engine(caplog: pytest.LogCaptureFixture) -> None:
    url = "redis://user:secret@127.0.0.1:1/0"
    sio = socketio.AsyncServer(client_manager=socketio.AsyncRedisManager(url))
    assert "127.0.0.1:1" in str(getattr(sio.hub.node.engine, "name", ""))
    assert "AsyncServer('redis://" in caplog.text
    assert "secret" not in caplog.text
    with pytest.raises(ConfigError, match="given already"):
        socketio.AsyncServer("memory://", client_manager=socketio.AsyncRedisManager(url))


def test_names_of_python_socketio_that_are_not_here() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'WSGIApp'"):
        socketio.WSGIApp  # type: ignore[attr-defined]  # noqa: B018
