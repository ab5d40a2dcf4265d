"""The names of an installation in a database: its schema, and SQL that says ``heartwire`` for it."""

import re
from importlib.resources import files
from typing import Final

from heartwire.errors import ConfigError

__all__ = ["VERSION", "check_schema", "in_schema", "script"]

VERSION: Final = 2
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


def script(schema: str, version: int) -> str:
    """What brings the tables and functions of a version up to `VERSION`. 0: there are none."""
    folder = files("heartwire.engines.postgres")
    names = [f"tables_{number}" for number in range(version + 1, VERSION + 1)]
    parts = [folder.joinpath(f"{name}.sql").read_text("utf-8") for name in (*names, "functions", "records")]
    return in_schema("\n".join(parts), schema)
