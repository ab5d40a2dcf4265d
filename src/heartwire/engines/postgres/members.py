"""What a node has in PostgreSQL for as long as it lives: its lease, mail, members, and users' connections.

In: calls of `SharedEngine`. Out: calls of the writing connection. See `heartwire.engines.changes`.
"""

import asyncio
import re
from typing import Any, Final

import msgspec

from heartwire.engines.calls import Call
from heartwire.engines.changes import Enter, Leave
from heartwire.engines.contract import Told
from heartwire.engines.options import SharedOptions
from heartwire.engines.postgres.values import ms
from heartwire.engines.postgres.writer import Post, Writer
from heartwire.engines.shared import SharedBase
from heartwire.engines.wire import MOST, member_of, member_parts
from heartwire.errors import EngineUnavailable
from heartwire.types import Channel, Member

__all__ = ["NodeBase"]

_NODE: Final = re.compile(r"[0-9a-f]{8}")

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Any]).decode


class NodeBase(SharedBase):
    """See the module. The base of `PostgresEngine`, which opens ``_writer``."""

    _writer: Writer

    def __init__(self, name: str, options: SharedOptions) -> None:
        super().__init__(name, options)
        self._owed: list[Post] = []  # leaves that could not be told while the store was away

    def _time_ms(self) -> int | None:
        """What the store is to take for its clock; ``None``: its own."""
        return None

    async def _beat(self, lease_s: float) -> bool:
        rows = await self._writer.ask("SELECT heartwire.beat($1, $2)", self.node, ms(lease_s))
        owed, self._owed = self._owed, []
        for post in owed:
            self._post(post)
        held: bool | None = rows[0][0]
        announced = list(self._changes.announced.items())
        if held is None:  # its members were lost with the server, and nobody was told that they left
            columns = [list(column) for column in zip(*(key for key, _ in announced), strict=True)]
            bodies = [_encode(member_parts(member)) for _, member in announced]
            if columns:
                await self._writer.ask(
                    "SELECT heartwire.mark_announced($1, $2, $3, $4)", self.node, *columns, bodies
                )
        elif not held:
            for (channel, _), member in announced:
                self.announce(channel, "join", member)
        return bool(held)

    async def _reap(self) -> None:
        while (await self._writer.ask("SELECT heartwire.reap($1, $2)", self.node, self._time_ms()))[0][0]:
            pass

    async def nodes(self) -> list[str]:
        self._flush_changes()
        return (await self._writer.ask("SELECT heartwire.living()"))[0][0]  # type: ignore[no-any-return]

    def send(self, node: str | None, body: bytes) -> None:
        if self._keeper is not None and (
            node is None or _NODE.fullmatch(node)
        ):  # others are nobody's, and a hint has to stay one
            self._post(Post(node, None, None, body))

    def announce(self, channel: Channel, told: Told, member: Member) -> None:
        self._changes.announce(channel, told, member)
        if self._keeper is None:
            return
        self._flush_changes()  # in order with leases
        body = (b"+" if told == "join" else b"-") + _encode(member_parts(member))
        self._post(Post(None, channel, member.client, body))

    def _post(self, post: Post) -> None:
        """Send mail, once or not at all; but a leave is owed until the store has it."""
        is_leave = post.client is not None and post.body[:1] == b"-"
        answer: asyncio.Future[None] = self._loop.create_future()

        def done(answer: "asyncio.Future[None]") -> None:
            if not answer.cancelled() and answer.exception() is not None and is_leave:
                self._owed.append(post)

        answer.add_done_callback(done)
        call = Call(Post, post, answer, size=len(post.body), is_once=not is_leave)
        try:
            self._room.check(call.size)
        except EngineUnavailable as error:
            call.fail(error)
        else:
            self._writer.add(call)

    # -- members and users -----------------------------------------------------------------------------------

    def _store_changes(
        self, changes: dict[tuple[Channel, str], Enter | Leave], dismissed: list[tuple[str, str]]
    ) -> "asyncio.Future[Any]":
        asked = []
        if changes:
            enters = [change if isinstance(change, Enter) else None for change in changes.values()]
            asked.append(
                self._writer.ask(
                    "SELECT heartwire.set_members($1, $2, $3, $4, $5, $6)",
                    self.node,
                    [channel for channel, _ in changes],
                    [client for _, client in changes],
                    [None if one is None or one.ttl_s == float("inf") else ms(one.ttl_s) for one in enters],
                    [None if one is None else _encode(member_parts(one.member)) for one in enters],
                    self._time_ms(),
                )
            )
        if dismissed:
            sql = "DELETE FROM heartwire.users u USING unnest($1::bytea[], $2::text[]) AS g(name, client)"
            sql += " WHERE u.name = g.name AND u.client = g.client"
            users = [user.encode() for user, _ in dismissed]
            asked.append(self._writer.ask(sql, users, [client for _, client in dismissed]))
        return asyncio.gather(*asked)

    async def members(self, channel: Channel) -> list[Member]:
        self._flush_changes()
        rows = await self._writer.ask("SELECT heartwire.members_of($1, $2)", channel, self._time_ms())
        return [member_of(_decode(body)) for (body,) in rows]

    async def admit(self, user: str, client: str, limit: int) -> bool:
        self._flush_changes()
        is_admitted = await self._admit(user, client, limit)
        if is_admitted:
            self._changes.admit(user, client)
        return is_admitted

    async def _admit(self, user: str, client: str, limit: int) -> bool:
        sql = "SELECT heartwire.admit($1, $2, $3, $4)"
        rows = await self._writer.ask(sql, self.node, user.encode(), client, min(limit, MOST))
        return rows[0][0]  # type: ignore[no-any-return]

    async def _readmit(self, admitted: list[tuple[str, str]]) -> None:
        await asyncio.gather(*(self._admit(user, client, MOST) for user, client in admitted))

    def _mail(self, sender: str, channel: Channel | None, body: bytes) -> None:
        if channel is None:
            if sender != self.node:
                self._feed.mail(body)
            return
        told: Told = "join" if body[:1] == b"+" else "leave"
        self._tell_member(channel, told, member_of(_decode(body[1:])))
