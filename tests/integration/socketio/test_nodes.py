"""Several nodes without stickiness: each request of a client may come to any of them."""

import asyncio
import contextlib
import itertools
import json
from typing import Any

import aiohttp
import pytest

from heartwire.server.socketio.program import NotConnected
from heartwire.socketio import AsyncServer, exceptions
from heartwire.testing.stores import PostgresServer, ValkeyServer
from tests.integration.client.tools import until
from tests.integration.socketio.nodes import WITHIN_S, Nodes, Raw, nodes, told


def echo(made: Nodes, number: int, server: AsyncServer) -> None:
    """Handlers that say where they run."""

    async def connect(sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        made.log.append(("connect", number, sid))
        await server.enter_room(sid, "all")

    async def connect_x(sid: str, environ: dict[str, Any]) -> None:
        made.log.append(("connect", number, sid))

    async def say(sid: str, value: Any) -> Any:
        made.log.append(("say", number, value))
        return (number, value) if isinstance(value, bytes) else [number, value]

    async def disconnect(sid: str, reason: str) -> None:
        made.log.append(("disconnect", number, reason))

    server.on("connect", connect)
    server.on("say", say)
    server.on("disconnect", disconnect)
    server.on("connect", connect_x, namespace="/x")
    server.on("disconnect", disconnect, namespace="/x")


# -- polls and posts -----------------------------------------------------------------------------------------


async def test_polls_and_posts_at_another_node_are_answered_by_the_owner() -> None:
    async with nodes(echo, 3) as made, Raw.connected(made, at=0, via=1) as client:
        assert await client.post(2, '421["say","a"]', '422["say","b"]') == (200, "ok")
        assert await client.until(1, lambda packet: packet.startswith("432")) == [
            '431[[0,"a"]]',
            '432[[0,"b"]]',
        ]
        held = asyncio.ensure_future(client.get(2))
        await made.servers[1].emit("news", 1, room="all")
        assert await held == (200, '42["news",1]')
        assert [entry[:2] for entry in made.log] == [("connect", 0), ("say", 0), ("say", 0)]


async def test_a_session_that_no_node_has_is_unknown_everywhere() -> None:
    async with nodes(echo) as made, aiohttp.ClientSession() as http:
        client = Raw(http, made)
        here = made.servers[0].hub.node.connections.node_id
        for sid in (f"x.{here}", "x.00000000", "x", f"x.{here}x"):
            client.sid = sid
            for node in (0, 1):
                assert await client.get(node) == (400, '{"code":1,"message":"Session ID unknown"}'), sid
                assert (await client.post(node, "40"))[0] == 400


async def test_an_aborted_poll_at_another_node_ends_the_session() -> None:
    async with nodes(echo) as made, Raw.connected(made, at=0, via=1) as client:
        held = asyncio.ensure_future(client.get(1))
        others = made.servers[1]._server.elsewhere
        await until(lambda: others._count, WITHIN_S)
        held.cancel()
        await made.seen("disconnect", 0, "transport close")
        assert (await client.get(1))[0] == 400


async def test_two_polls_at_two_nodes_end_the_session_as_at_one() -> None:
    async with nodes(echo) as made, Raw.connected(made, at=0, via=1) as client:
        first = asyncio.ensure_future(client.get(1))
        owner = made.servers[0]._server.sessions[client.sid].engine
        await until(lambda: owner._poll, WITHIN_S)
        assert (await client.get(0))[0] == 400
        assert await first == (200, "1")


async def test_a_large_post_and_a_large_answer_pass_between_nodes() -> None:
    async with nodes(echo, max_http_buffer_size=1_000_000) as made, Raw.connected(made, at=0) as client:
        large = "x" * 900_000
        assert (await client.post(1, f'421["say","{large}"]'))[0] == 200
        assert await client.until(1, lambda packet: packet.startswith("43")) == [f'431[[0,"{large}"]]']
        assert (await client.post(1, "4" + "x" * 1_000_001))[0] == 413


# -- WebSockets: the session goes where they are -------------------------------------------------------------


async def test_a_session_goes_to_the_node_of_its_web_socket() -> None:
    async with nodes(echo, 3) as made, Raw.connected(made, at=0, via=1) as client:
        async with client.upgraded(1, poll_at=2) as socket:
            await socket.send_str('427["say","x"]')
            assert await told(socket, '437[[1,"x"]]') == ['437[[1,"x"]]']
            for node in (0, 1, 2):
                assert await client.get(node) == (400, '{"code":3,"message":"Bad request"}'), node
            await made.servers[2].emit("news", 1, room="all")
            await made.servers[0].emit("news", 2)
            assert await told(socket, '42["news",2]') == ['42["news",1]', '42["news",2]']
            assert not made.servers[0]._server.sessions
            async with client.socket(2) as late:
                assert (await late.receive()).type is aiohttp.WSMsgType.CLOSE
        await made.seen("disconnect", 1, "transport close")
        assert [entry[:2] for entry in made.log if entry[0] == "disconnect"] == [("disconnect", 1)]


async def test_a_probe_that_is_not_completed_leaves_the_session_where_it_is() -> None:
    async with nodes(echo) as made, Raw.connected(made, at=0, via=1) as client:
        polling = asyncio.ensure_future(client.get(1))
        async with client.socket(1) as socket:
            await socket.send_str("2probe")
            assert await socket.receive_str() == "3probe"
            assert await polling == (200, "6")
            async with client.socket(0) as second:
                assert (await second.receive()).type is aiohttp.WSMsgType.CLOSE
        assert (await client.post(1, '427["say","x"]'))[0] == 200
        assert await client.until(1, lambda packet: packet.startswith("43")) == ['437[[0,"x"]]']
        async with client.socket(1) as socket:
            await socket.send_str("nonsense")
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        async with client.upgraded(1) as socket:
            await socket.send_str('428["say","x"]')
            await told(socket, '438[[1,"x"]]')


_numbers = itertools.count(1)


@pytest.fixture(params=["sqlite", "valkey", "postgres"])
def engine(request: pytest.FixtureRequest) -> str:
    """A store that several nodes share; "": one of the nodes' own."""
    if request.param == "sqlite":
        return ""
    server: ValkeyServer | PostgresServer = request.getfixturevalue(request.param)
    name = f"sio{next(_numbers)}"
    return f"{server.url}?prefix={name}" if request.param == "valkey" else f"{server.url}&schema={name}"


async def test_nothing_is_lost_doubled_or_swapped_while_a_session_goes(engine: str) -> None:
    """Both sides count all the time, the client over polls, the WebSocket and the upgrade."""
    async with nodes(echo, 3, engine=engine) as made, contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(Raw.connected(made, at=number % 3, via=(number + 1) % 3))
            for number in range(12)
        ]
        count, is_over = 0, False

        async def emit() -> None:
            nonlocal count
            while not is_over:
                count += 1
                await made.servers[count % 3].emit("count", count, room="all")

        async def follow(client: Raw, number: int) -> list[int]:
            """Returns what came, up to the end."""
            got, sent = [], 0
            for turn in range(number):
                sent += 1
                await client.post(turn % 3, f'42["say",[{number},{sent}]]')
                got += await client.until((turn + 1) % 3, lambda packet: packet.startswith("42"))
            async with client.upgraded((number + 2) % 3, poll_at=number % 3) as socket:
                for _ in range(5):
                    sent += 1
                    await socket.send_str(f'42["say",[{number},{sent}]]')
                waiting, client._packets = client._packets, []
                got += waiting
                got += await told(socket, '42["end"]')
            return [int(packet[11:-1]) for packet in got if packet.startswith('42["count"')]

        emitting = asyncio.ensure_future(emit())
        following = [asyncio.ensure_future(follow(client, at)) for at, client in enumerate(clients)]
        sessions = [one._server.sessions for one in made.servers]
        await until(
            lambda: [c.transport for mine in sessions for c in mine.values()] == ["websocket"] * 12, 30
        )
        is_over = True
        await emitting
        await made.servers[0].emit("end", room="all")
        for number, got in enumerate(await asyncio.gather(*following)):
            assert got == list(range(got[0], count + 1))
            said = [entry[2][1] for entry in made.log if entry[0] == "say" and entry[2][0] == number]
            assert said == list(range(1, number + 6))


# -- what the program does to clients of other nodes ---------------------------------------------------------


async def test_rooms_of_a_client_of_another_node_change_in_order_with_events() -> None:
    async with nodes(echo) as made, Raw.connected(made, at=0, namespace="/x") as client:
        other = made.servers[1]
        sid = made.log[0][2]
        await other.emit("a", room="r", namespace="/x")
        await other.enter_room(sid, "r", namespace="/x")
        await other.emit("b", room="r", namespace="/x")
        await other.leave_room(sid, "r", namespace="/x")
        await other.emit("c", room="r", namespace="/x")
        await other.enter_room(sid, "r", namespace="/x")
        await other.enter_room(sid, 7, namespace="/x")
        await other.emit("d", room=7, namespace="/x")
        await other.close_room("r", namespace="/x")
        await other.emit("e", room="r", namespace="/x")
        await other.emit("f", to=sid, namespace="/x")
        await other.enter_room("nobody", "r", namespace="/x")
        await other.disconnect(sid, namespace="/x")
        await other.emit("g", namespace="/x")
        got = await client.until(1, lambda packet: packet == "41/x,")
        assert got == ['42/x,["b"]', '42/x,["d"]', '42/x,["f"]', "41/x,"]
        await made.seen("disconnect", 0, "server disconnect")


async def test_a_client_of_another_node_is_called_and_its_session_kept() -> None:
    async with nodes(echo) as made, Raw.connected(made, at=0) as client:
        here, other = made.servers
        sid = made.log[0][2]
        calling = asyncio.ensure_future(other.call("ask", (1, b"x"), to=sid))
        assert await client.until(1, lambda packet: packet[0] == "b") == [
            '451-1["ask",1,{"_placeholder":true,"num":0}]',
            "beA==",
        ]
        await client.post(1, '461-1[{"_placeholder":true,"num":0},2]', "beQ==")
        assert await calling == (b"y", 2)
        answers: list[Any] = []
        await other.emit("ask", to=sid, callback=lambda *values: answers.append(values))
        assert await client.until(1, lambda packet: packet[0] == "4") == ['422["ask"]']
        await client.post(0, "432[]")
        await until(lambda: answers == [()], WITHIN_S)
        await other.save_session(sid, {"name": "x"})
        assert await here.get_session(sid) == {"name": "x"}
        assert await other.get_session(sid) == {"name": "x"}
        with pytest.raises(NotConnected):
            await other.get_session("nobody")
        with pytest.raises(exceptions.TimeoutError):
            await other.call("ask", to="nobody", timeout=0.05)


async def test_what_is_owed_and_kept_goes_along() -> None:
    """Calls of the old owner, answers of its handlers that still run, rooms, session, a half-read packet."""
    release = asyncio.Event()

    def setup(made: Nodes, number: int, server: AsyncServer) -> None:
        echo(made, number, server)

        async def slow(sid: str) -> Any:
            await release.wait()
            rooms = (
                min(map(str, server.rooms(sid)), key=len),
                (server.get_environ(sid) or {})["QUERY_STRING"][:5],
            )
            await server.enter_room(sid, "late")
            return rooms

        server.on("slow", slow)

    async with nodes(setup) as made, Raw.connected(made, at=0) as client:
        here, other = made.servers
        sid = made.log[0][2]
        await here.save_session(sid, {"name": "x"})
        calling = asyncio.ensure_future(here.call("ask", to=sid))
        assert await client.until(1, lambda packet: packet.endswith('["ask"]')) == ['421["ask"]']
        await client.post(1, '425["slow"]', '451-6["say",{"_placeholder":true,"num":0}]')
        async with client.upgraded(1) as socket:
            await socket.send_bytes(b"z")
            assert await told(socket, "z") == ['461-6[1,{"_placeholder":true,"num":0}]', "z"]
            await socket.send_str('431["answer"]')
            assert await calling == "answer"
            assert await other.get_session(sid) == {"name": "x"}
            release.set()
            assert await told(socket, '435["all","EIO=4"]') == ['435["all","EIO=4"]']
            await here.emit("news", room="late")
            await other.emit("end", room="all")
            assert await told(socket, '42["end"]') == ['42["news"]', '42["end"]']
            calling = asyncio.ensure_future(here.call("ask", to=sid))
            assert await told(socket, '422["ask"]')
            await socket.send_str("432[1]")
            assert await calling == 1


async def test_a_session_that_cannot_be_sent_stays_and_its_client_polls_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with nodes(echo) as made, Raw.connected(made, at=0) as client:
        await made.servers[0].save_session(made.log[0][2], {"lock": object()})
        polling = asyncio.ensure_future(client.get(1))
        async with client.socket(1) as socket:
            await socket.send_str("2probe")
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        await client.post(1, '427["say","x"]')
        assert await polling == (200, '437[[0,"x"]]')
        assert "a session cannot go to the node" in caplog.text


async def test_a_session_waits_for_its_connect_handlers_before_it_goes() -> None:
    release = asyncio.Event()

    def setup(made: Nodes, number: int, server: AsyncServer) -> None:
        echo(made, number, server)

        async def connect(sid: str, environ: dict[str, Any]) -> None:
            await release.wait()
            await server.enter_room(sid, "all")
            made.log.append(("joined", number))

        server.on("connect", connect)

    async with nodes(setup) as made, aiohttp.ClientSession() as http:
        client = Raw(http, made)
        await client.open(0)
        await client.post(1, "40")
        async with client.socket(1) as socket:
            await socket.send_str("2probe")
            polling = asyncio.ensure_future(client.get(0))
            release.set()
            assert await socket.receive_str() == "3probe"
            assert made.log == [("joined", 0)]
            assert (await polling)[1][:2] == "40"
            await socket.send_str("5")
            await made.servers[0].emit("end", room="all")
            await told(socket, '42["end"]')


# -- with recovery -------------------------------------------------------------------------------------------


async def test_a_session_that_went_is_recovered_at_its_first_node(engine: str) -> None:
    async with (
        nodes(echo, engine=engine, connection_state_recovery=True) as made,
        Raw.connected(made, at=0) as client,
    ):
        here, other = made.servers
        answer = json.loads(client.got[-1][2:])
        async with client.upgraded(1) as socket:
            await other.save_session(answer["sid"], {"name": "x"})
            await here.emit("a", room="all")
            event = (await told(socket, None))[-1]
        await made.seen("disconnect", 1, "transport close")
        await other.enter_room(answer["sid"], "late")
        await here.emit("b", room="late")
        await here.leave_room(answer["sid"], "late")
        await here.emit("c", room="late")
        await here.emit("d", room="all")
        await client.begin_anew(0)
        offset = json.loads(event[2:])[1]
        await client.post(1, "40" + json.dumps({"pid": answer["pid"], "offset": offset}))
        came, *missed = await client.until(1, lambda packet: packet.startswith('42["d"'))
        assert [json.loads(packet[2:])[0] for packet in missed] == ["b", "d"]
        assert json.loads(came[2:]) == answer
        assert await here.get_session(answer["sid"]) == {"name": "x"}
        assert here.rooms(answer["sid"]) == [*here.rooms(answer["sid"])[:1], "all"]


async def test_a_client_that_is_called_while_it_is_away_is_not_called_when_it_returns() -> None:
    """It may have been called before the break: an event that is answered is not repeated."""
    async with nodes(echo, connection_state_recovery=True) as made, Raw.connected(made, at=0) as client:
        other = made.servers[1]
        answer = json.loads(client.got[-1][2:])
        with pytest.raises(exceptions.TimeoutError):
            await other.call("ask", to=answer["sid"], timeout=0.05)
        await client.begin_anew(1)
        await client.post(0, "40" + json.dumps({"pid": answer["pid"]}))
        await client.until(0, lambda packet: packet.startswith("40"))
        await other.emit("end", to=answer["sid"])
        [end] = await client.until(0, lambda packet: packet.startswith("42"))
        assert end.startswith('42["end"')


# -- bounds --------------------------------------------------------------------------------------------------


async def test_requests_for_other_nodes_are_refused_over_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heartwire.server.socketio.nodes.MAX_FORWARDED", 1)
    async with nodes(echo) as made, Raw.connected(made, at=0) as client:
        held = asyncio.ensure_future(client.get(1))
        others = made.servers[1]._server.elsewhere
        await until(lambda: others._count, WITHIN_S)
        assert (await client.post(1, '42["say","a"]'))[0] == 429
        assert (await client.post(0, '421["say","b"]'))[0] == 200
        assert await held == (200, '431[[0,"b"]]')
        assert (await client.post(1, '42["say","c"]'))[0] == 200


async def test_sessions_that_went_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heartwire.server.socketio.nodes.MAX_MOVED", 1)
    async with nodes(echo) as made, contextlib.AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(Raw.connected(made, at=0)) for _ in range(2)]
        for client in crowd:
            socket = await stack.enter_async_context(client.upgraded(1))
            await socket.send_str('421["say",1]')
            await told(socket, "431[[1,1]]")
        codes = [json.loads((await client.get(0))[1])["code"] for client in crowd]
        assert codes == [1, 3]
