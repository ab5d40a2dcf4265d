"""The files that browsers get."""

from importlib.resources import files
from pathlib import Path

__all__ = ["asset"]

_WEB = Path(str(files("heartwire") / "web"))


def asset(name: str) -> Path | None:
    """A file of `heartwire/web` by its name; None where there is no such file."""
    path = _WEB / name
    return path if path.parent == _WEB and path.suffix in (".html", ".css", ".js", ".ts", ".svg") and path.is_file() else None
