"""Spoils what is valid. Pure: all chance comes from the given generator."""

import json
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

__all__ = [
    "client_frame",
    "json_spoiled",
    "pieces",
    "protobuf_spoiled",
    "request_spoiled",
    "spoiled",
    "spoiled_frame",
]

_BYTES: Final = (
    b"\x00",
    b"\xff",
    b"\r",
    b"\n",
    b"\r\n",
    b" ",
    b"%",
    b"%00",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x98\x80",
)

# -- bytes ---------------------------------------------------------------------------------------------------


def spoiled(rng: random.Random, data: bytes, other: bytes = b"") -> bytes:
    """Change bytes in one to four places; ``other`` is what may be spliced in."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = rng.choice(_CHANGES)(rng, data, other)
    return data


def _flip(rng: random.Random, data: bytes, other: bytes) -> bytes:
    if not data:
        return data
    made = bytearray(data)
    made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
    return bytes(made)


def _insert(rng: random.Random, data: bytes, other: bytes) -> bytes:
    at = rng.randint(0, len(data))
    return data[:at] + rng.choice((*_BYTES, rng.randbytes(rng.randint(1, 8)))) + data[at:]


def _delete(rng: random.Random, data: bytes, other: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + data[end:]


def _repeat(rng: random.Random, data: bytes, other: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + data[start:end] * rng.choice((2, 3, 40)) + data[end:]


def _splice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    start, end = _span(rng, other)
    at = rng.randint(0, len(data))
    return data[:at] + other[start:end] + data[at if rng.random() < 0.5 else at + end - start :]


def _cut(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randint(0, len(data))]


def _number(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Replace a run of digits: most are lengths, codes or offsets."""
    digits = [at for at, byte in enumerate(data) if 48 <= byte <= 57]
    if not digits:
        return _flip(rng, data, other)
    start = end = rng.choice(digits)
    while end < len(data) and 48 <= data[end] <= 57:
        end += 1
    return data[:start] + rng.choice(_NUMBERS) + data[end:]


_NUMBERS: Final = (
    b"0",
    b"-1",
    b"00",
    b"4294967296",
    b"18446744073709551616",
    b"9" * 400,
    b"1e3",
    b"0x10",
    b"+5",
)
_CHANGES: Final = (_flip, _flip, _insert, _insert, _delete, _repeat, _splice, _cut, _number)


def _span(rng: random.Random, data: bytes) -> tuple[int, int]:
    start = rng.randint(0, len(data))
    return start, min(len(data), start + rng.choice((1, 2, 4, 20, 200)))


def pieces(rng: random.Random, data: bytes) -> list[bytes]:
    """Cut bytes as packets may be: whole, in a few pieces, or the first of them in single bytes."""
    way = rng.random()
    if way < 0.4 or len(data) < 2:
        return [data]
    if way < 0.9:
        cuts = sorted(rng.randint(1, len(data) - 1) for _ in range(rng.choice((1, 1, 2, 5))))
    else:
        cuts = list(range(1, min(len(data), 60)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True) if start < end]


# -- HTTP ----------------------------------------------------------------------------------------------------

_HEADERS: Final = (
    b"Content-Length: 5",
    b"Content-Length: 0",
    b"Content-Length: 99999999999999999999",
    b"Content-Length: +5",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Host: localhost",
    b"Host: evil.example",
    b"Host: [::1",
    b"Host: \xff\xfe",
    b"Origin: null",
    b"Origin: https://app.example",
    b"Origin: http://[",
    b"Origin: \xe9",
    b"Connection: close",
    b"Connection: keep-alive, Upgrade",
    b"Upgrade: websocket",
    b"Upgrade: h2c",
    b"Expect: 100-continue",
    b"Accept: text/event-stream",
    b"Content-Type: application/octet-stream",
    b"Content-Type: text/plain; charset=latin-1",
    b"Content-Type: \xff/\x80;charset=\xe9",
    b"Content-Encoding: gzip",
    b"Authorization: Bearer x.y.z",
    b"Authorization: \xe9",
    b"Cookie: a=b; \xff",
    b"Idempotency-Key: k\xe9y",
    b"Idempotency-Key: ",
    b"If-None-Match: *",
    b'If-None-Match: "x", W/"\xe9',
    b"Last-Event-ID: \xf0\x9f\x98\x80",
    b"Last-Event-ID: x." + b"9" * 5000,
    b"Sec-WebSocket-Key: \xff",
    b"Sec-WebSocket-Protocol: chat.v1, \xe9",
    b"Sec-WebSocket-Protocol: centrifuge-protobuf",
    b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9",
    b"Sec-WebSocket-Extensions: permessage-deflate, \xe9;;=",
    b"Range: bytes=0-1,5-,-3",
    b"Range: bytes=9-1",
    b"Range: x",
    b"X-Forwarded-For: \xff, 1.2.3.4",
    b"X-Forwarded-Proto: \xe9",
    b"X-Big: " + b"x" * 70_000,
    b" folded: x",
    b": empty",
    b"No colon",
)
_TARGETS: Final = (
    b"?since=%FF",
    b"?since=x." + b"9" * 5000,
    b"?since=" + b"~" * 30,
    b"?wait=nan",
    b"?wait=1e400",
    b"?wait=-0",
    b"?wait=\xd9\xa3",
    b"?client=" + b"c" * 65,
    b"?channel=%00&channel=",
    b"?format=xml",
    b"?cf_connect=%7B",
    b"?last_event_id=%F0%9F%98%80&since=earliest",
    b"?token=%FF.%FF",
    b"?api_key=%ED%A0%80",
    b"/%2F..%2F",
    b"/%ED%A0%80",
    b"//",
    b"#fragment",
    b"%",
    b"?" + b"&a=b" * 2000,
)


def request_spoiled(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Spoil a request as one: its target or its header lines; or its bytes."""
    way = rng.random()
    head, mark, body = data.partition(b"\r\n\r\n")
    line, *headers = head.split(b"\r\n")
    if way < 0.2:
        start, _, version = line.rpartition(b" ")
        line = start + rng.choice(_TARGETS) + b" " + version
    elif way < 0.6:
        for _ in range(rng.choice((1, 1, 2, 3))):
            headers.insert(rng.randint(0, len(headers)), rng.choice(_HEADERS))
        if rng.random() < 0.2:
            headers *= rng.choice((2, 200))
    else:
        return spoiled(rng, data, other)
    return b"\r\n".join([line, *headers]) + mark + body


# -- JSON ----------------------------------------------------------------------------------------------------

_VALUES: Final = (
    "null", "true", '""', "0", "-1", "-0.0", "1e400", "NaN", "-Infinity", "18446744073709551616",
    "9" * 5000, '"\\ud800"', '"\\udc00x"', '"\\u0000"', '"\ud7ff\U0001f600"', "4294967296", "01",
    "[]", "{}", '{"":{}}', "'a'", '{"a":1,"a":2}',
    "[" * 3000 + "]" * 3000, "[" * 100_000, '{"a":' * 3000 + "1" + "}" * 3000, "\n", " 1 \n",
    '"' + "x" * 300 + '"', '"' + "x" * 20_000 + '"', '"\\x"', '"\t"', "[1,]", "\ufeff1",
)  # fmt: skip
_MARK: Final = "<value>"


def json_spoiled(rng: random.Random, value: Any) -> bytes:
    """JSON of a value in which one part, or the name of one field, is something else."""
    value = json.loads(json.dumps(value))
    places = list(_places(value))
    if places:
        holder, key = rng.choice(places)
        if isinstance(holder, dict) and rng.random() < 0.2:
            holder[rng.choice(("", "id", "data", "\x00", "offset", "connect", "subs"))] = holder.pop(key)
        else:
            holder[key] = _MARK
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5, separators=(",", ":"))
    return text.replace(json.dumps(_MARK), rng.choice(_VALUES)).encode()


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield value, key
        yield from _places(item)


# -- Protobuf ------------------------------------------------------------------------------------------------

_VARINTS: Final = (
    b"\x00",
    b"\x01",
    b"\x7f",
    b"\xff\x01",
    b"\xff" * 4 + b"\x0f",
    b"\xff" * 9 + b"\x01",
    b"\x80" * 12,
)


def protobuf_spoiled(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Spoil delimited messages: fields of other types, groups, lengths that are not so; or their bytes."""
    way = rng.random()
    if way < 0.4:
        return spoiled(rng, data, other)
    if way < 0.6:
        return rng.choice(_VARINTS) + data[rng.choice((0, 1)) :]
    tag = bytes([rng.randrange(1, 16) << 3 | rng.randrange(8)])
    field = tag + rng.choice((*_VARINTS, b"\x02\xff\xfe", rng.randbytes(8)))
    message = data[1:] + field if rng.random() < 0.5 else field + data[1:]
    return bytes([len(message) & 0x7F]) + message


# -- WebSocket -----------------------------------------------------------------------------------------------


def client_frame(
    rng: random.Random, opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, size_bytes: int = -1
) -> bytes:
    """A client's frame (RFC 6455 5.2). ``size_bytes``: 2 or 8 of extended length; else the fewest."""
    size = len(payload)
    if size_bytes < 0 or size >= 1 << 8 * size_bytes:
        size_bytes = 0 if size < 126 else 2 if size < 65536 else 8
    short = {0: size, 2: 126, 8: 127}[size_bytes]
    mask = rng.randbytes(4)
    key = int.from_bytes((mask * (size // 4 + 1))[:size])
    masked = (int.from_bytes(payload) ^ key).to_bytes(size)
    extended = size.to_bytes(size_bytes) if size_bytes else b""
    return bytes([fin << 7 | rsv << 4 | opcode, 0x80 | short]) + extended + mask + masked


def _fragments(rng: random.Random, opcode: int, payload: bytes) -> bytes:
    cut = rng.randint(0, len(payload))
    between = client_frame(rng, rng.choice((9, 10)), b"x") if rng.random() < 0.5 else b""
    return client_frame(rng, opcode, payload[:cut], fin=False) + between + client_frame(rng, 0, payload[cut:])


def _close(rng: random.Random, opcode: int, payload: bytes) -> bytes:
    code = rng.choice(
        (0, 999, 1000, 1001, 1004, 1005, 1006, 1011, 1015, 1016, 2999, 3000, 3500, 4999, 5000, 65535)
    )
    reason = rng.choice((b"", b"bye", b"\xff", b"x" * 123, b"x" * 124))
    return client_frame(rng, 8, rng.choice((b"", b"\x03", struct.pack("!H", code) + reason)))


def _huge(rng: random.Random, opcode: int, payload: bytes) -> bytes:
    size = rng.choice((17_000, 65536, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1))
    return bytes([0x80 | opcode, 0xFF]) + size.to_bytes(8) + rng.randbytes(4) + payload


def _unmasked(rng: random.Random, opcode: int, payload: bytes) -> bytes:
    return bytes([0x80 | opcode, len(payload) & 0x7F]) + payload


_FRAMES: Final[Sequence[Callable[[random.Random, int, bytes], bytes]]] = (
    _fragments,
    _close,
    _huge,
    _unmasked,
    lambda rng, opcode, payload: client_frame(rng, rng.randrange(16), payload, fin=rng.random() < 0.7),
    lambda rng, opcode, payload: client_frame(rng, opcode, payload, rsv=rng.randrange(8)),
    lambda rng, opcode, payload: client_frame(rng, opcode, payload, size_bytes=rng.choice((2, 8))),
    lambda rng, opcode, payload: client_frame(rng, rng.choice((9, 10)), payload[:126]),
    lambda rng, opcode, payload: client_frame(rng, opcode, payload, fin=False),
    lambda rng, opcode, payload: client_frame(rng, opcode, b"\xff" + payload),
    lambda rng, opcode, payload: spoiled(rng, client_frame(rng, opcode, payload)),
)


def spoiled_frame(rng: random.Random, opcode: int, payload: bytes) -> bytes:
    """A message as frames that are rare, or break the protocol."""
    return rng.choice(_FRAMES)(rng, opcode, payload)
