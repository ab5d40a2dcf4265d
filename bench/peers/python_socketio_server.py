"""Peer: python-socketio on uvicorn, `emit` to one room. Usage: python_socketio_server.py PORT [REDIS-URL].

With a Redis URL it is one of several nodes.
"""

# mypy: disable-error-code="import-not-found, import-untyped, no-any-unimported"
# mypy: allow-untyped-decorators

import sys

import socketio
import uvicorn

ROOM = "bench"
# Pings rest longer than a run lasts, as for every peer; polling and WebSocket both stay on.
manager = socketio.AsyncRedisManager(sys.argv[2]) if len(sys.argv) > 2 else None
server = socketio.AsyncServer(
    client_manager=manager, async_mode="asgi", ping_interval=600, ping_timeout=600, cors_allowed_origins="*"
)


sids: list[str] = []


@server.event
async def connect(sid: str, _environ: dict[str, object]) -> None:
    """Everybody is in the room; the publisher is left out when it sends."""
    await server.enter_room(sid, ROOM)
    sids.append(sid)


@server.on("pub")
async def publish(sid: str, message: str) -> None:
    """Send one message to all others."""
    await server.emit("m", message, room=ROOM, skip_sid=sid)


@server.on("each")
async def emit_each(sid: str, message: str) -> None:
    """Send one message to all others, one by one."""
    for other in sids:
        if other != sid:
            await server.emit("m", message, to=other)


@server.on("echo")
async def echo(sid: str, message: str) -> None:
    """Send one message back."""
    await server.emit("m", message, to=sid)


if __name__ == "__main__":
    uvicorn.run(
        socketio.ASGIApp(server),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        backlog=4096,
    )
