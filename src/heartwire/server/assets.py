"""The files that browsers get: the demo page's, and the client library, which pages of other origins import
too."""

from importlib.resources import files
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, Response

__all__ = ["LIBRARY", "asset", "file_response"]

LIBRARY: Final = ("heartwire.js", "heartwire.d.ts")
"""What is there with and without the demo page."""

_WEB = Path(str(files("heartwire") / "web"))

# Not what the system's tables say: some have .js as text/plain, which browsers refuse as a module, and .ts as
# a video.
_TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".ts": "application/typescript",
    ".svg": "image/svg+xml",
}


def asset(name: str) -> Path | None:
    """A file of `heartwire/web` by its name; None where there is no such file."""
    path = _WEB / name
    return path if path.parent == _WEB and path.suffix in _TYPES and path.is_file() else None


def file_response(request: Request, path: Path) -> Response:
    """The file, or 304 where the browser has it. It asks each time, so that an upgrade is seen at once."""
    response = FileResponse(
        path, headers={"cache-control": "no-cache"}, media_type=_TYPES[path.suffix], stat_result=path.stat()
    )
    etag = response.headers["etag"]
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"cache-control": "no-cache", "etag": etag})
    return response
