"""Long polls of one channel that wait at one position share a link, and are counted one by one."""

from heartwire import Hub
from tests.unit.transports.tools import Answer, Served, Wire, at_rest, serve_native, soon, until


async def waiting(served: Served, hub: Hub, since: str = "", channel: str = "a") -> Wire:
    """A poll that the server holds."""
    wire, before = await Wire.open(served), len(hub.node.connections)
    query = f"?wait=50&since={since}" if since else "?wait=50"
    await wire.send(f"GET /channels/{channel}{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    await until(lambda: len(hub.node.connections) == before + 1)
    return wire


def subscriptions(hub: Hub) -> int:
    return sum(len(topic.subscriptions) for topic in hub.node.switchboard.topics.values())


async def answer(wire: Wire) -> Answer:
    return await soon(wire.answer())


async def test_polls_at_one_position_share_a_link_and_an_answer() -> None:
    hub = Hub()
    async with serve_native(hub) as served:
        since = str(await hub.publish("a", "0"))
        wires = [await waiting(served, hub, since) for _ in range(3)]
        assert subscriptions(hub) == 1
        position = await hub.publish("a", "1")
        answers = [await answer(wire) for wire in wires]
        assert {one.body for one in answers} == {answers[0].body}
        assert f'"position":"{position}"'.encode() in answers[0].body
        assert at_rest(hub)
        again = [await waiting(served, hub, str(position)) for _ in range(2)]
        await hub.publish("a", "2")
        assert [(await answer(wire)).status for wire in again] == [200, 200]


async def test_a_poll_that_goes_away_leaves_the_others() -> None:
    hub = Hub()
    async with serve_native(hub) as served:
        since = str(await hub.publish("a", "0"))
        first, second = await waiting(served, hub, since), await waiting(served, hub, since)
        first.sock.close()
        await until(lambda: len(hub.node.connections) == 1)
        await hub.publish("a", "1")
        assert b'"data":1' in (await answer(second)).body
        await until(lambda: at_rest(hub))


async def test_each_poll_counts_as_a_connection() -> None:
    hub = Hub(max_connections=2)
    async with serve_native(hub) as served:
        since = str(await hub.publish("a", "0"))
        held = [await waiting(served, hub, since) for _ in range(2)]
        wire = await Wire.open(served)
        await wire.send(f"GET /channels/a?wait=50&since={since} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert (await answer(wire)).status == 503
        await hub.publish("a", "1")
        assert [(await answer(one)).status for one in held] == [200, 200]
        assert at_rest(hub)


async def test_a_drain_answers_them_all() -> None:
    hub = Hub()
    async with serve_native(hub) as served:
        since = str(await hub.publish("a", "0"))
        wires = [await waiting(served, hub, since) for _ in range(3)]
        hub.drain()
        for wire in wires:
            assert f'"position":"{since}"'.encode() in (await answer(wire)).body
        assert at_rest(hub)


async def test_polls_at_other_positions_have_their_own_answers() -> None:
    hub = Hub()
    async with serve_native(hub) as served:
        first = str(await hub.publish("a", "0"))
        held = await waiting(served, hub, first)
        other = await waiting(served, hub, channel="b")
        assert subscriptions(hub) == 2
        await hub.publish("b", "x")
        assert (await answer(other)).status == 200
        assert subscriptions(hub) == 1
        await hub.publish("a", "1")
        assert (await answer(held)).status == 200
