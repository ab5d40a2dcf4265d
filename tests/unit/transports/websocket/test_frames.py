"""The frames that the server makes, and the reader of rare frames."""

import random

import pytest

from heartwire.transports.websocket.deflate import deflated_frame, extension
from heartwire.transports.websocket.frames import PING as OUR_PING
from heartwire.transports.websocket.frames import close_frame as our_close_frame
from heartwire.transports.websocket.frames import frame as our_frame
from heartwire.transports.websocket.frames import head
from heartwire.transports.websocket.rare_frames import RareFrames, frame_sizes, header_problem
from tests.unit.transports.tools import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    Frame,
    close_frame,
    frame,
    single,
    split_frames,
    splits,
)

LIMIT = 70_000


# -- what the server sends -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70_000])
@pytest.mark.parametrize("is_text", [True, False])
def test_a_message_is_one_frame_with_the_shortest_length(size: int, is_text: bool) -> None:
    data = our_frame(is_text, b"x" * size)
    assert split_frames(data) == ([Frame(TEXT if is_text else BINARY, b"x" * size)], b"")
    assert len(data) - size == (2 if size < 126 else 4 if size < 65536 else 10)
    assert data.startswith(head(data[0], size))


def test_a_ping_is_empty() -> None:
    assert split_frames(OUR_PING) == ([Frame(PING, b"")], b"")


@pytest.mark.parametrize("reason", ["", "why", "x" * 123, "x" * 124, "€" * 100, "x" * 122 + "€", "😀" * 40])
def test_a_close_fits_into_a_control_frame_and_its_reason_is_whole_characters(reason: str) -> None:
    [frame], rest = split_frames(our_close_frame(3012, reason))
    assert rest == b""
    assert frame.opcode == CLOSE
    assert len(frame.payload) <= 125
    assert frame.payload[:2] == (3012).to_bytes(2)
    told = frame.payload[2:].decode()
    assert reason.startswith(told)
    assert told == reason or len(told.encode()) > 123 - 4


# -- headers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "length_bytes"),
    [(0, 0), (125, 0), (126, 2), (65535, 2), (65536, 8), (5, 2), (5, 8), (300, 8)],
)
def test_sizes_are_known_with_the_last_byte_of_the_length(payload: int, length_bytes: int) -> None:
    data = frame(BINARY, bytes(payload), length_bytes=length_bytes)
    for size in range(2 + length_bytes):
        assert frame_sizes(data[:size]) is None
    header = 2 + length_bytes + 4
    for size in (2 + length_bytes, 2 + length_bytes + 1, header, len(data), len(data) + 5):
        assert frame_sizes((data + b"other")[:size]) == (header, payload)


def test_every_first_byte_is_judged_as_the_rfc_says() -> None:
    for first in range(256):
        opcode, fin, reserved = first & 15, first & 0x80, first & 0x70
        is_known, is_control = opcode in (0, 1, 2, 8, 9, 10), opcode >= 8
        for is_masked in (True, False):
            for allow_compressed in (True, False):
                is_fine = (
                    is_masked
                    and is_known
                    and (bool(fin) or not is_control)
                    and (not reserved or (allow_compressed and reserved == 0x40))
                )
                problem = header_problem(
                    bytes([first, 0x80 if is_masked else 0]), allow_compressed=allow_compressed
                )
                assert (problem is None) == is_fine, (first, is_masked, allow_compressed, problem)


# -- reading -------------------------------------------------------------------------------------------------


class Reader:
    """`RareFrames`, made anew whenever it is done, as the socket does."""

    def __init__(self, *, limit: int = LIMIT, compressed: bool = False) -> None:
        self.messages: list[tuple[bool, bytes]] = []
        self.output = b""
        self.ended = False
        self.unread = b""
        self._limit = limit
        self._compressed = compressed
        self._rare = self._new()

    def _new(self) -> RareFrames:
        return RareFrames(self._limit, (extension(),) if self._compressed else ())

    def feed(self, data: bytes) -> None:
        while data and not self.ended:
            message, data = self._rare.feed(data)
            self.output += self._rare.pong + self._rare.output
            self._rare.pong = self._rare.output = b""
            if message is not None:
                self.messages.append(message)
            self.ended = self._rare.ended
            if self._rare.done:
                self._rare = self._new()
        self.unread += data

    @property
    def frames(self) -> list[Frame]:
        frames, rest = split_frames(self.output)
        assert rest == b""
        return frames

    @property
    def is_idle(self) -> bool:
        """Whether it stands at the edge of a message."""
        return not self._rare._head and not self._rare._left and self._rare._body is None


def read(*pieces: bytes, limit: int = LIMIT, compressed: bool = False) -> Reader:
    reader = Reader(limit=limit, compressed=compressed)
    for piece in pieces:
        reader.feed(piece)
    return reader


MIXED = (
    frame(TEXT, b"a", fin=False)
    + frame(PING, b"1")
    + frame(CONT, b"b" * 130)
    + frame(PONG, b"2")
    + frame(BINARY, b"c" * 300)
    + frame(PING)
    + frame(TEXT, fin=False)
    + frame(CONT)
)
MIXED_MESSAGES = [(True, b"a" + b"b" * 130), (False, b"c" * 300), (True, b"")]


def check_mixed(reader: Reader) -> None:
    assert reader.messages == MIXED_MESSAGES
    assert reader.frames == [Frame(PONG, b"1"), Frame(PONG, b"")]
    assert not reader.ended
    assert reader.is_idle


def test_frames_in_whatever_pieces() -> None:
    check_mixed(read(MIXED))
    check_mixed(read(*single(MIXED)))
    for pieces in splits(MIXED):
        check_mixed(read(*pieces))
    rng = random.Random(1)
    for _ in range(200):
        cuts = sorted(rng.sample(range(1, len(MIXED)), rng.randrange(1, 12)))
        check_mixed(
            read(*(MIXED[start:end] for start, end in zip([0, *cuts], [*cuts, len(MIXED)], strict=True)))
        )


def test_it_is_done_only_at_the_edge_of_a_message() -> None:
    rare = RareFrames(LIMIT)
    data = frame(TEXT, b"a", fin=False) + frame(PING, b"1") + frame(CONT, b"b")
    for byte in single(data[:-1]):
        assert rare.feed(byte) == (None, b"")
        assert not rare.done
    assert rare.feed(data[-1:] + b"rest") == ((True, b"ab"), b"rest")
    assert rare.done


def test_what_follows_a_message_is_given_back() -> None:
    rare = RareFrames(LIMIT)
    assert rare.feed(frame(BINARY, b"x" * 70_000) + b"\x81\x80") == ((False, b"x" * 70_000), b"\x81\x80")
    rare = RareFrames(LIMIT)
    assert rare.feed(frame(PING, b"p") + b"\x81\x80") == (None, b"\x81\x80")
    assert rare.done
    assert split_frames(rare.pong) == ([Frame(PONG, b"p")], b"")


BROKEN = {
    "reserved bits": (frame(TEXT, b"hello", rsv=2), 1002),
    "compressed without having agreed": (frame(TEXT, b"hello", rsv=4), 1002),
    "reserved opcode": (frame(5, b"hello"), 1002),
    "unmasked": (frame(TEXT, b"hello", mask=None), 1002),
    "control too long": (frame(PING, b"x" * 126), 1002),
    "control in fragments": (frame(PING, b"x", fin=False), 1002),
    "close in fragments": (frame(CLOSE, b"", fin=False), 1002),
    "continuation of nothing": (frame(CONT, b"x"), 1002),
    "message inside a message": (frame(TEXT, b"x", fin=False) + frame(BINARY, b"y"), 1002),
    "half a close code": (frame(CLOSE, b"\x03"), 1002),
    "a close code that must not be sent": (close_frame(1006), 1002),
    "a broken close reason": (close_frame(1000, b"\xff"), 1007),
    "broken text": (frame(TEXT, b"\xff" * 5), 1007),
    "broken text in fragments": (frame(TEXT, b"\xe2", fin=False) + frame(CONT, b"("), 1007),
    "over the limit": (frame(BINARY, bytes(101)), 1009),
    "over the limit in fragments": (frame(BINARY, bytes(60), fin=False) + frame(CONT, bytes(41)), 1009),
    "far over the limit": (b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff" + bytes(4), 1009),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_ends_it_in_whatever_pieces(name: str) -> None:
    data, code = BROKEN[name]
    before = frame(PING, b"before")
    for pieces in [(data,), tuple(single(data)), *splits(data)]:
        for fed in ((before, *pieces), (before + pieces[0], *pieces[1:])):
            reader = read(*fed, limit=100)
            assert reader.ended, pieces
            assert reader.messages == []
            pong, close = reader.frames
            assert pong == Frame(PONG, b"before")
            assert (close.opcode, int.from_bytes(close.payload[:2])) == (CLOSE, code)


def test_a_ping_before_the_end_is_still_answered() -> None:
    for last, code in (
        (frame(CONT, b"("), 1007),
        (frame(CONT, bytes(100)), 1009),
        (frame(3), 1002),
        (frame(TEXT), 1002),
    ):
        data = frame(TEXT, b"\xe2", fin=False) + frame(PING, b"p") + last
        for pieces in [(data,), tuple(single(data))]:
            pong, close = read(*pieces, limit=100).frames
            assert pong == Frame(PONG, b"p")
            assert int.from_bytes(close.payload[:2]) == code


@pytest.mark.parametrize(
    ("data", "needed"),
    [
        (frame(TEXT, b"hello", rsv=1), 2),
        (frame(11, b"hello"), 2),
        (frame(TEXT, b"hello", mask=None), 2),
        (frame(PING, b"x", fin=False), 2),
        (frame(PING, b"x" * 126), 4),
        (frame(BINARY, bytes(200)), 4),
        (frame(BINARY, bytes(70_000)), 10),
    ],
)
def test_what_a_header_tells_is_not_waited_for(data: bytes, needed: int) -> None:
    """A payload that never comes, or that is made to look like frames, must not matter any more."""
    reader = read(*single(data[:needed]), limit=100)
    assert reader.ended
    assert not read(*single(data[: needed - 1]), limit=100).ended


def test_the_limit_is_reported() -> None:
    [close] = read(frame(BINARY, bytes(101)), limit=100).frames
    assert close.payload[2:] == b"bytes of this message: 101 is over the limit of 100 (max_message_bytes)"
    [close] = read(frame(BINARY, bytes(60), fin=False) + frame(CONT, bytes(41)), limit=100).frames
    assert close.payload[2:] == b"bytes of this message: 101 is over the limit of 100 (max_message_bytes)"
    packed = deflated_frame(False, bytes(1000))
    [close] = read(compressed_frame(BINARY, payload_of(packed)), limit=100, compressed=True).frames
    assert close.payload[2:] == b"bytes of this message: over the limit of 100 (max_message_bytes)"


def payload_of(server_frame: bytes) -> bytes:
    [frame], rest = split_frames(server_frame)
    assert rest == b""
    assert frame.rsv == 4
    return frame.payload


def compressed_frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    return frame(opcode, payload, fin=fin, rsv=4)


@pytest.mark.parametrize("closing", [close_frame(), close_frame(1000), close_frame(1001, "ciao €".encode())])
def test_a_close_is_answered_with_what_it_said_also_inside_a_message(closing: bytes) -> None:
    [said], _ = split_frames(_unmasked(closing))
    for before in (
        b"",
        frame(TEXT, b"a", fin=False),
        frame(TEXT, b"", fin=False) + frame(CONT, b"x", fin=False),
    ):
        data = before + closing
        for pieces in [(data,), tuple(single(data)), *splits(data)]:
            reader = read(*pieces, frame(CONT, b"after"))
            assert reader.ended
            assert reader.messages == []
            assert reader.frames == [said]


def _unmasked(client_frame: bytes) -> bytes:
    size = client_frame[1] & 127
    mask, payload = client_frame[2:6], client_frame[6:]
    return bytes([client_frame[0], size]) + bytes(
        byte ^ mask[index % 4] for index, byte in enumerate(payload)
    )


def test_nothing_is_read_after_the_end() -> None:
    rare = RareFrames(LIMIT)
    assert rare.feed(frame(3) + frame(TEXT, b"after")) == (None, b"")
    assert rare.ended
    ended_with = rare.output
    assert rare.feed(frame(PING, b"after")) == (None, b"")
    assert rare.output == ended_with


# -- compressed ----------------------------------------------------------------------------------------------

SENTENCE = b"the same sentence, over and over, and over again; " * 40


def test_compressed_messages_in_whatever_pieces() -> None:
    packed = payload_of(deflated_frame(True, SENTENCE))
    data = (
        compressed_frame(TEXT, packed)
        + compressed_frame(BINARY, packed[:7], fin=False)
        + frame(PING, b"?")
        + frame(CONT, packed[7:20], fin=False)
        + frame(CONT, fin=False)
        + frame(CONT, packed[20:])
        + frame(BINARY, b"plain" * 40, fin=False)
        + frame(CONT, b"plain")
        + compressed_frame(TEXT, packed)
    )
    for pieces in [(data,), tuple(single(data)), *splits(data)]:
        reader = read(*pieces, compressed=True)
        assert reader.messages == [
            (True, SENTENCE),
            (False, SENTENCE),
            (False, b"plain" * 41),
            (True, SENTENCE),
        ], pieces
        assert reader.frames == [Frame(PONG, b"?")]
        assert reader.is_idle


def test_an_empty_compressed_message() -> None:
    assert read(compressed_frame(TEXT, b"\x00"), compressed=True).messages == [
        (True, b"")
    ]  # RFC 7692 7.2.3.6


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (compressed_frame(TEXT, b"\xff" * 20), 1002),  # not deflate
        (compressed_frame(TEXT, b"a", fin=False) + compressed_frame(CONT, b"b"), 1002),  # RFC 7692 6.1
        (frame(TEXT, b"a", fin=False) + compressed_frame(CONT, b"b"), 1002),
        (compressed_frame(PING, b""), 1002),
        (frame(TEXT, b"a", rsv=6), 1002),
        (compressed_frame(TEXT, payload_of(deflated_frame(False, b"\xff" * 200))), 1007),
    ],
)
def test_broken_compression(data: bytes, code: int) -> None:
    for pieces in [(data,), tuple(single(data)), *splits(data)]:
        reader = read(*pieces, compressed=True)
        assert reader.ended
        assert reader.messages == []
        assert int.from_bytes(reader.frames[-1].payload[:2]) == code


def test_a_message_that_inflates_to_just_the_limit_is_let_through() -> None:
    for size in (128, 129, 1000, 5000):
        packed = payload_of(deflated_frame(False, bytes(size)))
        assert read(compressed_frame(BINARY, packed), limit=size, compressed=True).messages == [
            (False, bytes(size))
        ]
        reader = read(compressed_frame(BINARY, packed), limit=size - 1, compressed=True)
        assert reader.messages == []
        assert int.from_bytes(reader.frames[0].payload[:2]) == 1009
