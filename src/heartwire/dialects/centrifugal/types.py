"""Requests, results and pushes, as structs. A payload (``data``, ``conn_info`` ...) stays bytes as it came.

The omission rule: a field at its zero value is left out, both ways; exceptions say so. Unknown fields are
ignored, so that a client may be newer than this file. Requests of features that are not supported (map and
shared-poll subscriptions, tags filters) have just the fields by which they are recognised.
"""

from typing import Annotated, Final, NamedTuple

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
    "Fault",
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
"""Bytes as they are: JSON text in the JSON codec, any bytes in Protobuf. Empty: none was sent."""

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
    # Ours: where the position cannot be continued, go on from the oldest publication that is kept.
    from_oldest: bool = False


class ConnectRequest(msgspec.Struct, frozen=True):
    token: str = ""
    data: Payload = EMPTY
    subs: dict[str, SubscribeRequest] = {}
    name: str = ""
    version: str = ""
    headers: dict[str, str] = {}


class UnsubscribeRequest(_Request, frozen=True):
    """``unsubscribe``, ``presence`` and ``presence_stats``: a channel only."""

    channel: str = ""


class PublishRequest(_Request, frozen=True):
    """``publish``. The last three are ours: servers that lack them ignore them.

    ``encoding``: how JSON carries data that is not JSON; see `JsonCodec.post`. ``round``: see `publishing`.
    """

    channel: str = ""
    data: Payload = EMPTY
    type: int = 0
    key: str = ""
    idempotency_key: str = ""
    encoding: str = ""
    round: Unsigned64 = 0


class HistoryRequest(_Request, frozen=True):
    channel: str = ""
    limit: int = 0
    since: StreamPosition | None = None
    reverse: bool = False


class RpcRequest(_Request, frozen=True):
    method: str = ""
    data: Payload = EMPTY


class SendRequest(_Request, frozen=True):
    """``send``: a message without a reply."""

    data: Payload = EMPTY


class RefreshRequest(_Request, frozen=True):
    token: str = ""


class SubRefreshRequest(_Request, frozen=True):
    """``sub_refresh``. centrifuge-python 0.5.0 leaves the channel out."""

    channel: str = ""
    token: str = ""
    type: int = 0


class Empty(_Request, frozen=True):
    """A result or a request without fields."""


class Command(msgspec.Struct, frozen=True):
    """A client's command: an id, and one of the methods. The first one present counts, in this order."""

    id: Unsigned32 = 0
    connect: ConnectRequest | None = None
    publish: PublishRequest | None = None
    subscribe: SubscribeRequest | None = None
    unsubscribe: UnsubscribeRequest | None = None
    presence: UnsubscribeRequest | None = None
    presence_stats: UnsubscribeRequest | None = None
    history: HistoryRequest | None = None
    ping: Empty | None = None
    rpc: RpcRequest | None = None
    send: SendRequest | None = None
    refresh: RefreshRequest | None = None
    sub_refresh: SubRefreshRequest | None = None


class Fault(NamedTuple):
    """A command whose arguments cannot be read, though its id can: ``why`` is for its reply."""

    id: int
    why: str


# -- results ------------------------------------------------------------------------------------------------


class _Result(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    pass


class ErrorBody(_Result, frozen=True):
    """An error reply's inside. ``message`` is always present: centrifuge-python raises without it."""

    code: int
    message: str
    temporary: bool = False


class ClientInfo(_Result, frozen=True):
    """A client, as others see it. ``user`` and ``client`` are always present."""

    user: str
    client: str
    conn_info: Payload | None = None
    chan_info: Payload | None = None


class SubscribeResult(_Result, frozen=True):
    """For server-side subscriptions, too. ``publications`` are as `Codec.publication` made them."""

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
    """``session`` and ``node`` are for transports whose other half is the emulation endpoint."""

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
    """The reply to ``publish``: its position. Both fields are ours."""

    epoch: str
    offset: int


class PresenceResult(msgspec.Struct, frozen=True):
    """``presence``, by client, is always present."""

    presence: dict[str, ClientInfo]


class PresenceStatsResult(msgspec.Struct, frozen=True, gc=False):
    """Both are always present."""

    num_clients: int
    num_users: int


class HistoryResult(msgspec.Struct, frozen=True):
    """All three are always present. ``publications`` are as `Codec.publication` made them."""

    publications: list[Payload]
    epoch: str
    offset: int


class RpcResult(_Result, frozen=True):
    """``data``: the method's answer, if any."""

    data: Payload | None = None


class RefreshResult(_Result, frozen=True):
    """The reply to ``refresh`` and ``sub_refresh``, and the ``refresh`` push."""

    expires: bool = False
    ttl: int = 0


# -- pushes -------------------------------------------------------------------------------------------------


class MessageBody(_Result, frozen=True):
    data: Payload


class UnsubscribeBody(msgspec.Struct, frozen=True, gc=False):
    """The ``unsubscribe`` push. Both are always present, and the reason is never empty: centrifuge-python
    dies without it."""

    code: int
    reason: str


class DisconnectBody(msgspec.Struct, frozen=True, gc=False):
    """The ``disconnect`` push, on transports without a close of their own. As `UnsubscribeBody`."""

    code: int
    reason: str


class SubscribeBody(_Result, frozen=True):
    recoverable: bool = False
    epoch: str = ""
    offset: int = 0
    positioned: bool = False
    data: Payload | None = None
