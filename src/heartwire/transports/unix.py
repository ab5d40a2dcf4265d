"""Unix sockets to listen on.

In: a path. Out: a bound socket. Called by `heartwire serve` and by the store process.
"""

import contextlib
import os
import socket
import stat

from heartwire.errors import ConfigError

__all__ = ["bind_unix"]


def bind_unix(setting: str, path: str, mode: int | None) -> socket.socket:
    """Return a socket at ``path``, in place of an older one. It has its mode from the first moment; ``None``:
    the umask's.

    Raises:
        ConfigError: something else than a socket is there; ``setting`` says who named the path.
        OSError: it cannot be bound.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ConfigError(setting, path, "is there already, and is not a socket: name another path")
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    umask = None if mode is None else os.umask(0o777 & ~mode)
    try:
        listener.bind(path)
    finally:
        if umask is not None:
            os.umask(umask)
    return listener
