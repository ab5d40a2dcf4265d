"""The servers that are fuzzed: hubs for ``heartwire serve tools.fuzz.target:NAME``."""

import asyncio
import gc
from typing import Any, Final

from heartwire import Hub
from heartwire.errors import Forbidden

__all__ = ["API_KEY", "MAX_MESSAGE_BYTES", "TARGETS", "TOKEN_KEY"]

API_KEY: Final = "fuzz-fuzz-fuzz"
TOKEN_KEY: Final = "0123456789abcdef0123456789abcdef"  # noqa: S105 - of a server on a loopback address
MAX_MESSAGE_BYTES: Final = 16 * 1024

_OPTIONS: Final[dict[str, Any]] = {
    "api_key": API_KEY,
    "max_message_bytes": MAX_MESSAGE_BYTES,
    "max_channels_per_request": 20,
    "max_channels_per_connection": 20,
    # Bounds that a run reaches soon, so that memory which grows after that is a leak.
    "idempotency_window_s": 5,
    # Who leaves a request behind another one is noticed when the next heartbeat cannot be sent.
    "ping_interval_s": 3,
    "pong_timeout_s": 2,
    "sse_heartbeat_s": 2,
    "allowed_origins": ["https://app.example"],
}
_MEMORY: Final = "memory://?max_bytes=4000000&max_channels=300"


def _with_hooks(hub: Hub) -> Hub:
    hub.namespace("closed", publish=False, presence=False)
    hub.namespace("joins", join_leave=True, force_push_join_leave=True, force_positioning=True)
    hub.namespace("cache", history_size=1, force_recovery_mode="cache")
    hub.namespace("", history_size=50, subprotocols=("chat.v1",))

    @hub.rpc("echo")
    async def echo(client: Any, data: Any) -> Any:
        return data

    @hub.rpc("internals")
    async def internals(client: Any, data: Any) -> dict[str, int]:
        gc.collect()
        node = hub.node
        topics = node.switchboard.topics.values()
        return {
            "tasks": len(asyncio.all_tasks()),
            "connections": len(node.connections),
            "subscriptions": sum(len(topic.subscriptions) for topic in topics),
        }

    @hub.on_message
    async def message(client: Any, data: Any) -> None:
        client.send(data)

    return hub


def _guarded() -> Hub:
    allowed = {
        f"allow_{action}_for_{whom}": True
        for action in ("subscribe", "publish", "presence", "history")
        for whom in ("client", "anonymous")
    }
    hub = _with_hooks(
        Hub(
            _MEMORY,
            token_hmac_secret_key=TOKEN_KEY,
            allow_unknown_namespaces=True,
            publish_rate_per_s=2000,
            publish_burst=5000,
            **_OPTIONS,
        )
    )
    hub.namespace("", history_size=50, **allowed)  # type: ignore[arg-type]

    @hub.on_publish
    async def check(identity: Any, channel: str, data: bytes) -> None:
        if b"spam" in data:
            raise Forbidden("no spam")

    return hub


memory = _with_hooks(Hub(_MEMORY, allow_unknown_namespaces=True, **_OPTIONS))
sqlite = _with_hooks(Hub("sqlite:///fuzz.db", compress=True, allow_unknown_namespaces=True, **_OPTIONS))
guarded = _guarded()

TARGETS: Final = ("memory", "sqlite", "guarded")
