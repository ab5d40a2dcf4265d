"""A Socket.IO server for tests with several workers: ``ENGINE``, ``RECOVERY`` and ``TICK_S`` of the
environment say how."""

import asyncio
import os
from typing import Any, Final

from heartwire import Hub
from heartwire.socketio import AsyncServer

TICK_S: Final = float(os.environ.get("TICK_S", "0"))

hub = Hub(os.environ.get("ENGINE", "memory://"))
sio = AsyncServer(hub, connection_state_recovery=os.environ.get("RECOVERY") == "1")
_ticking: list[object] = []
_forwarded: list[object] = []
_poll = hub.node.bus.handlers["socketio-poll"]


async def counted(about: Any) -> Any:
    """A poll that came to another worker."""
    _forwarded.append(about)
    return await _poll(about)


hub.node.bus.handlers["socketio-poll"] = counted


async def tick() -> None:
    """Tell all clients, whichever worker they are at, one number after the other."""
    number = 0
    while True:
        number += 1
        await sio.emit("tick", (os.getpid(), number))
        await asyncio.sleep(TICK_S)


@sio.event
async def connect(sid: str, environ: dict[str, Any]) -> None:
    if TICK_S and not _ticking:
        _ticking.append(sio.start_background_task(tick))


@sio.event
async def sum(sid: str, a: int, b: int) -> dict[str, int]:
    return {"sum": a + b, "pid": os.getpid(), "forwarded": len(_forwarded)}


@sio.event
async def tell(sid: str, to: str, text: str) -> None:
    await sio.emit("told", text, to=to)
