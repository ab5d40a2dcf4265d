"""Test the load generator: ``python -m bench.selftest`` runs it against a server with one fault.

A benchmark that counts wrongly flatters servers that lose messages, so the counts
must show every kind of fault.
"""

import asyncio
import base64
import hashlib
import json
import sys
from dataclasses import dataclass, field
from typing import Final

from bench.build import build
from bench.places import LOAD

GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MESSAGES: Final = 60
BAD: Final = 20  # the sequence number at which a fault happens, to one subscriber only
SUBSCRIBERS: Final = 3

# Fault, and the counter of the load generator that must be 1 (all others 0); none: the run must be complete.
CASES: Final = {
    "none": "",
    "cut": "",  # no fault, but payloads are cut and joined without regard to frames
    "drop": "lost",
    "double": "duplicated",
    "swap": "reordered",
    "spoil": "corrupt",
}


def frame(data: bytes) -> bytes:
    """Return one unmasked text frame (RFC 6455 5.2) of at most 65,535 bytes."""
    length = bytes([len(data)]) if len(data) < 126 else b"\x7e" + len(data).to_bytes(2, "big")
    return b"\x81" + length + data


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """Return the payload of one short masked frame."""
    _, length = await reader.readexactly(2)
    mask = await reader.readexactly(4)
    data = await reader.readexactly(length & 127)
    return bytes(byte ^ mask[i & 3] for i, byte in enumerate(data))


@dataclass
class FaultyServer:
    """A broadcast server with one fault."""

    fault: str
    subscribers: list[asyncio.StreamWriter] = field(default_factory=list)
    held: bytes = b""

    def wrong(self, data: bytes) -> bytes:
        """Return the bytes that the first subscriber gets instead of this message."""
        seq, right = int(data[4:12], 16), frame(data)
        if self.fault == "cut":
            return frame(b"noise HW HWm " + data[:9]) + frame(data[9:] + b"HWmHW")
        if self.fault == "swap" and seq == BAD + 1:
            return right + self.held
        if seq != BAD:
            return right
        self.held = right
        spoilt = frame(data[:-1] + b"!")
        return {"drop": b"", "double": right * 2, "swap": b"", "spoil": spoilt}.get(self.fault, right)

    async def publish(self, reader: asyncio.StreamReader) -> None:
        """Send every message to all subscribers."""
        while True:
            data = await read_frame(reader)
            for number, subscriber in enumerate(self.subscribers):
                subscriber.write(frame(data) if number else self.wrong(data))

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        if head.startswith(b"GET /sub"):
            self.subscribers.append(writer)
            return
        try:
            await self.publish(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


async def run_case(fault: str) -> dict[str, object]:
    """Run the load generator against one fault; return its result."""
    server = await asyncio.start_server(FaultyServer(fault).handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    words = ["fanout", "--port", port, "--sub-path", "/sub", "--pub-path", "/pub"]
    words += ["--connections", SUBSCRIBERS, "--messages", MESSAGES, "--warm", 0, "--seconds", 1, "--grace", 1]
    command = [str(word) for word in (LOAD, *words)]
    load = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(load.communicate(), 30)
    server.close()
    result: dict[str, object] = json.loads(output)
    return result


def judge(fault: str, result: dict[str, object]) -> str:
    """Return the error in the load generator's counts, or an empty string."""
    counts = {name: result[name] for name in ("lost", "duplicated", "reordered", "corrupt")}
    expected = {name: int(name == CASES[fault]) for name in counts}
    if counts != expected:
        return f"counted {counts}"
    return "" if result["complete"] == (not CASES[fault]) else f"complete is {result['complete']}"


async def main() -> int:
    """Run all cases; return 1 when one came out wrong."""
    failed = 0
    for fault in CASES:
        wrong = judge(fault, await run_case(fault))
        failed += bool(wrong)
        print(f"{fault}: {wrong or 'ok'}")
    print(f"{len(CASES) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    build()
    sys.exit(asyncio.run(main()))
