"""The frames that are not common (RFC 6455 5): fragmented, control, large, compressed or broken.

In: bytes from `NativeSocket`, from a frame's edge on. Out: messages, and answers to control frames. The work
is done by ``ServerProtocol`` of `websockets`.

A `RareFrames` is made when such a frame begins and dropped when the last of them has ended, so that an idle
connection does not pay for one.
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

from heartwire.codes import close_code
from heartwire.messages import message_too_large
from heartwire.transports.websocket.frames import close_frame

__all__ = ["RareFrames", "frame_sizes", "header_problem", "max_fragments"]

_quiet: Final = logging.getLogger("heartwire.websockets")
_quiet.setLevel(logging.CRITICAL)  # the errors that ServerProtocol logs are answered here

_PROTOCOL_ERROR: Final = 1002  # RFC 6455 7.4.1
_POLICY: Final = 1008
_DATA: Final = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)
_OPCODES: Final = frozenset(Opcode)


class RareFrames:
    """A reader from one frame's edge to another.

    Attributes:
        pong: the answer to a ping, to be sent; the caller clears it.
        output: the last bytes to send, where it has ``ended``.
        done: common frames may follow again; this object holds nothing.
        ended: the peer closed or broke the protocol.
        counted_bytes: what the caller has counted of ``held_bytes``.
    """

    def __init__(self, max_frame_bytes: int, extensions: Sequence[Extension] = ()) -> None:
        self.output = self.pong = b""
        self.done = self.ended = False
        self._max_frame_bytes = max_frame_bytes
        self._protocol = ServerProtocol(state=OPEN, max_size=max_frame_bytes, logger=_quiet)
        self._protocol.extensions = list(extensions)
        self._head = b""
        self._size = self._left = 0  # bytes of the current frame, and of it to come
        self.counted_bytes = 0
        self._body: bytearray | None = None  # of the message whose end has not come
        self._fragments = 0
        self._is_text = False

    @property
    def held_bytes(self) -> int:
        """Bytes of a message that is not complete."""
        body = 0 if self._body is None else len(self._body)
        return body + (self._size - self._left if self._left else 0)

    @property
    def peer_closed(self) -> bool:
        """Whether the peer has sent a close frame, rather than broken the protocol."""
        return self._protocol.close_rcvd is not None

    def feed(self, data: bytes) -> tuple[tuple[bool, bytes] | None, bytes]:
        """Read one frame, or as much of it as there is.

        Returns the message (whether it is text, and its bytes), and the unread rest of ``data``.
        """
        if self.ended or self.done:
            return None, b"" if self.ended else data
        if self._head:
            data, self._head = self._head + data, b""
        if not self._left and not self._begin(data):
            return None, b""
        piece, data = data[: self._left], data[self._left :]
        self._left -= len(piece)
        message = self._read(piece)
        self.done = not self._left and self._protocol.current_size is None and self._body is None
        return message, b"" if self.ended else data

    def _begin(self, data: bytes) -> bool:
        """Read a frame's header; False where it is incomplete or breaks the protocol."""
        # ServerProtocol judges some of it only when the payload is there; the frame's end would be unknown.
        allows = bool(self._protocol.extensions)
        problem = header_problem(data, allow_compressed=allows) if len(data) > 1 else None
        if problem is not None:
            self._end(_PROTOCOL_ERROR, problem)
            return False
        sizes = frame_sizes(data)
        if sizes is None:
            self._head = data
            return False
        self._size = self._left = sum(sizes)
        if data[0] & 8 and sizes[1] > 125:
            self._end(_PROTOCOL_ERROR, "a control frame has at most 125 bytes")
            return False
        if data[0] & 15 == Opcode.CLOSE:
            # 5.4: control frames may come inside a fragmented message; ServerProtocol takes this one for an
            # error.
            self._protocol.current_size = None
        return True

    def _read(self, piece: bytes) -> tuple[bool, bytes] | None:
        protocol = self._protocol
        protocol.receive_data(piece)
        if isinstance(protocol.parser_exc, PayloadTooBig):
            self._end(close_code("message_too_large"), self._too_large(protocol.parser_exc))
            return None
        message = None
        for event in protocol.events_received():
            assert isinstance(event, Frame)
            if event.opcode in _DATA:
                message = self._assemble(event)
        if not self.ended:
            sent = b"".join(protocol.data_to_send())
            self.ended = protocol.state is not OPEN
            if self.ended:
                self.output = sent
            else:  # only a ping is answered
                self.pong = sent or self.pong
        return message

    def _too_large(self, error: PayloadTooBig) -> str:
        limit = self._max_frame_bytes
        if error.size is None:  # known only after inflating, which stops here
            return f"bytes of this message: over the limit of {limit} (max_message_bytes)"
        return str(message_too_large(error.size + (error.current_size or 0), limit))

    def _assemble(self, frame: Frame) -> tuple[bool, bytes] | None:
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
            self._fragments = 0
        self._fragments += 1
        if not frame.fin:
            if self._fragments > max_fragments(self._max_frame_bytes):
                self._end(_POLICY, f"a message of more than {self._fragments - 1} fragments")
                return None
            self._body = bytearray() if self._body is None else self._body
            self._body += frame.data
            return None
        data = bytes(frame.data if self._body is None else self._body + frame.data)
        self._body = None
        if self._is_text:
            try:
                data.decode()
            except UnicodeDecodeError as error:  # RFC 6455 8.1
                self._end(close_code("invalid_utf8"), f"text is not UTF-8 at byte {error.start}")
                return None
        return self._is_text, data

    def _end(self, code: int, reason: str) -> None:
        self.output = close_frame(code, reason)
        self.ended = True


def max_fragments(max_frame_bytes: int) -> int:
    """Return how many fragments a message may have: enough for one that is cut into 64 bytes each."""
    return 1024 + max_frame_bytes // 64


def header_problem(data: bytes, *, allow_compressed: bool = False) -> str | None:
    """Return the rule of RFC 6455 5.1, 5.2 or 5.5 that a frame's first two bytes break, ``None`` for none."""
    first, second = data[0], data[1]
    if first & (0x30 if allow_compressed else 0x70):
        return "reserved bits must be 0"
    if first & 15 not in _OPCODES:
        return f"opcode {first & 15} is reserved"
    if not second & 0x80:
        return "a client's frames must be masked"
    if first & 8 and not first & 0x80:
        return "a control frame must not be fragmented"
    return None


def frame_sizes(data: bytes) -> tuple[int, int] | None:
    """Return the header's and payload's sizes of a masked frame; ``None``: more bytes are needed."""
    size = len(data)
    length = data[1] & 127 if size > 1 else 0
    if size < (10 if length == 127 else 4 if length == 126 else 2):
        return None
    if length < 126:
        return 6, length
    if length == 126:
        return 8, data[2] << 8 | data[3]
    (length,) = struct.unpack_from("!Q", data, 2)
    return 14, length
