"""Helpers of the tests of the SDKs: a server that can be killed, a network that can be cut, SDKs in
processes of their own."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[3]
WITHIN_S = 20.0


class SdkError(Exception):
    """What an SDK said of a call."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(f"{code} {message}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Server:
    """The application on a port of its own, over a file that outlives it."""

    def __init__(self, folder: Path, door: str = "native", **environment: str) -> None:
        self.door = door
        self.folder = folder
        self.port = free_port()
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns once connections are accepted."""
        if self.door == "native":
            command = [
                "-c",
                "from heartwire.cli.main import main; main()",
                "serve",
                "tests.integration.centrifugal.sdk.app:hub",
            ]
        else:
            command = ["-m", "uvicorn", "tests.integration.centrifugal.sdk.app:app", "--ws", self.door]
        known = {name: value for name, value in os.environ.items() if not name.startswith("HEARTWIRE_")}
        path = os.pathsep.join(
            map(str, (ROOT / "src", ROOT))
        )  # the code beside these tests, wherever another is installed
        environment = known | {"PYTHONPATH": path} | self._environment
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, *command, "--port", str(self.port)],
            cwd=self.folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        log.close()
        until(self._is_up, "the server is up")

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(WITHIN_S)
            self._process = None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


class Relay:
    """A network in between: it can be cut, and mended. Of several servers each connection gets the next."""

    def __init__(self, *ports: int) -> None:
        self._to = itertools.cycle(ports)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._is_open = True
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Every connection breaks, and none can be made."""
        self._is_open = False
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for sock in pair:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Connections can be made again."""
        self._is_open = True

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", next(self._to)))
                except OSError:
                    near.close()
                    continue
                if not self._is_open:
                    near.close()
                    far.close()
                    continue
                self._pairs.append((near, far))
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for sock in (source, target):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class Sdk:
    """One client of an SDK, in a process of its own.

    Args:
        kind: "js" or "python", and after dashes what it speaks instead of JSON over WebSocket ("js-sse",
            "python-protobuf").
    """

    def __init__(self, kind: str, modules: Path | None = None) -> None:
        self.kind, *variants = kind.split("-")
        self.events: list[dict[str, Any]] = []
        self._answers: dict[int, dict[str, Any]] = {}
        self._news = threading.Condition()
        self._n = 0
        command = (
            [sys.executable, str(HERE / "driver.py")]
            if self.kind == "python"
            else ["node", str(HERE / "driver.mjs")]
        )
        command += variants
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=modules
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            with self._news:
                if "n" in message:
                    self._answers[message["n"]] = message
                else:
                    self.events.append(message)
                self._news.notify_all()

    def begin(self, what: str, **arguments: Any) -> int:
        """Have something done."""
        self._n += 1
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"n": self._n, "do": what} | arguments) + "\n")
        self._process.stdin.flush()
        return self._n

    def result(self, n: int) -> Any:
        """What came of it. Raises `SdkError`."""
        with self._news:
            assert self._news.wait_for(lambda: n in self._answers, WITHIN_S), (
                f"no answer to {n}; {self.events[-5:]}"
            )
            answer = self._answers.pop(n)
        if "error" in answer:
            raise SdkError(**answer["error"])
        return answer["result"]

    def do(self, what: str, **arguments: Any) -> Any:
        """Have something done, and wait for it."""
        return self.result(self.begin(what, **arguments))

    def open(self, url: str, **options: Any) -> dict[str, Any]:
        """Connect; the event that tells of it."""
        address = url.replace("http", "ws", 1) + "/connection/websocket"
        self.do("open", url=address, options=options)
        return self.wait("connected")

    def subscribe(self, *channels: str, **options: Any) -> dict[str, Any]:
        """Subscribe; the last event that tells of it."""
        self.do("subscribe", channels=channels, options=options)
        return self.wait("subscribed", channel=channels[-1])

    def of(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """The events of a kind."""
        with self._news:
            return [
                one
                for one in self.events
                if one["event"] == event and all(one[name] == fields[name] for name in fields)
            ]

    def wait(self, event: str, count: int = 1, **fields: Any) -> dict[str, Any]:
        """Wait for the ``count``-th event of a kind."""
        with self._news:
            is_there = self._news.wait_for(lambda: len(self.of_unlocked(event, fields)) >= count, WITHIN_S)
            assert is_there, f"{self.kind}: {count} times {event} {fields}; there are {self.events[-8:]}"
            return self.of_unlocked(event, fields)[count - 1]

    def of_unlocked(self, event: str, fields: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            one
            for one in self.events
            if one["event"] == event and all(one[name] == fields[name] for name in fields)
        ]

    def offsets(self, channel: str) -> list[int]:
        """The offsets of what has come in a channel, in the order it came."""
        return [one["offset"] for one in self.of("publication", channel=channel)]


def until(condition: Callable[[], Any], what: str) -> None:
    """Ask again and again until the answer is true."""
    began = time.monotonic()
    pause = threading.Event()
    while not condition():
        assert time.monotonic() - began < WITHIN_S, f"not within {WITHIN_S} s: {what}"
        pause.wait(0.02)


@contextlib.contextmanager
def serving(folder: Path, door: str = "native", **environment: str) -> Iterator[Server]:
    """A server that is stopped at the end. ``door``: "native", or a WebSocket protocol of uvicorn's, over
    ASGI."""
    server = Server(folder, door, **environment)
    server.start()
    try:
        yield server
    finally:
        server.stop(signal.SIGKILL)


def node_modules() -> None:
    """Install centrifuge-js beside the driver; once, whoever comes first."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("the tests of centrifuge-js need node and npm")
        pytest.skip("centrifuge-js needs node and npm")
    import fcntl

    with (HERE / ".npm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = HERE / "node_modules" / ".installed"
        wanted = (HERE / "package.json").read_text()
        if not stamp.exists() or stamp.read_text() != wanted:
            command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
            done = subprocess.run(command, cwd=HERE, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            stamp.write_text(wanted)
