"""The part that commands share: common options, a client that reports on stderr, and running a coroutine."""

import asyncio
import logging
import re
import sys
from collections.abc import Coroutine
from typing import Annotated, Any, Final, Literal

import typer

from heartwire.client.client import Client
from heartwire.client.options import TRANSPORTS
from heartwire.client.outputs import Closed

__all__ = ["LADDER", "Token", "TransportOption", "narrate", "note", "option", "printable", "run"]

LADDER: Final = {"auto": TRANSPORTS} | {name: (name,) for name in TRANSPORTS}


def option(help: str, *names: str, **settings: Any) -> Any:
    """A `typer.Option` with its help first, for ``Annotated``."""
    return typer.Option(*names, help=help, **settings)


TransportOption = Annotated[
    Literal["auto", "websocket", "sse", "longpoll", "poll"],
    option("The transport; `auto` takes the best that gets through.", "--transport"),
]
Token = Annotated[
    str, option("Your JSON Web Token, where the server asks for one.", envvar="HEARTWIRE_TOKEN")
]


_CONTROL: Final = re.compile("[\\0-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069]")
"""All but tabs and line feeds, and what changes the direction of writing."""


def printable(text: str) -> str:
    """Return text for a terminal, with control characters escaped: others wrote it, and it must not act."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def note(text: str) -> None:
    """Print a line on stderr."""
    typer.echo(f"heartwire: {printable(text) if sys.stderr.isatty() else text}", err=True)


def narrate(client: Client) -> None:
    """Report on stderr when the connection breaks, when it works again, and each change of transport."""
    logging.getLogger("heartwire.client").setLevel(logging.ERROR)  # the rest of it is said here
    quiet = {client.options.transports[0]}  # where it begins is not worth a line

    def opened(transport: str) -> None:
        if transport not in quiet:
            note(f"connected over {transport}")
        quiet.clear()

    def closed(event: Closed) -> None:
        quiet.clear()
        if event.next_attempt_s >= 0:
            note(f"{event.reason or event.code}; again in {event.next_attempt_s:.1f} s")

    client.on("open", opened)
    client.on("close", closed)
    client.on("note", lambda step: note(str(step)))
    client.on("error", lambda error: None)  # the caller that waits gets it


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine; Ctrl-C and a closed pipe end it quietly."""
    try:
        asyncio.run(work)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        sys.stderr.close()
