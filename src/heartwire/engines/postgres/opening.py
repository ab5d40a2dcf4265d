"""Where the store is, and its connections: options, the checks of a server, the schema.

In: a URL. Out: connections to a primary that has this version's schema, or errors that say what to do.
"""

import logging
import re
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from heartwire.engines.options import SharedOptions, options_from, without_password
from heartwire.engines.postgres.driver import BROKEN, Connection, asyncpg
from heartwire.engines.postgres.schema import VERSION, check_schema, in_schema, script
from heartwire.errors import ConfigError, EngineCorrupt, EngineUnavailable

__all__ = ["PostgresOptions", "Store"]

log = logging.getLogger("heartwire")

_OLDEST: Final = 13
_LIBPQ: Final = re.compile(
    r"application_name|dbname|gsslib|host|krbsrvname|passfile|password|port|service|servicefile|ssl\w+"
    r"|target_session_attrs|user"
)
"""Options of a URL that are the driver's."""
_SETTINGS: Final = {
    "application_name": "heartwire",
    # A statement has to see what was committed while the one before it waited for locks.
    "default_transaction_isolation": "read committed",
}


class PostgresOptions(SharedOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a ``postgresql://`` URL, besides the driver's.

    Attributes:
        schema: of the tables and functions; each has an installation of its own.
        listen: "on"; "off" behind a pooler that gives each transaction another connection (PgBouncer): heads
            are asked for ten times a second; or the URL of a direct connection to listen on.
    """

    schema: str = "heartwire"
    listen: Literal["on", "off"] | str = "on"


class Store:
    """The database of a URL. Raises `ConfigError` for a URL that is wrong."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
        ours = urlencode([pair for pair in query if not _LIBPQ.fullmatch(pair[0])])
        theirs = urlencode([pair for pair in query if _LIBPQ.fullmatch(pair[0])])
        self.name = without_password(parts._replace(query="").geturl())
        self.options = options_from(parts._replace(query=ours).geturl(), PostgresOptions)
        self.schema = check_schema(self.options.schema)
        self._url = parts._replace(scheme="postgresql", query=theirs).geturl()
        listen = self.options.listen
        self._listen_url = self._url if listen in ("on", "off") else listen
        if not self._listen_url.startswith(("postgresql://", "postgres://")):
            raise ConfigError("engine", self.name, f"listen={listen}: on, off or a postgresql:// URL")

    @property
    def listens(self) -> bool:
        return self.options.listen != "off"

    def sql(self, text: str) -> str:
        """SQL with the schema's name, for which it says ``heartwire``."""
        return in_schema(text, self.schema)

    async def connect(self, *, listens: bool = False) -> Connection:
        """A connection to the primary. Raises what the driver does."""
        is_pooled = not listens and self.options.listen != "on"
        options: dict[str, Any] = {} if is_pooled else {"server_settings": _SETTINGS}
        if "target_session_attrs=" not in self._url:
            options["target_session_attrs"] = "primary"
        return await asyncpg.connect(
            self._listen_url if listens else self._url,
            timeout=self.options.connect_timeout_s,
            statement_cache_size=0 if is_pooled else 100,
            **options,
        )

    async def open(self) -> None:
        """Check the server, and make the schema where there is none.

        Raises:
            ConfigError: a server that cannot be used, or a role that may not.
            EngineCorrupt: the schema is another version's, or another program's.
            EngineUnavailable: there is no server.
        """
        try:
            connection = await self.connect()
            try:
                await self._check(connection)
                async with connection.transaction():
                    await self._migrate(connection)
            finally:
                await connection.close()
        except asyncpg.TargetServerAttributeNotMatched:
            raise ConfigError("engine", self.name, "is a standby: name the primary") from None
        except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
            raise ConfigError("engine", self.name, str(error)) from None
        except asyncpg.InsufficientPrivilegeError as error:
            fix = f"let it: CREATE SCHEMA {self.schema} AUTHORIZATION role"
            raise ConfigError("engine", self.name, f"{error}; {fix}") from None
        except (*BROKEN, asyncpg.PostgresError, ValueError) as error:
            raise EngineUnavailable(f"{self.name}: {error or type(error).__name__}") from error

    async def _check(self, connection: Connection) -> None:
        version = connection.get_server_version()
        if version.major < _OLDEST:
            fix = f"PostgreSQL {version.major} is too old: {_OLDEST} or newer"
            raise ConfigError("engine", self.name, fix)
        encoding = await connection.fetchval("SELECT current_setting('server_encoding')")
        if encoding != "UTF8":
            raise ConfigError("engine", self.name, f"the database is in {encoding}: make one in UTF8")

    async def _migrate(self, connection: Connection) -> None:
        """Make the schema, or bring it to this version; one node at a time."""
        await connection.execute(
            f"SELECT pg_advisory_xact_lock(hashtextextended('heartwire {self.schema}', 0))"
        )
        what = f"{self.name}: its schema {self.schema!r}"
        fix = "it was left as it is: name another with ?schema="
        try:
            version = await self._version(connection)
            if version == 0:
                await connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{self.schema}"')
                await connection.execute(script(self.schema, 0))
                await connection.execute(self.sql("SELECT heartwire.begin($1)"), VERSION)
            elif 0 < version < VERSION:
                await self._upgrade(connection, version)
            version = await self._version(connection)
        except (
            asyncpg.DuplicateObjectError,
            asyncpg.DuplicateTableError,
            asyncpg.UndefinedColumnError,
        ) as error:
            raise EngineCorrupt(f"{what} is another program's ({error}); {fix}") from None
        if version != VERSION:
            why = f"{what} has version {version}, this Heartwire knows {VERSION}"
            raise EngineCorrupt(f"{why}; {fix}, or use the Heartwire that made it")
        query = "UPDATE heartwire.meta SET on_failover = $1 WHERE on_failover <> $1"
        await connection.execute(self.sql(query), self.options.on_failover)

    async def _version(self, connection: Connection) -> int:
        """The version of the schema; 0: there is none."""
        if await connection.fetchval("SELECT to_regclass($1)", f"{self.schema}.meta") is None:
            return 0
        return await connection.fetchval(self.sql("SELECT version FROM heartwire.meta"))  # type: ignore[no-any-return]

    async def _upgrade(self, connection: Connection, version: int) -> None:
        """Nodes of the version before go on meanwhile, and after it."""
        try:
            await connection.execute(script(self.schema, version))
        except asyncpg.InsufficientPrivilegeError as error:
            fix = f"its schema {self.schema!r} has version {version}: start once as the role that made it"
            raise ConfigError("engine", self.name, f"{error}; {fix}") from None
        await connection.execute(self.sql("UPDATE heartwire.meta SET version = $1"), VERSION)
        log.warning("%s: its schema %r was upgraded to version %d", self.name, self.schema, VERSION)
