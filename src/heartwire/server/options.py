"""What can be set: one struct for a namespace, one for a hub. Every option quotes the reason of its default."""

from typing import Annotated

import msgspec
from msgspec import Meta

from heartwire.engines.base import Retention
from heartwire.errors import ConfigError

__all__ = ["HubOptions", "NamespaceOptions"]

Count = Annotated[int, Meta(ge=1)]
CountOrOff = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0)]


class NamespaceOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds for the channels of one namespace.

    Attributes:
        history_size: publications kept per channel; a reader further behind than this is told of a gap.
        history_ttl_s: seconds a publication is kept; a day covers a night's sleep of a laptop.
        presence: whether channels know who follows them.
        publish: whether clients may publish, or only the application.
        subprotocols: WebSocket subprotocols spoken here, of which the first one offered is chosen; empty: the first offered.
    """

    history_size: Count = 10_000
    history_ttl_s: Seconds = 86_400
    presence: bool = True
    publish: bool = True
    subprotocols: tuple[str, ...] = ()

    def retention(self) -> Retention:
        """How much of a stream the engine keeps."""
        return Retention(self.history_size, self.history_ttl_s)


class HubOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds for a hub. 0 switches off the limits that say so.

    Attributes:
        max_message_bytes: largest message; 1 MiB is what peers allow.
        max_channels_per_request: channels in one request.
        max_connections: WebSockets, streams and held polls on this node.
        max_connections_per_address: the same from one network address (0: no limit, because a proxy is one address).
        publish_rate_per_s: messages a second on one connection, and by POST from one address (0: no limit).
        publish_burst: how many may come at once.
        allowed_origins: origins of browser pages that may use the hub, besides its own; ``*`` for all.
        allow_unknown_namespaces: whether channels of namespaces that are not configured may be used.
            ``None``: only as long as no namespace is configured at all.
        ping_interval_s: how often a silent peer is asked; under the idle limits of common proxies (60 s).
        pong_timeout_s: how long it may take to answer; a mobile network's worst round trips take seconds.
        sse_heartbeat_s: the comment interval of SSE; the WHATWG's advice.
        stream_max_s: an SSE stream ends after half to all of this, and comes back wherever the load balancer sends it.
        idempotency_window_s: how long an idempotency key is remembered.
        compress: offer permessage-deflate on the native WebSocket; off, because small messages hardly shrink, and
            compressing costs more than sending.
        namespaces: options by namespace; channels without a ``:`` are in namespace "".
    """

    max_message_bytes: Count = 1024 * 1024
    max_channels_per_request: Count = 1000
    max_connections: Count = 100_000
    max_connections_per_address: CountOrOff = 0
    publish_rate_per_s: Annotated[float, Meta(ge=0)] = 0
    publish_burst: Count = 100
    allowed_origins: tuple[str, ...] = ()
    allow_unknown_namespaces: bool | None = None
    ping_interval_s: Seconds = 25
    pong_timeout_s: Seconds = 10
    sse_heartbeat_s: Seconds = 15
    stream_max_s: Seconds = 600
    idempotency_window_s: Seconds = 300
    compress: bool = False
    namespaces: dict[str, NamespaceOptions] = {}

    def __post_init__(self) -> None:
        if self.pong_timeout_s >= self.ping_interval_s:
            raise ConfigError("pong_timeout_s", self.pong_timeout_s, f"less than ping_interval_s ({self.ping_interval_s:g})")
        for name in self.namespaces:
            if ":" in name or "," in name or len(name.encode()) > 254:
                raise ConfigError("namespaces", name, "a namespace is the part of a channel's name before the first ':'")
