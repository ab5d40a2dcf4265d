"""What every address of the plain dialect begins with, and the two short ones: publish and presence."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response

from heartwire.channels import check_idempotency_key, to_channel
from heartwire.core.waiting import settled
from heartwire.dialects.plain.codec import members_json
from heartwire.dialects.plain.requests import Follow, body_is_text, parse_follow
from heartwire.errors import LimitExceeded, Refused
from heartwire.hub.identity import Identity, identify
from heartwire.messages import Body
from heartwire.types import Publisher

if TYPE_CHECKING:
    from heartwire.hub.hub import Hub

__all__ = [
    "address_of",
    "admit",
    "admitted",
    "begin",
    "disconnected",
    "presence",
    "publish",
    "publisher_of",
    "read_body",
    "read_follow",
    "refuse_when_draining",
]


async def begin(
    hub: "Hub", request: HTTPConnection, names: list[str], *, is_multi: bool
) -> tuple[Follow, Identity]:
    """Read a request to follow channels, and see that it may. Raises `Refused`."""
    follow = read_follow(
        hub, names, request.query_params, is_multi=is_multi, resume=request.headers.get("last-event-id")
    )
    return follow, await admit(hub, request, follow)


def read_follow(
    hub: "Hub", names: list[str], query: Mapping[str, str], *, is_multi: bool, resume: str | None = None
) -> Follow:
    """Read a request to follow channels. Raises `Refused`."""
    refuse_when_draining(hub)
    limit = hub.options.max_channels_per_request
    follow = parse_follow(names, query, max_channels=limit, is_multi=is_multi, resume=resume)
    for channel in follow.channels:
        hub.namespaces.of(channel)
    return follow


async def admit(hub: "Hub", request: HTTPConnection, follow: Follow) -> Identity:
    """Ask the application who this is, and whether they may follow. Raises `Refused`."""
    identity = await identify(hub.authenticator, request)
    for channel in follow.channels:
        await hub.namespaces.authorize(identity, "subscribe", channel)
    return identity


async def publish(hub: "Hub", request: Request, name: str) -> Response:
    """``POST``: publish the body; answered when the engine has it."""
    refuse_when_draining(hub)
    channel = to_channel(name)
    key = _key(request)
    hub.namespaces.of(channel)
    identity = await identify(hub.authenticator, request)
    await hub.namespaces.authorize(identity, "publish", channel)
    hub.rates.check(address_of(request), hub.clock())
    data = await _body(hub, request)
    body = Body(body_is_text(request.headers.get("content-type"), data), data)
    body = await hub.changed(identity, channel, body)
    position = await settled(hub.append(channel, body, publisher_of(identity, ""), key=key))
    return Response(b'{"position":"%b"}' % str(position).encode(), media_type="application/json")


def _key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    return None if key is None else check_idempotency_key(key)


async def presence(hub: "Hub", request: Request, name: str) -> Response:
    """``GET …/presence``: who is there."""
    channel = to_channel(name)
    hub.namespaces.of(channel)
    identity = await identify(hub.authenticator, request)
    await hub.namespaces.authorize(identity, "presence", channel)
    return Response(members_json(await hub.engine.members(channel)), media_type="application/json")


def refuse_when_draining(hub: "Hub") -> None:
    """Raises `Refused` (``shutdown``) once the hub is on its way out."""
    if hub.draining:
        raise _shutdown()


def _shutdown() -> Refused:
    return Refused("shutdown", "the server is going away: come back after a moment")


def publisher_of(identity: Identity, client: str) -> Publisher | None:
    """Whom a publication names: nobody where the client is anonymous."""
    return Publisher(identity.user, client, identity.info) if identity.user else None


def address_of(request: HTTPConnection) -> str:
    """The peer's address, for limits; "" on a Unix socket."""
    return request.client.host if request.client else ""


@contextlib.contextmanager
def admitted(hub: "Hub", request: HTTPConnection) -> Iterator[None]:
    """Count the request as a connection meanwhile. Raises `LimitExceeded`."""
    address = address_of(request)
    hub.connections.enter(address)
    try:
        yield
    finally:
        hub.connections.leave(address)


async def _body(hub: "Hub", request: Request) -> bytes:
    """The request's body; a client that stops in the middle of it does not hold up our end."""
    upload = asyncio.timeout(None)
    try:
        async with upload:
            hub.uploads.add(upload)
            return await read_body(request, hub.options.max_message_bytes)
    except TimeoutError:
        raise _shutdown() from None
    except ClientDisconnect:
        raise Refused("bad_request", "the connection broke before the body was complete") from None
    finally:
        hub.uploads.discard(upload)


async def disconnected(request: Request) -> None:
    """Wait until the client of a request, whose body has been read, is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def read_body(request: Request, limit: int) -> bytes:
    """A request's whole body. Raises `LimitExceeded` (``message_too_large``)."""
    declared = request.headers.get("content-length", "0")
    size = int(declared) if declared.isdecimal() else 0
    body = bytearray()
    if size <= limit:
        async for chunk in request.stream():
            body += chunk
            size = len(body)
            if size > limit:
                break
    if size > limit:
        raise LimitExceeded("message_too_large", "bytes of this message", size, limit, "max_message_bytes")
    return bytes(body)
