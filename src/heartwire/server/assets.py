"""Files for browsers: the demo page with its comparisons, and the client library, which pages of other
origins import too."""

import re
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

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


_STYLE: Final = re.compile(r"<style>(.*?)</style>", re.DOTALL)


@cache
def _page_headers(path: Path, changed_at: float) -> dict[str, str]:
    """A page loads our own files and talks to this server; nobody frames it. `heartwire compare` writes its
    page as one file, whose inline style is known by its hash."""
    hashes = (sha256(style.encode()).digest() for style in _STYLE.findall(path.read_text("utf-8")))
    styles = "".join(f" 'sha256-{b64encode(digest).decode()}'" for digest in hashes)
    policy = (
        f"default-src 'none'; script-src 'self'; style-src 'self'{styles}; img-src 'self' data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    return {"content-security-policy": policy, "referrer-policy": "no-referrer", "x-frame-options": "DENY"}


class _WholeFile(FileResponse):
    """A file without ranges, which a server may ignore (RFC 9110 14.2): Starlette has errors of its own for
    bad ones."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers["accept-ranges"] = "none"
        headers = [header for header in scope["headers"] if header[0] != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)


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
    status = path.stat()
    headers = {"cache-control": "no-cache", "x-content-type-options": "nosniff"}
    if path.suffix == ".html":
        headers |= _page_headers(path, status.st_mtime)
    response = _WholeFile(path, headers=headers, media_type=_TYPES[path.suffix], stat_result=status)
    etag = response.headers["etag"]
    known = known_tags(request)
    if etag.strip('"') in known or "*" in known:
        return Response(status_code=304, headers=headers | {"etag": etag})
    return response
