"""Pages of other origins at the Socket.IO address, by the rules of python-socketio's options.

In: ``Origin`` and ``Host`` of requests. Out: headers, or a refusal.
"""

from collections.abc import Callable, Sequence
from typing import Final

from heartwire.dialects.socketio.engine_io import BAD_REQUEST, Fault
from heartwire.hub.origins import same_origin

__all__ = ["Cors"]

Allowed = str | Sequence[str] | Callable[[str], bool] | None


class Cors:
    """Who may use a server from a browser.

    Args:
        allowed: ``None``: pages of the server's own origin; ``"*"``: all; an origin, several, or a function
            that is given one; ``[]``: all, and no headers are sent, because something before us does.
        credentials: whether pages may send cookies.
    """

    def __init__(self, allowed: Allowed = None, *, credentials: bool = True) -> None:
        self._is_off = (
            not callable(allowed) and allowed is not None and not isinstance(allowed, str) and not allowed
        )
        self._function = allowed if callable(allowed) else None
        self._origins: tuple[str, ...] = ()
        if isinstance(allowed, str):
            self._origins = (allowed,)
        elif allowed is not None and not callable(allowed):
            self._origins = tuple(allowed)
        self._credentials = credentials

    @property
    def asks(self) -> bool:
        """Whether a function of the program's decides."""
        return self._function is not None

    def check(self, origin: str | None, host: str) -> None:
        """Raises `Fault` for a page that may not use the server."""
        if origin is not None and not self._allows(origin, host):
            raise Fault(BAD_REQUEST, f"{origin[:200]} is not an accepted origin.")

    def headers(self, origin: str | None, host: str) -> dict[str, str]:
        """The headers of an answer to a page."""
        if origin is None or self._is_off:
            return {}
        headers: Final = {"vary": "Origin"}
        if self._allows(origin, host):
            headers["access-control-allow-origin"] = origin
            if self._credentials:
                headers["access-control-allow-credentials"] = "true"
        return headers

    def _allows(self, origin: str, host: str) -> bool:
        if self._is_off:
            return True
        if self._function is not None:
            return bool(self._function(origin))
        return same_origin(origin, host, self._origins)
