"""Redis and Valkey that are killed, emptied, cut off and replaced: nobody misses anything without being told."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from heartwire.engines import shared, watches
from heartwire.engines.redis.engine import RedisEngine
from heartwire.errors import ConfigError, EngineUnavailable, EngineUncertain
from heartwire.testing.engines.bench import KEEP, A, B, offsets_of
from heartwire.testing.engines.nodes import Node
from heartwire.testing.stores import ValkeyServer, run_valkey
from heartwire.types import Member, Message, Position
from tests.integration.certificates import self_signed
from tests.integration.stores.proxy import proxy_to
from tests.integration.stores.readers import until_in_step
from tests.unit.transports.tools import until

pytestmark = pytest.mark.slow


@contextlib.asynccontextmanager
async def node_on(url: str, **options: object) -> AsyncIterator[Node]:
    """A node on a store, with options of its URL."""
    query = "&".join(f"{name}={value}" for name, value in options.items())
    node = Node(RedisEngine.from_url(f"{url}?{query}"))
    await node.start()
    try:
        yield node
    finally:
        await node.engine.stop()


def texts(node: Node) -> list[str]:
    return [one.data.decode() for one in node.told]


async def acknowledged(node: Node, count: int) -> list[Position]:
    return [await node.append(A, f"{number}") for number in range(1, count + 1)]


# -- a server that is killed ---------------------------------------------------------------------------------


async def test_a_server_that_lost_everything_gives_other_epochs_and_readers_hear_of_it() -> None:
    async with run_valkey() as server, node_on(server.url) as node:
        await node.watch(A)
        before = (await acknowledged(node, 3))[-1]
        server.kill()
        waiting = asyncio.ensure_future(node.append(A, "waits"))
        await server.start()
        after = await waiting
        assert (after.offset, after.epoch != before.epoch) == (1, True)
        await until(lambda: node.behind)
        assert [(channel, head.epoch) for channel, head in node.behind] == [(A, after.epoch)]
        assert not (await node.read(A, before)).recovered


async def test_a_server_that_lost_nothing_keeps_publications_but_not_epochs_as_it_cannot_be_known() -> None:
    async with run_valkey(aof="always") as server, node_on(server.url) as node:
        before = (await acknowledged(node, 3))[-1]
        server.kill()
        await server.start()
        after = await node.append(A, "4")
        assert (after.offset, after.epoch != before.epoch) == (4, True)
        assert offsets_of((await node.read(A)).publications) == [1, 2, 3, 4]


async def test_an_operator_who_knows_that_a_restart_loses_nothing_keeps_epochs() -> None:
    async with run_valkey(aof="always") as server, node_on(server.url, on_restart="trust") as node:
        before = (await acknowledged(node, 3))[-1]
        server.kill()
        await server.start()
        assert await node.append(A, "4") == Position(before.epoch, 4)


async def test_members_are_there_again_after_a_server_lost_them() -> None:
    async with run_valkey() as server, node_on(server.url, node_lease_s=1) as node:
        node.lease(A, "c-1")
        assert await node.present(A) == ["c-1"]
        server.kill()
        await server.start()
        while await node.present(A) != ["c-1"]:  # noqa: ASYNC110 - the store does not say when
            await asyncio.sleep(0.01)


async def test_scripts_that_are_flushed_are_loaded_again_and_the_order_stays() -> None:
    async with run_valkey() as server, node_on(server.url) as node:
        answers = []
        for number in range(300):
            answers.append(node.engine.append(A, Message(b"%d" % number), KEEP))
            if number % 100 == 50:
                await server.command("SCRIPT", "FLUSH")
            elif number % 3 == 0:
                await asyncio.sleep(0)
        positions = await asyncio.gather(*answers)  # type: ignore[arg-type]
        assert [at.offset for at in positions] == list(range(1, 301))
        kept = [one.data for one in (await node.read(A)).publications]
        assert kept == [b"%d" % number for number in range(300)]


async def test_a_store_that_was_emptied_tells_quiet_readers() -> None:
    async with run_valkey() as server, node_on(server.url, check_s=0.3) as node:
        before = await node.watch(A)
        await server.command("FLUSHALL")
        await until(lambda: any(head.epoch != before.epoch for _, head in node.behind))


async def test_what_is_evicted_is_lost_and_told() -> None:
    async with run_valkey() as server, node_on(server.url) as node:
        positions = await acknowledged(node, 3)
        await delete(server, ":s:a")
        result = await node.read(A, positions[0])
        assert (result.recovered, result.publications, result.head) == (False, [], positions[-1])
        assert await node.append(A, "4") == Position(positions[-1].epoch, 4)
        await delete(server, ":m:a")
        result = await node.read(A, positions[-1])
        assert (result.recovered, result.publications, result.head.offset) == (False, [], 0)
        assert (await node.append(A, "5")).epoch == result.head.epoch != positions[-1].epoch


async def delete(server: ValkeyServer, suffix: str) -> None:
    names = [
        name for name in (await server.command("KEYS", "*")).split(b"\r\n") if name.endswith(suffix.encode())
    ]
    assert len(names) == 1
    await server.command("DEL", names[0].decode())


# -- a replica that takes over -------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def pair() -> AsyncIterator[tuple[ValkeyServer, ValkeyServer]]:
    """A primary and its replica, in step."""
    async with run_valkey() as primary, run_valkey(replica_of=primary.port) as replica:
        await until_in_step(primary, replica)
        yield primary, replica


async def fail_over_with_loss(on_failover: str) -> tuple[Position, Position, list[str]]:
    """The last acknowledged position before a failover that loses five publications, the last one of as many
    and one more after it, and what a reader at the first is given."""
    async with run_valkey() as one, proxy_to(one.port) as (lag, port), run_valkey(replica_of=port) as other:
        await until_in_step(one, other)  # a first replica begins another history
        async with node_on(one.url, on_failover=on_failover) as node:
            await acknowledged(node, 95)
            await until_in_step(one, other)
            lag.is_deaf = True
            lost = [await node.append(A, f"lost {number}") for number in range(5)][-1]
            one.kill()
        await other.command("REPLICAOF", "NO", "ONE")
        async with node_on(other.url, on_failover=on_failover) as node:
            after = [await node.append(A, f"other {number}") for number in range(6)][-1]
            result = await node.read(A, lost)
            given = [one.data.decode() for one in result.publications]
            return lost, after, given if result.recovered else ["gap"]


async def test_a_failover_that_lost_publications_changes_the_epoch() -> None:
    lost, after, given = await fail_over_with_loss("renew")
    assert (lost.offset, after.offset, after.epoch != lost.epoch) == (100, 101, True)
    assert given == ["gap"]


async def test_without_the_fence_such_a_loss_is_silent() -> None:
    """Five of other content stand where the reader has been: it gets the sixth, and nobody knows."""
    lost, after, given = await fail_over_with_loss("trust")
    assert (after.offset, after.epoch) == (101, lost.epoch)
    assert given == ["other 5"]


async def test_a_failback_changes_it_again() -> None:
    async with pair() as (one, other):
        epochs = []
        for primary, replica in ((one, other), (other, one)):
            async with node_on(primary.url) as node:
                epochs.append((await node.append(A)).epoch)
            await until_in_step(primary, replica)
            await replica.command("REPLICAOF", "NO", "ONE")
            await primary.command("REPLICAOF", "127.0.0.1", str(replica.port))
            await until_in_step(replica, primary)
        async with node_on(one.url) as node:
            epochs.append((await node.append(A)).epoch)
        assert len(set(epochs)) == 3


async def test_a_primary_that_is_demoted_under_a_node_is_left_and_found_again() -> None:
    async with pair() as (one, other), node_on(one.url) as node:
        before = await node.append(A)
        await one.command("REPLICAOF", "127.0.0.1", str(other.port))
        waiting = asyncio.ensure_future(node.append(A))
        await asyncio.sleep(0)
        await one.command("REPLICAOF", "NO", "ONE")
        after = await waiting
        assert (after.offset, after.epoch != before.epoch) == (2, True)


async def test_a_replica_is_refused() -> None:
    async with pair() as (_, replica):
        with pytest.raises(EngineUnavailable, match="is a replica: name the primary"):
            async with node_on(replica.url, patience_s=0.1):
                pass


# -- connections that break ----------------------------------------------------------------------------------


async def test_an_append_whose_answer_was_cut_off_is_applied_once() -> None:
    async with (
        run_valkey() as server,
        proxy_to(server.port) as (proxy, port),
        node_on(f"redis://127.0.0.1:{port}") as node,
        node_on(server.url) as other,
    ):
        await node.append(A, "1")
        proxy.is_deaf = True
        answers = [node.engine.append(A, Message(b"%d" % number), KEEP) for number in (2, 3, 4)]
        while len((await other.read(A)).publications) < 4:  # noqa: ASYNC110 - nor then
            await asyncio.sleep(0.01)
        proxy.is_deaf = False
        proxy.cut()
        positions = await asyncio.gather(*answers)  # type: ignore[arg-type]
        assert [at.offset for at in positions] == [2, 3, 4]
        assert [one.data for one in (await other.read(A)).publications] == [b"1", b"2", b"3", b"4"]


async def test_a_link_that_is_cut_for_a_while_makes_answers_late_and_nothing_is_missed() -> None:
    async with (
        run_valkey() as server,
        proxy_to(server.port) as (proxy, port),
        node_on(f"redis://127.0.0.1:{port}") as node,
        node_on(server.url) as other,
    ):
        await node.watch(A)
        await node.append(A, "1")
        proxy.is_closed = True
        proxy.cut()
        waiting = asyncio.ensure_future(node.append(A, "3"))
        await until(lambda: not node.engine.is_reachable)
        await other.append(A, "2")
        assert not waiting.done()
        proxy.is_closed = False
        assert (await waiting).offset == 3
        await until(lambda: node.behind)
        [(channel, head)] = node.behind
        assert (channel, head.offset) in ((A, 2), (A, 3))


async def test_patience_ends_with_what_is_known_of_an_append() -> None:
    async with (
        run_valkey() as server,
        proxy_to(server.port) as (proxy, port),
        node_on(f"redis://127.0.0.1:{port}", patience_s=0.3) as node,
    ):
        await node.append(A, "1")
        proxy.is_deaf = True
        doubtful = asyncio.ensure_future(node.append(A, "2"))
        await until(lambda: any(b"\r\n2\r\n" in link.sent[-300:] for link in proxy.commands()))
        proxy.is_closed = True
        proxy.cut()
        await until(lambda: not node.engine.is_reachable)
        certain = asyncio.ensure_future(node.append(A, "3"))
        with pytest.raises(EngineUncertain, match="the same idempotency key"):
            await doubtful
        with pytest.raises(EngineUnavailable):
            await certain
        proxy.is_closed = proxy.is_deaf = False
        await until(lambda: node.engine.is_reachable)
        assert [one.data for one in (await node.read(A)).publications] in ([b"1", b"2"], [b"1"])


async def test_a_server_that_stands_still_is_waited_for_and_answers_once() -> None:
    async with run_valkey() as server, node_on(server.url, answer_timeout_s=0.3) as node:
        await node.append(A, "1")
        server.pause()
        waiting = asyncio.ensure_future(node.append(A, "2"))
        await until(lambda: not node.engine.is_reachable)
        server.resume()
        assert (await waiting).offset == 2
        assert offsets_of((await node.read(A)).publications) == [1, 2]


async def test_a_feed_that_brings_nothing_is_closed_and_readers_are_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watches.FeedPulse, "SILENT_S", 0.2)
    async with (
        run_valkey() as server,
        proxy_to(server.port) as (proxy, port),
        node_on(f"redis://127.0.0.1:{port}") as node,
        node_on(server.url) as other,
    ):
        await node.watch(A)
        await until(proxy.feeds)
        for link in proxy.feeds():
            link.is_deaf = True
        head = await other.append(A, "1")
        await until(lambda: (A, head) in node.behind)
        await other.append(A, "2")
        await until(lambda: texts(node) == ["2"])


async def test_a_subscriber_that_the_server_drops_for_its_buffer_misses_nothing() -> None:
    limits = ("--client-output-buffer-limit", "pubsub 256kb 256kb 1")
    async with (
        run_valkey(*limits) as server,
        proxy_to(server.port) as (proxy, port),
        node_on(f"redis://127.0.0.1:{port}") as node,
        node_on(server.url) as other,
    ):
        await node.watch(A)
        await until(proxy.feeds)
        [feed] = proxy.feeds()
        feed.free.clear()
        for _ in range(20):
            head = await other.append(A, "x" * 1_000_000)
        feed.free.set()
        await until(lambda: (A, head) in node.behind)
        last = await other.append(A, "last")
        await until(lambda: node.told_in(A)[-1:] == [last.offset])


async def test_a_stream_that_goes_back_in_its_epoch_gets_another_one() -> None:
    """As behind a proxy of servers that hides which one answers."""
    async with run_valkey() as server, node_on(server.url, check_s=0.3) as node:
        await node.watch(A)
        before = (await acknowledged(node, 5))[-1]
        [meta] = [name for name in (await server.command("KEYS", "*:m:a")).split(b"\r\n") if b":m:a" in name]
        await server.command("HSET", meta.decode(), "h", "3")
        await until(lambda: any(head.epoch != before.epoch for _, head in node.behind))
        assert not (await node.read(A, before)).recovered


async def test_a_node_that_was_cut_off_is_given_up_and_comes_back_with_its_members(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared, "REAP_S", 0.1)
    async with (
        run_valkey() as server,
        proxy_to(server.port) as (proxy, port),
        node_on(f"redis://127.0.0.1:{port}", node_lease_s=0.5) as node,
        node_on(server.url, node_lease_s=0.5) as other,
    ):
        await other.watch(A)
        for client in ("c-1", "c-2"):
            node.lease(A, client)
            node.engine.announce(A, "join", Member(client))
        assert await node.engine.admit("ann", "c-1", 1)
        await until(lambda: len(other.members) == 2)
        assert await other.present(A) == ["c-1", "c-2"]
        proxy.is_closed = True
        proxy.cut()
        await until(lambda: len(other.members) == 4)
        assert sorted(other.members[2:]) == [(A, "leave", "c-1"), (A, "leave", "c-2")]
        assert await other.present(A) == []
        assert len(await other.engine.nodes()) == 1
        node.engine.release(A, "c-2")
        node.engine.announce(A, "leave", Member("c-2"))
        proxy.is_closed = False
        await until(lambda: len(other.members) > 4)
        while await other.present(A) != ["c-1"]:  # noqa: ASYNC110 - it is written after it is told
            await asyncio.sleep(0.01)
        assert (A, "join", "c-1") in other.members[4:]
        assert (A, "join", "c-2") not in other.members[4:]
        while await other.engine.admit("ann", "c-9", 1):
            other.engine.dismiss("ann", "c-9")
            await asyncio.sleep(0.01)


# -- forms of a URL ------------------------------------------------------------------------------------------


async def test_a_unix_socket_a_user_and_a_database() -> None:
    async with run_valkey() as server:
        await server.command("ACL", "SETUSER", "ann", "on", ">p@ss", "~*", "&*", "+@all")
        async with node_on(f"redis://ann:p%40ss@127.0.0.1:{server.port}/3") as node:
            first = await node.append(A)
            async with node_on(f"redis+unix://{server.socket}", db=3) as other:
                assert (await other.append(A)).offset == first.offset + 1
            async with node_on(server.url) as apart:
                await apart.watch(A)
                assert (await apart.append(A)).offset == 1
                await node.append(A)
                assert (await apart.append(A)).offset == 2
                assert apart.told_in(A) == [1, 2]
        with pytest.raises(ConfigError, match=r"WRONGPASS"):
            async with node_on(f"redis://ann:wrong@127.0.0.1:{server.port}"):
                pass


async def test_tls(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path, "localhost", "127.0.0.1")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    async with run_valkey() as server, proxy_to(server.port, tls=tls) as (_, port):
        async with node_on(f"rediss://localhost:{port}", ca_file=certificate) as node:
            await node.watch(A)
            await node.append(A, "by TLS")
            assert texts(node) == ["by TLS"]
        with pytest.raises(EngineUnavailable, match="certificate"):
            async with node_on(f"rediss://localhost:{port}", patience_s=0.1):
                pass


async def test_eviction_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    evicting = run_valkey("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
    async with evicting as server, node_on(server.url) as node:
        await node.append(B)
    assert "maxmemory-policy is allkeys-lru" in caplog.text


async def test_a_store_that_is_full_refuses_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async with run_valkey() as server, node_on(server.url) as node:
        await node.append(A, "1")
        await server.command("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(EngineUnavailable, match="OOM"):
            await node.append(A, "2")
        await server.command("CONFIG", "SET", "maxmemory", "0")
        assert (await node.append(A, "2")).offset == 2
