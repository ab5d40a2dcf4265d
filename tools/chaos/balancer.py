"""A balancer: each TCP connection goes to the next node that lives."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

__all__ = ["balancer"]


class _Side(asyncio.Protocol):
    """One side of a connection; what it reads, the other side writes, as fast as that takes it."""

    def __init__(self, sides: "set[_Side]", other: "_Side | None" = None) -> None:
        self.transport: asyncio.Transport | None = None
        self.other = other
        self._sides = sides

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._sides.add(self)
        if self.other is not None:
            self.other.other = self

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._sides.discard(self)
        self.transport = None
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()  # what is written still goes out


class _Balancer:
    def __init__(self, nodes: Sequence[Path]) -> None:
        self._nodes = nodes
        self._turn = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.sides: set[_Side] = set()

    def connect(self, side: _Side, client: asyncio.Transport) -> None:
        """Connect a client with the next node that lives."""
        task = asyncio.ensure_future(self._connect(side, client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, side: _Side, client: asyncio.Transport) -> None:
        client.pause_reading()
        loop = asyncio.get_running_loop()
        for _ in self._nodes:
            self._turn += 1
            node = str(self._nodes[self._turn % len(self._nodes)])
            with contextlib.suppress(OSError):
                transport, _ = await loop.create_unix_connection(lambda: _Side(self.sides, side), node)
                if side.transport is None:
                    transport.close()
                else:
                    client.resume_reading()
                return
        client.abort()

    async def close(self) -> None:
        """End all connections."""
        for task in self._tasks:
            task.cancel()
        for side in self.sides:
            if side.transport is not None:
                side.transport.abort()
        while self.sides:  # noqa: ASYNC110 - each ends in a turn or two
            await asyncio.sleep(0)


class _Client(_Side):
    """The side of a client."""

    def __init__(self, owner: _Balancer) -> None:
        super().__init__(owner.sides)
        self._owner = owner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self._owner.connect(self, self.transport)


@contextlib.asynccontextmanager
async def balancer(nodes: Sequence[Path]) -> AsyncIterator[str]:
    """Listen on a free port as long as the block runs. ``nodes``: their Unix sockets. Yields the URL."""
    one = _Balancer(nodes)
    server = await asyncio.get_running_loop().create_server(lambda: _Client(one), "127.0.0.1", 0, backlog=512)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await one.close()
