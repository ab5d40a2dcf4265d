"""Requests as every dialect reads them: the peer's address, the body, the end of the client."""

import asyncio
import re
from typing import Final

from starlette.requests import ClientDisconnect, HTTPConnection, Request

from heartwire.errors import Refused
from heartwire.hub.node import Node
from heartwire.messages import check_message_size

__all__ = ["address_of", "disconnected", "known_tags", "read_body"]


_TAG: Final = re.compile(r'(?:W/)?"([^"]*)"|([^\s",]+)')
"""One of a list, weak or not; also as some clients write it, without quotes."""

_CODING: Final = re.compile(r"(?:--|[-;/:])(?:gzip|gz|br|zstd|deflate)$")
"""What Apache, Jetty, Caddy, lighttpd and others append to the tag of an answer that they compress."""


def known_tags(request: HTTPConnection) -> list[str]:
    """The entity tags of ``If-None-Match`` (RFC 9110 13.1.2), as we gave them; ``*`` stands for any."""
    given = _TAG.findall(",".join(request.headers.getlist("if-none-match")))
    return [_CODING.sub("", quoted or bare.removeprefix("W/")) for quoted, bare in given]


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
    ``shutdown`` where the node drains meanwhile, ``unsupported_encoding`` for a compressed one.
    """
    encoding = request.headers.get("content-encoding", "").strip()
    if encoding.lower() not in ("", "identity"):
        message = f"Content-Encoding {encoding[:32]!r}: send the body as it is"
        raise Refused("unsupported_encoding", message)
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
