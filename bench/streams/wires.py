"""HTTP to any of the servers, with as little work as possible: a request on a connection, and event streams
that are counted without being parsed."""

import asyncio
import re
from collections.abc import Callable
from typing import Final

__all__ = ["Events", "Http", "open_events"]

_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_MESSAGE: Final = re.compile(rb"~\d+~")
_LONGEST: Final = 64


class Http:
    """One keep-alive connection, a request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> "Http":
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**24))

    async def ask(
        self, method: str, path: str, body: bytes = b"", content_type: str = "text/plain"
    ) -> tuple[dict[str, str], bytes]:
        """Returns the answer's headers and body. Raises ``ConnectionError`` for a refusal."""
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        status = int(answer[9:12])
        headers = {
            name.lower(): value
            for name, _, value in (line.partition(": ") for line in answer.decode("latin-1").split("\r\n"))
        }
        if status in (204, 304):
            return headers, b""
        if headers.get("transfer-encoding") == "chunked":
            content = await self._chunks()
        else:
            content = await self._reader.readexactly(int(headers["content-length"]))
        if status >= 400:
            raise ConnectionError(f"{method} {path}: {status} {content[:200]!r}")
        return headers, content

    async def _chunks(self) -> bytes:
        content = b""
        while size := int(await self._reader.readline(), 16):
            content += (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readline()
        return content

    def close(self) -> None:
        self._writer.close()


class Events(asyncio.Protocol):
    """One event stream.

    Attributes:
        count: messages that came; a message is digits between tildes.
        heard: called after each read that brought messages.
    """

    def __init__(self, path: str) -> None:
        self.count = 0
        self.heard: Callable[[int], None] = lambda count: None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._path = path
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(
            f"GET {self._path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        if not self.ready.done():
            if b" 200 " not in data.split(b"\r\n", 1)[0]:
                self.ready.set_exception(ConnectionError(data[:200].decode("latin-1")))
            else:
                self.ready.set_result(None)
        data = self._rest + data
        found = _MESSAGE.findall(data)
        self._rest = data[data.rindex(b"~") + 1 :] if found else data[-_LONGEST:]
        if found:
            self.count += len(found)
            self.heard(len(found))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("it was closed"))
            self.ready.exception()  # its waiter may have given up


async def open_events(count: int, path: str, port: int, *, stalled: bool = False) -> list[Events]:
    """Open so many event streams, 50 at a time. ``stalled``: they stop reading once they are open."""
    loop = asyncio.get_running_loop()
    streams: list[Events] = []
    while len(streams) < count:
        some = range(min(50, count - len(streams)))
        made = [await loop.create_connection(lambda: Events(path), "127.0.0.1", port) for _ in some]
        for transport, events in made:
            await asyncio.wait_for(events.ready, 20)
            if stalled:
                transport.pause_reading()
            streams.append(events)
    return streams
