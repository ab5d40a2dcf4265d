"""What a process says to the one that started it, over a pair of sockets: that it is up, or why it is not.

In: the outcome of a start. Out: one line, and the error at the other end. The connection stays open, because
its end tells either side that the other is gone, however it went.
"""

import asyncio
import socket

from heartwire.errors import EngineCorrupt, EngineUnavailable, HeartwireError

__all__ = ["inherited", "report", "until_up"]

_KINDS = {kind.__name__: kind for kind in (EngineCorrupt, EngineUnavailable)}


def inherited(descriptor: int) -> socket.socket:
    """A socket that this process was started with; its own children do not get it."""
    found = socket.socket(fileno=descriptor)
    found.set_inheritable(False)
    return found


def report(control: socket.socket, error: HeartwireError | None = None) -> None:
    """Say that this process is up, or the error that kept it from that. Nobody may listen any more."""
    line = "up" if error is None else f"{type(error).__name__} {error}"
    try:
        control.sendall(line.replace("\n", " ").encode() + b"\n")
    except OSError:
        pass


async def until_up(control: socket.socket, name: str) -> None:
    """Wait for the report. Raises `HeartwireError`: the error of the process, or that it ended without a
    word. ``control`` does not block."""
    loop = asyncio.get_running_loop()
    said = b""
    while not said.endswith(b"\n"):
        try:
            part = await loop.sock_recv(control, 4096)
        except OSError:
            part = b""
        if not part:
            raise HeartwireError(f"{name} ended before it was up")
        said += part
    kind, _, why = said.decode().strip().partition(" ")
    if kind != "up":
        raise _KINDS.get(kind, HeartwireError)(why)
