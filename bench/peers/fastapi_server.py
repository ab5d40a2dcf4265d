"""Peer: FastAPI on uvicorn, with the loop of its tutorial: `for socket in connections: await
socket.send_text(...)`.

Usage: fastapi_server.py PORT. uvicorn runs with uvloop and httptools.
"""

# mypy: disable-error-code="import-not-found, import-untyped, no-any-unimported"
# mypy: allow-untyped-decorators

import sys
from collections import defaultdict

import uvicorn
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect

app = FastAPI()
connections: defaultdict[str, list[WebSocket]] = defaultdict(list)


async def broadcast(channel: str, message: str) -> None:
    """Send one message to every subscriber of a channel, one after another."""
    for socket in list(connections[channel]):
        await socket.send_text(message)


@app.websocket("/sub")
@app.websocket("/sub/{channel}")
async def subscribe(socket: WebSocket, channel: str = "") -> None:
    """Listen until the other side goes."""
    await socket.accept()
    connections[channel].append(socket)
    try:
        while True:
            await socket.receive_text()
    except WebSocketDisconnect:
        connections[channel].remove(socket)


@app.websocket("/pub")
async def publish(socket: WebSocket) -> None:
    """Send every message that comes to all subscribers."""
    await socket.accept()
    try:
        while True:
            await broadcast("", await socket.receive_text())
    except WebSocketDisconnect:
        pass


@app.websocket("/echo")
async def echo(socket: WebSocket) -> None:
    """Send every message back."""
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        pass


@app.post("/pub/{channel}")
async def post(channel: str, request: Request) -> dict[str, bool]:
    """Send the body to all subscribers of a channel."""
    await broadcast(channel, (await request.body()).decode())
    return {"ok": True}


if __name__ == "__main__":
    uvicorn.run(
        app,
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
