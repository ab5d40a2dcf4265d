"""A small synchronous client of the plain dialect, for scripts and the command line."""

import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from websockets.exceptions import ConnectionClosed as SocketClosed
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from heartwire.client.retry import Backoff
from heartwire.errors import ClosedAbnormally, ConfigError, ConnectionClosed, HeartwireError, ProtocolError, Refused

__all__ = ["Received", "Transport", "follow", "publish"]

Transport = Literal["auto", "websocket", "sse", "longpoll", "poll"]

_WAIT_S: Final = 25
_TIMEOUT_S: Final = 35
_POLL_PAUSE_S: Final = 1.0


class Received(NamedTuple):
    """Something a reader got: a publication (``data`` as JSON carries it), word of a gap, or only where it now stands."""

    position: str
    kind: Literal["publication", "gap", "position"] = "position"
    data: Any = None
    is_bytes: bool = False


def publish(base: str, channel: str, data: bytes, *, is_text: bool = True, idempotency_key: str | None = None) -> str:
    """Publish and return the position. Raises `Refused` (the server said no) or `ClosedAbnormally` (it could not be reached)."""
    headers = {"Content-Type": "text/plain; charset=utf-8" if is_text else "application/octet-stream"}
    if idempotency_key is not None:
        headers["Idempotency-Key"] = idempotency_key
    position: str = _request(base, "POST", _path(base, channel), data, headers)["position"]
    return position


def follow(
    base: str,
    channel: str,
    *,
    transport: Transport = "auto",
    since: str | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[Received]:
    """Follow a channel for ever, across reconnections, each publication once.

    ``note`` is told what happens to the connection. "auto" tries WebSocket, then SSE, then long polling.
    Raises `Refused` or `ConnectionClosed` for what a retry cannot mend.
    """
    ladder = [_websocket, _sse, _longpoll] if transport == "auto" else [_TRANSPORTS[transport]]
    backoff = Backoff()
    rung = 0
    while True:
        reason = "the server ended it"
        try:
            for received in ladder[rung](base, channel, since):
                backoff.reset()
                since = received.position
                if received.kind != "position":
                    yield received
        except (Refused, ConnectionClosed, ProtocolError) as error:
            if not error.retry and not isinstance(error, ProtocolError):
                raise
            reason = str(error)
        if backoff.failures and rung + 1 < len(ladder):
            rung += 1
            note(f"{reason}; trying {ladder[rung].__name__.lstrip('_')}")
        delay_s = backoff.next_s()
        note(f"{reason}; again in {delay_s:.1f} s")
        time.sleep(delay_s)


def _websocket(base: str, channel: str, since: str | None) -> Iterator[Received]:
    _connection(base, timeout_s=_TIMEOUT_S)  # checks the URL
    query = {"format": "json"} | ({"since": since} if since else {})
    url = f"{base.rstrip('/').replace('http', 'ws', 1)}/channels/{quote(channel, safe='')}?{urlencode(query)}"
    try:
        with connect(url, ping_interval=25, ping_timeout=10, max_size=None, open_timeout=10) as socket:
            for frame in socket:
                message = json.loads(frame)
                if "error" in message:
                    raise _refused(message["error"])
                yield _received(message)
    except SocketClosed as error:
        if error.rcvd is None:
            raise ClosedAbnormally("connection lost") from error
        raise ConnectionClosed(error.rcvd.code, error.rcvd.reason) from error
    except (OSError, WebSocketException) as error:
        raise ClosedAbnormally(f"WebSocket: {error}") from error


def _sse(base: str, channel: str, since: str | None) -> Iterator[Received]:
    headers = {"Accept": "text/event-stream"}
    query = {"format": "json"} | ({"since": since} if since else {})
    connection = _connection(base, timeout_s=_TIMEOUT_S)
    try:
        connection.request("GET", _path(base, channel, query), headers=headers)
        response = connection.getresponse()
        if response.status != 200:
            raise _refused(json.loads(response.read())["error"])
        event: dict[str, str] = {}
        for line in response:
            field, _, value = line.decode().rstrip("\r\n").partition(": ")
            if field:
                event[field] = f"{event[field]}\n{value}" if field == "data" and "data" in event else value
                continue
            if "data" in event:
                yield _received(json.loads(event["data"]))
            elif "id" in event:
                yield Received(event["id"])
            event = {}
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ClosedAbnormally(f"SSE: {error}") from error
    finally:
        connection.close()


def _longpoll(base: str, channel: str, since: str | None) -> Iterator[Received]:
    return _polls(base, channel, since, {"wait": str(_WAIT_S)}, 0)


def _poll(base: str, channel: str, since: str | None) -> Iterator[Received]:
    return _polls(base, channel, since, {}, _POLL_PAUSE_S)


def _polls(base: str, channel: str, since: str | None, query: dict[str, str], pause_s: float) -> Iterator[Received]:
    while True:
        # The first is short, to learn where we are: news during a long one that fails would be lost.
        given = (query | {"since": since}) if since else {}
        page = _request(base, "GET", _path(base, channel, given), None, {})
        if not page["recovered"]:
            yield Received(page["position"], "gap")
        for item in page["publications"]:
            yield _received(item)
        since = page["position"]
        yield Received(page["position"])
        if not page["publications"]:
            time.sleep(pause_s)


_TRANSPORTS: Final = {"websocket": _websocket, "sse": _sse, "longpoll": _longpoll, "poll": _poll}


def _received(item: dict[str, Any]) -> Received:
    if "position" not in item:
        raise ProtocolError(f"no position in {str(item)[:100]}: is this a Heartwire channel?")
    if "data" not in item:
        return Received(item["position"], "position" if item.get("recovered", True) else "gap")
    return Received(item["position"], "publication", item["data"], is_bytes=item.get("encoding") == "base64")


def _request(base: str, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Any:
    connection = _connection(base, timeout_s=_TIMEOUT_S)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ClosedAbnormally(f"{base}: {error}") from error
    finally:
        connection.close()
    if "error" in answer:
        raise _refused(answer["error"])
    return answer


def _refused(error: dict[str, Any]) -> HeartwireError:
    try:
        return Refused(error["code"], error["message"], after_s=error.get("retry_after_s"))
    except (KeyError, TypeError):
        return ProtocolError(f"the server answered {str(error)[:200]}")


def _connection(base: str, *, timeout_s: float) -> http.client.HTTPConnection:
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("URL", base, "http://HOST:PORT or https://HOST:PORT")
    if parts.scheme == "https":
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout_s, context=ssl.create_default_context())
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)


def _path(base: str, channel: str, query: dict[str, str] | None = None) -> str:
    path = f"{urlsplit(base).path.rstrip('/')}/channels/{quote(channel, safe='')}"
    return f"{path}?{urlencode(query)}" if query else path
