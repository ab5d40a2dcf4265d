"""A process that the parent has started: a worker, or the store."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Final, Self

from heartwire.engines.reports import until_up
from heartwire.errors import HeartwireError

__all__ = ["Child", "backoff_s", "ending"]

_UP_S: Final = 60
"""How long a start may take."""

_REPORT_S: Final = 1
"""How long its last word may take, once it has ended; another process may have inherited its connection."""


class Child:
    """See the module.

    Attributes:
        name: for the log: "worker 2".
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        self.name = name
        self._process = process
        self._control = control
        self._report = asyncio.ensure_future(until_up(control, str(self)))
        self._began = asyncio.get_running_loop().time()

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        ends: tuple[socket.socket, socket.socket],
        *,
        descriptors: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """Start it, with one of the two ends of its control, and these descriptors."""
        ours, theirs = ends
        ours.setblocking(False)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *descriptors),
                env=environment,
                process_group=0,  # Ctrl-C is for the parent, which ends its children in order
            )
        return cls(name, process, ours)

    def __str__(self) -> str:
        return f"{self.name} (pid {self._process.pid})"

    @property
    def age_s(self) -> float:
        """Seconds since its start."""
        return asyncio.get_running_loop().time() - self._began

    async def until_up(self) -> None:
        """Wait until it serves. Raises `HeartwireError`: why it does not; it has ended then."""
        await asyncio.wait([self._report], timeout=_UP_S)
        if not self._report.done():
            self.kill()
            raise HeartwireError(f"{self} was not up within {_UP_S} s")
        if error := self._report.exception():
            await self.end(0)
            raise error

    async def until_ended(self) -> int:
        """Wait for its end. Returns its status; below 0 the signal that killed it."""
        status = await self._process.wait()
        await asyncio.wait([self._report], timeout=_REPORT_S)
        self._report.cancel()
        self._control.close()
        return status

    async def end(self, within_s: float) -> None:
        """Have it end by itself, and kill it when it has not after so many seconds."""
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(within_s):
                await self.until_ended()
        except TimeoutError:
            self.kill()
            await self.until_ended()

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        # Not by `send_signal`, which takes the status of a process that has ended away from the event loop.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)


def ending(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def backoff_s(failures: int) -> float:
    """The pause before a process is started again, after so many that did not live long: 0.1 s, twice as long
    each time, at most 10 s. Pure."""
    return float(min(10, 0.1 * 2 ** min(failures, 10)))
