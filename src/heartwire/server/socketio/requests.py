"""Handshakes, polls and posts of Engine.IO, over ASGI.

In: requests to the address. Out: answers of the protocol, errors as it has them.
"""

import asyncio
from typing import Any, Final

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

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
from heartwire.server.socketio.bodies import TEXT, compressed
from heartwire.server.socketio.connection import EngineConnection
from heartwire.server.socketio.environ import KeptRequest, is_python
from heartwire.server.socketio.nodes import GONE, HeldPoll
from heartwire.server.socketio.server import SocketServer

__all__ = ["answer", "cross_origin"]

_PYTHON_PACKETS: Final = 16
"""More than so many in one payload make python-engineio's client end the connection."""


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
    session = server.open(address_of(request), KeptRequest.of_scope(request.scope))
    if is_python(request.headers.get("user-agent", "")):
        session.max_packets = _PYTHON_PACKETS
    response = Response(session.open_polling(), media_type=TEXT)
    if server.settings.cookie is not None:
        response.headers["set-cookie"] = _cookie(session.sid, *server.settings.cookie)
    return response


def _cookie(sid: str, name: str, attributes: dict[str, Any]) -> str:
    """A cookie with the sid; an attribute is text, true, or a function that returns one of them."""
    parts = [f"{name}={sid}"]
    for attribute, given in attributes.items():
        value = given() if callable(given) else given
        if value is True:
            parts.append(attribute)
        elif value is not False and value is not None:
            parts.append(f"{attribute}={value}")
    return "; ".join(parts)


async def _session(server: SocketServer, ask: Ask, request: Request) -> Response:
    connection = server.sessions.get(ask.sid)
    if connection is None:
        return await _elsewhere(server, ask.sid, request)
    if request.method == "GET":
        return await _poll(connection, request, server.settings.compression_threshold)
    if request.method == "POST":
        return await _post(server, connection, request)
    raise Fault(BAD_METHOD)


async def _elsewhere(server: SocketServer, sid: str, request: Request) -> Response:
    """Have another node answer, whose session it is."""
    others = server.elsewhere
    owner = others.owner_of(sid)
    if request.method == "POST":
        _check_type(request)
        body = await read_body(server.node, request, server.settings.max_payload_bytes)
        post = others.ask(owner, sid, "socketio-post", body)
        status, said = await post.answer or GONE
        return _response(status, said, "text/html")
    if request.method != "GET":
        raise Fault(BAD_METHOD)
    poll = others.ask(owner, sid, "socketio-poll")
    with watch_client(request, lambda: others.abort(poll)):
        try:
            await asyncio.wait([poll.answer])
        finally:
            others.abort(poll)
    return _response(*(poll.answer.result() or GONE))


def _check_type(request: Request) -> None:
    if request.headers.get("content-type", "") == "application/octet-stream":
        raise Fault(BAD_REQUEST, "a body of application/octet-stream is of an older protocol")


async def _poll(connection: EngineConnection, request: Request, threshold: int | None) -> Response:
    held = HeldPoll()
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
    status, body = held.answered.result()
    body, coding = compressed(body, threshold, request.headers.get("accept-encoding", ""))
    response = _response(status, body)
    if coding:
        response.headers["content-encoding"] = coding
    return response


async def _post(server: SocketServer, connection: EngineConnection, request: Request) -> Response:
    session = connection.engine
    _check_type(request)
    if not session.begin_post():
        raise Fault(BAD_REQUEST, "another POST of this session is being read")
    try:
        body = await read_body(server.node, request, server.settings.max_payload_bytes)
        status, said = await session.post(body)
    finally:
        session.end_post()
    return _response(status, said, "text/html")


def _response(status: int, body: bytes, media_type: str = TEXT) -> Response:
    return Response(body, status, media_type=media_type if status == 200 else "application/json")
