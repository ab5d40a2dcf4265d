"""`heartwire sub`."""

import base64
import json
import sys
from typing import Annotated

import typer

from heartwire.client.plain import Received, Transport, follow

__all__ = ["sub"]


def sub(
    url: Annotated[str, typer.Argument(help="The server, such as http://127.0.0.1:8000")],
    channel: Annotated[str, typer.Argument(help="The channel, such as `chat`")],
    transport: Annotated[Transport, typer.Option(help="How to connect; `auto` takes the best that gets through.")] = "auto",
    since: Annotated[str | None, typer.Option(metavar="POSITION|earliest", help="Replay first. Without it: from now on.")] = None,
    positions: Annotated[bool, typer.Option("--positions", help="Show each message's position before it.")] = False,
    count: Annotated[int, typer.Option(help="End after so many messages; 0: never.")] = 0,
) -> None:
    """Follow a channel and print its messages, a line each, through reconnections, until Ctrl-C.

    What happens to the connection is told on stderr. `--since` with the last position you saw goes on where you left off.
    """
    seen = 0
    try:
        for received in follow(url, channel, transport=transport, since=since, note=_note):
            if received.kind == "gap":
                _note(f"some messages are no longer kept: going on after {received.position}")
                continue
            _show(received, positions)
            seen += 1
            if seen == count:
                return
    except KeyboardInterrupt:
        pass


def _show(received: Received, positions: bool) -> None:
    out = sys.stdout.buffer
    if positions:
        out.write(f"{received.position} ".encode())
    if received.is_bytes:
        out.write(base64.b64decode(received.data))
    else:
        out.write((received.data if isinstance(received.data, str) else json.dumps(received.data, ensure_ascii=False)).encode())
    out.write(b"\n")
    out.flush()


def _note(text: str) -> None:
    typer.echo(f"heartwire: {text}", err=True)
