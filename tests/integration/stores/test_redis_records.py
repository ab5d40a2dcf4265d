"""Stream records in Redis and Valkey that are killed, cut off and full: a record and its stream stay one."""

import asyncio

import pytest

from heartwire.core.waiting import settled
from heartwire.engines.contract import Recorded, Retention, StreamWrite
from heartwire.errors import EngineUnavailable
from heartwire.testing.engines.bench import KEEP, A, B
from heartwire.testing.engines.nodes import Node
from heartwire.testing.stores import ValkeyServer, run_valkey
from heartwire.types import Message, Position
from tests.integration.stores.proxy import proxy_to
from tests.integration.stores.readers import node_on, until_in_step
from tests.unit.transports.tools import until

pytestmark = pytest.mark.slow

_MINUTE_MS = 60_000


def change(expects: int, revision: int, *texts: str, ttl_s: float = 0, ends_ms: int = 0) -> StreamWrite:
    messages = [Message(text.encode()) for text in texts]
    return StreamWrite(expects, revision, b"record %d" % revision, messages, ttl_s, ends_ms)


def write(node: Node, made: StreamWrite) -> asyncio.Future[Recorded]:
    return asyncio.ensure_future(settled(node.engine.write(A, made)))


async def record(node: Node) -> Recorded:
    return await settled(node.engine.record(A))


async def texts(node: Node) -> list[str]:
    return [one.data.decode() for one in (await node.read(A)).publications]


# -- lives of the store --------------------------------------------------------------------------------------


async def test_a_record_is_there_in_another_life_of_the_store_and_goes_on_in_another_epoch() -> None:
    async with run_valkey(aof="always") as server, node_on(server.url) as node:
        await node.watch(A)
        before = await write(node, change(0, 1, "1", "2"))
        server.kill()
        await server.start()
        found = await record(node)
        assert (found.revision, found.record, found.head.offset) == (1, b"record 1", 2)
        assert found.head.epoch != before.head.epoch
        assert not (await node.read(A, before.head)).recovered
        after = await write(node, change(1, 2, "3"))
        assert after.head == Position(found.head.epoch, 3)
        assert await texts(node) == ["1", "2", "3"]
        await until(lambda: node.behind)
        assert {head.epoch for _, head in node.behind} == {after.head.epoch}


async def test_a_replica_that_takes_over_has_the_record_that_its_publications_are_of() -> None:
    async with run_valkey() as primary, run_valkey(replica_of=primary.port) as replica:
        await until_in_step(primary, replica)
        async with node_on(primary.url) as node:
            kept = await write(node, change(0, 1, "1"))
            await until_in_step(primary, replica)
            await replica.command("REPLICAOF", "NO", "ONE")
            assert (await write(node, change(1, 2, "lost"))).revision == 2
        async with node_on(replica.url) as node:
            found = await record(node)
            assert (found.revision, found.head.offset) == (1, 1)
            assert found.head.epoch != kept.head.epoch
            assert (await write(node, change(2, 3, "of what was lost"))).revision == 1
            assert (await write(node, change(1, 4, "2"))).head == Position(found.head.epoch, 2)
            assert await texts(node) == ["1", "2"]


async def test_a_write_whose_answer_is_lost_is_sent_again_and_made_once() -> None:
    async with (
        run_valkey() as server,
        proxy_to(server.port) as (proxy, port),
        node_on(f"redis://127.0.0.1:{port}") as node,
        node_on(server.url) as other,
    ):
        await write(node, change(0, 1, "1"))
        proxy.is_deaf = True
        answers = [write(node, change(number, number + 1, f"{number + 1}")) for number in (1, 2)]
        while len(await texts(other)) < 3:  # noqa: ASYNC110 - it is not told
            await asyncio.sleep(0.01)
        proxy.is_deaf = False
        proxy.cut()
        assert [one.revision for one in await asyncio.gather(*answers)] == [3, 3]  # as it is found
        assert await texts(other) == ["1", "2", "3"]


async def test_an_end_whose_answer_is_lost_is_made_once() -> None:
    async with (
        run_valkey() as server,
        proxy_to(server.port) as (proxy, port),
        node_on(f"redis://127.0.0.1:{port}") as node,
        node_on(server.url) as other,
    ):
        await write(node, change(0, 1, "1"))
        proxy.is_deaf = True
        answer = write(node, change(1, 2)._replace(record=None))
        while (await record(other)).revision:  # noqa: ASYNC110 - nor here
            await asyncio.sleep(0.01)
        again = await write(other, change(0, 3, "another"))
        proxy.is_deaf = False
        proxy.cut()
        assert (await answer).revision == 3
        assert (await record(other)).head == again.head
        assert await texts(other) == ["another"]


# -- how long keys live --------------------------------------------------------------------------------------


async def lives_ms(server: ValkeyServer) -> list[int]:
    """How long the hash and the entries of `A` will be there; -1: for ever."""
    names = (await server.command("KEYS", "*")).split(b"\r\n")
    keys = sorted(name.decode() for name in names if name.endswith((b":m:a", b":s:a")))
    assert len(keys) == 2
    return [int((await server.command("PTTL", key))[1:]) for key in keys]


def are_between(lives: list[int], least: float, most: float) -> bool:
    return all(least < life <= most for life in lives)


async def test_keys_live_a_minute_longer_than_their_record() -> None:
    async with run_valkey() as server, node_on(server.url) as node:
        now_ms = (await write(node, change(0, 1, "1"))).now_ms
        assert await lives_ms(server) == [-1, -1]
        day_ms = 86_400_000
        await write(node, change(1, 2, ttl_s=86_400, ends_ms=now_ms + 3 * day_ms))
        assert are_between(await lives_ms(server), day_ms, day_ms + _MINUTE_MS)
        await write(node, change(2, 3, ttl_s=86_400, ends_ms=now_ms + day_ms // 2))
        node.engine.touch(A)
        await record(node)
        assert are_between(await lives_ms(server), day_ms // 2, day_ms // 2 + _MINUTE_MS)
        await node.engine.heads([A, B])  # which prolong the life of what has no record
        await node.read(A)
        assert are_between(await lives_ms(server), day_ms // 2, day_ms // 2 + _MINUTE_MS)
        await write(node, change(3, 4, ttl_s=1e300, ends_ms=2**53))
        assert are_between(await lives_ms(server), 10**13, 10**15)
        await write(node, change(4, 5))
        assert await lives_ms(server) == [-1, -1]


async def test_a_stream_with_a_record_is_not_trimmed() -> None:
    async with run_valkey("--stream-node-max-entries", "1") as server, node_on(server.url) as node:
        await write(node, change(0, 1, *(f"{number}" for number in range(200))))
        await node.engine.sweep(lambda channel: Retention(1, 0.001))
        assert len(await texts(node)) == 200


# -- a store that is full, and one that a write is too large for ---------------------------------------------


async def test_a_store_that_is_full_refuses_all_of_a_write() -> None:
    async with run_valkey() as server, node_on(server.url) as node:
        await node.watch(A)
        before = await write(node, change(0, 1, "1"))
        await server.command("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(EngineUnavailable, match="OOM"):
            await write(node, change(1, 2, "2", "3", ttl_s=60))
        await server.command("CONFIG", "SET", "maxmemory", "0")
        found = await record(node)
        assert found._replace(now_ms=0) == before._replace(now_ms=0)
        assert (await write(node, change(1, 3, "2"))).head.offset == 2
        assert node.told_in(A) == [1, 2]


async def test_a_write_larger_than_a_feed_brings_is_told_by_its_position() -> None:
    async with run_valkey() as server, node_on(server.url) as node, node_on(server.url) as other:
        for one in (node, other):
            await one.watch(A)
            await one.watch(B)
        made = change(0, 1)._replace(messages=[Message(b"%d" % at * 1_000_000) for at in range(10, 30)])
        written = await write(node, made)
        assert written.head.offset == 20
        for one in (node, other):
            await until(lambda one=one: (A, written.head) in one.behind)  # type: ignore[misc]
            assert one.told == []
        kept = (await other.read(A)).publications
        assert [one.data for one in kept] == [one.data for one in made.messages]
        await write(node, change(1, 2, "small"))
        await node.engine.append(B, Message(b"b"), KEEP)  # type: ignore[misc]
        await until(lambda: len(other.told) == 2)
        assert [(one.channel, one.offset) for one in other.told] == [(A, 21), (B, 1)]
        assert {one.engine._state for one in (node, other)} == {"up"}  # type: ignore[attr-defined]
