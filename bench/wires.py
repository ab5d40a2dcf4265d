"""The protocol of each server, as command-line options of the load generator."""

from collections.abc import Mapping, Sequence
from typing import Final

PAYLOAD_BYTES: Final = 64

# Options per kind of work: "fanout", "each", "echo", "longpoll", "publish", "idle". The server does not do an
# absent kind. In paths and texts %d is the number of the connection; %n counts 1, 2, ... with each use on it.
Wire = Mapping[str, Sequence[str]]

PATHS: Final = ("--sub-path", "/sub", "--pub-path", "/pub")
BROADCAST: Final[Wire] = {"fanout": PATHS}
PLAIN: Final[Wire] = {"fanout": PATHS, "idle": PATHS, "echo": ("--sub-path", "/echo")}
FASTAPI: Final[Wire] = {**PLAIN, "publish": ("--post-path", "/pub/p%d", "--sub-path", "/sub/p%d")}

NCHAN: Final[Wire] = {
    "fanout": ("--sub-path", "/sub?id=bench", "--pub-path", "/pub?id=bench"),
    "idle": ("--sub-path", "/sub?id=bench"),
    "echo": ("--sub-path", "/echo?id=e%d"),
    "longpoll": ("--poll-path", "/poll?id=bench", "--poll-kind", "headers", "--post-path", "/pub?id=bench"),
    "publish": ("--post-path", "/pub?id=p%d", "--sub-path", "/sub?id=p%d"),
}

NCHAN_SSE: Final[Wire] = {
    "fanout": ("--stream", "--sub-path", "/events?id=bench", "--pub-path", "/pub?id=bench"),
    "idle-stream": ("--stream", "--sub-path", "/events?id=bench"),
}

# NATS: its text protocol inside WebSocket frames; the server may put many messages into one frame.
_NATS_CONNECT: Final = r'CONNECT {"verbose":false,"pedantic":false,"echo":true}\r\n'
_NATS_SUBSCRIBER: Final = (
    "--binary",
    "--ready",
    "PONG",
    "--hello",
    _NATS_CONNECT + r"SUB bench 1\r\nPING\r\n",
)
NATS: Final[Wire] = {
    "fanout": (
        *_NATS_SUBSCRIBER,
        *("--pub-hello", _NATS_CONNECT + r"PING\r\n", "--reply", r"PING\r\n=PONG\r\n"),
        *("--prefix", rf"PUB bench {PAYLOAD_BYTES}\r\n", "--suffix", r"\r\n"),
    ),
    "idle": _NATS_SUBSCRIBER,
    "echo": (
        *("--binary", "--ready", "PONG", "--hello", _NATS_CONNECT + r"SUB echo.%d 1\r\nPING\r\n"),
        *("--prefix", rf"PUB echo.%d {PAYLOAD_BYTES}\r\n", "--suffix", r"\r\n"),
    ),
}

# Engine.IO 4 over WebSocket: "40" joins the namespace, which answers 40{"sid":…}; "2" is a ping, "3" its
# answer.
_SOCKETIO_PATH: Final = "/socket.io/?EIO=4&transport=websocket"
_SOCKETIO: Final = (
    *("--sub-path", _SOCKETIO_PATH, "--pub-path", _SOCKETIO_PATH, "--reply", "2=3"),
    *("--hello", "40", "--pub-hello", "40", "--ready", "40{", "--suffix", '"]'),
)
_SOCKETIO_PUBLISH: Final = ("--prefix", '42["pub","')
SOCKETIO: Final[Wire] = {
    "fanout": (*_SOCKETIO, *_SOCKETIO_PUBLISH),
    "idle": _SOCKETIO,
    "each": (*_SOCKETIO, "--prefix", '42["each","'),
    "echo": (*_SOCKETIO, "--prefix", '42["echo","'),
    "longpoll": (
        *_SOCKETIO,
        *_SOCKETIO_PUBLISH,
        *("--poll-path", "/socket.io/?EIO=4&transport=polling", "--poll-kind", "eio"),
    ),
}

# Heartwire's plain dialect: a channel is a URL, a message is the body (docs/plain.md).
HEARTWIRE: Final[Wire] = {
    "fanout": ("--sub-path", "/channels/bench", "--pub-path", "/channels/bench?echo=0"),
    "idle": ("--sub-path", "/channels/bench"),
    "echo": ("--sub-path", "/channels/echo-%d"),
    "longpoll": (
        *("--poll-first", "/channels/bench", "--poll-path", "/channels/bench?wait=25&since="),
        *("--poll-kind", "json", "--post-path", "/channels/bench"),
    ),
    "publish": ("--post-path", "/channels/post-%d", "--sub-path", "/channels/post-%d"),
    "fairness": ("--sub-path", "/channels/echo-%d"),
}

HEARTWIRE_SSE: Final[Wire] = {
    "fanout": ("--stream", "--sub-path", "/channels/bench", "--pub-path", "/channels/bench?echo=0"),
    "idle-stream": ("--stream", "--sub-path", "/channels/bench"),
}

# Heartwire's Centrifugal dialect in JSON (docs/centrifugal.md): commands with growing ids, "{}" is a ping and
# its answer. A frame holds one message or several joined by newlines; payloads are found in pushes, and
# replies to publishes hold none.
_CENTRIFUGAL_CONNECT: Final = '{"id":%n,"connect":{"name":"bench"}}'
_CENTRIFUGAL: Final = (
    *("--sub-path", "/connection/websocket", "--pub-path", "/connection/websocket", "--reply", "{}={}"),
    *("--pub-hello", _CENTRIFUGAL_CONNECT, "--pub-ready", '"connect":{', "--ready", '"subscribe":{'),
    *("--suffix", '"}}'),
)


def _centrifugal(channel: str) -> tuple[str, ...]:
    """Return the options to subscribe (in the frame of the connect, as SDKs do) and to publish."""
    subscribe = _CENTRIFUGAL_CONNECT + r"\n" + f'{{"id":%n,"subscribe":{{"channel":"{channel}","flag":1}}}}'
    publish = f'{{"id":%n,"publish":{{"channel":"{channel}","data":"'
    return (*_CENTRIFUGAL, "--hello", subscribe, "--prefix", publish)


CENTRIFUGAL: Final[Wire] = {
    "fanout": _centrifugal("bench"),
    "idle": _centrifugal("bench"),
    "echo": _centrifugal("echo-%d"),
}

# A program's own publishes: it is asked by a Socket.IO event to publish to each channel of the plain dialect.
PROGRAM: Final[Wire] = {
    "each": (
        *("--sub-path", "/channels/each-%d", "--pub-path", _SOCKETIO_PATH, "--reply", "2=3"),
        *("--pub-hello", "40", "--pub-ready", "40{", "--prefix", '42["publish","', "--suffix", '"]'),
    )
}
