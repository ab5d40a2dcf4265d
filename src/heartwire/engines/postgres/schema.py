"""The names of an installation in a database: its schema, and SQL that says ``heartwire`` for it."""

import re
from importlib.resources import files
from typing import Final

from heartwire.errors import ConfigError

__all__ = ["VERSION", "check_schema", "in_schema", "script"]

VERSION: Final = 1
"""Of the tables and functions."""

_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,47}")


def check_schema(schema: str) -> str:
    """Return the name. Raises `ConfigError` unless it needs no quotes."""
    if not _NAME.fullmatch(schema):
        fix = "a schema's name has at most 48 of a-z, 0-9 and _, and begins with none of 0-9"
        raise ConfigError("schema", schema, fix)
    return schema


def in_schema(sql: str, schema: str) -> str:
    """SQL for a schema whose name was checked."""
    return sql.replace("heartwire.", f'"{schema}".').replace("'heartwire'", f"'{schema}'")


def script(schema: str) -> str:
    """What makes the tables and functions."""
    text = files("heartwire.engines.postgres").joinpath("schema.sql").read_text("utf-8")
    return in_schema(text, schema)
