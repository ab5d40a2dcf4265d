"""`heartwire pub`."""

import sys
from typing import Annotated

import typer

from heartwire.client.plain import publish

__all__ = ["pub"]


def pub(
    url: Annotated[str, typer.Argument(help="The server, such as http://127.0.0.1:8000")],
    channel: Annotated[str, typer.Argument(help="The channel, such as `chat`")],
    data: Annotated[str, typer.Argument(help="The message; `-` or nothing: standard input.")] = "-",
    lines: Annotated[bool, typer.Option("--lines", help="Publish each line of standard input as a message.")] = False,
    as_bytes: Annotated[bool, typer.Option("--bytes", help="Publish as bytes, not as text.")] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Publish once, however often this command is run with the same key.")
    ] = None,
) -> None:
    """Publish to a channel and show the position.

    heartwire pub http://127.0.0.1:8000 chat hello

    date | heartwire pub http://127.0.0.1:8000 chat
    """
    if lines:
        for line in sys.stdin.buffer:
            typer.echo(publish(url, channel, line.rstrip(b"\r\n"), is_text=not as_bytes))
        return
    body = sys.stdin.buffer.read() if data == "-" else data.encode()
    typer.echo(publish(url, channel, body, is_text=not as_bytes, idempotency_key=idempotency_key))
