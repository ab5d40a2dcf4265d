"""The options of python-socketio's server, as those of ours."""

import logging
from collections.abc import Sequence
from typing import Any, Final, TypedDict

from heartwire.dialects.socketio.engine_io import EngineSettings
from heartwire.engines.options import without_password
from heartwire.errors import ConfigError
from heartwire.hub.hub import Hub
from heartwire.server.socketio.cors import Allowed, Cors
from heartwire.server.socketio.program import Program
from heartwire.server.socketio.recovery import Applies, RecoveryOptions
from heartwire.server.socketio.server import SocketServer
from heartwire.socketio.emitting import AsyncRedisManager, json_of

__all__ = ["Recovers", "ServerArguments", "check_settings", "hub_of", "make_server"]

log = logging.getLogger("heartwire")

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
"""Settings by the names that programs give them."""


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


def hub_of(given: object, manager: object) -> Hub:
    """The hub of a server's first argument and its ``client_manager``. Raises `ConfigError`."""
    if isinstance(given, AsyncRedisManager):
        given, manager = None, given
    if manager is not None:
        if not isinstance(manager, AsyncRedisManager) or manager.is_write_only:
            fix = "an AsyncRedisManager that is not write-only; better, give AsyncServer the engine's URL"
            raise ConfigError("client_manager", manager, fix)
        if given is not None:
            raise ConfigError("client_manager", manager.url, "the engine is given already")
        log.warning(
            "client_manager is the engine's URL here: AsyncServer(%r) says the same",
            without_password(manager.url),
        )
        given = manager.url
    if given is None or isinstance(given, str):
        return Hub(given or "memory://")
    if not isinstance(given, Hub):
        raise ConfigError("hub_or_engine", given, "a Hub, or the URL of an engine")
    return given


def make_server(hub: Hub, program: Program, given: ServerArguments) -> SocketServer:
    """Make the server of a hub, which then has it. Raises `ConfigError`."""
    for name in given:
        if name not in ServerArguments.__annotations__:
            raise ConfigError(name, given[name], "is not an option of a Socket.IO server")  # type: ignore[literal-required]
    if given.get("serializer", "default") != "default":
        raise ConfigError("serializer", given["serializer"], "only the default one, JSON, is spoken")
    if "socketio" in hub.node.attached:
        raise ConfigError("hub_or_engine", hub, "this hub has a Socket.IO server already")
    server = SocketServer(
        hub.node,
        program,
        _settings(given),
        json=json_of(given.get("json")),
        cors=Cors(given.get("cors_allowed_origins"), credentials=given.get("cors_credentials", True)),
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
    for name, option in _ABOVE_ZERO.items():
        if getattr(settings, name) <= 0:
            raise ConfigError(option, getattr(settings, name), "more than 0")


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
    if not isinstance(given, RecoveryOptions):
        if not callable(given):
            raise ConfigError("connection_state_recovery", given, "True, a function or RecoveryOptions")
        return RecoveryOptions(applies=given)
    if given.max_disconnection_s <= 0 or given.history_size <= 0:
        raise ConfigError("connection_state_recovery", given, "numbers above 0")
    return given
