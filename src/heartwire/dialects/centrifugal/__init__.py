"""The Centrifugal dialect: many channels over one connection, by the public Centrifugal client protocol (v2).

Spec: `docs/centrifugal.md` for users; the clients are the official ones (centrifuge-js, centrifuge-python,
...), unchanged.

Values and seams:

* ``types``: one struct per request, result and push; payloads stay bytes.
* ``values``: what sessions and the server exchange (`Welcome`, `Rules`, `SubscriptionGrant`, ...), and the
  exceptions between them.
* ``codec``: the `Codec` protocol; ``json_codec`` and ``protobuf_codec`` implement it. A *message* is one
  encoded reply or push (for Protobuf with its length prefix); a *frame* is several messages joined by
  `Codec.join`.
* ``format``: `PushFormat`, the `heartwire.core.link.WireFormat` of one codec on one transport.
* ``port``: `Port`, what the session asks of the server, and `Outlet`, where it writes.

One connection, without sockets, clock, event loop or randomness:

* ``state``: `SessionState`, its phases, queue, deadlines and end, and `ClientSubscription`.
* ``connecting``, ``subscribing``, ``publishing``, ``requests``: the handlers of commands, plain functions
  over `SessionState`.
* ``session``: `Session`, which takes frames, calls the handlers, answers the liveness wheel, and obeys the
  server.

A transport (WebSocket, http_stream, SSE, emulation):

1. makes a `heartwire.server.centrifugal.connection.Connection` around its link: the `Outlet` of a `Session`,
   which the hub's wheel pings;
2. gives it what came in: ``wait = connection.receive(is_text, data)``, and awaits ``wait``, unless it is
   ``None``, before it gives anything else: commands of one connection are handled in order;
3. calls ``connection.lost()`` once, when the peer is gone or after ``Outlet.close``, whichever is first.

Errors: `heartwire.codes` is the one table. `Port` methods raise:

* ``Refused(name, text)``, ``Forbidden``, ``UnknownChannel``: an error reply with the code's ``number``; the
  connection lives;
* ``TokenExpired``: 109 (connect, subscribe), 3005 (refresh), 110 (sub_refresh);
* ``Unauthorized``: the token is bad: 3500 at connect, refresh and sub_refresh; 103 at subscribe;
* ``Disconnected(name, text)``: no reply; the connection ends with the code's ``close_code``.

Tokens carry wall clock times; the server's port turns them into ``ttl_s`` (`heartwire.hub.tokens`), and the
session never sees a wall clock.

A `Port` method that is marked `Answer` returns its value, or an awaitable of it. With a value the session
goes on at once; it never makes a task. An awaitable that runs an application's coroutine is a task of the
server's, so that ``asyncio.timeout`` works in it.
"""

from heartwire.dialects.centrifugal.codec import Codec
from heartwire.dialects.centrifugal.format import PushFormat
from heartwire.dialects.centrifugal.json_codec import JSON
from heartwire.dialects.centrifugal.port import Port
from heartwire.dialects.centrifugal.protobuf_codec import PROTOBUF, ProtobufCodec
from heartwire.dialects.centrifugal.session import Session
from heartwire.dialects.centrifugal.state import ClientSubscription, Phase
from heartwire.dialects.centrifugal.values import (
    Answer,
    Disconnected,
    Refreshed,
    Rules,
    SessionSettings,
    SubscriptionGrant,
    TokenExpired,
    Welcome,
)

__all__ = [
    "JSON",
    "PROTOBUF",
    "Answer",
    "ClientSubscription",
    "Codec",
    "Disconnected",
    "Phase",
    "Port",
    "ProtobufCodec",
    "PushFormat",
    "Refreshed",
    "Rules",
    "Session",
    "SessionSettings",
    "SubscriptionGrant",
    "TokenExpired",
    "Welcome",
]
