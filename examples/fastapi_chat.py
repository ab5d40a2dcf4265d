"""A chat inside a FastAPI application.

pip install heartwire fastapi
uvicorn fastapi_chat:app

Follow in one terminal, publish from another, publish from your own code:

curl -N -H 'Accept: text/event-stream' localhost:8000/realtime/channels/chat:lobby
curl -d hello 'localhost:8000/realtime/channels/chat:lobby?name=ann'
curl -X POST 'localhost:8000/announce/lobby?text=Lunch!'
"""

from fastapi import FastAPI
from starlette.requests import HTTPConnection

from heartwire import Hub, Identity

hub = Hub()  # Hub("sqlite:///chat.db") keeps the messages across restarts


@hub.authenticate
def who(request: HTTPConnection) -> str | None:
    """A user's name, or None for anonymous. A real application checks a session cookie or a token."""
    return request.query_params.get("name")


@hub.namespace("chat", history_size=1000, history_ttl_s=86400, presence=True)
def may(identity: Identity, action: str, channel: str) -> bool:
    """Every client may read; clients with a name may write."""
    return action != "publish" or identity.user != ""


app = FastAPI(lifespan=hub.lifespan)
app.mount("/realtime", hub.asgi())


@app.post("/announce/{room}")
async def announce(room: str, text: str) -> dict[str, str]:
    """Publish from your own code: JSON to everyone in the room."""
    position = await hub.publish(f"chat:{room}", {"announcement": text})
    return {"position": str(position)}
