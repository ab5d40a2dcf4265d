"""Polls and long polls of the plain dialect. The request has the position, so any worker can answer it."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from hashlib import blake2s
from typing import Final

from starlette.responses import Response

from heartwire.core.waiting import settled
from heartwire.dialects.plain.codec import end_json, page_json, publication_json
from heartwire.dialects.plain.requests import Follow, Vector, parse_starts
from heartwire.errors import Refused
from heartwire.hub.identity import Identity
from heartwire.hub.node import Node
from heartwire.server.addresses import Call
from heartwire.server.plain.connections import PlainConnection
from heartwire.server.plain.formats import POLL, POLL_MULTI
from heartwire.server.plain.requests import begin
from heartwire.server.requests import address_of, known_tags, watch_client
from heartwire.transports.http.poll import Poll, jittered_wait_s
from heartwire.types import Channel, Member, Position, Publication

__all__ = ["PAGE_BYTES", "PAGE_ITEMS", "HeldPoll", "Polls"]

PAGE_ITEMS: Final = 1000
PAGE_BYTES: Final = 1024 * 1024
"""An answer holds at most this much, or one publication; the reader asks again for the rest."""


class _Page:
    """The answer to one poll, while it is made.

    Attributes:
        over: channels whose streams are closed, and whose ends the reader then has.
    """

    def __init__(self, follow: Follow) -> None:
        self._follow = follow
        self._vector = Vector(follow.starts)
        self.publications: list[bytes] = []
        self.size = 0
        self.recovered = True
        self.ends: list[bytes] = []
        self.over: set[Channel] = set()
        self._has_new_end = False

    def add(
        self,
        channel: Channel,
        publications: list[bytes],
        position: Position,
        *,
        recovered: bool,
        end: Publication | None,
    ) -> None:
        self.publications += publications
        self.size += sum(map(len, publications))
        self.recovered &= recovered
        if end is not None:
            self.ends.append(end_json(end, with_channel=self._follow.is_multi))
            self.over.add(channel)
            self._has_new_end |= self._vector.positions[channel] != end.position
            position = end.position
        self._vector.positions[channel] = position

    @property
    def is_empty(self) -> bool:
        """Whether it has nothing new, and there may be something later."""
        is_over = self._has_new_end or len(self.over) == len(self._follow.channels)
        return not self.publications and self.recovered and not is_over

    @property
    def position(self) -> str:
        return str(self._vector)

    def response(self, known: Sequence[str]) -> Response:
        """The answer; 304 for a reader that is at this position already (RFC 9110 13.1.2)."""
        headers = {"etag": f'"{self.position}"'}
        # The end of a stream is told again at each poll: only by it does a reader know that it is over.
        if not self.ends and (self.position in known or (self.is_empty and "*" in known)):
            return Response(status_code=304, headers=headers)
        body = page_json(self.publications, self.position, recovered=self.recovered, ends=self.ends)
        return Response(body, headers=headers, media_type="application/json")


class HeldPoll(Poll, PlainConnection):
    """A poll that waits for news."""

    transport = "longpoll"

    def __init__(self, node: Node, call: Call, identity: Identity) -> None:
        super().__init__(node.switchboard, serial=node.connections.next_serial())
        self.link = self
        self.address = address_of(call.request)
        self.identity = identity
        self.since = node.clocks.monotonic()
        self._node = node

    @property
    def id(self) -> str:
        """See `Connection.id`."""
        return self._node.connections.id_of(self.serial)

    def refuse(self, refusal: Refused) -> None:
        """See `Connection.refuse`."""
        Poll.refuse(self, refusal)


class Polls:
    """The polls of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._held: dict[tuple[str, str, tuple[Channel, ...]], Poll] = {}

    async def answer(self, call: Call) -> Response:
        """``GET``: the publications after ``since``, waiting for them as long as ``wait`` says. Raises
        `Refused`."""
        follow, identity = await begin(self._node, call.request, call.values)
        known = known_tags(call.request)
        if not follow.has_start:
            follow = _resumed(follow, known)
        if call.request.method == "HEAD":  # nothing to wait for, and nobody to be seen
            follow = follow._replace(wait_s=0, client=None)
        page = await self._page(follow)
        with self._present(follow, identity):
            if follow.wait_s and page.is_empty:
                await self._hold(HeldPoll(self._node, call, identity), call, follow, page)
        return page.response(known)

    async def _page(self, follow: Follow) -> _Page:
        page = _Page(follow)
        for channel in follow.channels:
            has_room = page.size < PAGE_BYTES
            limit = PAGE_ITEMS - len(page.publications) if has_room else 0
            left = max(1, PAGE_BYTES - page.size)
            await self._node.pages.turn()
            answer = self._node.history.read(channel, follow.starts[channel], limit=limit, max_bytes=left)
            result = await settled(answer)
            last = result.publications[-1].position if result.publications else result.start
            frames = [publication_json(one, with_channel=follow.is_multi) for one in result.publications]
            self._node.pages.spend(sum(map(len, frames)))
            page.add(channel, frames, last, recovered=result.recovered, end=result.end)
            follow.starts[channel] = last
        return page

    async def _hold(self, poll: HeldPoll, call: Call, follow: Follow, page: _Page) -> None:
        """Wait for publications after an empty page, and add them to it."""
        node = self._node
        node.connections.add(poll)
        try:
            node.connections.index(poll)
            with watch_client(call.request, poll.answered.set), self._only_one(follow, poll):
                for channel in (one for one in follow.channels if one not in page.over):
                    format = POLL_MULTI if follow.is_multi else POLL
                    node.presence.follow(poll, channel, format, follow.starts[channel])
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(jittered_wait_s(follow.wait_s, node.clocks.chance)):
                        await poll.answered.wait()
        finally:
            node.connections.remove(poll)
            node.presence.unfollow_all(poll)
        for channel, frames, position, recovered, end in poll.news:
            page.add(channel, frames, position, recovered=recovered, end=end)
        if poll.refusal is not None and page.is_empty:
            raise poll.refusal

    @contextlib.contextmanager
    def _only_one(self, follow: Follow, poll: HeldPoll) -> Iterator[None]:
        """A named client of one user has one poll at a time: the newer ends the older."""
        key = (poll.identity.user, follow.client or "", follow.channels)
        if follow.client is None:
            yield
            return
        older = self._held.get(key)
        self._held[key] = poll
        if older is not None:
            older.refuse(Refused("poll_displaced", f"a newer poll of client {follow.client!r} took over"))
        try:
            yield
        finally:
            if self._held.get(key) is poll:
                del self._held[key]

    @contextlib.contextmanager
    def _present(self, follow: Follow, identity: Identity) -> Iterator[None]:
        """A named client is in presence while its poll is held, and until its next one is overdue."""
        if follow.client is None:
            yield
            return
        presence = self._node.presence
        member = Member(_shown(follow.client, identity.user), identity.user, identity.info)
        for channel in follow.channels:
            presence.hold(channel, member, follow.wait_s + self._node.options.pong_timeout_s)
        try:
            yield
        finally:
            for channel in follow.channels:
                presence.hold(channel, member)


def _resumed(follow: Follow, tags: Sequence[str]) -> Follow:
    """The same request, from the first of the tags that is a position of its channels; others are foreign."""
    for tag in tags:
        with contextlib.suppress(Refused):
            return follow._replace(starts=parse_starts(follow.channels, tag, is_multi=follow.is_multi))
    return follow


def _shown(client: str, user: str) -> str:
    """A named client in presence. Its name is its secret: with it others could end its polls and take its
    place. So they see a digest, and another user's client of the same name is another."""
    return "poll-" + blake2s(f"{client}\0{user}".encode("utf-8", "replace"), digest_size=10).hexdigest()
