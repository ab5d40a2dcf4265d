"""``python -m heartwire.store``: the store process of the nodes of a host."""

import argparse
import asyncio
import logging
import signal
from pathlib import Path

from heartwire.engines.registry import open_engine
from heartwire.store.serve import serve

__all__ = ["main"]


async def _run(engine: str, path: Path) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with serve(open_engine(engine), path):
        logging.getLogger("heartwire").info("store at %s", path)
        await ended.wait()


def main() -> None:
    """Parse the command line, and serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m heartwire.store", description=__doc__)
    parser.add_argument("--engine", required=True, help="memory or sqlite:///FILE")
    parser.add_argument("--socket", required=True, type=Path, help="the Unix socket to serve on")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    asyncio.run(_run(options.engine, options.socket))


if __name__ == "__main__":
    main()
