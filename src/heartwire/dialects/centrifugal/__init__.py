"""The Centrifugal dialect: many channels over one connection, as the public Centrifugal client protocol (v2)
says it.

Spec: `docs/centrifugal.md` for users; the clients are the official ones (centrifuge-js, centrifuge-python,
...), unchanged.

Who does what, and what each may rely on:

``types``      `Command` and its requests (decoded), `Info`, the results (encoded). One struct per message;
payloads stay bytes. ``codec``      the `Codec` protocol: bytes to commands, results to bytes.
``json_codec.JSON`` and ``protobuf_codec.PROTOBUF``
               are two. A *message* is one encoded reply or push (bytes, as the codec makes it; for
               Protobuf with its length prefix). A *frame* of the codec is several messages joined by
               `Codec.join`.
``port``       the `Port` protocol: what the session asks of the server (who is this, may they, read, follow,
publish, rpc ...),
               and the values that go over it: `Welcome`, `Rules`, `SubscriptionGrant`, `Refreshed`.
``session``    `Session`: the state machine of one connection, for every transport and codec. It gets bytes by
               ``receive(data, now)`` and writes messages to its `Outlet`; no sockets, no clock, no event
               loop, no randomness.
``subscribing``  the part of it that is about channels: subscribe, recover, unsubscribe, server-side
subscriptions, expiry. ``requests``   the part that only asks and answers: publish, presence, history, rpc,
send. ``format``     `PushFormat`: the `heartwire.core.link.WireFormat` of one codec on one transport.

**Transports** (WebSocket here; http_stream, SSE and emulation the same way):

1. make an `Outlet` (``write(messages)``, ``close(disconnect)``, ``paused``, ``backlog_bytes``) and
   `heartwire.server.centrifugal.connection.Connection` around it: it makes the `Session` and is what the
   hub's wheel pings;
2. give it what came in: ``wait = connection.receive(is_text, data)``. ``wait`` is ``None`` where all is done;
else await it before
   anything else is given (commands of one connection are dealt with one after the other, in order);
3. ``connection.lost()`` once when the peer is gone, or after ``Outlet.close``, whichever is first.

**Errors.** `heartwire.codes` is the one table. A `Refused` whose code has a ``number`` is an error reply with
it; `Disconnected` (``heartwire.dialects.centrifugal.port``) ends the connection with a ``close_code``. So
`Port` methods raise:

* ``Refused(name, text)`` / ``Forbidden`` / ``UnknownChannel``: an error reply; the connection lives;
* ``TokenExpired``: 109 (connect, subscribe), 3005 (refresh), 110 (sub_refresh);
* ``Unauthorized``: the token is bad: 3500 at connect, refresh and sub_refresh; 103 at subscribe;
* ``Disconnected(name, text)``: no reply, only the close.

**Tokens** are `heartwire.hub.tokens`' matter; their claims carry wall clock times, and the server's port
turns them into ``ttl_s``. The session never sees a wall clock.

**Answers that take time.** A `Port` method that is marked `Answer` returns its value, or an awaitable of it.
The session goes on at once with a value; it never makes a task. An awaitable that runs an application's
coroutine is a task of the server's, so that ``asyncio.timeout`` works in it.
"""

from heartwire.dialects.centrifugal.codec import Codec
from heartwire.dialects.centrifugal.format import PushFormat
from heartwire.dialects.centrifugal.json_codec import JSON, JsonCodec
from heartwire.dialects.centrifugal.port import (
    Answer,
    Disconnected,
    Outlet,
    Port,
    Refreshed,
    Rules,
    ServerSide,
    SubscriptionGrant,
    TokenExpired,
    Welcome,
)
from heartwire.dialects.centrifugal.protobuf_codec import PROTOBUF, ProtobufCodec
from heartwire.dialects.centrifugal.session import Limits, Phase, Session
from heartwire.dialects.centrifugal.subscribing import Follower

__all__ = [
    "JSON",
    "PROTOBUF",
    "Answer",
    "Codec",
    "Disconnected",
    "Follower",
    "JsonCodec",
    "Limits",
    "Outlet",
    "Phase",
    "Port",
    "ProtobufCodec",
    "PushFormat",
    "Refreshed",
    "Rules",
    "ServerSide",
    "Session",
    "SubscriptionGrant",
    "TokenExpired",
    "Welcome",
]
