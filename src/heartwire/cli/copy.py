"""`heartwire copy`."""

import sys
import time
from typing import Annotated

import typer

from heartwire.cli.shared import note, run
from heartwire.engines.copying import Copied, copy_streams
from heartwire.engines.registry import open_engine

__all__ = ["copy"]

_EVERY_S = 0.2


def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The store to read: an engine's URL.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The store to fill, which has to be empty.")],
) -> None:
    """Copy all streams from one store to another, with their epochs and offsets.

    Stop the servers first, and start them on the new store afterwards: readers go on where they were.
    Idempotency keys and presence are not copied.
    """
    run(_copy(source, target))


async def _copy(source: str, target: str) -> None:
    shown_at = 0.0

    def show(copied: Copied) -> None:
        nonlocal shown_at
        if sys.stderr.isatty() and time.monotonic() - shown_at > _EVERY_S:
            shown_at = time.monotonic()
            typer.echo(f"\r{_told(copied)} ...", nl=False, err=True)

    copied = await copy_streams(open_engine(source), open_engine(target), progress=show)
    if sys.stderr.isatty():
        typer.echo("\r\x1b[K", nl=False, err=True)
    note(f"copied {_told(copied)}")


def _told(copied: Copied) -> str:
    return f"{copied.streams:,} streams, {copied.publications:,} publications, {copied.bytes / 1e6:,.1f} MB"
