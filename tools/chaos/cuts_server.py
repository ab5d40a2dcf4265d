"""The server of `tools.chaos.cuts`: ``python -m tools.chaos.cuts_server PORT ENGINE KEPT [--forgetful]``.

It emits a number to a room every 20 ms, and writes each to the file KEPT once that is kept.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any, Final

import uvicorn

import heartwire.socketio as socketio

PERIOD_S: Final = 0.02


def main(port: int, engine: str, kept: Path, *, recovers: bool) -> None:
    """Serve until killed."""
    sio = socketio.AsyncServer(engine, connection_state_recovery=recovers, ping_interval=1.5, ping_timeout=1)
    begun: list[asyncio.Task[None]] = []

    async def emit() -> None:
        with kept.open("a", encoding="utf-8") as file:
            while True:
                number = time.monotonic_ns() // 1000  # goes on over restarts
                await sio.emit("tick", ("emitter", number), room="everybody")
                file.write(f"{number}\n")
                file.flush()
                await sio.emit("other room", number, room="nobody")
                await asyncio.sleep(PERIOD_S)

    @sio.event
    async def connect(sid: str, environ: dict[str, Any]) -> None:
        if not environ["heartwire.recovered"]:
            await sio.enter_room(sid, "everybody")

    async def start() -> None:
        begun.append(asyncio.ensure_future(emit()))

    app = socketio.ASGIApp(sio, on_startup=start)
    hub = sio.hub
    uvicorn.run(
        app, host="127.0.0.1", port=port, log_level="warning", http=hub.http_class(), ws=hub.websocket_class()
    )


if __name__ == "__main__":
    _, port, engine, kept, *flags = sys.argv
    main(int(port), engine, Path(kept), recovers="--forgetful" not in flags)
