"""`heartwire pub`."""

import asyncio
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

from heartwire.cli.backend import Backend
from heartwire.cli.shared import LADDER, Token, TransportOption, narrate, option, run
from heartwire.client.client import Client
from heartwire.client.connecting import connect
from heartwire.client.options import Options
from heartwire.errors import Refused
from heartwire.types import Position

__all__ = ["pub"]

_AT_A_TIME = 256
"""Lines to publish without waiting for earlier answers."""


def pub(
    url: Annotated[str, typer.Argument(help="The server, such as http://127.0.0.1:8000")],
    channel: Annotated[str, typer.Argument(help="The channel, such as `chat`")],
    data: Annotated[str, typer.Argument(help="The message; `-` or nothing: standard input.")] = "-",
    lines: Annotated[bool, option("Publish each line of standard input as a message.", "--lines")] = False,
    as_bytes: Annotated[bool, option("Publish as bytes, not as text.", "--bytes")] = False,
    idempotency_key: Annotated[
        str, option("Publish only once with this key, however often you run this.")
    ] = "",
    transport: TransportOption = "auto",
    token: Token = "",
    api_key: Annotated[
        str,
        option(
            "The server's key: publish by its HTTP API, as JSON.", "--api-key", envvar="HEARTWIRE_API_KEY"
        ),
    ] = "",
    give_up_s: Annotated[float, option("Give up after so many seconds without an answer.", min=0.1)] = 10,
) -> None:
    """Publish to a channel and print the position.

    heartwire pub http://127.0.0.1:8000 chat hello

    date | heartwire pub http://127.0.0.1:8000 chat
    """
    if lines:
        messages: Iterable[bytes] = (line.rstrip(b"\r\n") for line in sys.stdin.buffer)
    else:
        messages = [sys.stdin.buffer.read() if data == "-" else os.fsencode(data)]
    bodies = (message if as_bytes else _text(message) for message in messages)
    if api_key:
        backend = Backend(url, api_key, give_up_s=give_up_s)
        for body in bodies:
            typer.echo(backend.publish(channel, body, idempotency_key))
        return
    options = Options(transports=LADDER[transport], max_pending_age_s=give_up_s)
    client = connect(url, token=token, options=options)
    narrate(client)
    run(_publish(client, channel, bodies, idempotency_key))


def _text(message: bytes) -> str:
    try:
        return message.decode()
    except UnicodeDecodeError as error:
        raise Refused("invalid_utf8", f"the message is not UTF-8: {error}; --bytes publishes bytes") from None


async def _publish(client: Client, channel: str, bodies: Iterator[str | bytes], key: str) -> None:
    """Publish all in order, and print the positions in that order."""
    async with client:
        pending: list[asyncio.Task[Position]] = []
        while (body := await asyncio.to_thread(next, bodies, None)) is not None:
            pending.append(asyncio.create_task(client.publish(channel, body, idempotency_key=key)))
            await asyncio.sleep(0)  # send it now, not after the next line
            while pending and (pending[0].done() or len(pending) >= _AT_A_TIME):
                typer.echo(await pending.pop(0))
        for task in pending:
            typer.echo(await task)
