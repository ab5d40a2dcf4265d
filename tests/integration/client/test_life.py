"""The client's shell: beginnings, endings, misuse, functions of the application, tokens."""

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from yarl import URL

import heartwire
from heartwire import EARLIEST, ConfigError, ConnectionClosed, GivenUp, Hub, Received, Refused
from heartwire.client.client import Client
from heartwire.client.proxies import proxy_for
from heartwire.hub.tokens import make_token
from heartwire.testing import FakeClock, FaultyNetwork, serving
from tests.integration.client.tools import (
    FAST,
    Story,
    client_of,
    data,
    each_transport,
    nothing_left,
    take,
    until,
)

pytestmark = [pytest.mark.filterwarnings("error::ResourceWarning")]

SECRET = "a secret of thirty-two bytes or more"


@asynccontextmanager
async def hub_at(**options: Any) -> AsyncIterator[tuple[Hub, str]]:
    hub = Hub(**options)
    async with serving(hub) as url:
        yield hub, url


# -- endings -------------------------------------------------------------------------------------------------


@each_transport
async def test_nothing_is_left_behind(transport: str) -> None:
    async with hub_at() as (_, url), nothing_left():
        async with client_of(url, transport) as client:
            subscription = await client.subscribe("a").ready()
            await client.publish("a", "x")
            assert data(await take(subscription, 1)) == ["x"]
            assert client.transport == transport
        assert client.state == "closed"
    gc.collect()


@pytest.mark.slow
@each_transport
async def test_close_at_any_moment(transport: str) -> None:
    """After every third turn of the loop: while the socket opens, while a request is on its way, when all is
    done."""
    async with hub_at() as (_, url), nothing_left():
        for turns in range(1, 100, 3):
            client = client_of(url, transport, FAST._replace(close_timeout_s=0.001))
            client.start()
            subscription = client.subscribe("a")
            publish = asyncio.ensure_future(client.publish("a", turns))
            for _ in range(turns):
                await asyncio.sleep(0)
            await client.close()
            (outcome,) = await asyncio.gather(publish, return_exceptions=True)
            assert isinstance(outcome, heartwire.Position | GivenUp), (turns, outcome)
            async with asyncio.timeout(1):
                assert all([received.data == turns async for received in subscription])
            with pytest.raises(ConnectionClosed):
                client.subscribe("b")


async def test_close_twice_at_once_and_again() -> None:
    async with hub_at() as (_, url), nothing_left():
        client = client_of(url)
        await client.close()  # not even started
        client.start()
        await client.wait_online()
        await asyncio.gather(client.close(), client.close())
        await client.close()
        assert client.state == "closed"


async def test_what_is_pending_is_waited_for() -> None:
    async with hub_at() as (_, url):
        async with client_of(url) as client:
            publish = asyncio.ensure_future(client.publish("a", "x"))
            await asyncio.sleep(0)
        assert (await publish).offset == 1


async def test_a_cancelled_task_group_leaves_nothing() -> None:
    async def follow(url: str, subscribed: asyncio.Event) -> None:
        async with client_of(url) as client, client.subscribe("a") as subscription:
            subscribed.set()
            async for _ in subscription:
                pass

    async with hub_at() as (_, url), nothing_left():
        with contextlib.suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                subscribed = asyncio.Event()
                group.create_task(follow(url, subscribed))
                await subscribed.wait()
                raise RuntimeError


async def test_a_cancelled_entry_into_a_subscription_takes_it_back() -> None:
    async with client_of("http://127.0.0.1:1") as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), client.subscribe("a"):
                pass
        client.subscribe("a")  # else: already_subscribed


@each_transport
async def test_closing_a_dead_connection_takes_no_time(transport: str) -> None:
    """The goodbye of a WebSocket waits for an answer; there is none."""
    async with hub_at() as (_, url), FaultyNetwork.to(url) as network:
        async with client_of(network.url, transport) as client:
            await client.wait_online()
            network.black_hole()
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 1.5
        network.heal()


async def test_a_function_may_close_the_client() -> None:
    async with hub_at() as (_, url), nothing_left(), client_of(url) as client:
        ended: list[asyncio.Task[None]] = []
        await client.subscribe(
            "a", lambda received: ended.append(asyncio.ensure_future(client.close()))
        ).ready()
        with contextlib.suppress(GivenUp):  # as the closing may be faster than the answer
            await client.publish("a", "x")
        await until(lambda: ended)
        await ended[0]
        with pytest.raises(ConnectionClosed):
            await client.publish("a", "x")


async def test_a_server_that_says_never_is_obeyed() -> None:
    hub = Hub()

    @hub.on_connect
    async def refuse(client: Any) -> None:
        raise heartwire.Forbidden("not you")

    async with serving(hub) as url, nothing_left(), client_of(url) as client:
        story = Story(client)
        publish = asyncio.ensure_future(client.publish("a", "x"))
        subscription = client.subscribe("a")
        with pytest.raises(ConnectionClosed, match="not you"):
            await client.wait_online()
        with pytest.raises(GivenUp):
            await publish
        for _ in range(2):
            with pytest.raises(ConnectionClosed):
                await anext(subscription)
            with pytest.raises(ConnectionClosed):
                await client.publish("a", "x")
        assert client.state == "closed"
        assert len(story.errors) == 1


# -- misuse --------------------------------------------------------------------------------------------------


async def test_before_the_start() -> None:
    client = client_of("http://127.0.0.1:1")
    calls: list[Any] = [
        client.publish("a", "x"),
        client.presence("a"),
        client.history("a"),
        client.rpc("m"),
        client.wait_online(),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match=r"async with heartwire\.connect"):
            await call
    with pytest.raises(RuntimeError, match="not started"):
        client.subscribe("a")
    assert (client.state, client.transport, client.client_id, client.pending) == ("waiting", "", "", 0)


async def test_started_once() -> None:
    async with client_of("http://127.0.0.1:1") as client:
        with pytest.raises(RuntimeError, match="started before"):
            client.start()


async def test_another_event_loop() -> None:
    def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            asyncio.run(client.publish("a", "x"))
        with pytest.raises(RuntimeError, match="no running event loop"):
            client.subscribe("a")
        with pytest.raises(RuntimeError, match="another event loop"):
            asyncio.run(client.close())

    async with client_of("http://127.0.0.1:1") as client:
        await asyncio.to_thread(elsewhere)


async def test_async_functions_are_refused() -> None:
    async def function(value: Any) -> None: ...

    async with client_of("http://127.0.0.1:1") as client:
        with pytest.raises(TypeError, match="plain function"):
            client.subscribe("a", function)
        with pytest.raises(TypeError, match="plain function"):
            client.on("message", function)
        subscription = client.subscribe("a")
        with pytest.raises(TypeError, match="plain function"):
            subscription.on_gap(function)
        with pytest.raises(ValueError, match="there are open, message"):
            client.on("messages", print)  # type: ignore[arg-type]


async def test_arguments_that_cannot_be_leave_no_trace() -> None:
    async with hub_at() as (_, url), client_of(url) as client:
        for since in ("yesterday", 5):
            with pytest.raises(ValueError, match="position"):
                client.subscribe("a", since=since)  # type: ignore[arg-type]
        for channel in ("", "a\nb", "\ud800", "x" * 256):
            with pytest.raises(Refused):
                client.subscribe(channel)
            with pytest.raises(Refused):
                await client.publish(channel, "x")
        for value in (object(), "\ud800", {"a": {1: {2}}, "b": "\ud800"}, [float]):
            with pytest.raises(TypeError):
                await client.publish("a", value)
            with pytest.raises(TypeError):
                await client.rpc("a", value)
        for key in ("\ud800", "a key", "é", "x" * 256):
            with pytest.raises(Refused, match="1 to 255 visible ASCII"):
                await client.publish("a", "x", idempotency_key=key)
        subscription = await client.subscribe("a").ready()
        with pytest.raises(Refused, match="already subscribed"):
            client.subscribe("a")
        assert (await client.publish("a", "x")).offset == 1
        assert data(await take(subscription, 1)) == ["x"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "ftp://host",
        "http://",
        "http://host:99999",
        "http://host:x",
        "http://[::1",
        "http://host/?token=x",
        "http://host/#x",
        "http://user:secret@host",
    ],
)
def test_urls_that_cannot_be(url: str) -> None:
    with pytest.raises(ConfigError, match=r"http://HOST:PORT|headers=") as raised:
        heartwire.connect(url)
    assert "secret" not in str(raised.value)


def test_urls_that_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert heartwire.connect(scheme="https", host="::1", port=443).url == "https://[::1]:443"
    assert heartwire.connect(host="example.com").url == "http://example.com:8000"
    assert heartwire.connect("wss://host/realtime").url == "https://host/realtime"
    monkeypatch.setenv("HEARTWIRE_DEBUG_URL", "http://debug:1")
    assert heartwire.connect("wss://host/realtime").url == "http://debug:1"
    assert heartwire.connect("wss://host/realtime", debug_url="http://mine:1").url == "http://mine:1"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "[::1]", "localhost", "app.localhost"])
def test_no_proxy_stands_before_this_machine(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "internal.example")
    assert proxy_for(URL(f"http://{host}:8000")) is None
    assert proxy_for(URL("http://internal.example")) is None
    assert proxy_for(URL("http://example.com")) == URL("http://proxy:3128")
    monkeypatch.delenv("http_proxy")
    assert proxy_for(URL("http://example.com")) is None


# -- functions of the application ----------------------------------------------------------------------------


async def test_what_a_function_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with hub_at() as (_, url), client_of(url) as client:
        seen: list[Any] = []

        def fragile(received: Received) -> None:
            seen.append(received.data)
            raise ValueError("of the application's")

        await client.subscribe("a", fragile).ready()
        client.on("message", fragile)
        for number in range(3):
            await client.publish("a", number)
        await until(lambda: seen == [0, 0, 1, 1, 2, 2])
        assert caplog.text.count("given to the client failed") == 6
        assert client.state == "online"
        caplog.clear()


async def test_a_function_may_subscribe_anew_from_where_it_is() -> None:
    """It gets what comes after that from its new subscription only, though all of it had arrived at once."""
    async with hub_at() as (hub, url), client_of(url, "websocket") as client:
        for number in range(1, 11):
            await hub.publish("a", number)
        first: list[int] = []
        second: list[int] = []

        def change(received: Received) -> None:
            first.append(received.data)
            if received.data == 3:
                subscription.unsubscribe()
                client.subscribe("a", lambda received: second.append(received.data), since=received.position)

        subscription = client.subscribe("a", change, since=EARLIEST)
        await until(lambda: len(second) >= 7)
        await client.presence("a")  # nothing more is on its way
        assert (first, second) == ([1, 2, 3], [4, 5, 6, 7, 8, 9, 10])


async def test_a_refused_subscription_that_nobody_waits_for_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub = Hub()
    hub.namespace("open")(lambda identity, action, channel: channel == "open:me")
    async with serving(hub) as url, client_of(url) as client:
        client.subscribe("open:you", print)
        await until(lambda: "'open:you' is not followed any more" in caplog.text)
        with pytest.raises(heartwire.Forbidden):
            await client.subscribe("open:you").ready()
        await client.subscribe("open:me").ready()
    caplog.clear()


async def test_json_that_python_cannot_read_holds_up_no_other_message() -> None:
    """One number of 5,000 digits, published by anybody, made every Python client of the channel deaf."""
    number = b"1" * 5000
    async with hub_at() as (hub, url), client_of(url) as client:
        for message in (number.decode(), "[" * 3000 + "]" * 3000, "1e999", "last"):
            await hub.publish("a", message)
        received = await take(client.subscribe("a", since=EARLIEST), 4)
        assert received[0].data == number.decode()
        assert [one.payload for one in received] == [number, b"[" * 3000 + b"]" * 3000, b"1e999", b"last"]
        assert [one.payload for one in await client.history("a")] == [one.payload for one in received]


async def test_every_task_is_eager() -> None:
    """`asyncio.eager_task_factory` runs a task's first steps inside ``create_task``."""
    factory = getattr(asyncio, "eager_task_factory", None)
    if factory is None:
        pytest.skip("of Python 3.12")
    async with hub_at() as (_, url):
        asyncio.get_running_loop().set_task_factory(factory)
        for transport in ("websocket", "sse", "longpoll", "poll"):
            async with client_of(url, transport) as client, client.subscribe(transport) as subscription:
                await client.publish(transport, "x")
                assert data(await take(subscription, 1)) == ["x"]


# -- iterators -----------------------------------------------------------------------------------------------


async def test_a_cancelled_wait_loses_nothing() -> None:
    async with hub_at() as (_, url), client_of(url) as client, client.subscribe("a") as subscription:
        for number in range(50):
            waiting = asyncio.ensure_future(anext(subscription))
            await asyncio.sleep(0)
            publish = asyncio.ensure_future(client.publish("a", number))
            for _ in range(number % 10):
                await asyncio.sleep(0)
            waiting.cancel()
            await publish
            (outcome,) = await asyncio.gather(waiting, return_exceptions=True)
            if not isinstance(outcome, Received):
                outcome = (await take(subscription, 1))[0]
            assert outcome.data == number


async def test_two_may_share_an_iterator() -> None:
    async with hub_at() as (_, url), client_of(url) as client, client.subscribe("a") as subscription:
        both = [asyncio.ensure_future(take(subscription, 5)) for _ in range(2)]
        for number in range(10):
            await client.publish("a", number)
        assert sorted(data([one for half in await asyncio.gather(*both) for one in half])) == list(range(10))


@each_transport
async def test_a_slow_iterator_gets_everything(transport: str) -> None:
    async with hub_at() as (hub, url), client_of(url, transport, FAST._replace(max_queue_items=5)) as client:
        subscription = await client.subscribe("a").ready()
        for number in range(200):
            await hub.publish("a", number)
            if number % 20 == 0:
                assert data(await take(subscription, 1)) == [number // 20]
        assert data(await take(subscription, 190)) == list(range(10, 200))


async def test_a_gap_is_reported_in_its_place() -> None:
    """An iterator that is behind reads what came before the gap first; the client's own event comes at
    once."""
    async with (
        hub_at() as (hub, url),
        client_of(url, "websocket", FAST._replace(max_queue_items=4)) as client,
    ):
        story = Story(client)
        subscription = await client.subscribe("a").ready()
        told: list[Any] = []
        subscription.on_gap(told.append)
        for number in range(1, 11):
            await hub.publish("a", number)
        await until(lambda: len(subscription._queue) >= 4)
        await client.presence("a")  # by now the server has stopped
        waiting = len(subscription._queue)
        for number in range(11, 31):
            if number == 21:
                await hub.remove_history("a")
            await hub.publish("a", number)
        for _ in range(waiting + 10):
            told += data(await take(subscription, 1))
        assert [*told[:waiting], *told[waiting + 1 :]] == [*range(1, waiting + 1), *range(21, 31)]
        gap = told[waiting]
        assert story.gaps == [gap]
        assert (gap.before_offset, gap.after_offset) == (waiting, 20)


async def test_subscribing_again_right_after_leaving() -> None:
    async with hub_at() as (hub, url), client_of(url) as client:
        position, got = None, []
        for number in range(30):
            subscription = client.subscribe("a", since=position or EARLIEST)
            await hub.publish("a", number)
            if number % 3 == 0:
                received = (await take(subscription, 1))[0]
                got.append(received.data)
                position = received.position
            subscription.unsubscribe()
            subscription.unsubscribe()
            assert [one async for one in subscription] == []
        got += data(await take(client.subscribe("a", since=position), 20))
        assert got == list(range(30))


# -- tokens --------------------------------------------------------------------------------------------------


def signed(lasts_s: float = 3600) -> str:
    return make_token({"sub": "ann", "exp": int(time.time() + lasts_s)}, SECRET)


async def online_with(url: str, get_token: Any, **options: Any) -> Client:
    client = client_of(url, options=FAST._replace(**options), get_token=get_token)
    client.start()
    async with asyncio.timeout(10):
        await client.wait_online()
    return client


async def test_tokens_from_functions() -> None:
    async def later() -> str:
        await asyncio.sleep(0)
        return signed()

    async with hub_at(token_hmac_secret_key=SECRET, allow_anonymous=False) as (_, url):
        for get_token in (signed, later):
            client = await online_with(url, get_token)
            await client.close()


async def test_a_token_function_that_fails_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    answers: list[Any] = [RuntimeError("the vault is closed"), None, signed()]

    def get_token() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with hub_at(token_hmac_secret_key=SECRET) as (_, url):
        client = await online_with(url, get_token)
        await client.close()
    assert caplog.text.count("get_token") == 2
    assert answers == []
    caplog.clear()


@pytest.mark.parametrize(
    ("answer", "why"), [(b"a.b.c", "a str; decode bytes"), (5, "a str"), ("a.b.c\n", "strip what was read")]
)
async def test_what_cannot_be_a_token_ends_the_client(
    answer: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    # The function was asked again for ever, and nobody was told.
    async with hub_at() as (_, url):
        client = client_of(url, get_token=lambda: answer)
        client.start()
        with pytest.raises(ConnectionClosed, match=f"3500 get_token.*{why}"):
            async with asyncio.timeout(10):
                await client.wait_online()
        assert client.state == "closed"
        await client.close()
    assert "a.b.c" not in caplog.text
    caplog.clear()


async def test_a_token_function_that_hangs_is_cancelled_and_asked_again() -> None:
    cancelled: list[bool] = []

    async def get_token() -> str:
        if len(cancelled) < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise
        return signed()

    async with hub_at(token_hmac_secret_key=SECRET) as (_, url), nothing_left():
        client = await online_with(url, get_token, open_timeout_cap_s=0.1)
        assert len(cancelled) == 2
        await client.close()


async def test_closing_while_a_token_is_fetched() -> None:
    async def get_token() -> str:
        await asyncio.Event().wait()
        return ""

    async with nothing_left():
        async with client_of("http://127.0.0.1:1", get_token=get_token) as client:
            await asyncio.sleep(0)
        assert client.state == "closed"


async def test_closing_from_the_token_function() -> None:
    async def get_token() -> str:
        await client.close()
        return ""

    async with nothing_left():
        client = client_of("http://127.0.0.1:1", get_token=get_token)
        client.start()
        await until(lambda: client.state == "closed")
        await client.close()


# -- wake-ups ------------------------------------------------------------------------------------------------


async def test_a_wall_clock_that_jumps_is_a_wake_up() -> None:
    """A computer that sleeps stops its monotonic clock: only the other one shows it. The connection has to
    prove itself."""
    clock = FakeClock()
    async with hub_at() as (_, url), FaultyNetwork.to(url) as network:
        client = client_of(network.url, "websocket", FAST._replace(tick_s=0.05, probe_timeout_s=0.3))
        client.wall_clock = clock
        async with client:
            story = Story(client)
            await client.wait_online()
            up = network.bytes_up
            clock.advance(3600)
            await until(lambda: network.bytes_up > up)  # the probe
            await client.presence("a")
            assert story.closed == []
            network.black_hole()
            clock.advance(3600)
            await until(lambda: story.closed, within_s=2)
            assert "probe" in story.closed[0].reason
            network.heal()
            await client.wait_online()


async def test_hints_have_the_connection_prove_itself() -> None:
    options = FAST._replace(probe_timeout_s=0.2)
    async with (
        hub_at() as (_, url),
        FaultyNetwork.to(url) as network,
        client_of(network.url, "", options) as client,
    ):
        story = Story(client)
        await client.wait_online()
        client.hint("network_up")
        await client.presence("a")
        assert story.closed == []
        network.black_hole()
        client.hint("network_down")
        await until(lambda: "offline" in story.states, within_s=2)
        network.reset()
        network.heal()
        client.hint("network_up")
        await client.wait_online()


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Any:
    """Whatever the client logs as an error is one, but where the test has looked."""
    yield
    assert [
        record
        for record in caplog.get_records("call")
        if record.name == "heartwire.client" and record.levelno >= logging.ERROR
    ] == []
