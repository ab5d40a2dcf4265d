"""The end of a durable stream as a client's application sees it."""

import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest

import heartwire
from heartwire import EARLIEST, Hub, Refused
from heartwire.streams.record import Reason, StreamOptions
from heartwire.testing import ServerProcess, run_server, serving
from heartwire.types import Channel, Message
from tests.integration.client.tools import Story, client_of, data, each_transport, until
from tests.integration.wire import request

NAME = Channel("s:answer")


@contextlib.asynccontextmanager
async def hub_at() -> AsyncIterator[tuple[Hub, str]]:
    hub = Hub()
    hub.namespace("s", durable=True)
    async with serving(hub) as url:
        yield hub, url


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with run_server(config="[namespaces.s]\ndurable = true\n") as server:
        yield server


@each_transport
async def test_an_iterator_ends_after_all_that_came_before_the_end(transport: str) -> None:
    async with hub_at() as (hub, url), client_of(url, transport) as client:
        story = Story(client)
        async with hub.stream(NAME) as out:
            follower = await client.subscribe(NAME, since=EARLIEST).ready()
            for number in range(50):
                await out.write(f"w{number} ")
            assert not follower.end
        got = "".join([str(received.data) async for received in follower])
        assert (got, follower.end) == ("".join(f"w{number} " for number in range(50)), "done")
        assert [one async for one in follower] == []
        # The channel is free, and nothing came back for its sake.
        again = client.subscribe(NAME, since=EARLIEST)
        assert ("".join([str(received.data) async for received in again]), again.end) == (got, "done")
        assert (story.closed, story.errors, story.gaps, client.state) == ([], [], [], "online")


@pytest.mark.parametrize("reason", ["error", "aborted", "interrupted"])
async def test_a_function_is_called_with_the_reason_after_the_last_publication(reason: Reason) -> None:
    async with hub_at() as (hub, url), client_of(url) as client:
        streams = hub.node.streams
        await streams.create(NAME, StreamOptions(), [Message(b"word")])
        heard: list[object] = []
        follower = client.subscribe(NAME, lambda one: heard.append(one.data), since=EARLIEST)
        follower.on_end(heard.append)
        follower.on_end(lambda _: 1 / 0)  # logged
        await until(lambda: heard)
        await streams.close(NAME, reason, detail="why")
        await until(lambda: len(heard) > 1)
        assert (heard, follower.end) == (["word", reason], reason)


async def test_a_closed_stream_refuses_publishes_and_the_client_goes_on() -> None:
    async with hub_at() as (hub, url), client_of(url) as client:
        async with hub.stream(NAME):
            pass
        with pytest.raises(Refused, match="stream 's:answer' is closed"):
            await client.publish(NAME, "late")
        with pytest.raises(Refused, match="create it first"):
            await client.publish("s:other", "early")
        await client.publish("lobby", "x")
        assert data(await client.history("lobby")) == ["x"]


def test_a_blocking_iterator_ends_too(server: ServerProcess) -> None:
    path = f"/streams/{NAME}"
    headers = {"content-type": "text/plain", "stream-closed": "true"}
    assert request(server.url, "PUT", path, "word", headers).status == 201
    with heartwire.connect_sync(server.url) as client:
        follower = client.subscribe(NAME, since=EARLIEST)
        assert ([one.data for one in follower], follower.end) == (["word"], "done")
