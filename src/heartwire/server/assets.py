"""Files for browsers: the demo page with its comparisons, and the client library, which pages of other
origins import too."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from heartwire.server.requests import known_tags

__all__ = ["LIBRARY", "asset", "file_response"]

LIBRARY: Final = ("heartwire.js", "heartwire.d.ts")
"""Served with and without the demo page."""

_WEB = Path(str(files("heartwire") / "web"))

_PAGES: Final = {"": "demo/index.html", "compare.html": "compare/compare.html"}

# The tables of some systems have .js as text/plain, which browsers refuse as a module, and .ts as a video.
_TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".ts": "application/typescript",
    ".svg": "image/svg+xml",
}


def asset(segments: Sequence[str]) -> Path | None:
    """The file of `heartwire/web` at a path: the library, a page, or what the pages load from ``demo/`` and
    ``compare/``. None where there is no such file."""
    match segments:
        case [name] if name in LIBRARY or name in _PAGES:
            path = _WEB / _PAGES.get(name, name)
        case ["demo" | "compare" as folder, name] if (_WEB / folder / name).parent == _WEB / folder:
            path = _WEB / folder / name
        case _:
            return None
    return path if path.suffix in _TYPES and path.is_file() else None


def file_response(request: Request, path: Path) -> Response:
    """The file, or 304 if the browser has it. Browsers ask each time, so that an upgrade shows at once."""
    response = FileResponse(
        path, headers={"cache-control": "no-cache"}, media_type=_TYPES[path.suffix], stat_result=path.stat()
    )
    etag = response.headers["etag"]
    known = known_tags(request)
    if etag.strip('"') in known or "*" in known:
        return Response(status_code=304, headers={"cache-control": "no-cache", "etag": etag})
    return response
