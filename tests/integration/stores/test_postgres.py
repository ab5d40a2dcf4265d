"""The engine on a real PostgreSQL: what a crash, a failover, a lost connection and a lost answer do to it, and
what an application publishes in its own transactions."""

import asyncio
import contextlib
import itertools
import math
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import psycopg
import pytest

from heartwire import ConfigError, EngineCorrupt, EngineUnavailable, Hub, Refused, publish_in
from heartwire.core.waiting import settled
from heartwire.engines import shared
from heartwire.engines.contract import Recorded, Retention, StreamWrite
from heartwire.engines.postgres.engine import PostgresEngine
from heartwire.engines.postgres.schema import in_schema
from heartwire.engines.registry import open_engine
from heartwire.streams.record import Claim, Producer, StreamOptions
from heartwire.streams.streams import Streams
from heartwire.testing.clock import FakeClock
from heartwire.testing.engines.nodes import Node
from heartwire.testing.stores import PostgresServer, run_postgres
from heartwire.types import NOW, Channel, Member, Message, Position
from tests.unit.core.fakes import FakeLink, RecordingFormat, Told

A, B = Channel("a"), Channel("b")
KEEP = Retention(10_000, 3600)

pytestmark = pytest.mark.slow
_numbers = itertools.count()


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    """Of a schema of its own."""
    return f"{postgres.url}&schema=test_{next(_numbers)}"


@contextlib.asynccontextmanager
async def running(url: str, count: int = 1) -> AsyncIterator[list[Node]]:
    """Nodes on one store."""
    async with contextlib.AsyncExitStack() as stack:
        nodes = [Node(PostgresEngine(url)) for _ in range(count)]
        for node in nodes:
            await node.start()
            stack.push_async_callback(node.engine.stop)
        yield nodes


async def until(is_so: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110 - it is told by a plain call
            await asyncio.sleep(0.005)


async def until_asked(is_so: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(30):
        while not await is_so():  # noqa: ASYNC110 - it is found out by asking
            await asyncio.sleep(0.01)


async def is_at_least(connection: Any, query: str, count: int) -> bool:
    return await connection.fetchval(query) >= count  # type: ignore[no-any-return]


def schema_of(url: str) -> str:
    return url.rpartition("schema=")[2]


async def client(url: str) -> Any:
    """A connection of the application's."""
    return await asyncpg.connect(url.partition("&schema=")[0])


async def texts(node: Node, channel: Channel = A) -> list[str]:
    return [one.data.decode() for one in (await node.read(channel)).publications]


class Publisher:
    """Publishes as fast as it is answered, from several callers.

    Attributes:
        answered: position and text of each.
    """

    def __init__(self, node: Node, callers: int = 4) -> None:
        self.answered: list[tuple[Position, str]] = []
        self._node = node
        self._is_over = False
        self._tasks = [asyncio.ensure_future(self._publish(caller)) for caller in range(callers)]

    async def _publish(self, caller: int) -> None:
        for number in itertools.count():
            if self._is_over:
                return
            text = f"{caller} {number}"
            self.answered.append((await self._node.append(A, text), text))

    async def has(self, count: int) -> None:
        """Wait for so many more."""
        enough = len(self.answered) + count
        await until(lambda: len(self.answered) >= enough or any(task.done() for task in self._tasks))

    async def stop(self) -> None:
        """Raises what its callers did."""
        self._is_over = True
        await asyncio.gather(*self._tasks)


@contextlib.asynccontextmanager
async def reader(url: str) -> AsyncIterator[FakeLink]:
    """A reader of a hub on the store, which follows the channel from now on."""
    hub = Hub(PostgresEngine(url))
    async with hub.lifespan():
        board = hub.node.switchboard
        link = FakeLink(board)
        link.subscriptions.append(board.follow(link, A, RecordingFormat(), NOW))
        await until(lambda: link.told)
        yield link


def read_by(link: FakeLink) -> list[str]:
    return [publication.data.decode() for publication in link.publications]


# -- crashes -------------------------------------------------------------------------------------------------


async def test_a_crash_loses_nothing_and_is_a_pause_for_publishers_and_readers() -> None:
    with run_postgres(is_durable=True) as server:
        url = f"{server.url}&node_lease_s=2&patience_s=30"
        async with running(url, 2) as (one, other), reader(url) as link:
            one.lease(B, "c-1")
            epoch = (await one.append(A, "first")).epoch
            publisher = Publisher(one)
            await publisher.has(100)
            await asyncio.to_thread(server.restart)
            await publisher.has(100)
            await publisher.stop()  # no append has failed
            expected = [("first", 1), *((text, position.offset) for position, text in publisher.answered)]
            kept = (await other.read(A)).publications
            assert sorted(expected) == sorted((one.data.decode(), one.offset) for one in kept)
            assert [one.offset for one in kept] == list(range(1, len(kept) + 1))
            assert {one.epoch for one in kept} == {epoch}
            await until(lambda: len(link.publications) == len(kept))
            assert read_by(link) == [one.data.decode() for one in kept]

            async def is_back() -> bool:
                return await other.present(B) == ["c-1"]

            await until_asked(is_back)


@pytest.mark.parametrize("on_failover", ["renew", "trust"])
async def test_a_failover_that_lost_something_is_told(on_failover: str) -> None:
    with run_postgres() as primary, run_postgres(replica_of=primary) as standby:
        url = f"{primary.url},{standby.folder}&patience_s=30&on_failover={on_failover}"
        async with running(url) as (one,), contextlib.AsyncExitStack() as stack:
            if on_failover == "renew":  # else it would notice that the stream went back
                link = await stack.enter_async_context(reader(url))
            for number in range(1, 11):
                last = await one.append(A, f"{number}")
            direct = await client(standby.url)
            with pytest.raises(ConfigError, match="is a standby: name the primary"):
                await PostgresEngine(standby.url).start(one.engine._feed)  # type: ignore[attr-defined]

            async def is_there() -> bool:
                query = "SELECT head FROM heartwire.streams"
                return bool(await direct.fetchval("SELECT to_regclass('heartwire.streams')")) and (
                    await direct.fetchval(query) == 10
                )

            await until_asked(is_there)
            await direct.close()
            await asyncio.to_thread(standby.stop)
            for number in range(11, 16):
                last = await one.append(A, f"{number}")
            if on_failover == "renew":
                await until(lambda: len(link.publications) == 15)
            unborn = (await one.read(B, NOW)).head
            await asyncio.to_thread(primary.kill)
            await asyncio.to_thread(standby.start)
            direct = await client(standby.url)
            await direct.execute("SELECT pg_promote()")
            await direct.close()
            after = [await one.append(A, f"after {number}") for number in range(8)]
            result = await one.read(A, last)
            if on_failover == "trust":  # the silent hole: 15 looks valid, and is another message
                assert after[-1] == Position(last.epoch, 18)
                assert result.recovered
                assert [one.offset for one in result.publications] == [16, 17, 18]
                return
            assert after[-1].offset == 18
            assert after[-1].epoch != last.epoch
            assert {position.epoch for position in after} == {after[-1].epoch}
            assert not result.recovered
            assert (await one.read(B, NOW)).head.epoch != unborn.epoch
            await until(lambda: read_by(link)[-1:] == ["after 7"])
            assert Told(A, Position(after[0].epoch, 0), False) in link.payloads


async def test_an_append_whose_answer_was_lost_is_applied_once(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    async with proxied(postgres) as proxy, running(f"{proxy.url}&schema=proxied") as (one,):
        await one.append(A, "x")
        proxy.is_deaf = True
        appends = [asyncio.ensure_future(one.append(A, f"{number}")) for number in range(3)]
        direct = await client(postgres.url)

        async def is_applied() -> bool:
            return await direct.fetchval("SELECT sum(head) FROM proxied.streams") == 4  # type: ignore[no-any-return]

        await until_asked(is_applied)
        await direct.close()
        assert not any(append.done() for append in appends)
        proxy.is_deaf = False
        proxy.cut()
        assert [(await append).offset for append in appends] == [2, 3, 4]
        assert (await one.append(A, "y")).offset == 5
        assert await texts(one) == ["x", "0", "1", "2", "y"]


async def test_appends_do_not_wait_for_ever(postgres: PostgresServer) -> None:
    async with proxied(postgres) as proxy, running(f"{proxy.url}&schema=proxied_2&patience_s=0.2") as (one,):
        await one.append(A, "x")
        proxy.is_closed = True
        proxy.cut()
        assert isinstance(one.engine, PostgresEngine)
        writer = one.engine._writer
        await until(lambda: not writer.is_there)
        with pytest.raises(EngineUnavailable, match="the store is away"):
            await one.append(A, "y")
        proxy.is_closed = False

        async def is_there() -> bool:
            with contextlib.suppress(EngineUnavailable):
                return bool((await one.append(A, "z")).offset)
            return False

        await until_asked(is_there)
        assert "y" not in await texts(one)


# -- the feed ------------------------------------------------------------------------------------------------


async def test_a_listening_connection_that_is_lost_under_load_misses_nothing(
    postgres: PostgresServer, url: str
) -> None:
    async with running(url) as (one,), reader(url) as link:
        publisher = Publisher(one)
        direct = await client(postgres.url)
        for _ in range(3):
            await publisher.has(100)
            listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
            await until_asked(partial(is_at_least, direct, listening, 2))
            await direct.execute(listening.replace("*", "pg_terminate_backend(pid)"))
            await publisher.has(8)  # while it is away
        await publisher.stop()
        await direct.close()
        await until(lambda: len(link.publications) >= len(publisher.answered))
        answered = sorted((position.offset, text) for position, text in publisher.answered)
        assert list(zip(link.offsets, read_by(link), strict=True)) == answered


async def test_notifications_stay_small_however_many_streams_change(
    postgres: PostgresServer, url: str
) -> None:
    async with running(url) as (one,):
        await one.watch(A)
        listening = await client(url)
        payloads: list[str] = []
        await listening.add_listener(schema_of(url), lambda *told: payloads.append(told[3]))
        sql = f"""
            SELECT count(*) FROM (
                SELECT array_agg('a' || nullif(i, 1)) || ARRAY['a'] AS names, ARRAY[count(*)::int + 1] AS n
                FROM generate_series(2, $1) AS i
            ) AS g, LATERAL {schema_of(url)}.append(NULL, NULL, NULL, names, array_fill('x'::bytea, n),
                array_fill(true, n), array_fill(NULL::bytea, n), array_fill(0::bigint, n),
                array_fill(NULL::text, n), array_fill(1::bigint, n), NULL)"""
        direct = await client(url)
        await direct.execute(sql, 1000)
        await until(lambda: sum(payload.count(":") for payload in payloads) == 1000)
        assert max(map(len, payloads)) < 7000
        await until(lambda: one.told_in(A) == [1])
        payloads.clear()
        await direct.execute(sql, 5000)
        await until(lambda: payloads)
        assert payloads == ["*"]
        await until(lambda: (A, one.behind[-1][1]) == (A, Position(one.told[0].epoch, 2)))
        await asyncio.gather(direct.close(), listening.close())


async def test_a_node_that_may_not_listen_asks(url: str) -> None:
    async with running(f"{url}&listen=off", 2) as (one, other):
        await other.watch(A)
        await one.append(A, "x")
        await until(lambda: other.told_in(A) == [1])
        one.engine.send(None, b"mail")
        one.engine.announce(A, "join", Member("c-1"))
        await until(lambda: other.mail == [b"mail"] and other.members == [(A, "join", "c-1")])
        head = await settled(other.engine.remove(A))
        await until(lambda: other.removed == [(A, head)])


async def test_a_node_listens_by_a_connection_of_its_own_url(url: str) -> None:
    async with running(f"{url}&listen={quote(url.partition('&')[0], safe='')}", 2) as (one, other):
        await other.watch(A)
        await one.append(A, "x")
        await until(lambda: other.told_in(A) == [1])


async def test_a_stream_that_went_back_gets_another_epoch(url: str) -> None:
    async with running(f"{url}&check_s=0.2") as (one,):
        await one.watch(A)
        last = [await one.append(A, f"{number}") for number in range(10)][-1]
        direct = await client(url)
        schema = schema_of(url)
        await direct.execute(
            f"DELETE FROM {schema}.publications WHERE nth > 5; UPDATE {schema}.streams SET head = 5"
        )
        await direct.close()
        await until(lambda: one.behind and one.behind[-1][1].epoch != last.epoch)
        assert one.behind[-1] == (A, Position(one.behind[-1][1].epoch, 5))
        assert await one.append(A, "x") == Position(one.behind[-1][1].epoch, 6)
        assert not (await one.read(A, last)).recovered


async def test_a_node_that_was_cut_off_comes_back_with_its_members_and_connections(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "REAP_S", 0.1)
    schema = "cut_off&node_lease_s=0.5"
    async with (
        proxied(postgres) as proxy,
        running(f"{postgres.url}&schema={schema}") as (other,),
        running(f"{proxy.url}&schema={schema}") as (one,),
    ):
        await other.watch(A)
        one.lease(A, "c-1")
        one.engine.announce(A, "join", Member("c-1"))
        assert await one.present(A) == ["c-1"]
        assert await one.engine.admit("ann", "c-1", 1)
        proxy.is_closed = True
        proxy.cut()
        await until(lambda: len(other.members) == 2)
        assert await other.lists_nobody(A)
        proxy.is_closed = False
        await until(lambda: len(other.members) == 3)
        assert [kind for _, kind, _ in other.members] == ["join", "leave", "join"]

        async def is_back() -> bool:
            return await other.present(A) == ["c-1"] and not await other.engine.admit("ann", "c-2", 1)

        await until_asked(is_back)


async def test_a_sweep_deletes_in_pieces_what_retention_has_ended(url: str) -> None:
    async with running(url) as (one,):
        await one.append(A, "x")
        direct = await client(url)
        schema = schema_of(url)
        await direct.execute(
            f"INSERT INTO {schema}.publications SELECT stream, n, time_ms, 0, true, NULL, 'x'"
            f" FROM {schema}.publications, generate_series(2, 12000) AS n; UPDATE {schema}.streams SET head = 12000"
        )
        await one.engine.sweep(lambda channel: Retention(100, 3600))
        kept = f"SELECT min(nth), count(*), min(tail) FROM {schema}.publications, {schema}.streams"
        assert tuple(await direct.fetchrow(kept)) == (11_901, 100, 11_900)
        await direct.close()
        assert len(await texts(one)) == 100
        assert await one.engine.heads([]) == []


# -- publish_in ----------------------------------------------------------------------------------------------


def with_psycopg(url: str, *, commits: bool, **given: Any) -> Position:
    with psycopg.connect(url.partition("&schema=")[0]) as connection:
        position = publish_in(connection, A, {"from": "psycopg"}, **given)
        if not commits:
            connection.rollback()
        assert isinstance(position, Position)
        return position


def with_django(url: str, *, commits: bool, **given: Any) -> Position:
    import django
    from django.conf import settings
    from django.db import connections, transaction

    import heartwire.django

    if not settings.configured:
        settings.configure()
        django.setup()
    if "heartwire" not in connections.databases:
        parts = url.partition("host=")[2].partition("&")[0]
        database = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "postgres",
            "USER": "heartwire",
            "HOST": parts,
        }
        connections.databases["heartwire"] = connections.configure_settings(
            {"default": {}, "heartwire": database}
        )["heartwire"]
    with contextlib.suppress(InterruptedError), transaction.atomic(using="heartwire"):
        position = heartwire.django.publish_in(A, {"from": "django"}, using="heartwire", **given)
        if not commits:
            raise InterruptedError
    connections["heartwire"].close()
    return position


async def with_async_psycopg(url: str, *, commits: bool, **given: Any) -> Position:
    connection = await psycopg.AsyncConnection.connect(url.partition("&schema=")[0])
    async with connection, connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        position: Position = await publish_in(cursor, A, {"from": "async psycopg"}, **given)
        if not commits:
            await connection.rollback()
    return position


async def with_asyncpg(url: str, *, commits: bool, **given: Any) -> Position:
    connection = await client(url)
    transaction = connection.transaction()
    await transaction.start()
    position: Position = await publish_in(connection, A, {"from": "asyncpg"}, **given)
    await (transaction.commit() if commits else transaction.rollback())
    await connection.close()
    return position


@pytest.mark.parametrize("way", [with_psycopg, with_django, with_async_psycopg, with_asyncpg])
async def test_what_is_published_in_a_transaction_comes_with_its_commit_or_never(way: Any, url: str) -> None:
    async def publish(**given: Any) -> Position:
        schema = schema_of(url)
        if asyncio.iscoroutinefunction(way):
            return await way(url, schema=schema, **given)  # type: ignore[no-any-return]
        return await asyncio.to_thread(way, url, schema=schema, **given)

    async with running(url, 2) as (one, other):
        for node in (one, other):
            await node.watch(A)
        await publish(commits=False)
        publisher = Publisher(one)
        await publisher.has(20)
        positions = [await publish(commits=True, key=key) for key in ("k", "k", "l")]
        await publish(commits=False)
        await publisher.has(20)
        await publisher.stop()
        assert positions[0] == positions[1] != positions[2]
        kept = (await one.read(A)).publications
        assert [one.offset for one in kept] == list(range(1, len(publisher.answered) + 3))
        published = [one for one in kept if one.data.startswith(b"{")]
        assert [one.position for one in published] == positions[1:]
        for node in (one, other):
            await until(lambda node=node: len(node.told) == len(kept))  # type: ignore[misc]
            assert [told.data for told in node.told] == [one.data for one in kept]


async def test_a_role_needs_no_more_than_to_use_the_schema(url: str) -> None:
    async with running(url) as (one,):
        direct = await client(url)
        schema = schema_of(url)
        await direct.execute(
            f"CREATE ROLE role_{schema} LOGIN; GRANT USAGE ON SCHEMA {schema} TO role_{schema}"
        )
        await direct.close()
        low = await asyncpg.connect(url.partition("&schema=")[0], user=f"role_{schema}")
        assert (await publish_in(low, A, "x", schema=schema)).offset == 1
        assert await low.fetchval(f"SELECT {schema}.publish('b', 'from SQL', 'key')")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await low.execute(f"SELECT {schema}.remove('a')")
        with pytest.raises(asyncpg.RaiseError, match="1 to 255 bytes of UTF-8"):
            await low.execute(f"SELECT {schema}.publish('', 'x')")
        await low.close()
        assert (await texts(one), await texts(one, B)) == (["x"], ["from SQL"])


async def test_a_transaction_that_holds_a_stream_does_not_hold_up_the_others(url: str) -> None:
    async with running(f"{url}&patience_s=1") as (one,):
        await one.append(A, "before")
        schema = schema_of(url)
        holds = await client(url)
        transaction = holds.transaction()
        await transaction.start()
        await publish_in(holds, A, "held", schema=schema)
        await publish_in(holds, "new", "held", schema=schema)
        waiting = [asyncio.ensure_future(one.append(Channel(name), "waits")) for name in ("a", "new", "a")]
        for number in range(1, 4):
            assert (await one.append(B, "goes on")).offset == number
        assert not any(append.done() for append in waiting)
        await transaction.commit()
        assert [(await append).offset for append in waiting] == [3, 2, 4]
        transaction = holds.transaction()
        await transaction.start()
        await publish_in(holds, A, "held", schema=schema)
        appends = await asyncio.gather(one.append(A, "late"), one.append(B, "y"), return_exceptions=True)
        assert isinstance(appends[0], EngineUnavailable)
        assert "'a' is locked by a transaction" in str(appends[0])
        assert appends[1] == Position(appends[1].epoch, 4)  # type: ignore[union-attr]
        await transaction.rollback()
        assert (await one.append(A, "last")).offset == 5
        await holds.close()
        assert await texts(one) == ["before", "held", "waits", "waits", "last"]


async def test_what_may_not_be_published_is_refused_before_the_database_hears_of_it() -> None:
    with psycopg_unconnected() as connection:
        for given, code in ((("", "x"), "bad_channel"), ((A, "x" * 11), "message_too_large")):
            with pytest.raises(Refused) as caught:
                publish_in(connection, *given, max_message_bytes=10)
            assert caught.value.code.name == code
        with pytest.raises(Refused, match="idempotency key"):
            publish_in(connection, A, "x", key="not visible")
        with pytest.raises(TypeError, match="JSON"):
            publish_in(connection, A, {"x": math.nan})
        with pytest.raises(ConfigError, match="schema"):
            publish_in(connection, A, "x", schema="Upper")
    with pytest.raises(TypeError, match="no connection of psycopg 3 or asyncpg"):
        publish_in(object(), A, "x")


@contextlib.contextmanager
def psycopg_unconnected() -> Iterator[Any]:
    """A connection that can do nothing."""
    yield psycopg.Connection.__new__(psycopg.Connection)


# -- stream records ------------------------------------------------------------------------------------------


def change(
    expects: int, revision: int, *texts: str, ttl_s: float = 0, record: bytes | None = b"r"
) -> StreamWrite:
    return StreamWrite(expects, revision, record, [Message(text.encode()) for text in texts], ttl_s)


async def write(node: Node, made: StreamWrite, channel: Channel = A) -> Recorded:
    return await settled(node.engine.write(channel, made))


async def record(node: Node, channel: Channel = A) -> Recorded:
    return await settled(node.engine.record(channel))


def knows(node: Node, offset: int) -> bool:
    """Whether it was told so far of the stream, or that it is there."""
    there = [head.offset for channel, head in node.behind if channel == A]
    return max(node.told_in(A) + there, default=0) == offset


@pytest.mark.parametrize("way", [with_psycopg, with_django, with_async_psycopg, with_asyncpg])
async def test_an_application_cannot_publish_into_a_durable_stream(way: Any, url: str) -> None:
    schema = schema_of(url)
    publish: Any = way if asyncio.iscoroutinefunction(way) else partial(asyncio.to_thread, way)
    async with running(url) as (one,):
        made = await write(one, change(0, 1, "x"))
        with pytest.raises(Exception, match="channel 'a' is a durable stream: append to it through a hub"):
            await publish(url, schema=schema, commits=True)
        assert (await record(one)).head == made.head
        ended = await write(one, change(1, 2, record=None))
        assert await publish(url, schema=schema, commits=True) == Position(ended.head.epoch, 1)


async def test_appends_and_writes_under_way_together_are_one_statement(url: str) -> None:
    async with running(url) as (one,):
        direct = await client(url)
        number = f"SELECT number FROM {schema_of(url)}.batches"
        await one.append(B, "x")
        before = await direct.fetchval(number)
        await one.watch(A)
        appends = [one.append(Channel(f"b{at}"), "x") for at in range(20)]
        writes = [write(one, change(0, at + 1, "x", "y"), Channel(f"a{at}")) for at in range(20)]
        mixed = [call for pair in zip(appends, writes, strict=True) for call in pair]
        answers: list[Any] = await asyncio.gather(*mixed, write(one, change(0, 1, "x")))
        assert [answer.offset for answer in answers[:-1:2]] == [1] * 20
        assert [answer.head.offset for answer in answers[1:-1:2]] == [2] * 20
        assert one.told_in(A) == [1]
        assert await direct.fetchval(number) == before + 1
        await direct.close()


async def test_a_write_whose_answer_was_lost_is_made_once(postgres: PostgresServer) -> None:
    async with proxied(postgres) as proxy, running(f"{proxy.url}&schema=written") as (one,):
        await one.watch(A)
        await asyncio.gather(write(one, change(0, 1, "x")), one.append(Channel("c"), "x"))
        proxy.is_deaf = True
        calls = [write(one, change(1, 2, "y", "z")), one.append(B, "0"), write(one, change(2, 3, "last"))]
        waiting = [asyncio.ensure_future(call) for call in calls]
        direct = await client(postgres.url)

        async def is_applied() -> bool:
            return await direct.fetchval("SELECT sum(head) FROM written.streams") == 5  # type: ignore[no-any-return]

        await until_asked(is_applied)
        await direct.close()
        assert not any(call.done() for call in waiting)
        proxy.is_deaf = False
        proxy.cut()
        answers: list[Any] = await asyncio.gather(*waiting)
        second, append, last = answers
        assert (second.revision, second.head.offset) == (2, 3)
        assert append.offset == 1
        assert (last.revision, last.head.offset) == (3, 4)
        assert await texts(one) == ["x", "y", "z", "last"]
        await until(lambda: knows(one, 4))
        assert one.told_in(A) == sorted(set(one.told_in(A)))


async def test_a_stream_that_is_locked_does_not_hold_up_the_writes_of_others(url: str) -> None:
    async with running(f"{url}&patience_s=1") as (one,):
        schema = schema_of(url)
        holds = await client(url)
        transaction = holds.transaction()
        await transaction.start()
        await publish_in(holds, A, "held", schema=schema)
        waiting = asyncio.ensure_future(write(one, change(0, 1, "begins")))
        for number in range(1, 4):
            made, append = await asyncio.gather(
                write(one, change(number - 1, number, "goes on"), B), one.append(Channel("c"), "goes on")
            )
            assert (made.revision, append.offset) == (number, number)
        assert not waiting.done()
        await transaction.commit()
        begun = await waiting
        assert (begun.revision, begun.head.offset) == (1, 1)
        assert await texts(one) == ["begins"]
        await write(one, change(1, 2, record=None))
        transaction = holds.transaction()
        await transaction.start()
        await publish_in(holds, A, "held", schema=schema)
        late: Any = await asyncio.gather(
            write(one, change(0, 3, "late")), write(one, change(3, 4, "y"), B), return_exceptions=True
        )
        assert isinstance(late[0], EngineUnavailable)
        assert "'a' is locked by a transaction" in str(late[0])
        assert late[1].revision == 4
        await transaction.rollback()
        await holds.close()
        assert (await write(one, change(0, 5, "last"))).revision == 5


async def test_a_touch_waits_for_nobody_and_is_kept_seldom(url: str) -> None:
    clock = FakeClock()
    node = Node(PostgresEngine(url, clock=clock))
    await node.start()
    direct = await client(url)
    used = f"SELECT used_ms FROM {schema_of(url)}.records"
    await write(node, change(0, 1, ttl_s=60))
    began = await direct.fetchval(used)
    for after_s, is_kept in ((6, False), (1, True), (6, False)):
        clock.advance(after_s)
        before = await direct.fetchval(used)
        node.engine.touch(A)
        await record(node)
        assert await direct.fetchval(used) == (int(clock() * 1000) if is_kept else before)
    assert await direct.fetchval(used) == began + 7000
    async with direct.transaction():
        await direct.execute(f"SELECT FROM {schema_of(url)}.records FOR UPDATE")
        clock.advance(30)
        node.engine.touch(A)
        assert (await record(node)).revision == 1
    clock.advance(30)
    assert (await record(node)).revision == 0
    await direct.close()
    await node.engine.stop()


async def test_a_record_survives_the_epoch_of_a_store_that_failed_over(url: str) -> None:
    async with running(url) as (one,):
        before = await write(one, change(0, 1, "x"))
        direct = await client(url)
        await direct.execute(f"UPDATE {schema_of(url)}.meta SET guard = 'another server'")
        await direct.close()
        found = await record(one)
        assert found._replace(head=before.head, now_ms=0) == before._replace(now_ms=0)
        assert found.head == Position(found.head.epoch, 1)
        assert found.head.epoch != before.head.epoch
        assert (await write(one, change(1, 2, "y"))).head == Position(found.head.epoch, 2)


async def test_a_stream_that_begins_before_its_watch_is_confirmed_is_told_once(url: str) -> None:
    async with running(url) as (one,):
        await one.append(A, "old")
        direct = await client(url)
        await direct.execute("SELECT pg_advisory_lock(7)")
        assert isinstance(one.engine, PostgresEngine)
        is_free = one.engine._reader.ask("SELECT pg_advisory_lock(7)")  # what it reads waits
        one.engine.watch(A)
        await write(one, change(0, 1, "x"))
        assert one.told_in(A) == [1]
        await direct.execute("SELECT pg_advisory_unlock(7)")
        await is_free
        await direct.close()
        await write(one, change(1, 2, "y"))
        for _ in range(2):  # the hints have been heard
            await one.read(A)
        assert one.told_in(A) == [1, 2]


async def test_a_node_that_may_not_listen_hears_of_ended_streams(url: str) -> None:
    async with running(f"{url}&listen=off", 2) as (one, other):
        await other.watch(A)
        await write(one, change(0, 1, "x"))
        await until(lambda: other.told_in(A) == [1])
        ended = await write(one, change(1, 2, record=None))
        await until(lambda: other.removed == [(A, ended.head)])


async def test_a_sweep_deletes_ended_streams_in_pieces_and_forgets_their_names(url: str) -> None:
    clock = FakeClock()
    node = Node(PostgresEngine(url, clock=clock))
    await node.start()
    direct = await client(url)
    schema = schema_of(url)
    clock.advance(60)
    await direct.execute(f"UPDATE {schema}.meta SET life_ms = {clock() * 1000:.0f}")
    epochs = {(await write(node, change(0, 1, "x", ttl_s=60))).head.epoch}
    for number in range(1, 600):
        node.engine.write(Channel(f"{number}"), change(0, 1, ttl_s=60))
    kept = await write(node, change(0, 1, "kept"), B)
    await write(node, change(0, 1, "used", ttl_s=60), Channel("used"))
    await direct.execute(
        f"INSERT INTO {schema}.publications SELECT stream, n, time_ms, 0, true, NULL, 'x'"
        f" FROM {schema}.publications p JOIN {schema}.streams s ON s.id = p.stream,"
        f" generate_series(2, 12000) AS n WHERE s.channel = 'a'"
    )
    await node.watch(A)
    clock.advance(40)
    node.engine.touch(Channel("used"))
    assert (await record(node, Channel("used"))).revision == 1
    clock.advance(21)
    await node.engine.sweep(lambda channel: KEEP)
    counts = f"SELECT (SELECT count(*) FROM {schema}.records), (SELECT count(*) FROM {schema}.publications),"
    counts += f" (SELECT count(*) FROM {schema}.gone), (SELECT count(*) FROM {schema}.streams)"
    assert tuple(await direct.fetchrow(counts)) == (2, 2, 0, 602)
    await until(lambda: node.removed)
    epochs.add(node.removed[0][1].epoch)
    node.engine.unwatch(A)
    clock.advance(40)
    await node.engine.sweep(lambda channel: KEEP)
    assert tuple(await direct.fetchrow(counts)) == (1, 1, 0, 602)  # they could come back in their first epoch
    await direct.execute(f"SELECT setval('{schema}.ended', 1000001)")
    clock.advance(1)
    await node.engine.sweep(lambda channel: KEEP)
    assert tuple(await direct.fetchrow(counts)) == (1, 1, 0, 1)
    epochs.add((await write(node, change(0, 1, "x"))).head.epoch)
    assert len(epochs) == 3
    assert (await record(node, B))[:3] == kept[:3]
    assert await direct.fetchval(f"SELECT last_value FROM {schema}.ended") == 1
    await direct.close()
    await node.engine.stop()


async def test_producers_of_a_stream_that_try_again_lose_and_double_nothing_in_a_crash() -> None:
    with run_postgres(is_durable=True) as server:
        async with running(f"{server.url}&patience_s=0.2", 2) as (one, other):
            streams = [Streams(node.engine, max_bytes=lambda channel: 1 << 30) for node in (one, other)]
            await streams[0].create(A, StreamOptions(content_type="text/plain"))
            await other.watch(A)
            is_over = False
            sent = [0, 0]

            async def produce(number: int) -> None:
                while not is_over:
                    message = Message(f"{number} {sent[number]}".encode())
                    claim = Claim(producer=Producer(f"{number}", 0, sent[number]))
                    with contextlib.suppress(EngineUnavailable):  # again
                        await streams[number].append(A, [message], claim)
                        sent[number] += 1

            tasks = [asyncio.ensure_future(produce(number)) for number in range(2)]
            await until(lambda: min(sent) > 50)
            await asyncio.to_thread(server.restart)
            enough = max(sent) + 50
            await until(lambda: min(sent) > enough or any(task.done() for task in tasks))
            is_over = True
            await asyncio.gather(*tasks)
            kept = await texts(one)
            for number in range(2):
                mine = [text for text in kept if text.startswith(f"{number} ")]
                assert mine == [f"{number} {at}" for at in range(sent[number])]
            await until(lambda: knows(other, len(kept)))


# -- versions of the schema ----------------------------------------------------------------------------------


async def version_1(url: str, direct: Any) -> Position:
    """Make a database as nodes of version 1 have it, with a publication. Returns its position."""
    sql = (Path(__file__).parents[2] / "vectors" / "postgres_schema_1.sql").read_text("utf-8")
    await direct.execute(f"CREATE SCHEMA {schema_of(url)}")
    await direct.execute(in_schema(sql, schema_of(url)))
    await direct.execute(f"SELECT {schema_of(url)}.begin(1)")
    return Position.parse(await direct.fetchval(f"SELECT {schema_of(url)}.publish('a', 'of version 1')"))


async def test_a_schema_of_version_1_is_upgraded_while_it_is_used(url: str) -> None:
    direct = await client(url)
    schema = schema_of(url)
    before = await version_1(url, direct)
    transaction = direct.transaction()
    await transaction.start()
    await publish_in(direct, A, "under way", schema=schema)
    async with running(url, 0):
        nodes = [Node(PostgresEngine(url)) for _ in range(4)]
        await asyncio.gather(*(node.start() for node in nodes))
    assert await direct.fetchval(f"SELECT version FROM {schema}.meta") == 2
    await transaction.commit()
    assert (await nodes[0].read(A, before)).recovered
    await nodes[1].watch(A)
    old = f"SELECT nths FROM {schema}.append('11111111', 1, 250, $1, $2, $3, $4, $5, $6, $7, NULL)"
    assert await direct.fetchval(old, ["a"], [b"old node"], [True], [None], [0], [None], [1]) == [3]
    await until(lambda: nodes[1].told_in(A) == [3])
    assert await texts(nodes[2]) == ["of version 1", "under way", "old node"]
    assert (await write(nodes[3], change(0, 1, "new"), B)).revision == 1
    await asyncio.gather(*(node.engine.stop() for node in nodes))
    await direct.close()


async def test_a_role_that_does_not_own_an_old_schema_leaves_it(url: str) -> None:
    direct = await client(url)
    schema = schema_of(url)
    await version_1(url, direct)
    await direct.execute(
        f"CREATE ROLE other_{schema} LOGIN; GRANT ALL ON SCHEMA {schema} TO other_{schema};"
        f" GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO other_{schema}"
    )
    with pytest.raises(ConfigError, match="has version 1: start once as the role that made it"):
        async with running(url.replace("heartwire@", f"other_{schema}@")):
            pass
    assert await direct.fetchval(f"SELECT version FROM {schema}.meta") == 1
    assert await direct.fetchval(f"SELECT to_regclass('{schema}.records')") is None
    await direct.close()


# -- refusals ------------------------------------------------------------------------------------------------


async def test_another_schema_version_and_another_programs_schema_are_left_alone(url: str) -> None:
    async with running(url):
        pass
    direct = await client(url)
    await direct.execute(f"UPDATE {schema_of(url)}.meta SET version = 3")
    with pytest.raises(EngineCorrupt, match=r"has version 3, this Heartwire knows 2; .* name another"):
        async with running(url):
            pass
    await direct.execute("CREATE SCHEMA others; CREATE TABLE others.streams (x int)")
    with pytest.raises(EngineCorrupt, match="'others' is another program's"):
        async with running(f"{url.partition('&')[0]}&schema=others"):
            pass
    assert (
        await direct.fetchval("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'others'")
        == 1
    )
    await direct.execute("CREATE ROLE nobody LOGIN")
    await direct.close()
    with pytest.raises(ConfigError, match="CREATE SCHEMA mine AUTHORIZATION"):
        async with running(url.partition("&")[0].replace("heartwire@", "nobody@") + "&schema=mine"):
            pass


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("schemas=x", r"schemas.*options after the \? are.*schema \(heartwire\)"),
        ("schema=Upper", "a-z, 0-9 and _"),
        ("listen=maybe", r"on, off or a postgresql:// URL"),
        ("patience_s=-1", "patience_s"),
        ("on_failover=hope", "on_failover"),
    ],
)
def test_mistyped_options_are_refused(query: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        open_engine(f"postgresql://user:secret@host/db?sslmode=disable&{query}")
    assert "secret" not in str(caught.value)


async def test_no_server_at_all(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable):
        async with running(f"postgresql://heartwire@/postgres?host={tmp_path}"):
            pass


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("heartwire.engines.postgres.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(ConfigError, match=r"pip install 'heartwire\[postgres\]'"):
        open_engine("postgresql://host/db")


# -- a proxy -------------------------------------------------------------------------------------------------


class Proxy:
    """Between an engine and its server.

    Attributes:
        is_deaf: what the server sends is lost.
        is_closed: new connections are cut.
    """

    def __init__(self, server: PostgresServer, folder: str) -> None:
        self.url = f"postgresql://heartwire@/postgres?host={folder}"
        self.path = f"{folder}/.s.PGSQL.5432"
        self.is_deaf = self.is_closed = False
        self._to = str(server.folder / ".s.PGSQL.5432")
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def end(self) -> None:
        """Cut all, and wait until nothing is left of them."""
        self.is_closed = True
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            if not self.is_closed:
                await self._serve(reader, writer)
        finally:
            self._serving.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self._to)
        both = {writer, server_writer}
        self._writers |= both
        try:
            await asyncio.gather(
                self._copy(reader, server_writer, True), self._copy(server_reader, writer, False)
            )
        except OSError:
            pass
        finally:
            self._writers -= both
            for one in both:
                one.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_up: bool) -> None:
        while data := await reader.read(65536):
            if is_up or not self.is_deaf:
                writer.write(data)
        raise ConnectionResetError


@contextlib.asynccontextmanager
async def proxied(server: PostgresServer) -> AsyncIterator[Proxy]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        proxy = Proxy(server, folder)
        listening = await asyncio.start_unix_server(proxy.serve, proxy.path)
        try:
            yield proxy
        finally:
            listening.close()
            await proxy.end()
