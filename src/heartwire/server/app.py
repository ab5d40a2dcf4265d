"""The hub's addresses as an ASGI application: routing, errors and cross-origin answers."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable
from functools import partial
from typing import Final, TypeGuard

from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from heartwire.core.waiting import begun
from heartwire.errors import ConfigError, EngineError, HeartwireError, Refused
from heartwire.hub.memory import memory_bound_bytes
from heartwire.hub.node import Node
from heartwire.server.addresses import (
    Call,
    Handshake,
    HandshakeParts,
    OpenHandler,
    Opening,
    Route,
    ScopeParts,
    find_route,
    no_socket,
    segments,
    split_path,
    table_of,
)
from heartwire.server.assets import LIBRARY, asset, file_response
from heartwire.server.dialects import DIALECTS
from heartwire.server.responses import refusal
from heartwire.transports.asgi_link import attend
from heartwire.transports.websocket.asgi import SocketLink
from heartwire.transports.websocket.asgi_handshake import EXTENSION, AnsweredSocket, AsgiHandshake
from heartwire.transports.websocket.deflate import negotiate
from heartwire.transports.websocket.frames import truncated
from heartwire.transports.websocket.handshake import handshake_problem
from heartwire.transports.websocket.messages import ASGI, NATIVE, native_deflated
from heartwire.transports.websocket.native import NativeSocket

__all__ = ["Application"]

log = logging.getLogger("heartwire")

_INTERNAL: Final = "internal server error: the server's log has the details"
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
                Route("/ready", ("GET",), self._ready),
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
            response = refusal(HeartwireError(_INTERNAL))
        if response is not None:  # else it was streamed
            response.headers.update(cors)
            response.headers.setdefault("cache-control", "no-store")
            if _is_upgrade(request) or (response.status_code == 408 and request.scope["http_version"] < "2"):
                response.headers["connection"] = "close"  # what the client sends next is not another request
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
        """Whether the process should live on. The store's absence is no reason to end it."""
        is_draining = self._node.draining
        status: dict[str, object] = {"status": "draining" if is_draining else "ok"}
        status |= self._node.readiness.report()
        if "verbose" in call.request.query_params:
            status["memory_bound_bytes"] = memory_bound_bytes(self._node.options)
        return Response(json.dumps(status), 503 if is_draining else 200, media_type="application/json")

    async def _ready(self, call: Call) -> Response:
        """Whether clients should be sent here."""
        node = self._node
        status = "draining" if node.draining else "deaf" if node.readiness.is_deaf else "ready"
        body = json.dumps({"status": status, **node.readiness.report()})
        return Response(body, 200 if status == "ready" else 503, media_type="application/json")

    def _cross_origin(self, request: HTTPConnection) -> dict[str, str]:
        """The CORS headers of the answer. Raises `Refused` (``host_refused``, ``origin_refused``)."""
        found = find_route(self._routes, segments(request.scope))
        if found is not None and found[0].cross_origin is not None:
            return found[0].cross_origin(request)
        origin = request.headers.get("origin")
        headers = {"vary": "Origin, Accept"}
        self._node.check_page(origin, request.headers.getlist("host"), request.scope.get("http_version", ""))
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
        asked, answer = self._ask(ScopeParts(scope), segments(scope), scope.get("http_version", ""))
        await self._answer_socket(asked, answer, scope, receive, send)

    def open_natively(self, handshake: AsgiHandshake) -> Awaitable[None] | None:
        """Answer a native handshake that no middleware sees, without ASGI where nobody has to be asked: a
        crowd that reconnects pays for it. Returns what to await, if anything."""
        asked, answer = self._ask(handshake, split_path(handshake.path), "1.1")
        socket = handshake.socket
        if isinstance(answer, Opening) and self._is_ours(socket):
            handshake.is_taken = True
            try:
                handler = self._attach(socket, answer, asked)
                socket.accept(subprotocol=answer.subprotocol)
                _start(socket, handler)
                return None
            except Exception as error:
                answer = error
        handshake.app = partial(self._answer_socket, asked, answer)
        return begun(handshake.run())

    def _ask(
        self, parts: HandshakeParts, path: list[str], http_version: str
    ) -> tuple[Handshake, Opening | Awaitable[Opening] | Exception]:
        """Ask for an opening. What is raised comes back, to be answered."""
        found = find_route(self._sockets, path)
        handshake = Handshake(parts, found[1] if found is not None else [])
        try:
            if found is None or not found[0].checks_pages:
                self._node.check_page(handshake.header("origin"), handshake.all("host"), http_version)
        except Refused as error:
            return handshake, _PageRefused(error)
        try:
            return handshake, found[0].open(handshake) if found is not None else no_socket()
        except Exception as error:
            return handshake, error

    async def _answer_socket(
        self,
        handshake: Handshake,
        answer: Opening | Awaitable[Opening] | Exception,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        await receive()  # websocket.connect
        native = self._taken(scope)
        if isinstance(answer, _PageRefused):
            await _refuse_handshake(scope, receive, send, answer.error, is_native=native is not None)
            return
        try:
            if isinstance(answer, Exception):
                raise answer
            opening = answer if isinstance(answer, Opening) else await self._allowed(answer, handshake)
            if native is None:
                await self._serve_socket(opening, receive, send)
            elif not native.closed:  # else the client is gone
                handler = self._attach(native, opening, handshake)
                await send({"type": "websocket.accept", "subprotocol": opening.subprotocol})
                _start(native, handler)
        except HeartwireError as error:
            # After accepting: a browser does not show a page why a handshake failed.
            await send({"type": "websocket.accept"})
            reason = truncated(str(error))
            await send({"type": "websocket.close", "code": error.code.close_code, "reason": reason})

    async def _allowed(self, answer: Awaitable[Opening], handshake: Handshake) -> Opening:
        """Wait for those who are asked. Raises `HeartwireError`, whatever they raise."""
        if asyncio.current_task() is None:  # natively, and functions of the application may need one
            await asyncio.sleep(0)
        try:
            opening = await answer
        except HeartwireError:
            raise
        except Exception:
            log.exception("WebSocket %s failed", handshake.scope["path"])
            raise HeartwireError(_INTERNAL) from None
        self._node.refuse_when_draining()  # it may have begun meanwhile
        return opening

    def _attach(self, socket: NativeSocket, opening: Opening, handshake: Handshake) -> OpenHandler:
        """Give the socket its handler; the call for it need not last as long as the connection."""
        deflate = None
        if self._node.options.compress and (offers := handshake.all("sec-websocket-extensions")):
            deflate = negotiate(offers)
        socket.serial = self._node.connections.next_serial()
        extensions = None if deflate is None else deflate.header
        messages = NATIVE if deflate is None else native_deflated(deflate.window_bits)
        handler = opening.handler(socket, messages)
        socket.attach(handler, max_frame_bytes=opening.max_frame_bytes, extensions=extensions)
        return handler

    def _taken(self, scope: Scope) -> NativeSocket | None:
        """Take over the native socket of a scope, to accept it; ``None`` where it has none of this hub."""
        handshake: AsgiHandshake | None = scope.get("extensions", {}).get(EXTENSION)
        if handshake is None or not self._is_ours(handshake.socket):
            return None
        del scope["extensions"][EXTENSION]  # who keeps the scope need not keep this
        handshake.is_taken = True
        return handshake.socket

    def _is_ours(self, socket: AnsweredSocket) -> TypeGuard[NativeSocket]:
        return isinstance(socket, NativeSocket) and socket.switchboard is self._node.switchboard

    async def _serve_socket(self, opening: Opening, receive: Receive, send: Send) -> None:
        node = self._node
        link = SocketLink(node.switchboard, node.connections.next_serial(), receive, send, node.turn)
        handler = opening.handler(link, ASGI)
        try:
            await send({"type": "websocket.accept", "subprotocol": opening.subprotocol})
            handler.opened()
            await attend(link, link.read(handler))
        finally:
            handler.lost()


class _PageRefused(Exception):
    """A page that may not open it: answered by HTTP."""

    def __init__(self, error: Refused) -> None:
        super().__init__(error)
        self.error = error


def _start(socket: NativeSocket, handler: OpenHandler) -> None:
    if socket.is_answered and not socket.closed:
        handler.opened()
        socket.start()


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


async def _refuse_handshake(
    scope: Scope, receive: Receive, send: Send, error: Refused, *, is_native: bool
) -> None:
    """Answer a handshake with an HTTP error where the server can, else with its own 403."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        reason = truncated(str(error))
        await send({"type": "websocket.close", "code": error.code.close_code, "reason": reason})
        return
    response = refusal(error)
    status, headers = response.status_code, response.raw_headers
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": response.body})
    if is_native:
        return
    # uvicorn takes an application that returns before the connection is gone for one that forgot to answer,
    # and logs an error. It reports the end twice: that the answer is complete, and that the connection is
    # gone. Others report it once.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            for _ in range(2):
                await receive()
