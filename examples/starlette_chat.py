"""A chat inside a Starlette application, with its own page.

pip install heartwire
uvicorn starlette_chat:app        # and open http://127.0.0.1:8000 in two windows
"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route

from heartwire import Hub

hub = Hub()  # Hub("sqlite:///chat.db") keeps the messages across restarts
hub.namespace("", history_size=100)

PAGE = """<!doctype html>
<title>Chat</title>
<ul id=list></ul>
<form id=form><input id=text placeholder="Say something" autofocus></form>
<script>
  const socket = new WebSocket(location.origin.replace("http", "ws") + "/realtime/channels/chat?since=earliest");
  socket.onmessage = ({data}) => list.appendChild(document.createElement("li")).textContent = data;
  form.onsubmit = event => { event.preventDefault(); socket.send(text.value); text.value = ""; };
</script>"""


async def page(request: Request) -> Response:
    """The chat."""
    return HTMLResponse(PAGE)


async def announce(request: Request) -> Response:
    """Publish from your own code."""
    position = await hub.publish("chat", (await request.body()).decode())
    return JSONResponse({"position": str(position)})


app = Starlette(
    routes=[Route("/", page), Route("/announce", announce, methods=["POST"]), Mount("/realtime", hub.asgi())],
    lifespan=hub.lifespan,
)
