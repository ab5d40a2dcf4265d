"""A chat over Socket.IO: rooms, names, who is typing, and clients that lose nothing when their network breaks.

    heartwire serve socketio_chat:app

or, with FastAPI behind it in one process, ``uvicorn socketio_chat:app``. Any Socket.IO client of protocol 5 can
join; the page at ``/`` loads the official one from a CDN. ``CHAT_ENGINE`` names the store: with
``sqlite:///chat.db`` events outlive a restart, and ``--workers 4`` needs no sticky sessions.
"""

import os
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

import heartwire.socketio as socketio

sio = socketio.AsyncServer(os.environ.get("CHAT_ENGINE"), connection_state_recovery=True)
web = FastAPI()
app = socketio.ASGIApp(sio, web)


@sio.event
async def connect(sid: str, environ: dict[str, Any], auth: dict[str, Any] | None) -> None:
    name = (auth or {}).get("name")
    if not isinstance(name, str) or not 0 < len(name) <= 32:
        raise socketio.exceptions.ConnectionRefusedError("send a name: io(url, {auth: {name: 'Ann'}})")
    if sio.recovered(sid):  # its rooms and its session are what they were, and what it missed is on its way
        return
    await sio.save_session(sid, {"name": name})


@sio.event
async def join(sid: str, room: str) -> str:
    """What it returns is the answer to the client's acknowledgement."""
    name = (await sio.get_session(sid))["name"]
    await sio.enter_room(sid, room)
    await sio.emit("joined", {"room": room, "name": name}, to=room, skip_sid=sid)
    return name


@sio.event
async def say(sid: str, room: str, text: str) -> str:
    """With ``await`` the event is kept before the client is told that it is."""
    if room not in sio.rooms(sid):
        return "join the room first"
    name = (await sio.get_session(sid))["name"]
    await sio.emit("said", {"room": room, "name": name, "text": text}, to=room)
    return "kept"


@sio.event
async def typing(sid: str, room: str) -> None:
    name = (await sio.get_session(sid))["name"]
    await sio.emit("typing", {"room": room, "name": name}, to=room, skip_sid=sid, ignore_queue=True)


@web.post("/announce/{room}")
async def announce(room: str, text: str) -> dict[str, str]:
    """Any part of the program may emit."""
    await sio.emit("said", {"room": room, "name": "", "text": text}, to=room)
    return {"room": room}


@web.get("/")
async def page() -> HTMLResponse:
    return HTMLResponse(PAGE)


PAGE = """<!doctype html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Chat</title>
<style>
  body { font: 1.1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 1rem auto; padding: 0 1rem }
  input { font: inherit; width: 100%; box-sizing: border-box; padding: .5rem }
</style>
<script src="https://cdn.jsdelivr.net/npm/socket.io-client@4/dist/socket.io.min.js"></script>
<ul id="said"></ul>
<form id="form"><input id="text" autocomplete="off" placeholder="Say something" autofocus></form>
<p id="state">connecting</p>
<script>
  const socket = io({auth: {name: prompt("Your name?") || "somebody"}});
  const line = (text) => document.getElementById("said").insertAdjacentElement(
    "beforeend", Object.assign(document.createElement("li"), {textContent: text}));
  const state = (text) => { document.getElementById("state").textContent = text; };
  socket.on("connect", () => {
    state(socket.recovered ? "back, and missed nothing" : "connected");
    if (!socket.recovered) socket.emit("join", "lobby", () => line("You have joined."));
  });
  socket.on("disconnect", () => state("away"));
  socket.on("connect_error", (error) => state(error.message));
  socket.on("joined", ({name}) => line(`${name} has joined.`));
  socket.on("said", ({name, text}) => { line(`${name || "*"}: ${text}`); state("connected"); });
  socket.on("typing", ({name}) => state(`${name} is typing`));
  const text = document.getElementById("text");
  text.oninput = () => socket.volatile.emit("typing", "lobby");
  document.getElementById("form").onsubmit = (event) => {
    event.preventDefault();
    socket.emit("say", "lobby", text.value);
    text.value = "";
  };
</script>
"""
