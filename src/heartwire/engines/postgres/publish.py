"""Publishing as a part of the application's own transaction: `publish_in`.

In: a connection of the application's driver. Out: one call of the function ``publish_bytes`` of
``functions.sql`` by it. Needs neither a hub nor this package's driver.
"""

import sys
from typing import Any, Final

from heartwire.channels import check_idempotency_key, to_channel
from heartwire.engines.postgres.schema import check_schema, in_schema
from heartwire.messages import check_message_size, to_body
from heartwire.types import Position

__all__ = ["publish_by", "publish_in"]

_FORMAT: Final = "SELECT heartwire.publish_bytes(%s::text, %s::bytea, %s::boolean, %s::text, %s::bigint)"
_NUMBERED: Final = "SELECT heartwire.publish_bytes($1, $2, $3, $4, $5)"
_MAX_BYTES: Final = 1024 * 1024
_MAX_TTL_S: Final = 1e12


def publish_in(
    connection: Any,
    channel: str,
    data: object,
    *,
    key: str | None = None,
    key_ttl_s: float = 300,
    schema: str = "heartwire",
    max_message_bytes: int = _MAX_BYTES,
) -> Any:
    """Publish in the transaction that a connection is in: with its commit, or not at all.

    Nobody sees the publication before the commit; after it all nodes tell their readers. The stream is locked
    from this call until the transaction ends, and other publishes to the channel wait: call it last. Those
    that wait for longer than the engine's ``patience_s`` fail.

    Args:
        connection: of psycopg 3 (or a cursor of it), sync or async, or of asyncpg.
        data: as in `Hub.publish`.
        key: idempotency key; used again within ``key_ttl_s``, it publishes nothing.
        schema: that of the engine's URL.
        max_message_bytes: that of the hub.
    Returns:
        The `Position` of the message, or that of the first use of its key; awaitable, where the connection is
        async. Nothing has happened before it is awaited.
    Raises:
        Refused: the channel's name, the key, or the size.
        TypeError: the data cannot be written as JSON, or the connection is none of these.
        What the driver does, where the channel is a durable stream: a hub appends to it.
    """
    arguments = _arguments(channel, data, key, key_ttl_s, max_message_bytes)
    check_schema(schema)
    if hasattr(connection, "fetchval"):
        return _publish_asyncpg(connection, in_schema(_NUMBERED, schema), arguments)
    sql = in_schema(_FORMAT, schema)
    psycopg = sys.modules.get("psycopg")
    connection = getattr(connection, "connection", connection)
    if psycopg is not None and isinstance(connection, psycopg.Connection):
        with connection.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
            return Position.parse(cursor.execute(sql, arguments).fetchone()[0])
    if psycopg is not None and isinstance(connection, psycopg.AsyncConnection):
        return _publish_async(psycopg, connection, sql, arguments)
    raise TypeError(f"{type(connection)} is no connection of psycopg 3 or asyncpg")


def publish_by(
    cursor: Any, channel: str, data: object, key: str | None, key_ttl_s: float, schema: str, max_bytes: int
) -> Position:
    """`publish_in` by a cursor of any driver that takes ``%s`` and returns tuples."""
    arguments = _arguments(channel, data, key, key_ttl_s, max_bytes)
    cursor.execute(in_schema(_FORMAT, check_schema(schema)), arguments)
    return Position.parse(cursor.fetchone()[0])


async def _publish_async(psycopg: Any, connection: Any, sql: str, arguments: tuple[Any, ...]) -> Position:
    async with connection.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        await cursor.execute(sql, arguments)
        return Position.parse((await cursor.fetchone())[0])


async def _publish_asyncpg(connection: Any, sql: str, arguments: tuple[Any, ...]) -> Position:
    return Position.parse(await connection.fetchval(sql, *arguments))


def _arguments(
    channel: str, data: object, key: str | None, key_ttl_s: float, max_bytes: int
) -> tuple[str, bytes, bool, str | None, int]:
    """What the function takes, checked as every publish is."""
    name = to_channel(channel)
    is_text, body = to_body(data)
    check_message_size(len(body), max_bytes)
    if key is not None:
        check_idempotency_key(key)
    return name, body, is_text, key, int(min(key_ttl_s, _MAX_TTL_S) * 1000)
