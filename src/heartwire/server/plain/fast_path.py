"""Polls and publishes in their simplest form, answered by the front door without request objects.

The plainest form: one channel, no parameters but ``since`` and ``wait``, no page of another origin, and
nobody to be asked who it is. Whatever is not that plain, and every error, takes the way through `app`, which
says the same where both can answer.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from heartwire.channels import to_channel
from heartwire.core.caches import ByteCache
from heartwire.core.link import OwnSink
from heartwire.core.subscription import Subscription
from heartwire.dialects.plain.codec import end_json, page_json, position_json, publication_json
from heartwire.dialects.plain.requests import body_is_text, parse_follow
from heartwire.engines.contract import ReadResult
from heartwire.errors import HeartwireError
from heartwire.hub.identity import ANONYMOUS
from heartwire.hub.node import Node
from heartwire.hub.origins import allows_host
from heartwire.server.addresses import split_path
from heartwire.server.plain.connections import PlainConnection
from heartwire.server.plain.polls import PAGE_BYTES, PAGE_ITEMS
from heartwire.server.responses import refusal
from heartwire.transports.http.front import Facts, FrontProtocol
from heartwire.transports.http.poll import jittered_wait_s
from heartwire.types import Channel, Member, Position, Publication, Start

__all__ = ["STORED", "STORE_S", "FastPath", "refused"]

_NONE: Final[Mapping[str, str]] = {}

_REMEMBERED_BYTES: Final = 1024 * 1024
"""Of paths, and as much of queries."""

STORE_S: Final = 3600
"""The engine answers in its own time."""

_HEAD: Final = (
    b"content-type: application/json\r\nvary: Origin, Accept\r\ncache-control: no-store\r\ncontent-length: "
)


Other = Callable[[FrontProtocol, bytes, bytes, bytes, Facts, bytes], bool]
"""Another dialect's answer, given method, path, query and body: see `FrontDoor.try_answer`."""


class FastPath:
    """`FrontDoor` to one hub at the root of its server.

    Args:
        other: what is not for a channel is passed to it.
        has_channels: whether channels have addresses.
    """

    def __init__(self, node: Node, other: Other, *, has_channels: bool = True) -> None:
        self._node = node
        self._has_channels = has_channels
        self._other = other
        self._channels: ByteCache[Channel] = ByteCache(_REMEMBERED_BYTES)
        self._queries: ByteCache[tuple[Start, float]] = ByteCache(_REMEMBERED_BYTES)
        self._held: dict[Channel, _HeldPolls] = {}

    def try_answer(
        self, front: FrontProtocol, method: bytes, target: bytes, facts: Facts, body: bytes
    ) -> bool:
        """See `FrontDoor.try_answer`."""
        node = self._node
        if node.authenticator is not None or node.draining or not node.is_started:
            return False
        if node.hosts is not None and not allows_host(facts.host, node.hosts):
            return False
        path, _, query = target.partition(b"?")
        channel = self._channels.get(path) or self._channel(path)
        try:
            if channel is None:
                return self._other(front, method, path, query, facts, body)
            if facts.origin is not None:
                return False
            if method == b"POST":
                return not query and self._publish(front, channel, facts, body)
            return not body and "text/event-stream" not in facts.accept and self._poll(front, channel, query)
        except HeartwireError:
            return False  # the ordinary way answers it

    def _channel(self, path: bytes) -> Channel | None:
        if not self._has_channels or not path.startswith(b"/channels/"):
            return None
        parts = split_path(path.decode("latin-1"))
        if len(parts) != 2:
            return None
        try:
            return self._channels.remember(path, to_channel(parts[1]))
        except HeartwireError:
            return None

    # -- publish ---------------------------------------------------------------------------------------------

    def _publish(self, front: FrontProtocol, channel: Channel, facts: Facts, data: bytes) -> bool:
        node = self._node
        if node.options.publish_rate_per_s or node.namespaces.asks(channel, "publish"):
            return False
        is_text = body_is_text(facts.content_type, data)
        answer = node.publishing.publish(None, channel, is_text, data)
        if isinstance(answer, Position):
            front.answer(_ok(front, position_json(str(answer))))
        else:
            assert isinstance(answer, asyncio.Future)  # nobody is asked
            front.wait(STORED, STORE_S)
            answer.add_done_callback(partial(_published, front))
        return True

    # -- poll ------------------------------------------------------------------------------------------------

    def _poll(self, front: FrontProtocol, channel: Channel, query: bytes) -> bool:
        node = self._node
        parsed = self._queries.get(query) or self._parse(query)
        if parsed is None or (parsed[1] and node.options.max_connections_per_address):
            return False
        start, wait_s = parsed
        held = self._held.get(channel)
        if held is not None and wait_s and held.position == start:
            held.add(front, wait_s)
            return True
        if node.namespaces.asks(channel, "subscribe"):
            return False
        topic = node.switchboard.topics.get(channel)
        if (
            topic is not None
            and isinstance(start, Position)
            and start == topic.position
            and topic.covers(start)
            and topic.end is None
        ):
            if wait_s:
                _HeldPolls(node, self._held, channel, start).begin(front, wait_s)
                return True
            return self._settle(front, channel, 0, ReadResult(start, [], start, True))
        if node.pages.is_spent:
            front.wait(STORED, STORE_S)
            node.pages.when_left(partial(self._begin_read, front, channel, start, wait_s))
            return True
        answer = node.history.read(channel, start, limit=PAGE_ITEMS, max_bytes=PAGE_BYTES)
        if isinstance(answer, ReadResult):
            return self._settle(front, channel, wait_s, answer)
        front.wait(STORED, STORE_S)
        answer.add_done_callback(partial(self._read, front, channel, wait_s))
        return True

    def _begin_read(self, front: FrontProtocol, channel: Channel, start: Start, wait_s: float) -> None:
        """Read after others' large answers, for a client that waits."""
        if front.waiting is None:
            return
        future: asyncio.Future[ReadResult] = self._node.loop.create_future()
        try:
            answer = self._node.history.read(channel, start, limit=PAGE_ITEMS, max_bytes=PAGE_BYTES)
            if isinstance(answer, ReadResult):
                future.set_result(answer)
            else:
                future = answer
        except HeartwireError as error:
            future.set_exception(error)
        if future.done():
            self._read(front, channel, wait_s, future)
        else:
            future.add_done_callback(partial(self._read, front, channel, wait_s))

    def _parse(self, query: bytes) -> tuple[Start, float] | None:
        given = _parameters(query)
        if given is None:
            return None
        follow = parse_follow(("_",), given, max_channels=1, is_multi=False)
        return self._queries.remember(query, (next(iter(follow.starts.values())), follow.wait_s))

    def _read(
        self, front: FrontProtocol, channel: Channel, wait_s: float, answer: "asyncio.Future[ReadResult]"
    ) -> None:
        if front.waiting is None:
            return
        try:
            self._settle(front, channel, wait_s, answer.result())
        except HeartwireError as error:
            front.answer(refused(front, error))

    def _settle(self, front: FrontProtocol, channel: Channel, wait_s: float, result: ReadResult) -> bool:
        """Answer with the publications there are, or wait for the next."""
        if wait_s and not result.publications and result.recovered and result.end is None:
            self._hold(front, channel, wait_s, result.start)
            return True
        last = result.publications[-1].position if result.publications else result.start
        ends: Sequence[bytes] = ()
        if result.end is not None:
            last, ends = result.end.position, (end_json(result.end),)
        page = _page(front, list(map(publication_json, result.publications)), last, result.recovered, ends)
        self._node.pages.spend(len(page))
        front.answer(page)
        return True

    def _hold(self, front: FrontProtocol, channel: Channel, wait_s: float, position: Position) -> None:
        held = self._held.get(channel)
        if held is not None and held.position == position:
            held.add(front, wait_s)
        else:
            _HeldPolls(self._node, self._held, channel, position).begin(front, wait_s)


class _HeldPolls(OwnSink, PlainConnection):
    """The polls that wait for what follows one position of a channel: a `Link` whose first payload answers
    them all."""

    __slots__ = (
        "_channel",
        "_fronts",
        "_held",
        "_node",
        "member",
        "paused",
        "position",
        "serial",
        "since",
        "subscriptions",
    )

    address = ""
    identity = ANONYMOUS
    transport = "longpoll"

    def __init__(
        self, node: Node, held: "dict[Channel, _HeldPolls]", channel: Channel, position: Position
    ) -> None:
        self.serial = node.connections.next_serial()
        self.since = node.clocks.monotonic()
        self.position = position
        self.member: Member | None = None
        self.paused = False
        self.subscriptions: list[Subscription] = []
        self._channel = channel
        self._fronts: dict[FrontProtocol, None] = {}
        self._held = held
        self._node = node

    def begin(self, front: FrontProtocol, wait_s: float) -> None:
        """Hold the first poll. Raises `LimitExceeded`."""
        self._node.connections.add(self)  # which counts this poll; `add` counts the others
        self._put(front, wait_s)
        self._held[self._channel] = self
        self._node.presence.follow(self, self._channel, _FORMAT, self.position)
        if not self._fronts:  # answered while it began to follow
            self._node.presence.unfollow_all(self)

    def add(self, front: FrontProtocol, wait_s: float) -> None:
        """Hold one more poll. Raises `LimitExceeded`."""
        self._node.admission.add(self.address)
        self._put(front, wait_s)

    def _put(self, front: FrontProtocol, wait_s: float) -> None:
        self._fronts[front] = None
        front.wait(self, jittered_wait_s(wait_s, self._node.clocks.chance))

    @property
    def id(self) -> str:
        """See `Connection.id`."""
        return self._node.connections.id_of(self.serial)

    @property
    def link(self) -> "_HeldPolls":  # type: ignore[override]
        """See `PlainConnection`."""
        return self

    def write(self, payload: bytes) -> None:
        """See `Link.write`."""
        fronts, self._fronts = self._fronts, {}
        if fronts:
            self._end(len(fronts))
            answer = b"HTTP/1.1 200 OK\r\n" + next(iter(fronts)).date + payload
            for front in fronts:
                front.answer(answer)

    def close(self, code: int, reason: str) -> None:
        """See `Link.close`. There is nothing to report: its position still holds."""
        for front in tuple(self._fronts):
            self.time_out(front)

    def gone(self, front: FrontProtocol) -> None:
        """See `Waiting.gone`."""
        del self._fronts[front]
        if self._fronts:
            self._node.admission.remove(self.address)
        else:
            self._end(1)

    def time_out(self, front: FrontProtocol) -> None:
        """See `Waiting.time_out`."""
        self.gone(front)
        front.answer(_page(front, [], self.position, True))

    def _end(self, count: int) -> None:
        """Hold nothing any more, of what were ``count`` polls."""
        if self._held.get(self._channel) is self:
            del self._held[self._channel]
        if count > 1:
            self._node.admission.remove(self.address, count - 1)
        self._node.connections.remove(self)
        self._node.presence.unfollow_all(self)


class _HeldFormat:
    """`WireFormat` of the answers to held polls: the whole answer but its first line and date."""

    encode: Callable[[Publication], bytes] = staticmethod(publication_json)

    def join(self, frames: list[bytes], last: Publication) -> bytes:
        """See `WireFormat.join`."""
        return _page_rest(frames, last.position, True)

    def joined(self, channel: Channel, position: Position, *, recovered: bool) -> bytes | None:
        """See `WireFormat.joined`: a gap is an answer; what is kept comes with the next poll."""
        return None if recovered else _page_rest([], position, False)

    def ended(self, end: Publication) -> bytes:
        """See `WireFormat.ended`."""
        return _page_rest([], end.position, True, (end_json(end),))


_FORMAT: Final = _HeldFormat()


class _Stored:
    """`Waiting` for the engine, which cannot be called off."""

    def gone(self, front: FrontProtocol) -> None:
        """See `Waiting.gone`."""

    def time_out(self, front: FrontProtocol) -> None:
        """See `Waiting.time_out`."""


STORED: Final = _Stored()
"""Wait for it for `STORE_S`."""


def _published(front: FrontProtocol, answer: "asyncio.Future[Position]") -> None:
    if front.waiting is None:
        return
    try:
        front.answer(_ok(front, position_json(str(answer.result()))))
    except HeartwireError as error:
        front.answer(refused(front, error))


def _parameters(query: bytes) -> dict[str, str] | None:
    """The parameters of a plain poll; None where there are others, or encoded ones."""
    given: dict[str, Any] = {}
    if query:
        if b"%" in query or b"+" in query:
            return None
        for pair in query.decode("latin-1").split("&"):
            name, _, value = pair.partition("=")
            if name not in ("since", "wait"):
                return None
            given[name] = value
    return given


def _ok(front: FrontProtocol, body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\n%b%b%d\r\n\r\n%b" % (front.date, _HEAD, len(body), body)


def _page(
    front: FrontProtocol,
    publications: list[bytes],
    position: Position,
    recovered: bool,
    ends: Sequence[bytes] = (),
) -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + front.date + _page_rest(publications, position, recovered, ends)


def _page_rest(
    publications: list[bytes], position: Position, recovered: bool, ends: Sequence[bytes] = ()
) -> bytes:
    token = str(position)
    body = page_json(publications, token, recovered=recovered, ends=ends)
    return b'%b%d\r\netag: "%b"\r\n\r\n%b' % (_HEAD, len(body), token.encode(), body)


def refused(front: FrontProtocol, error: HeartwireError, others: Mapping[str, str] = _NONE) -> bytes:
    """An error as a whole response, with some more headers."""
    response = refusal(error)
    response.headers.update(others)
    lines = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
    return b"HTTP/1.1 %d Refused\r\n%b%b\r\n%b" % (
        response.status_code,
        front.date,
        lines,
        bytes(response.body),
    )
