"""The application that the SDKs talk to: `heartwire serve tests.integration.centrifugal.sdk.app:hub`, run in a folder of
its own."""

import asyncio
import os
from typing import Any

from heartwire import ConnectedClient, Disconnect, Forbidden, Hub, Identity, Unauthorized

SECRET = "a secret that is long enough for HS256"

_open = {f"allow_{action}_for_client": True for action in ("subscribe", "publish", "presence", "history")}
_anonymous = {
    f"allow_{action}_for_anonymous": True for action in ("subscribe", "publish", "presence", "history")
}
OPEN: dict[str, Any] = _open | _anonymous

hub = Hub(
    os.environ.get("APP_ENGINE", "sqlite:///test.db"),
    token_hmac_secret_key=SECRET,
    allow_anonymous=True,
    user_subscribe_to_personal=True,
    user_personal_channel_namespace="personal",
    ping_interval_s=float(os.environ.get("APP_PING_S", "25")),
    pong_timeout_s=float(os.environ.get("APP_PING_S", "25")) / 2.5,
    max_message_bytes=65536,
    allowed_origins=tuple(filter(None, [os.environ.get("APP_ORIGIN", "")])),
    publish_rate_per_s=float(os.environ.get("APP_RATE", "0")),
    publish_burst=20,
)
hub.namespace("room", join_leave=True, force_push_join_leave=True, **OPEN)
hub.namespace("asked", join_leave=True, **OPEN)
hub.namespace("news", history_size=1000, **OPEN)
hub.namespace("short", history_size=3, **OPEN)
hub.namespace("cache", force_recovery_mode="cache", **OPEN)
hub.namespace("quiet", presence=False, **OPEN)
hub.namespace("feed", allow_subscribe_for_client=False)
hub.namespace("personal")
hub.namespace("private", allow_subscribe_for_client=False)
app = hub.asgi()


@hub.on_connect
async def welcome(client: ConnectedClient) -> Any:
    asked = client.data if isinstance(client.data, dict) else {}
    async with asyncio.timeout(5):  # works only in a task
        await asyncio.sleep(0)
    if asked.get("refuse"):
        raise Unauthorized("not you")
    if asked.get("fault"):
        raise RuntimeError("a fault in on_connect")
    for channel in asked.get("channels", ()):
        await client.subscribe(channel)
    return {"hello": client.user, "name": client.name}


@hub.on_disconnect
async def gone(client: ConnectedClient, why: Disconnect) -> None:
    if not hub.node.draining:
        await hub.publish("news:ends", {"client": client.id, "code": why.code, "reason": why.reason})


@hub.on_publish
def check(identity: Identity, channel: str, data: bytes) -> Any:
    if data == b'"forbidden"':
        raise Forbidden("we do not say that")
    if data == b'"fault"':
        raise RuntimeError("a fault in on_publish")
    return {"shouted": "HELLO"} if data == b'"shout"' else None


@hub.rpc("echo")
async def echo(client: ConnectedClient, data: Any) -> Any:
    await asyncio.sleep(0)
    return {"user": client.user, "data": data}


@hub.rpc("add")
def add(client: ConnectedClient, data: Any) -> Any:
    return sum(data)


@hub.rpc("fault")
async def fault(client: ConnectedClient, data: Any) -> Any:
    raise RuntimeError("a fault in a method")


@hub.rpc("join")
async def join(client: ConnectedClient, data: Any) -> None:
    await client.subscribe(data)


@hub.rpc("drop")
def drop(client: ConnectedClient, data: Any) -> Any:
    return client.unsubscribe(data["channel"], code=data["code"], reason="as you asked")


@hub.rpc("tell")
def tell(client: ConnectedClient, data: Any) -> None:
    client.send({"told": data})


@hub.rpc("kick")
def kick(client: ConnectedClient, data: Any) -> None:
    client.disconnect(data["code"], "as you asked")


@hub.rpc("burst")
async def burst(client: ConnectedClient, data: Any) -> None:
    for number in range(data["count"]):
        await hub.publish(data["channel"], {"n": number})


@hub.rpc("forget")
async def forget(client: ConnectedClient, data: Any) -> None:
    await hub.remove_history(data)


@hub.on_message
async def heard(client: ConnectedClient, data: Any) -> None:
    await hub.publish("news:heard", data)
