"""Sends the scripts of a batch, interleaved, and gathers what comes back."""

import asyncio
import contextlib
import random
import re
import socket
import struct
from collections.abc import Sequence
from typing import Final

from tools.fuzz.answers import End
from tools.fuzz.corpus import NODE, SESSION
from tools.fuzz.scripts import CLOSE, HALF_CLOSE, PAUSE, RESET, Script

__all__ = ["Played", "play"]

_STEP_S: Final = 2.0
"""A server that does not read for so long is not sent more."""

_PAUSE_S: Final = 0.003
_MOST_BYTES: Final = 4_000_000
"""Of one connection; what comes after that is read, and not kept."""

_IDS: Final = re.compile(rb'"session":"([^"]{32})","node":"([^"]{8})"')


class Played:
    """One connection.

    Attributes:
        got: what came back.
        end: who ended it.
        is_cut: more came back than is kept.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.got = bytearray()
        self.end: End = "client"
        self.is_cut = False
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._is_over = False
        self._reader: asyncio.Task[None] | None = None

    async def open(self, port: int) -> None:
        """Connect."""
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(self._socket, ("127.0.0.1", port))
        self._reader = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(self._socket, 1 << 16):
                if len(self.got) < _MOST_BYTES:
                    self.got += data
                else:
                    self.is_cut = True
            if not self._is_over:
                self.end = "server"

    async def step(self, step: bytes | str, ids: tuple[bytes, bytes] | None) -> None:
        """Send bytes, or do what the word says."""
        if step == PAUSE:
            await asyncio.sleep(_PAUSE_S)
        elif step == HALF_CLOSE:
            self._is_over = True
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
        elif step in (CLOSE, RESET):
            await self._leave(is_reset=step == RESET)
        else:
            assert isinstance(step, bytes)
            await self._send(step if ids is None else step.replace(SESSION, ids[0]).replace(NODE, ids[1]))

    async def _send(self, data: bytes) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_STEP_S):
                await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def _leave(self, *, is_reset: bool) -> None:
        """End the connection. Where answers are counted, they are waited for."""
        assert self._reader is not None
        if self.script.answers is not None:
            await self._wait_for_answers(self.script.answers)
        self._is_over = True
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader
        if is_reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    async def _wait_for_answers(self, count: int) -> None:
        for _ in range(1000):
            finals = len(re.findall(rb"HTTP/1\.1 [2-5]\d\d ", self.got))
            if finals >= count or (self._reader is not None and self._reader.done()):
                return
            await asyncio.sleep(_PAUSE_S)

    @property
    def ids(self) -> tuple[bytes, bytes] | None:
        """Session and node of a stream, once it is open."""
        found = _IDS.search(self.got)
        return (found[1], found[2]) if found else None


async def play(port: int, scripts: Sequence[Script], seed: int) -> list[Played]:
    """Play scripts side by side, a step here and a step there, in an order that the seed decides.

    The first one is opened before the others, and ends after them.
    """
    rng = random.Random(seed)
    first, *others = played = [Played(script) for script in scripts]
    for one in played:
        await one.open(port)
    *opening, ending = first.script.steps
    for step in opening:
        await first.step(step, None)
    for _ in range(100):
        if first.ids is not None or not others:
            break
        await asyncio.sleep(_PAUSE_S)
    left = [(one, list(one.script.steps)) for one in others]
    while left:
        one, steps = left[at := rng.randrange(len(left))]
        await one.step(steps.pop(0), first.ids)
        if not steps:
            del left[at]
    await first.step(ending, None)
    return played
