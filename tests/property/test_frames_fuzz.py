"""The native socket's reader against `websockets`' own: the same bytes in whatever pieces, the same messages,
the same end."""

import asyncio
from typing import Final, NamedTuple

from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame as AnyFrame
from websockets.frames import Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from heartwire.transports.websocket.deflate import deflated_frame
from tests.unit.transports.fake_socket import FakeHandler, opened
from tests.unit.transports.tools import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    close_frame,
    frame,
    split_frames,
)

LIMIT: Final = 300
"""Over what 7 bits of length can say, and soon reached."""


class Outcome(NamedTuple):
    """What a server made of some bytes. ``closed``: None while it is open, else the close code, 1005 for
    none."""

    messages: list[tuple[bool, bytes]]
    pongs: list[bytes]
    closed: int | None


# -- the oracle ----------------------------------------------------------------------------------------------


class _Oracle:
    """`websockets`' ``ServerProtocol``, and the little around it that an application adds."""

    def __init__(self, *, compressed: bool) -> None:
        self.protocol = ServerProtocol(state=OPEN, max_size=LIMIT)
        if compressed:
            self.protocol.extensions = [PerMessageDeflate(True, True, 15, 15)]
        self.messages: list[tuple[bool, bytes]] = []
        self.pongs: list[bytes] = []
        self.closed: int | None = None
        self._is_text = False
        self._parts: list[bytes] = []
        self._begun = b""  # the frame that is not complete

    def feed(self, data: bytes) -> Outcome:
        """A byte at a time: what follows an end must not be looked at."""
        for at in range(len(data)):
            if self.closed is None:
                self._step(data[at : at + 1])
        return Outcome(self.messages, self.pongs, self.closed)

    def finish_frame(self) -> Outcome:
        """Let the rest of the frame come that has begun."""
        for _ in range(70_000):
            if not self._begun or self.closed is not None:
                break
            self._step(b"\x00")
        return Outcome(self.messages, self.pongs, self.closed)

    def _step(self, byte: bytes) -> None:
        self._begun += byte
        self.protocol.receive_data(byte)
        for received in self.protocol.events_received():
            assert isinstance(received, AnyFrame)
            self._frame(received)
            self._begun = b""
        if self.closed is None and self.protocol.state is not OPEN:
            self.closed = self._code()

    def _frame(self, frame: AnyFrame) -> None:
        if frame.opcode is Opcode.PING:
            self.pongs.append(bytes(frame.data))
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._is_text = frame.opcode is Opcode.TEXT
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._parts.append(bytes(frame.data))
            if frame.fin:
                self._message(b"".join(self._parts))

    def _message(self, data: bytes) -> None:
        self._parts = []
        try:
            if self._is_text:
                data.decode()
        except UnicodeDecodeError:
            self.closed = 1007
        else:
            self.messages.append((self._is_text, data))

    def _code(self) -> int:
        error, received, sent = self.protocol.parser_exc, self.protocol.close_rcvd, self.protocol.close_sent
        if isinstance(error, PayloadTooBig):
            # Of two faults the one that comes first in the header counts.
            reserved = 0x30 if self.protocol.extensions else 0x70
            return 1002 if self._begun[0] & (reserved | 8) else 1009
        if (
            isinstance(error, ProtocolError)
            and received is not None
            and "incomplete fragmented message" in str(error)
        ):
            return received.code  # RFC 6455 5.4 allows it; see tests/conformance/test_framing.py
        assert sent is not None
        return sent.code


# -- ours ----------------------------------------------------------------------------------------------------


def observed(pieces: list[bytes], *, compressed: bool) -> Outcome:
    handler = FakeHandler()
    socket, transport = opened(handler, limit=LIMIT, compressed=compressed)
    for piece in pieces:
        socket.data_received(piece)
    if socket._abort is not None:
        socket._abort.cancel()
    frames = transport.frames
    closes = [frame.payload for frame in frames if frame.opcode == CLOSE]
    assert all(frame.opcode in (PONG, CLOSE) and frame.fin and not frame.rsv for frame in frames)
    assert len(closes) == (1 if socket.closed else 0)
    assert handler.losses == len(closes)
    assert not closes or frames[-1].opcode == CLOSE
    closed = None
    if closes:
        closed = int.from_bytes(closes[0][:2]) if closes[0] else 1005
        closes[0][2:].decode()
    return Outcome(handler.messages, [frame.payload for frame in frames if frame.opcode == PONG], closed)


# -- what a client may send ----------------------------------------------------------------------------------

opcodes = st.sampled_from([TEXT, BINARY, CONT, PING, PONG, CLOSE])
masks = st.sampled_from([b"\x37\xfa\x21\x3d", bytes(4), b"\xff\xff\xff\xff", b"\x81\x82\x00\x80"])
sizes = st.sampled_from([0, 1, 2, 5, 124, 125, 126, 127, 128, 200, LIMIT - 1, LIMIT, LIMIT + 1, 65535, 65536])
payloads = st.one_of(
    st.binary(max_size=12),
    st.text(max_size=8).map(str.encode),
    st.builds(lambda size: b"x" * size, sizes),
    st.builds(lambda text, cut: text.encode()[cut:], st.text(min_size=1, max_size=4), st.integers(0, 3)),
)


@st.composite
def valid_messages(draw: st.DrawFn) -> list[bytes]:
    """A message in any number of fragments, with control frames between them."""
    is_text = draw(st.booleans())
    data = draw(st.text(max_size=20).map(str.encode)) if is_text else draw(st.binary(max_size=40))
    count = draw(st.sampled_from([1, 1, 1, 2, 3, 5]))
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), min_size=count - 1, max_size=count - 1)))
    parts = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    frames = []
    for index, part in enumerate(parts):
        if index and draw(st.booleans()):
            frames.append(
                frame(draw(st.sampled_from([PING, PONG])), draw(st.binary(max_size=10)), mask=draw(masks))
            )
        opcode = (TEXT if is_text else BINARY) if index == 0 else CONT
        frames.append(frame(opcode, part, fin=index == count - 1, mask=draw(masks)))
    return frames


any_frames = st.builds(
    lambda opcode, payload, fin, rsv, mask: frame(opcode, payload, fin=fin, rsv=rsv, mask=mask),
    st.one_of(opcodes, st.integers(0, 15)),
    payloads,
    st.booleans(),
    st.sampled_from([0, 0, 0, 0, 0, 1, 2, 4]),
    st.one_of(masks, masks, masks, st.none()),
)
closes = st.builds(
    close_frame,
    st.one_of(
        st.none(),
        st.sampled_from(
            [0, 999, 1000, 1001, 1004, 1005, 1006, 1007, 1012, 1015, 1016, 2999, 3000, 4999, 5000]
        ),
    ),
    st.sampled_from([b"", b"bye", "€".encode(), b"\xff"]),
)


def _packed(data: bytes) -> bytes:
    [packed], _ = split_frames(deflated_frame(False, data))
    return packed.payload


compressed_frames = st.builds(
    lambda opcode, payload, fin, rsv: frame(opcode, payload, fin=fin, rsv=rsv),
    st.sampled_from([TEXT, BINARY, CONT]),
    st.sampled_from(
        [_packed(b"x" * size) for size in (128, 200, LIMIT, LIMIT + 1, 5000)] + [b"\x00", b"", b"\xff\xff"]
    ),
    st.booleans(),
    st.sampled_from([4, 4, 4, 0]),
)


@st.composite
def mutated(draw: st.DrawFn, frames: st.SearchStrategy[bytes]) -> bytes:
    """A frame with a byte changed, or cut short."""
    data = bytearray(draw(frames))
    at = draw(st.integers(0, min(len(data), 20) - 1))
    if draw(st.booleans()):
        data[at] ^= 1 << draw(st.integers(0, 7))
        return bytes(data)
    return bytes(data[: at + 1])


streams = st.lists(
    st.one_of(
        valid_messages().map(b"".join),
        valid_messages().map(b"".join),
        any_frames,
        closes,
        mutated(any_frames),
        mutated(valid_messages().map(b"".join)),
    ),
    min_size=1,
    max_size=8,
).map(b"".join)
compressed_streams = st.lists(
    st.one_of(
        compressed_frames, compressed_frames, valid_messages().map(b"".join), mutated(compressed_frames)
    ),
    min_size=1,
    max_size=6,
).map(b"".join)


@st.composite
def pieces_of(draw: st.DrawFn, data: bytes) -> list[bytes]:
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [
        data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True) if start != end
    ]


# -- the comparison ------------------------------------------------------------------------------------------


def agree(data: bytes, pieces: list[bytes], *, compressed: bool) -> None:
    assert b"".join(pieces) == data
    oracle = _Oracle(compressed=compressed)
    theirs = oracle.feed(data)
    ours = asyncio.run(_observed(pieces, compressed=compressed))
    event(f"{len(theirs.messages)} messages, then {theirs.closed or 'open'}")
    if theirs.closed is None and ours.closed is not None:
        theirs = oracle.finish_frame()  # its header told us what they say when its payload is there
    assert ours == theirs


async def _observed(pieces: list[bytes], *, compressed: bool) -> Outcome:
    return observed(pieces, compressed=compressed)


_SETTINGS: Final = settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)


@_SETTINGS
@given(streams.flatmap(lambda data: st.tuples(st.just(data), pieces_of(data))))
@example((frame(TEXT, b"x" * 200, rsv=4), [b"\xc1\xfe", frame(TEXT, b"x" * 200, rsv=4)[2:]]))
@example((close_frame(1000, b"\xff"), [close_frame(1000, b"\xff")]))
@example(
    (frame(TEXT, b"a", fin=False) + close_frame(1000), [frame(TEXT, b"a", fin=False) + close_frame(1000)])
)
def test_the_same_messages_and_the_same_end(fed: tuple[bytes, list[bytes]]) -> None:
    agree(*fed, compressed=False)


@_SETTINGS
@given(compressed_streams.flatmap(lambda data: st.tuples(st.just(data), pieces_of(data))))
def test_the_same_with_compression(fed: tuple[bytes, list[bytes]]) -> None:
    agree(*fed, compressed=True)


@_SETTINGS
@given(st.binary(max_size=60).flatmap(lambda data: st.tuples(st.just(data), pieces_of(data))))
def test_the_same_of_noise(fed: tuple[bytes, list[bytes]]) -> None:
    agree(*fed, compressed=False)
