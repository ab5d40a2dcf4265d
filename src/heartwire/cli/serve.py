"""`heartwire serve`."""

import importlib
import logging
import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from logging.config import dictConfig
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from heartwire.cli.shared import option
from heartwire.errors import ConfigError
from heartwire.hub.hub import Hub
from heartwire.hub.options import HubOptions
from heartwire.server.config import Settings, load, service_links
from heartwire.server.logs import log_config
from heartwire.server.run import hub_from
from heartwire.server.run import serve as run
from heartwire.server.workers.parent import count_of, serve_many
from heartwire.server.workers.worker import Assignment

__all__ = ["serve"]

_PANELS: Final = ("Address and engine", "Access", "Limits")
_address, _access, _limit = (partial(option, rich_help_panel=panel) for panel in _PANELS)
_ENGINE: Final = (
    "Where streams live: `memory`, `sqlite:///FILE`; `?synchronous=full` survives power cuts."
    "  *[sqlite:///heartwire.db]*"
)
_TARGET: Final = "A hub in your own code, such as `chat:hub`; or a Socket.IO server, or its `ASGIApp`."
_NOT_SETTINGS: Final = ("config", "target", "strict")
_ORIGIN: Final = "A browser origin besides our own; `*` for all. Repeat."
_HOST: Final = "A name of this server (`Host`) besides this machine's own; `*` for all. Repeat."


def serve(
    context: typer.Context,
    target: Annotated[str | None, typer.Argument(metavar="[MODULE:HUB]", help=_TARGET)] = None,
    config: Annotated[str | None, option("A TOML file of options and `[namespaces.NAME]` tables.")] = None,
    host: Annotated[str | None, _address("Address to listen on.  *[127.0.0.1]*")] = None,
    port: Annotated[int | None, _address("Port; 0 takes a free one.  *[8000]*")] = None,
    uds: Annotated[str | None, _address("Listen on a Unix socket instead.")] = None,
    engine: Annotated[str | None, _address(_ENGINE)] = None,
    workers: Annotated[
        str | None, _address("How many processes serve; `auto`: as many as there are cores.  *[1]*")
    ] = None,
    tls_cert: Annotated[str | None, _address("Certificate (PEM); with --tls-key, speak TLS.")] = None,
    tls_key: Annotated[str | None, _address("Its private key (PEM).")] = None,
    demo: Annotated[bool | None, _address("The demo page at `/`.  *[on]*", "--demo/--no-demo")] = None,
    allow_anonymous: Annotated[
        bool | None, _access("Admit anonymous clients on a public address.", "--allow-anonymous")
    ] = None,
    allowed_origins: Annotated[list[str] | None, _access(_ORIGIN, "--allowed-origin")] = None,
    allowed_hosts: Annotated[list[str] | None, _access(_HOST, "--allowed-host")] = None,
    max_message_bytes: Annotated[int | None, _limit("Largest message.  *[1 MiB]*")] = None,
    compress: Annotated[bool | None, _limit("Offer permessage-deflate to WebSockets.", "--compress")] = None,
    max_connections: Annotated[int | None, _limit("On this node.  *[100000]*")] = None,
    max_connections_per_address: Annotated[
        int | None, _limit("From one address; 0: no limit.  *[0]*")
    ] = None,
    max_connections_per_user: Annotated[
        int | None, _limit("Of one user, over all nodes; 0: no limit.  *[0]*")
    ] = None,
    publish_rate_per_s: Annotated[
        float | None, _limit("Messages a second on one connection; 0: no limit.  *[0]*")
    ] = None,
    ping_interval_s: Annotated[float | None, _limit("Seconds between two pings.  *[25]*")] = None,
    pong_timeout_s: Annotated[float | None, _limit("Seconds to wait for its answer.  *[10]*")] = None,
    log_format: Annotated[str | None, option("`text` or `json`.  *[text]*")] = None,
    log_level: Annotated[str | None, option("`debug`, `info`, `warning` or `error`.  *[info]*")] = None,
    access_log: Annotated[bool | None, option("A line per HTTP request.", "--access-log")] = None,
    strict: Annotated[bool, option("A variable `HEARTWIRE_…` that is no option ends the start.")] = False,
) -> None:
    """Serve channels, and the demo page, until Ctrl-C.

    Every option, and more (`docs/configuration.md`), can also be set as `HEARTWIRE_…` in the environment
    (`HEARTWIRE_PORT=9000`) or in a TOML file. Flags win over the environment, the environment over the file.
    """
    given = {name: value for name, value in context.params.items() if name not in _NOT_SETTINGS}
    # A list that was not given is empty here; it must not hide the environment or the file.
    flags = {name: value for name, value in given.items() if value not in (None, (), [])}
    _serve(partial(_make, target, config, flags, is_strict=strict))


def _serve(make: Callable[..., tuple[Settings, Hub]]) -> None:
    """Serve alone, as the parent of workers, or as one of them."""
    assignment = Assignment.take(os.environ)
    if assignment is not None:
        with assignment.reporting() as control:
            assignment.serve(*make(is_first=False), control)
        return
    settings, hub = make(is_first=True)
    serve_as = run if count_of(settings) == 1 else serve_many
    serve_as(settings, hub, started=lambda url: _banner(url, settings, hub))


def _make(
    target: str | None, config: str | None, flags: dict[str, Any], *, is_strict: bool, is_first: bool
) -> tuple[Settings, Hub]:
    """The settings and the hub. ``is_first``: it is not for a worker, whose parent has logged already."""
    unknown: list[str] = []
    settings = load(config, os.environ, flags, warn=None if is_strict else unknown.append)
    if is_first:
        _log_environment(settings, unknown)
    return settings, _import_hub(target, flags) if target else hub_from(settings)


def _log_environment(settings: Settings, unknown: list[str]) -> None:
    """Report the variables that are not taken, in the format of the log."""
    dictConfig(log_config(settings.log_format, settings.log_level))
    log = logging.getLogger("heartwire")
    if links := service_links(os.environ):
        log.info("not taken, as Kubernetes sets them for its Services: %s", ", ".join(sorted(links)))
    for warning in unknown:
        log.warning("%s", warning)


def _import_hub(target: str, flags: dict[str, Any]) -> Hub:
    """The hub ``MODULE:HUB``. Raises `ConfigError` for a flag that the hub itself sets."""
    for name in flags:
        if name == "engine" or name in HubOptions.__struct_fields__:
            fix = f"{target} says this itself: set it in the code, or serve without {target}"
            raise ConfigError(name, flags[name], fix)
    module_name, _, name = target.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = getattr(importlib.import_module(module_name), name or "hub")
    except (ImportError, AttributeError) as error:
        raise ConfigError("MODULE:HUB", target, f"cannot be imported: {error}") from error
    hub = getattr(found, "hub", found)  # a Socket.IO server's, or that of the application round it
    if not isinstance(hub, Hub):
        raise ConfigError("MODULE:HUB", target, f"is a {type(found).__name__}, not a heartwire.Hub")
    if found is not hub and callable(found):
        hub.node.attached["asgi"] = found
    return hub


def _called() -> str:
    """How to call this command in a shell."""
    if shutil.which("heartwire"):
        return "heartwire"
    return "python -m heartwire" if Path(sys.argv[0]).name == "__main__.py" else sys.argv[0]


def _banner(url: str, settings: Settings, hub: Hub) -> None:
    """Print addresses to try on stderr; a supervisor may read stdout."""
    store = hub.node.engine
    engine = getattr(store, "name", None) or getattr(store, "path", None) or "memory (nothing is kept)"
    workers = count_of(settings)
    by = f"{workers} workers; " if workers > 1 else ""
    if settings.log_format == "json":  # the reader of these lines expects nothing else on stderr
        logging.getLogger("heartwire").info("Heartwire is up at %s (%sstreams in %s)", url, by, engine)
        return
    strong = (lambda text: f"\x1b[1m{text}\x1b[0m") if sys.stderr.isatty() else str
    lines = [f"Heartwire is up at {strong(url)}   ({by}streams in {engine}; Ctrl-C ends)", ""]
    if "asgi" not in hub.node.attached and not url.startswith("unix:"):
        curl = "curl -k" if url.startswith("https") else "curl"
        lines += [
            *([f"  demo page    {url}/"] if settings.demo else []),
            f"  publish      {curl} -d hello {url}/channels/chat",
            f"  read         {curl} '{url}/channels/chat?since=earliest'",
            f"  long poll    {curl} '{url}/channels/chat?wait=25'",
            f"  stream       {curl} -N -H 'Accept: text/event-stream' {url}/channels/chat",
            f"  browser      new WebSocket('{url.replace('http', 'ws', 1)}/channels/chat')",
            f"  terminal     {_called()} sub {url} chat",
            "",
        ]
    typer.echo("\n".join(lines), err=True)
