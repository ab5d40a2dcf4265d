"""asyncpg, which is imported only when a PostgreSQL engine is chosen; and the errors of it."""

from typing import Any, Final, TypeAlias

from heartwire.errors import ConfigError

try:
    import asyncpg as asyncpg  # for the other modules
except ModuleNotFoundError:
    raise ConfigError("engine", "postgresql://", "pip install 'heartwire[postgres]'") from None

__all__ = ["BROKEN", "Connection", "is_broken"]

Connection: TypeAlias = Any
"""``asyncpg.Connection``, which has no types."""

BROKEN: Final = (
    OSError,  # also of asyncio: TimeoutError
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,  # it has become a standby
)
"""What says that the connection has ended, or should."""


def is_broken(error: Exception, connection: Connection) -> bool:
    """Whether an error of a statement has ended its connection; else the statement was refused."""
    if connection.is_closed():
        return True
    return isinstance(error, BROKEN) and not isinstance(error, asyncpg.DataError)
