"""`heartwire serve`."""

import importlib
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from heartwire.errors import ConfigError
from heartwire.hub.hub import Hub
from heartwire.hub.options import HubOptions
from heartwire.server.config import Settings, load
from heartwire.server.run import hub_from
from heartwire.server.run import serve as run

__all__ = ["serve"]

_BASICS, _ACCESS, _LIMITS = "Where", "Who", "How much, how long"


def serve(
    context: typer.Context,
    target: Annotated[
        str | None, typer.Argument(metavar="[MODULE:HUB]", help="A hub in your own code, such as `chat:hub`.")
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="A TOML file with these options and `[namespaces.NAME]` tables.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.  *[127.0.0.1]*", rich_help_panel=_BASICS)
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; 0 takes a free one.  *[8000]*", rich_help_panel=_BASICS)
    ] = None,
    uds: Annotated[
        str | None, typer.Option(help="Listen on a Unix socket instead.", rich_help_panel=_BASICS)
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="Where streams live: `memory`, `sqlite:///FILE`; `?synchronous=full` survives power cuts."
            "  *[sqlite:///heartwire.db]*",
            rich_help_panel=_BASICS,
        ),
    ] = None,
    tls_cert: Annotated[
        str | None,
        typer.Option(help="Certificate (PEM); with --tls-key, speak TLS.", rich_help_panel=_BASICS),
    ] = None,
    tls_key: Annotated[
        str | None, typer.Option(help="Its private key (PEM).", rich_help_panel=_BASICS)
    ] = None,
    demo: Annotated[
        bool | None,
        typer.Option("--demo/--no-demo", help="The demo page at `/`.  *[on]*", rich_help_panel=_BASICS),
    ] = None,
    allow_anonymous: Annotated[
        bool | None,
        typer.Option(
            "--allow-anonymous", help="Let anybody who reaches a public address in.", rich_help_panel=_ACCESS
        ),
    ] = None,
    allowed_origins: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed-origin",
            help="A browser origin besides our own; `*` for all. Repeat.",
            rich_help_panel=_ACCESS,
        ),
    ] = None,
    max_message_bytes: Annotated[
        int | None, typer.Option(help="Largest message.  *[1 MiB]*", rich_help_panel=_LIMITS)
    ] = None,
    compress: Annotated[
        bool | None,
        typer.Option("--compress", help="Offer permessage-deflate to WebSockets.", rich_help_panel=_LIMITS),
    ] = None,
    max_connections: Annotated[
        int | None, typer.Option(help="On this node.  *[100000]*", rich_help_panel=_LIMITS)
    ] = None,
    max_connections_per_address: Annotated[
        int | None, typer.Option(help="From one address; 0: no limit.  *[0]*", rich_help_panel=_LIMITS)
    ] = None,
    publish_rate_per_s: Annotated[
        float | None,
        typer.Option(
            help="Messages a second on one connection; 0: no limit.  *[0]*", rich_help_panel=_LIMITS
        ),
    ] = None,
    ping_interval_s: Annotated[
        float | None, typer.Option(help="How often a peer is asked.  *[25]*", rich_help_panel=_LIMITS)
    ] = None,
    pong_timeout_s: Annotated[
        float | None, typer.Option(help="How long it may take to answer.  *[10]*", rich_help_panel=_LIMITS)
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="`text` or `json`.  *[text]*")] = None,
    log_level: Annotated[
        str | None, typer.Option(help="`debug`, `info`, `warning` or `error`.  *[info]*")
    ] = None,
    access_log: Annotated[bool | None, typer.Option("--access-log", help="A line per HTTP request.")] = None,
) -> None:
    """Serve channels, and the demo page, until Ctrl-C.

    Every option can also be set as `HEARTWIRE_…` in the environment (`HEARTWIRE_PORT=9000`) or in a TOML
    file, where the rest of them are too: `docs/configuration.md`. Flags win over the environment, and that
    over the file.
    """
    # A list that was not given is empty here; it must not hide what the environment or the file says.
    flags = {
        name: value
        for name, value in context.params.items()
        if name not in ("config", "target") and value not in (None, (), [])
    }
    settings = load(config, os.environ, flags)
    if target:
        clash = [name for name in flags if name == "engine" or name in HubOptions.__struct_fields__]
        if clash:
            raise ConfigError(
                clash[0],
                flags[clash[0]],
                f"{target} says this itself: set it in the code, or serve without {target}",
            )
    hub = _import_hub(target) if target else hub_from(settings)
    run(settings, hub, started=lambda url: _banner(url, settings, hub))


def _import_hub(target: str) -> Hub:
    module_name, _, name = target.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = getattr(importlib.import_module(module_name), name or "hub")
    except (ImportError, AttributeError) as error:
        raise ConfigError("MODULE:HUB", target, f"cannot be imported: {error}") from error
    if not isinstance(found, Hub):
        raise ConfigError("MODULE:HUB", target, f"is a {type(found).__name__}, not a heartwire.Hub")
    return found


def _called() -> str:
    """What to type for this command: its name, where the shell finds it."""
    if shutil.which("heartwire"):
        return "heartwire"
    return "python -m heartwire" if Path(sys.argv[0]).name == "__main__.py" else sys.argv[0]


def _banner(url: str, settings: Settings, hub: Hub) -> None:
    """What to try first, on stderr, so that stdout stays free for whatever a supervisor reads."""
    engine = getattr(hub.node.engine, "path", None) or "memory (nothing is kept)"
    if settings.log_format == "json":  # whoever reads these lines expects nothing else on stderr
        logging.getLogger("heartwire").info("Heartwire is up at %s (streams in %s)", url, engine)
        return
    strong = (lambda text: f"\x1b[1m{text}\x1b[0m") if sys.stderr.isatty() else str
    lines = [f"Heartwire is up at {strong(url)}   (streams in {engine}; Ctrl-C ends)", ""]
    if not url.startswith("unix:"):
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
