"""Connection state recovery: what a client is, kept in the engine, so that any node can go on with it.

In: clients that come, change and leave, from the server; secrets (``pid``), from clients that return. Out:
records, by the engine's compare and set; a client's state to the node that takes it over.

A record is there from the answer to CONNECT on, not from the end of the connection: so a process that is
killed, or has not noticed the end yet, loses nobody.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeGuard

import msgspec

from heartwire.channels import to_channel
from heartwire.core.waiting import settled
from heartwire.engines.contract import Engine, StreamWrite
from heartwire.server.socketio.entries import NAMESPACE, Room
from heartwire.server.socketio.environ import is_python
from heartwire.server.socketio.members import Member
from heartwire.types import Channel, Position

__all__ = ["Held", "Recovery", "RecoveryOptions", "Saved", "is_secret", "no_python_client"]

Applies = Callable[[Mapping[str, Any], Any], bool]
"""Whether a client, by its request's environment and its auth, is to be recovered."""

_TOUCHES: Final = 4
"""How often a record's time begins anew while its client is here."""

_KEY: Final = "key:"
"""Begins what clients are known by that have no secret. No client can say it: see `is_secret`."""

_TRIES: Final = 5

_REVISIONS: Final = 2**52


def no_python_client(environ: Mapping[str, Any], auth: Any) -> bool:
    """`Applies` to all but clients of python-socketio: the argument that events of a client that can be
    recovered have at their end breaks handlers with a fixed number of arguments."""
    return not is_python(str(environ.get("HTTP_USER_AGENT", "")))


def is_secret(given: object) -> TypeGuard[str]:
    """Whether what a client says may be a secret of ours."""
    return isinstance(given, str) and 16 <= len(given) <= 64 and ":" not in given


class RecoveryOptions(NamedTuple):
    """How clients are recovered.

    Attributes:
        max_disconnection_s: how long a client may be away.
        history_size: how many events of a namespace are kept for those who are.
        applies: to whom.
        key: the rest, clients that know no recovery (Java, Swift, Python, C++): names one by its request's
            environment and its auth, uniquely; ``None``: it is not recovered. Events follow those that it has
            confirmed by a pong, so each comes at least once, and those of about one ping interval may come
            twice.
    """

    max_disconnection_s: float = 120
    history_size: int = 10_000
    applies: Applies = no_python_client
    key: Callable[[Mapping[str, Any], Any], str | None] | None = None


class Saved(msgspec.Struct, array_like=True):
    """A client's state.

    Attributes:
        start: its position at CONNECT.
        node: where it was last, with `engine_sid` of its session there.
        user: whose connection it is; "" where nobody has said.
        commanded: see `Member`.
    """

    sid: str
    namespace: str
    rooms: list[tuple[Room, int]]
    session: Any
    start: str
    node: str
    engine_sid: str
    user: str
    commanded: int = 0

    def position(self, offset: object) -> Position:
        """Where to go on: after the last event that the client has, or where it came.

        A client keeps the offset of what it got as somebody else, before it came anew: that is no use here.
        """
        start = Position.parse(self.start)
        if isinstance(offset, str):
            try:
                last = Position.parse(offset)
            except ValueError:  # the text of an event that carried no offset
                return start
            if last.epoch == start.epoch and last.offset > start.offset:
                return last
        return start


class Held:
    """The record of a client that is here."""

    __slots__ = ("asked", "channel", "is_lost", "is_stale", "pid", "revision", "saving", "start", "tried")

    def __init__(self, pid: str, start: Position, revision: int = 0) -> None:
        self.pid = pid
        self.channel = _channel(pid)
        self.start = start
        self.asked: Position | None = None  # of the last ping
        self.revision = revision
        self.tried = 0  # of a write whose answer was lost
        self.is_stale = self.is_lost = False
        self.saving: asyncio.Future[None] | None = None


def _channel(pid: str) -> Channel:
    """Where the record of a secret is: the store need not know the secret."""
    digest = hashlib.blake2s(pid.encode("utf-8", "replace"), digest_size=20).hexdigest()
    return to_channel(f"{NAMESPACE}:pid:{digest}")


class Recovery:
    """The records of one node's clients.

    Args:
        node: its name.
        silence_s: how long a client that is gone may not be noticed.

    Promises: of those that take over one client at the same time one gets it; the others, and whoever had it,
    lose it.
    """

    def __init__(self, engine: Engine, node: str, options: RecoveryOptions, *, silence_s: float) -> None:
        self.options = options
        self.ttl_s = options.max_disconnection_s * _TOUCHES / (_TOUCHES - 1) + silence_s
        self.touch_s = self.ttl_s / _TOUCHES
        self._engine = engine
        self._node = node

    def begin(self, member: Member, position: Position, pid: str = "") -> None:
        """Give a new client a secret, unless it is known by a key. Nothing is kept before `save`."""
        member.recovery = Held(pid or secrets.token_urlsafe(24), position)

    def pid_of(self, namespace: str, environ: Mapping[str, Any], auth: Any) -> str:
        """What a client that knows no recovery is known by; "": it is not recovered."""
        key = self.options.key(environ, auth) if self.options.key is not None else None
        return f"{_KEY}{namespace}:{key}" if key else ""

    def beat(self, member: Member, position: Position | None, *, is_answered: bool) -> bool:
        """A client that is known by a key is pinged, and has been sent all up to ``position``; or it answers.
        Returns whether that is to be saved."""
        held: Held | None = member.recovery
        if held is None or not held.pid.startswith(_KEY):
            return False
        if not is_answered:
            held.asked = position
            return False
        asked, held.asked = held.asked, None
        if asked is None or asked == held.start:
            return False
        held.start = asked
        return True

    async def take(self, pid: str, namespace: str, engine_sid: str, user: str) -> tuple[Saved, Held] | None:
        """Take a client over; ``None``: there is nobody of that secret, or others are quicker each time.

        Returns its state, with the former holder. Raises `EngineError`.
        """
        for _ in range(_TRIES):  # who has it may be writing yet, or a connection that is dead by now
            found = await settled(self._engine.record(_channel(pid)))
            if not found.revision:
                return None
            saved = msgspec.msgpack.decode(found.record, type=Saved)
            if saved.namespace != namespace or saved.user != user:
                return None
            held = Held(pid, Position.parse(saved.start), found.revision)
            if await self._write(
                held, msgspec.structs.replace(saved, node=self._node, engine_sid=engine_sid)
            ):
                return saved, held
        return None

    async def save(self, member: Member) -> bool:
        """Keep what a client is now; false where another node has taken it over. Raises `EngineError`;
        ``TypeError`` for a session that cannot be written.

        Promises: what was so at the call is kept when this returns.
        """
        held: Held = member.recovery
        held.is_stale = True
        if held.saving is None:
            held.saving = asyncio.ensure_future(self._save(member, held))
        await asyncio.shield(held.saving)
        return not held.is_lost

    async def _save(self, member: Member, held: Held) -> None:
        try:
            while held.is_stale and not held.is_lost:
                held.is_stale = False
                held.is_lost = not await self._write(held, self._state(member))
        finally:
            held.saving = None

    async def adopt(self, member: Member, pid: str, start: Position) -> None:
        """Go on with the record of a client that was at another node until now. Raises `EngineError`."""
        held = member.recovery = Held(pid, start)
        for _ in range(_TRIES):  # the other node may be writing yet
            found = await settled(self._engine.record(held.channel))
            if not found.revision or not self._is_of(found.record, member):
                break  # its client has left, or has come back meanwhile
            held.revision, held.is_lost = found.revision, False
            if await self.save(member):
                return
        held.is_lost = True

    def _is_of(self, record: bytes, member: Member) -> bool:
        """Whether a record was last written for the session that a client is in."""
        saved = msgspec.msgpack.decode(record, type=Saved)
        return bool(saved.engine_sid == member.socket.client.connection.engine.sid)

    def touch(self, member: Member) -> None:
        """A client is still here, or was until now."""
        held: Held | None = member.recovery
        if held is not None and not held.is_lost:
            self._engine.touch(held.channel)

    async def drop(self, member: Member) -> None:
        """A client has left for good. Raises `EngineError`."""
        held: Held | None = member.recovery
        if held is not None and not held.is_lost:
            if held.saving is not None:  # which changes the revision
                await asyncio.wait([held.saving])
            held.is_lost = True
            await self._drop(held.channel, held.revision)

    async def discard(self, held: Held) -> None:
        """Forget a client that was taken over, and cannot be gone on with. Raises `EngineError`."""
        await self._drop(held.channel, held.revision)

    async def _drop(self, channel: Channel, revision: int) -> None:
        if revision:
            change = StreamWrite(revision, 1 + secrets.randbelow(_REVISIONS), None)
            await settled(self._engine.write(channel, change))

    async def _write(self, held: Held, saved: Saved) -> bool:
        record = msgspec.msgpack.encode(saved)
        while True:
            revision, tried = 1 + secrets.randbelow(_REVISIONS), held.tried
            held.tried = revision
            change = StreamWrite(held.revision, revision, record, ttl_s=self.ttl_s)
            now = await settled(self._engine.write(held.channel, change))
            held.tried = 0
            if now.revision not in (revision, tried) or not now.revision:
                return False
            held.revision = now.revision
            if now.revision == revision:
                return True

    def _state(self, member: Member) -> Saved:
        connection = member.socket.client.connection
        return Saved(
            member.sid,
            member.socket.namespace,
            list(member.rooms.items()),
            member.session,
            str(member.recovery.start),
            self._node,
            connection.engine.sid,
            connection.identity.user,
            member.commanded,
        )
