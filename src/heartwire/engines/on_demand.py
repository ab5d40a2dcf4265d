"""``?shared=yes``: processes of one host share a store process, which the first of them starts.

In: the URL of an engine that one process holds. Out: an `AttachedEngine`, and the store process behind it,
which ends soon after its last node has left. Whoever is to start it holds a lock, which the store inherits
and keeps as long as it lives; so there is never a second one, and a killed one is followed by the next.

With ``sqlite:///FILE`` socket and lock lie beside the file, with ``memory://NAME`` in a folder that only this
user may enter; without a NAME the processes of one parent share, the workers of a server.
"""

import asyncio
import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from heartwire.engines.attached import AttachedEngine
from heartwire.engines.registry import open_engine
from heartwire.engines.reports import until_up
from heartwire.engines.sqlite import SqliteEngine
from heartwire.errors import ConfigError, EngineError, EngineUnavailable, HeartwireError

__all__ = ["OnDemand", "open_shared"]

LINGER_S: Final = 5
"""How long a store waits for nodes when it has none."""

_MAX_PATH_BYTES: Final = 107 if sys.platform == "linux" else 103
"""Of a Unix socket: `sun_path` of unix(7), less its last zero."""

_NAME: Final = re.compile(r"\w[\w.-]{0,63}", re.ASCII)


def open_shared(url: str) -> AttachedEngine:
    """The engine of a URL with ``shared=yes``. Raises `ConfigError`."""
    if sys.platform == "win32":
        raise ConfigError("engine", url, "Windows has no Unix sockets to share a store by: run one process")
    parts = urlsplit(url)
    others = [
        (name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != "shared"
    ]
    query = f"?{urlencode(others)}" if others else ""
    if parts.scheme == "sqlite":
        path = SqliteEngine.from_url(f"sqlite://{parts.netloc}{parts.path}{query}").path.resolve()
        store = OnDemand(f"sqlite:///{path}{query}", path)
    else:
        if parts.path or (parts.netloc and not _NAME.fullmatch(parts.netloc)):
            raise ConfigError(
                "engine", url, "memory://NAME?shared=yes, with letters, digits, ., _ and - in NAME"
            )
        open_engine(f"memory://{query}")
        store = OnDemand(f"memory://{query}", Path(_folder(), parts.netloc) if parts.netloc else None)
    return AttachedEngine(store.locate(), store=store)


class OnDemand:
    """The store process of an engine. See `heartwire.engines.attached.StoreProcess`.

    Args:
        engine: its URL, for any working directory.
        base: what its socket and lock are named after; ``None``: the parent of the process that asks.
    """

    def __init__(self, engine: str, base: Path | None) -> None:
        self._engine = engine
        self._base = base

    def locate(self) -> Path:
        path = Path(f"{self._find_base()}.sock")
        size = len(os.fsencode(path))
        if size > _MAX_PATH_BYTES:
            fix = f"a Unix socket has a path of at most {_MAX_PATH_BYTES} bytes, not {size}: move the file"
            raise ConfigError("engine", str(path), fix)
        return path

    def _find_base(self) -> Path:
        # Asked late: a program that forks its workers makes the hub in their parent.
        return self._base or Path(_folder(), f"parent-{os.getppid()}")

    async def summon(self) -> None:
        path = self.locate()
        try:
            lock = _locked(Path(f"{self._find_base()}.lock"))
        except OSError as error:
            raise EngineUnavailable(f"{path}: {error.strerror}: it has to be writable") from None
        if lock is None:
            return  # a store is there, or on its way
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            try:
                with theirs:
                    process = self._start(path, theirs.fileno(), lock)
            finally:
                os.close(lock)
            try:
                await until_up(ours, "the store")
            except EngineError:
                raise
            except HeartwireError as error:
                raise EngineUnavailable(str(error)) from error
            finally:
                await asyncio.to_thread(process.wait)

    def _start(self, path: Path, control: int, lock: int) -> "subprocess.Popen[bytes]":
        # -P: a module of the working directory does not hide one of Python's.
        command = [sys.executable, "-P", "-m", "heartwire.store", "--detach", "--linger-s", str(LINGER_S)]
        command += ["--engine", self._engine, "--socket", str(path), "--control", str(control)]
        null = subprocess.DEVNULL
        return subprocess.Popen(command, stdin=null, stdout=null, cwd="/", pass_fds=(control, lock))  # noqa: S603


def _locked(path: Path) -> int | None:
    """A descriptor of the file with its lock; ``None``: another process has it. Raises ``OSError``."""
    import fcntl  # not made for Windows

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _folder() -> Path:
    """A folder of this user alone. Raises `ConfigError`."""
    path = Path(tempfile.gettempdir(), f"heartwire-{os.getuid()}")
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ConfigError("engine", str(path), "has to be a folder of yours with the mode 0700: remove it")
    return path
