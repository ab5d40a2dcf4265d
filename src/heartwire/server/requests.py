"""Requests as every dialect reads them: the peer's address, the body, the end of the client."""

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Final

from starlette.requests import ClientDisconnect, HTTPConnection, Request

from heartwire.errors import Refused
from heartwire.hub.node import Node
from heartwire.messages import check_message_size

__all__ = ["address_of", "known_tags", "read_body", "watch_client"]


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


@contextlib.contextmanager
def watch_client(request: Request, gone: Callable[[], None]) -> Iterator[None]:
    """Call ``gone``, maybe twice, when the client of a request, whose body has been read, is gone; or, behind
    our protocol classes for uvicorn, sends no more: it may be gone, or wait for an answer, which it gets."""
    half_closed: asyncio.Future[None] | None
    half_closed = request.scope.get("extensions", {}).get("heartwire.half_closed")
    watching: list[asyncio.Future[None]] = [asyncio.ensure_future(_disconnected(request))]
    if half_closed is not None:
        watching.append(half_closed)

    def ended(_: object) -> None:
        gone()

    for future in watching:
        future.add_done_callback(ended)
    try:
        yield
    finally:
        if half_closed is not None:
            half_closed.remove_done_callback(ended)
        watching[0].cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _read_on(request: Request, body: bytearray) -> tuple[int, bool]:
    """Read the next piece of a body, and hold it nowhere else. Returns its size, and whether more come."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    piece = message.get("body", b"")
    body += piece
    return len(piece), message.get("more_body", False)


async def read_body(node: Node, request: Request, max_bytes: int | None = None) -> bytes:
    """Read a request's whole body, of ``max_bytes`` (``max_message_bytes``) at most.

    Raises `LimitExceeded` (``message_too_large``, ``uploads_full``); `Refused` (``bad_request``) where the
    client breaks off, ``upload_stalled`` where it pauses, ``shutdown`` where the node drains meanwhile,
    ``unsupported_encoding`` for a compressed one.
    """
    encoding = request.headers.get("content-encoding", "").strip()
    if encoding.lower() not in ("", "identity"):
        message = f"Content-Encoding {encoding[:32]!r}: send the body as it is"
        raise Refused("unsupported_encoding", message)
    limit = node.options.max_message_bytes if max_bytes is None else max_bytes
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal():
        check_message_size(int(declared), limit)
    upload, body = node.uploads.begin(), bytearray()
    try:
        async with upload.timeout:
            more = True
            while more:
                size, more = await _read_on(request, body)
                check_message_size(len(body), limit)
                node.uploads.grow(upload, size)
            return bytes(body)
    except TimeoutError:
        if upload.refusal is not None:
            raise upload.refusal from None
        raise
    except ClientDisconnect:
        raise Refused("bad_request", "the connection broke before the body was complete") from None
    finally:
        node.uploads.end(upload)
        body.clear()  # an error's traceback holds this frame
