"""The streams of the Python client, against the reference server of the protocol and Heartwire, and on bad
networks: nothing lost, nothing doubled."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import heartwire
from heartwire import GivenUp, LimitExceeded, Refused
from heartwire.client.streams import Stream
from heartwire.testing import FaultyNetwork, run_server
from tests.integration.client.tools import FAST, nothing_left, until
from tests.js.reference import CONFIG, SERVERS, stream_server

pytestmark = [pytest.mark.filterwarnings("error::ResourceWarning")]

JSON: Final = "application/json"
MAKE: Final[dict[str, Callable[[int], Any]]] = {
    JSON: lambda n: {"n": n},
    "text/plain": lambda n: f"é{n}\n",
    "application/octet-stream": lambda n: b"\xff%d;" % n,
}
each_kind = pytest.mark.parametrize("kind", MAKE)


@pytest.fixture(scope="module", params=SERVERS)
def root(request: pytest.FixtureRequest) -> Iterator[str]:
    """Below it the streams of a server are."""
    with stream_server(request.param) as url:
        yield url


def at(root: str, name: str, **options: Any) -> Stream:
    return heartwire.connect(root, options=FAST._replace(**options)).stream(name, path="")


async def read(stream: Stream, **arguments: Any) -> list[Any]:
    async with asyncio.timeout(20):
        return [one async for one in stream.read(**arguments)]


def whole(values: list[Any]) -> Any:
    """What pieces of text or bytes make; messages as they are."""
    return values if not values or isinstance(values[0], dict) else values[0][:0].join(values)


# -- one stream ----------------------------------------------------------------------------------------------


@each_kind
async def test_a_stream_from_its_creation_to_its_end(root: str, channel: str, kind: str) -> None:
    async with nothing_left():
        stream, make = at(root, channel), MAKE[kind]
        assert [await stream.create(kind, ttl_s=60), await stream.create(kind, ttl_s=60)] == [True, False]
        head = await stream.head()
        assert (head.content_type, head.closed, head.ttl_s) == (kind, False, 60)
        follower = at(root, channel)
        following = asyncio.create_task(read(follower))
        async with stream.producer() as producer:
            offset = await producer.append(make(0))
            await producer.write(make(1))
            await producer.write(make(2))
            assert await producer.flush() > offset
        await stream.close(make(3))
        await stream.close()
        expected = whole([make(n) for n in range(4)])
        assert whole(await following) == expected
        assert (follower.closed, follower.content_type, stream.closed) == (True, kind, True)
        assert follower.offset == (await stream.head()).offset
        assert whole(await read(at(root, channel), live=False)) == expected
        assert whole(await read(at(root, channel), offset=offset)) == whole([make(n) for n in range(1, 4)])
        assert await read(at(root, channel), offset="now") == []
        await stream.delete()
        for call in (stream.delete, lambda: read(follower)):
            with pytest.raises(Refused) as caught:
                await call()
            assert caught.value.code.name == "stream_not_found"


async def test_reading_goes_on_where_it_was_left(root: str, channel: str) -> None:
    stream = at(root, channel)
    await stream.create()
    async with stream.producer() as producer:
        for n in range(5):
            await producer.write(n)
    reader, got, offsets = at(root, channel), [], []
    async for one in reader:
        got.append(one)
        offsets.append(reader.offset)
        if one == 2:
            break
    assert offsets == ["-1"] * 3  # the server has given one for all five
    got += await read(reader, live=False)
    assert got == [0, 1, 2, 3, 4]
    assert reader.offset == (await stream.head()).offset
    assert await read(reader, offset="-1", live=False) == [0, 1, 2, 3, 4]


async def test_refusals(root: str, channel: str) -> None:
    stream = at(root, channel)
    calls: list[Callable[[], Awaitable[Any]]] = [
        stream.head,
        stream.close,
        lambda: stream.close(1),
        lambda: read(stream),
        lambda: read(stream, live=False),
    ]
    for call in calls:
        with pytest.raises(Refused) as caught:
            await call()
        assert caught.value.code.name == "stream_not_found"
    await stream.create("text/plain")
    with pytest.raises(Refused) as caught:
        await stream.create()
    assert caught.value.code.name == "stream_conflict"
    async with stream.producer() as producer:
        with pytest.raises(TypeError):
            await producer.append(1)
        with pytest.raises(LimitExceeded):
            await producer.append("x" * (FAST.max_message_bytes + 1))
        await producer.append("fine")
        await producer.close("the end")
        with pytest.raises(Refused) as caught:
            await producer.append("x")
    assert caught.value.code.name == "stream_closed"
    other = stream.producer()
    with pytest.raises(RuntimeError, match="async with"):
        await other.append("x")
    with pytest.raises(Refused, match=r"closed|HTTP 409"):
        async with other:
            await other.write("x")
    with pytest.raises(Refused, match=r"closed|HTTP 409"):
        await other.append("x")
    with pytest.raises(Refused):
        heartwire.connect(root).stream("a/../b")


def test_a_stream_is_made_without_a_running_loop(root: str, channel: str) -> None:
    stream = at(root, channel)
    asyncio.run(stream.create())
    asyncio.run(stream.close(1))
    assert asyncio.run(read(stream)) == [1]


async def test_a_later_epoch_shuts_out_the_earlier(root: str, channel: str) -> None:
    stream = at(root, channel)
    await stream.create()
    async with stream.producer("job") as first:
        await first.append("a")
        async with stream.producer("job", epoch=1) as second:
            await second.append("b")
            with pytest.raises(Refused) as caught:
                await first.append("lost")
            assert caught.value.code.name == "stale_producer"
            async with stream.producer("job", auto_claim=True) as third:
                await third.append("c")
                assert (third.id, third.epoch) == ("job", 2)
            with pytest.raises(Refused):
                await second.append("lost")
            with pytest.raises(Refused):
                await second.flush()
    async with stream.producer("job", epoch=2) as again:
        with pytest.raises(Refused, match="used already"):
            await again.append("lost")
    assert await read(at(root, channel), live=False) == ["a", "b", "c"]


# -- bad networks --------------------------------------------------------------------------------------------


HASTY: Final = {
    "ping_interval_s": 0.3,
    "pong_timeout_s": 0.2,
    "open_timeout_s": 0.2,
    "request_timeout_s": 0.3,
}


async def storm(network: FaultyNetwork, chance: random.Random, count: int) -> None:
    """Break what there is, each time that a little more has come through."""
    for _ in range(count):
        passed = network.bytes_up + network.bytes_down + chance.randrange(300, 1500)
        await network.until(lambda passed=passed: network.bytes_up + network.bytes_down > passed)  # type: ignore[misc]
        chance.choice([network.reset, network.cut, network.lose])()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "live"), [*((kind, True) for kind in MAKE), ("text/plain", "long-poll")])
async def test_each_once_through_a_storm(root: str, channel: str, kind: str, live: Any) -> None:
    async with FaultyNetwork.to(root) as network:
        make, rng = MAKE[kind], random.Random(f"{kind} {live}")
        await at(root, channel).create(kind)
        followers = [
            asyncio.create_task(read(at(network.url, channel, **HASTY), live=live)) for _ in range(2)
        ]
        weather = asyncio.create_task(storm(network, rng, 10))
        count = 0
        async with at(network.url, channel, **HASTY).producer() as producer:
            while not weather.done():
                await (producer.append if rng.random() < 0.5 else producer.write)(make(count))
                count += 1
            await weather
            await producer.close(make(count))
        expected = whole([make(n) for n in range(count + 1)])
        for follower in followers:
            assert whole(await follower) == expected
        assert whole(await read(at(root, channel))) == expected


async def test_an_answer_that_breaks_off_is_asked_for_again(root: str, channel: str) -> None:
    async with FaultyNetwork.to(root) as network:
        text = random.Random(0).randbytes(300_000).hex()  # which cannot be compressed to nothing
        await at(root, channel).create("text/plain")
        await at(root, channel).close(text)
        network.cut_after(200_000)
        reading = asyncio.create_task(read(at(network.url, channel)))
        await network.until(lambda: network.accepted > 2)
        network.heal()
        assert "".join(await reading) == text


async def test_what_keeps_event_streams_lets_long_polls_through(root: str, channel: str) -> None:
    async with FaultyNetwork.to(root) as network:
        await at(root, channel).create()
        network.buffer_responses()
        reading = asyncio.create_task(read(at(network.url, channel, open_timeout_s=0.1)))
        await network.until(lambda: network.accepted > 1)
        async with at(root, channel).producer() as producer:
            for n in range(3):
                await producer.append(n)
            await producer.close()
        assert await reading == [0, 1, 2]


async def test_a_dead_connection_is_noticed(root: str, channel: str) -> None:
    async with FaultyNetwork.to(root) as network:
        await at(root, channel).create()
        reading = asyncio.create_task(read(at(network.url, channel, **HASTY)))
        await network.until(lambda: network.connections == 1)
        network.lose()
        await at(root, channel).close("x")
        assert await reading == ["x"]


async def test_it_waits_for_a_server_that_is_away(root: str, channel: str) -> None:
    async with FaultyNetwork.to(root) as network:
        network.answer_502()
        creating = asyncio.create_task(at(network.url, channel).create())
        await network.until(lambda: network.bytes_down > 300)
        network.heal()
        assert await creating


@pytest.mark.parametrize("is_refused", [True, False])
async def test_giving_up(root: str, channel: str, is_refused: bool) -> None:
    async with FaultyNetwork.to(root) as network:
        await at(root, channel).create()
        stream = at(network.url, channel, max_pending_age_s=0.3, request_timeout_s=0.1)
        async with stream.producer() as producer:
            await producer.append("kept")
            if is_refused:
                network.cut()
                network.refuse()
            else:
                network.black_hole()
            with pytest.raises(GivenUp, match="max_pending_age_s") as caught:
                await producer.append("x")
            with pytest.raises(GivenUp):
                await producer.write("y")
        assert caught.value.is_unknown or is_refused


async def test_leaving_after_an_error_drops_what_waits(root: str, channel: str) -> None:
    async with FaultyNetwork.to(root) as network:
        await at(root, channel).create()
        waiting: list[asyncio.Future[Any]] = []

        async def fail() -> None:
            async with at(network.url, channel).producer() as producer:
                network.black_hole()
                waiting.append(asyncio.ensure_future(producer.append("x")))
                await network.until(lambda: network.accepted > 1)
                raise ZeroDivisionError

        async with nothing_left():
            with pytest.raises(ZeroDivisionError):
                await fail()
            with pytest.raises(GivenUp) as caught:
                await waiting[0]
            assert caught.value.is_unknown
            network.heal()  # or its own sockets stay


async def test_what_waits_is_bounded(root: str, channel: str) -> None:
    async with FaultyNetwork.to(root) as network:
        await at(root, channel).create()
        async with at(network.url, channel, max_pending_items=3).producer() as producer:
            network.black_hole()
            writes = [asyncio.ensure_future(producer.write(n)) for n in range(10)]
            await until(lambda: sum(one.done() for one in writes) == 6)  # three of them in flight
            for _ in range(100):
                await asyncio.sleep(0)
            assert sum(one.done() for one in writes) == 6
            network.heal()
            await asyncio.gather(*writes)
        assert await read(at(root, channel), live=False) == list(range(10))


@pytest.mark.slow
async def test_kills_of_the_server(tmp_path: Path) -> None:
    with run_server(engine="sqlite:///hw.db", folder=tmp_path, config=CONFIG) as server:
        root = f"{server.url}/streams"
        await at(root, "log").create()
        followers = [at(root, "log", **HASTY) for _ in range(2)]
        got: list[list[int]] = [[], []]

        async def follow(n: int) -> None:
            async for one in followers[n]:
                got[n].append(one)

        following = [asyncio.create_task(follow(n)) for n in range(2)]
        count = 0
        async with at(root, "log", **HASTY).producer() as producer:
            for kill in range(3):
                while min(map(len, got)) < 30 * kill + 20:
                    await producer.append(count)
                    count += 1
                appends = [asyncio.ensure_future(producer.append(count + n)) for n in range(10)]
                count += 10
                await asyncio.to_thread(server.restart)
                await asyncio.gather(*appends)
            await producer.close()
        async with asyncio.timeout(20):
            await asyncio.gather(*following)
        assert got == [list(range(count))] * 2
