"""The hub's addresses as an ASGI application: what a path means, and how errors and cross-origin answers
look."""

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from heartwire.errors import EngineError, HeartwireError, Refused
from heartwire.hub.origins import check_origin
from heartwire.server.api.methods import Api
from heartwire.server.assets import LIBRARY, asset, file_response
from heartwire.server.centrifugal import sockets as centrifugal_socket
from heartwire.server.centrifugal import streams as centrifugal_http
from heartwire.server.plain import requests as plain
from heartwire.server.plain.polls import Polls
from heartwire.server.plain.streams import stream
from heartwire.server.plain.websocket import serve_websocket
from heartwire.server.responses import refusal
from heartwire.server.routes import segments, socket_channels
from heartwire.transports.websocket.frames import truncated
from heartwire.transports.websocket.handshake import handshake_problem

if TYPE_CHECKING:
    from heartwire.hub.hub import Hub

__all__ = ["Application"]

log = logging.getLogger("heartwire")

_ALLOWED_HEADERS: Final = "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID"
_EXPOSED_HEADERS: Final = "ETag, Retry-After"
_PREFLIGHT_S: Final = "7200"  # the longest that Chromium honours


class Application:
    """See `Hub.asgi`. Works mounted under any prefix (``root_path``)."""

    def __init__(self, hub: "Hub", *, demo: bool) -> None:
        self.hub = hub
        self._demo = demo
        self._polls = Polls(hub)
        self._api = Api(hub)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3: http, websocket, and lifespan where the hub is the whole application."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        await self.hub.ensure_started()
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(Request(scope, receive), send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            async with self.hub.lifespan():
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except EngineError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        except asyncio.CancelledError:  # a second Ctrl-C: the hub has stopped, and nobody waits to hear of it
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
        match segments(request.scope):
            case ["channels"]:
                names = request.query_params.getlist("channel")
                return await self._channels(request, names, cors, send, is_multi=True)
            case ["channels", name]:
                return await self._channels(request, [name], cors, send, is_multi=False)
            case ["channels", name, "presence"]:
                _only(request, "GET")
                return await plain.presence(self.hub, request, name)
            case ["api", method]:
                _only(request, "POST")
                return await self._api.respond(request, method)
            case ["health"]:
                _only(request, "GET")
                return _json({"status": "draining"}, 503) if self.hub.draining else _json({"status": "ok"})
            case ["connection", "websocket"]:
                if _is_upgrade(request):
                    raise _bad_handshake(request)
                raise Refused("upgrade_required", "this address speaks WebSocket only")
            case ["connection", "http_stream" | "sse" | "commands" as name] | ["emulation" as name]:
                return await centrifugal_http.answer(self.hub, request, name, cors, send)
            case [""] if _is_upgrade(request):
                raise _bad_handshake(request)
            case [""] if self._demo and not request.url.path.endswith(
                "/"
            ):  # the page's own addresses are relative
                return RedirectResponse(request.url.path + "/")
            case [name] if (self._demo or name in LIBRARY) and (file := asset(name or "index.html")):
                _only(request, "GET")
                return file_response(request, file)
        raise Refused("not_found", f"nothing at {request.url.path[:200]!r}: channels are at /channels/NAME")

    async def _channels(
        self, request: Request, names: list[str], cors: dict[str, str], send: Send, *, is_multi: bool
    ) -> Response | None:
        if _is_upgrade(request):
            raise _bad_handshake(request)
        if request.method == "OPTIONS":
            return _options(cors)
        if request.method == "POST" and not is_multi:
            return await plain.publish(self.hub, request, names[0])
        _only(request, "GET", *(() if is_multi else ("POST",)), "OPTIONS")
        if "text/event-stream" in request.headers.get("accept", ""):
            await stream(self.hub, request, names, cors, send, is_multi=is_multi)
            return None
        return await self._polls.answer(request, names, is_multi=is_multi)

    def _cross_origin(self, request: HTTPConnection) -> dict[str, str]:
        """The CORS headers of the answer. Raises `Refused` (``origin_refused``)."""
        origin = request.headers.get("origin")
        headers = {"vary": "Origin, Accept"}
        if origin is None:
            return headers
        allowed = self.hub.options.allowed_origins
        check_origin(origin, request.headers.get("host", ""), allowed)
        headers |= {"access-control-allow-origin": origin, "access-control-expose-headers": _EXPOSED_HEADERS}
        if "*" not in allowed:  # credentials go with an explicit list only (Fetch standard, 3.2.5)
            headers["access-control-allow-credentials"] = "true"
        return headers

    # -- WebSocket -------------------------------------------------------------------------------------------

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = HTTPConnection(scope)
        await receive()  # websocket.connect
        try:
            self._cross_origin(connection)
        except Refused as error:
            await _refuse_handshake(scope, receive, send, error)
            return
        try:
            path = segments(scope)
            if path == ["connection", "websocket"]:
                await centrifugal_socket.serve_websocket(self.hub, connection, receive, send)
                return
            names, is_multi = socket_channels(path, lambda: connection.query_params.getlist("channel"))
            await serve_websocket(self.hub, connection, receive, send, names, is_multi=is_multi)
        except HeartwireError as error:
            # After accepting: a browser is not shown why a handshake failed.
            await send({"type": "websocket.accept"})
            await send(
                {"type": "websocket.close", "code": error.code.close_code, "reason": truncated(str(error))}
            )


def _only(request: Request, *methods: str) -> None:
    if request.method not in (*methods, "HEAD"):
        allow = ", ".join(methods)
        raise Refused(
            "method_not_allowed",
            f"{request.method} {request.url.path[:200]}: this address takes {allow}",
            allow=allow,
        )


def _is_upgrade(request: Request) -> bool:
    return request.headers.get("upgrade", "").lower() == "websocket"


def _bad_handshake(request: Request) -> Refused:
    """A WebSocket handshake that the server did not take, and handed to us as HTTP."""
    if request.method != "GET" or request.scope["http_version"] == "1.0":  # RFC 6455 4.2.1
        return Refused("bad_request", "a WebSocket handshake is a GET request of HTTP/1.1")
    problem = handshake_problem(request.headers.get)
    return Refused(*(problem or ("bad_request", "this server was started without WebSocket support")))


def _options(cors: dict[str, str]) -> Response:
    headers = {
        "allow": "GET, POST, OPTIONS",
        "access-control-allow-methods": "GET, POST, OPTIONS",
        "access-control-allow-headers": _ALLOWED_HEADERS,
        "access-control-max-age": _PREFLIGHT_S,
    }
    return Response(
        status_code=204,
        headers=headers if "access-control-allow-origin" in cors else {"allow": headers["allow"]},
    )


def _json(body: Any, status: int = 200) -> Response:
    return Response(json.dumps(body), status, media_type="application/json")


async def _refuse_handshake(scope: Scope, receive: Receive, send: Send, error: Refused) -> None:
    """Answer a handshake with an HTTP error where the server can, else with its own 403."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send(
            {"type": "websocket.close", "code": error.code.close_code, "reason": truncated(str(error))}
        )
        return
    response = refusal(error)
    start = {
        "type": "websocket.http.response.start",
        "status": response.status_code,
        "headers": response.raw_headers,
    }
    await send(start)
    await send({"type": "websocket.http.response.body", "body": response.body})
    # uvicorn takes an application that returns before the connection is gone for one that forgot to answer,
    # and logs an error. It tells of the end twice: that the answer is complete, and that the connection is
    # gone. Others tell it once.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            for _ in range(2):
                await receive()
