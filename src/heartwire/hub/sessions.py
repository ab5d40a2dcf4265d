"""The sessions of a node, to be found by user and by client."""

import secrets
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from heartwire.codes import CODES
from heartwire.hub.admission import drain_reason

if TYPE_CHECKING:
    from heartwire.server.centrifugal.connection import Connection, HubSession
    from heartwire.server.centrifugal.streams import Emulated

__all__ = ["Sessions"]


class Sessions:
    """The open sessions of a node, by user and by client; and every connection, also before it is open.

    ``emulated`` has those whose commands come by the emulation endpoint, by their secret ids, which
    ``new_id`` makes.
    """

    def __init__(self) -> None:
        self.connections: dict[
            Connection, None
        ] = {}  # a set in order: who came first is told first when it ends
        self.new_id: Callable[[], str] = partial(secrets.token_urlsafe, 24)
        self.emulated: dict[str, Emulated] = {}
        self._by_user: dict[str, dict[str, HubSession]] = {}
        self._by_client: dict[str, HubSession] = {}

    def add(self, session: "HubSession") -> None:
        """A session is open."""
        self._by_client[session.client] = session
        self._by_user.setdefault(session.user, {})[session.client] = session

    def discard(self, session: "HubSession") -> None:
        """It is over."""
        self._by_client.pop(session.client, None)
        of_user = self._by_user.get(session.user)
        if of_user is not None and of_user.pop(session.client, None) is not None and not of_user:
            del self._by_user[session.user]

    def get(self, client: str) -> "HubSession | None":
        """The session of a client id."""
        return self._by_client.get(client)

    def of(self, user: str) -> "list[HubSession]":
        """A user's sessions on this node."""
        return list(self._by_user.get(user, {}).values())

    def __len__(self) -> int:
        return len(self._by_client)

    @property
    def users(self) -> int:
        """How many users have sessions; all anonymous ones are one."""
        return len(self._by_user)

    def drain(self, window_s: float) -> None:
        """End them all, so that their clients come back elsewhere; each is told a time of its own within the
        window."""
        for connection in tuple(self.connections):
            connection.session.disconnect("going_away", drain_reason(CODES["going_away"].reason, window_s))
