"""What comes in on a native WebSocket: from bytes to messages, a bounded piece a turn.

In: bytes from the socket, through one buffer that all connections share. Out: messages to a `SocketHandler`.

The common frame (complete, unfragmented, masked, small) and the ping are parsed here, every other frame by
`RareFrames`. A connection reads at most `READ_BYTES` and serves at most `SLICE` frames a turn; more waits for
its next turn in the door's `FairQueue`. After a slice of small control frames and fragments alone it rests: a
peer may send some 3,200 of them a second. Nothing is read from a socket meanwhile, nor while its peer takes
nothing, nor while the handler is busy: so what waits here is one read and the beginning of one frame.
"""

import asyncio
import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from heartwire.codes import close_code
from heartwire.core.fair_queue import SLICE, FairQueue
from heartwire.text import is_utf8
from heartwire.transports.websocket.deflate import extension
from heartwire.transports.websocket.frames import PONG, answer_to_close, head, unmasked
from heartwire.transports.websocket.rare_frames import RareFrames

__all__ = ["DOOR", "PEER", "READ_BYTES", "TURN", "Incoming", "Incomplete", "SocketHandler"]

log = logging.getLogger("heartwire")

READ_BYTES: Final = 16 * 1024
"""One read. The event loops read up to 256 KiB, which each of many flooding peers would hold."""

REST_S: Final = SLICE / 3200
_SMALL_BYTES: Final = 4 * 1024
"""A slice with less and without a message rests that long."""

DOOR: Final = 1
HANDLER: Final = 2
TURN: Final = 4
PEER: Final = 8
"""What a connection waits for, added up: the answer to its handshake, its handler, its turn, its peer (the
socket is full)."""


class SocketHandler(Protocol):
    """The dialect's side of one connection."""

    def receive(self, is_text: bool, data: bytes) -> Awaitable[None] | None:
        """A message came in; text is UTF-8. Returns an awaitable where the next message must wait for it."""

    def lost(self) -> None:
        """The connection has ended. Called once."""


class Incomplete(Protocol):
    """The bound of large messages that are not complete, of all connections."""

    def recount(self, before: int, after: int) -> bool:
        """A connection holds ``after`` bytes now, ``before`` before; False: there is no room for that."""


class Incoming(asyncio.BufferedProtocol):
    """The reading half of a `NativeSocket`, which has its slots."""

    if not TYPE_CHECKING:
        __slots__ = ()

    buffer: ClassVar[bytearray]
    view: ClassVar[memoryview]
    """Of the buffer: asyncio's TLS fills what it is given from slices, which copy a ``bytearray``."""
    leftovers: ClassVar[FairQueue]
    incomplete: ClassVar["Incomplete"]
    transport: asyncio.Transport
    heard: bool
    closed: bool
    compressed: bool
    max_frame_bytes: int
    _handler: SocketHandler | None
    _rare: RareFrames | None
    _left_over: bytes
    _pongs: bytes
    _waits_for: int

    def write(self, payload: bytes) -> None:
        raise NotImplementedError

    def close(self, code: int, reason: str) -> None:
        raise NotImplementedError

    def end(self, *, is_answered: bool) -> None:
        """The last frame is written; ``is_answered``: the peer's has come."""
        raise NotImplementedError

    # -- the socket ------------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.view

    def buffer_updated(self, nbytes: int) -> None:
        self.heard = True
        if not (self._waits_for or self.closed or self._left_over or self._rare is not None):
            buffer = self.buffer
            if 6 < nbytes < 132 and buffer[1] == nbytes + 122 and (buffer[0] == 0x81 or buffer[0] == 0x82):
                # One short frame, most often; `_read_common` would come to the same.
                payload = unmasked(buffer[6:nbytes], buffer[2:6])
                if payload.isascii():
                    wait = self._handler.receive(buffer[0] == 0x81, payload)  # type: ignore[union-attr]
                    if wait is not None:
                        self._wait_for(wait)
                    return
        self.take(bytes(self.buffer[:nbytes]))
        if nbytes == READ_BYTES and not self.closed and not self._waits_for:
            self._take_turns(self._left_over)  # there is more in the socket

    def take(self, data: bytes) -> None:
        """Read bytes, however they came."""
        self.heard = True
        if self.closed:
            return
        if self._left_over:
            data, self._left_over = self._left_over + data, b""
        if self._waits_for:
            self._left_over = data
            self.transport.pause_reading()
        else:
            self._read(data)

    # -- waiting ---------------------------------------------------------------------------------------------

    def _take_turns(self, data: bytes, *, rests: bool = False) -> None:
        """Go on with ``data`` in a later turn of the event loop."""
        self._left_over = data
        self.transport.pause_reading()
        if not self._waits_for:
            self._waits_for = TURN
            if rests:
                asyncio.get_running_loop().call_later(REST_S, self._take_turn)
            else:
                self.leftovers.add(self._take_turn)

    def _take_turn(self) -> None:
        self.heard = True  # what waits for its turn has come from the peer
        self._done_waiting(TURN)

    def _wait_for(self, wait: Awaitable[None]) -> None:
        """Read no more until the handler is done with a message."""
        self._waits_for |= HANDLER
        asyncio.ensure_future(wait).add_done_callback(self._waited)

    def _waited(self, task: "asyncio.Future[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.closed:
            log.error("a message could not be handled", exc_info=error)
            self.close(close_code("internal"), "internal server error")
        if not task.cancelled():
            self._done_waiting(HANDLER)

    def _done_waiting(self, what: int) -> None:
        self._waits_for &= ~what
        self._go_on()

    def _go_on(self) -> None:
        """Read what is left over, then from the socket, unless there is something to wait for."""
        if not (self._waits_for or self.closed or self.transport.is_closing()):
            data, self._left_over = self._left_over, b""
            self._read(data)
            if not (self._waits_for or self.closed):
                self.transport.resume_reading()

    # -- frames ----------------------------------------------------------------------------------------------

    def _read(self, data: bytes) -> None:
        """Read from a frame's edge, or from within a rare frame; a slice, or up to what has to be waited
        for."""
        left, size = SLICE, len(data)
        has_message = False
        while data and not self.closed:
            if self._waits_for or left <= 0:
                self._take_turns(data, rests=not has_message and size - len(data) < _SMALL_BYTES)
                break
            if self._rare is None:
                data, left, has_one = self._read_common(data, left)
            else:
                data, has_one = self._read_rare(self._rare, data)
                left -= 1
            has_message |= has_one
        self._send_pongs()

    def _send_pongs(self) -> None:
        """Answer the pings of a slice in one write. Each has its pong: some clients count them, although the
        latest would do (RFC 6455 5.5.3)."""
        if self._pongs:
            pongs, self._pongs = self._pongs, b""
            self.write(pongs)

    def _read_common(self, data: bytes, left: int) -> tuple[bytes, int, bool]:
        """Read at most ``left`` common frames, up to a rare one or something to wait for. Returns the rest of
        the bytes and of the frames, and whether there was a message."""
        handler: Any = self._handler
        has_message = False
        at, size = 0, len(data)
        while size - at >= 2:
            if left <= 0:
                return data[at:], left, has_message
            left -= 1
            first, length = data[at], data[at + 1] - 128
            if (first != 0x81 and first != 0x82) or length < 0 or length > 126:
                taken = self._read_control(data, at, first, length)
                if not taken:
                    self._begin_rare(data[at:], first)
                    return data[at:], left + 1, has_message
                at += taken
                continue
            start = at + 6
            if length == 126:
                start = at + 8
                if size < start:
                    break
                length = data[at + 2] << 8 | data[at + 3]
                if length > self.max_frame_bytes:
                    self._rare = RareFrames(self.max_frame_bytes)
                    return data[at:], left + 1, has_message
            end = start + length
            if size < end:
                break
            payload = unmasked(data[start:end], data[start - 4 : start])
            at = end
            is_text = first == 0x81
            if is_text and not is_utf8(payload):
                self.close(close_code("invalid_utf8"), "text is not UTF-8")
                return b"", left, True
            has_message = True
            wait = handler.receive(is_text, payload)
            if wait is not None:
                self._wait_for(wait)
            if self._waits_for or self.closed:
                return data[at:], left, True
        if at < size:
            self._left_over = data[at:]
        return b"", left, has_message

    def _read_control(self, data: bytes, at: int, first: int, length: int) -> int:
        """Read a whole ping or pong. Returns its size, 0 for any other frame."""
        if (first != 0x89 and first != 0x8A) or not 0 <= length < 126 or len(data) - at < length + 6:
            return 0
        if first == 0x89:
            payload = unmasked(data[at + 6 : at + 6 + length], data[at + 2 : at + 6])
            self._pongs += head(PONG, length) + payload
        return length + 6

    def _begin_rare(self, data: bytes, first: int) -> None:
        answer = answer_to_close(data) if first == 0x88 else None
        if answer is None:
            self._rare = RareFrames(self.max_frame_bytes, (extension(),) if self.compressed else ())
            return
        self._send_pongs()
        self.write(answer)
        self.end(is_answered=True)

    def _recount(self, rare: RareFrames, held_bytes: int) -> bool:
        before, rare.counted_bytes = rare.counted_bytes, held_bytes
        return self.incomplete.recount(before, held_bytes)

    def _read_rare(self, rare: RareFrames, data: bytes) -> tuple[bytes, bool]:
        """Read one frame. Returns the rest of the bytes, and whether a message is complete."""
        message, data = rare.feed(data)
        if not self._recount(rare, rare.held_bytes):
            self.close(close_code("uploads_full"), "incomplete messages hold max_upload_bytes on this node")
            return b"", False
        if rare.pong:
            self._pongs += rare.pong
            rare.pong = b""
        if rare.ended:
            self._send_pongs()
            self.write(rare.output)
            self.end(is_answered=rare.peer_closed)
            return b"", False
        if rare.done:
            self._rare = None
        if message is not None:
            assert self._handler is not None
            wait = self._handler.receive(*message)
            if wait is not None:
                self._wait_for(wait)
        return data, message is not None
