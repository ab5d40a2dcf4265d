"""Test the load generator: ``python -m bench.selftest`` runs it against servers with one fault.

A benchmark that counts wrongly flatters servers that lose messages, so the counts
must show every kind of fault, in each protocol that the load generator reads by itself.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

from bench.build import build
from bench.faulty import FaultyServer, FaultySocketIo
from bench.places import LOAD
from bench.wires import SOCKETIO

MESSAGES: Final = 60
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


class Protocol(NamedTuple):
    """What a faulty server speaks.

    Attributes:
        words: the load generator's workload and options.
        cuts: whether a payload may be cut there.
    """

    server: type[FaultyServer]
    words: Sequence[str]
    cuts: bool = True


PROTOCOLS: Final = {
    "WebSocket": Protocol(FaultyServer, ("fanout", "--sub-path", "/sub", "--pub-path", "/pub")),
    "Socket.IO": Protocol(FaultySocketIo, ("fanout", *SOCKETIO["fanout"])),
    "Socket.IO, polls": Protocol(FaultySocketIo, ("longpoll", *SOCKETIO["longpoll"]), cuts=False),
}


async def run_case(protocol: Protocol, fault: str) -> dict[str, object]:
    """Run the load generator against one fault; return its result."""
    faulty = protocol.server(fault)
    server = await asyncio.start_server(faulty.accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    words = [*protocol.words, "--port", port, "--connections", SUBSCRIBERS, "--messages", MESSAGES]
    words += ["--warm", 0, "--seconds", 1, "--grace", 1, "--settle", 0]
    command = [str(word) for word in (LOAD, *words)]
    load = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(load.communicate(), 30)
    server.close()
    await faulty.end()
    result: dict[str, object] = json.loads(output)
    return result


def judge(fault: str, result: dict[str, object]) -> str:
    """Return the error in the load generator's counts, or an empty string."""
    counts = {name: result[name] for name in ("lost", "duplicated", "reordered", "corrupt")}
    expected = {name: int(name == CASES[fault]) for name in counts}
    if counts != expected:
        return f"counted {counts} {result['failure']}"
    return "" if result["complete"] == (not CASES[fault]) else f"complete is {result['complete']}"


async def main() -> int:
    """Run all cases; return 1 when one came out wrong."""
    verdicts = []
    for name, protocol in PROTOCOLS.items():
        for fault in CASES:
            if fault != "cut" or protocol.cuts:
                verdicts.append(judge(fault, await run_case(protocol, fault)))
                print(f"{name}, {fault}: {verdicts[-1] or 'ok'}")
    failed = sum(map(bool, verdicts))
    print(f"{len(verdicts) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    build()
    sys.exit(asyncio.run(main()))
