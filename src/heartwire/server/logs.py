"""Log lines for people or for machines."""

import json
import logging
import re
import sys
import time
from typing import Any, ClassVar, Final
from urllib.parse import unquote_plus

__all__ = ["JsonFormatter", "SafeRecords", "TextFormatter", "log_config"]

_SECRETS: Final = ("token", "access_token", "cf_connect", "api_key")

_ADDRESS: Final = re.compile(r"[\w.:%\[\]-]*", re.ASCII)
"""A client's address as we write it; X-Forwarded-For may hold anything."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class SafeRecords(logging.Filter):
    """Takes tokens out of URLs, and keeps what clients send from looking like lines of our own.

    uvicorn gives the parts of a line as arguments of its records, the client first.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter.filter`."""
        if isinstance(record.args, tuple):
            record.args = tuple(_redacted(arg) if isinstance(arg, str) else arg for arg in record.args)
            if record.name == "uvicorn.access":
                client, *others = record.args
                quoted = (one.replace('"', "%22") if isinstance(one, str) else one for one in others)
                record.args = (client if _ADDRESS.fullmatch(str(client)) else json.dumps(client), *quoted)
        record.msg, record.args = _CONTROL.sub(_escaped, record.getMessage()), None
        return True


def _redacted(text: str) -> str:
    """The text without the values of secret parameters, whose names may be percent-encoded."""
    path, mark, query = text.partition("?")
    return path + mark + "&".join(map(_parameter, query.split("&"))) if mark else text


def _parameter(pair: str) -> str:
    """One parameter; its value may hold an address with parameters of its own."""
    parts = pair.split("?")
    for at, part in enumerate(parts):
        name, mark, _ = part.partition("=")
        if mark and unquote_plus(name) in _SECRETS:
            return "?".join([*parts[:at], f"{name}=..."])
    return pair


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time``, ``level``, ``logger``, ``message``, and ``exception`` where there is
    one."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        fields: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


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
        "uvicorn.access": {"level": "INFO"},
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"default": formatter},
        "filters": {"safe": {"()": SafeRecords}},
        "handlers": {
            "default": {
                "class": "logging.StreamHandler",
                "formatter": "default",
                "filters": ["safe"],
                "stream": "ext://sys.stderr",
            }
        },
        "loggers": {
            name: {"handlers": ["default"], "propagate": False, **given} for name, given in loggers.items()
        },
    }
