"""Plain clients for integration tests: HTTP, streams and WebSockets, byte by byte."""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from websockets.sync.client import ClientConnection, connect

TIMEOUT_S = 10.0
"""The longest any answer may take; a test that waits for it has failed."""


class Answer(NamedTuple):
    """An HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str, str, bool]:
        """Status, code, message, retry."""
        error = self.json["error"]
        return self.status, error["code"], error["message"], error["retry"]


def request(
    url: str,
    method: str,
    path: str,
    body: bytes | str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on a connection of its own."""
    with contextlib.closing(http.client.HTTPConnection(_host(url), timeout=TIMEOUT_S * 3)) as connection:
        return ask(connection, method, path, body, headers)


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on a connection that is kept."""
    connection.request(method, path, body.encode() if isinstance(body, str) else body, dict(headers or {}))
    return _answer(connection.getresponse())


def _answer(response: http.client.HTTPResponse) -> Answer:
    return Answer(
        response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    )


def get(url: str, path: str, **headers: str) -> Answer:
    """GET; header names with ``_`` for ``-``."""
    return request(
        url, "GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def post(
    url: str, channel: str, body: bytes | str, content_type: str | None = "text/plain", **headers: str
) -> Answer:
    """Publish."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if content_type is not None:
        given["Content-Type"] = content_type
    return request(url, "POST", f"/channels/{channel}", body, given)


def publish(url: str, channel: str, body: bytes | str, **headers: str) -> str:
    """Publish text (or bytes, as bytes) and return the position."""
    answer = post(
        url, channel, body, "text/plain" if isinstance(body, str) else "application/octet-stream", **headers
    )
    assert answer.status == 200, answer
    position: str = answer.json["position"]
    return position


def ws(url: str, path: str, **options: Any) -> ClientConnection:
    """A WebSocket; close it, or use it in a ``with``."""
    options = {"max_size": None, "ping_interval": None, "proxy": None, "compression": None} | options
    # Entered here: websockets 17 warns of a connection that is used outside of a `with`.
    return connect(url.replace("http", "ws", 1) + path, **options).__enter__()


def present(url: str, channel: str) -> list[str]:
    """The client ids in a channel's presence."""
    answer = get(url, f"/channels/{channel}/presence")
    assert answer.status == 200, answer
    return [member["client"] for member in answer.json["presence"]]


class Event(NamedTuple):
    """A server-sent event, as the WHATWG parser dispatches it; ``data`` is None for a block that has none."""

    event: str
    data: str | None
    id: str


class Stream:
    """An event stream. Iterate for its blocks, those without data too; ``comments`` and ``retry_ms`` are what
    came by."""

    def __init__(self, url: str, path: str, headers: Mapping[str, str] | None = None) -> None:
        self._connection = http.client.HTTPConnection(_host(url), timeout=TIMEOUT_S)
        self._connection.request("GET", path, headers={"Accept": "text/event-stream", **(headers or {})})
        assert isinstance(self._connection.sock, socket.socket)
        self.sock = self._connection.sock
        self._response = self._connection.getresponse()
        self.status = self._response.status
        self.headers = {name.lower(): value for name, value in self._response.getheaders()}
        self.comments: list[str] = []
        self.retry_ms: int | None = None
        self.id = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._response.close()
        self._connection.close()

    @property
    def refusal(self) -> Answer:
        """The answer, where it is not a stream."""
        return Answer(self.status, self.headers, self._response.read())

    def __iter__(self) -> Iterator[Event]:
        assert self.status == 200, self.refusal
        data: list[str] = []
        event, has_fields = "message", False
        for raw in self._response:
            line = raw.decode().removesuffix("\n")
            if line == "":
                if has_fields:
                    yield Event(event, "\n".join(data) if data else None, self.id)
                event, data, has_fields = "message", [], False
            elif line.startswith(":"):
                self.comments.append(line[1:].strip())
            else:
                field, _, value = line.partition(": ")
                has_fields |= field in ("id", "event", "data")
                match field:
                    case "id":
                        self.id = value
                    case "event":
                        event = value
                    case "data":
                        data.append(value)
                    case "retry":
                        self.retry_ms = int(value)

    def joined(self) -> str:
        """Read the first block, which tells where the stream begins; its position."""
        first = next(iter(self))
        assert first.data is None, first
        return first.id

    def events(self, count: int) -> list[Event]:
        """The next ``count`` events that have data."""
        events: list[Event] = []
        for event in self:
            if event.data is not None:
                events.append(event)
                if len(events) == count:
                    break
        return events


class Raw:
    """A TCP connection on which the test writes every byte itself."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.sock = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=TIMEOUT_S)
        self.buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes | str) -> None:
        self.sock.sendall(data.encode("latin-1") if isinstance(data, str) else data)

    def until(self, mark: bytes) -> bytes:
        """Read up to and with ``mark``."""
        while mark not in self.buffer:
            data = self.sock.recv(65536)
            assert data, f"closed after {self.buffer!r}"
            self.buffer += data
        got, found, self.buffer = self.buffer.partition(mark)
        return got + found

    def exactly(self, size: int) -> bytes:
        """Read ``size`` bytes."""
        while len(self.buffer) < size:
            data = self.sock.recv(65536)
            assert data, f"closed after {self.buffer!r}"
            self.buffer += data
        got, self.buffer = self.buffer[:size], self.buffer[size:]
        return got

    def rest(self) -> bytes:
        """Read to the end."""
        while data := self.sock.recv(65536):
            self.buffer += data
        got, self.buffer = self.buffer, b""
        return got

    def answer(self) -> Answer:
        """Read an HTTP answer that has a Content-Length."""
        head = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
        }
        return Answer(int(head[0].split()[1]), headers, self.exactly(int(headers.get("content-length", "0"))))

    def frame(self) -> tuple[int, bytes]:
        """Read a WebSocket frame: opcode and payload."""
        first, second = self.exactly(2)
        size = second & 127
        if size == 126:
            size = int.from_bytes(self.exactly(2))
        elif size == 127:
            size = int.from_bytes(self.exactly(8))
        assert first & 0x80, "a fragment"
        return first & 15, self.exactly(size)


KEY = "x3JJHMbDL1EzLkh9GBhXDw=="
"""The key of RFC 6455 1.2's sibling example (MDN); its accept is HSmrc0sMlYUkAGmm5OPpG2HaGWk=."""


def handshake(
    url: str, path: str, *, key: str | None = KEY, version: str | None = "13", **headers: str
) -> str:
    """A WebSocket handshake request."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {_host(url)}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Key: {key}"] if key is not None else []
    lines += [f"Sec-WebSocket-Version: {version}"] if version is not None else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines) + "\r\n\r\n"


def frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """A client's frame, masked with zeros, which leaves the payload readable."""
    size = len(payload)
    head = bytes([opcode | (0x80 if fin else 0)])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += bytes([0x80 | 126]) + size.to_bytes(2)
    else:
        head += bytes([0x80 | 127]) + size.to_bytes(8)
    return head + bytes(4) + payload


def until(condition: Callable[[], Any], *, within_s: float = TIMEOUT_S) -> float:
    """Ask again and again until the answer is true; the seconds that took. Fails after ``within_s``."""
    began = time.monotonic()
    pause = threading.Event()
    while not condition():
        taken_s = time.monotonic() - began
        assert taken_s < within_s, f"not so within {within_s} s"
        pause.wait(0.02)
    return time.monotonic() - began


class Task(threading.Thread):
    """A function that runs beside the test; ``result()`` is what it returned, or raises what it raised."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._value: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._value = self._function()
        except BaseException as error:  # given to whoever asks for the result
            self._error = error

    def result(self, within_s: float = 30) -> Any:
        self.join(within_s)
        assert not self.is_alive(), "still running"
        if self._error is not None:
            raise self._error
        return self._value


def _host(url: str) -> str:
    return urlsplit(url).netloc
