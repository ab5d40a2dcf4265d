"""``POST /emulation``: commands of a connection whose other half is a stream.

The body is ``{"session":…,"node":…,"data":"commands"}``, or Protobuf; the answer is 204.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from heartwire.codes import close_code
from heartwire.dialects.centrifugal.protobuf_codec import emulation_request
from heartwire.errors import Refused
from heartwire.hub.node import Node
from heartwire.messages import check_message_size
from heartwire.server.addresses import Call
from heartwire.server.centrifugal.connection import CentrifugalConnection
from heartwire.server.requests import read_body

__all__ = ["PROTOBUF_TYPE", "CommandQueue", "EmulatedConnection", "emulate", "is_protobuf"]

log = logging.getLogger("heartwire")

MAX_WAITING: Final = 1000
"""Emulation requests of one connection that wait for the one before them: centrifuge-js sends a publish in
each, at once."""

MAX_WAITING_BYTES: Final = 1024 * 1024

PROTOBUF_TYPE: Final = "application/octet-stream"


def is_protobuf(request: Request) -> bool:
    """Whether a request's body is Protobuf, and so its answer."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == PROTOBUF_TYPE


class CommandQueue:
    """Commands that come in requests of their own: handled one after the other, as they came.

    Args:
        receive: handles one request's commands; see `CentrifugalConnection.receive`.
        failed: called with what ``receive``'s awaitable raises; nothing is handled any more.
    """

    __slots__ = ("_failed", "_frames", "_is_text", "_receive", "_task", "_waiting_bytes")

    def __init__(
        self,
        receive: Callable[[bool, bytes], Awaitable[None] | None],
        failed: Callable[[BaseException], None],
        *,
        is_text: bool,
    ) -> None:
        self._receive = receive
        self._failed = failed
        self._is_text = is_text
        self._frames: deque[bytes] | None = None  # an empty one takes 760 bytes
        self._waiting_bytes = 0
        self._task: asyncio.Future[None] | None = None

    def feed(self, data: bytes) -> bool:
        """Take commands; false where too many wait already."""
        if self._task is None:
            self._handle(data)
            return True
        frames = self._frames = self._frames or deque()
        if len(frames) >= MAX_WAITING or self._waiting_bytes + len(data) > MAX_WAITING_BYTES:
            return False
        frames.append(data)
        self._waiting_bytes += len(data)
        return True

    def end(self) -> None:
        """Handle no more."""
        self._frames = None
        if self._task is not None:
            self._task.cancel()

    def _handle(self, data: bytes) -> None:
        wait = self._receive(self._is_text, data)
        if wait is not None:
            self._task = asyncio.ensure_future(wait)
            self._task.add_done_callback(self._handled)

    def _handled(self, task: "asyncio.Future[None]") -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._failed(error)
            return
        self._task = None
        while self._frames and self._task is None:
            data = self._frames.popleft()
            self._waiting_bytes -= len(data)
            self._handle(data)


class EmulatedConnection(CentrifugalConnection):
    """A connection whose commands come by `emulate`."""

    __slots__ = ("commands",)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.commands = CommandQueue(self.receive, self._fail, is_text=self.session.codec.is_text)

    def lost(self) -> None:
        """See `CentrifugalConnection.lost`."""
        self.commands.end()
        super().lost()

    def _fail(self, error: BaseException) -> None:
        log.error("commands could not be handled", exc_info=error)
        self.link.close(close_code("internal"), "internal server error")


class _Emulation(msgspec.Struct):
    session: str = ""
    node: str = ""
    data: str = ""


_decoder: Final = msgspec.json.Decoder(_Emulation)


async def emulate(node: Node, call: Call) -> Response:
    """Answer ``POST /emulation``. A session that is gone is not an error: its client knows, or soon will."""
    limit = node.options.max_message_bytes
    # JSON in a JSON string is longer than it is by itself.
    body = await read_body(node, call.request, 2 * limit + 1024)
    try:
        session, node_id, data = emulation_request(body) if is_protobuf(call.request) else _read(body)
    except (ValueError, RecursionError) as error:
        raise Refused("bad_request", f"expected a session, a node and data: {error}") from None
    check_message_size(len(data), limit)
    if node_id != node.connections.node_id:
        raise Refused("not_found", f"node {node_id[:64]!r} is not this one: come back with a new connection")
    connection = node.connections.by_session_id.get(session)
    if isinstance(connection, EmulatedConnection) and not connection.commands.feed(data):
        connection.session.disconnect("too_many_requests")  # what is not taken would be missed
        raise Refused("too_many_requests", f"{MAX_WAITING} requests of this session wait already")
    return Response(status_code=204)


def _read(body: bytes) -> tuple[str, str, bytes]:
    request = _decoder.decode(body)
    return request.session, request.node, request.data.encode()
