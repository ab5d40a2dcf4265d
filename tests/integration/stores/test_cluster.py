"""A cluster of three primaries: the promises of one server, and slots that move under load."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from heartwire.engines import shared as engines_shared
from heartwire.engines.contract import Clock, Feed, SharedEngine
from heartwire.engines.redis.engine import RedisEngine
from heartwire.engines.redis.keys import partition_of, slot_of
from heartwire.engines.redis.target import Target
from heartwire.testing.clock import FakeClock
from heartwire.testing.engines import CHECKS, SHARED_CHECKS, Bench, SharedCheck, check_shared_engine
from heartwire.testing.engines.bench import A, B
from heartwire.testing.engines.suite import ANSWER_S
from heartwire.testing.stores import ValkeyServer, run_valkey_cluster
from tests.integration.stores.readers import ROOMS, load_on

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[ValkeyServer]]:
    with asyncio.Runner() as runner:
        running = run_valkey_cluster()
        yield runner.run(running.__aenter__())
        runner.run(running.__aexit__(None, None, None))


def url(cluster: list[ValkeyServer]) -> str:
    places = ",".join(f"127.0.0.1:{server.port}" for server in cluster[:2])
    return f"redis+cluster://{places}?node_lease_s=40&prefix={secrets.token_hex(4)}"


async def test_engine_keeps_its_promises(cluster: list[ValkeyServer]) -> None:
    """All checks on one engine after another, since each has three servers to greet."""
    for check in CHECKS:
        clock = FakeClock()
        engine = RedisEngine(Target.from_url(url(cluster)), clock=clock)
        bench = Bench(engine, clock, None)
        await engine.start(Feed(bench.notify))
        try:
            for channel in (A, B):
                engine.watch(channel)
                await engine._confirmed(channel)
            async with asyncio.timeout(ANSWER_S):
                await check(bench)
        finally:
            await engine.stop()


@pytest.mark.parametrize("check", SHARED_CHECKS, ids=lambda check: check.__name__)
async def test_nodes_keep_the_promise(
    cluster: list[ValkeyServer], check: SharedCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines_shared, "TICK_S", 0.01)

    @contextlib.asynccontextmanager
    async def store(clock: Clock) -> AsyncIterator[Callable[[], SharedEngine]]:
        target = Target.from_url(url(cluster))
        yield lambda: RedisEngine(target, clock=clock, monotonic=clock)

    await check_shared_engine(store, checks=[check])


async def test_a_replica_takes_over_and_every_acknowledged_publish_is_read_or_a_gap_told() -> None:
    async with run_valkey_cluster(replicas=1) as servers:
        async with load_on(url(servers) + "&patience_s=30") as load:
            await load.goes_on()
            servers[0].kill()
            await load.goes_on()
            await load.check()
        assert load.refused == 0


async def move(slot: int, source: ValkeyServer, to: ValkeyServer) -> None:
    """Move a slot as ``redis-cli --cluster reshard`` does: key by key."""
    names = {
        server: (await server.command("CLUSTER", "MYID")).split(b"\r\n")[1].decode()
        for server in (source, to)
    }
    await to.command("CLUSTER", "SETSLOT", str(slot), "IMPORTING", names[source])
    await source.command("CLUSTER", "SETSLOT", str(slot), "MIGRATING", names[to])
    while True:
        keys = (await source.command("CLUSTER", "GETKEYSINSLOT", str(slot), "10")).split(b"\r\n")[2::2]
        if not keys:
            break
        for key in keys:
            await source.command("MIGRATE", "127.0.0.1", str(to.port), key.decode(), "0", "1000")
    for server in (to, source):
        await server.command("CLUSTER", "SETSLOT", str(slot), "NODE", names[to])


async def test_slots_move_under_load_and_every_acknowledged_publish_is_read_in_order(
    cluster: list[ValkeyServer],
) -> None:
    async with load_on(url(cluster)) as load:
        await load.goes_on()
        for room in ROOMS[:3]:
            slot = slot_of(partition_of(room))
            at = slot * 3 // 16384
            await move(slot, cluster[at], cluster[(at + 1) % 3])
            await load.goes_on()
            await move(slot, cluster[(at + 1) % 3], cluster[at])
        await load.goes_on()
        await load.check()
    assert load.refused == 0
    for room, acknowledged in load.acknowledged.items():
        offsets = [at.offset for at, _ in acknowledged]
        assert offsets == list(range(1, len(offsets) + 1)), f"{room}: not once each, in order"
