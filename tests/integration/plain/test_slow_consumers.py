"""Subscribers that stop reading cost next to nothing, and get everything that is kept when they read
again."""

import contextlib
import http.client
import json
import re
import resource
import select
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from heartwire.testing.server import ServerProcess, run_server
from tests.integration.wire import Event, Stream, ask, handshake, publish, ws

pytestmark = pytest.mark.slow

HEADER_BYTES = 80
"""Enough of a frame to know its length and its message's position."""

POSITION = re.compile(rb'\{"position":"[\w-]+\.(\d+)",("data"|"recovered":(true|false))')


class Sleeper:
    """A WebSocket that does not read, and later reads and checks what it gets."""

    def __init__(self, number: int, url: str, path: str) -> None:
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.bind((f"127.0.0.{1 + number % 4}", 0))
        self.sock.connect((urlsplit(url).hostname, urlsplit(url).port))
        self.sock.sendall(handshake(url, path).encode())
        self.offset = 0
        self.messages = 0
        self._head = b""
        self._skip = 0

    def joined(self) -> None:
        """Read up to the frame that tells where it starts, which is at offset 0."""
        head = b""
        while b'"recovered":true}' not in head:
            head += self.sock.recv(4096)
        assert head.startswith(b"HTTP/1.1 101")

    def wake(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 * 1024)
        self.sock.setblocking(False)

    def feed(self, data: bytes) -> None:
        """Check what came: each frame's position follows the last one's, or a gap was told."""
        at = 0
        while at < len(data):
            if self._skip:
                skipped = min(self._skip, len(data) - at)
                self._skip -= skipped
                at += skipped
                continue
            had = len(self._head)
            head = self._head + data[at : at + HEADER_BYTES - had]
            length = self._frame_bytes(head)
            if length is None or len(head) < min(length, HEADER_BYTES):
                self._head = head
                return
            known = min(length, len(head))
            at += known - had
            self._head = b""
            self._skip = length - known
            self._take(head)

    @staticmethod
    def _frame_bytes(head: bytes) -> int | None:
        if len(head) < 10:
            return None
        assert head[0] == 0x81, head
        size = head[1]
        if size < 126:
            return 2 + size
        return 4 + int.from_bytes(head[2:4]) if size == 126 else 10 + int.from_bytes(head[2:10])

    def _take(self, head: bytes) -> None:
        match = POSITION.search(head, 0, 70)
        assert match is not None, head
        offset = int(match[1])
        if match[3] == b"false":
            assert offset > self.offset
        else:
            assert offset == self.offset + 1, f"{offset} after {self.offset}"
            self.messages += 1
        self.offset = offset


@contextlib.contextmanager
def patient(history_size: int, folder: Path) -> Iterator[ServerProcess]:
    """A server that does not give up on those who take nothing, and lets all of them in at once."""
    Path(folder, "heartwire.toml").write_text(
        "connects_per_s = 0\nping_interval_s = 600\npong_timeout_s = 300\n"
        f'[namespaces.""]\nhistory_size = {history_size}\npresence = false\n'
    )
    with run_server("--config", "heartwire.toml", engine="sqlite:///slow.db", folder=folder) as server:
        yield server


def sleepers(server: ServerProcess, count: int) -> list[Sleeper]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count + 500:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 500), hard))
    asleep = [Sleeper(number, server.url, "/channels/a?format=json") for number in range(count)]
    for sleeper in asleep:
        sleeper.joined()
    return asleep


def pour(server: ServerProcess, size: int, count: int) -> int:
    """Publish; the most memory the server had meanwhile."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    most = 0
    for number in range(count):
        assert (
            ask(connection, "POST", "/channels/a", b"x" * size, {"Content-Type": "text/plain"}).status == 200
        )
        if number % 50 == 0:
            most = max(most, server.rss_bytes)
    connection.close()
    return max(most, server.rss_bytes)


def drain(server: ServerProcess, asleep: Sequence[Sleeper], head: int) -> int:
    """Let all read to the end; the most memory the server had meanwhile."""
    poll = select.epoll()
    waiting = {sleeper.sock.fileno(): sleeper for sleeper in asleep}
    for sleeper in asleep:
        sleeper.wake()
        poll.register(sleeper.sock, select.EPOLLIN)
    most = 0
    while waiting:
        ready = poll.poll(10)
        assert ready, (
            f"{len(waiting)} wait for nothing, one at {next(iter(waiting.values())).offset} of {head}"
        )
        for number, _ in ready:
            sleeper = waiting[number]
            data = sleeper.sock.recv(65536)
            assert data, "closed"
            sleeper.feed(data)
            if sleeper.offset == head:
                poll.unregister(number)
                del waiting[number]
        most = max(most, server.rss_bytes)
    poll.close()
    return most


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("count", "size", "total", "kept"),
    [(5000, 20_000, 5000, 10), (1000, 200, 1500, 300)],
    ids=["5000 subscribers, 100 MB", "1000 subscribers, small messages"],
)
def test_subscribers_that_stop_reading_hold_no_memory(
    count: int, size: int, total: int, kept: int, tmp_path: Path
) -> None:
    """5,000 of them while 100 MB are published: within 64 MB of before; in proportion for the smaller
    crowd."""
    with patient(kept, tmp_path) as server:
        if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < count + 500:
            pytest.skip(f"needs {count + 500} open files (ulimit -n)")
        asleep = sleepers(server, count)
        before = server.rss_bytes
        most = pour(server, size, total)
        most = max(most, drain(server, asleep, total))
        grown_mb = (most - before) / 1e6
        assert grown_mb < 64 * count / 5000, f"{grown_mb:.1f} MB"
        # What was kept is the last `kept`; what the sockets had taken before came first; in between a gap was
        # told.
        assert all(sleeper.offset == total and sleeper.messages >= kept for sleeper in asleep)
        for sleeper in asleep:
            sleeper.sock.close()


def test_a_stuck_reader_gets_what_it_missed(tmp_path: Path) -> None:
    """Over each kind of stream: first what was on its way, then word of the gap, then everything that is
    kept."""
    with (
        patient(5, tmp_path) as server,
        Stream(server.url, "/channels/a?format=json") as stream,
        ws(server.url, "/channels/a?format=json", max_queue=1) as socket,
        ws(server.url, "/channels/a", max_queue=1) as raw,
    ):
        stream.joined()
        epoch = json.loads(socket.recv())["position"].split(".")[0]
        for _ in range(120):
            publish(server.url, "a", "x" * 100_000)
        in_stream = [json.loads(event.data or "") for event in _up_to(stream, f"{epoch}.120")]
        in_socket: list[Any] = []
        while not in_socket or in_socket[-1]["position"] != f"{epoch}.120":
            in_socket.append(json.loads(socket.recv(10)))
        for told in (in_stream, in_socket):
            gaps = [number for number, item in enumerate(told) if item.get("recovered") is False]
            assert gaps, "120 messages of 100 kB cannot have been on their way"
            before = 0
            for item in told:
                offset = int(item["position"].split(".")[1])
                assert offset > before if "recovered" in item else offset == before + 1
                before = offset
            assert [item["position"] for item in told[-5:]] == [
                f"{epoch}.{number}" for number in range(116, 121)
            ]
        got = 0
        for _ in raw_messages(raw):
            got += 1
        assert raw.close_code == 3010
        match = re.fullmatch(rf"insufficient state: position is now {epoch}\.(\d+)", raw.close_reason or "")
        assert match is not None
        assert got < int(match[1]) <= 115


def raw_messages(socket: ClientConnection) -> Iterator[object]:
    """What comes until the close."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            yield socket.recv(10)


def _up_to(stream: Stream, id: str) -> Iterator[Event]:
    for event in stream:
        if event.data is not None:
            yield event
        if event.id == id:
            return
