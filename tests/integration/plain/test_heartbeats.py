"""A peer that went silent is closed and gone from presence within `ping_interval_s + pong_timeout_s`; one
that answers stays."""

import itertools
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from heartwire.testing.network import black_hole
from heartwire.testing.server import ServerProcess, run_server
from tests.integration.wire import Raw, Stream, frame, get, handshake, present, publish, until, ws

PING_S, PONG_S = 2.0, 1.0
BOUND_S = PING_S + PONG_S
SLACK_S = 0.8
"""For a machine with other things to do; the bound itself is rounded towards too early."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="half-open links are made with a Linux socket filter"),
]


@pytest.fixture(scope="module")
def brisk() -> Iterator[ServerProcess]:
    """A server that asks often."""
    with run_server("--ping-interval-s", str(PING_S), "--pong-timeout-s", str(PONG_S)) as server:
        yield server


def open_files(server: ServerProcess) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))


def open_websocket(server: ServerProcess, channel: str) -> socket.socket:
    raw = Raw(server.url)
    raw.send(handshake(server.url, f"/channels/{channel}"))
    assert raw.answer().status == 101
    return raw.sock


def open_stream(server: ServerProcess, channel: str) -> socket.socket:
    raw = Raw(server.url)
    raw.send(f"GET /channels/{channel} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
    raw.until(b"id: ")
    return raw.sock


OPEN = {"websocket": open_websocket, "sse": open_stream}


def test_half_open_peers_are_noticed(brisk: ServerProcess) -> None:
    """Idle ones, and ones that are being written to: nothing comes back from them, not even a FIN."""
    with ExitStack() as stack:
        files = open_files(brisk)
        gone: dict[str, float] = {}
        peers = {f"{kind}-{traffic}": kind for kind in OPEN for traffic in ("idle", "busy")}
        for channel, kind in peers.items():
            stack.enter_context(OPEN[kind](brisk, channel))
        witness = stack.enter_context(ws(brisk.url, "/channels/websocket-busy"))
        socks = {}
        for channel, kind in peers.items():
            socks[channel] = stack.enter_context(OPEN[kind](brisk, channel))
        before = {channel: len(present(brisk.url, channel)) for channel in peers}
        began = time.monotonic()
        for sock in socks.values():
            black_hole(sock)

        def look() -> bool:
            for channel in peers:
                if channel.endswith("busy"):
                    publish(brisk.url, channel, "news")
                if channel == "websocket-busy":
                    assert witness.recv() == "news"
                if channel not in gone and len(present(brisk.url, channel)) < before[channel]:
                    gone[channel] = time.monotonic() - began
            return len(gone) == len(peers)

        until(look, within_s=BOUND_S + SLACK_S)
        assert max(gone.values()) < BOUND_S + SLACK_S, gone
        assert min(gone.values()) > PONG_S / 2, gone
        # The first four never answered a ping either (nobody reads them), and nothing waits on a dead socket.
        until(lambda: open_files(brisk) <= files + 1 + 2, within_s=BOUND_S + SLACK_S)
    assert "Traceback" not in brisk.log


def test_peers_that_answer_stay(brisk: ServerProcess, channel: str) -> None:
    with ExitStack() as stack:
        stack.enter_context(ws(brisk.url, f"/channels/{channel}"))  # answers pings by itself
        stream = stack.enter_context(Stream(brisk.url, f"/channels/{channel}?heartbeat=event"))
        stream.joined()
        chatty = stack.enter_context(
            Raw(brisk.url)
        )  # answers no ping, but says something: any traffic counts
        chatty.send(handshake(brisk.url, f"/channels/{channel}?heartbeat=hey"))
        assert chatty.answer().status == 101
        began = time.monotonic()
        beats = 0
        while time.monotonic() - began < BOUND_S * 1.5:
            assert chatty.frame() == (9, b"")
            beats += 1
            chatty.send(frame(1, b"hey"))
            assert chatty.frame() == (1, b"hey")
        assert beats >= 2
        assert len(present(brisk.url, channel)) == 3
        beat = stream.events(1)[0]
        assert (beat.event, beat.data) == ("heartbeat", f'{{"position":"{beat.id}"}}')


def test_sse_comments_come_in_time(channel: str) -> None:
    with (
        run_server("--pong-timeout-s", "0.1", environment={"HEARTWIRE_SSE_HEARTBEAT_S": "0.3"}) as server,
        Raw(server.url) as raw,
    ):
        raw.send(f"GET /channels/{channel} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        raw.until(b"id: ")
        raw.until(b"\n\n")
        times = []
        for _ in range(4):
            raw.until(b":\n\n")
            times.append(time.monotonic())
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert all(gap < 0.6 for gap in gaps), gaps


@pytest.mark.parametrize("kind", list(OPEN))
def test_a_peer_that_takes_nothing_is_closed(brisk: ServerProcess, channel: str, kind: str) -> None:
    """Its kernel acknowledges, its socket is full, and it reads no byte: it is let go, and others never
    waited for it."""
    files = open_files(brisk)
    with OPEN[kind](brisk, channel), ws(brisk.url, f"/channels/{channel}") as witness:
        chunk = "x" * 500_000
        began = time.monotonic()
        for _ in range(20):
            publish(brisk.url, channel, chunk)
            assert witness.recv() == chunk
        assert time.monotonic() - began < 2
        assert len(present(brisk.url, channel)) == 2
        until(lambda: len(present(brisk.url, channel)) == 1, within_s=2 * BOUND_S)
        until(lambda: open_files(brisk) <= files + 1, within_s=SLACK_S)


def test_poll_leases(brisk: ServerProcess, channel: str) -> None:
    """A named polling client is present between its polls, and gone once the next one is overdue."""
    path = f"/channels/{channel}?client=phone"
    get(brisk.url, path)
    polled = time.monotonic()
    assert len(present(brisk.url, channel)) == 1
    until(lambda: time.monotonic() - polled > BOUND_S / 2)
    get(brisk.url, path)
    polled = time.monotonic()
    until(lambda: not present(brisk.url, channel), within_s=BOUND_S + SLACK_S)
    assert time.monotonic() - polled > BOUND_S - 0.5


def test_half_open_long_poll_is_gone_once_the_next_is_overdue(brisk: ServerProcess, channel: str) -> None:
    with Raw(brisk.url) as raw:
        raw.send(f"GET /channels/{channel}?wait=1&client=phone HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: present(brisk.url, channel))
        black_hole(raw.sock)
        until(lambda: not present(brisk.url, channel), within_s=1 + BOUND_S + SLACK_S)


def test_streams_rotate(channel: str) -> None:
    """A stream ends by itself, in good order, after half to all of `stream_max_s`; its last id goes on."""
    with run_server(environment={"HEARTWIRE_STREAM_MAX_S": "1"}) as server:
        publish(server.url, channel, "one")
        began = time.monotonic()
        with Stream(server.url, f"/channels/{channel}?since=earliest") as stream:
            assert [event.data for event in stream] == [None, "one"]
        assert 0.5 <= time.monotonic() - began < 1 + SLACK_S
        publish(server.url, channel, "two")
        with Stream(server.url, f"/channels/{channel}", {"Last-Event-ID": stream.id}) as stream:
            assert [event.data for event in stream] == [None, "two"]
