"""What is said, as structs. One per message; a payload (``data``, ``conn_info`` ...) stays the bytes it came
as.

The omission rule: a field at its zero value is left out, both ways, but for those that say otherwise. Fields
that are not known are ignored; so a client may be newer than this file. Requests of features that are not
there (map and shared-poll subscriptions, tags filters) have just the fields that tell that they were asked
for.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw

__all__ = [
    "EMPTY",
    "UINT32",
    "ClientInfo",
    "Command",
    "ConnectRequest",
    "ConnectResult",
    "DisconnectBody",
    "Empty",
    "ErrorBody",
    "HistoryRequest",
    "HistoryResult",
    "MessageBody",
    "Payload",
    "PresenceResult",
    "PresenceStatsResult",
    "PublishRequest",
    "PublishResult",
    "RefreshRequest",
    "RefreshResult",
    "RpcRequest",
    "RpcResult",
    "SendRequest",
    "StreamPosition",
    "SubRefreshRequest",
    "SubscribeBody",
    "SubscribeRequest",
    "SubscribeResult",
    "UnsubscribeBody",
    "UnsubscribeRequest",
]

UINT32: Final = 2**32 - 1
Unsigned32 = Annotated[int, Meta(ge=0, le=UINT32)]
Unsigned64 = Annotated[int, Meta(ge=0)]

Payload = Raw
"""Bytes as they are: JSON text in the JSON codec, anything in Protobuf. Empty: there is none."""

EMPTY: Final = Raw(b"")


class _Request(msgspec.Struct, frozen=True, gc=False):
    pass


class StreamPosition(_Request, frozen=True):
    """Where a history page begins."""

    offset: Unsigned64 = 0
    epoch: str = ""


class SubscribeRequest(_Request, frozen=True):
    """``subscribe``, and the recovery positions of server-side subscriptions in ``connect``."""

    channel: str = ""
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: Unsigned64 = 0
    data: Payload = EMPTY
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    delta: str = ""
    tf: Payload = EMPTY  # tags filter
    flag: int = 0
    type: int = 0
    from_oldest: bool = (
        False  # ours: where the position cannot be continued, go on from the oldest that is kept
    )


class ConnectRequest(msgspec.Struct, frozen=True):
    """``connect``."""

    token: str = ""
    data: Payload = EMPTY
    subs: dict[str, SubscribeRequest] = {}
    name: str = ""
    version: str = ""
    headers: dict[str, str] = {}


class UnsubscribeRequest(_Request, frozen=True):
    """``unsubscribe``, ``presence`` and ``presence_stats``: all they say is a channel."""

    channel: str = ""


class PublishRequest(_Request, frozen=True):
    """``publish``. The last three are ours: servers that lack them ignore them.

    ``encoding`` says how JSON carries data that is no JSON; see `JsonCodec.post`. ``round``: see
    `requests.publish`.
    """

    channel: str = ""
    data: Payload = EMPTY
    type: int = 0
    key: str = ""
    idempotency_key: str = ""
    encoding: str = ""
    round: Unsigned64 = 0


class HistoryRequest(_Request, frozen=True):
    """``history``."""

    channel: str = ""
    limit: int = 0
    since: StreamPosition | None = None
    reverse: bool = False


class RpcRequest(_Request, frozen=True):
    """``rpc``."""

    method: str = ""
    data: Payload = EMPTY


class SendRequest(_Request, frozen=True):
    """``send``: a message without a reply."""

    data: Payload = EMPTY


class RefreshRequest(_Request, frozen=True):
    """``refresh``."""

    token: str = ""


class SubRefreshRequest(_Request, frozen=True):
    """``sub_refresh``. centrifuge-python 0.5.0 leaves the channel out."""

    channel: str = ""
    token: str = ""
    type: int = 0


class Empty(_Request, frozen=True):
    """A result, or a request, of which there is no more to say."""


class Command(msgspec.Struct, frozen=True):
    """What a client says: an id, and one of the methods. The first one present counts, in this order."""

    id: Unsigned32 = 0
    connect: ConnectRequest | None = None
    subscribe: SubscribeRequest | None = None
    unsubscribe: UnsubscribeRequest | None = None
    publish: PublishRequest | None = None
    presence: UnsubscribeRequest | None = None
    presence_stats: UnsubscribeRequest | None = None
    history: HistoryRequest | None = None
    ping: Empty | None = None
    rpc: RpcRequest | None = None
    send: SendRequest | None = None
    refresh: RefreshRequest | None = None
    sub_refresh: SubRefreshRequest | None = None


# -- what is answered ----------------------------------------------------------------------------------------


class _Result(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    pass


class ErrorBody(_Result, frozen=True):
    """An error reply's inside. ``message`` is always there: centrifuge-python raises without it."""

    code: int
    message: str
    temporary: bool = False


class ClientInfo(_Result, frozen=True):
    """Who a client is to others. ``user`` and ``client`` are always there."""

    user: str
    client: str
    conn_info: Payload | None = None
    chan_info: Payload | None = None


class SubscribeResult(_Result, frozen=True):
    """The reply to ``subscribe``, and a server-side subscription in the reply to ``connect``.

    ``publications`` are as `Codec.publication` made them.
    """

    expires: bool = False
    ttl: int = 0
    recoverable: bool = False
    epoch: str = ""
    publications: tuple[Payload, ...] = ()
    recovered: bool = False
    offset: int = 0
    positioned: bool = False
    data: Payload | None = None
    was_recovering: bool = False


class ConnectResult(_Result, frozen=True):
    """The reply to ``connect``. ``session`` and ``node`` are for transports whose other half is the emulation
    endpoint."""

    client: str
    version: str
    expires: bool = False
    ttl: int = 0
    data: Payload | None = None
    subs: dict[str, SubscribeResult] = {}
    ping: int = 0
    pong: bool = False
    session: str = ""
    node: str = ""


class PublishResult(_Result, frozen=True):
    """The reply to ``publish``: where it is kept. Both are ours."""

    epoch: str
    offset: int


class PresenceResult(msgspec.Struct, frozen=True):
    """``presence`` is always there, by client."""

    presence: dict[str, ClientInfo]


class PresenceStatsResult(msgspec.Struct, frozen=True, gc=False):
    """Both are always there."""

    num_clients: int
    num_users: int


class HistoryResult(msgspec.Struct, frozen=True):
    """All three are always there. ``publications`` are as `Codec.publication` made them."""

    publications: list[Payload]
    epoch: str
    offset: int


class RpcResult(_Result, frozen=True):
    """``data`` where the method has answered any."""

    data: Payload | None = None


class RefreshResult(_Result, frozen=True):
    """The reply to ``refresh`` and ``sub_refresh``, and the ``refresh`` push."""

    expires: bool = False
    ttl: int = 0


# -- what is pushed ------------------------------------------------------------------------------------------


class MessageBody(_Result, frozen=True):
    """The ``message`` push."""

    data: Payload


class UnsubscribeBody(msgspec.Struct, frozen=True, gc=False):
    """The ``unsubscribe`` push. Both are always there, and the reason is never empty: centrifuge-python dies
    without."""

    code: int
    reason: str


class DisconnectBody(msgspec.Struct, frozen=True, gc=False):
    """The ``disconnect`` push, on transports that have no close of their own. As `UnsubscribeBody`."""

    code: int
    reason: str


class SubscribeBody(_Result, frozen=True):
    """The ``subscribe`` push."""

    recoverable: bool = False
    epoch: str = ""
    offset: int = 0
    positioned: bool = False
    data: Payload | None = None
