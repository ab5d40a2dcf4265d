"""The fuzzers of `make fuzz`: a seed is a run, the judge sees what is wrong, a short run finds nothing."""

import asyncio
import random
import sys
from collections.abc import Callable

import pytest

from tools.fuzz.answers import answers, close_codes, faults
from tools.fuzz.corpus import commands, handshake, to_protobuf
from tools.fuzz.mutation import client_frame, pieces
from tools.fuzz.run import Total, fuzz, watched
from tools.fuzz.scripts import FUZZERS, batch
from tools.fuzz.target import TARGETS

SENT = b"GET /channels/a HTTP/1.1\r\nHost: localhost\r\n\r\n"
ERROR = b'{"error":{"code":"bad_wait","message":"wait=x","retry":false}}'
SHAKEN = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: HSmrc0sMlYUkAGmm5OPpG2HaGWk=\r\n\r\n"
SOCKET = handshake("/connection/websocket")


def answer(status: int, body: bytes, kind: bytes = b"application/json") -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (
        status,
        kind,
        len(body),
        body,
    )


# -- what is sent --------------------------------------------------------------------------------------------


def test_a_seed_decides_a_batch() -> None:
    assert batch(7) == batch(7)
    assert batch(7) != batch(8)


def test_every_fuzzer_has_its_turn() -> None:
    names = {script.name for seed in range(40) for script in batch(seed)}
    assert len(names) >= len(FUZZERS)


def test_pieces_are_all_of_it() -> None:

    data = bytes(range(256))
    assert all(b"".join(pieces(random.Random(seed), data)) == data for seed in range(100))


def test_commands_have_a_protobuf_form() -> None:
    assert len(commands()) > 50  # with those of the vectors
    assert all(to_protobuf(1, command) for command in commands())


# -- the judge -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "got",
    [
        b"",
        answer(200, b"{}"),
        answer(400, ERROR) * 2,
        b"HTTP/1.1 204 X\r\n\r\n" + answer(400, ERROR),
        b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n" + answer(400, ERROR),
        answer(200, b'{"data":%b}' % (b"9" * 5000)),
        SHAKEN + b"\x81\x02{}\x88\x02\x03\xe8",
        SHAKEN + b"\x88\x02\x03\xe8\x8a\x00",
    ],
)
def test_what_is_right(got: bytes) -> None:
    assert faults(SENT, got, "server") == []


@pytest.mark.parametrize(
    ("got", "problem"),
    [
        (answer(500, b'{"error":{"code":"internal","message":"x","retry":true}}'), "status 500"),
        (answer(418, ERROR), "status 418"),
        (answer(404, b"Not Found", b"text/plain"), "an error that is not ours"),
        (answer(404, ERROR), "an error that the table does not know"),
        (answer(400, ERROR.replace(b"bad_wait", b"bad_weather")), "an error that is not ours"),
        (answer(200, b'{"x":NaN}'), "NaN is not JSON"),
        (answer(200, b'{"error":{"code":100,"message":"internal"}}'), "an error of the API"),
        (answer(200, b"{}")[:-1], "an answer that is cut"),
        (answer(200, b"{}") + b"x", "half of an answer's head"),
        (b"HTTP/1.1 OK\r\n\r\n", "a status line"),
        (b"HTTP/1.1 200 OK\r\nx y: z\r\n\r\n", "a header line"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx", "a header twice"),
        (b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi!0\r\n", "a chunk's end"),
        (SHAKEN + b"\x81\x82xxxx{}", "must not mask"),
        (SHAKEN + b"\x83\x00", "a frame that begins with 0x83"),
        (SHAKEN + b"\x88\x02\x03\xf3", "close code 1011"),
        (SHAKEN + b"\x88\x05\x0b\xbcbug", "closed with 3004"),
        (SHAKEN + b"\x88\x02\x03\xe8\x81\x01x", "after the close"),
        (SHAKEN + b"\x81\x01\xff", "can't decode"),
        (SHAKEN + b"\xc1\x01x", "which was not agreed on"),
    ],
)
def test_what_is_wrong_is_seen(got: bytes, problem: str) -> None:
    assert problem in "; ".join(faults(SENT, got, "server"))


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (b'{"id":1,"error":{"code":100,"message":"internal server error"}}', "an error reply"),
        (b'{"id":1,"error":{"code":99,"message":"?"}}', "an error reply"),
        (b'{"push":{"disconnect":{"code":4567,"reason":""}}}', "a disconnect"),
        (b"[]", "a reply"),
    ],
)
def test_what_is_wrong_in_a_reply_is_seen(payload: bytes, problem: str) -> None:
    got = SHAKEN + bytes((0x81, len(payload))) + payload
    assert problem in "; ".join(faults(SOCKET, got, "server"))


def test_an_answer_to_head_has_no_body() -> None:
    got = b"HTTP/1.1 200 X\r\ncontent-length: 5\r\n\r\n" + answer(400, ERROR)
    assert faults(SENT.replace(b"GET", b"HEAD"), got, "server") == []
    assert [one.status for one, _ in answers(b"HEAD /", got)] == [200, 400]


def test_codes_of_the_client_may_come_back() -> None:

    sent = SOCKET + client_frame(random.Random(1), 1, b"{}") + client_frame(random.Random(2), 8, b"\x0f\xff")
    assert close_codes(sent) == {4095}
    assert faults(sent, SHAKEN + b"\x88\x02\x0f\xff", "server") == []


# -- runs ----------------------------------------------------------------------------------------------------


def real(test: Callable[[], None]) -> Callable[[], None]:
    """Mark a test of real servers, which has time on a machine that is busy with something else."""
    skip = pytest.mark.skipif(sys.platform != "linux", reason="memory and sockets are read from /proc")
    return pytest.mark.slow(pytest.mark.timeout(180)(skip(test)))


def run(*names: str, batches: int, module: str = "tools.fuzz.target", settle_s: float = 20) -> Total:
    with watched(names, module=module) as servers:
        seeds = [range(at, batches * len(names), len(names)) for at in range(len(names))]
        return asyncio.run(fuzz(servers, lambda at: iter(seeds[at]), settle_s=settle_s))


@real
def test_a_short_run_finds_nothing() -> None:
    total = run(*TARGETS, batches=4)
    assert [str(finding) for finding in total.findings] == []
    assert total.batches == 4 * len(TARGETS)
    assert total.answers > 50


@real
def test_a_handler_that_raises_is_found_and_traced_to_its_connection() -> None:
    total = run("presence_raises", batches=6, module="tests.property.fuzz_plants")
    assert any("ZeroDivisionError: planted" in finding.problem for finding in total.findings)
    blamed = [finding for finding in total.findings if "status 500" in finding.problem]
    assert blamed
    assert all(finding.script and b"/presence" in finding.script.sent for finding in blamed)


@real
def test_connections_that_stay_are_found() -> None:
    total = run("sockets_stay", batches=1, settle_s=0.5, module="tests.property.fuzz_plants")
    assert any(finding.problem.startswith("connections left") for finding in total.findings)
