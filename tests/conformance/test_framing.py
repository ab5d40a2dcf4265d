"""RFC 6455 framing on the socket, over both WebSocket transports: the native door and ASGI.

Every vector is fed whole, with another frame behind it in the same packet, a byte at a time, and split at
every boundary; the server is known to have read each piece before the next one is sent. What was published is
read from the engine.
"""

import asyncio
import contextlib
import itertools
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Final, Literal, NamedTuple

import pytest

from heartwire import Hub
from tests.unit.transports.tools import (
    BINARY,
    CLOSE,
    CONT,
    MASK,
    PING,
    PONG,
    SERVERS,
    TEXT,
    Frame,
    Served,
    Wire,
    at_rest,
    close_frame,
    connected,
    frame,
    published,
    single,
    splits,
    until,
)

LIMIT: Final = 70_000
"""Larger than what a frame's 16 bits of length can say."""

SHORT: Final = 48
"""Vectors of up to this many bytes are split at every boundary; of longer ones, the ends are."""

_LOOPS: Final = ["native", "native-uvloop", "asgi"]


class Vector(NamedTuple):
    """Bytes of a client, and what they mean.

    Attributes:
        messages: those that are complete and obey the RFC: whether it is text, and its bytes.
        pongs: the payloads of pongs that must come.
        closed: None: the connection lives. A number: the close code that must come. Bytes: a close with just
            this payload.
    """

    data: bytes
    messages: tuple[tuple[bool, bytes], ...] = ()
    pongs: tuple[bytes, ...] = ()
    closed: int | bytes | None = None


def text(data: bytes) -> tuple[bool, bytes]:
    return True, data


def binary(data: bytes) -> tuple[bool, bytes]:
    return False, data


EURO: Final = "€".encode()
FACE: Final = "😀".encode()
LONG: Final = bytes(range(256)) * 300
HI: Final = frame(TEXT, b"hi")


def _code(code: int) -> bytes:
    return struct.pack("!H", code)


def _lengths() -> Iterator[tuple[str, Vector]]:
    for size in (0, 1, 125, 126, 127, 128, 65535, 65536, LIMIT):
        yield f"binary of {size}", Vector(frame(BINARY, LONG[:size]), (binary(LONG[:size]),))
        yield f"text of {size}", Vector(frame(TEXT, b"x" * size), (text(b"x" * size),))
    for size in (LIMIT + 1, 10 * LIMIT):
        yield f"binary of {size}", Vector(frame(BINARY, b"x" * size), closed=1009)
    yield "a length of 2 ** 62", Vector(b"\x82\xff" + (1 << 62).to_bytes(8) + MASK + b"x", closed=1009)
    yield (
        "fragments up to the limit",
        Vector(
            frame(BINARY, LONG[: LIMIT - 3], fin=False)
            + frame(CONT, LONG[:2], fin=False)
            + frame(CONT, b"\xff"),
            (binary(LONG[: LIMIT - 3] + LONG[:2] + b"\xff"),),
        ),
    )
    yield (
        "fragments over the limit by one",
        Vector(
            frame(BINARY, LONG[: LIMIT - 3], fin=False)
            + frame(CONT, LONG[:2], fin=False)
            + frame(CONT, b"\xff\xff"),
            closed=1009,
        ),
    )
    yield (
        "small fragments over the limit",
        Vector(frame(TEXT, b"x" * 7000, fin=False) + frame(CONT, b"x" * 7000, fin=False) * 20, closed=1009),
    )


def _fragments() -> Iterator[tuple[str, Vector]]:
    yield "two fragments", Vector(frame(TEXT, b"he", fin=False) + frame(CONT, b"llo"), (text(b"hello"),))
    yield (
        "three fragments",
        Vector(
            frame(BINARY, b"a", fin=False) + frame(CONT, b"b", fin=False) + frame(CONT, b"c"),
            (binary(b"abc"),),
        ),
    )
    yield (
        "empty fragments",
        Vector(
            frame(TEXT, fin=False) + frame(CONT, fin=False) + frame(CONT, b"x", fin=False) + frame(CONT),
            (text(b"x"),),
        ),
    )
    yield "nothing in fragments", Vector(frame(BINARY, fin=False) + frame(CONT), (binary(b""),))
    yield (
        "single bytes in fragments",
        Vector(
            frame(TEXT, b"a", fin=False)
            + b"".join(frame(CONT, bytes([letter]), fin=False) for letter in b"bcdef")
            + frame(CONT),
            (text(b"abcdef"),),
        ),
    )
    yield (
        "controls between fragments",
        Vector(
            frame(TEXT, b"a", fin=False)
            + frame(PING, b"1")
            + frame(PONG, b"?")
            + frame(CONT, b"b", fin=False)
            + frame(PING, b"2")
            + frame(CONT, b"c")
            + frame(PING),
            (text(b"abc"),),
            (b"1", b"2", b""),
        ),
    )
    yield (
        "two messages in fragments",
        Vector(
            frame(TEXT, b"a", fin=False)
            + frame(CONT, b"b")
            + frame(BINARY, b"c", fin=False)
            + frame(CONT, b"d"),
            (text(b"ab"), binary(b"cd")),
        ),
    )
    yield (
        "a fragmented message between whole ones",
        Vector(
            HI + frame(TEXT, b"a", fin=False) + frame(CONT, b"b") + HI,
            (text(b"hi"), text(b"ab"), text(b"hi")),
        ),
    )
    yield (
        "a long fragmented message",
        Vector(
            frame(BINARY, LONG[:300], fin=False) + frame(CONT, LONG[:66000]),
            (binary(LONG[:300] + LONG[:66000]),),
        ),
    )
    yield "continuation of nothing", Vector(frame(CONT, b"x"), closed=1002)
    yield "unfinished continuation of nothing", Vector(frame(CONT, b"x", fin=False), closed=1002)
    yield "continuation of a whole message", Vector(HI + frame(CONT, b"x"), (text(b"hi"),), closed=1002)
    yield (
        "continuation of a finished message",
        Vector(
            frame(TEXT, b"a", fin=False) + frame(CONT, b"b") + frame(CONT, b"c"), (text(b"ab"),), closed=1002
        ),
    )
    yield "text inside a message", Vector(frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), closed=1002)
    yield (
        "binary inside a message",
        Vector(frame(TEXT, b"a", fin=False) + frame(BINARY, b"b", fin=False), closed=1002),
    )
    yield (
        "a ping before what breaks a fragmented message",
        Vector(frame(TEXT, b"\xc3", fin=False) + frame(PING, b"1") + frame(CONT, b"("), (), (b"1",), 1007),
    )


def _controls() -> Iterator[tuple[str, Vector]]:
    yield "ping", Vector(frame(PING), pongs=(b"",))
    yield "ping with text", Vector(frame(PING, b"hello"), pongs=(b"hello",))
    yield "ping with all bytes", Vector(frame(PING, LONG[131:256]), pongs=(LONG[131:256],))
    yield (
        "ten pings",
        Vector(
            b"".join(frame(PING, b"%d" % at) for at in range(10)), pongs=tuple(b"%d" % at for at in range(10))
        ),
    )
    yield (
        "pings between messages",
        Vector(frame(PING, b"1") + HI + frame(PING, b"2"), (text(b"hi"),), (b"1", b"2")),
    )
    yield (
        "unsolicited pongs",
        Vector(frame(PONG) + frame(PONG, b"nobody asked") + HI + frame(PONG, b"x" * 125), (text(b"hi"),)),
    )
    for name, opcode in (("ping", PING), ("pong", PONG), ("close", CLOSE)):
        yield f"{name} of 126", Vector(frame(opcode, b"x" * 126), closed=1002)
        yield f"{name} of 65536", Vector(frame(opcode, b"x" * 65536), closed=1002)
        yield f"{name} in fragments", Vector(frame(opcode, b"", fin=False) + frame(CONT), closed=1002)
    yield (
        "ping in fragments inside a message",
        Vector(frame(TEXT, b"a", fin=False) + frame(PING, fin=False), closed=1002),
    )


def _reserved() -> Iterator[tuple[str, Vector]]:
    for rsv in range(1, 8):
        yield f"reserved bits {rsv:03b}", Vector(frame(TEXT, b"x", rsv=rsv), closed=1002)
        yield (
            f"reserved bits {rsv:03b} after a message",
            Vector(HI + frame(TEXT, b"x" * 200, rsv=rsv), (text(b"hi"),), closed=1002),
        )
    for opcode in (CONT, BINARY, PING, PONG, CLOSE):
        yield f"RSV1 on {opcode:x}", Vector(frame(opcode, b"", rsv=4), closed=1002)
    yield (
        "RSV1 on a continuation",
        Vector(frame(TEXT, b"x", fin=False) + frame(CONT, b"y", rsv=4), closed=1002),
    )
    # Its payload is a frame that obeys the RFC: it must never be taken for one.
    yield (
        "a frame inside a frame with RSV1",
        Vector(frame(TEXT, masked_hi := _hidden(HI), rsv=4) + masked_hi, closed=1002),
    )
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield f"opcode {opcode:x}", Vector(frame(opcode, _hidden(HI)), closed=1002)
        yield f"opcode {opcode:x} after a message", Vector(HI + frame(opcode), (text(b"hi"),), closed=1002)
    yield "a reserved opcode inside a message", Vector(frame(TEXT, b"a", fin=False) + frame(3), closed=1002)


def _hidden(data: bytes) -> bytes:
    """A payload that is ``data`` on the wire."""
    return bytes(byte ^ MASK[index % 4] for index, byte in enumerate(data))


def _unmasked() -> Iterator[tuple[str, Vector]]:
    for opcode in (TEXT, BINARY, CONT, CLOSE, PING, PONG):
        yield f"unmasked {opcode:x}", Vector(frame(opcode, b"", mask=None), closed=1002)
    yield "unmasked text", Vector(frame(TEXT, b"hello", mask=None), closed=1002)
    yield "unmasked text of 126", Vector(frame(TEXT, b"x" * 126, mask=None), closed=1002)
    yield (
        "unmasked after a message",
        Vector(HI + frame(TEXT, b"hello", mask=None), (text(b"hi"),), closed=1002),
    )
    yield (
        "unmasked continuation",
        Vector(frame(TEXT, b"a", fin=False) + frame(CONT, b"b", mask=None), closed=1002),
    )
    yield "a mask of zeros", Vector(frame(TEXT, b"hello", mask=bytes(4)), (text(b"hello"),))
    yield (
        "other masks",
        Vector(
            frame(TEXT, b"a" * 7, mask=b"\xff\x00\x80\x01")
            + frame(BINARY, b"b" * 130, mask=b"\x81\x82\x83\x84"),
            (text(b"a" * 7), binary(b"b" * 130)),
        ),
    )


def _utf8() -> Iterator[tuple[str, Vector]]:
    sample = "κόσμε é € 😀 \x00 \uffff \U0010ffff".encode()
    yield "text of all lengths of characters", Vector(frame(TEXT, sample), (text(sample),))
    for at in range(1, len(FACE)):
        yield (
            f"a character split after {at}",
            Vector(
                frame(TEXT, b"x" + FACE[:at], fin=False) + frame(CONT, FACE[at:] + b"y"),
                (text(b"x" + FACE + b"y"),),
            ),
        )
    yield (
        "a character in single bytes",
        Vector(
            frame(TEXT, EURO[:1], fin=False)
            + frame(PING)
            + frame(CONT, EURO[1:2], fin=False)
            + frame(CONT, EURO[2:]),
            (text(EURO),),
            (b"",),
        ),
    )
    broken = {
        "a lone continuation byte": b"\x80",
        "an impossible byte": b"ok \xff",
        "0xfe": b"\xfe",
        "a cut character": EURO[:2],
        "a cut character in the middle": b"x" + FACE[:3] + b"y",
        "a missing continuation": b"\xc3(",
        "an overlong slash": b"\xc0\xaf",
        "an overlong slash of three bytes": b"\xe0\x80\xaf",
        "an overlong zero": b"\xf0\x80\x80\x80",
        "a surrogate": b"\xed\xa0\x80",
        "a pair of surrogates": b"\xed\xa0\xbd\xed\xb8\x80",
        "beyond the last character": b"\xf4\x90\x80\x80",
        "five bytes": b"\xf8\x88\x80\x80\x80",
    }
    for name, data in broken.items():
        yield f"{name}, in one frame", Vector(frame(TEXT, data), closed=1007)
        yield (
            f"{name}, in fragments",
            Vector(frame(TEXT, data[:1], fin=False) + frame(CONT, data[1:]), closed=1007),
        )
        yield f"{name}, as bytes", Vector(frame(BINARY, data), (binary(data),))
    yield "broken text of 200 bytes", Vector(frame(TEXT, b"x" * 199 + b"\xff"), closed=1007)
    yield "broken text of 65536 bytes", Vector(frame(TEXT, b"x" * 65535 + b"\xff"), closed=1007)
    yield "broken text after text", Vector(HI + frame(TEXT, b"\xff"), (text(b"hi"),), closed=1007)
    yield (
        "a character split over two messages",
        Vector(frame(TEXT, EURO[:1]) + frame(TEXT, EURO[1:]), closed=1007),
    )


def _closes() -> Iterator[tuple[str, Vector]]:
    yield "close without a code", Vector(close_frame(), closed=b"")
    for code in (
        1000,
        1001,
        1002,
        1003,
        1007,
        1008,
        1009,
        1010,
        1011,
        1012,
        1013,
        1014,
        3000,
        3999,
        4000,
        4999,
    ):
        yield f"close {code}", Vector(close_frame(code), closed=_code(code))
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
        yield f"close {code}", Vector(close_frame(code), closed=1002)
    yield "close with a reason", Vector(close_frame(1000, b"bye"), closed=_code(1000) + b"bye")
    yield "close with a reason that is not ASCII", Vector(close_frame(4000, EURO), closed=_code(4000) + EURO)
    yield (
        "close with the longest reason",
        Vector(close_frame(1001, b"x" * 123), closed=_code(1001) + b"x" * 123),
    )
    yield "close with half a code", Vector(frame(CLOSE, b"\x03"), closed=1002)
    yield "close with a broken reason", Vector(close_frame(1000, b"\xff"), closed=1007)
    yield "close with a cut reason", Vector(close_frame(1000, EURO[:2]), closed=1007)
    yield (
        "close inside a message",
        Vector(frame(TEXT, b"a", fin=False) + close_frame(1000) + frame(CONT, b"b"), closed=_code(1000)),
    )
    yield "close after a message", Vector(HI + close_frame(1001), (text(b"hi"),), closed=_code(1001))
    yield "close after a ping", Vector(frame(PING, b"1") + close_frame(1000), (), (b"1",), _code(1000))
    yield "data after a close", Vector(close_frame(1000) + HI + frame(PING, b"?"), closed=_code(1000))
    yield "a close after a close", Vector(close_frame(1000) + close_frame(4000), closed=_code(1000))
    yield "garbage after a close", Vector(close_frame(1000) + b"\xff" * 100, closed=_code(1000))


def _oddities() -> Iterator[tuple[str, Vector]]:
    # RFC 6455 5.2 wants the fewest bytes of length. Nothing is misunderstood without it, and neither
    # transport insists.
    yield "a short length in 16 bits", Vector(frame(TEXT, b"hello", length_bytes=2), (text(b"hello"),))
    yield "a short length in 64 bits", Vector(frame(BINARY, b"hello", length_bytes=8), (binary(b"hello"),))
    yield (
        "many messages",
        Vector(
            b"".join(frame(TEXT, b"%d" % at) for at in range(50)), tuple(text(b"%d" % at) for at in range(50))
        ),
    )


VECTORS: Final = dict(
    itertools.chain(
        _lengths(), _fragments(), _controls(), _reserved(), _unmasked(), _utf8(), _closes(), _oddities()
    )
)


# -- what uvicorn's own protocol does otherwise --------------------------------------------------------------


class Deviation(NamedTuple):
    """Where ASGI differs, because the server decides: ``what`` of the vectors, and why. Held to: one that
    ends fails the test."""

    what: Literal["messages", "pongs", "closed"]
    vectors: frozenset[str]
    why: str


_BROKEN_TEXT: Final = frozenset(
    name for name, vector in VECTORS.items() if vector.closed == 1007 and not name.startswith("close with")
)

DEVIATIONS: Final = (
    Deviation(
        "messages",
        frozenset(name for name, vector in VECTORS.items() if vector.messages and vector.closed == 1002),
        "a packet that breaks the protocol is dropped with the messages that stood before the break",
    ),
    Deviation(
        "pongs",
        _BROKEN_TEXT | {f"binary of {LIMIT + 1}", "fragments over the limit by one"},
        "text is looked at, and our own limit applied, when the whole packet has been read: pings behind it"
        " are answered first",
    ),
    Deviation(
        "closed",
        frozenset({"close inside a message"}),
        "websockets takes it for a protocol error, and answers 1002",
    ),
)


# -- the servers ---------------------------------------------------------------------------------------------


@pytest.fixture(params=_LOOPS)
def transport(request: pytest.FixtureRequest) -> str:
    """Which transport, under which event loop."""
    if request.param.endswith("uvloop"):
        pytest.importorskip("uvloop")
    name: str = request.param
    return name


@pytest.fixture
def loop_factory(transport: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """How to make the loop that the test runs in."""
    if transport.endswith("uvloop"):
        import uvloop

        factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
        return factory
    return asyncio.new_event_loop


class Bench:
    """A hub behind one transport."""

    def __init__(self, hub: Hub, served: Served) -> None:
        self.hub = hub
        self.served = served
        self._channels = map("c{}".format, itertools.count())

    async def open(self) -> tuple[Wire, str]:
        """A WebSocket in a channel of its own."""
        channel = next(self._channels)
        return await connected(self.served, f"/channels/{channel}"), channel


@contextlib.asynccontextmanager
async def bench(transport: str) -> AsyncIterator[Bench]:
    hub = Hub(max_message_bytes=LIMIT)
    async with SERVERS[transport.removesuffix("-uvloop")](hub) as served:
        yield Bench(hub, served)
        await until(lambda: at_rest(hub), "everybody has left")


def feedings(data: bytes) -> Iterator[tuple[bytes, ...]]:
    """The pieces that a vector comes in."""
    yield (data,)
    if len(data) <= 400:
        yield tuple(single(data))
    if len(data) <= SHORT:
        yield from splits(data)
    else:
        for at in (1, 2, 3, 4, 5, 7, 9, 10, 13, 14, 15, len(data) // 2, len(data) - 1):
            yield data[:at], data[at:]


PROBE: Final = frame(TEXT, b"the end") + frame(PING, b"the end")


def _allowed(name: str, transport: str) -> set[str]:
    return {given.what for given in DEVIATIONS if name in given.vectors} if transport == "asgi" else set()


@pytest.mark.parametrize("name", VECTORS)
async def test_vector(name: str, transport: str, loop_factory: object) -> None:
    vector = VECTORS[name]
    async with bench(transport) as b:
        if vector.closed is None:
            await _check_that_lives(b, vector)
            return
        allowed, seen = _allowed(name, transport), set[str]()
        for pieces in (*feedings(vector.data), (vector.data + PROBE,)):
            seen |= await _check_that_ends(b, vector, pieces, allowed)
    assert seen == allowed, "it does not deviate any more"


async def _check_that_lives(b: Bench, vector: Vector) -> None:
    """All feedings on one connection, for each of them leaves it as it was."""
    wire, channel = await b.open()
    async with wire:
        expected: list[tuple[bool, bytes]] = []
        feeds = [(*pieces, PROBE) for pieces in feedings(vector.data)] + [(vector.data + PROBE,)]
        for pieces in feeds:
            await wire.send(*pieces)
            messages = [*vector.messages, text(b"the end")]
            frames = await wire.frames(
                lambda frames: (
                    Frame(PONG, b"the end") in frames and _messages(frames)[-1:] == [text(b"the end")]
                )
            )
            assert _messages(frames) == messages, pieces
            assert _pongs(frames) == [*vector.pongs, b"the end"], pieces
            assert all(
                frame.fin and not frame.rsv and frame.opcode in (TEXT, BINARY, PONG) for frame in frames
            )
            expected += messages
        assert published(b.hub, channel) == expected


async def _check_that_ends(
    b: Bench, vector: Vector, pieces: tuple[bytes, ...], allowed: set[str]
) -> set[str]:
    """Returns which of the allowed deviations there were."""
    seen = set()
    wire, channel = await b.open()
    async with wire:
        await wire.send(*pieces)
        frames = await wire.frames(lambda frames: any(frame.opcode == CLOSE for frame in frames))
        assert frames, (pieces, "the connection broke without a close")
        assert frames[-1].opcode == CLOSE, (pieces, frames)
        code, reason = frames[-1].payload[:2], frames[-1].payload[2:]
        reason.decode()
        if "closed" in allowed and code == _code(1002):
            seen.add("closed")
        else:
            wanted = vector.closed if isinstance(vector.closed, bytes) else _code(vector.closed or 0) + reason
            assert code + reason == wanted, pieces
        pongs = _pongs(frames)
        if "pongs" in allowed and pongs != list(vector.pongs):
            seen.add("pongs")
            assert pongs.pop() == b"the end"
        assert pongs == list(vector.pongs), pieces
        await wire.send(close_frame(1000))  # as a client answers, where the server has not closed TCP already
        assert await wire.rest() == b"", "nothing follows a close"
        stored = published(b.hub, channel)
        if "messages" in allowed and stored != list(vector.messages):
            seen.add("messages")
            assert stored == []
        else:
            assert stored == list(vector.messages), pieces
        echoed = _messages(frames)
        assert echoed == stored[: len(echoed)], pieces
    return seen


def _messages(frames: list[Frame]) -> list[tuple[bool, bytes]]:
    return [(frame.opcode == TEXT, frame.payload) for frame in frames if frame.opcode in (TEXT, BINARY)]


def _pongs(frames: list[Frame]) -> list[bytes]:
    return [frame.payload for frame in frames if frame.opcode == PONG]


# -- how connections end without a close ---------------------------------------------------------------------

UNFINISHED: Final = {
    "nothing": b"",
    "half a header": frame(TEXT, b"x")[:1],
    "a header": frame(TEXT, b"x")[:2],
    "half a mask": frame(TEXT, b"x")[:4],
    "half a frame": frame(TEXT, b"xyz")[:-1],
    "half a long frame": frame(BINARY, b"x" * 66_000)[:40_000],
    "half a message": frame(TEXT, b"x", fin=False),
    "half a message and half a frame": frame(TEXT, b"x", fin=False) + frame(CONT, b"xyz")[:-1],
    "half a ping": frame(PING, b"xyz")[:-1],
    "half a close": close_frame(1000)[:-1],
}


@pytest.mark.parametrize("how", ["end", "reset", "half"])
async def test_a_client_that_goes_without_a_close(how: str, transport: str, loop_factory: object) -> None:
    """What was complete is published, what was not is dropped, and nothing is left of the connection."""
    async with bench(transport) as b:
        for name, data in UNFINISHED.items():
            wire, channel = await b.open()
            async with wire:
                await wire.send(HI + data)
                await until(partial(published, b.hub, channel), name)
                if how == "end":
                    wire.sock.close()
                elif how == "reset":
                    wire.reset()
                else:
                    wire.sock.shutdown(socket.SHUT_WR)
                    assert (await wire.rest())[:4] == b"\x81\x02hi"
                await until(lambda: at_rest(b.hub), name)
                await until(lambda: b.served.open_connections == 0, name)
                assert published(b.hub, channel) == [text(b"hi")]


async def test_a_client_that_ends_right_after_its_last_message(transport: str, loop_factory: object) -> None:
    async with bench(transport) as b:
        for last in (
            frame(TEXT, b"last"),
            frame(TEXT, b"la", fin=False) + frame(CONT, b"st"),
            frame(TEXT, b"last") + close_frame(),
        ):
            wire, channel = await b.open()
            wire.sock.send(last)
            wire.sock.close()
            await until(lambda: at_rest(b.hub))
            assert published(b.hub, channel) == [text(b"last")]
