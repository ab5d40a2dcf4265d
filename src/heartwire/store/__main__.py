"""``python -m heartwire.store``: the store process of the nodes of a host."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from heartwire.engines.reports import inherited
from heartwire.errors import HeartwireError
from heartwire.store.process import Life, run

__all__ = ["main"]


def main(prepare_log: Callable[[argparse.Namespace], None] | None = None, *more: str) -> None:
    """Parse the command line, and serve until it is over (`heartwire.store.process`).

    ``prepare_log`` is given the options, with ``more`` of them.
    """
    parser = argparse.ArgumentParser(prog="python -m heartwire.store", description=__doc__)
    parser.add_argument("--engine", required=True, help="memory or sqlite:///FILE")
    parser.add_argument("--socket", required=True, type=Path, help="the Unix socket to serve on")
    parser.add_argument("--control", type=int, help="a socket that it has inherited, to report to")
    parser.add_argument("--linger-s", type=float, help="end so long after the last node has left")
    parser.add_argument("--detach", action="store_true", help="leave the process that started it")
    for name in more:
        parser.add_argument(name)
    options = parser.parse_args()
    if options.detach and os.fork():
        os._exit(0)
    if options.detach:
        os.setsid()
    if prepare_log is None:
        logging.basicConfig(level=logging.INFO)
    else:
        prepare_log(options)
    control = None if options.control is None else inherited(options.control)
    try:
        asyncio.run(run(options.engine, options.socket, Life(control=control, linger_s=options.linger_s)))
    except HeartwireError as error:
        sys.exit(1 if control is not None else f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
