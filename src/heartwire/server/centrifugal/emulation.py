"""``POST /emulation``: commands of a connection whose other half is a stream.

The body is ``{"session":…,"node":…,"data":"commands"}``, or Protobuf; the answer is 204.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from heartwire.dialects.centrifugal.protobuf_codec import emulation_request
from heartwire.errors import Refused
from heartwire.hub.node import Node
from heartwire.messages import check_message_size
from heartwire.server.addresses import Call
from heartwire.server.centrifugal.connection import CentrifugalConnection
from heartwire.server.requests import read_body

__all__ = ["PROTOBUF_TYPE", "CommandQueue", "EmulatedConnection", "emulate", "is_protobuf"]

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
        connection: handles them; nothing is handled while it takes no answers.
        turn: returns what to await between two requests that have waited.
    """

    def __init__(self, connection: CentrifugalConnection, turn: Callable[[], Awaitable[None]]) -> None:
        self._connection = connection
        self._turn = turn
        self._frames: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._wait: Awaitable[None] | None = None
        self._wake = asyncio.Event()

    def feed(self, data: bytes) -> bool:
        """Take commands; false where too many wait already. One request may wait whatever its size."""
        if self._wait is None and not self._frames and not self._connection.paused:
            self._receive(data)
            if self._wait is None:
                return True
        elif self._frames and (
            len(self._frames) >= MAX_WAITING or self._waiting_bytes + len(data) > MAX_WAITING_BYTES
        ):
            return False
        else:
            self._frames.append(data)
            self._waiting_bytes += len(data)
        self._wake.set()
        return True

    async def run(self) -> None:
        """Handle the waiting commands, until cancelled."""
        while True:
            await self._wake.wait()
            while self._wait is not None or self._frames:
                if self._wait is not None:
                    await self._wait
                    self._wait = None
                await self._connection.drained()
                if self._frames:
                    await self._turn()
                    self._next()
            self._wake.clear()

    def _next(self) -> None:
        data = self._frames.popleft()
        self._waiting_bytes -= len(data)
        self._receive(data)

    def _receive(self, data: bytes) -> None:
        self._wait = self._connection.receive(self._connection.session.codec.is_text, data)


class EmulatedConnection(CentrifugalConnection):
    """A connection whose commands come by `emulate`."""

    __slots__ = ("commands",)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.commands = CommandQueue(self, self._node.turn)


class _Emulation(msgspec.Struct):
    session: str = ""
    node: str = ""
    data: str = ""


_decoder: Final = msgspec.json.Decoder(_Emulation)


async def emulate(node: Node, call: Call) -> Response:
    """Answer ``POST /emulation``. A session that is gone is not an error: its client knows, or soon will."""
    limit = node.options.max_frame_bytes
    # JSON in a JSON string: each escape is one byte longer.
    body = await read_body(node, call.request, limit + node.options.max_message_bytes + 2048)
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
