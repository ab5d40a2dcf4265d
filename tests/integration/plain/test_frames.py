"""RFC 6455 5 on the socket: what is sent in odd frames arrives, and what breaks the protocol is closed with
the right code."""

import pytest

from heartwire.testing.server import ServerProcess
from tests.integration.wire import Raw, frame, handshake, ws


def connected(server: ServerProcess, channel: str) -> Raw:
    raw = Raw(server.url)
    raw.send(handshake(server.url, f"/channels/{channel}"))
    assert raw.answer().status == 101
    return raw


def closed(raw: Raw) -> int:
    """The close code that comes next."""
    opcode, payload = raw.frame()
    assert opcode == 8, (opcode, payload)
    return int.from_bytes(payload[:2])


def test_ping_is_answered_with_its_payload(server: ServerProcess, channel: str) -> None:
    with connected(server, channel) as raw:
        for payload in (b"", b"x", bytes(125)):
            raw.send(frame(9, payload))
            assert raw.frame() == (10, payload)
        raw.send(frame(10, b"nobody asked"))
        raw.send(frame(1, b"hi"))
        assert raw.frame() == (1, b"hi")


def test_close_is_answered_with_its_code_and_the_connection_ends(server: ServerProcess, channel: str) -> None:
    for payload in ((1000).to_bytes(2) + b"bye", (4321).to_bytes(2), b""):
        with connected(server, channel) as raw:
            raw.send(frame(8, payload))
            opcode, answer = raw.frame()
            assert (opcode, answer[:2]) == (8, payload[:2])
            assert raw.rest() == b""


def test_fragments_with_a_ping_between_are_one_message(server: ServerProcess, channel: str) -> None:
    with connected(server, channel) as raw:
        euro = "€".encode()
        raw.send(
            frame(1, b"5 " + euro[:1], fin=False)
            + frame(9, b"?")
            + frame(0, euro[1:2], fin=False)
            + frame(0, euro[2:])
        )
        assert raw.frame() == (10, b"?")
        assert raw.frame() == (1, "5 €".encode())
        raw.send(frame(2, b"\x00", fin=False) + frame(0, b"\x01"))
        assert raw.frame() == (2, b"\x00\x01")
        raw.send(frame(1, b"whole"))
        assert raw.frame() == (1, b"whole")


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 200_000])
def test_every_length_of_a_frame(server: ServerProcess, channel: str, size: int) -> None:
    with connected(server, channel) as raw:
        raw.send(frame(2, b"\xa5" * size))
        assert raw.frame() == (2, b"\xa5" * size)


def test_frames_in_single_bytes_and_many_in_one_packet(server: ServerProcess, channel: str) -> None:
    with connected(server, channel) as raw:
        for byte in frame(1, b"slow") + frame(2, bytes(130)):
            raw.send(bytes([byte]))
        assert raw.frame() == (1, b"slow")
        assert raw.frame() == (2, bytes(130))
        raw.send(b"".join(frame(1, b"m%d" % number) for number in range(500)) + frame(1, b"last")[:3])
        assert [raw.frame() for _ in range(500)] == [(1, b"m%d" % number) for number in range(500)]
        raw.send(frame(1, b"last")[3:])
        assert raw.frame() == (1, b"last")


def test_masks_are_undone(server: ServerProcess, channel: str) -> None:
    with connected(server, channel) as raw:
        mask = b"\x37\xfa\x21\x3d"
        raw.send(b"\x81\x85" + mask + b"\x7f\x9f\x4d\x51\x58")  # RFC 6455 5.7
        assert raw.frame() == (1, b"Hello")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x02hi", 1002),  # not masked (5.1)
        (b"\xc1\x80\x00\x00\x00\x00", 1002),  # RSV1 without an extension (5.2)
        (b"\x83\x80\x00\x00\x00\x00", 1002),  # a reserved opcode
        (b"\x8b\x80\x00\x00\x00\x00", 1002),  # a reserved control opcode
        (frame(0, b"x"), 1002),  # a continuation of nothing (5.4)
        (frame(1, b"x", fin=False) + frame(1, b"y"), 1002),  # a message inside another
        (frame(9, bytes(126)), 1002),  # a control frame over 125 bytes (5.5)
        (frame(9, b"", fin=False), 1002),  # a control frame in fragments
        (frame(8, b"\x03"), 1002),  # half a close code (5.5.1)
        (frame(8, (1005).to_bytes(2)), 1002),  # a code that must not be sent (7.4.1)
        (frame(8, (999).to_bytes(2)), 1002),
        (frame(1, b"\xff"), 1007),  # text that is not UTF-8 (8.1)
        (frame(1, b"ok \xc3"), 1007),  # cut inside a character
        (frame(1, b"\xed\xa0\x80"), 1007),  # a surrogate
        (frame(1, b"\xc3", fin=False) + frame(0, b"("), 1007),
    ],
    ids=lambda value: value.hex()[:16] if isinstance(value, bytes) else None,
)
def test_broken_protocol_is_closed_with_its_code(
    server: ServerProcess, channel: str, data: bytes, code: int
) -> None:
    with connected(server, channel) as raw:
        raw.send(data)
        assert closed(raw) == code
        assert raw.rest() == b""
    with connected(server, f"{channel}") as raw:
        raw.send(frame(1, b"fine"))
        assert raw.frame() == (1, b"fine")
    assert "Traceback" not in server.log


def test_nothing_after_a_close_is_published(server: ServerProcess, channel: str) -> None:
    with ws(server.url, f"/channels/{channel}") as listener, connected(server, channel) as raw:
        raw.send(frame(1, b"before") + frame(8, (1000).to_bytes(2)) + frame(1, b"after"))
        assert listener.recv() == "before"
        listener.send("mine")
        assert listener.recv() == "mine"
