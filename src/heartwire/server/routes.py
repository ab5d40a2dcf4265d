"""What a path means, and whose pages may ask; for HTTP and for both WebSocket transports."""

from collections.abc import Callable, Sequence
from urllib.parse import unquote

from starlette.types import Scope

from heartwire.errors import Refused

__all__ = ["segments", "socket_channels", "split_path"]


def segments(scope: Scope) -> list[str]:
    """The path below our prefix, split before it is decoded, so that a name may hold an encoded slash."""
    raw = scope.get("raw_path")
    path = raw.partition(b"?")[0].decode("latin-1") if raw else scope["path"]
    path = path.removeprefix(scope.get("root_path", ""))
    return split_path(path, is_encoded=bool(raw))


def split_path(path: str, *, is_encoded: bool = True) -> list[str]:
    """A path's segments; one empty one for the root."""
    parts = path.removeprefix("/").split("/")
    if len(parts) > 1 and not parts[-1]:
        parts.pop()
    return (
        [unquote(part, errors="surrogateescape") for part in parts] if is_encoded and "%" in path else parts
    )


def socket_channels(path: Sequence[str], channels: Callable[[], list[str]]) -> tuple[list[str], bool]:
    """The channels that a WebSocket's path names, and whether it may name several; ``channels`` gives the
    query's.

    Raises `Refused` (``not_found``).
    """
    match path:
        case [""]:
            return ["lobby"], False
        case ["channels"]:
            return channels(), True
        case ["channels", name]:
            return [name], False
    raise Refused("not_found", "no WebSocket here: channels are at /channels/NAME")
