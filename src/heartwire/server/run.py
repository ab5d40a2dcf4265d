"""`heartwire serve`: the hub behind uvicorn, on sockets that notice dead peers."""

import asyncio
import contextlib
import ctypes
import gc
import os
import socket
import sys
from collections.abc import Callable
from typing import Any, Final

import uvicorn

from heartwire.errors import ConfigError
from heartwire.hub.hub import Hub
from heartwire.hub.origins import is_loopback
from heartwire.server.config import Settings
from heartwire.server.logs import log_config
from heartwire.transports.unix import bind_unix

__all__ = ["hub_from", "is_loopback", "listen", "prepare", "serve", "serve_on", "url_of"]

_SEND_BUFFER_BYTES: Final = 256 * 1024
"""Else the kernel lets an unread connection grow to 4 MiB; this covers 20 Mbit/s at 100 ms."""

_UNSENT_BYTES: Final = 64 * 1024
"""What the kernel holds for a peer that takes nothing. Measured with 5,000 of them: 95 KiB each instead of
512, which is more than all TCP sockets of a machine with 24 GiB may have, so that those who do read
starved."""

_SHUTDOWN_S: Final = 5

_MMAP_THRESHOLD: Final = -3
"""``M_MMAP_THRESHOLD`` of glibc's malloc.h."""

_RETURNED_BYTES: Final = 64 * 1024
"""Pieces of memory from this size on go back to the system when they are freed. Without it glibc keeps what a
wave of uploads has used: 1,000 half uploads cost 43 to 100 MB instead of 27."""


def hub_from(settings: Settings) -> Hub:
    """Make the hub of the settings."""
    return Hub(settings.engine, options=settings.hub_options)


def serve(settings: Settings, hub: Hub, *, started: Callable[[str], None]) -> None:
    """Serve until a signal ends it. ``started`` is called with the URL once connections are accepted.

    Raises:
        ConfigError: the address cannot be listened on, or must not be.
        EngineError: the store cannot be opened.
    """
    prepare(settings, hub)
    [listener] = listen(settings)
    serve_on(listener, settings, hub, started=lambda: started(url_of(settings, listener)))


def prepare(settings: Settings, hub: Hub) -> None:
    """Check what can be checked before anything is opened, and guard the names of a local server. Raises
    `ConfigError`."""
    _check_exposure(settings, hub)
    if settings.uds is None and is_loopback(settings.host) and _is_open(hub):
        hub.node.guard_hosts()
    for name in ("tls_cert", "tls_key"):
        file = getattr(settings, name)
        if file is not None and not os.access(file, os.R_OK):
            raise ConfigError(name, file, "cannot be read")


def serve_on(
    listener: socket.socket, settings: Settings, hub: Hub, *, started: Callable[[], None], settle_s: float = 0
) -> None:
    """Serve on a socket that listens, until a signal ends it, and close it. Raises `EngineError`.

    Args:
        started: called on the event loop once connections are accepted.
        settle_s: how long requests are still served after the last connection was accepted, where others go
            on to accept them.
    """
    _return_memory()
    with contextlib.closing(listener):
        _runner(settings)(_serve(settings, hub, listener, started, settle_s))


async def _serve(
    settings: Settings, hub: Hub, listener: socket.socket, started: Callable[[], None], settle_s: float
) -> None:
    await hub.start()  # before uvicorn, whose own words for a failure at start say less
    server = _Server(uvicorn_config(settings, hub), started, settle_s)
    await server.serve(sockets=[listener])


def uvicorn_config(settings: Settings, hub: Hub) -> uvicorn.Config:
    """The set-up of uvicorn; `docs/deploy.md` has the same for programs that start it themselves."""
    around = _around(hub)
    return uvicorn.Config(
        hub.asgi(demo=settings.demo) if around is None else around,
        http=(around or hub).http_class(),
        ws=(around or hub).websocket_class(),
        ws_max_size=hub.options.max_frame_bytes
        + 64 * 1024,  # so that our limit, which names itself, comes first
        ws_ping_interval=settings.ping_interval_s,
        ws_ping_timeout=settings.pong_timeout_s,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=log_config(settings.log_format, settings.log_level),
        access_log=settings.access_log,
        server_header=False,
        timeout_keep_alive=75,  # longer than a slow poller's pause, or each poll pays for a new connection
        timeout_graceful_shutdown=_SHUTDOWN_S,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )


class _Server(uvicorn.Server):
    """uvicorn, with one call when it accepts connections, and a pause when it has accepted the last."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None], settle_s: float) -> None:
        super().__init__(config)
        self._on_started = started
        self._settle_s = settle_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # What is there now lives as long as the server; full collections need not go through it.
        gc.collect()
        gc.freeze()
        await super().startup(sockets)
        if self.started:
            self._on_started()

    async def main_loop(self) -> None:
        await super().main_loop()
        if self._settle_s:
            for server in self.servers:
                server.close()
            await asyncio.sleep(self._settle_s)

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        # uvicorn raises the signal again once it has stopped.
        with contextlib.suppress(KeyboardInterrupt), super().capture_signals():
            yield
            self._captured_signals.clear()


def _runner(settings: Settings) -> Callable[[Any], None]:
    """uvloop where it is installed (it is not made for Windows and PyPy), else asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


def _around(hub: Hub) -> Any:
    """The application round a hub that is to be served in its place: see `heartwire.socketio.ASGIApp`."""
    return hub.node.attached.get("asgi")


def _is_open(hub: Hub) -> bool:
    """Whether nobody is asked who they are."""
    return hub.node.authenticator is None or hub.options.insecure


def _check_exposure(settings: Settings, hub: Hub) -> None:
    is_ours = settings.uds is None and not is_loopback(settings.host) and _around(hub) is None
    is_closed = not is_ours or not _is_open(hub)
    if not is_closed and not settings.allow_anonymous:
        fix = (
            "others can reach this address, and nobody is asked who they are:"
            " add @hub.authenticate or a token key, or --allow-anonymous"
        )
        raise ConfigError("host", settings.host, fix)


def listen(settings: Settings, count: int = 1) -> list[socket.socket]:
    """Return sockets that listen on the address of the settings: ``count`` of them where the kernel spreads
    connections over several (Linux, TCP), else one. Raises `ConfigError`."""
    try:
        if settings.uds is not None:
            mode = None if settings.uds_mode is None else int(settings.uds_mode, 8)
            listeners = [bind_unix("uds", settings.uds, mode)]
        else:
            listeners = _bind(settings, count if sys.platform == "linux" else 1)
        for listener in listeners:
            listener.listen(2048)
    except OSError as error:
        where = settings.uds or f"{settings.host}:{settings.port}"
        raise ConfigError(
            "port" if settings.uds is None else "uds", where, f"cannot listen: {error.strerror or error}"
        ) from None
    return listeners


def _bind(settings: Settings, count: int) -> list[socket.socket]:
    family, _, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
    if count == 1:
        return [_bound(family, address)]
    if settings.port:  # only a socket without the option learns that another program listens there
        _bound(family, address).close()
    first = _bound(family, address, is_one_of_many=True)
    address = first.getsockname()
    return [first, *(_bound(family, address, is_one_of_many=True) for _ in range(count - 1))]


def _bound(family: int, address: Any, *, is_one_of_many: bool = False) -> socket.socket:
    # asyncio switches Nagle's algorithm off only where the protocol is named; with it an answer can wait for
    # 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    _configure(listener)
    if is_one_of_many:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(address)
    return listener


def _return_memory() -> None:
    """Have glibc return large pieces of memory; without effect under another C library."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _RETURNED_BYTES)


def _configure(listener: socket.socket) -> None:
    """What accepted connections inherit on Linux; elsewhere the heartbeats alone have to notice."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        for option, seconds in (
            (socket.TCP_KEEPIDLE, 30),
            (socket.TCP_KEEPINTVL, 10),
            (socket.TCP_KEEPCNT, 3),
        ):
            listener.setsockopt(socket.IPPROTO_TCP, option, seconds)


def url_of(settings: Settings, listener: socket.socket) -> str:
    """The URL of a listening socket."""
    if settings.uds is not None:
        return f"unix:{settings.uds}"
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, host)  # noqa: S104 - shown, not bound
    return f"{'https' if settings.tls_cert else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
