"""permessage-deflate: negotiation, frames, and bombs."""

import random
import tracemalloc
import zlib

import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame as AnyFrame
from websockets.frames import Opcode

from heartwire.transports.websocket.deflate import deflated_frame, extension, negotiate
from heartwire.transports.websocket.frames import frame as our_frame
from heartwire.transports.websocket.rare_frames import RareFrames
from tests.unit.transports.tools import BINARY, CONT, TEXT, frame, split_frames

AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        (["permessage-deflate"], AGREED),
        (["permessage-deflate; client_max_window_bits"], AGREED),  # what browsers send
        (["permessage-deflate; client_max_window_bits=10"], AGREED + "; client_max_window_bits=10"),
        (["permessage-deflate; client_max_window_bits=8"], AGREED + "; client_max_window_bits=8"),
        (['permessage-deflate; client_max_window_bits="12"'], AGREED + "; client_max_window_bits=12"),
        (["permessage-deflate; server_no_context_takeover"], AGREED),
        (["permessage-deflate; client_no_context_takeover; server_no_context_takeover"], AGREED),
        (
            ["permessage-deflate; server_max_window_bits=15"],
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15",
        ),
        (["permessage-deflate; server_max_window_bits=8"], None),  # zlib has none so small
        (["permessage-deflate; server_max_window_bits=8, permessage-deflate"], AGREED),
        (["permessage-deflate; server_max_window_bits=8", "permessage-deflate"], AGREED),
        # Not what RFC 7692 7.1 allows: that offer is declined, not the handshake.
        (["permessage-deflate; server_max_window_bits"], None),
        (["permessage-deflate; server_max_window_bits=7"], None),
        (["permessage-deflate; server_max_window_bits=16"], None),
        (["permessage-deflate; server_max_window_bits=015"], None),
        (["permessage-deflate; client_max_window_bits=x"], None),
        (["permessage-deflate; client_no_context_takeover=1"], None),
        (["permessage-deflate; server_no_context_takeover; server_no_context_takeover"], None),
        (["permessage-deflate; client_max_window_bits; client_max_window_bits=10"], None),
        (["permessage-deflate; unheard_of"], None),
        (["permessage-deflate; unheard_of, permessage-deflate; client_max_window_bits"], AGREED),
        # Others, and garbage.
        (["permessage-bzip2"], None),
        (["x-webkit-deflate-frame, permessage-deflate"], AGREED),
        (["PERMESSAGE-DEFLATE"], None),
        ([], None),
        ([""], None),
        ([","], None),
        ([";"], None),
        (["permessage-deflate;"], None),
        (["permessage-deflate; =1"], None),
        (["permessage-deflate; a=\"b"], None),
        (["permessage-deflate\x00"], None),
        (["\xff"], None),
        (["permessage-deflate, permessage-deflate"], AGREED),
    ],
)  # fmt: skip
def test_negotiation(offers: list[str], answer: str | None) -> None:
    agreed = negotiate(offers)
    assert (agreed.header if agreed is not None else None) == answer


@pytest.mark.parametrize("bits", range(9, 16))
@pytest.mark.parametrize("takeover", ["", "; server_no_context_takeover", "; client_no_context_takeover"])
def test_a_client_inflates_in_the_window_that_it_asked_for(bits: int, takeover: str) -> None:
    agreed = negotiate(
        [f"permessage-deflate; server_max_window_bits={bits}; client_max_window_bits{takeover}"]
    )
    assert agreed is not None
    assert f"server_max_window_bits={bits}" in agreed.header.split("; ")
    assert agreed.window_bits == bits
    # Distances of up to 40,000 bytes: a window that is too large would refer beyond the client's.
    data = b"".join(b"%d %d\n" % (n, n * n) for n in range(3000)) * 2
    [sent], rest = split_frames(deflated_frame(True, data, bits))
    assert not rest
    packed = bytes(sent.payload) + b"\x00\x00\xff\xff"
    for _ in range(2):  # each message by itself: no context is taken over
        inflater = zlib.decompressobj(wbits=-bits)
        assert inflater.decompress(packed) == data


@pytest.mark.parametrize("is_text", [True, False])
@pytest.mark.parametrize("size", [0, 1, 127])
def test_small_messages_are_sent_as_they_are(size: int, is_text: bool) -> None:
    assert deflated_frame(is_text, b"x" * size) == our_frame(is_text, b"x" * size)


def test_what_does_not_shrink_is_sent_as_it_is() -> None:
    noise = zlib.compress(bytes(range(256)) * 40, 9)
    noise = (noise * 10)[:200]
    assert deflated_frame(False, noise) == our_frame(False, noise)


def test_what_shrinks_by_one_byte_is_compressed_and_what_does_not_shrink_is_not() -> None:
    saved = set()
    for size in range(60):  # from noise to noise with a tail that shrinks, a byte at a time
        data = random.Random(1).randbytes(128) + b"x" * size
        made, plain = deflated_frame(False, data), our_frame(False, data)
        saved.add(len(plain) - len(made))
        assert made == plain or len(made) < len(plain)
    assert {0, 1} <= saved


@pytest.mark.parametrize("is_text", [True, False])
@pytest.mark.parametrize("size", [128, 1000, 70_000, 1_000_000])
def test_a_message_is_compressed_by_itself(size: int, is_text: bool) -> None:
    """Without context takeover: each frame inflates with a new window, whatever was sent before."""
    data = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    made = [deflated_frame(is_text, data) for _ in range(2)]
    assert made[0] == made[1]
    assert len(made[0]) < size
    [frame], rest = split_frames(made[0])
    assert rest == b""
    assert (frame.opcode, frame.fin, frame.rsv) == (TEXT if is_text else BINARY, True, 4)
    client = PerMessageDeflate(True, True, 15, 15)  # as a client reads it
    assert client.decode(AnyFrame(Opcode(frame.opcode), frame.payload, True, True)).data == data


def test_a_client_with_a_smaller_window_is_understood() -> None:
    data = bytes(range(256)) * 20
    for bits in range(9, 16):
        compressor = zlib.compressobj(wbits=-bits)
        packed = (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
        rare = RareFrames(1 << 20, (extension(),))
        assert rare.feed(frame(BINARY, packed, rsv=4)) == ((False, data), b"")


# -- bombs ---------------------------------------------------------------------------------------------------

LIMIT = 1 << 20


def _bomb(size: int) -> bytes:
    """A few bytes that inflate to ``size``."""
    compressor = zlib.compressobj(9, wbits=-15)
    chunk = bytes(1 << 20)
    packed = b"".join(compressor.compress(chunk) for _ in range(size >> 20)) + compressor.flush(
        zlib.Z_SYNC_FLUSH
    )
    return packed[:-4]


@pytest.mark.parametrize("pieces", [1, 2, 40])
def test_a_bomb_is_closed_with_1009_and_is_not_inflated(pieces: int) -> None:
    bomb = _bomb(64 << 20)
    assert len(bomb) < LIMIT
    step = len(bomb) // pieces + 1
    parts = [bomb[at : at + step] for at in range(0, len(bomb), step)]
    data = b"".join(
        frame(BINARY if index == 0 else CONT, part, fin=index == len(parts) - 1, rsv=4 if index == 0 else 0)
        for index, part in enumerate(parts)
    )
    rare = RareFrames(LIMIT, (extension(),))
    tracemalloc.start()
    try:
        message, _ = rare.feed(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert message is None
    assert rare.ended
    [close], _ = split_frames(rare.output)
    assert int.from_bytes(close.payload[:2]) == 1009
    assert peak < 8 * LIMIT


def test_fragments_that_just_fill_the_limit_leave_no_room_for_more() -> None:
    """`zlib` takes a room of 0 for no limit at all."""
    compressor = zlib.compressobj(9, wbits=-15)
    first = compressor.compress(bytes(LIMIT)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    second = compressor.compress(bytes(64 << 20)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    rare = RareFrames(LIMIT, (extension(),))
    message, _ = rare.feed(frame(BINARY, first, fin=False, rsv=4))
    assert not rare.ended
    assert message is None
    message, _ = rare.feed(frame(CONT, second[:-4]))
    assert message is None
    [close], _ = split_frames(rare.output)
    assert int.from_bytes(close.payload[:2]) == 1009
