"""Heartwire speaking Socket.IO, with the handlers of python_socketio_server.py: ``heartwire serve
heartwire_socketio:HUB``, HUB one of ``direct``, ``recovering`` and ``durable``."""

# mypy: allow-untyped-decorators

from typing import Final

import heartwire.socketio as socketio
from heartwire import Hub

ROOM: Final = "bench"
CHANNELS: Final = 100


def _hub(engine: str, *, recovers: bool) -> Hub:
    hub = Hub(engine, connects_per_s=0)
    # Pings rest longer than a run lasts, as for every peer.
    server = socketio.AsyncServer(
        hub, ping_interval=600, ping_timeout=300, cors_allowed_origins="*", connection_state_recovery=recovers
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

    @server.on("publish")
    async def publish_each(_sid: str, message: str) -> None:
        """Publish one message to each of the channels, as a program of the plain dialect does."""
        for number in range(CHANNELS):
            await hub.publish(f"each-{number}", message)

    @server.on("echo")
    async def echo(sid: str, message: str) -> None:
        """Send one message back."""
        await server.emit("m", message, to=sid)

    return hub


direct = _hub("memory", recovers=False)
recovering = _hub("memory", recovers=True)
durable = _hub("sqlite:///bench.db", recovers=True)
