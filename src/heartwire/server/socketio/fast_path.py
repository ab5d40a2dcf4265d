"""Polls and posts of sessions of this node, answered by the front door without request objects.

Handshakes, errors that are known at once, requests for sessions of other nodes and all doubts take the
ordinary way, through `requests`.
"""

import asyncio
import re
from collections.abc import Awaitable
from typing import Final

from heartwire.core.waiting import begun
from heartwire.dialects.socketio.engine_io import BAD_REQUEST, UNKNOWN_SID, Fault, error_body
from heartwire.dialects.socketio.engine_session import EngineSession
from heartwire.hub.node import Node
from heartwire.server.socketio.bodies import compressed
from heartwire.server.socketio.server import SocketServer
from heartwire.transports.http.front import Facts, FrontProtocol

__all__ = ["FastPolls"]

_QUERY: Final = re.compile(rb"(?:[A-Za-z0-9_]+=[A-Za-z0-9_.~-]*&?)+")
_SID: Final = re.compile(rb"(?:^|&)sid=([A-Za-z0-9_.~-]+)")

_TEXT: Final = b"content-type: text/plain; charset=UTF-8\r\ncache-control: no-store\r\n"
_OK: Final = b"content-type: text/html; charset=utf-8\r\ncache-control: no-store\r\n"
_ERROR: Final = b"content-type: application/json\r\ncache-control: no-store\r\n"

_SLACK_S: Final = 30
"""A session that pings, or ends, answers a poll before its time and this are over."""

_POST_S: Final = 3600
"""Handlers answer in their own time."""


class FastPolls:
    """The polls and posts to one node at the root of its server."""

    def __init__(self, node: Node) -> None:
        self._node = node
        path = node.options.socketio_path.encode()
        self._paths = (path, path + b"/") if path else ()
        self._tasks: set[asyncio.Task[None]] = set()

    def try_answer(
        self, front: FrontProtocol, method: bytes, path: bytes, query: bytes, facts: Facts, body: bytes
    ) -> bool:
        """Answer a request, now or later; False leaves it to `app`."""
        server = self._node.attached.get("socketio")
        if path not in self._paths or not isinstance(server, SocketServer):
            return False
        found = _SID.search(query)
        if found is None or b"transport=polling" not in query or not _QUERY.fullmatch(query):
            return False
        if query.count(b"sid=") > 1 or query.count(b"transport=") > 1:
            return False
        connection = server.sessions.get(found[1].decode())
        if connection is None or "polling" not in server.settings.transports:
            return False
        cors = _cors(server, facts)
        if cors is None:
            return False
        session = connection.engine
        if method == b"GET":
            return not body and self._poll(server, front, session, facts, cors)
        is_old = facts.content_type == "application/octet-stream"
        if method != b"POST" or is_old or len(body) > server.settings.max_payload_bytes:
            return False
        self._post(front, session, body, cors)
        return True

    def _poll(
        self, server: SocketServer, front: FrontProtocol, session: EngineSession, facts: Facts, cors: bytes
    ) -> bool:
        poll = _FrontPoll(front, session, server.settings.compression_threshold, facts.accept_encoding, cors)
        settings = server.settings
        front.wait(poll, settings.ping_interval_s + settings.ping_timeout_s + _SLACK_S)
        session.poll(poll)
        return True

    def _post(self, front: FrontProtocol, session: EngineSession, body: bytes, cors: bytes) -> None:
        if not session.begin_post():
            said = error_body(BAD_REQUEST, "another POST of this session is being read")
            front.answer(_response(front, 400, _ERROR + cors, said))
            return
        post = _FrontPost(session)
        front.wait(post, _POST_S)
        rest = begun(_posted(front, session, body, cors))
        if rest is not None:
            task = asyncio.ensure_future(_finish(rest))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


async def _posted(front: FrontProtocol, session: EngineSession, body: bytes, cors: bytes) -> None:
    try:
        status, said = await session.post(body)
    finally:
        session.end_post()
    front.answer(_response(front, status, (_OK if status == 200 else _ERROR) + cors, said))


async def _finish(rest: Awaitable[None]) -> None:
    await rest


class _FrontPost:
    """A POST whose handlers take their time. It is `Waiting`: its client may go, and nothing is undone."""

    __slots__ = ("_session",)

    def __init__(self, session: EngineSession) -> None:
        self._session = session

    def gone(self, front: FrontProtocol) -> None:
        """See `Waiting.gone`."""

    def time_out(self, front: FrontProtocol) -> None:
        """See `Waiting.time_out`."""


class _FrontPoll:
    """A poll that is held: the session's `Reply`, and `Waiting`."""

    __slots__ = ("_accepts", "_cors", "_front", "_session", "_threshold")

    def __init__(
        self, front: FrontProtocol, session: EngineSession, threshold: int | None, accepts: str, cors: bytes
    ) -> None:
        self._front: FrontProtocol | None = front
        self._session = session
        self._threshold = threshold
        self._accepts = accepts
        self._cors = cors

    def answer(self, status: int, body: bytes) -> None:
        """See `Reply.answer`."""
        front, self._front = self._front, None
        if front is None:
            return
        if status != 200:
            front.answer(_response(front, status, _ERROR + self._cors, body))
            return
        head = _TEXT + self._cors
        if self._threshold is not None and len(body) >= self._threshold:
            body, coding = compressed(body, self._threshold, self._accepts)
            head += f"content-encoding: {coding}\r\n".encode() if coding else b""
        front.answer(_response(front, 200, head, body))

    def gone(self, front: FrontProtocol) -> None:
        """See `Waiting.gone`."""
        self._front = None
        self._session.poll_lost(self)

    def time_out(self, front: FrontProtocol) -> None:
        """See `Waiting.time_out`. A client that sends no more is gone, as far as the protocol goes."""
        self._session.poll_lost(self)
        self.answer(400, error_body(UNKNOWN_SID))


def _cors(server: SocketServer, facts: Facts) -> bytes | None:
    """The header lines for a page; ``None`` where it is refused, or a function is to be asked, which may
    fail."""
    if facts.origin is None:
        return b""
    if server.cors.asks:
        return None
    try:
        server.cors.check(facts.origin, facts.host)
    except Fault:
        return None
    headers = server.cors.headers(facts.origin, facts.host)
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).encode("latin-1")


def _response(front: FrontProtocol, status: int, head: bytes, body: bytes) -> bytes:
    line = b"200 OK" if status == 200 else b"400 Bad Request"
    return b"HTTP/1.1 %b\r\n%b%bcontent-length: %d\r\n\r\n%b" % (line, front.date, head, len(body), body)
