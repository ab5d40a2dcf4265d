"""Connections of the Centrifugal dialect in a hub, without sockets: gaps behind the hub, full links,
deadlines, hooks."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from heartwire import Forbidden, Hub
from heartwire.core.link import OwnSink
from heartwire.core.subscription import State, Subscription
from heartwire.dialects.centrifugal import JSON, PushFormat
from heartwire.engines.memory import MemoryEngine
from heartwire.hub.hooks import ConnectedClient, Disconnect
from heartwire.hub.tokens import make_token
from heartwire.server.api.connections import Subscribe, subscribe
from heartwire.server.centrifugal.connection import CentrifugalConnection
from heartwire.server.centrifugal.dialect import session_context
from heartwire.types import Channel, Member, Message


class FakeLink(OwnSink):
    """A transport's link that keeps what it is given."""

    def __init__(self, hub: Hub) -> None:
        self.serial = hub.node.connections.next_serial()
        self.paused = self.heard = self.takes = self.asked = self.closed = False
        self.member: Member | None = None
        self.subscriptions: list[Subscription] = []
        self.written: list[bytes] = []
        self.ended: tuple[int, str] | None = None
        self.backlog_bytes = 0
        self.lost: Callable[[], None] = lambda: None

    def write(self, payload: bytes) -> None:
        self.written.append(payload)

    def close(self, code: int, reason: str) -> None:
        if self.ended is None:
            self.ended = (code, reason)
            self.lost()

    async def drained(self) -> None:
        """It is never full."""

    def ping(self) -> None:
        raise AssertionError("sessions are pinged, not links")

    def give_up(self) -> None:
        self.close(3012, "no pong")

    def read(self) -> list[Any]:
        written, self.written = self.written, []
        return [json.loads(line) for frame in written for line in frame.split(b"\n")]


FORMAT = PushFormat(JSON, JSON.join)


class Visitor:
    """A client of a hub."""

    def __init__(self, hub: Hub) -> None:
        self.link = FakeLink(hub)
        scope = {"type": "websocket", "headers": [], "path": "/", "query_string": b""}
        context = session_context(hub.node)
        self.connection = CentrifugalConnection(
            context, self.link, FORMAT, "test", address="test", scope=lambda: scope
        )
        self.link.lost = self.connection.lost

    async def say(self, *commands: Any) -> list[Any]:
        """Send commands in one frame, which comes from the event loop as a socket's does: without a task."""
        loop = asyncio.get_running_loop()
        received = loop.create_future()
        frame = "\n".join(map(json.dumps, commands)).encode()
        loop.call_soon(lambda: received.set_result(self.connection.receive(True, frame)))
        wait = await received
        if wait is not None:
            await wait
        await turn()
        return self.link.read()


def followers(hub: Hub) -> int:
    return sum(len(topic.subscriptions) for topic in hub.node.switchboard.topics.values())


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def hooks_done(hub: Hub) -> None:
    """Wait for functions of the application that nobody else waits for."""
    await asyncio.gather(*hub.node.hooks._tasks)


def in_hub(
    test: Callable[[Hub], Awaitable[None]], engine: MemoryEngine | None = None, **options: Any
) -> None:
    async def run() -> None:
        hub = Hub(engine or MemoryEngine(), **options)
        await hub.start()
        try:
            await test(hub)
        finally:
            await hub.stop()

    asyncio.run(run())


async def opened(hub: Hub, *channels: str) -> Visitor:
    visitor = Visitor(hub)
    await visitor.say(
        {"id": 1, "connect": {}}, *({"id": 2, "subscribe": {"channel": channel}} for channel in channels)
    )
    return visitor


def behind_the_hub(hub: Hub, channel: str, count: int) -> None:
    """Publications whose notifications get lost on their way."""
    engine = hub.node.engine
    assert isinstance(engine, MemoryEngine)
    notify, engine._notify = engine._notify, lambda publication: None
    for number in range(count):
        engine.append(
            Channel(channel), Message(b"%d" % number), hub.node.namespaces.retention(Channel(channel))
        )
    engine._notify = notify


def test_gap_that_the_engine_can_fill_is_filled() -> None:
    async def test(hub: Hub) -> None:
        visitor = await opened(hub, "a")
        behind_the_hub(hub, "a", 3)
        await hub.publish("a", "x")
        await turn()
        assert [push["push"]["pub"]["offset"] for push in visitor.link.read()] == [1, 2, 3, 4]

    in_hub(test)


def test_gap_that_cannot_be_filled_ends_the_subscription_and_the_client_recovers() -> None:
    """[T] Missed behind the hub: the insufficient-state code, and nothing delivered over the gap."""

    async def test(hub: Hub) -> None:
        visitor = await opened(hub, "a", "b")
        await hub.publish("a", "first")
        await turn()
        visitor.link.read()
        behind_the_hub(hub, "a", 5)
        await hub.publish("a", "last")
        await turn()
        unsubscribe = {
            "push": {"channel": "a", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}
        }
        assert visitor.link.read() == [unsubscribe]
        assert visitor.link.ended is None
        assert [subscription.topic.channel for subscription in visitor.link.subscriptions] == ["b"]
        # What the SDK does then.
        again = {
            "channel": "a",
            "recover": True,
            "offset": 1,
            "epoch": hub.node.switchboard.topics[Channel("b")].epoch,
        }
        (reply,) = await visitor.say({"id": 3, "subscribe": again})
        assert reply["subscribe"]["was_recovering"]
        assert "recovered" not in reply["subscribe"]
        assert reply["subscribe"]["offset"] == 7
        await hub.publish("a", "next")
        await turn()
        assert visitor.link.read()[0]["push"]["pub"]["offset"] == 8

    in_hub(test, namespaces={"": {"history_size": 3}})


def test_a_reply_has_up_to_three_hundred_publications_and_the_rest_follows_as_pushes() -> None:
    """[docs/centrifugal.md]"""

    async def test(hub: Hub) -> None:
        for number in range(310):
            position = await hub.publish("a", number)
        visitor = await opened(hub)
        visitor.link.read()
        (history,) = await visitor.say({"id": 2, "history": {"channel": "a", "limit": -1}})
        assert [one["offset"] for one in history["history"]["publications"]] == list(range(1, 301))
        recover = {"channel": "a", "recover": True, "offset": 0, "epoch": position.epoch}
        reply, *pushes = await visitor.say({"id": 3, "subscribe": recover})
        assert reply["subscribe"]["recovered"]
        assert [one["offset"] for one in reply["subscribe"]["publications"]] == list(range(1, 301))
        assert [push["push"]["pub"]["offset"] for push in pushes] == list(range(301, 311))

    in_hub(test)


def test_gap_of_a_server_side_subscription_ends_the_connection() -> None:
    async def test(hub: Hub) -> None:
        @hub.on_connect
        async def welcome(client: ConnectedClient) -> None:
            await client.subscribe("a")

        visitor = await opened(hub)
        behind_the_hub(hub, "a", 5)
        await hub.publish("a", "last")
        await turn()
        assert visitor.link.ended == (3010, "insufficient state")
        assert followers(hub) == 0
        assert len(hub.node.connections) == 0

    in_hub(test, namespaces={"": {"history_size": 3}})


def test_full_link_leaves_all_channels_and_catches_up_in_each() -> None:
    async def test(hub: Hub) -> None:
        channels = [f"c{number}" for number in range(50)]
        visitor = await opened(hub, *channels)
        link = visitor.link
        link.read()
        link.paused = True
        for subscription in link.subscriptions:
            hub.node.switchboard.pause(subscription)
        for _ in range(2):
            for channel in channels:
                await hub.publish(channel, "x")
        await turn()
        assert link.read() == []
        link.paused = False
        for subscription in tuple(link.subscriptions):
            hub.node.switchboard.resume(subscription)
        await turn()
        offsets = [(push["push"]["channel"], push["push"]["pub"]["offset"]) for push in link.read()]
        assert sorted(offsets) == sorted((channel, offset) for channel in channels for offset in (1, 2))
        assert {subscription.state for subscription in link.subscriptions} == {State.LIVE}

    in_hub(test)


def test_many_publications_of_a_tick_are_one_frame() -> None:
    async def test(hub: Hub) -> None:
        visitor, other = await opened(hub, "a"), await opened(hub, "a")
        for number in range(10):
            await hub.publish("a", number)
        await turn()
        assert len(visitor.link.written) == 1
        assert visitor.link.written[0] is other.link.written[0]  # encoded once
        assert len(visitor.link.read()) == 10

    in_hub(test)


def test_everything_is_left_at_once_when_a_connection_goes() -> None:
    async def test(hub: Hub) -> None:
        visitor = await opened(hub, *(f"c{number}" for number in range(1000)))
        assert followers(hub) == len(visitor.link.subscriptions) == 1000
        visitor.connection.lost()
        assert followers(hub) == 0
        assert not visitor.link.subscriptions
        assert len(hub.node.connections) == 0
        assert not hub.node.connections._by_user
        assert await hub.node.engine.members(Channel("c1")) == []

    in_hub(test)


def _calls(work: Callable[[], None]) -> int:
    """How many functions a piece of work calls: what it costs, whatever else the machine does."""
    count = 0

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_message_costs_the_same_with_a_thousand_channels_as_with_ten() -> None:
    async def test(hub: Hub) -> None:
        costs = []
        for size in (10, 1000):
            visitor = await opened(hub, *(f"{size}-{number}" for number in range(size)))
            visitor.link.written.clear()
            message = Message(b'{"a":1}')
            channel = Channel(f"{size}-5")

            def publish(channel: Channel = channel, message: Message = message) -> None:
                hub.node.engine.append(channel, message, hub.node.namespaces.retention(channel))
                hub.node.switchboard.flush()

            publish()  # the first of a channel makes its stream
            costs.append(_calls(publish))
            assert len(visitor.link.written) == 2
        assert costs[0] == costs[1]

    in_hub(test)


def test_socket_that_broke_a_moment_ago_raises_nothing() -> None:
    async def test(hub: Hub) -> None:
        @hub.namespace("room", join_leave=True, force_push_join_leave=True)
        async def may(*_: Any) -> bool:
            return True

        def broken(payload: bytes) -> None:
            raise RuntimeError(
                "unable to perform operation on <TCPTransport closed=True>; the handler is closed"
            )

        visitor = await opened(hub, "room:a")
        visitor.link.write = broken  # type: ignore[method-assign]
        visitor.connection.session.ping()
        await opened(hub, "room:a")
        visitor.connection.lost()

    in_hub(test)


def test_deadlines_come_with_the_ticks() -> None:
    async def test(hub: Hub) -> None:
        visitor = Visitor(hub)
        hub.node.background.deadlines.advance(hub.node.clocks.monotonic() + 9)
        assert visitor.link.ended is None
        hub.node.background.deadlines.advance(hub.node.clocks.monotonic() + 11)
        assert visitor.link.ended == (3502, "stale")

    in_hub(test)


def test_drain_asks_every_client_to_reconnect() -> None:
    async def test(hub: Hub) -> None:
        ends: list[Disconnect] = []
        hub.on_disconnect(lambda client, why: ends.append(why))
        visitor, silent = await opened(hub), Visitor(hub)
        hub.drain()
        assert visitor.link.ended == silent.link.ended == (3001, "shutdown")
        await hooks_done(hub)
        assert ends == [Disconnect(3001, "shutdown")]
        late = Visitor(hub)
        await late.say({"id": 1, "connect": {}})
        assert late.link.ended == (3001, "shutdown")

    in_hub(test, connects_per_s=0)


def test_drain_spreads_reconnects() -> None:
    """As long as it would take to let them in, and each at a time of its own."""

    async def test(hub: Hub) -> None:
        visitors = [Visitor(hub) for _ in range(200)]
        hub.drain()
        reasons = [visitor.link.ended[1] for visitor in visitors if visitor.link.ended is not None]
        times = [int(reason.removeprefix("shutdown; retry_after_ms=")) for reason in reasons]
        assert len(times) == 200
        assert 0 <= min(times) < 5_000
        assert 15_000 < max(times) <= 20_000
        assert len(set(times)) > 150

    in_hub(test, connects_per_s=10)


@pytest.mark.parametrize("is_async", [False, True])
def test_hooks_may_be_sync_or_async(is_async: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def test(hub: Hub) -> None:
        def either(function: Callable[..., Any]) -> Callable[..., Any]:
            async def later(*arguments: Any) -> Any:
                async with asyncio.timeout(5):
                    await asyncio.sleep(0)
                return function(*arguments)

            return later if is_async else function

        def fault(*_: Any) -> Any:
            raise RuntimeError("a fault of the application")

        heard: list[Any] = []
        hub.on_connect(either(lambda client: {"id": client.id, "data": client.data, "name": client.name}))
        hub.rpc("add")(either(lambda client, data: sum(data)))
        hub.rpc("bytes")(either(lambda client, data: b"[1]"))
        hub.rpc("nothing")(either(lambda client, data: None))
        hub.rpc("fault")(either(fault))
        hub.rpc("unwritable")(either(lambda client, data: object()))
        hub.on_message(either(lambda client, data: heard.append(data)))
        hub.on_publish(either(lambda identity, channel, data: data.upper() if channel == "loud" else None))
        visitor = Visitor(hub)
        (connected,) = await visitor.say({"id": 1, "connect": {"name": "me", "data": [1]}})
        assert connected["connect"]["data"] == {
            "id": connected["connect"]["client"],
            "data": [1],
            "name": "me",
        }
        replies = await visitor.say(
            {"id": 2, "rpc": {"method": "add", "data": [1, 2]}},
            {"id": 3, "rpc": {"method": "bytes"}},
            {"id": 4, "rpc": {"method": "nothing"}},
            {"id": 5, "rpc": {"method": "fault"}},
            {"id": 6, "rpc": {"method": "unwritable"}},
            {"id": 7, "rpc": {"method": "no"}},
            {"send": {"data": {"a": 1}}},
            {"id": 8, "publish": {"channel": "loud", "data": "hi"}},
            {"id": 9, "history": {"channel": "loud", "limit": 1}},
        )
        answers = [reply.get("rpc", reply.get("error", {})) for reply in replies[:6]]
        assert [answer.get("data", answer.get("code")) for answer in answers] == [3, [1], None, 100, 100, 104]
        assert heard == [{"a": 1}]
        assert replies[7]["history"]["publications"][0]["data"] == "HI"
        assert visitor.link.ended is None
        assert "a fault of the application" in caplog.text
        assert "Traceback" in caplog.text
        hub.on_publish(either(fault))
        (reply,) = await visitor.say({"id": 10, "publish": {"channel": "a", "data": 1}})
        assert reply["error"]["code"] == 100
        hub.on_disconnect(either(fault))
        visitor.connection.lost()
        await hooks_done(hub)
        assert "on_disconnect failed" in caplog.text

    in_hub(test)


@pytest.mark.parametrize("is_one_frame", [True, False])
def test_permission_function_runs_in_a_task(is_one_frame: bool) -> None:
    """A frame comes without one; what waits behind an earlier command of its frame is in one already."""

    async def test(hub: Hub) -> None:
        @hub.namespace("chat")
        async def may(identity: Any, action: str, channel: Channel) -> bool:
            async with asyncio.timeout(5):
                await asyncio.sleep(0)
            if action == "presence":
                raise Forbidden("nobody may look")
            return action != "publish"

        visitor = await opened(hub)
        commands: list[Any] = [
            {"id": 2, "subscribe": {"channel": "chat:a"}},
            {"id": 3, "publish": {"channel": "chat:a", "data": 1}},
            {"id": 4, "presence": {"channel": "chat:a"}},
            {"id": 5, "history": {"channel": "chat:a"}},
        ]
        frames = [commands] if is_one_frame else [[command] for command in commands]
        replies = [reply for frame in frames for reply in await visitor.say(*frame)]
        assert [reply.get("error", {}).get("code") for reply in replies] == [None, 103, 103, None]

    in_hub(test)


def test_authenticator_sees_the_token_of_connect() -> None:
    async def test(hub: Hub) -> None:
        @hub.authenticate
        async def who(request: Any) -> str:
            return str(request.headers["authorization"])

        visitor = Visitor(hub)
        await visitor.say({"id": 1, "connect": {"token": "abc"}}, {"id": 2, "subscribe": {"channel": "a"}})
        (member,) = await hub.node.engine.members(Channel("a"))
        assert member.user == "Bearer abc"
        assert [connection.identity.user for connection in hub.node.connections.of("Bearer abc")] == [
            "Bearer abc"
        ]

    in_hub(test)


# -- what restricts is honoured ------------------------------------------------------------------------------

SECRET = "a secret that is long enough for HS256"


def test_another_connections_subscription_token_ends_the_connection() -> None:
    """A token that names its client was taken from every client of the user."""

    async def test(hub: Hub) -> None:
        visitor = Visitor(hub)
        await visitor.say({"id": 1, "connect": {"token": make_token({"sub": "ann"}, SECRET)}})
        claims = {"sub": "ann", "channel": "a", "client": visitor.connection.id}
        token = make_token(claims, SECRET)
        (reply,) = await visitor.say({"id": 2, "subscribe": {"channel": "a", "token": token}})
        assert "subscribe" in reply
        token = make_token(claims | {"channel": "b", "client": "another"}, SECRET)
        assert await visitor.say({"id": 3, "subscribe": {"channel": "b", "token": token}}) == []
        assert visitor.link.ended is not None
        assert visitor.link.ended[0] == 3500

    in_hub(test, token_hmac_secret_key=SECRET)


def test_connect_without_a_token_is_told_from_a_bad_one() -> None:
    async def test(hub: Hub) -> None:
        for token, code in (("", 3501), ("bad", 3500)):
            visitor = Visitor(hub)
            assert await visitor.say({"id": 1, "connect": {"token": token}}) == []
            assert visitor.link.ended is not None
            assert visitor.link.ended[0] == code

    in_hub(test, token_hmac_secret_key=SECRET)


@pytest.mark.parametrize("by", ["subscription token", "subs claim"])
def test_options_of_one_subscription(by: str) -> None:
    """`override` was ignored: who was to be hidden stood in presence, joined and left in public, and who was
    not to recover did."""

    async def test(hub: Hub) -> None:
        hub.namespace("", join_leave=True, force_push_join_leave=True, allow_presence_for_client=True)
        off = ("presence", "join_leave", "force_push_join_leave", "force_recovery")
        override = {name: {"value": False} for name in off}
        other = Visitor(hub)
        claims = {"sub": "bob", "channels": ["a"]}
        await other.say({"id": 1, "connect": {"token": make_token(claims, SECRET)}})
        hidden = Visitor(hub)
        own = {"subs": {"a": {"override": override}}} if by == "subs claim" else {}
        (told,) = await hidden.say({"id": 1, "connect": {"token": make_token({"sub": "ann"} | own, SECRET)}})
        if own:
            result = told["connect"]["subs"]["a"]
        else:
            token = make_token({"sub": "ann", "channel": "a", "override": override}, SECRET)
            (told,) = await hidden.say(
                {"id": 2, "subscribe": {"channel": "a", "token": token, "recoverable": True}}
            )
            result = told["subscribe"]
        assert not result.get("recoverable")
        hub.node.presence.renew()
        (reply,) = await other.say({"id": 3, "presence": {"channel": "a"}})
        assert [one["user"] for one in reply["presence"]["presence"].values()] == ["bob"]
        hidden.connection.unsubscribe("a", 2000, "test")
        await turn()
        assert other.link.read() == []  # neither a join nor a leave
        assert [list(one["push"]) for one in hidden.link.read()] == [["channel", "unsubscribe"]]

    in_hub(test, token_hmac_secret_key=SECRET)


async def _cancels_a_job_of_its_own(*arguments: Any) -> None:
    job = asyncio.create_task(asyncio.sleep(60))
    await asyncio.sleep(0)
    job.cancel()
    await job


def _raises_cancelled(*arguments: Any) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("hook", [_cancels_a_job_of_its_own, _raises_cancelled])
@pytest.mark.parametrize("where", ["connect", "rpc", "publish", "message", "permission", "authenticate"])
def test_a_cancelled_error_that_leaves_a_hook_is_a_fault_of_that_call(hook: Any, where: str) -> None:
    """It ended the connection's reader without a word, and nothing was answered any more."""

    async def test(hub: Hub) -> None:
        match where:
            case "connect":
                hub.on_connect(hook)
            case "rpc":
                hub.rpc("x")(hook)
            case "publish":
                hub.on_publish(hook)
            case "message":
                hub.on_message(hook)
            case "permission":
                hub.namespace("p")(hook)
            case "authenticate":
                hub.authenticate(hook)
        visitor = Visitor(hub)
        first = await visitor.say({"id": 1, "connect": {}})
        if where in ("connect", "authenticate"):
            assert first[0]["error"]["code"] == 100
            return
        command: Any = {
            "rpc": {"rpc": {"method": "x"}},
            "publish": {"publish": {"channel": "a", "data": 1}},
            "message": {"send": {"data": 1}},
            "permission": {"subscribe": {"channel": "p:a"}},
        }[where]
        answers = await visitor.say({"id": 2, **command}, {"id": 3, "subscribe": {"channel": "a"}})
        assert answers[-1]["id"] == 3
        assert "subscribe" in answers[-1]
        assert answers[0].get("error", {}).get("code") == 100
        assert visitor.link.ended is None

    in_hub(test)


def test_a_subscription_of_the_api_ends_after_its_time_and_the_grace() -> None:
    """`expire_at` was ignored: publications came for ever."""

    async def test(hub: Hub) -> None:
        now, wall = 1000.0, 1_700_000_000.0
        hub.node.clocks.monotonic, hub.node.clocks.wall = lambda: now, lambda: wall
        visitor = await opened(hub)
        visitor.link.read()
        await subscribe(hub.node, Subscribe(user="", channel="a", expire_at=int(wall) + 10))
        hub.node.background.deadlines.advance(now + 10 + 24)
        assert visitor.link.ended is None
        hub.node.background.deadlines.advance(now + 10 + 26)
        assert visitor.link.ended is not None
        assert visitor.link.ended[0] == 3006

    in_hub(test)
