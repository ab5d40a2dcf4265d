"""The one registry of connections. Presence, the HTTP API, drain and limits read it.

Each dialect implements `Connection`; a transport adds one when a client comes and removes it once when the
client is gone.
"""

from collections.abc import Awaitable, Iterator
from typing import ClassVar

from heartwire.codes import CODES
from heartwire.core.deadlines import Deadline, Deadlines
from heartwire.errors import Refused
from heartwire.hub.admission import Admission
from heartwire.hub.clocks import Clocks
from heartwire.hub.identity import Identity
from heartwire.hub.user_limits import UserConnections
from heartwire.types import ServerSubscription

__all__ = ["Connection", "Connections"]


class Connection:
    """One connected client.

    Attributes:
        serial: unique on this node, never 0.
        identity: the authenticated user; anonymous until it is known.
        address: the peer's network address, "" on a Unix socket.
        since: monotonic seconds of its beginning.
        dialect, transport: "plain", "centrifugal" ...; "websocket", "sse" ...
        can_subscribe: whether the server can subscribe it to further channels.
        expires_with_identity: whether it is disconnected when its identity expires.
        counts_for_user: whether ``max_connections_per_user`` counts it.
        session_id: the secret that emulation requests of this connection name; "" where there are none.
    """

    __slots__ = ()

    serial: int
    identity: Identity
    address: str
    since: float
    dialect: ClassVar[str]
    transport: str
    session_id: str = ""
    can_subscribe = False
    counts_for_user = True
    expires_with_identity = False

    @property
    def id(self) -> str:
        """Its public name, unique among nodes; not a secret. See `Connections.id_of`."""
        raise NotImplementedError

    @property
    def channels(self) -> list[str]:
        """The channels it follows now."""
        raise NotImplementedError

    @property
    def is_open(self) -> bool:
        """Whether its handshake is complete, and it has not ended."""
        return True

    def disconnect(self, code: int, reason: str) -> None:
        """End it. Codes of 3000-3499 and 4000-4499 ask the client to come back, others not to. Idempotent."""
        raise NotImplementedError

    def refuse(self, refusal: Refused) -> None:
        """End it as soon as it has begun."""
        self.disconnect(refusal.code.close_code, str(refusal))

    def drain(self, after_s: float) -> None:
        """End it because the node stops; the client returns after ``after_s``."""
        raise NotImplementedError

    def send(self, data: bytes) -> None:
        """Send a JSON message that belongs to no channel. Raises `Refused` where the dialect has no such
        messages."""
        raise self._fixed()

    def subscribe(self, subscription: ServerSubscription) -> Awaitable[None] | None:
        """Subscribe it to a channel; without effect where it is subscribed. Returns what to await, if
        anything.

        Raises `Refused`, at once or when awaited.
        """
        raise self._fixed()

    def unsubscribe(self, channel: str, code: int, reason: str) -> bool:
        """End a subscription, and report why; returns whether there was one."""
        return False

    def refresh(self, ttl_s: float | None) -> None:
        """Set when it expires: after ``ttl_s`` seconds; ``None``: never. Not all dialects can."""

    def _fixed(self) -> Refused:
        return Refused(
            "not_available", f"a connection of the {self.dialect} dialect follows the channels of its URL"
        )


class _Expiry:
    """Ends a connection whose identity has expired."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def handle_deadline(self, now: float) -> None:
        code = CODES["connection_expired"]
        self._connection.disconnect(code.close_code, f"{code.reason}: come back with a new token")


class Connections:
    """Every connection of this node, in the order they came.

    Args:
        users: told of those whose user is known, and of their end.

    Attributes:
        by_session_id: connections whose commands come in requests of their own, by their secret.
    """

    def __init__(
        self, node_id: str, admission: Admission, users: UserConnections, deadlines: Deadlines, clocks: Clocks
    ) -> None:
        self.node_id = node_id
        self._users = users
        self.by_session_id: dict[str, Connection] = {}
        self._admission = admission
        self._deadlines = deadlines
        self._clocks = clocks
        self._by_serial: dict[int, Connection] = {}
        self._by_user: dict[str, dict[int, Connection]] = {}
        self._expiries: dict[int, Deadline] = {}
        self._last_serial = 0

    def next_serial(self) -> int:
        """A number for a connection, unique on this node."""
        self._last_serial += 1
        return self._last_serial

    def id_of(self, serial: int) -> str:
        """The public name of a connection, unique among nodes; not a secret."""
        return f"{self.node_id}-{serial:x}"

    def add(self, connection: Connection) -> None:
        """A client comes. Raises `LimitExceeded` (``node_full``, ``too_many_connections``)."""
        self._admission.add(connection.address)
        self._by_serial[connection.serial] = connection
        if connection.session_id:
            self.by_session_id[connection.session_id] = connection

    def index(self, connection: Connection) -> None:
        """Its identity is known: `of` finds it from now on."""
        identity = connection.identity
        if identity.user:  # an index of the anonymous would cost each of them memory
            self._by_user.setdefault(identity.user, {})[connection.serial] = connection
            self._users.add(connection)
        if identity.expires_at is not None and connection.expires_with_identity:
            when = self._clocks.monotonic() + identity.expires_at - self._clocks.wall()
            self._expiries[connection.serial] = self._deadlines.at(when, _Expiry(connection))

    def remove(self, connection: Connection) -> None:
        """The client is gone; for each `add` that returned, once."""
        serial, user = connection.serial, connection.identity.user
        self._admission.remove(connection.address)
        del self._by_serial[serial]
        if connection.session_id:
            del self.by_session_id[connection.session_id]
        if serial in self._expiries:
            self._expiries.pop(serial).cancel()
        if user in self._by_user:
            self._users.remove(connection)
            self._by_user[user].pop(serial, None)
            if not self._by_user[user]:
                del self._by_user[user]

    def get(self, id: str) -> Connection | None:
        """The open connection of a public name."""
        node_id, _, serial = id.rpartition("-")
        try:
            found = self._by_serial.get(int(serial, 16)) if node_id == self.node_id else None
        except ValueError:
            return None
        return found if found is not None and found.is_open else None

    def of(self, user: str) -> list[Connection]:
        """A user's open connections; "": the anonymous ones."""
        found = self._by_user.get(user, {}) if user else self._by_serial
        return [one for one in found.values() if one.identity.user == user and one.is_open]

    def __iter__(self) -> Iterator[Connection]:
        """All of them, also those whose handshake is not complete; safe against changes meanwhile."""
        return iter(tuple(self._by_serial.values()))

    def __len__(self) -> int:
        return self._admission.count

    def drain(self) -> None:
        """End them all. They return over as long as `Admission` takes to let so many in."""
        window_s = self._admission.window_s
        for connection in self:
            connection.drain(self._clocks.chance.uniform(0, window_s))
