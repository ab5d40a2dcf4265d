"""Every refusal and close code in one table, with what a client should do about each.

The table feeds the errors (`heartwire.errors`) and the documentation (`docs/codes.md`). Close codes of
3000-3499 and 4000-4499 mean *reconnect*, 3500-3999 and 4500-4999 mean *do not* (the public Centrifugal
convention); codes below 3000 are those of RFC 6455 7.4.1 and the IANA registry.
"""

from typing import Final, Literal, NamedTuple

__all__ = ["CODES", "Code", "Verdict", "close_code", "verdict"]


class Code(NamedTuple):
    """One refusal or close.

    Attributes:
        name: stable; ``error.code`` over HTTP.
        number: its error number in the Centrifugal protocol, 0 where it only ever ends a connection.
        meaning: what happened.
        retry: the same request may succeed later without being changed.
        advice: what a client should do.
    """

    name: str
    http_status: int
    close_code: int
    number: int
    meaning: str
    retry: bool
    advice: str

    @property
    def text(self) -> str:
        """The standard words of the Centrifugal protocol's error."""
        return _ERRORS.get(self.number) or self.name.replace("_", " ")

    @property
    def reason(self) -> str:
        """The standard words of the Centrifugal protocol's disconnect; never empty, never JSON."""
        return _REASONS.get(self.close_code) or self.name.replace("_", " ")

    @property
    def temporary(self) -> bool:
        """Whether a client of the Centrifugal protocol retries by itself."""
        return self.number in (100, 111, 409)


_ERRORS: Final = {
    100: "internal server error",
    101: "unauthorized",
    102: "unknown channel",
    103: "permission denied",
    104: "method not found",
    105: "already subscribed",
    106: "limit exceeded",
    107: "bad request",
    108: "not available",
    109: "token expired",
    110: "expired",
    111: "too many requests",
    112: "unrecoverable position",
    409: "out of order",  # ours; the protocol leaves 400-1999 to applications
}

_REASONS: Final = {
    3001: "shutdown",
    3004: "internal server error",
    3005: "connection expired",
    3500: "invalid token",
    3501: "bad request",
    3505: "channel limit",
    3507: "permission denied",
    3508: "not available",
}

# fmt: off
_ROWS: Final = {  # by retry and advice: name, HTTP status, close code, Centrifugal number, meaning
    (False, "change the request"): (
        ("bad_request",            400, 3501, 107, "malformed; the message says where"),
        ("bad_channel",            400, 3501, 107, "empty, too long, or holds a control character"),
        ("bad_position",           400, 3501, 107, "`since`: not `earliest` or a position of these channels"),
        ("bad_wait",               400, 3501, 107, "`wait` is not a number of seconds in range"),
        ("bad_idempotency_key",    400, 3501, 107, "the key is not 1 to 255 visible ASCII characters"),
        ("invalid_utf8",           400, 1007, 107, "text that is not UTF-8"),
        ("too_many_channels",      400, 3505, 106, "more channels than a request or connection may have"),
        ("limit_exceeded",         400, 3505, 106, "over a limit of server or client; the message names it"),
        ("not_found",              404, 3508, 108, "no such address"),
        ("stream_not_found",       404, 3508, 108, "no such stream: create it first"),
        ("producer_gap",           409, 3501, 107, "a producer left out a sequence number: send that first"),
        ("stream_gone",            410, 3508, 108, "the stream was deleted, or is not kept from there"),
        ("method_not_found",       404, 3508, 104, "no such RPC method"),
        ("method_not_allowed",     405, 3501, 107, "the address does not take this method"),
        ("message_too_large",      413, 1009, 106, "a message over `max_message_bytes`"),
        ("unsupported_charset",    415, 1003, 107, "text in a charset other than UTF-8"),
        ("unsupported_encoding",   415, 1003, 107, "a body with a `Content-Encoding`; send it as it is"),
        ("upgrade_required",       426, 1002, 107, "a WebSocket handshake of a version other than 13"),
    ),
    (False, "get a new token, or log in"): (
        ("unauthorized",           401, 3500, 101, "credentials are missing or not valid"),
        ("token_expired",          401, 3500, 109, "the token has expired"),
    ),
    (False, "start again without a position"): (
        ("unrecoverable_position", 409, 3501, 112, "the position cannot be continued"),
    ),
    (False, "do not retry"): (
        ("forbidden",              403, 3507, 103, "you may not do this here"),
        ("host_refused",           421, 1008, 103, "the server is called by a name not in `allowed_hosts`"),
        ("origin_refused",         403, 1008, 103, "a browser page whose origin is not in `allowed_origins`"),
        ("connection_limit",       403, 3504,   0, "the user has `max_connections_per_user` open"),
        ("force_disconnect",       403, 3503,   0, "the application ended the connection for good"),
        ("unknown_channel",        404, 3507, 102, "the channel's namespace is not configured"),
        ("stale",                  408, 3502,   0, "no `connect` came in time"),
        ("poll_displaced",         409, 3501, 107, "a newer poll of the same client took over"),
        ("stale_producer",         403, 3507, 103, "the producer was replaced, in a later epoch"),
        ("stream_conflict",        409, 3501, 107, "the stream is there already, and is another"),
        ("stream_closed",          409, 3501, 107, "the stream is closed: nothing can be appended"),
        ("stream_full",            413, 3505, 106, "the stream has `max_stream_bytes`"),
        ("already_subscribed",     409, 3501, 105, "this connection follows the channel already"),
        ("not_available",          501, 3508, 108, "the feature is switched off in this channel"),
    ),
    (True, "retry after a pause"): (
        ("upload_stalled",         408, 3008, 100, "a body brought nothing for 30 s (1 s on a full node)"),
        ("out_of_order",           409, 3013, 409, "an earlier publish was refused: resend from that one on"),
        ("too_many_requests",      429, 3013, 111, "messages come faster than `publish_rate_per_s`"),
        ("too_many_streams",       429, 3013, 106, "the user has `max_streams_per_user` under way"),
        ("too_many_connections",   429, 1013, 106, "this address has `max_connections_per_address` open"),
        ("internal",               500, 3004, 100, "a fault of the server; its log has the details"),
        ("engine_unavailable",     503, 3004, 100, "the store did not take it; nothing was published"),
        ("engine_uncertain",       503, 3004, 100, "the store may have it: retry with the same key"),
        ("node_full",              503, 1013, 106, "this node has `max_connections` open"),
        ("uploads_full",           503, 1013, 111, "incomplete bodies hold `max_upload_bytes` on this node"),
        ("shutdown",               503, 1012, 100, "the server is going away"),
        ("too_many_connects",      503, 3100,   0, "over `connects_per_s`; the reason says when to return"),
        ("given_up",               504, 3000,   0, "no answer in time, or the client was closed"),
    ),
    (True, "reconnect"): (
        ("no_pong",                408, 3012,   0, "silent for `ping_interval_s + pong_timeout_s`"),
        ("slow",                   408, 3008,   0, "the reader takes nothing in time, or too much waits"),
        ("connection_closed",      499, 3000,   0, "the client left"),
        ("force_reconnect",        503, 3011,   0, "the application asks for a new connection"),
        ("going_away",             503, 3001,   0, "the server is going away"),
    ),
    (True, "reconnect with a new token"): (
        ("expired",                401, 3005, 110, "the subscription's new token has expired already"),
        ("connection_expired",     401, 3005,   0, "the token expired, and no new one came"),
        ("subscription_expired",   401, 3006,   0, "the token of a server-side subscription expired"),
    ),
    (True, "reconnect without the old position"): (
        ("insufficient_state",     409, 3010, 112, "the position is gone; the close reason has the new one"),
        ("state_invalidated",      409, 3014,   0, "the application declared the client's state invalid"),
    ),
}
# fmt: on

CODES: Final = {row[0]: Code(*row, *then) for then, rows in _ROWS.items() for row in rows}


def close_code(name: str) -> int:
    """The WebSocket close code of a named refusal. Raises ``KeyError`` for an unknown name."""
    return CODES[name].close_code


Verdict = Literal["now", "later", "token", "never"]
"""What a client does after the server ended its connection: reconnect after the usual wait, after a longer
one, with a new token if it can get one, or never."""

_VERDICTS: Final[dict[int, Verdict]] = {
    **dict.fromkeys((1002, 1003, 1007, 1008, 1010), "never"),
    **dict.fromkeys((1013, 3013), "later"),
    **dict.fromkeys((3005, 3500), "token"),
    # Stale: no `connect` came in time. A client sends its own at once, so the network has swallowed it.
    3502: "now",
}
"""The exceptions to the ranges."""


def verdict(code: int) -> Verdict:
    """What a close code asks of a client: RFC 6455 7.4.1, the IANA registry, the ranges above.

    1009 (a message was too large) is *now*: the client rejects the message, and goes on.
    """
    is_final = 3500 <= code < 4000 or 4500 <= code < 5000
    return _VERDICTS.get(code, "never" if is_final else "now")
