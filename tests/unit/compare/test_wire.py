"""Every byte of a connection is counted once and under the right part, in whatever pieces it comes."""

from collections.abc import Callable, Iterator
from typing import Final

import pytest

from heartwire.compare.wire import PARTS, Conversation, Direction, Part

Said = list[tuple[Direction, Part, bytes]]

POST: Final = b"POST /connection/commands HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n"
POLLS: Final[Said] = [
    ("up", "headers", POST),
    ("up", "payload", b'{"id":1}\n'),
    ("down", "headers", ANSWER),
    ("down", "payload", b"{}\r\n"),
] * 3

NOTHING_NEW: Final[Said] = [
    ("up", "headers", b'GET /channels/a?since=x.1 HTTP/1.1\r\nHost: a\r\nIf-None-Match: "x.1"\r\n\r\n'),
    ("down", "headers", b'HTTP/1.1 304 Not Modified\r\nETag: "x.1"\r\nContent-Length: 33\r\n\r\n'),
    ("up", "headers", b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("down", "headers", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
    ("up", "headers", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"),
    ("down", "headers", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ("up", "payload", b"hi"),
    ("down", "headers", b"HTTP/1.1 204 No Content\r\n\r\n"),
]

STREAM: Final[Said] = [
    ("up", "handshake", b"GET /channels/a HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n"),
    (
        "down",
        "handshake",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    ("down", "headers", b"c\r\n"),
    ("down", "payload", b": heartwire\n"),
    ("down", "headers", b"\r\n1A;a=b\r\n"),
    ("down", "payload", b"data: \r\n0\r\n" + b"x" * 15),
    ("down", "headers", b"\r\n0\r\nTrailer: a\r\n\r\n"),
    ("up", "headers", POST),
    ("up", "payload", b"123456789"),
    ("down", "headers", ANSWER),
    ("down", "payload", b"true"),
]

UNFRAMED: Final[Said] = [
    ("up", "handshake", b"GET / HTTP/1.1\r\nAccept: text/event-stream\r\n\r\n"),
    ("down", "handshake", b"HTTP/1.1 200 OK\r\n\r\n"),
    ("down", "payload", b"data: HTTP/1.1 200 OK\r\n\r\nto the end"),
]

UPGRADE: Final = (
    b"GET /connection/websocket HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n"
)
SOCKET: Final[Said] = [
    ("up", "handshake", UPGRADE),
    ("down", "handshake", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"),
    ("up", "headers", b"\x81\x85mask"),
    ("up", "payload", b"hello"),
    ("down", "headers", b"\x81\x7e\x01\x00"),
    ("down", "payload", b"m" * 256),
    ("down", "headers", b"\x82\x7f" + (70_000).to_bytes(8, "big")),
    ("down", "payload", b"L" * 70_000),
    ("down", "control", b"\x89\x02hi"),
    ("up", "control", b"\x8a\x82maskhi"),
    ("down", "headers", b"\x01\x00"),
    ("down", "headers", b"\x80\x01"),
    ("down", "payload", b"!"),
    ("up", "control", b"\x88\x80mask"),
    ("down", "control", b"\x88\x02\x03\xe8"),
]

REFUSED: Final[Said] = [
    ("up", "handshake", UPGRADE),
    ("down", "handshake", b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\n"),
    ("down", "payload", b"no"),
    ("up", "headers", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("down", "headers", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
]

TLS: Final[Said] = [
    ("up", "opaque", b"\x16\x03\x01\x02\x00GET / HTTP/1.1\r\n\r\n"),
    ("down", "opaque", b"\x16\x03\x03\x00HTTP/1.1 200 OK\r\n\r\n"),
]

BAD_CHUNK: Final[Said] = [
    ("up", "headers", b"GET / HTTP/1.1\r\n\r\n"),
    ("down", "headers", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot hex\r\n"),
    ("down", "opaque", b"what follows"),
]

RECORDED: Final = {
    "polls": POLLS,
    "nothing new": NOTHING_NEW,
    "stream": STREAM,
    "unframed": UNFRAMED,
    "socket": SOCKET,
    "refused": REFUSED,
    "tls": TLS,
    "bad chunk": BAD_CHUNK,
}


def whole(said: Said) -> Iterator[tuple[Direction, bytes]]:
    for direction, _, data in said:
        yield direction, data


def bytewise(said: Said) -> Iterator[tuple[Direction, bytes]]:
    for direction, data in whole(said):
        yield from ((direction, data[at : at + 1]) for at in range(len(data)))


def joined(said: Said) -> Iterator[tuple[Direction, bytes]]:
    """With the tail of what comes next in the same direction."""
    direction, together = said[0][0], b""
    for way, data in whole(said):
        if way != direction:
            yield direction, together
            direction, together = way, b""
        together += data
    yield direction, together


def expected(said: Said, direction: Direction) -> dict[Part, int]:
    return {
        part: sum(len(data) for way, of, data in said if (way, of) == (direction, part)) for part in PARTS
    }


@pytest.mark.parametrize("feeding", [whole, bytewise, joined])
@pytest.mark.parametrize("name", RECORDED)
def test_bytes_go_where_they_belong(
    name: str, feeding: Callable[[Said], Iterator[tuple[Direction, bytes]]]
) -> None:
    said = RECORDED[name]
    conversation = Conversation()
    fed = {"up": 0, "down": 0}
    for direction, data in feeding(said):
        conversation.feed(direction, data)
        fed[direction] += len(data)
        assert (conversation.up.total, conversation.down.total) == (fed["up"], fed["down"])  # at every moment
    assert conversation.up.by_part == expected(said, "up")
    assert conversation.down.by_part == expected(said, "down")
    assert conversation.requests == sum(
        data.endswith(b"\r\n\r\n") and way == "up" and of != "opaque" for way, of, data in said
    )


def test_frames_sent_before_the_answer_wait_for_it() -> None:
    conversation = Conversation()
    conversation.feed("up", UPGRADE + b"\x81\x82maskhi")
    assert conversation.up.by_part["payload"] == 0
    conversation.feed("down", SOCKET[1][2])
    assert conversation.up.by_part == dict.fromkeys(PARTS, 0) | {
        "handshake": len(UPGRADE),
        "headers": 6,
        "payload": 2,
    }


def test_half_a_head_is_counted() -> None:
    conversation = Conversation()
    conversation.feed("up", POST[:30])
    assert (conversation.up.by_part["headers"], conversation.requests) == (30, 0)


def test_a_head_without_end_is_opaque() -> None:
    conversation = Conversation()
    conversation.feed("up", b"GET / HTTP/1.1\r\nA: " + b"a" * 70_000)
    assert conversation.up.by_part["opaque"] == 70_019
    conversation.feed("up", b"\r\n\r\n")
    assert conversation.up.total == 70_023


def test_pieces_are_what_was_said_bounded() -> None:
    conversation = Conversation()
    for direction, data in whole(SOCKET):
        conversation.feed(direction, data)
    assert [(piece.direction, piece.what, piece.size) for piece in conversation.pieces[:4]] == [
        ("up", "request", len(UPGRADE)),
        ("down", "response", len(SOCKET[1][2])),
        ("up", "frame", 6),
        ("up", "data", 5),
    ]
    assert bytes(conversation.pieces[0].data) == UPGRADE
    large = next(piece for piece in conversation.pieces if piece.size == 70_000)
    assert bytes(large.data) == b"L" * 1024
    for _ in range(100):
        conversation.feed("down", b"\x81\x01a")
    assert len(conversation.pieces) == 16
