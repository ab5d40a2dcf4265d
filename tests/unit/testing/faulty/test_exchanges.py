"""The HTTP in a faulty network's connections, without a socket: bytes in, bytes out, however they are
split."""

import dataclasses
from collections.abc import Iterator

import pytest

from heartwire.testing.faulty.exchanges import Exchanges, answer
from heartwire.testing.faulty.faults import WELL, ConnectionRecord, Direction, Faults

GET = b"GET /news HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /news HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab\r\n\r\ncde"
CHUNKED = (
    b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n\r\n\r\n\r\n0\r\nTrailer:"
    b" x\r\n\r\n"
)
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nconnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key:"
    b" k\r\n\r\n"
)
STRIPPED = b"GET /ws HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: k\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK, LAST_CHUNK = b"2\r\nhi\r\n", b"0\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
FRAME = b"\x81\x02hi"


class FakeWay:
    """A connection that notes what is sent each way."""

    def __init__(self, faults: Faults = WELL) -> None:
        self.all_faults = faults
        self.record = ConnectionRecord(1, 0.0)
        self.up = self.down = b""
        self.closed = ""

    @property
    def faults(self) -> Faults:
        return self.all_faults if self.all_faults.meet(self.record.path) else WELL

    @property
    def judge_heads(self) -> bool:
        return self.all_faults.judge_heads

    def send(self, direction: Direction, data: bytes) -> None:
        setattr(self, direction, getattr(self, direction) + data)

    def close(self, *, reset: bool) -> None:
        self.closed = "reset" if reset else "closed"


def ways_to_split(data: bytes) -> Iterator[list[bytes]]:
    yield [data]
    yield [data[at : at + 1] for at in range(len(data))]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]


def after(faults: Faults, up: list[bytes]) -> FakeWay:
    way = FakeWay(faults)
    exchanges = Exchanges(way)
    for piece in up:
        exchanges.from_client(piece)
    return way


@pytest.mark.parametrize("request_", [GET, POST, CHUNKED, UPGRADE], ids=["get", "post", "chunked", "upgrade"])
@pytest.mark.parametrize(
    "faults", [WELL, Faults(paths=("/none",), answering_502=True)], ids=["well", "other-path"]
)
def test_what_meets_no_fault_passes_as_it_is(request_: bytes, faults: Faults) -> None:
    for pieces in ways_to_split(request_ + GET):
        way = after(faults, pieces)
        assert (way.up, way.down) == (request_ + GET, b"")
        assert way.record.request_line == request_.partition(b"\r\n")[0].decode()
        assert way.record.path == "/news"


@pytest.mark.parametrize("request_", [GET, POST, CHUNKED, UPGRADE], ids=["get", "post", "chunked", "upgrade"])
def test_each_request_is_answered_502_and_its_body_swallowed(request_: bytes) -> None:
    for pieces in ways_to_split(request_ + GET):
        way = after(Faults(answering_502=True), pieces)
        assert (way.up, way.down) == (b"", answer(502) * 2)


def test_only_some_paths_are_answered_502() -> None:
    for pieces in ways_to_split(GET + UPGRADE + POST):
        way = after(Faults(answering_502=True, paths=("/ws",)), pieces)
        assert (way.up, way.down) == (GET + POST, answer(502))


def test_upgrade_is_stripped() -> None:
    for pieces in ways_to_split(UPGRADE + POST):
        way = after(Faults(stripping_upgrade=True), pieces)
        assert way.up == STRIPPED + POST


def test_a_head_that_has_begun_to_pass_is_not_judged() -> None:
    way = FakeWay()
    exchanges = Exchanges(way)
    exchanges.from_client(UPGRADE[:30])
    way.all_faults = Faults(answering_502=True, stripping_upgrade=True)
    exchanges.from_client(UPGRADE[30:])
    assert (way.up, way.down) == (UPGRADE, b"")


def test_a_request_is_reset_where_its_path_is_refused() -> None:
    assert after(Faults(refusing=True, paths=("/ws",)), [GET]).closed == ""
    assert after(Faults(refusing=True, paths=("/ws",)), [UPGRADE]).closed == "reset"


@pytest.mark.parametrize(
    "hello", [b"\x16\x03\x01\x02\x00\x01", b"SSH-2.0-x\r\n", b"\x00" * 70_000, b"GET /" + b"x" * 70_000]
)
def test_data_that_is_not_http_passes(hello: bytes) -> None:
    way = FakeWay(Faults(answering_502=True, buffer_bytes=1000))
    exchanges = Exchanges(way)
    exchanges.from_client(hello)
    exchanges.from_server(hello)
    exchanges.from_client(GET)
    assert (way.up, way.down) == (hello + GET, hello)
    assert way.record.request_line == ""


def test_a_head_without_an_end_passes_when_its_client_has_ended() -> None:
    way = FakeWay(Faults(answering_502=True))
    exchanges = Exchanges(way)
    exchanges.from_client(GET[:-1])
    assert way.up == b""
    exchanges.release_head()
    assert way.up == GET[:-1]


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (GET, OK),
        (GET, STREAM + CHUNK + LAST_CHUNK),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", OK[:-2]),
        (GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 20\r\n\r\n"),
        (POST, b"HTTP/1.1 100 Continue\r\n\r\n" + OK),
    ],
    ids=["length", "chunked", "head", "304", "100"],
)
def test_responses_are_held_back_until_they_end(request_: bytes, response: bytes) -> None:
    for pieces in ways_to_split(response):
        way = FakeWay(Faults(buffer_bytes=1000))
        exchanges = Exchanges(way)
        exchanges.from_client(request_)
        assert exchanges.open
        assert exchanges.unanswered
        for piece in pieces[:-1]:
            exchanges.from_server(piece)
        assert way.down in (b"", b"HTTP/1.1 100 Continue\r\n\r\n")
        exchanges.from_server(pieces[-1])
        assert way.down == response
        assert not exchanges.open
        exchanges.from_client(GET)
        exchanges.from_server(OK)
        assert way.down == response + OK


def test_a_stream_is_held_back_until_enough_is_together() -> None:
    way = FakeWay(Faults(buffer_bytes=len(STREAM) + 2 * len(CHUNK)))
    exchanges = Exchanges(way)
    exchanges.from_client(GET)
    for piece in (STREAM, CHUNK):
        exchanges.from_server(piece)
        assert way.down == b""
    assert not exchanges.unanswered
    exchanges.from_server(CHUNK)
    assert way.down == STREAM + CHUNK + CHUNK
    exchanges.from_server(CHUNK)
    exchanges.heal()
    assert way.down == STREAM + CHUNK * 3
    exchanges.from_server(CHUNK)
    assert way.down == STREAM + CHUNK * 4


def test_a_response_that_has_begun_is_let_through() -> None:
    way = FakeWay()
    exchanges = Exchanges(way)
    exchanges.from_client(GET)
    exchanges.from_server(STREAM)
    way.all_faults = Faults(buffer_bytes=1000)
    exchanges.from_server(CHUNK + LAST_CHUNK)
    assert way.down == STREAM + CHUNK + LAST_CHUNK
    exchanges.from_server(STREAM)
    assert not way.down.endswith(STREAM)


def test_websockets_pass_a_proxy_that_buffers() -> None:
    for pieces in ways_to_split(SWITCHED + FRAME):
        way = FakeWay(Faults(buffer_bytes=1000))
        exchanges = Exchanges(way)
        exchanges.from_client(UPGRADE)
        for piece in pieces:
            exchanges.from_server(piece)
        exchanges.from_client(FRAME + GET)
        assert (way.up, way.down) == (UPGRADE + FRAME + GET, SWITCHED + FRAME)
        assert exchanges.open
        assert not exchanges.unanswered


def test_faults_are_values() -> None:
    assert dataclasses.replace(WELL, refusing=True) != WELL
    assert WELL.meet(None)
    assert not Faults(paths=("/a",)).meet(None)
