"""`heartwire sub`."""

import sys
from typing import Annotated

import typer

from heartwire.cli.shared import LADDER, Token, TransportOption, narrate, note, option, printable, run
from heartwire.client.client import Client
from heartwire.client.connecting import connect
from heartwire.client.options import Options
from heartwire.client.outputs import Gap
from heartwire.types import Position

__all__ = ["sub"]


def sub(
    url: Annotated[str, typer.Argument(help="The server, such as http://127.0.0.1:8000")],
    channel: Annotated[str, typer.Argument(help="The channel, such as `chat`")],
    transport: TransportOption = "auto",
    since: Annotated[
        str | None, option("Replay first. Without it: from now on.", metavar="POSITION|earliest")
    ] = None,
    positions: Annotated[bool, option("Print each message's position before it.", "--positions")] = False,
    count: Annotated[int, option("End after so many messages; 0: never.")] = 0,
    token: Token = "",
) -> None:
    """Subscribe to a channel and print its messages, a line each, through reconnections, until Ctrl-C.

    Changes of the connection are reported on stderr. `--since` with the last position you saw goes on where
    you left off. On a terminal control characters are escaped; into a file or a pipe bytes go as they are.
    """
    try:
        if since is not None and since != "earliest":
            Position.parse(since)
    except ValueError as error:
        raise typer.BadParameter(f"{error}: give `earliest`, or a position as --positions shows it") from None
    client = connect(url, token=token, options=Options(transports=LADDER[transport]))
    narrate(client)
    client.on("gap", _report_gap)
    run(_print(client, channel, since, count, with_positions=positions))


async def _print(
    client: Client, channel: str, since: str | None, count: int, *, with_positions: bool
) -> None:
    seen, out, is_terminal = 0, sys.stdout.buffer, sys.stdout.isatty()
    async with client:
        async for received in client.subscribe(channel, since=since):
            position = f"{received.position} ".encode() if with_positions else b""
            payload = received.payload
            if is_terminal:
                payload = printable(payload.decode(errors="backslashreplace")).encode()
            out.write(position + payload + b"\n")
            out.flush()
            seen += 1
            if seen == count:
                return


def _report_gap(gap: Gap) -> None:
    note(f"some messages are no longer kept: going on after {Position(gap.after_epoch, gap.after_offset)}")
