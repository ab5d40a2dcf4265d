"""The hub's addresses as an ASGI application: routing, errors and cross-origin answers."""

import asyncio
import contextlib
import inspect
import json
import logging
from typing import Final

from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from heartwire.errors import ConfigError, EngineError, HeartwireError, Refused
from heartwire.hub.memory import memory_bound_bytes
from heartwire.hub.node import Node
from heartwire.server.addresses import Call, Handshake, Route, find_route, no_socket, segments, table_of
from heartwire.server.assets import LIBRARY, asset, file_response
from heartwire.server.dialects import DIALECTS
from heartwire.server.responses import refusal
from heartwire.transports.asgi_link import attend
from heartwire.transports.websocket.asgi import SocketLink
from heartwire.transports.websocket.frames import truncated
from heartwire.transports.websocket.handshake import handshake_problem
from heartwire.transports.websocket.messages import ASGI

__all__ = ["Application"]

log = logging.getLogger("heartwire")

_EXPOSED_HEADERS: Final = "ETag, Retry-After"
_PREFLIGHT_S: Final = "7200"  # the longest that Chromium honours


class Application:
    """See `Hub.asgi`. Works mounted under any prefix (``root_path``)."""

    def __init__(self, node: Node, *, demo: bool) -> None:
        self._node = node
        self._demo = demo
        self._routes = table_of(
            [
                Route("/health", ("GET",), self._health),
                *(route for dialect in DIALECTS for route in dialect.routes(node)),
            ]
        )
        self._sockets = table_of([route for dialect in DIALECTS for route in dialect.sockets(node)])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3: http, websocket, and lifespan where the hub is the whole application."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        await self._node.ensure_started()
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(Request(scope, receive), send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            async with self._node.lifespan():
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except (ConfigError, EngineError) as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        except asyncio.CancelledError:  # a second Ctrl-C: the hub has stopped
            return
        await send({"type": "lifespan.shutdown.complete"})

    # -- HTTP ------------------------------------------------------------------------------------------------

    async def _http(self, request: Request, send: Send) -> None:
        response: Response | None
        cors: dict[str, str] = {}
        try:
            cors = self._cross_origin(request)
            response = await self._answer(request, cors, send)
        except HeartwireError as error:
            response = refusal(error)
        except Exception:
            log.exception("%s %s failed", request.method, request.url.path)
            response = refusal(HeartwireError("internal server error: the server's log has the details"))
        if response is not None:  # else it was streamed
            response.headers.update(cors)
            response.headers.setdefault("cache-control", "no-store")
            if _is_upgrade(request):  # whatever the client sends next, it is not meant as HTTP
                response.headers["connection"] = "close"
            await response(request.scope, request.receive, send)

    async def _answer(self, request: Request, cors: dict[str, str], send: Send) -> Response | None:
        path = segments(request.scope)
        is_socket = find_route(self._sockets, path) is not None
        if is_socket and _is_upgrade(request):
            raise _bad_handshake(request)
        found = find_route(self._routes, path)
        if found is not None:
            route, values = found
            if request.method == "OPTIONS":
                return _preflight(request, route.methods, cors)
            _check_method(request, route.methods)
            return await route.answer(Call(request, values, cors, send))
        if path == [""] and self._demo and not request.url.path.endswith("/"):
            return RedirectResponse(request.url.path + "/")  # the page's own addresses are relative
        if (self._demo or path[0] in LIBRARY) and (file := asset(path)):
            _check_method(request, ("GET",))
            return file_response(request, file)
        if is_socket and path != [""]:
            raise Refused("upgrade_required", "this address speaks WebSocket only")
        raise Refused("not_found", f"nothing at {request.url.path[:200]!r}: channels are at /channels/NAME")

    async def _health(self, call: Call) -> Response:
        is_draining = self._node.draining
        status: dict[str, object] = {"status": "draining" if is_draining else "ok"}
        if "verbose" in call.request.query_params:
            status["memory_bound_bytes"] = memory_bound_bytes(self._node.options)
        return Response(json.dumps(status), 503 if is_draining else 200, media_type="application/json")

    def _cross_origin(self, request: HTTPConnection) -> dict[str, str]:
        """The CORS headers of the answer. Raises `Refused` (``host_refused``, ``origin_refused``)."""
        origin = request.headers.get("origin")
        headers = {"vary": "Origin, Accept"}
        self._node.check_page(origin, request.headers.get("host", ""))
        if origin is None:
            return headers
        headers |= {"access-control-allow-origin": origin, "access-control-expose-headers": _EXPOSED_HEADERS}
        if (
            "*" not in self._node.options.allowed_origins
        ):  # credentials go with an explicit list only (Fetch standard, 3.2.5)
            headers["access-control-allow-credentials"] = "true"
        return headers

    # -- WebSocket -------------------------------------------------------------------------------------------

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        try:
            self._cross_origin(HTTPConnection(scope))
        except Refused as error:
            await _refuse_handshake(scope, receive, send, error)
            return
        try:
            await self._serve_socket(scope, receive, send)
        except HeartwireError as error:
            # After accepting: a browser does not show a page why a handshake failed.
            await send({"type": "websocket.accept"})
            reason = truncated(str(error))
            await send({"type": "websocket.close", "code": error.code.close_code, "reason": reason})

    async def _serve_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = find_route(self._sockets, segments(scope))
        if found is None:
            raise no_socket()
        route, values = found
        answer = route.open(Handshake(scope, values))
        opening = await answer if inspect.isawaitable(answer) else answer
        node = self._node
        link = SocketLink(node.switchboard, node.connections.next_serial(), receive, send, node.turn)
        handler = opening.handler(link, ASGI)
        try:
            await send({"type": "websocket.accept", "subprotocol": opening.subprotocol})
            handler.opened()
            await attend(link, link.read(handler))
        finally:
            handler.lost()


def _check_method(request: Request, methods: tuple[str, ...]) -> None:
    if request.method not in methods and not (request.method == "HEAD" and "GET" in methods):
        allow = ", ".join((*methods, "OPTIONS"))
        message = f"{request.method} {request.url.path[:200]}: this address takes {allow}"
        raise Refused("method_not_allowed", message, allow=allow)


def _is_upgrade(request: Request) -> bool:
    return request.headers.get("upgrade", "").lower() == "websocket"


def _bad_handshake(request: Request) -> Refused:
    """A WebSocket handshake that the server did not take, and handed to us as HTTP."""
    if request.method != "GET" or request.scope["http_version"] == "1.0":  # RFC 6455 4.2.1
        return Refused("bad_request", "a WebSocket handshake is a GET request of HTTP/1.1")
    problem = handshake_problem(request.headers.get)
    return Refused(*(problem or ("bad_request", "this server was started without WebSocket support")))


def _preflight(request: Request, methods: tuple[str, ...], cors: dict[str, str]) -> Response:
    """The answer to OPTIONS. Headers that a page asks for are allowed: an SDK's user may add some."""
    allow = ", ".join((*methods, "OPTIONS"))
    if "access-control-allow-origin" not in cors:
        return Response(status_code=204, headers={"allow": allow})
    headers = {"access-control-allow-methods": allow, "access-control-max-age": _PREFLIGHT_S}
    if asked := request.headers.get("access-control-request-headers"):
        headers["access-control-allow-headers"] = asked[:1000]
    return Response(status_code=204, headers={"allow": allow} | headers)


async def _refuse_handshake(scope: Scope, receive: Receive, send: Send, error: Refused) -> None:
    """Answer a handshake with an HTTP error where the server can, else with its own 403."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        reason = truncated(str(error))
        await send({"type": "websocket.close", "code": error.code.close_code, "reason": reason})
        return
    response = refusal(error)
    status, headers = response.status_code, response.raw_headers
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": response.body})
    # uvicorn takes an application that returns before the connection is gone for one that forgot to answer,
    # and logs an error. It reports the end twice: that the answer is complete, and that the connection is
    # gone. Others report it once.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            for _ in range(2):
                await receive()
