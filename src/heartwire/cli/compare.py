"""`heartwire compare`."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from heartwire.cli.shared import Token, option
from heartwire.compare.figures import Report, decode, encode
from heartwire.compare.plan import Plan, check_plan
from heartwire.compare.report import as_text
from heartwire.errors import ConfigError

__all__ = ["compare"]

_URL = "A Heartwire server, such as http://127.0.0.1:8000. Without it: its own servers."


def compare(
    url: Annotated[str, typer.Argument(help=_URL)] = "",
    seconds: Annotated[float, option("How long messages come in the steady run.")] = 20,
    count: Annotated[int, option("Messages to each transport, instead of --seconds; 0: see --seconds.")] = 0,
    rate: Annotated[float, option("Messages a second, to each transport.")] = 10,
    size: Annotated[int, option("Bytes of a message.")] = 64,
    subscribers: Annotated[int, option("Subscribers of each transport.")] = 4,
    cut: Annotated[float, option("Seconds for which the link fails in the last runs; 0: without them.")] = 5,
    json: Annotated[
        str, option("Write the figures as JSON; `-`: to stdout, instead of tables.", metavar="FILE|-")
    ] = "",
    html: Annotated[str, option("Write one self-contained page with plots.", metavar="FILE")] = "",
    svg: Annotated[str, option("Write the first plot alone.", metavar="FILE")] = "",
    from_: Annotated[str, option("Show the figures of a --json file.", "--from", metavar="FILE")] = "",
    token: Token = "",
) -> None:
    """Measure the latency and cost of polling, long polling, SSE and WebSocket, and what a failing link does.

    heartwire compare --html compare.html

    All transports get the same messages at the same time, each subscriber through a proxy that counts every
    byte. Then the link is cut, and goes silent. A bare WebSocket, without heartbeat and resumption, is
    measured too.
    """
    logging.getLogger("heartwire.client").setLevel(logging.ERROR)  # links fail on purpose
    if from_:
        report = _read(from_)
    else:
        if count < 0 or (count and rate <= 0):
            raise ConfigError("--count", count, "1 or more messages; 0: as --seconds says")
        url = "http" + url.removeprefix("ws") if url.startswith(("ws://", "wss://")) else url
        plan = Plan(url, count / rate if count else seconds, rate, size, subscribers, cut, token=token)
        check_plan(plan)
        for name in (json, html, svg):
            _check_writable(name)
        report = _measured(plan)
    _output(report, json, html, svg)


def _output(report: Report, json: str, html: str, svg: str) -> None:
    if json == "-":
        sys.stdout.buffer.write(encode(report))
    else:
        typer.echo(as_text(report), nl=False)
        _write(json, lambda: encode(report))
    if html:
        from heartwire.compare.page import page

        _write(html, lambda: page(report).encode())
    if svg:
        from heartwire.compare.plots import overview

        _write(svg, lambda: overview(report).encode())


def _check_writable(name: str) -> None:
    """Fail before a minute is spent, not after it."""
    if name and name != "-" and not Path(name).resolve().parent.is_dir():
        raise ConfigError("FILE", name, f"there is no folder {Path(name).parent}: make it, or name another")


def _write(name: str, content: Callable[[], bytes]) -> None:
    if name:
        try:
            Path(name).write_bytes(content())
        except OSError as error:
            raise ConfigError("FILE", name, f"cannot be written: {error.strerror}") from None


def _read(name: str) -> Report:
    try:
        return decode(Path(name).read_bytes())
    except OSError as error:
        raise ConfigError("--from", name, f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError("--from", name, f"was not written by `heartwire compare --json`: {error}") from None


def _measured(plan: Plan) -> Report:
    from heartwire.compare.run import measure  # imports uvicorn and aiohttp, unlike other commands

    async def work() -> Report:
        task = asyncio.current_task()
        assert task is not None
        if sys.platform != "win32":  # as Ctrl-C does: end its servers
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with _progress() as report_progress:
            return await measure(plan, report_progress)

    try:
        return asyncio.run(work())
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(130) from None


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    """A progress bar on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda text, share: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<14}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=1.0)
        yield lambda text, share: progress.update(task, description=text, completed=share)
