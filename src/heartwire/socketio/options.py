"""The options of python-socketio's server, as those of ours."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final, TypedDict

from heartwire.dialects.socketio.engine_io import EngineSettings
from heartwire.dialects.socketio.packet import Json
from heartwire.errors import ConfigError
from heartwire.hub.hub import Hub
from heartwire.server.socketio.cors import Allowed, Cors
from heartwire.server.socketio.program import Program
from heartwire.server.socketio.recovery import Applies, RecoveryOptions
from heartwire.server.socketio.server import SocketServer
from heartwire.socketio.emitting import AsyncRedisManager

__all__ = ["Recovers", "ServerArguments", "check_settings", "make_server"]

Recovers = bool | RecoveryOptions | Applies
"""``True``, options, or a function that is given a request's environment and its auth."""

_TRANSPORTS: Final = ("polling", "websocket")

_ABOVE_ZERO: Final = {
    "ping_interval_s": "ping_interval",
    "ping_timeout_s": "ping_timeout",
    "connect_timeout_s": "connect_timeout",
    "upgrade_timeout_s": "upgrade_timeout",
    "max_payload_bytes": "max_http_buffer_size",
}


class ServerArguments(TypedDict, total=False):
    """Keyword arguments of `AsyncServer`, which documents them."""

    connection_state_recovery: Recovers
    client_manager: AsyncRedisManager | None
    logger: object
    json: Any
    async_handlers: bool
    always_connect: bool
    namespaces: Sequence[str] | str | None
    serializer: str
    async_mode: str | None
    ping_interval: float | tuple[float, float]
    ping_timeout: float
    max_http_buffer_size: int
    max_attachments: int
    connect_timeout: float
    upgrade_timeout: float
    allow_upgrades: bool
    http_compression: bool
    compression_threshold: int
    cookie: str | dict[str, Any] | None
    cors_allowed_origins: Allowed
    cors_credentials: bool
    monitor_clients: bool
    transports: Sequence[str] | str | None
    engineio_logger: object


def make_server(hub: Hub, program: Program, given: ServerArguments) -> SocketServer:
    """Make the server of a hub, which then has it. Raises `ConfigError`."""
    for name in given:
        if name not in ServerArguments.__annotations__:
            raise ConfigError(name, given[name], "is not an option of a Socket.IO server")  # type: ignore[literal-required]
    if given.get("serializer", "default") != "default":
        raise ConfigError("serializer", given["serializer"], "only the default one, JSON, is spoken")
    if "socketio" in hub.node.attached:
        raise ConfigError("hub_or_engine", hub, "this hub has a Socket.IO server already")
    json, origins = given.get("json"), given.get("cors_allowed_origins")
    server = SocketServer(
        hub.node,
        program,
        _settings(given),
        json=Json() if json is None else Json(partial(json.dumps, separators=(",", ":")), json.loads),
        cors=Cors(origins, credentials=given.get("cors_credentials", True)),
        max_attachments=given.get("max_attachments", 10),
        serial_handlers=not given.get("async_handlers", True),
        accepts_first=given.get("always_connect", False),
        recovery=_recovery(given.get("connection_state_recovery", False)),
    )
    hub.node.attached["socketio"] = server
    return server


def _settings(given: ServerArguments) -> EngineSettings:
    interval, threshold = given.get("ping_interval", 25), given.get("compression_threshold", 1024)
    settings = EngineSettings(
        ping_interval_s=interval[0] if isinstance(interval, tuple) else interval,
        ping_timeout_s=given.get("ping_timeout", 20),
        max_payload_bytes=given.get("max_http_buffer_size", 1_000_000),
        upgrade_timeout_s=given.get("upgrade_timeout", 10),
        connect_timeout_s=given.get("connect_timeout", 45),
        transports=_transports(given.get("transports")),
        allow_upgrades=given.get("allow_upgrades", True),
        compression_threshold=threshold if given.get("http_compression", True) else None,
        cookie=_cookie(given.get("cookie")),
    )
    check_settings(settings)
    return settings


def check_settings(settings: EngineSettings) -> None:
    """Raises `ConfigError` for times that do not go together."""
    for name in (
        "ping_interval_s",
        "ping_timeout_s",
        "connect_timeout_s",
        "upgrade_timeout_s",
        "max_payload_bytes",
    ):
        if getattr(settings, name) <= 0:
            raise ConfigError(name.removesuffix("_s"), getattr(settings, name), "more than 0")


def _transports(given: Sequence[str] | str | None) -> Any:
    if given is None:
        return _TRANSPORTS
    names = (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        if name not in _TRANSPORTS:
            raise ConfigError("transports", name, f"one of {', '.join(_TRANSPORTS)}")
    return names


def _cookie(given: str | dict[str, Any] | None) -> tuple[str, dict[str, Any]] | None:
    if given is None:
        return None
    if isinstance(given, str):
        return given, {"path": "/", "SameSite": "Lax"}
    if "name" not in given:
        raise ConfigError("cookie", given, "a dictionary with a name")
    return given["name"], {name: value for name, value in given.items() if name != "name"}


def _recovery(given: Recovers) -> RecoveryOptions | None:
    if isinstance(given, bool):
        return RecoveryOptions() if given else None
    return given if isinstance(given, RecoveryOptions) else RecoveryOptions(applies=given)
