"""The native socket on a fake transport: waiting, buffering, and the end."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from heartwire.core.fair_queue import SLICE
from heartwire.transports.backlog import MAX_OWED_BYTES
from heartwire.transports.websocket import native as websocket_uvicorn
from heartwire.transports.websocket.deflate import deflated_frame
from heartwire.transports.websocket.incoming import READ_BYTES
from tests.unit.transports.fake_socket import FakeDoor, FakeHandler, Room, accept, made, opened
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
    handshake,
    single,
    split_frames,
    until,
)


class Gate:
    """Answers messages with awaitables that the test opens later; counts those that wait."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[None]] = []

    def __call__(self, is_text: bool, data: bytes) -> Awaitable[None] | None:
        if not data.startswith(b"wait"):
            return None
        gate = asyncio.get_running_loop().create_future()
        self.waiting.append(gate)
        return _passed(gate)

    async def open(self) -> None:
        self.waiting.pop().set_result(None)
        for _ in range(4):
            await asyncio.sleep(0)


async def _passed(gate: "asyncio.Future[None]") -> None:
    await gate


def texts(handler: FakeHandler) -> list[bytes]:
    return [data for _, data in handler.messages]


# -- what comes in -------------------------------------------------------------------------------------------


async def test_messages_come_in_their_order_common_ones_and_rare_ones() -> None:
    handler = FakeHandler()
    socket, transport = opened(handler)
    data = (
        frame(TEXT, b"1")
        + frame(TEXT, b"2", fin=False)
        + frame(PING, b"p")
        + frame(CONT, b"2")
        + frame(BINARY, b"3" * 300)
        + frame(BINARY, b"4" * 66_000)
        + frame(PONG)
        + frame(TEXT, "5 €".encode())
    )
    wanted = [
        (True, b"1"),
        (True, b"22"),
        (False, b"3" * 300),
        (False, b"4" * 66_000),
        (True, "5 €".encode()),
    ]
    socket.data_received(data)
    for cut in range(1, 60):
        socket.data_received(data[:cut])
        socket.data_received(data[cut:])
    for byte in single(data[:400]):
        socket.data_received(byte)
    socket.data_received(data[400:])
    assert handler.messages == wanted * 61
    assert transport.frames == [Frame(PONG, b"p")] * 61


async def test_while_a_message_is_waited_for_the_next_ones_wait_and_nothing_more_is_read() -> None:
    gate = Gate()
    handler = FakeHandler(gate)
    socket, transport = opened(handler)
    behind = frame(TEXT, b"wait 2") + frame(PING, b"p") + frame(TEXT, b"3") + frame(TEXT, b"4", fin=False)
    socket.data_received(frame(TEXT, b"wait 1") + behind)
    assert texts(handler) == [b"wait 1"]
    assert transport.is_reading_paused
    socket.data_received(frame(CONT, b"4") + frame(TEXT, b"5")[:4])  # was on its way already
    assert texts(handler) == [b"wait 1"]
    assert transport.frames == []
    await gate.open()
    assert texts(handler) == [b"wait 1", b"wait 2"]
    assert transport.is_reading_paused
    await gate.open()
    assert texts(handler) == [b"wait 1", b"wait 2", b"3", b"44"]
    assert transport.frames == [Frame(PONG, b"p")]
    assert not transport.is_reading_paused
    socket.data_received(frame(TEXT, b"5")[4:])
    assert texts(handler)[4:] == [b"5"]


async def test_a_rare_message_is_waited_for_too() -> None:
    gate = Gate()
    handler = FakeHandler(gate)
    socket, transport = opened(handler)
    socket.data_received(frame(TEXT, b"wai", fin=False) + frame(CONT, b"t") + frame(CONT, b"broken"))
    assert transport.frames == []
    assert transport.is_reading_paused
    await gate.open()
    assert transport.frames[-1].payload[:2] == (1002).to_bytes(2)
    assert texts(handler) == [b"wait"]


async def test_waiting_costs_nothing_where_nothing_comes_meanwhile() -> None:
    gate = Gate()
    handler = FakeHandler(gate)
    socket, transport = opened(handler)
    socket.data_received(frame(TEXT, b"wait"))
    assert not transport.is_reading_paused
    await gate.open()
    socket.data_received(frame(TEXT, b"next"))
    assert texts(handler) == [b"wait", b"next"]


async def test_an_error_of_the_session_closes_with_internal(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    handler = FakeHandler(lambda is_text, data: fail())
    socket, transport = opened(handler)
    with caplog.at_level(logging.ERROR, "heartwire"):
        socket.data_received(frame(TEXT, b"1") + frame(TEXT, b"2"))
        await until(lambda: socket.closed)
    assert texts(handler) == [b"1"]
    assert transport.frames[-1].payload == (3004).to_bytes(2) + b"internal server error"
    assert "a message could not be handled" in caplog.text


async def test_gone_while_a_message_is_waited_for() -> None:
    gate = Gate()
    handler = FakeHandler(gate)
    socket, transport = opened(handler)
    socket.data_received(frame(TEXT, b"wait") + frame(TEXT, b"2"))
    transport.lose()
    assert handler.losses == 1
    await gate.open()
    assert texts(handler) == [b"wait"]
    assert handler.losses == 1


async def test_messages_that_came_before_the_answer_are_read_when_the_session_is_open() -> None:
    """A client should wait for the answer (RFC 6455 4.1), but messages sent before it are neither lost nor read too
    early."""
    handler = FakeHandler()
    door = FakeDoor()
    socket, transport = made(door)
    socket.data_received(handshake("/ours"))
    socket.data_received(frame(TEXT, b"early"))
    assert transport.is_reading_paused
    accept(socket, handler)
    assert handler.messages == []  # `accept` comes before the handler is open
    await until(lambda: texts(handler) == [b"early"])
    assert not transport.is_reading_paused
    socket.data_received(frame(TEXT, b"later"))
    assert texts(handler) == [b"early", b"later"]


async def test_messages_that_came_before_a_refusal_are_not_read() -> None:
    """The admission of a client that sent early once ended in an assertion, and its connection was never
    closed."""
    door = FakeDoor()
    socket, transport = made(door)
    socket.data_received(handshake("/ours"))
    socket.data_received(frame(TEXT, b"early"))
    accept(socket, None)
    socket.close(3500, "who are you")
    assert transport.frames == [Frame(CLOSE, (3500).to_bytes(2) + b"who are you")]
    assert not transport.is_reading_paused
    await asyncio.sleep(0)
    assert not transport.is_reading_paused
    assert transport.has_eof


@pytest.mark.parametrize("waits", [True, False])
async def test_what_is_left_over_is_bounded(waits: bool) -> None:
    """At most what one read brings and one common frame: a larger one is read by `RareFrames`, under the
    limit."""
    handler = FakeHandler(Gate() if waits else lambda is_text, data: None)
    socket, transport = opened(handler)
    piece = frame(BINARY, b"wait" + b"x" * 65_000)
    held = 0
    for _ in range(50):
        if transport.is_reading_paused:
            break
        socket.data_received(piece + piece[:-1])
        socket.data_received(piece[-1:])
        held = max(held, len(socket._left_over))
    assert held <= 3 * len(piece)
    assert transport.is_reading_paused == waits


async def test_compressed_messages_are_read_where_they_were_agreed_on() -> None:
    handler = FakeHandler()
    socket, transport = opened(handler, compressed=True)
    [packed], _ = split_frames(deflated_frame(True, b"x" * 500))
    socket.data_received(
        frame(TEXT, packed.payload, rsv=4) + frame(TEXT, b"plain") + frame(TEXT, packed.payload, rsv=4)
    )
    assert texts(handler) == [b"x" * 500, b"plain", b"x" * 500]
    handler = FakeHandler()
    socket, transport = opened(handler)
    socket.data_received(frame(TEXT, packed.payload, rsv=4))
    assert handler.messages == []
    assert transport.frames[0].payload[:2] == (1002).to_bytes(2)


# -- what goes out -------------------------------------------------------------------------------------------


async def test_pause_and_resume() -> None:
    handler = FakeHandler()
    socket, transport = opened(handler)
    transport.is_stuck = True
    assert transport.high == websocket_uvicorn.WRITE_BUFFER_BYTES
    socket.write(b"x" * transport.high)
    assert not socket.paused
    socket.write(b"x")
    assert socket.paused
    socket.heard = False
    socket.ping()
    assert transport.held == transport.high + 1, "a full socket is not pinged"
    transport.drain()
    assert not socket.paused
    assert socket.heard, "what it took is a sign of life"
    before = transport.written
    socket.ping()
    assert transport.written == before + b"\x89\x00"


async def test_whatever_comes_is_a_sign_of_life() -> None:
    handler = FakeHandler()
    socket, _ = opened(handler)
    for data in (frame(PONG), frame(TEXT, b"x"), frame(PING), frame(TEXT, b"x")[:1]):
        socket.heard = False
        socket.data_received(data)
        assert socket.heard


async def test_full_socket_is_not_read_from_until_it_has_drained() -> None:
    """A peer that sent and never read once made the server hold 300 MB in 7 s."""
    handler = FakeHandler(lambda is_text, data: socket.write(b"x" * 100))
    socket, transport = opened(handler)
    transport.is_stuck = True
    socket.data_received(frame(TEXT, b"1") + frame(TEXT, b"2") + frame(PING, b"p"))
    assert texts(handler) == [b"1"]
    assert transport.is_reading_paused
    transport.is_stuck = False
    transport.drain()
    assert texts(handler) == [b"1", b"2"]
    assert transport.written.endswith(b"x" * 100 + b"\x8a\x01p")
    assert not transport.is_reading_paused


async def test_full_socket_that_shrinks_takes_and_one_that_does_not_does_not() -> None:
    socket, transport = opened(FakeHandler())
    assert not socket.takes
    transport.is_stuck = True
    socket.write(b"x" * 60_000)
    socket.ping()
    assert not socket.takes
    transport.held -= 1000
    assert socket.takes
    socket.ping()
    assert not socket.takes
    socket.write(b"owed" * 1000)
    transport.held -= 1
    assert socket.takes


async def test_what_a_socket_owes_has_a_bound() -> None:
    handler = FakeHandler()
    socket, transport = opened(handler)
    transport.is_stuck = True
    socket.write(b"x")
    socket.write(b"x")
    socket.write(b"x" * (MAX_OWED_BYTES - 2))
    assert not socket.closed
    waiting = asyncio.ensure_future(socket.drained())
    await asyncio.sleep(0)
    socket.write(b"x" * 3)
    assert transport.written.endswith(b"wait for this reader")
    assert (3008).to_bytes(2) in transport.written[-80:]
    assert handler.losses == 1
    await waiting


# -- turns ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "one", [frame(TEXT, b"abc"), frame(BINARY, b"x" * 200), frame(TEXT, "€".encode())], ids=len
)
async def test_many_messages_are_served_a_slice_a_turn(one: bytes) -> None:
    handler = FakeHandler()
    socket, transport = opened(handler)
    socket.data_received(one * (3 * SLICE + 1) + one[:5])
    for served in (1, 2, 3):
        assert len(handler.messages) == served * SLICE
        assert transport.is_reading_paused
        socket.heard = False
        await asyncio.sleep(0)
        assert socket.heard
    assert len(handler.messages) == 3 * SLICE + 1
    assert not transport.is_reading_paused
    socket.data_received(one[5:])
    assert len(handler.messages) == 3 * SLICE + 2


async def test_fragments_are_served_a_slice_a_turn() -> None:
    handler = FakeHandler()
    socket, transport = opened(handler)
    piece = b"b" * 200
    message = frame(TEXT, b"a", fin=False) + frame(CONT, piece, fin=False) * (2 * SLICE) + frame(CONT, b"c")
    socket.data_received(message)
    for _ in range(2):
        assert transport.is_reading_paused
        await asyncio.sleep(0)
    assert texts(handler) == [b"a" + piece * (2 * SLICE) + b"c"]
    assert not transport.is_reading_paused


@pytest.mark.parametrize(
    "start", [b"", frame(TEXT, b"a", fin=False)], ids=["control frames", "inside a message"]
)
async def test_small_frames_without_a_message_have_a_rate(
    start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket, transport = opened(FakeHandler())
    writes: list[bytes] = []
    rests: list[tuple[float, Callable[[], None]]] = []
    monkeypatch.setattr(transport, "write", writes.append)
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda *call: rests.append(call))
    socket.data_received(start + b"".join(frame(PING, b"%d" % number) for number in range(SLICE + 2)))
    await asyncio.sleep(0)
    assert (len(writes), transport.is_reading_paused) == (1, True)
    [(rest_s, go_on)] = rests
    assert SLICE / rest_s == pytest.approx(3200)
    go_on()
    await asyncio.sleep(0)
    assert (len(writes), transport.is_reading_paused) == (2, False)
    pongs, _ = split_frames(b"".join(writes))
    assert pongs == [Frame(PONG, b"%d" % number) for number in range(SLICE + 2)]


async def test_a_message_among_small_frames_spares_their_rest() -> None:
    handler = FakeHandler()
    socket, transport = opened(handler)
    socket.data_received(frame(TEXT, b"a") + frame(PING, b"") * SLICE)
    await asyncio.sleep(0)
    assert not transport.is_reading_paused


async def test_a_message_of_endless_fragments_ends_the_connection() -> None:
    handler = FakeHandler()
    socket, transport = opened(handler, limit=6400)
    socket.data_received(frame(TEXT, b"", fin=False) + frame(CONT, b"", fin=False) * 1124)
    await until(lambda: socket.closed)
    [end] = transport.frames
    assert end.payload == (1008).to_bytes(2) + b"a message of more than 1124 fragments"


async def test_one_read_is_small_and_the_next_comes_in_another_turn() -> None:
    handler = FakeHandler()
    socket, transport = opened(handler)
    buffer = socket.get_buffer(-1)
    assert len(buffer) == READ_BYTES
    message = frame(BINARY, b"x" * 20_000)
    buffer[:] = message[:READ_BYTES]
    socket.buffer_updated(READ_BYTES)
    assert transport.is_reading_paused
    await asyncio.sleep(0)
    assert not transport.is_reading_paused
    rest = message[READ_BYTES:]
    buffer[: len(rest)] = rest
    socket.buffer_updated(len(rest))
    assert not transport.is_reading_paused
    assert texts(handler) == [b"x" * 20_000]


# -- the end -------------------------------------------------------------------------------------------------


async def test_close_says_why_and_lets_the_peer_close_first() -> None:
    handler = FakeHandler()
    socket, transport = opened(handler)
    socket.close(3501, "no" * 200)
    assert transport.frames == [Frame(CLOSE, (3501).to_bytes(2) + (b"no" * 200)[:123])]
    assert handler.losses == 1
    assert transport.has_eof
    assert transport.closed_by is None
    socket.data_received(frame(TEXT, b"still on its way") + close_frame(3501))
    assert handler.messages == []
    transport.lose()
    assert handler.losses == 1


async def test_close_over_tls_ends_the_transport() -> None:
    socket, transport = opened(FakeHandler(), is_tls=True)
    socket.close(1012, "shutdown")
    assert transport.closed_by == "close"


async def test_close_twice_and_write_after_close_do_nothing() -> None:
    handler = FakeHandler()
    socket, transport = opened(handler)
    socket.close(3000, "first")
    socket.close(3001, "second")
    socket.give_up()
    socket.write(b"late")
    socket.data_received(frame(PING, b"late"))
    assert transport.frames == [Frame(CLOSE, (3000).to_bytes(2) + b"first")]
    assert handler.losses == 1


async def test_close_while_reading_is_paused_reads_on_so_that_the_peers_end_is_seen() -> None:
    """It once took `CLOSE_TIMEOUT_S` and a reset until such a connection was gone."""
    gate = Gate()
    socket, transport = opened(FakeHandler(gate))
    socket.data_received(frame(TEXT, b"wait") + frame(TEXT, b"2"))
    assert transport.is_reading_paused
    socket.close(1012, "shutdown")
    assert not transport.is_reading_paused
    await gate.open()
    assert not transport.is_reading_paused


async def test_close_of_a_connection_that_broke_never_raises() -> None:
    handler = FakeHandler()
    socket, transport = opened(handler)
    transport.closed_by = "error"
    socket.close(1012, "shutdown")
    assert handler.losses == 1
    transport.lose(OSError())
    assert handler.losses == 1
    socket, transport = opened(FakeHandler())
    transport.eof_error = OSError("not connected")
    socket.close(1012, "shutdown")
    assert transport.closed_by == "abort"
    socket, transport = opened(FakeHandler())
    transport.closed_by = "error"
    socket.give_up()
    assert socket.closed


async def test_a_session_may_close_in_the_middle_of_what_came() -> None:
    def refuse(is_text: bool, data: bytes) -> None:
        if data == b"bad":
            socket.close(3507, "not allowed")

    for rest in (frame(TEXT, b"3"), frame(TEXT, b"3", fin=False), frame(PING), b"\x81"):
        handler = FakeHandler(refuse)
        socket, transport = opened(handler)
        socket.data_received(frame(TEXT, b"1") + frame(TEXT, b"bad") + rest)
        assert texts(handler) == [b"1", b"bad"]
        assert [frame.opcode for frame in transport.frames] == [CLOSE]
        handler = FakeHandler(refuse)
        socket, transport = opened(handler)
        socket.data_received(frame(TEXT, b"ba", fin=False) + frame(CONT, b"d") + rest)
        assert texts(handler) == [b"bad"]
        assert [frame.opcode for frame in transport.frames] == [CLOSE]


async def test_give_up_sends_no_pong_and_ends_without_waiting() -> None:
    handler = FakeHandler()
    socket, transport = opened(handler)
    socket.give_up()
    assert transport.frames == [Frame(CLOSE, (3012).to_bytes(2) + b"no pong")]
    assert handler.losses == 1
    assert transport.closed_by == "close"
    await until(lambda: transport.closed_by == "abort", "a tenth of a second later")


@pytest.mark.parametrize("is_ours", [True, False])
async def test_a_peer_that_never_closes_is_cut_off(is_ours: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_uvicorn, "CLOSE_TIMEOUT_S", 0)
    socket, transport = opened(FakeHandler())
    if is_ours:
        socket.close(1012, "shutdown")
    else:
        socket.data_received(close_frame(1000))
    await until(lambda: transport.closed_by == "abort")


async def test_a_connection_that_is_gone_is_not_cut_off_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_uvicorn, "CLOSE_TIMEOUT_S", 0)
    socket, transport = opened(FakeHandler())
    socket.close(1012, "shutdown")
    transport.lose()
    for _ in range(5):
        await asyncio.sleep(0)
    assert transport.closed_by == "peer"


@pytest.mark.parametrize(
    "closing", [close_frame(), close_frame(1000, b"bye"), close_frame(1002), close_frame(4000, "€".encode())]
)
async def test_a_close_is_answered_and_the_server_ends_tcp(closing: bytes) -> None:
    for pieces in ([closing], single(closing), [closing + frame(TEXT, b"late")]):
        handler = FakeHandler()
        socket, transport = opened(handler)
        for piece in pieces:
            socket.data_received(piece)
        [answer] = transport.frames
        assert (answer.opcode, len(answer.payload)) == (CLOSE, closing[1] & 127)
        assert transport.closed_by == "close"
        assert handler.losses == 1
        assert handler.messages == []


# -- handshakes ----------------------------------------------------------------------------------------------


async def test_a_path_that_is_not_ours_is_left_to_uvicorn() -> None:
    door = FakeDoor()
    socket, transport = made(door)
    socket.data_received(handshake("/theirs"))
    assert door.entered == []
    await until(lambda: transport.protocol is not socket)
    await until(lambda: b" 403 " in transport.written, "uvicorn asks the application, and it refuses")
    transport.lose()


async def test_a_handshake_that_uvicorn_refuses_at_once_is_forgotten_when_it_is_gone() -> None:
    """uvicorn closes within our call, so that the end comes before its protocol is put in our place: once it
    never heard of it."""
    door = FakeDoor()
    socket, transport = made(door)
    assert socket._made_by is not None
    connections = socket._made_by[1].connections
    socket.data_received(handshake("/theirs").replace(b"Version: 13", b"Version: 8"))
    assert transport.closed_by == "close"
    assert len(connections) == 1
    transport.lose()
    assert len(connections) == 0
    await asyncio.sleep(0)


async def test_frames_in_the_packet_of_the_handshake_are_served() -> None:
    """They were dropped in silence."""
    handler = FakeHandler()
    door = FakeDoor()
    socket, transport = made(door)
    socket.data_received(handshake("/ours") + frame(TEXT, b"early"))
    accept(socket, handler, max_frame_bytes=100)
    await until(lambda: texts(handler) == [b"early"])
    assert not transport.is_reading_paused


async def test_more_than_a_read_behind_the_handshake_is_refused() -> None:
    socket, transport = made(FakeDoor())
    socket.data_received(handshake("/ours") + b"x" * (READ_BYTES + 1))
    assert transport.written.startswith(b"HTTP/1.1 400 ")
    assert b"16385 bytes came before the answer to the handshake" in transport.written


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b"Version: 13", b"Version: 12"), 426),
        ((b"Sec-WebSocket-Key", b"X-Key"), 400),
        ((b"GET ", b"POST "), 400),
    ],
)
async def test_a_bad_handshake_is_answered_over_http(change: tuple[bytes, bytes], status: int) -> None:
    door = FakeDoor()
    socket, transport = made(door)
    socket.data_received(handshake("/ours").replace(*change))
    assert door.entered == []
    assert transport.written.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close\r\n" in transport.written
    assert transport.closed_by == "close"
    socket.data_received(frame(TEXT, b"x"))


async def test_an_accept_carries_what_was_chosen() -> None:
    door = FakeDoor()
    socket, transport = made(door)
    socket.data_received(handshake("/ours"))
    [(entered, scope)] = door.entered
    assert entered is socket
    assert scope["path"] == "/ours"
    assert (b"sec-websocket-version", b"13") in scope["headers"]
    accept(socket, FakeHandler(), subprotocol="chat", extensions="permessage-deflate")
    lines = transport.written.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 101 Switching Protocols"
    assert b"Sec-WebSocket-Accept: HSmrc0sMlYUkAGmm5OPpG2HaGWk=" in lines
    assert b"Sec-WebSocket-Protocol: chat" in lines
    assert b"Sec-WebSocket-Extensions: permessage-deflate" in lines


async def test_incomplete_messages_of_all_connections_have_one_bound() -> None:
    door = FakeDoor()
    door.room.left = 100_000
    links = []
    for _ in range(3):
        socket, transport = made(door)
        socket.data_received(handshake("/ours"))
        accept(socket, FakeHandler(), max_frame_bytes=1 << 20)
        socket.data_received(frame(TEXT, b"x" * 70_000)[:40_000])
        links.append((socket, transport))
    assert [socket.closed for socket, _ in links] == [False, False, True]
    code, reason = links[2][1].frames[-1].payload[:2], links[2][1].frames[-1].payload[2:]
    assert (int.from_bytes(code), reason[:10]) == (1013, b"incomplete")
    links[0][0].data_received(frame(TEXT, b"x" * 70_000)[40_000:])
    assert door.room.left == 60_000
    links[1][1].lose()
    assert door.room.left == 100_000


async def test_fragments_are_counted_until_their_message_is_complete() -> None:
    handler = FakeHandler()
    socket, _ = opened(handler, limit=100_000)
    room = socket.door.incomplete
    assert isinstance(room, Room)
    before = room.left
    socket.data_received(frame(TEXT, b"x" * 1000, fin=False))
    assert before - room.left == 1000
    socket.data_received(frame(CONT, b"y"))
    assert room.left == before
    assert texts(handler) == [b"x" * 1000 + b"y"]
