"""One connection to a Redis server: commands out, replies in, both in order.

In: commands as tuples; bytes, from asyncio. Out: one write a turn of the event loop; each reply, to ``hear``.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import hiredis

from heartwire.errors import EngineUnavailable

__all__ = ["Address", "Pipe", "RedisError", "connect"]

RedisError = hiredis.ReplyError


class Address(NamedTuple):
    """Where a server listens: a host and a port, or a Unix socket in place of the host and 0."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if self.port else self.host


class Pipe(asyncio.Protocol):
    """See the module.

    Attributes:
        hear: called with each reply that nobody has `ask`ed for. What it raises ends the connection.
        ended: done once the connection is over, with the reason where this end has one.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[str] = self._loop.create_future()
        self.hear: Callable[[Any], None] = lambda reply: None
        self._reader = hiredis.Reader()
        self._asked: deque[asyncio.Future[Any]] = deque()
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._why = "the connection ended"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if exc is not None:
            self._why = f"the connection ended: {exc}"
        for asked in self._asked:
            if not asked.done():
                asked.set_exception(EngineUnavailable(self._why))
                asked.exception()
        if not self.ended.done():
            self.ended.set_result(self._why)

    def data_received(self, data: bytes) -> None:
        reader, asked = self._reader, self._asked
        try:
            reader.feed(data)
            reply = reader.gets()
            while reply is not False:
                if not asked:
                    self.hear(reply)
                else:
                    future = asked.popleft()
                    if not future.done():
                        future.set_result(reply)
                reply = reader.gets()
        except Exception as error:
            self.abort(f"a reply is not understood: {error!r}")
            raise

    def write(self, *command: "str | bytes | int | float") -> None:
        """Send a command at the end of this turn. Without effect once the connection is over."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(hiredis.pack_command(command))  # type: ignore[arg-type]

    async def ask(self, *command: "str | bytes | int | float") -> Any:
        """Send a command before others are, and return its reply.

        Raises:
            RedisError: the server refuses.
            EngineUnavailable: the connection ended.
        """
        if self._transport is None:
            raise EngineUnavailable(self._why)
        future = self._loop.create_future()
        self._asked.append(future)
        self.write(*command)
        reply = await future
        if isinstance(reply, RedisError):
            raise reply
        return reply

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def abort(self, why: str) -> None:
        """End it at once, for a reason."""
        if self._transport is not None:
            self._why = why
            self._transport.abort()


async def connect(address: Address, tls: ssl.SSLContext | None, timeout_s: float) -> Pipe:
    """Open a connection. Raises `EngineUnavailable`."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            if not address.port:
                return (await loop.create_unix_connection(Pipe, address.host))[1]
            return (await loop.create_connection(Pipe, address.host, address.port, ssl=tls))[1]
    except TimeoutError:
        raise EngineUnavailable(f"{address}: no connection within {timeout_s:g} s") from None
    except OSError as error:
        raise EngineUnavailable(f"{address}: {error}") from None
