"""What `pub` and `sub` share: a client that tells on stderr what happens to its connection."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Annotated, Any, Final, Literal

import typer

from heartwire.client.client import Client
from heartwire.client.options import TRANSPORTS
from heartwire.client.outputs import Closed

__all__ = ["LADDER", "Token", "TransportName", "narrate", "note", "run"]

TransportName = Literal["auto", "websocket", "sse", "longpoll", "poll"]
LADDER: Final = {"auto": TRANSPORTS} | {name: (name,) for name in TRANSPORTS}

Token = Annotated[
    str, typer.Option(envvar="HEARTWIRE_TOKEN", help="Who you are, where the server asks: a JSON Web Token.")
]


def note(text: str) -> None:
    """A line on stderr."""
    typer.echo(f"heartwire: {text}", err=True)


def narrate(client: Client) -> None:
    """Tell what happens to the connection, but not that all is well: what broke, what the ladder does, and
    when it works again."""
    is_first = True

    def opened(transport: str) -> None:
        nonlocal is_first
        if not is_first or transport != client.options.transports[0]:
            note(f"connected over {transport}")
        is_first = False

    def closed(event: Closed) -> None:
        nonlocal is_first
        is_first = False
        if event.next_attempt_s >= 0:
            note(f"{event.reason or event.code}; again in {event.next_attempt_s:.1f} s")

    client.on("open", opened)
    client.on("close", closed)
    client.on("note", lambda step: note(str(step)))
    client.on("error", lambda error: None)  # it is raised to whoever waits


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run it; Ctrl-C and a closed pipe end it quietly."""
    try:
        asyncio.run(work)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        sys.stderr.close()
