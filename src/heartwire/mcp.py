"""For servers of the Model Context Protocol: an `EventStore` of the MCP Python SDK, on a hub.

    store = heartwire.mcp.EventStore(hub)
    app = store.wrap(server.streamable_http_app(event_store=store))

A client that was cut off continues where it was, also after a restart of the server, and on any worker where
the hub's store is shared. A call whose worker is gone ends with an error, after all that it had said.
"""

import logging
from collections.abc import AsyncIterator
from contextvars import ContextVar
from hashlib import blake2b
from typing import Any, Final, NamedTuple
from urllib.parse import quote, unquote

import msgspec
from mcp.server.streamable_http import EventCallback, EventMessage
from mcp.server.streamable_http import EventStore as _EventStore
from mcp.types import JSONRPCMessage
from pydantic import TypeAdapter
from starlette.datastructures import Headers
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as AsgiMessage

from heartwire.channels import to_channel
from heartwire.core.switchboard import ReadResult
from heartwire.core.waiting import settled
from heartwire.engines.contract import shared_engine
from heartwire.errors import HeartwireError, Refused
from heartwire.hub.hub import Hub
from heartwire.messages import to_json
from heartwire.streams.record import Claim, Producer, Step, StreamOptions
from heartwire.types import Channel, Message, Position, Publication

__all__ = ["EventStore"]

log = logging.getLogger("heartwire")

_PAGE: Final = 256
_PAGE_BYTES: Final = 64 * 1024
_STANDALONE: Final = "_GET_stream"  # the SDK's name for what belongs to no request
_GONE: Final = {"code": -32000, "message": "the worker that had this call is gone"}
_read: Final = TypeAdapter[Any](JSONRPCMessage).validate_json


class _Session:
    """The session of a request, or of all that is done for a session: that began with its first request.

    Attributes:
        unkept: streams of which a message was not kept.
    """

    def __init__(self, scope: Scope, namespace: str) -> None:
        self._scope, self._namespace = scope, namespace
        self.id = Headers(scope=scope).get("mcp-session-id", "")
        self.unkept: set[str] = set()

    def channel(self, *stream: str) -> Channel:
        """The channel of one of its streams, or of its record. Without its id and credentials there is no way
        to it."""
        token: Any = getattr(self._scope.get("user"), "access_token", None)
        whose = None if token is None else [token.client_id, getattr(token, "subject", None)]
        name = blake2b(to_json([self.id, whose, *stream]), digest_size=24).hexdigest()
        return to_channel(f"{self._namespace}:{name}")


_session: Final = ContextVar[_Session]("heartwire.mcp")


class _Found(NamedTuple):
    """A stream, and what it has after some event."""

    id: str
    channel: Channel
    result: ReadResult


class EventStore(_EventStore):
    """See the module.

    Args:
        hub: keeps the events. It runs in the server's event loop.
        namespace: its channels, which clients of the hub cannot use, hold a stream for each request.
        ttl_s: seconds after the last use of a stream that it is forgotten.
        max_stream_bytes: of one stream; the rest of a longer one cannot be resumed.

    Promises: an event has an id once it is kept. Ids are worth nothing in another session, nor with other
    credentials than the session began with. Where the hub's store is away, messages go on without ids.
    """

    def __init__(
        self,
        hub: Hub,
        *,
        namespace: str = "mcp",
        ttl_s: float = 3600,
        max_stream_bytes: int = 16 * 1024 * 1024,
    ) -> None:
        self._hub = hub
        self._node = hub.node
        self._namespace = namespace
        self._options = StreamOptions(content_type="application/json", ttl_s=ttl_s)
        hub.namespace(namespace, durable=True, stream_ttl_s=ttl_s, max_stream_bytes=max_stream_bytes)(
            lambda identity, action, channel: False
        )

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """The SDK's application, as it has to be served: so the store knows the session of each request, and
        answers for sessions of other workers and times, which the SDK does not know."""

        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            await self._hub.start()
            session = _Session(scope, self._namespace)
            _session.set(session)
            await self._serve(app, session, scope, receive, send)

        return wrapped

    # -- what the SDK calls ----------------------------------------------------------------------------------

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        """Keep a message, or just begin its stream (``None``). Returns its id; "": it is not kept."""
        session = _session.get(None)
        if session is None:
            raise RuntimeError("EventStore: serve store.wrap(app), not the SDK's app itself")
        if not session.id or stream_id in session.unkept:
            return ""  # nobody could ask for it yet; or it would follow a hole
        if message is None:
            return _event_id(stream_id, await self._keep(session.channel(stream_id), []))
        written = message.model_dump_json(by_alias=True, exclude_unset=True).encode()
        try:
            return _event_id(stream_id, await self._keep(session.channel(stream_id), [Message(written)]))
        except HeartwireError as error:  # raised to the SDK, it would end the session
            log.warning("a message of MCP is not kept, and cannot be resumed: %s", error)
            session.unkept.add(stream_id)
            return ""

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        """Send what a stream of this session has after an id. Returns its name; ``None``: there is none."""
        found = await self._find(_session.get(), last_event_id)
        if found is None:
            return None
        async for one in self._rest(found):
            await send_callback(EventMessage(_read(one.data), _event_id(found.id, one.position)))
        return found.id

    # -- streams ---------------------------------------------------------------------------------------------

    async def _keep(self, channel: Channel, messages: list[Message]) -> Position:
        streams = self._node.streams
        if messages:
            try:
                return (await streams.append(channel, messages))[1]
            except Refused as refused:
                if refused.code.name != "stream_not_found":
                    raise
        is_new, seen = await streams.create(channel, self._options, messages)
        return seen.tail if is_new or not messages else (await streams.append(channel, messages))[1]

    async def _find(self, session: _Session, event_id: str) -> _Found | None:
        token, _, quoted = event_id.partition("@")
        stream_id = unquote(quoted)
        try:
            channel, after = session.channel(stream_id), Position.parse(token)
        except (TypeError, ValueError):
            return None
        self._node.streams.touch(channel)
        result = await self._read(channel, after)
        return _Found(stream_id, channel, result) if result.recovered else None

    async def _read(self, channel: Channel, after: Position) -> ReadResult:
        return await settled(self._node.history.read(channel, after, limit=_PAGE, max_bytes=_PAGE_BYTES))

    async def _rest(self, found: _Found) -> AsyncIterator[Publication]:
        result = found.result
        while result.publications:
            for one in result.publications:
                yield one
            result = await self._read(found.channel, result.publications[-1].position)

    # -- sessions of other workers and times -----------------------------------------------------------------

    async def _serve(
        self, app: ASGIApp, session: _Session, scope: Scope, receive: Receive, send: Send
    ) -> None:
        last_id = Headers(scope=scope).get("last-event-id", "") if scope["method"] == "GET" else ""
        is_resumable = bool(last_id and session.id)
        held: list[AsgiMessage] = []

        async def watched(message: AsgiMessage) -> None:
            if message["type"] == "http.response.start":
                await self._hear(session, scope["method"], message)
            if held or (is_resumable and message.get("status") == 404):
                held.append(message)
            else:
                await send(message)

        await app(scope, receive, watched)
        found = await self._find_elsewhere(session, last_id) if held else None
        if found is not None:
            headers = {"Cache-Control": "no-cache, no-transform", "mcp-session-id": session.id}
            response = StreamingResponse(self._events(found), 200, headers, "text/event-stream")
            await response(scope, receive, send)
            return
        for message in held:
            await send(message)

    async def _hear(self, session: _Session, method: str, start: AsgiMessage) -> None:
        """A session begins with the first answer that names it, and ends with a DELETE. In between its record
        says which node has it."""
        if start["status"] != 200:
            return
        try:
            if not session.id:
                session.id = Headers(raw=start["headers"]).get("mcp-session-id", "")
                owner = self._node.connections.node_id
                if session.id:
                    await self._node.streams.create(session.channel(), self._options, owner=owner)
            elif method == "DELETE":
                await self._node.streams.change(
                    session.channel(), lambda record, now_ms: Step(None, (), None)
                )
            else:
                self._node.streams.touch(session.channel())
        except HeartwireError as error:
            log.warning("a session of MCP cannot be resumed: %s", error)

    async def _find_elsewhere(self, session: _Session, last_id: str) -> _Found | None:
        """The rest of a stream of a session that is not here; ``None``: the session has ended, or nothing can
        come of it any more."""
        try:
            owner = (await self._node.streams.look(session.channel())).record.owner
        except Refused:
            return None
        found = await self._find(session, last_id)
        shared = shared_engine(self._node.engine)
        is_there = shared is not None and owner != shared.node and owner in await shared.nodes()
        if found is None or is_there:
            return found
        if found.id == _STANDALONE:
            return found if found.result.publications else None
        await self._end(found)
        return await self._find(session, last_id)

    async def _end(self, found: _Found) -> None:
        """Answer a request whose worker is gone, once, if nobody has."""
        head = found.result.head
        if head.offset:
            last = await self._read(found.channel, Position(head.epoch, head.offset - 1))
            if all("method" not in msgspec.json.decode(one.data) for one in last.publications):
                return
        number = int(found.id) if found.id.isdecimal() else found.id
        error = Message(to_json({"jsonrpc": "2.0", "id": number, "error": _GONE}))
        await self._node.streams.append(found.channel, [error], Claim(producer=Producer("end", 0, 0)))

    async def _events(self, found: _Found) -> AsyncIterator[bytes]:
        """An event stream. A client that it leaves without an answer comes back and asks again."""
        yield b":\n\n"
        async for one in self._rest(found):
            yield b"id: %b\ndata: %b\n\n" % (_event_id(found.id, one.position).encode(), one.data)


def _event_id(stream_id: str, position: Position) -> str:
    return f"{position}@{quote(stream_id, safe='')}"
