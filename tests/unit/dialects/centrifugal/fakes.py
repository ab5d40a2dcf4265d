"""A server and a client for sessions, both without I/O."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Generator, Iterator
from functools import partial
from typing import Any, Literal

from heartwire.channels import check_idempotency_key
from heartwire.core.deadlines import Deadline, Deadlines
from heartwire.core.limits import TokenBucket
from heartwire.core.switchboard import ReadResult
from heartwire.dialects.centrifugal import (
    JSON,
    Answer,
    ClientSubscription,
    Disconnected,
    Refreshed,
    Rules,
    Session,
    SessionSettings,
    SubscriptionGrant,
    TokenExpired,
    Welcome,
)
from heartwire.dialects.centrifugal.publishing import keep_order
from heartwire.dialects.centrifugal.types import ConnectRequest
from heartwire.dialects.centrifugal.values import Done, Post
from heartwire.dialects.centrifugal.values import Later as Pending
from heartwire.errors import Forbidden, Refused, Unauthorized, UnknownChannel
from heartwire.types import NOW, Action, Channel, Member, Position, Publication, Start

__all__ = ["FakeOutlet", "FakePort", "Later", "Peer"]


class Later:
    """An answer that takes time: it comes when the awaiting coroutine is resumed."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self._answer = answer

    def __await__(self) -> Generator[Any, Any, Any]:
        yield self
        return self._answer()


class FakeOutlet:
    """Keeps what was written, as the client would read it."""

    def __init__(self) -> None:
        self.frames: list[list[Any]] = []
        self.closed: tuple[int, str] | None = None
        self.given_up = False
        self.paused = False
        self.heard = self.takes = False
        self.backlog_bytes = 0
        self.max_owed_bytes = 1_000_000
        self.looks = 0
        self.drain = asyncio.Event()

    def look(self) -> None:
        self.looks += 1

    async def drained(self) -> None:
        if self.paused:
            await self.drain.wait()

    def write(self, messages: list[bytes]) -> bool:
        assert self.closed is None
        assert all(b"\n" not in message and message for message in messages)
        if self.paused and self.backlog_bytes > self.max_owed_bytes:
            self.close(3008, "slow")
            return False
        self.frames.append([json.loads(message) for message in messages])
        return True

    def announce(
        self, channel: Channel, kind: Literal["join", "leave"], member: Member, made: dict[Any, Any]
    ) -> None:
        self.write([JSON.membership(channel, kind, JSON.info(member))])

    def close(self, code: int, reason: str) -> None:
        assert self.closed is None
        self.closed = (code, reason)

    def give_up(self) -> None:
        self.given_up = True


class FakePort:
    """Streams in dicts. ``slow``: every answer that may take time does."""

    def __init__(self) -> None:
        self.slow = False
        self.rules_of: dict[str, Rules] = {}
        self.streams: dict[str, list[Publication]] = {}
        self.evicted: dict[str, int] = {}
        self.epoch = "epochAAA"
        self.welcome: Welcome | Exception = Welcome()
        self.grants: dict[str, SubscriptionGrant | Exception] = {}
        self.forbidden: set[tuple[str, str]] = set()
        self.tokens: dict[str, Refreshed | Exception] = {}
        self.followers: list[ClientSubscription] = []
        self.starts: dict[str, Position] = {}
        self.opened_sessions: list[Session] = []
        self.ends: list[tuple[int, str]] = []
        self.failures: list[tuple[str, BaseException]] = []
        self.deadlines = Deadlines()
        self.rpcs: dict[str, Callable[[bytes], Any]] = {}
        self.sent: list[bytes] = []
        self.listens = False
        self.knows_where = False
        self.later: list[Callable[[], None]] = []
        self.published: list[tuple[str, Post]] = []
        self.publish_waits: list[Done] | None = None
        self.publish_fails: Exception | None = None
        self.publish_wait: Awaitable[None] | None = None
        self.bucket: TokenBucket | None = None
        self.turns = 0

    def _answer(self, answer: Callable[[], Any]) -> Any:
        return Later(answer) if self.slow else answer()

    def _raise_or(self, value: Any) -> Any:
        if isinstance(value, Exception):
            raise value
        return value

    # -- who -------------------------------------------------------------------------------------------------

    def connect(self, session: Session, request: ConnectRequest) -> Answer[Welcome]:
        return self._answer(lambda: self._raise_or(self.welcome))  # type: ignore[no-any-return]

    def opened(self, session: Session) -> None:
        self.opened_sessions.append(session)

    def ended(self, session: Session, code: int, reason: str) -> None:
        self.ends.append((code, reason))

    def grant(self, session: Session, channel: Channel, token: str, data: bytes) -> Answer[SubscriptionGrant]:
        return self._answer(lambda: self._raise_or(self.grants.get(token, SubscriptionGrant())))  # type: ignore[no-any-return]

    def refresh(self, session: Session, token: str) -> Answer[Refreshed]:
        return self._answer(lambda: self._raise_or(self.tokens.get(token, Unauthorized("bad"))))  # type: ignore[no-any-return]

    def sub_refresh(self, session: Session, channel: str, token: str) -> Answer[Refreshed]:
        return self.refresh(session, token)

    def authorize(self, session: Session, action: Action, channel: Channel) -> Answer[None]:
        def answer() -> None:
            if (action, channel) in self.forbidden:
                raise Forbidden(f"nobody may {action} in {channel}")

        return self._answer(answer)  # type: ignore[no-any-return]

    # -- channels --------------------------------------------------------------------------------------------

    def channel(self, session: Session, name: str) -> Channel:
        if not name or "\n" in name:
            raise Refused("bad_channel", "no name, or a control character")
        if name.startswith("nope:"):
            raise UnknownChannel(name, "nope")
        return Channel(name)

    def rules(self, channel: Channel) -> Rules:
        return self.rules_of.get(channel, Rules())

    def top(self, channel: str) -> Position:
        stream = self.streams.get(channel, [])
        return Position(self.epoch, stream[-1].offset if stream else self.evicted.get(channel, 0))

    def where(self, channel: Channel) -> Position | None:
        return self.top(channel) if self.knows_where else None

    def read(self, channel: Channel, start: Start, *, limit: int) -> Answer[ReadResult]:
        def answer() -> ReadResult:
            top = self.top(channel)
            if start is NOW:
                return ReadResult(top, [], top, True)
            assert isinstance(start, Position)
            kept = self.streams.get(channel, [])[self.evicted.get(channel, 0) :]
            oldest = kept[0].offset if kept else top.offset + 1
            if start.epoch != top.epoch or not oldest - 1 <= start.offset <= top.offset:
                return ReadResult(Position(top.epoch, oldest - 1), kept[:limit], top, False)
            found = [publication for publication in kept if publication.offset > start.offset]
            return ReadResult(start, found[:limit], top, True)

        return self._answer(answer)  # type: ignore[no-any-return]

    async def history(
        self, channel: Channel, *, limit: int, since: Position | None, reverse: bool
    ) -> tuple[list[Publication], Position]:
        kept = self.streams.get(channel, [])
        return (kept[::-1] if reverse else kept)[:limit], self.top(channel)

    def follow(self, session: Session, follower: ClientSubscription, start: Position) -> None:
        assert follower.session is session
        self.followers.append(follower)
        self.starts[follower.channel] = start
        if self.rules(follower.channel).join_leave:
            self.announce(follower, "join")

    def unfollow(self, session: Session, follower: ClientSubscription) -> None:
        if follower in self.followers:
            self.followers.remove(follower)
            if self.rules(follower.channel).join_leave:
                self.announce(follower, "leave")

    def announce(self, who: ClientSubscription, kind: Literal["join", "leave"]) -> None:
        for follower in list(self.followers):
            if follower.channel == who.channel:
                follower.hear(kind, who.member, {})

    async def members(self, channel: Channel) -> list[Member]:
        return [follower.member for follower in self.followers if follower.channel == channel]

    # -- what clients say ------------------------------------------------------------------------------------

    def append(self, channel: str, data: bytes) -> None:
        """Publish, and deliver to those who follow."""
        offset = self.top(channel).offset + 1
        publication = Publication(Channel(channel), self.epoch, offset, data, True, None, 0)
        self.streams.setdefault(channel, []).append(publication)
        for follower in self.followers:
            if follower.channel == channel:
                session = follower.session
                session.outlet.write(
                    session.codec.publications(channel, [session.codec.publication(publication)])
                )

    def publish(self, session: Session, name: str, post: Post) -> Position | Pending:
        channel = self.channel(session, name)
        if post.key:
            check_idempotency_key(post.key)
        if self.bucket is not None and not self.bucket.take(session.now):
            raise Refused("too_many_requests", "too many requests", after_s=self.bucket.wait_s)
        permission = self.authorize(session, "publish", channel)
        if permission is not None:
            return partial(self._publish_permitted, session, channel, post, permission)
        self._publish(session, channel, post)
        if self.publish_waits is None and self.publish_wait is None:
            return self.top(channel)
        return partial(self._report, channel)

    async def _publish_permitted(
        self, session: Session, channel: Channel, post: Post, permission: Awaitable[None], done: Done
    ) -> None:
        await permission
        self._publish(session, channel, post)
        wait = self._report(channel, done)
        if wait is not None:
            await wait

    def _publish(self, session: Session, channel: Channel, post: Post) -> None:
        keep_order(session, post.key, post.round)
        if self.publish_fails is not None:
            raise self.publish_fails
        self.published.append((channel, post))
        self.append(channel, post.data)

    def _report(self, channel: Channel, done: Done) -> Awaitable[None] | None:
        if self.publish_waits is not None:
            self.publish_waits.append(done)
        else:
            done(self.top(channel))
        return self.publish_wait

    def rpc(self, session: Session, method: str, data: bytes) -> Answer[bytes | None]:
        if method not in self.rpcs:
            raise Refused("method_not_found", "no such method")
        return self._answer(lambda: self.rpcs[method](data))  # type: ignore[no-any-return]

    def send(self, session: Session, data: bytes) -> Answer[None]:
        if not self.listens:
            raise Disconnected("not_available")
        self.sent.append(data)
        return None

    # -- time ------------------------------------------------------------------------------------------------

    def soon(self, work: Callable[[], None]) -> None:
        self.later.append(work)

    def turn(self) -> None:
        """The event loop comes round."""
        later, self.later = self.later, []
        for work in later:
            work()

    def call_at(self, when: float, session: Session) -> Deadline:
        return self.deadlines.at(when, session)

    def failed(self, session: Session, what: str, error: BaseException) -> None:
        self.failures.append((what, error))

    async def next_turn(self) -> None:
        self.turns += 1
        await asyncio.sleep(0)


class Peer:
    """A session and the client at its other end."""

    def __init__(self, port: FakePort | None = None, **limits: Any) -> None:
        self.port = port or FakePort()
        self.outlet = FakeOutlet()
        self.outlet.max_owed_bytes = limits.pop("max_owed_bytes", self.outlet.max_owed_bytes)
        self.now = 100.0
        rate_per_s = limits.pop("publish_rate_per_s", 0)
        if rate_per_s:
            self.port.bucket = TokenBucket(rate_per_s, limits["publish_burst"], self.now)
        self.session = Session(
            self.port, JSON, self.outlet, SessionSettings("test 1", **limits), client="c1", now=self.now
        )
        self._read = 0

    def open(self) -> Any:
        """Connect; the result."""
        (reply,) = self.say({"id": 1, "connect": {}})
        return reply["connect"]

    def send(self, data: bytes) -> Awaitable[None] | None:
        """Send bytes as they are."""
        return self.session.receive(data, self.now)

    def say(self, *commands: object) -> list[Any]:
        """Send commands in one frame, wait for what has to be waited for, and read what came."""
        wait = self.send("\n".join(map(json.dumps, commands)).encode())
        if wait is not None:
            for _ in self.steps(wait):
                pass
        return self.read()

    def steps(self, wait: Awaitable[None]) -> Iterator[None]:
        """Wait, one answer at a time."""
        for _ in wait.__await__():
            yield

    def read(self) -> list[Any]:
        """What has come since it was last read."""
        self.port.turn()
        frames = self.outlet.frames[self._read :]
        self._read = len(self.outlet.frames)
        return [message for frame in frames for message in frame]

    def advance(self, seconds: float) -> None:
        """Time goes by."""
        self.now += seconds
        self.port.deadlines.advance(self.now)

    @property
    def closed(self) -> tuple[int, str] | None:
        return self.outlet.closed


EXPIRED = TokenExpired()
