"""The frames that are not common: fragmented, control, large, compressed or broken. Left to `websockets`' ``ServerProtocol``.

A `RareFrames` is made when such a frame begins, and dropped when the last of them has ended, so that an idle connection
does not pay for one.
"""

import logging
import struct
from collections.abc import Sequence
from typing import Final

from websockets.exceptions import PayloadTooBig
from websockets.extensions import Extension
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from heartwire.transports.framing import close_frame

__all__ = ["RareFrames", "frame_bytes"]

_quiet: Final = logging.getLogger("heartwire.websockets")
_quiet.setLevel(logging.CRITICAL)  # what ServerProtocol would log, its caller answers

_DATA: Final = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


class RareFrames:
    """Reads from a frame's edge to a frame's edge.

    Attributes:
        output: what is to be sent now; the caller takes it.
        done: common frames may follow again, and this object has nothing left in it.
        ended: the peer closed or broke the protocol; ``output`` is the last that is to be sent.
    """

    def __init__(self, max_message_bytes: int, extensions: Sequence[Extension] = ()) -> None:
        self.output = b""
        self.done = self.ended = False
        self._max_message_bytes = max_message_bytes
        self._protocol = ServerProtocol(state=OPEN, max_size=max_message_bytes, logger=_quiet)
        self._protocol.extensions = list(extensions)
        self._head = b""
        self._left = 0  # of the frame that is being read
        self._parts: list[bytes] = []
        self._is_text = False

    def feed(self, data: bytes) -> tuple[tuple[bool, bytes] | None, bytes]:
        """Read until a message is complete, or all is common again, or ``data`` is used up.

        Returns the message (whether it is text, and its bytes), and what was not read.
        """
        data, self._head = self._head + data, b""
        while data and not self.ended and not self.done:
            if not self._left:
                length = frame_bytes(data, allow_compressed=bool(self._protocol.extensions))
                if length is None:
                    self._head = data
                    return None, b""
                self._left = length
            piece, data = data[: self._left], data[self._left :]
            self._left -= len(piece)
            message = self._read(piece)
            self.done = not self._left and self._protocol.current_size is None and not self._parts
            if message is not None:
                return message, data
        return None, b"" if self.ended else data

    def _read(self, piece: bytes) -> tuple[bool, bytes] | None:
        protocol = self._protocol
        protocol.receive_data(piece)
        message = None
        for event in protocol.events_received():
            assert isinstance(event, Frame)
            if event.opcode in _DATA:
                message = self._assemble(event)
        if not self.ended:
            self.output += b"".join(protocol.data_to_send())
            self.ended = protocol.state is not OPEN
            if isinstance(protocol.parser_exc, PayloadTooBig):
                self._end(1009, self._too_large(protocol.parser_exc))
        return message

    def _too_large(self, error: PayloadTooBig) -> str:
        limit = f"over the limit of {self._max_message_bytes} (max_message_bytes)"
        if error.size is None:  # known only once it is inflated, which is given up here
            return f"bytes of this message: {limit}"
        return f"bytes of this message: {error.size + (error.current_size or 0)} is {limit}"

    def _assemble(self, frame: Frame) -> tuple[bool, bytes] | None:
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        self._parts.append(bytes(frame.data))
        if not frame.fin:
            return None
        data = b"".join(self._parts)
        self._parts = []
        if self._is_text:
            try:
                data.decode()
            except UnicodeDecodeError as error:  # RFC 6455 8.1
                self._end(1007, f"text is not UTF-8 at byte {error.start}")
                return None
        return self._is_text, data

    def _end(self, code: int, reason: str) -> None:
        self.output = close_frame(code, reason)
        self.ended = True


def frame_bytes(data: bytes, *, allow_compressed: bool = False) -> int | None:
    """The length of the frame that ``data`` begins with; None where its header is not complete.

    A header that breaks the protocol is as long as ``data``: there is no more to wait for.
    """
    size = len(data)
    if data[0] & (0x30 if allow_compressed else 0x70) or data[0] & 0x0F not in (0, 1, 2, 8, 9, 10):
        return size if size >= 2 else None
    if size < 2:
        return None
    length = data[1] - 128
    if length < 0:
        return size
    if length < 126:
        return 6 + length
    if length == 126:
        return None if size < 4 else 8 + (data[2] << 8 | data[3])
    if size < 10:
        return None
    (length,) = struct.unpack_from("!Q", data, 2)
    return 14 + int(length)
