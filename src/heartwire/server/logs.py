"""Log lines for people or for machines."""

import json
import logging
import re
import sys
import time
from typing import Any, ClassVar, Final

__all__ = ["JsonFormatter", "RedactTokens", "TextFormatter", "log_config"]

_SECRETS: Final = re.compile(r"([?&](?:token|access_token|cf_connect)=)[^&\s\"]*")


class RedactTokens(logging.Filter):
    """Takes tokens out of the URLs in uvicorn's access log, which come as arguments of its records."""

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter.filter`."""
        if isinstance(record.args, tuple):
            record.args = tuple(
                _SECRETS.sub(r"\1...", arg) if isinstance(arg, str) else arg for arg in record.args
            )
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time``, ``level``, ``logger``, ``message``, and ``exception`` where there is
    one."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        told: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told)


class TextFormatter(logging.Formatter):
    """Time, level and message; the level in colour on a terminal."""

    _COLOURS: ClassVar = {"WARNING": "33", "ERROR": "31", "CRITICAL": "31"}

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
        self._colour = sys.stderr.isatty()

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        line = super().format(record)
        colour = self._COLOURS.get(record.levelname)
        return f"\x1b[{colour}m{line}\x1b[0m" if self._colour and colour else line


def log_config(format: str, level: str) -> dict[str, Any]:
    """A `logging.config.dictConfig` for us and for uvicorn, without uvicorn's own start-up lines."""
    formatter = {"()": JsonFormatter if format == "json" else TextFormatter}
    loggers: dict[str, dict[str, Any]] = {
        "heartwire": {"level": level.upper()},
        "uvicorn.error": {"level": "DEBUG" if level == "debug" else "WARNING"},
        "uvicorn.access": {"level": "INFO", "filters": ["redact"]},
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"default": formatter},
        "filters": {"redact": {"()": RedactTokens}},
        "handlers": {
            "default": {
                "class": "logging.StreamHandler",
                "formatter": "default",
                "stream": "ext://sys.stderr",
            }
        },
        "loggers": {
            name: {"handlers": ["default"], "propagate": False, **given} for name, given in loggers.items()
        },
    }
