"""``POST /connection/commands?wait=``: batches that wait for the first push. On real uvicorn; time is moved
by hand."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from heartwire import Hub
from heartwire.core.subscription import State
from heartwire.dialects.centrifugal.client_pb2 import Command, Reply
from heartwire.dialects.centrifugal.protobuf_codec import delimited, split
from heartwire.hub.hooks import ConnectedClient
from heartwire.hub.identity import Identity
from heartwire.server.centrifugal import commands as centrifugal_commands
from heartwire.streams.record import StreamOptions
from heartwire.types import Action, Channel, Message
from tests.unit.transports.tools import SERVERS, Answer, Served, Wire, soon, until

pytestmark = pytest.mark.parametrize("kind", sorted(SERVERS))


def said(*commands: dict[str, Any]) -> bytes:
    return "\n".join(map(json.dumps, commands)).encode()


def request(body: bytes, wait: str = "50", media_type: str = "application/json") -> bytes:
    head = f"POST /connection/commands?wait={wait} HTTP/1.1\r\nHost: here\r\nContent-Type: {media_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def subscribe(id: int, channel: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "subscribe": {"channel": channel, **more}}


def followers(hub: Hub) -> int:
    return sum(len(topic.subscriptions) for topic in hub.node.switchboard.topics.values())


def live(hub: Hub) -> int:
    topics = hub.node.switchboard.topics.values()
    return sum(subscription.state is State.LIVE for topic in topics for subscription in topic.subscriptions)


def told(answer: Answer) -> list[Any]:
    assert answer.status == 200, answer
    return [json.loads(line) for line in answer.body.split(b"\n")] if answer.body else []


def pushed(answer: Answer) -> list[tuple[str, Any]]:
    """Channel and data of the publications that were pushed."""
    pushes = [message["push"] for message in told(answer) if "push" in message]
    return [(push["channel"], push["pub"]["data"]) for push in pushes if "pub" in push]


async def held(hub: Hub, served: Served, *commands: dict[str, Any]) -> Wire:
    """A poll that waits, and has caught up."""
    wire = await Wire.open(served)
    before = live(hub)
    await wire.send(request(said(*commands)))
    await until(lambda: live(hub) > before, "it waits")
    return wire


async def batch(served: Served, *commands: dict[str, Any], wait: str = "50") -> Answer:
    """A batch that is answered at once, though it would wait."""
    async with await Wire.open(served) as wire:
        await wire.send(request(said(*commands), wait))
        return await soon(wire.answer())


async def test_first_push_is_the_answer(kind: str) -> None:
    hub = Hub()
    async with (
        SERVERS[kind](hub) as served,
        await held(hub, served, subscribe(1, "a"), {"id": 2, "ping": {}}) as wire,
    ):
        await hub.publish("other", 0)
        position = await hub.publish("a", {"n": 1})
        answer = await soon(wire.answer())
        assert answer.header("content-type") == "application/x-ndjson"
        subscribed, pong, push = told(answer)
        assert (subscribed["subscribe"]["epoch"], pong) == (position.epoch, {"id": 2, "ping": {}})
        assert push == {"push": {"channel": "a", "pub": {"data": {"n": 1}, "offset": 1}}}
        assert (followers(hub), len(hub.node.connections), len(hub.node.connections)) == (0, 0, 0)
        # The connection is kept, and the next poll goes on where this one ended.
        again = subscribe(1, "a", recover=True, epoch=position.epoch, offset=1)
        await wire.send(request(said(again)))
        await until(lambda: followers(hub), "it waits")
        await hub.publish("a", {"n": 2})
        assert pushed(await soon(wire.answer())) == [("a", {"n": 2})]


async def test_all_of_one_tick_comes_in_order(kind: str) -> None:
    hub = Hub()
    async with (
        SERVERS[kind](hub) as served,
        await held(hub, served, subscribe(1, "a"), subscribe(2, "b")) as wire,
    ):
        await until(lambda: live(hub) == 2, "both are followed")
        for number in range(3):
            await hub.publish("a", number)
            await hub.publish("b", number)
        heard = pushed(await soon(wire.answer()))
        for channel in ("a", "b"):
            assert [data for name, data in heard if name == channel] == [0, 1, 2]


async def test_time_is_up(kind: str) -> None:
    hub = Hub()
    async with SERVERS[kind](hub) as served, await held(hub, served, subscribe(1, "a")) as wire:
        hub.node.background.deadlines.advance(hub.node.clocks.monotonic() + 44)
        await asyncio.sleep(0)
        assert followers(hub) == 1
        hub.node.background.deadlines.advance(hub.node.clocks.monotonic() + 51)
        (reply,) = told(await soon(wire.answer()))
        assert reply["subscribe"]["recoverable"]
        assert (followers(hub), len(hub.node.connections)) == (0, 0)


async def test_nothing_falls_between_the_reply_and_the_waiting(kind: str) -> None:
    """A publication that comes when one channel has been answered for, and the next one is still asked
    about."""
    hub = Hub()

    @hub.namespace("slow")
    async def may(identity: Identity, action: Action, channel: Channel) -> bool:
        await hub.publish("a", "between")
        await asyncio.sleep(0)
        return True

    async with SERVERS[kind](hub) as served:
        await hub.publish("a", "before")
        hub.namespace("")  # else no channel but those of `slow` would be known
        subscribed, slow, push = told(await batch(served, subscribe(1, "a"), subscribe(2, "slow:b")))
        assert (subscribed["id"], subscribed["subscribe"]["offset"], slow["id"]) == (1, 1, 2)
        assert (push["push"]["channel"], push["push"]["pub"]["offset"]) == ("a", 2)


NEWS: list[tuple[str, list[dict[str, Any]]]] = [
    ("publications", [subscribe(1, "old", recover=True)]),
    ("a position that is gone", [subscribe(1, "old", recover=True, epoch="another", offset=1)]),
    ("an error", [subscribe(1, "a"), subscribe(2, "a")]),
    ("publish", [subscribe(1, "a"), {"id": 2, "publish": {"channel": "b", "data": 1}}]),
    ("history", [subscribe(1, "a"), {"id": 2, "history": {"channel": "a"}}]),
    ("unsubscribe", [subscribe(1, "a"), {"id": 2, "unsubscribe": {"channel": "a"}}]),
    ("publications of connect", [{"id": 1, "connect": {"subs": {"mine": {"recover": True}}}}]),
    ("a disconnect", [subscribe(1, "a"), {"id": 2}]),
    ("a connect that is refused", [{"id": 1, "connect": {"name": "bad"}}]),
]


@pytest.mark.parametrize("commands", [commands for _, commands in NEWS], ids=[what for what, _ in NEWS])
async def test_news_are_answered_at_once(kind: str, commands: list[dict[str, Any]]) -> None:
    hub = Hub()

    @hub.on_connect
    async def hello(client: ConnectedClient) -> None:
        assert client.name != "bad"
        await client.subscribe("mine")

    async with SERVERS[kind](hub) as served:
        await hub.publish("old", 1)
        await hub.publish("mine", 1)
        assert told(await batch(served, *commands))
        assert (followers(hub), len(hub.node.connections), len(hub.node.connections)) == (0, 0, 0)


async def test_without_wait_it_is_answered_at_once(kind: str) -> None:
    async with SERVERS[kind](Hub()) as served:
        for wait in ("0", ""):
            assert [reply["id"] for reply in told(await batch(served, subscribe(1, "a"), wait=wait))] == [1]


@pytest.mark.parametrize("wait", ["56", "-1", "x", "nan"])
async def test_bad_wait_is_refused_and_nothing_done(kind: str, wait: str) -> None:
    hub = Hub()
    async with SERVERS[kind](hub) as served:
        answer = await batch(served, {"id": 1, "publish": {"channel": "a", "data": 1}}, wait=wait)
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (400, "bad_wait")
        assert (await hub.publish("a", 1)).offset == 1


@pytest.mark.parametrize(
    "leave", [lambda wire: wire.sock.close(), lambda wire: wire.reset()], ids=["FIN", "RST"]
)
async def test_client_that_goes_leaves_nothing_behind(kind: str, leave: Callable[[Wire], None]) -> None:
    hub = Hub()
    async with SERVERS[kind](hub) as served:
        leave(await held(hub, served, subscribe(1, "a")))
        await until(
            lambda: (followers(hub), len(hub.node.connections), len(hub.node.connections)) == (0, 0, 0),
            "all is freed",
        )


async def test_drain_is_a_disconnect_push(kind: str) -> None:
    hub = Hub()
    async with SERVERS[kind](hub) as served, await held(hub, served, subscribe(1, "a")) as wire:
        await hub.publish("a", "last words")
        hub.drain()
        _, push, end = told(await soon(wire.answer()))
        assert push["push"]["pub"]["data"] == "last words"
        assert end["push"]["disconnect"]["code"] == 3001


async def test_what_the_server_does_to_it_is_an_answer(kind: str) -> None:
    hub = Hub()
    deeds: list[Callable[[], Any]] = [
        lambda: next(iter(hub.node.connections.of(""))).send(b"1"),
        lambda: next(iter(hub.node.connections.of(""))).unsubscribe("a", 2000, "server unsubscribe"),
        lambda: next(iter(hub.node.connections.of(""))).disconnect(3503, "force disconnect"),
    ]
    async with SERVERS[kind](hub) as served:
        for deed, kind_of_push in zip(deeds, ("message", "unsubscribe", "disconnect"), strict=True):
            async with await held(hub, served, subscribe(1, "a")) as wire:
                deed()
                _, push = told(await soon(wire.answer()))
                assert kind_of_push in push["push"]
        assert followers(hub) == 0


async def test_gap_behind_the_hub_ends_the_subscription(kind: str) -> None:
    hub = Hub(namespaces={"": {"history_size": 1}})
    async with SERVERS[kind](hub) as served, await held(hub, served, subscribe(1, "a")) as wire:
        engine: Any = hub.node.engine
        notify, engine._notify = engine._notify, lambda publication: None
        for number in range(3):
            engine.append(Channel("a"), Message(b"%d" % number), hub.node.namespaces.retention(Channel("a")))
        engine._notify = notify
        await hub.publish("a", 3)
        _, push = told(await soon(wire.answer()))
        assert push["push"]["unsubscribe"]["code"] == 2500
        assert followers(hub) == 0


async def test_polls_are_not_announced(kind: str) -> None:
    hub = Hub(namespaces={"": {"join_leave": True, "force_push_join_leave": True}})
    async with SERVERS[kind](hub) as served, await held(hub, served, subscribe(1, "a")) as first:
        async with await held(hub, served, subscribe(1, "a", join_leave=True)) as second:
            assert await hub.node.engine.members(Channel("a")) == []
            second.sock.close()
            await until(lambda: followers(hub) == 1, "the second has gone")
        await hub.publish("a", 1)
        _, push = told(await soon(first.answer()))
        assert "pub" in push["push"]


async def test_server_side_subscriptions_are_followed_where_the_client_knows_of_them(kind: str) -> None:
    hub = Hub()

    @hub.on_connect
    async def hello(client: ConnectedClient) -> None:
        await client.subscribe("mine")

    async with SERVERS[kind](hub) as served:
        async with await held(hub, served, {"id": 1, "connect": {}}) as wire:
            await hub.publish("mine", 1)
            connected, push = told(await soon(wire.answer()))
            assert "mine" in connected["connect"]["subs"]
            assert push["push"]["channel"] == "mine"
        async with await held(hub, served, subscribe(1, "a")) as wire:
            await hub.publish("mine", 2)
            await hub.publish("a", 3)
            assert pushed(await soon(wire.answer())) == [("a", 3)]


async def test_answer_has_bounds(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the limit it ends, without a hole: the rest comes with the next request."""
    monkeypatch.setattr(centrifugal_commands, "MAX_ANSWER_BYTES", 100_000)
    hub = Hub()
    async with SERVERS[kind](hub) as served, await held(hub, served, subscribe(1, "a")) as wire:
        for number in range(200):
            await hub.publish("a", {"n": number, "pad": "x" * 10_000})
        answer = await soon(wire.answer())
        numbers = [data["n"] for _, data in pushed(answer)]
        assert numbers == list(range(len(numbers)))
        assert 10 <= len(numbers) < 100


async def test_protobuf(kind: str) -> None:
    hub = Hub()
    async with SERVERS[kind](hub) as served, await Wire.open(served) as wire:
        command = Command(id=1, subscribe={"channel": "a"})
        await wire.send(
            request(delimited(command.SerializeToString()), media_type="application/octet-stream")
        )
        await until(lambda: followers(hub), "it waits")
        await hub.publish("a", b"\xff")
        reply, push = [Reply.FromString(message) for message in split((await soon(wire.answer())).body)]
        assert (reply.id, push.push.channel, push.push.pub.data) == (1, "a", b"\xff")


ORIGIN = "https://app.example"


@pytest.mark.parametrize(
    "path", ["/connection/commands?wait=25", "/connection/sse", "/connection/http_stream", "/emulation"]
)
async def test_page_of_another_origin_may_ask_first(kind: str, path: str) -> None:
    """A token and a content type make a browser ask before it sends."""
    async with SERVERS[kind](Hub(allowed_origins=[ORIGIN])) as served, await Wire.open(served) as wire:
        head = (
            f"OPTIONS {path} HTTP/1.1\r\nHost: here\r\nOrigin: {ORIGIN}\r\nAccess-Control-Request-Method:"
            " POST\r\n"
        )
        await wire.send(f"{head}Access-Control-Request-Headers: authorization,content-type\r\n\r\n".encode())
        answer = await soon(wire.answer())
        assert answer.status == 204
        assert answer.header("access-control-allow-origin") == ORIGIN
        assert answer.header("access-control-allow-headers") == "authorization,content-type"
        assert "POST" in (answer.header("access-control-allow-methods") or "")


@pytest.mark.parametrize(("wait", "status"), [("0", 200), ("50", 200), ("bad", 400)])
async def test_page_of_another_origin_may_read_the_answer(kind: str, wait: str, status: int) -> None:
    hub = Hub(allowed_origins=[ORIGIN])
    async with SERVERS[kind](hub) as served, await Wire.open(served) as wire:
        data = request(said(subscribe(1, "a")), wait)
        await wire.send(data.replace(b"Host: here\r\n", f"Host: here\r\nOrigin: {ORIGIN}\r\n".encode()))
        if wait == "50":
            await until(lambda: live(hub), "it waits")
            await hub.publish("a", 1)
        answer = await soon(wire.answer())
        assert answer.status == status
        assert answer.header("access-control-allow-origin") == ORIGIN
        assert "Retry-After" in (answer.header("access-control-expose-headers") or "")


# -- a CancelledError that leaves a hook ---------------------------------------------------------------------


async def _cancels_a_job_of_its_own(*arguments: Any) -> None:
    job = asyncio.create_task(asyncio.sleep(60))
    await asyncio.sleep(0)
    job.cancel()
    await job


def _raises_cancelled(*arguments: Any) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("hook", [_cancels_a_job_of_its_own, _raises_cancelled])
@pytest.mark.parametrize("wait", ["0", "50"])
@pytest.mark.parametrize(
    "command",
    [{"rpc": {"method": "x"}}, {"publish": {"channel": "a", "data": 1}}, {"subscribe": {"channel": "p:a"}}],
)
async def test_a_cancelled_error_that_leaves_a_hook_is_error_100_of_that_command(
    kind: str, hook: Any, wait: str, command: dict[str, Any]
) -> None:
    """The poll was lost, so its client sent the same batch again and again."""
    hub = Hub()
    hub.rpc("x")(hook)
    hub.on_publish(hook)
    hub.namespace("p")(hook)
    async with SERVERS[kind](hub) as served:
        answer = await batch(served, {"id": 1, **command}, {"id": 2, "ping": {}}, wait=wait)
        replies = {reply["id"]: reply for reply in told(answer)}
        assert replies[1]["error"]["code"] == 100
        assert "error" not in replies[2]


@pytest.mark.parametrize("hook", [_cancels_a_job_of_its_own, _raises_cancelled])
async def test_a_cancelled_error_that_leaves_a_hook_answers_a_post(kind: str, hook: Any) -> None:
    hub = Hub()
    hub.on_publish(hook)
    async with SERVERS[kind](hub) as served, await Wire.open(served) as wire:
        for _ in range(2):  # the connection lives
            await wire.send(b"POST /channels/a HTTP/1.1\r\nHost: here\r\nContent-Length: 1\r\n\r\nx")
            answer = await soon(wire.answer())
            assert answer.status == 500
            assert json.loads(answer.body)["error"]["code"] == "internal"


@pytest.mark.parametrize("hook", [_cancels_a_job_of_its_own, _raises_cancelled])
async def test_a_cancelled_error_that_leaves_a_hook_answers_a_read(kind: str, hook: Any) -> None:
    """A poll, and a long poll, of a channel whose permission fails."""
    hub = Hub()
    hub.namespace("p")(hook)
    async with SERVERS[kind](hub) as served, await Wire.open(served) as wire:
        for query in ("", "?wait=20"):
            await wire.send(f"GET /channels/p:a{query} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
            assert (await soon(wire.answer())).status == 500


CLOSED = {"push": {"channel": "s:a", "unsubscribe": {"code": 2100, "reason": "stream closed: done"}}}


async def streamed(hub: Hub, *messages: bytes) -> str:
    """A stream with messages; its epoch."""
    hub.namespace("s", durable=True)
    await hub.node.streams.create(Channel("s:a"), StreamOptions(), list(map(Message, messages)))
    return (await hub.node.streams.look(Channel("s:a"))).tail.epoch


@pytest.mark.parametrize("wait", ["0", "50"])
async def test_the_end_of_a_stream_comes_with_the_reply(kind: str, wait: str) -> None:
    hub = Hub()
    async with SERVERS[kind](hub) as served:
        epoch = await streamed(hub, b"1", b"2")
        await hub.node.streams.close(Channel("s:a"), "done")
        recover = subscribe(1, "s:a", recover=True, epoch=epoch, offset=1)
        reply, end = told(await batch(served, recover, wait=wait))
        assert ([one["data"] for one in reply["subscribe"]["publications"]], end) == ([2], CLOSED)
        recover = subscribe(1, "s:a", recover=True, epoch=epoch, offset=2)
        assert told(await batch(served, recover, wait=wait))[1:] == [CLOSED]


async def test_a_poll_that_waits_is_told_of_the_end(kind: str) -> None:
    hub = Hub()
    async with SERVERS[kind](hub) as served:
        await streamed(hub, b"1")
        async with await held(hub, served, subscribe(1, "s:a")) as wire:
            await hub.node.streams.close(Channel("s:a"), "done")
            assert told(await soon(wire.answer()))[1:] == [CLOSED]


async def test_the_end_of_a_server_side_subscription_is_no_news_at_the_next_poll(kind: str) -> None:
    """Each poll is subscribed anew. It was answered at once, and the client came back at once."""
    hub = Hub()

    @hub.on_connect
    async def welcome(client: ConnectedClient) -> None:
        await client.subscribe("s:a")
        await client.subscribe("news")

    connect = {"id": 1, "connect": {}}
    async with SERVERS[kind](hub) as served:
        epoch = await streamed(hub, b"1")
        await hub.node.streams.close(Channel("s:a"), "done")
        known = {"recover": True, "epoch": epoch, "offset": 1}
        told_once = told(await batch(served, {"id": 1, "connect": {"subs": {"s:a": known}}}))
        assert told_once[1:] == [CLOSED]
        async with await held(hub, served, connect) as wire:
            await until(lambda: followers(hub) == 1, "the stream is left")
            await hub.publish("news", 1)
            assert pushed(await soon(wire.answer())) == [("news", 1)]
