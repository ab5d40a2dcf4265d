"""Options of a namespace and of a hub, each with the reason for its default. `docs/configuration.md` has the
same as tables."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, TypedDict

import msgspec
from msgspec import Meta

from heartwire.engines.contract import Retention
from heartwire.errors import ConfigError

__all__ = ["SECRETS", "HubArguments", "HubOptions", "NamespaceArguments", "NamespaceOptions", "duration_s"]

Count = Annotated[int, Meta(ge=1)]
CountOrOff = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0)]

SECRETS: Final = ("token_hmac_secret_key", "token_jwks", "api_key")
"""Options whose values are not shown in errors."""

_UNITS_S: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")


def duration_s(text: str) -> float:
    """The seconds of a duration such as ``24h``, ``1h30m`` or ``300s``. Raises ``ValueError``."""
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text[:32]!r} is not a duration such as 90s, 24h or 1h30m")
    return sum(float(count) * _UNITS_S[unit] for count, unit in re.findall(r"([\d.]+)([a-z]+)", text))


class NamespaceOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of the channels of one namespace.

    Options named as in Centrifugo mean the same as there. `docs/auth.md` explains permissions.

    Attributes:
        history_size: publications kept per channel. A reader further behind gets a gap, unless the tail in
            memory still has what it missed.
        history_ttl_s: seconds a publication is kept; a day covers a laptop that sleeps overnight. Files and
            calls also take ``history_ttl = "24h"``.
        presence: channels know their subscribers.
        publish: clients may publish; false: only the application.
        subprotocols: WebSocket subprotocols of these channels; the first one offered by the client is chosen.
            Empty: the first one offered, whatever it is.
        durable: channels are streams that are created, closed and deleted (`docs/streams.md`). They are kept
            whole, whatever ``history_size`` and ``history_ttl_s`` say.
        stream_ttl_s: a stream ends so long after its last use, unless it was created with a time of its own;
            0: it does not end. Files and calls also take ``ttl = "1h"``.
        max_stream_bytes: of one stream; an append over it is refused.
        heartbeat_text: a text that a plain WebSocket is answered with itself, and that is not published: the
            heartbeat of clients that cannot send pings. Empty: only with ``?heartbeat=TEXT``.
        join_leave: report joins and leaves to subscribers that ask for them.
        force_push_join_leave: report them to all subscribers.
        force_recovery: subscribers can recover what they missed, even if they did not ask for it; on, because
            that is what Heartwire promises.
        force_positioning: subscribers get their position, even if they did not ask for it.
        force_recovery_mode: "stream" recovers everything missed, "cache" the newest publication only.
        channel_regex: pattern searched in a channel's name after the namespace. Empty: every name matches.
        allow_user_limited_channels: the users listed in a channel's name may subscribe to it.
        allow_subscribe_for_client, allow_publish_for_client, ...: who may do what. ``client``: every client;
            ``subscriber``: those that follow the channel. Once one of the two is set for an action, the other
            is false by default; if neither is, the action is allowed as long as no token key is configured.
            ``anonymous``: the other two also apply to clients without a user; unset: while there is no key.
    """

    history_size: Count = 10_000
    history_ttl_s: Seconds = 86_400
    durable: bool = False
    stream_ttl_s: Annotated[float, Meta(ge=0)] = 0
    max_stream_bytes: Count = 64 * 1024 * 1024
    presence: bool = True
    publish: bool = True
    subprotocols: tuple[str, ...] = ()
    heartbeat_text: str = ""
    join_leave: bool = False
    force_push_join_leave: bool = False
    force_recovery: bool = True
    force_positioning: bool = False
    force_recovery_mode: Literal["stream", "cache"] = "stream"
    channel_regex: str = ""
    allow_user_limited_channels: bool = True
    allow_subscribe_for_client: bool | None = None
    allow_subscribe_for_anonymous: bool | None = None
    allow_publish_for_client: bool | None = None
    allow_publish_for_subscriber: bool | None = None
    allow_publish_for_anonymous: bool | None = None
    allow_presence_for_client: bool | None = None
    allow_presence_for_subscriber: bool | None = None
    allow_presence_for_anonymous: bool | None = None
    allow_history_for_client: bool | None = None
    allow_history_for_subscriber: bool | None = None
    allow_history_for_anonymous: bool | None = None

    def __post_init__(self) -> None:
        try:
            re.compile(self.channel_regex)
        except re.error as error:
            raise ConfigError(
                "channel_regex", self.channel_regex, f"is not a regular expression: {error}"
            ) from None

    def retention(self) -> Retention:
        """What the engine keeps of a stream."""
        if self.durable:
            return Retention(2**50, 1e9)
        return Retention(self.history_size, self.history_ttl_s)


class HubOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a hub. 0 switches a limit off where the text says so.

    Attributes:
        max_message_bytes: largest message; 1 MiB is what peers allow.
        max_channels_per_request: channels in one request.
        max_channels_per_connection: subscriptions of one connection of the Centrifugal dialect, about 1 KB
            each; even a page with a thousand live items fits.
        max_connections: WebSockets, streams and held polls on this node.
        max_connections_per_address: the same from one network address (0: no limit, because a proxy is one
            address).
        max_connections_per_user: the same of one user, over all nodes (0: no limit); one more is ended.
        max_streams_per_user: durable streams that are produced for one user at a time, over all nodes (0: no
            limit).
        max_tcp_connections: TCP connections, also of clients that have not said anything, counted with all
            other open descriptors (0: as many as the process may open, less a reserve); a new one is reset.
        max_upload_bytes: bytes of incomplete bodies and large messages; there is always room for one.
        connects_per_s: WebSockets and streams admitted per second (0: no limit); the rest get a time to
            retry. The default takes about a tenth of a core.
        connects_burst: how many are admitted at once.
        publish_rate_per_s: messages per second on one connection, and by POST from one address (0: no limit).
        publish_burst: how many may come at once.
        durable_path: where the Durable Streams protocol is spoken; "": nowhere.
        socketio_path: where Socket.IO is spoken, once the program has made an `AsyncServer` of the hub; "":
            nowhere.
        stream_lease_s: a run that writes nothing to the store for so long is taken for dead, and its stream
            ends as interrupted; a run that waits for its model writes every third of it that it lives.
        drain_s: how long runs have to finish once the node stops; less than what supervisors give a process:
            gunicorn and Kubernetes 30 s, Docker 10 s. Then they are handed over, or end as interrupted.
        durable_poll_s: how long long polls of that protocol wait at most; proxies end requests after 60 s.
        allowed_origins: origins of browser pages that may use the hub, besides its own; ``*`` for all.
        allowed_hosts: names that requests may call the server by (``Host``), besides those of this machine
            and of ``allowed_origins``; ``*`` for all. Empty: any; but `heartwire serve` on a loopback address
            without an authenticator takes no others, because a page could bind its own name to that address.
        authenticator_ignores_cookies: the application's own authenticator reads no cookies. To be said with
            ``allowed_origins = ["*"]``: pages of any site open WebSockets with their visitor's cookies.
        allow_unknown_namespaces: channels of namespaces that are not configured may be used. ``None``: only
            while no namespace is configured.
        ping_interval_s: how often a silent peer is pinged; less than the idle limit of common proxies (60 s).
        pong_timeout_s: how long the answer may take; the worst round trips of mobile networks take seconds.
        sse_heartbeat_s: interval of SSE comments, as the HTML standard advises.
        stream_max_s: an SSE stream ends after half to all of this, so that load balancers can move it.
        idempotency_window_s: how long an idempotency key is remembered.
        compress: offer permessage-deflate on the native WebSocket; off, because small messages hardly shrink
            and compressing costs more than sending.
        namespaces: options by namespace; channels without a ``:`` are in namespace "".
        allow_anonymous: admit clients without credentials where tokens are required or the address is public.
        insecure: for development: no token is needed, and everything not switched off is allowed.
        token_hmac_secret_key: secret of tokens signed with HS256, HS384 or HS512; 32 bytes or more.
        token_rsa_public_key: PEM, or a file of it: the key of tokens signed with RS256, RS384 or RS512.
        token_ecdsa_public_key: PEM, or a file of it: the key of tokens signed with ES256, ES384 or ES512.
        token_jwks: a JSON Web Key Set (RFC 7517), or a file or an address (``https://``) of it.
        token_audience: required in a token's ``aud``; empty: anything.
        token_issuer: required as a token's ``iss``; empty: anything.
        user_subscribe_to_personal: each user's connections join the user's personal channel, ``#USER``.
        user_personal_channel_namespace: the namespace of personal channels.
        channel_private_prefix: where tokens are required, a channel whose name begins with it needs a
            subscription token. Empty: none does.
        channel_user_boundary: where the hub knows its users, a channel is limited to the users its name lists
            after this. Empty: none is.
        channel_user_separator: stands between the users in such a name.
        api_key: the key of the HTTP API. Empty: the API is off.
    """

    max_message_bytes: Count = 1024 * 1024
    max_channels_per_request: Count = 1000
    max_channels_per_connection: Count = 1000
    max_connections: Count = 100_000
    max_connections_per_address: CountOrOff = 0
    max_connections_per_user: CountOrOff = 0
    max_streams_per_user: CountOrOff = 0
    max_tcp_connections: CountOrOff = 0
    max_upload_bytes: Count = 8 * 1024 * 1024
    connects_per_s: Annotated[float, Meta(ge=0)] = 1000
    connects_burst: Annotated[int, Meta(ge=1)] = 10_000
    publish_rate_per_s: Annotated[float, Meta(ge=0)] = 0
    publish_burst: Count = 100
    durable_path: str = "/streams"
    socketio_path: str = "/socket.io"
    stream_lease_s: Seconds = 10
    drain_s: Annotated[float, Meta(ge=0)] = 20
    durable_poll_s: Seconds = 25
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    authenticator_ignores_cookies: bool = False
    allow_unknown_namespaces: bool | None = None
    ping_interval_s: Seconds = 25
    pong_timeout_s: Seconds = 10
    sse_heartbeat_s: Seconds = 15
    stream_max_s: Seconds = 600
    idempotency_window_s: Seconds = 300
    compress: bool = False
    namespaces: dict[str, NamespaceOptions] = {}
    allow_anonymous: bool = False
    insecure: bool = False
    token_hmac_secret_key: str = ""
    token_rsa_public_key: str = ""
    token_ecdsa_public_key: str = ""
    token_jwks: str = ""
    token_audience: str = ""
    token_issuer: str = ""
    user_subscribe_to_personal: bool = False
    user_personal_channel_namespace: str = ""
    channel_private_prefix: str = "$"
    channel_user_boundary: str = "#"
    channel_user_separator: str = ","
    api_key: str = ""

    def __post_init__(self) -> None:
        if self.pong_timeout_s >= self.ping_interval_s:
            raise ConfigError(
                "pong_timeout_s", self.pong_timeout_s, f"less than ping_interval_s ({self.ping_interval_s:g})"
            )
        for name in self.namespaces:
            if ":" in name or len(name.encode()) > 254:
                raise ConfigError(
                    "namespaces", name, "a namespace is the part of a channel's name before the first ':'"
                )
        for name, example in (("durable_path", "/streams"), ("socketio_path", "/socket.io")):
            path = getattr(self, name)
            if path and not re.fullmatch(r"(?:/[^/{}]+)+", path):
                raise ConfigError(name, path, f"a path such as {example}")
        if not self.channel_user_separator:
            raise ConfigError("channel_user_separator", "", "at least one character")

    @property
    def incomplete_bytes(self) -> int:
        """``max_upload_bytes``, with room for one frame at least."""
        return max(self.max_upload_bytes, self.max_frame_bytes)

    @property
    def max_frame_bytes(self) -> int:
        """The largest frame, or body, that wraps a message: JSON writes a byte as up to six (``\\u0000``),
        base64 as fewer, and the command stands around it. The message itself is checked when it is
        published."""
        return 6 * self.max_message_bytes + 2048

    @property
    def has_tokens(self) -> bool:
        """Whether a token key is configured."""
        return bool(
            self.token_hmac_secret_key
            or self.token_rsa_public_key
            or self.token_ecdsa_public_key
            or self.token_jwks
        )


class NamespaceArguments(TypedDict, total=False):
    """Keyword arguments of `Hub.namespace`: the fields of `NamespaceOptions`, and one in other units."""

    history_size: Count
    history_ttl_s: Seconds
    durable: bool
    stream_ttl_s: Annotated[float, Meta(ge=0)]
    max_stream_bytes: Count
    presence: bool
    publish: bool
    subprotocols: Sequence[str]
    heartbeat_text: str
    join_leave: bool
    force_push_join_leave: bool
    force_recovery: bool
    force_positioning: bool
    force_recovery_mode: Literal["stream", "cache"]
    channel_regex: str
    allow_user_limited_channels: bool
    allow_subscribe_for_client: bool | None
    allow_subscribe_for_anonymous: bool | None
    allow_publish_for_client: bool | None
    allow_publish_for_subscriber: bool | None
    allow_publish_for_anonymous: bool | None
    allow_presence_for_client: bool | None
    allow_presence_for_subscriber: bool | None
    allow_presence_for_anonymous: bool | None
    allow_history_for_client: bool | None
    allow_history_for_subscriber: bool | None
    allow_history_for_anonymous: bool | None
    history_ttl: str
    ttl: str


class HubArguments(TypedDict, total=False):
    """Keyword arguments of `Hub`: the fields of `HubOptions`."""

    max_message_bytes: Count
    max_channels_per_request: Count
    max_channels_per_connection: Count
    max_connections: Count
    max_connections_per_address: CountOrOff
    max_connections_per_user: CountOrOff
    max_streams_per_user: CountOrOff
    max_tcp_connections: CountOrOff
    max_upload_bytes: Count
    connects_per_s: Annotated[float, Meta(ge=0)]
    connects_burst: Annotated[int, Meta(ge=1)]
    publish_rate_per_s: Annotated[float, Meta(ge=0)]
    publish_burst: Count
    durable_path: str
    socketio_path: str
    stream_lease_s: Seconds
    drain_s: Annotated[float, Meta(ge=0)]
    durable_poll_s: Seconds
    allowed_origins: Sequence[str]
    allowed_hosts: Sequence[str]
    authenticator_ignores_cookies: bool
    allow_unknown_namespaces: bool | None
    ping_interval_s: Seconds
    pong_timeout_s: Seconds
    sse_heartbeat_s: Seconds
    stream_max_s: Seconds
    idempotency_window_s: Seconds
    compress: bool
    namespaces: dict[str, NamespaceOptions | dict[str, Any]]
    allow_anonymous: bool
    insecure: bool
    token_hmac_secret_key: str
    token_rsa_public_key: str
    token_ecdsa_public_key: str
    token_jwks: str
    token_audience: str
    token_issuer: str
    user_subscribe_to_personal: bool
    user_personal_channel_namespace: str
    channel_private_prefix: str
    channel_user_boundary: str
    channel_user_separator: str
    api_key: str
