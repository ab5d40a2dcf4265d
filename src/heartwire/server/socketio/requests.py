"""Handshakes, polls and posts of Engine.IO, over ASGI.

In: requests to the address. Out: answers of the protocol, errors as it has them.
"""

import asyncio
from typing import Any, Final

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Scope

from heartwire.dialects.socketio.engine_io import (
    BAD_METHOD,
    BAD_REQUEST,
    UNKNOWN_SID,
    Ask,
    Fault,
    check_version,
    error_body,
    problem_of,
)
from heartwire.server.addresses import Call
from heartwire.server.requests import address_of, read_body, watch_client
from heartwire.server.socketio.connection import EngineConnection
from heartwire.server.socketio.server import SocketServer

__all__ = ["answer", "cross_origin"]

_TEXT: Final = "text/plain; charset=UTF-8"
_KEPT: Final = (
    "type",
    "http_version",
    "method",
    "scheme",
    "path",
    "root_path",
    "query_string",
    "headers",
    "client",
    "server",
)


def cross_origin(server: SocketServer, request: HTTPConnection) -> dict[str, str]:
    """The CORS headers of an answer."""
    return server.cors.headers(request.headers.get("origin"), request.headers.get("host", ""))


async def answer(server: SocketServer, call: Call) -> Response:
    """Answer a request."""
    request = call.request
    try:
        server.cors.check(request.headers.get("origin"), request.headers.get("host", ""))
        ask = Ask.of(request.query_params.multi_items(), request.method, is_upgrade=False)
        problem = problem_of(ask, server.settings)
        if problem is not None:
            raise Fault(problem)
        if not ask.sid:
            return _handshake(server, ask, request)
        return await _session(server, ask, request)
    except Fault as fault:
        body = error_body(fault.code, str(fault))
        return Response(body, fault.status, media_type="application/json")


def _handshake(server: SocketServer, ask: Ask, request: Request) -> Response:
    check_version(ask)
    scope = scope_of(request.scope)
    session = server.open(address_of(request), lambda: scope)
    return Response(session.open_polling(), media_type=_TEXT)


async def _session(server: SocketServer, ask: Ask, request: Request) -> Response:
    connection = server.sessions.get(ask.sid)
    if connection is None:
        raise Fault(UNKNOWN_SID)
    if request.method == "GET":
        return await _poll(connection, request)
    if request.method == "POST":
        return await _post(server, connection, request)
    raise Fault(BAD_METHOD)


class _Held:
    """A poll that waits for its answer."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()

    def answer(self, status: int, body: bytes) -> None:
        """See `Reply.answer`."""
        if not self.answered.done():
            self.answered.set_result((status, body))


async def _poll(connection: EngineConnection, request: Request) -> Response:
    held = _Held()
    session = connection.engine
    session.poll(held)
    if not held.answered.done():

        def gone() -> None:
            session.poll_lost(held)
            held.answer(400, error_body(UNKNOWN_SID))

        with watch_client(request, gone):
            try:
                await asyncio.wait([held.answered])
            finally:
                gone()
    return _response(*held.answered.result())


async def _post(server: SocketServer, connection: EngineConnection, request: Request) -> Response:
    session = connection.engine
    if request.headers.get("content-type", "") == "application/octet-stream":
        raise Fault(BAD_REQUEST, "a body of application/octet-stream is of an older protocol")
    if not session.begin_post():
        raise Fault(BAD_REQUEST, "another POST of this session is being read")
    try:
        body = await read_body(server.node, request, server.settings.max_payload_bytes)
        status, said = await session.post(body)
    finally:
        session.end_post()
    return _response(status, said, "text/html")


def _response(status: int, body: bytes, media_type: str = _TEXT) -> Response:
    return Response(body, status, media_type=media_type if status == 200 else "application/json")


def scope_of(scope: Scope) -> dict[str, Any]:
    """What is kept of a request: not what belongs to the server or the application."""
    return {name: scope[name] for name in _KEPT if name in scope}
