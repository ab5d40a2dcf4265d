"""Peer: `websockets` with its own `broadcast()`, on uvloop. Usage: websockets_server.py PORT."""

# mypy: disable-error-code="import-not-found, import-untyped"

import asyncio
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

subscribers: set[ServerConnection] = set()


async def handle(connection: ServerConnection) -> None:
    """Serve one connection by its path: /sub listens, /pub sends to all, /echo gets its own back."""
    path = connection.request.path if connection.request else ""
    if path == "/sub":
        subscribers.add(connection)
        await connection.wait_closed()
        subscribers.discard(connection)
    elif path == "/echo":
        async for message in connection:
            await connection.send(message)
    else:
        async for message in connection:
            broadcast(subscribers, message)


async def main(port: int) -> None:
    """Serve until ended. No compression, and no pings within a run, as for every peer."""
    # A listen queue of 100 (asyncio's default) makes refused connects come back after a second: not what is
    # measured.
    async with serve(handle, "127.0.0.1", port, compression=None, ping_interval=None, backlog=4096):
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
