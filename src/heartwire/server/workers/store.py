"""``python -m heartwire.server.workers.store``: the store process of workers, which logs as they do."""

import argparse
from logging.config import dictConfig

from heartwire.server.logs import log_config
from heartwire.store.__main__ import main as serve_store

__all__ = ["main"]


def _prepare_log(options: argparse.Namespace) -> None:
    dictConfig(log_config(options.log_format, options.log_level))


def main() -> None:
    """See `heartwire.store`."""
    serve_store(_prepare_log, "--log-format", "--log-level")


if __name__ == "__main__":
    main()
