"""``max_connections_per_user`` and ``max_streams_per_user``: how many each user has, over all nodes."""

import asyncio
import logging
from typing import Final, Protocol

from heartwire.engines.contract import SharedEngine
from heartwire.errors import EngineError, LimitExceeded
from heartwire.hub.identity import Identity

__all__ = ["Limited", "UserConnections", "UserStreams"]

log = logging.getLogger("heartwire")


class Limited(Protocol):
    """A connection of a user."""

    identity: Identity

    @property
    def id(self) -> str:
        """See `Connection.id`."""

    @property
    def counts_for_user(self) -> bool:
        """See `Connection.counts_for_user`."""

    def refuse(self, refusal: LimitExceeded) -> None:
        """See `Connection.refuse`."""


class UserConnections:
    """Counts the connections of users, and ends those over the limit.

    Args:
        limit: 0: none.
        shared: keeps the count of all nodes; None: they are all here.

    Promises: of a user's connections at most ``limit`` are left open, whichever nodes they are on. Where the
    store does not answer, a connection is let in and not counted: nobody is shut out because it is away.
    """

    def __init__(self, limit: int, shared: SharedEngine | None) -> None:
        self._limit = limit
        self._shared = shared
        self._here: dict[str, set[Limited]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, connection: Limited) -> None:
        """The user of a connection is known."""
        user = connection.identity.user
        if not (self._limit and user and connection.counts_for_user):
            return
        here = self._here.setdefault(user, set())
        here.add(connection)
        loop = asyncio.get_running_loop()
        if self._shared is None:
            if len(here) > self._limit:
                loop.call_soon(self._refuse, connection)
            return
        task = loop.create_task(self._count(self._shared, connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def remove(self, connection: Limited) -> None:
        """A connection has ended. Without effect on those that were not added."""
        user = connection.identity.user
        here = self._here.get(user)
        if here is None or connection not in here:
            return
        here.remove(connection)
        if not here:
            del self._here[user]
        if self._shared is not None:
            self._shared.dismiss(_connected(user), connection.id)

    async def _count(self, shared: SharedEngine, connection: Limited) -> None:
        user, id = connection.identity.user, connection.id
        try:
            is_admitted = await shared.admit(_connected(user), id, self._limit)
        except EngineError as error:
            log.warning("connections of user %r are not counted: %s", user, error)
            return
        if connection not in self._here.get(user, ()):  # gone meanwhile
            shared.dismiss(_connected(user), id)
        elif not is_admitted:
            self._refuse(connection)

    def _refuse(self, connection: Limited) -> None:
        self.remove(connection)
        limit, setting = self._limit, "max_connections_per_user"
        over = LimitExceeded("connection_limit", "connections of this user", limit + 1, limit, setting)
        connection.refuse(over)


class UserStreams:
    """Counts the runs of users.

    Args:
        limit: 0: none.
        shared: see `UserConnections`.
    """

    def __init__(self, limit: int, shared: SharedEngine | None) -> None:
        self._limit = limit
        self._shared = shared
        self._here: dict[str, set[str]] = {}

    async def add(self, user: str, run: str) -> None:
        """A run begins; "" is nobody, and not counted. Raises `LimitExceeded`, `EngineUnavailable`."""
        if not (self._limit and user):
            return
        here = self._here.setdefault(user, set())
        here.add(run)
        try:
            if self._shared is None:
                is_admitted = len(here) <= self._limit
            else:
                is_admitted = await self._shared.admit(_running(user), run, self._limit)
            if not is_admitted:
                what, setting = "streams of this user under way", "max_streams_per_user"
                raise LimitExceeded("too_many_streams", what, self._limit + 1, self._limit, setting)
        except BaseException:
            self.remove(user, run)
            raise

    def remove(self, user: str, run: str) -> None:
        """It has ended. Without effect on those that were not added."""
        here = self._here.get(user, set())
        if run not in here:
            return
        here.remove(run)
        if not here:
            del self._here[user]
        if self._shared is not None:
            self._shared.dismiss(_running(user), run)


_APART: Final = "\x1f"
"""Before the names under which anything but connections is counted."""


def _connected(user: str) -> str:
    return f"{_APART}user {user}" if user.startswith(_APART) else user


def _running(user: str) -> str:
    return f"{_APART}runs {user}"
