"""The addresses of a dialect: HTTP routes and WebSocket routes, and what their functions get and return.

A dialect lists its routes once; `heartwire.server.app` serves them over ASGI, `heartwire.server.native` its
WebSockets on uvicorn's transport too.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final, NamedTuple, Protocol, TypeAlias, TypeVar
from urllib.parse import parse_qsl, unquote

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Scope, Send

from heartwire.errors import Refused
from heartwire.hub.links import WatchedLink
from heartwire.hub.node import Node
from heartwire.transports.websocket.handshake import Head
from heartwire.transports.websocket.incoming import SocketHandler
from heartwire.transports.websocket.messages import SocketMessages

__all__ = [
    "Call",
    "Dialect",
    "Handshake",
    "HandshakeParts",
    "OpenHandler",
    "Opening",
    "Route",
    "ScopeParts",
    "SocketRoute",
    "Table",
    "end_at_once",
    "find_route",
    "no_socket",
    "segments",
    "split_path",
    "table_of",
]


class Call(NamedTuple):
    """One HTTP request to a route.

    Attributes:
        values: the path segments that the route leaves open.
        cors: headers that belong on an answer that is streamed by ``send``.
    """

    request: Request
    values: list[str]
    cors: dict[str, str]
    send: Send


async def end_at_once(call: Call, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Answer HEAD on a stream: its headers, and nothing that lasts (RFC 9110 9.3.2)."""
    others = ((name.encode(), value.encode()) for name, value in call.cors.items())
    await call.send({"type": "http.response.start", "status": 200, "headers": [*headers, *others]})
    await call.send({"type": "http.response.body", "body": b""})


class Route(NamedTuple):
    """An HTTP address.

    Attributes:
        path: ``/channels/{}/presence``: ``{}`` takes any one segment, ``{*}`` at the end any that are left,
            one at least.
        methods: without HEAD and OPTIONS, which every address answers.
        answer: returns the answer, or ``None`` where it was streamed. Raises `HeartwireError`.
        cross_origin: returns the CORS headers of the answer, where the dialect has its own rules for pages;
            ``answer`` then checks them.
    """

    path: str
    methods: tuple[str, ...]
    answer: Callable[[Call], Awaitable[Response | None]]
    cross_origin: Callable[[HTTPConnection], dict[str, str]] | None = None


class HandshakeParts(Protocol):
    """What `Handshake` needs of a request. A native one makes its scope only for those who ask."""

    @property
    def scope(self) -> Scope: ...
    @property
    def head(self) -> Head: ...
    @property
    def query_string(self) -> bytes: ...
    @property
    def client(self) -> tuple[str, int] | None: ...
    @property
    def subprotocols(self) -> list[str] | None: ...


class ScopeParts(NamedTuple):
    """Those of an ASGI scope."""

    scope: Scope

    @property
    def head(self) -> Head:
        return Head(self.scope["headers"])

    @property
    def query_string(self) -> bytes:
        return self.scope["query_string"]  # type: ignore[no-any-return]

    @property
    def client(self) -> tuple[str, int] | None:
        return self.scope["client"]  # type: ignore[no-any-return]

    @property
    def subprotocols(self) -> list[str] | None:
        return self.scope.get("subprotocols")


class Handshake:
    """The request of a WebSocket, whichever door it came by.

    Attributes:
        values: the path segments that the route leaves open.
    """

    __slots__ = ("_head", "_parts", "values")

    def __init__(self, parts: HandshakeParts, values: list[str]) -> None:
        self._parts = parts
        self._head = parts.head
        self.values = values

    @property
    def scope(self) -> Scope:
        """The request as ASGI has it."""
        return self._parts.scope

    @property
    def address(self) -> str:
        """The client's network address; "" on a Unix socket."""
        client = self._parts.client
        return client[0] if client else ""

    @property
    def client(self) -> tuple[str, int] | None:
        """The client's network address and port."""
        return self._parts.client

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """All headers but the key; not to be changed: clients of one kind share them."""
        return self._head.headers

    @property
    def query_string(self) -> bytes:
        """The parameters of the URL as they came."""
        return self._parts.query_string

    @property
    def query(self) -> list[tuple[str, str]]:
        """The parameters of the URL."""
        query = self._parts.query_string
        return parse_qsl(query.decode("latin-1"), keep_blank_values=True) if query else []

    @property
    def subprotocols(self) -> list[str]:
        """The offered subprotocols, in order (RFC 6455 4.1)."""
        known = self._parts.subprotocols
        if known is not None:  # by the ASGI server, which may keep the header to itself
            return known
        return self._head.subprotocols

    def header(self, name: str) -> str | None:
        """The last value of a header; ``name`` in lower case."""
        return self._head.given.get(name)

    def all(self, name: str) -> list[str]:
        """See `Head.all`."""
        return self._head.all(name)

    def as_request(self) -> HTTPConnection:
        """The request as applications know it."""
        return HTTPConnection(self.scope)


class OpenHandler(SocketHandler, Protocol):
    """What handles the messages of one WebSocket."""

    def opened(self) -> None:
        """The handshake is answered. Called once, before anything is received."""


class Opening(msgspec.Struct, frozen=True):
    """A handshake that is to be accepted.

    Attributes:
        handler: makes the handler of the connection, given its link and how messages become payloads there.
            Raises `LimitExceeded`.
        max_frame_bytes: the largest frame that may come in; see `HubOptions.max_frame_bytes`.
    """

    subprotocol: str | None
    handler: Callable[[WatchedLink, SocketMessages], OpenHandler]
    max_frame_bytes: int


class SocketRoute(NamedTuple):
    """A WebSocket address.

    Attributes:
        path: see `Route`.
        open: returns the opening, or an awaitable of it where somebody has to be asked. Raises
            `HeartwireError`.
        checks_pages: whether ``open`` has its own rules for pages.
    """

    path: str
    open: Callable[[Handshake], Opening | Awaitable[Opening]]
    checks_pages: bool = False


class Dialect(NamedTuple):
    """A dialect's addresses: functions that bind them to a node. Its connections are in `Node.connections`,
    which also drains them."""

    name: str
    routes: Callable[[Node], Iterable[Route]]
    sockets: Callable[[Node], Iterable[SocketRoute]]


class _HasPath(Protocol):
    @property
    def path(self) -> str: ...


AnyRoute = TypeVar("AnyRoute", bound=_HasPath)


Table: TypeAlias = dict[tuple[int, str], list[tuple[list[str], AnyRoute]]]
"""Routes and their patterns, by the number of segments (`_ANY_LENGTH`) and the first of them."""

_ANY_LENGTH: Final = 0


def table_of(routes: Iterable[AnyRoute]) -> Table[AnyRoute]:
    """Prepare routes for `find_route`."""
    table: Table[AnyRoute] = {}
    for route in routes:
        pattern = split_path(route.path, is_encoded=False)
        length = _ANY_LENGTH if pattern[-1] == "{*}" else len(pattern)
        table.setdefault((length, pattern[0]), []).append((pattern, route))
    return table


def find_route(table: Table[AnyRoute], path: list[str]) -> tuple[AnyRoute, list[str]] | None:
    """The first route of a path, and the values of its open segments."""
    for pattern, route in table.get((len(path), path[0]), ()):
        if pattern == path:
            return route, []
        values = []
        for wanted, segment in zip(pattern, path, strict=True):
            if wanted == "{}":
                values.append(segment)
            elif wanted != segment:
                break
        else:
            return route, values
    for pattern, route in table.get((_ANY_LENGTH, path[0]), ()):
        depth = len(pattern) - 1
        if path[:depth] == pattern[:depth] and len(path) > depth:
            return route, path[depth:]
    return None


def segments(scope: Scope) -> list[str]:
    """The path below our prefix, split before it is decoded, so that a name may hold an encoded slash."""
    path, root = scope["path"], scope.get("root_path", "")
    if root:
        path = _below(path, root)
    raw_path = scope.get("raw_path")
    if not raw_path:
        return split_path(path, is_encoded=False)
    raw = raw_path.partition(b"?")[0].decode("latin-1")
    # What is before us may have cut ``path`` only: ours is the end of the raw path that means the same.
    if not raw.endswith(path) or "%" in raw:
        ends = (raw[at:] for at in range(len(raw) + 1) if raw[at : at + 1] in ("/", ""))
        raw = next((end for end in ends if unquote(end) == path), "")
        if not raw:
            return split_path(path, is_encoded=False)
        path = raw
    return split_path(path)


def _below(path: str, root: str) -> str:
    """A decoded path below a prefix, which may be encoded, and may be cut off already."""
    for prefix in (root, unquote(root)):
        if path == prefix or path.startswith(prefix.rstrip("/") + "/"):
            return path[len(prefix.rstrip("/")) :]
    return path


def split_path(path: str, *, is_encoded: bool = True) -> list[str]:
    """A path's segments; one empty one for the root."""
    parts = path.removeprefix("/").split("/")
    if len(parts) > 1 and not parts[-1]:
        parts.pop()
    return (
        [unquote(part, errors="surrogateescape") for part in parts] if is_encoded and "%" in path else parts
    )


def no_socket() -> Refused:
    """The refusal of a WebSocket to a path that is not an address."""
    return Refused("not_found", "no WebSocket here: channels are at /channels/NAME")
