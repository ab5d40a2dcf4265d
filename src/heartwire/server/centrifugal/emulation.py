"""``POST /emulation``: commands of a connection whose other half is a stream.

The body is ``{"session":…,"node":…,"data":"commands"}``, or Protobuf; the answer is 204.
"""

import asyncio
import logging
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

__all__ = ["PROTOBUF_TYPE", "CommandQueue", "EmulatedConnection", "emulate", "hear_others", "is_protobuf"]

log = logging.getLogger("heartwire")

MAX_WAITING: Final = 1000
"""Emulation requests of one connection that wait for the one before them: centrifuge-js sends a publish in
each, at once."""

MAX_WAITING_BYTES: Final = 1024 * 1024

PROTOBUF_TYPE: Final = "application/octet-stream"

_ON_BUS: Final = "emulation"
_ANSWER_S: Final = 5


def is_protobuf(request: Request) -> bool:
    """Whether a request's body is Protobuf, and so its answer."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == PROTOBUF_TYPE


class CommandQueue:
    """Commands that come in requests of their own: handled one after the other, as they came.

    Args:
        connection: handles them; nothing is handled while it takes no answers.
        turn: returns what to await between two requests that have waited.
        failed: called with what handling raises; nothing is handled any more.
        recount: see `Uploads.recount`; of the requests that wait.
    """

    __slots__ = ("_connection", "_failed", "_frames", "_recount", "_task", "_turn", "_waiting_bytes")

    def __init__(
        self,
        connection: CentrifugalConnection,
        turn: Callable[[], Awaitable[None]],
        failed: Callable[[BaseException], None],
        recount: Callable[[int, int], bool],
    ) -> None:
        self._connection = connection
        self._turn = turn
        self._failed = failed
        self._recount = recount
        self._frames: list[bytes] = []  # a deque of nothing takes 760 bytes
        self._waiting_bytes = 0
        self._task: asyncio.Task[None] | None = None

    def feed(self, data: bytes) -> bool:
        """Take commands; false where too many wait already. One request may wait whatever its size."""
        if self._task is None and not self._connection.paused:
            wait = self._receive(data)
            if wait is not None:
                self._go_on(wait)
            return True
        if self._frames and (
            len(self._frames) >= MAX_WAITING or self._waiting_bytes + len(data) > MAX_WAITING_BYTES
        ):
            return False
        self._frames.append(data)
        if not self._count(len(data)):
            self._frames.pop()
            self._count(-len(data))
            return False
        if self._task is None:
            self._go_on(None)
        return True

    def end(self) -> None:
        """Handle no more, and cancel what is being handled."""
        self._frames.clear()
        self._count(-self._waiting_bytes)
        self._failed = _nothing
        if self._task is not None:  # once it has begun, or what it awaits would not be cancelled
            asyncio.get_running_loop().call_soon(self._task.cancel)

    def _go_on(self, wait: Awaitable[None] | None) -> None:
        self._task = asyncio.ensure_future(self._run(wait))
        self._task.add_done_callback(self._ended)

    async def _run(self, wait: Awaitable[None] | None) -> None:
        """Handle what waits, behind what is being handled."""
        while wait is not None or self._frames:
            if wait is not None:
                await wait
                wait = None
            await self._connection.drained()
            if self._frames:
                await self._turn()
                data = self._frames.pop(0)
                self._count(-len(data))
                wait = self._receive(data)
        self._task = None

    def _ended(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._failed(error)

    def _count(self, size: int) -> bool:
        before = self._waiting_bytes
        self._waiting_bytes += size
        return self._recount(before, self._waiting_bytes)

    def _receive(self, data: bytes) -> Awaitable[None] | None:
        return self._connection.receive(self._connection.session.codec.is_text, data)


def _nothing(error: BaseException) -> None:
    """The connection has ended, so an error of its last command has no reader."""


class EmulatedConnection(CentrifugalConnection):
    """A connection whose commands come by `emulate`."""

    __slots__ = ("commands",)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.commands = CommandQueue(self, self._node.turn, self._fail, self._node.uploads.recount)

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
    limit = node.options.max_frame_bytes
    # JSON in a JSON string: each escape is one byte longer.
    body = await read_body(node, call.request, limit + node.options.max_message_bytes + 2048)
    try:
        session, node_id, data = emulation_request(body) if is_protobuf(call.request) else _read(body)
    except (ValueError, RecursionError) as error:
        raise Refused("bad_request", f"expected a session, a node and data: {error}") from None
    check_message_size(len(data), limit)
    if node_id == node.connections.node_id:
        _feed(node, session, data)
    else:
        await node.bus.ask(node_id, _ON_BUS, (session, data), within_s=_ANSWER_S)
    return Response(status_code=204)


def hear_others(node: Node) -> None:
    """Take what other nodes have got for connections of this one."""

    async def hear(about: tuple[str, bytes]) -> None:
        _feed(node, *about)

    node.bus.handlers[_ON_BUS] = hear


def _feed(node: Node, session: str, data: bytes) -> None:
    connection = node.connections.by_session_id.get(session)
    if isinstance(connection, EmulatedConnection) and not connection.commands.feed(data):
        connection.session.disconnect("too_many_requests")  # what is not taken would be missed
        raise Refused("too_many_requests", f"{MAX_WAITING} requests of this session wait already")


def _read(body: bytes) -> tuple[str, str, bytes]:
    request = _decoder.decode(body)
    return request.session, request.node, request.data.encode()
