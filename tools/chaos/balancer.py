"""A balancer: each TCP connection goes to the next node that lives."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

__all__ = ["balancer"]

_PIECE_BYTES = 65536


class _Balancer:
    def __init__(self, nodes: Sequence[Path]) -> None:
        self._nodes = nodes
        self._turn = 0
        self._open: set[asyncio.Task[None]] = set()

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection, until either end has ended it."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        node = await self._connect()
        if node is None:
            writer.transport.abort()
        else:
            await _carry((reader, node[1]), (node[0], writer))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for _ in self._nodes:
            self._turn += 1
            with contextlib.suppress(OSError):
                return await asyncio.open_unix_connection(self._nodes[self._turn % len(self._nodes)])
        return None

    async def close(self) -> None:
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)


async def _carry(*ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    tasks = [asyncio.ensure_future(_pass_on(*way)) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _, writer in ways:
            writer.close()  # what is written still goes out


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_PIECE_BYTES):
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def balancer(nodes: Sequence[Path]) -> AsyncIterator[str]:
    """Listen on a free port as long as the block runs. ``nodes``: their Unix sockets. Yields the URL."""
    one = _Balancer(nodes)
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0, backlog=512)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await one.close()
