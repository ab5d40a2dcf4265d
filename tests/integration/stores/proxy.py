"""A proxy of bytes between an engine and its store, that loses what a test wants lost."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator


class Link:
    """One connection through the proxy.

    Attributes:
        sent: the first bytes of the engine.
        is_deaf: what the store sends is read, and lost.
        is_stuck: what the store sends is not read.
    """

    def __init__(self, inner: asyncio.StreamWriter, outer: asyncio.StreamWriter) -> None:
        self.sent = b""
        self.is_deaf = False
        self.free = asyncio.Event()
        self.free.set()
        self._writers = inner, outer

    @property
    def is_feed(self) -> bool:
        return b"SUBSCRIBE" in self.sent

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


class Proxy:
    """Attributes:
    links: the connections that there are.
    is_closed: new ones are cut at once.
    """

    def __init__(self, to_port: int) -> None:
        self.links: list[Link] = []
        self.is_closed = False
        self.is_deaf = False
        self._to_port = to_port
        self._tasks: set[asyncio.Task[None]] = set()

    def feeds(self) -> list[Link]:
        return [link for link in self.links if link.is_feed]

    def commands(self) -> list[Link]:
        return [link for link in self.links if not link.is_feed]

    def cut(self) -> None:
        for link in list(self.links):
            link.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_closed:
            writer.transport.abort()
            return
        try:
            store_reader, store_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        except OSError:
            writer.transport.abort()
            return
        link = Link(writer, store_writer)
        self.links.append(link)
        try:
            with contextlib.suppress(OSError):
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._up(link, reader, store_writer))
                    group.create_task(self._down(link, store_reader, writer))
        except* OSError:
            pass
        finally:
            self.links.remove(link)
            link.cut()

    async def _up(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            link.sent = (link.sent + data)[-100_000:]
            writer.write(data)
            await writer.drain()
        raise OSError

    async def _down(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await link.free.wait()
            data = await reader.read(65536)
            if not data:
                raise OSError
            if not (link.is_deaf or self.is_deaf):
                writer.write(data)
                await writer.drain()


@contextlib.asynccontextmanager
async def proxy_to(port: int, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[Proxy, int]]:
    """A proxy to a port of this host, and its own port, where it may speak TLS."""
    proxy = Proxy(port)
    server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield proxy, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        proxy.cut()
        while proxy.links:  # noqa: ASYNC110 - they end in a moment
            await asyncio.sleep(0.001)
