"""Requests as every dialect reads them: the peer's address, the body, the end of the client."""

import asyncio

from starlette.requests import ClientDisconnect, HTTPConnection, Request

from heartwire.errors import Refused
from heartwire.hub.node import Node
from heartwire.messages import check_message_size

__all__ = ["address_of", "disconnected", "read_body"]


def address_of(request: HTTPConnection) -> str:
    """The peer's address, for limits; "" on a Unix socket."""
    return request.client.host if request.client else ""


async def disconnected(request: Request) -> None:
    """Wait until the client of a request, whose body has been read, is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def read_body(node: Node, request: Request, max_bytes: int | None = None) -> bytes:
    """Read a request's whole body, of ``max_bytes`` (``max_message_bytes``) at most.

    Raises `LimitExceeded` (``message_too_large``); `Refused` (``bad_request``) where the client breaks off,
    ``shutdown`` where the node drains meanwhile.
    """
    limit = node.options.max_message_bytes if max_bytes is None else max_bytes
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal():
        check_message_size(int(declared), limit)
    upload = asyncio.timeout(None)
    try:
        async with upload:
            node.uploads.add(upload)
            body = bytearray()
            async for chunk in request.stream():
                body += chunk
                check_message_size(len(body), limit)
            return bytes(body)
    except TimeoutError:
        node.refuse_when_draining()
        raise
    except ClientDisconnect:
        raise Refused("bad_request", "the connection broke before the body was complete") from None
    finally:
        node.uploads.discard(upload)
