"""The fuzzers, one for each door: what one connection sends, decided by a generator of chance alone."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from tools.fuzz import corpus
from tools.fuzz.mutation import (
    client_frame,
    json_spoiled,
    pieces,
    protobuf_spoiled,
    request_spoiled,
    spoiled,
    spoiled_frame,
)

__all__ = ["CLOSE", "FUZZERS", "HALF_CLOSE", "PAUSE", "RESET", "Script", "batch", "stream"]

Step = bytes | str
"""Bytes to send, or one of these:"""

PAUSE, HALF_CLOSE, CLOSE, RESET = "pause", "half-close", "close", "reset"


class Script(NamedTuple):
    """One connection: its steps, the last of which ends it.

    ``answers``: so many whole HTTP answers must come, where all that is sent is valid; else ``None``.
    """

    name: str
    steps: tuple[Step, ...]
    answers: int | None = None

    @property
    def sent(self) -> bytes:
        """All bytes."""
        return b"".join(step for step in self.steps if isinstance(step, bytes))


def batch(seed: int) -> list[Script]:
    """The connections of a seed. The first is `stream`'s."""
    rng = random.Random(seed)
    names = list(FUZZERS)
    return [stream(rng), *(FUZZERS[rng.choice(names)](rng) for _ in range(rng.randint(6, 16)))]


def _script(rng: random.Random, name: str, parts: Sequence[bytes], *, answers: int | None = None) -> Script:
    """Cut what is sent, in order, into packets; and end."""
    data = b"".join(parts)
    steps: list[Step] = []
    for piece in pieces(rng, data) if len(parts) < 2 or rng.random() < 0.5 else parts:
        steps.append(piece)
        if rng.random() < 0.2:
            steps.append(PAUSE)
    if rng.random() < 0.1 and answers is None:
        steps.append(HALF_CLOSE)
    if rng.random() < 0.7 or answers is not None:
        steps.append(PAUSE)
    steps.append(CLOSE if rng.random() < 0.7 or answers is not None else RESET)
    return Script(name, tuple(steps), answers)


# -- HTTP ----------------------------------------------------------------------------------------------------

_LASTING: Final = (b"text/event-stream", b"websocket", b"/connection/sse")


def _http(rng: random.Random, name: str, valid: Sequence[bytes]) -> Script:
    """One to five requests on one connection, some of them spoiled."""
    chosen = [rng.choice(valid) for _ in range(rng.choice((1, 1, 2, 5)))]
    if rng.random() < 0.15:
        plain = [one for one in chosen if not any(mark in one for mark in _LASTING)]
        return _script(rng, name, plain, answers=len(plain))
    parts = [request_spoiled(rng, one, rng.choice(valid)) if rng.random() < 0.7 else one for one in chosen]
    return _script(rng, name, parts)


def http(rng: random.Random) -> Script:
    """The HTTP door and the plain dialect."""
    return _http(rng, "http", _PLAIN)


def api(rng: random.Random) -> Script:
    """The HTTP API."""
    requests = []
    for _ in range(rng.choice((1, 2, 4))):
        method, body = rng.choice(corpus.API_CALLS)
        data = _json(rng, body)
        requests.append(corpus.request("POST", f"/api/{method}", data, **corpus.API_HEADERS))
    return _http(rng, "api", requests)


def batch_of_commands(rng: random.Random) -> Script:
    """``POST /connection/commands``."""
    requests = []
    for _ in range(rng.choice((1, 2))):
        is_protobuf = rng.random() < 0.4
        body = _commands(rng, is_protobuf=is_protobuf, count=rng.choice((1, 3, 8)))
        target = rng.choice(("/connection/commands", "/connection/commands?wait=0.05"))
        kind = corpus.PROTOBUF if is_protobuf else corpus.JSON
        requests.append(corpus.request("POST", target, body, Content_Type=kind))
    return _http(rng, "commands", requests)


def emulation(rng: random.Random) -> Script:
    """``POST /emulation``, for the stream of the batch."""
    is_protobuf = rng.random() < 0.4
    requests = []
    for _ in range(rng.choice((1, 3))):
        commands = _commands(rng, is_protobuf=False, count=rng.choice((1, 3)))
        try:
            body = corpus.emulation(commands, is_protobuf=is_protobuf)
        except UnicodeDecodeError:
            body = commands
        if rng.random() < 0.3:
            body = protobuf_spoiled(rng, body, commands) if is_protobuf else spoiled(rng, body, commands)
        kind = corpus.PROTOBUF if is_protobuf else corpus.JSON
        requests.append(corpus.request("POST", "/emulation", body, Content_Type=kind))
    return _http(rng, "emulation", requests)


def streams(rng: random.Random) -> Script:
    """``/connection/http_stream`` and ``/connection/sse``."""
    is_protobuf = rng.random() < 0.4
    body = _commands(rng, is_protobuf=is_protobuf, count=rng.choice((1, 1, 3)), connects=True)
    if rng.random() < 0.3:
        quoted = "".join(f"%{byte:02X}" for byte in body[:3000])
        return _http(rng, "sse", [corpus.request("GET", f"/connection/sse?cf_connect={quoted}")])
    target = rng.choice(("/connection/http_stream", "/connection/sse"))
    kind = corpus.PROTOBUF if is_protobuf else corpus.JSON
    parts = [corpus.request("POST", target, body, Content_Type=kind)]
    if rng.random() < 0.4:
        parts = [request_spoiled(rng, parts[0], body)]
    return _script(rng, "stream", parts)


def stream(rng: random.Random) -> Script:
    """A valid event stream, which `emulation` sends commands to."""
    body = b'{"id":1,"connect":{}}'
    steps = (corpus.request("POST", "/connection/http_stream", body), PAUSE)
    return Script("open stream", (*steps, CLOSE if rng.random() < 0.5 else RESET))


def _json(rng: random.Random, value: Any) -> bytes:
    if rng.random() < 0.5:
        return json_spoiled(rng, value)
    return json.dumps(value, separators=(",", ":")).encode()


def _commands(rng: random.Random, *, is_protobuf: bool, count: int, connects: bool | None = None) -> bytes:
    """Commands with ids, most of them valid, behind a `connect` or not."""
    known = corpus.commands()
    chosen = [rng.choice(known) for _ in range(count)]
    if rng.random() < 0.8 if connects is None else connects:
        chosen.insert(0, known[rng.randrange(3)])
    parts = [_command(rng, id, command, is_protobuf=is_protobuf) for id, command in enumerate(chosen, 1)]
    return b"".join(parts) if is_protobuf else b"\n".join(parts)


def _command(rng: random.Random, id: int, command: dict[str, Any], *, is_protobuf: bool) -> bytes:
    if is_protobuf:
        data = corpus.to_protobuf(id, command)
        return protobuf_spoiled(rng, data, b"\x22\x02\x0a\x00") if rng.random() < 0.3 else data
    value = {"id": id} | command
    if rng.random() < 0.7:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return json_spoiled(rng, value) if rng.random() < 0.7 else spoiled(rng, json.dumps(value).encode())


# -- WebSocket -----------------------------------------------------------------------------------------------


def plain_socket(rng: random.Random) -> Script:
    """WebSocket of the plain dialect."""
    messages = [rng.choice(corpus.PLAIN_MESSAGES) for _ in range(rng.choice((1, 3, 8)))]
    opcodes = [rng.choice((1, 1, 2)) for _ in messages]
    return _socket(rng, "plain socket", rng.choice(corpus.SOCKETS), list(zip(opcodes, messages, strict=True)))


def json_socket(rng: random.Random) -> Script:
    """WebSocket of the Centrifugal dialect, in JSON."""
    frames = [_commands(rng, is_protobuf=False, count=rng.choice((1, 3)), connects=True)]
    frames += [
        _commands(rng, is_protobuf=False, count=1, connects=False) for _ in range(rng.choice((0, 2, 8)))
    ]
    return _socket(rng, "json socket", "/connection/websocket", [(1, frame) for frame in frames])


def protobuf_socket(rng: random.Random) -> Script:
    """WebSocket of the Centrifugal dialect, in Protobuf."""
    frames = [_commands(rng, is_protobuf=True, count=rng.choice((1, 3)), connects=True)]
    frames += [
        _commands(rng, is_protobuf=True, count=1, connects=False) for _ in range(rng.choice((0, 2, 8)))
    ]
    return _socket(
        rng, "protobuf socket", "/connection/websocket?format=protobuf", [(2, frame) for frame in frames]
    )


def _socket(rng: random.Random, name: str, path: str, messages: list[tuple[int, bytes]]) -> Script:
    headers = {"Sec_WebSocket_Extensions": "permessage-deflate"} if rng.random() < 0.3 else {}
    opening = corpus.handshake(path, **headers)
    if rng.random() < 0.15:
        opening = request_spoiled(rng, opening, messages[0][1])
    share = rng.choice((0.0, 0.2, 0.6))
    parts = [opening]
    for opcode, message in messages:
        if rng.random() < share:
            parts.append(spoiled_frame(rng, opcode, message))
        else:
            parts.append(client_frame(rng, opcode, message))
    if rng.random() < 0.3:
        parts.append(client_frame(rng, 8, b"\x03\xe8"))
    return _script(rng, name, parts)


_PLAIN: Final = corpus.plain_requests()

FUZZERS: Final[dict[str, Callable[[random.Random], Script]]] = {
    "http": http,
    "api": api,
    "commands": batch_of_commands,
    "emulation": emulation,
    "streams": streams,
    "plain-socket": plain_socket,
    "json-socket": json_socket,
    "protobuf-socket": protobuf_socket,
}
