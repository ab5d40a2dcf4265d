"""Applications in processes of uvicorn, to be killed."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Final

__all__ = ["AppProcess", "run_app"]

_ROOT: Final = Path(__file__).parents[1]


class AppProcess:
    """One uvicorn, with its workers; it keeps its port over restarts. Made by `run_app`."""

    def __init__(self, app: str, environment: Mapping[str, str], workers: int, log: IO[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as found:
            port = found.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._log, self._workers = log, workers
        self._command = (sys.executable, "-m", "uvicorn", app, "--port", str(port), "--workers", str(workers))
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(_ROOT), *sys.path)),
            **environment,
        }

    @property
    def log(self) -> str:
        """All that it has written."""
        self._log.seek(0)
        return self._log.read()

    def start(self) -> None:
        """Start it, and wait until each worker is up."""
        before = self._ups()
        self._process = subprocess.Popen(
            self._command,
            env=self._environment,
            stderr=self._log,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # so that its workers can be killed with it
        )
        while self._ups() != (before[0] + self._workers, before[1] + 1):
            if self._process.poll() is not None:
                raise RuntimeError(f"it did not start:\n{self.log}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.01)

    def _ups(self) -> tuple[int, int]:
        """How many workers have started, and how often it has begun to listen, over all its lives."""
        log = self.log
        return log.count("startup complete"), log.count("running on")

    def kill(self) -> None:
        """Send SIGKILL to all of it, and wait for the end. Idempotent."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def terminate(self, *, within_s: float = 20) -> None:
        """Send SIGTERM, and wait for the end."""
        self._process.terminate()
        self._process.wait(within_s)

    def restart(self) -> None:
        """Kill it, and start it again."""
        self.kill()
        self.start()


@contextlib.contextmanager
def run_app(
    app: str, *, environment: Mapping[str, str] | None = None, workers: int = 1
) -> Iterator[AppProcess]:
    """Run ``MODULE:APP`` with uvicorn, and kill it at the end."""
    with tempfile.TemporaryFile("a+") as log:  # what it writes goes to the end, wherever we read
        process = AppProcess(app, environment or {}, workers, log)
        try:
            process.start()
            yield process
        finally:
            process.kill()
