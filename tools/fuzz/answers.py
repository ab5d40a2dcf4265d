"""Judges what a server sent on one connection: HTTP answers, then perhaps the frames of a WebSocket. Pure."""

import json
import re
import zlib
from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple

from google.protobuf.message import DecodeError

from heartwire.codes import CODES
from heartwire.dialects.centrifugal import client_pb2 as pb
from heartwire.dialects.centrifugal.protobuf_codec import split

__all__ = ["Answer", "End", "answers", "close_codes", "faults"]

End = Literal["server", "client"]
"""Who ended the connection; "client" also where it has sent its end of the stream."""

_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3}) [\x20-\x7e]*")
_HEADER: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ?([\t\x20-\x7e\x80-\xff]*)")
_STREAMS: Final = (b"text/event-stream", b"application/x-ndjson", b"application/octet-stream")
_CLOSE_CODES: Final = {code.close_code for code in CODES.values()} | {1000, 1002, 4000}
"""4000 is what the corpus has the HTTP API say."""
_ELSEWHERE: Final = b"Failed to open a WebSocket connection: "
"""A bad handshake to a path that is not ours is answered by uvicorn."""

_NUMBERS: Final = {code.number for code in CODES.values() if code.number}
_ALLOWED_STATUS: Final = {code.http_status for code in CODES.values()} | {100, 101, 200, 204, 206, 304, 307}


class Malformed(Exception):
    """The bytes are not what the protocol asks for."""


class Answer(NamedTuple):
    """One HTTP answer. ``is_whole``: its end has come."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    is_whole: bool


def faults(sent: bytes, got: bytes, end: End) -> list[str]:
    """What is wrong with what a server sent; an empty list where nothing is."""
    problems: list[str] = []
    try:
        for answer, rest in answers(sent, got):
            problems += _answer_faults(answer, end)
            if answer.status == 101:
                problems += _socket_faults(sent, answer, rest)
    except (Malformed, ValueError) as error:
        problems.append(f"{error}")
    return problems


# -- HTTP ----------------------------------------------------------------------------------------------------


def answers(sent: bytes, got: bytes) -> Iterator[tuple[Answer, bytes]]:
    """The answers, each with the bytes after it; the last one is 101, or not whole, or the end.

    Raises `Malformed`.
    """
    while got:
        head, mark, rest = got.partition(b"\r\n\r\n")
        if not mark:
            raise Malformed(f"half of an answer's head: {got[:200]!r}")
        status, headers = _head(head)
        body, is_whole, got = _body(status, headers, rest, may_lack=b"HEAD " in sent)
        yield Answer(status, headers, body, is_whole), got
        if status == 101 or not is_whole:
            return


def _head(head: bytes) -> tuple[int, dict[bytes, bytes]]:
    line, *lines = head.split(b"\r\n")
    matched = _STATUS.fullmatch(line)
    if matched is None:
        raise Malformed(f"a status line: {line[:200]!r}")
    headers: dict[bytes, bytes] = {}
    for field in lines:
        found = _HEADER.fullmatch(field)
        if found is None:
            raise Malformed(f"a header line: {field[:200]!r}")
        name = found[1].lower()
        if name in headers and name in (b"content-length", b"transfer-encoding", b"content-type"):
            raise Malformed(f"a header twice: {field[:200]!r}")
        headers[name] = found[2]
    return int(matched[1]), headers


def _body(
    status: int, headers: dict[bytes, bytes], rest: bytes, *, may_lack: bool
) -> tuple[bytes, bool, bytes]:
    """A body, whether it is whole, and what follows it."""
    if status in (100, 101, 204, 304):
        return b"", True, rest
    if may_lack and (not rest or rest.startswith(b"HTTP/1.1 ")):
        return b"", True, rest
    if headers.get(b"transfer-encoding") == b"chunked":
        return _chunks(rest)
    if b"content-length" not in headers:
        return rest, headers.get(b"connection") == b"close", b""
    size = int(headers[b"content-length"])
    return rest[:size], len(rest) >= size, rest[size:]


def _chunks(data: bytes) -> tuple[bytes, bool, bytes]:
    body = b""
    while True:
        line, mark, rest = data.partition(b"\r\n")
        if not mark:
            return body, False, b""
        size = int(line, 16)
        if len(rest) < size + 2:
            return body + rest[:size], False, b""
        body += rest[:size]
        if rest[size : size + 2] != b"\r\n":
            raise Malformed(f"a chunk's end: {rest[size : size + 20]!r}")
        data = rest[size + 2 :]
        if not size:
            return body, True, data


def _answer_faults(answer: Answer, end: End) -> Iterator[str]:
    status, body = answer.status, answer.body
    if status not in _ALLOWED_STATUS or status == CODES["internal"].http_status:
        yield f"status {status}: {body[:300]!r}"
    if end == "server" and not answer.is_whole and not _is_stream(answer):
        yield f"an answer that is cut: {status} {body[:100]!r}"
    if not answer.is_whole or not body:
        return
    if status >= 400 and not body.startswith(_ELSEWHERE):
        yield from _error_faults(status, body)
    elif answer.headers.get(b"content-type", b"").startswith(b"application/json"):
        yield from _api_faults(body)


def _is_stream(answer: Answer) -> bool:
    return answer.headers.get(b"content-type", b"").startswith(_STREAMS)


def _error_faults(status: int, body: bytes) -> Iterator[str]:
    try:
        error = _loaded(body)["error"]
        code = CODES[error["code"]]
        if code.http_status != status or error["retry"] is not code.retry or not error["message"]:
            yield f"an error that the table does not know: {status} {body[:300]!r}"
    except (ValueError, KeyError, TypeError):
        yield f"an error that is not ours: {status} {body[:300]!r}"


def _api_faults(body: bytes) -> Iterator[str]:
    error = _loaded(body).get("error")
    if error is not None and (error["code"] not in _NUMBERS or error["code"] == 100 or not error["message"]):
        yield f"an error of the API: {body[:300]!r}"


def _loaded(data: bytes | str) -> Any:
    """JSON as RFC 8259 has it: no NaN, and UTF-8."""

    def refuse(constant: str) -> None:
        raise Malformed(f"{constant} is not JSON: {data[:200]!r}")

    text = data.decode() if isinstance(data, bytes) else data
    try:
        # Numbers may be longer than Python reads; those that are judged are short.
        return json.loads(text, parse_constant=refuse, parse_int=lambda digits: int(digits[:20]))
    except RecursionError:
        return {}  # as deep as a publication may be, and deeper than Python reads here


# -- WebSocket -----------------------------------------------------------------------------------------------


class _Frame(NamedTuple):
    first: int
    payload: bytes


def _socket_faults(sent: bytes, answer: Answer, data: bytes) -> Iterator[str]:
    if len(answer.headers.get(b"sec-websocket-accept", b"")) != 28:
        yield f"a handshake without its accept: {answer.headers!r}"
    may_deflate = b"permessage-deflate" in answer.headers.get(b"sec-websocket-extensions", b"")
    frames = list(_frames(data))
    for index, frame in enumerate(frames):
        opcode = frame.first & 15
        if not frame.first & 0x80 or frame.first & 0x30 or opcode not in (1, 2, 8, 9, 10):
            yield f"a frame that begins with {frame.first:#x}"
        elif opcode == 8:
            yield from _close_faults(frame.payload, close_codes(sent))
            # uvicorn, on paths that are not ours, still sends pongs; RFC 6455 5.5.1 is about data frames.
            if later := [one for one in frames[index + 1 :] if one.first & 15 not in (9, 10)]:
                yield f"after the close: {later[0]!r}"
        elif opcode in (1, 2):
            payload = _inflated(frame, may_deflate=may_deflate)
            yield from _message_faults(sent, payload, is_text=opcode == 1)


def _frames(data: bytes) -> Iterator[_Frame]:
    """The server's whole frames."""
    while len(data) >= 2:
        size, start = data[1], 2
        if size & 0x80:
            raise Malformed("a server must not mask (RFC 6455 5.1)")
        if size > 125:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start])
        if len(data) < start + size:
            return
        yield _Frame(data[0], data[start : start + size])
        data = data[start + size :]


def _inflated(frame: _Frame, *, may_deflate: bool) -> bytes:
    if not frame.first & 0x40:
        return frame.payload
    if not may_deflate:
        raise Malformed("a compressed frame, which was not agreed on")
    return zlib.decompressobj(wbits=-15).decompress(frame.payload + b"\x00\x00\xff\xff")


def _close_faults(payload: bytes, echoes: set[int]) -> Iterator[str]:
    code, reason = int.from_bytes(payload[:2]), payload[2:].decode()
    if payload and (len(payload) < 2 or len(reason.encode()) > 123):
        yield f"a close frame of {payload!r}"
    if payload and code not in _CLOSE_CODES | echoes:
        yield f"close code {code} {reason!r}"
    if code == CODES["internal"].close_code and "refused" not in reason:
        yield f"closed with {code} {reason!r}"


def close_codes(sent: bytes) -> set[int]:
    """The codes of a client's close frames, which a server may send back."""
    data = sent[sent.find(b"\r\n\r\n") + 4 :]
    found = set()
    while len(data) >= 2:
        size, start = data[1] & 127, 6 if data[1] & 0x80 else 2
        if size > 125:
            extra = 2 if size == 126 else 8
            size = int.from_bytes(data[2 : 2 + extra])
            start += extra
        if data[0] & 15 == 8 and data[1] & 0x80 and len(data) >= start + 2:
            found.add(
                int.from_bytes(bytes((data[start] ^ data[start - 4], data[start + 1] ^ data[start - 3])))
            )
        data = data[start + size :]
    return found


def _message_faults(sent: bytes, payload: bytes, *, is_text: bool) -> Iterator[str]:
    """Messages of the Centrifugal dialect are read; those of the plain one are whatever was published."""
    if is_text:
        payload.decode()
    target = sent.split(b" ", 2)[1]
    if not target.startswith(b"/connection/websocket"):
        return
    for reply in _replies(payload) if is_text else _protobuf_replies(payload):
        error = reply.get("error")
        if error is not None and (error.get("code") not in _NUMBERS or error["code"] == 100):
            yield f"an error reply: {reply!r:.300}"
        ending = reply.get("push", {}).get("disconnect", {})
        if ending.get("code", 3000) not in _CLOSE_CODES:
            yield f"a disconnect: {ending!r}"


def _replies(payload: bytes) -> Iterator[dict[str, Any]]:
    for line in payload.split(b"\n"):
        reply = _loaded(line)
        if not isinstance(reply, dict):
            raise Malformed(f"a reply: {line[:200]!r}")
        yield reply


def _protobuf_replies(payload: bytes) -> Iterator[dict[str, Any]]:
    for message in split(payload):
        try:
            reply = pb.Reply.FromString(message)
        except DecodeError as error:
            raise Malformed(f"a reply: {message[:200]!r}: {error}") from None
        yield {"error": {"code": reply.error.code}} if reply.HasField("error") else {}
