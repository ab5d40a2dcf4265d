"""`heartwire`: all commands, and how an error is shown."""

import sys
from typing import Annotated

import typer

import heartwire
from heartwire.cli.compare import compare
from heartwire.cli.copy import copy
from heartwire.cli.pub import pub
from heartwire.cli.serve import serve
from heartwire.cli.shared import printable
from heartwire.cli.sub import sub
from heartwire.cli.token import token
from heartwire.errors import HeartwireError

__all__ = ["app", "main"]

app = typer.Typer(
    name="heartwire",
    help=(
        "Realtime messaging that survives bad networks: a channel is a URL, over WebSocket, SSE, long polling"
        " and polling."
    ),
    epilog=(
        "Start with:  heartwire serve   then in two other terminals:  heartwire sub http://127.0.0.1:8000"
        " chat   and   heartwire pub http://127.0.0.1:8000 chat hello"
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (serve, pub, sub, token, copy, compare):
    app.command()(command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"heartwire {heartwire.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line. A `HeartwireError` is printed as one line, without a traceback."""
    try:
        app()
    except HeartwireError as error:
        is_terminal = sys.stderr.isatty()
        text = printable(str(error)) if is_terminal else str(error)
        typer.secho(f"heartwire: {text}", fg="red" if is_terminal else None, err=True)
        sys.exit(1)
