"""Every refusal there is, in one table: its stable name, its HTTP status, its WebSocket close code, whether a
retry can help, and for the Centrifugal protocol its error number and its standard words.

The table feeds the errors (`heartwire.errors`), the documentation (`docs/codes.md`) and the clients'
constants. Close codes of 3000-3499 and 4000-4499 mean *come back*, 3500-3999 and 4500-4999 mean *do not* (the
public Centrifugal convention); codes below 3000 are those of RFC 6455 7.4.1 and the IANA registry.
"""

from typing import Final, NamedTuple

__all__ = ["CODES", "Code", "close_code"]


class Code(NamedTuple):
    """One refusal. ``retry``: the same request may succeed later without being changed.

    ``number`` is its error number in the Centrifugal protocol, 0 where it only ever ends a connection.
    """

    name: str
    http_status: int
    close_code: int
    retry: bool
    meaning: str
    number: int = 0

    @property
    def text(self) -> str:
        """The standard words of the Centrifugal protocol's error."""
        return _ERRORS.get(self.number) or self.name.replace("_", " ")

    @property
    def reason(self) -> str:
        """The standard words of the Centrifugal protocol's disconnect. Never empty, and never JSON: clients
        rely on both."""
        return _REASONS.get(self.close_code) or self.name.replace("_", " ")

    @property
    def temporary(self) -> bool:
        """Whether a client of the Centrifugal protocol tries the same again by itself."""
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

_TABLE: Final = (
    Code("bad_request", 400, 3501, False, "the request is malformed; the message says where", 107),
    Code(
        "bad_channel",
        400,
        3501,
        False,
        "a channel name is empty, too long, or holds a comma or control character",
        107,
    ),
    Code(
        "bad_position",
        400,
        3501,
        False,
        "`since` is not `earliest` or a position token of these channels",
        107,
    ),
    Code("bad_wait", 400, 3501, False, "`wait` is not a number of seconds in range", 107),
    Code(
        "bad_idempotency_key",
        400,
        3501,
        False,
        "`Idempotency-Key` is empty, too long or not visible ASCII",
        107,
    ),
    Code("invalid_utf8", 400, 1007, False, "text that is not UTF-8", 107),
    Code(
        "unauthorized",
        401,
        3500,
        False,
        "who you are could not be established; get a new token, then retry",
        101,
    ),
    Code("token_expired", 401, 3500, False, "the token was good once; get a new one", 109),
    Code("expired", 401, 3005, True, "the subscription's new token has expired already", 110),
    Code("forbidden", 403, 3507, False, "you may not do this here", 103),
    Code(
        "origin_refused",
        403,
        1008,
        False,
        "a browser page of another origin, which is not in `allowed_origins`",
        103,
    ),
    Code("unknown_channel", 404, 3507, False, "the channel's namespace is not configured", 102),
    Code("not_found", 404, 3508, False, "no such address", 108),
    Code("method_not_found", 404, 3508, False, "no such RPC method", 104),
    Code("method_not_allowed", 405, 3501, False, "the address does not take this method", 107),
    Code("poll_displaced", 409, 3501, False, "a newer poll of the same client took over", 107),
    Code("already_subscribed", 409, 3501, False, "this connection follows the channel already", 105),
    Code(
        "unrecoverable_position",
        409,
        3501,
        False,
        "the position cannot be continued, and you asked to be told so",
        112,
    ),
    Code("too_many_channels", 400, 3505, False, "more channels than one request or connection may have", 106),
    Code("message_too_large", 413, 1009, False, "a message over `max_message_bytes`", 106),
    Code("unsupported_charset", 415, 1003, False, "text in another charset than UTF-8", 107),
    Code("upgrade_required", 426, 1002, False, "a WebSocket handshake of a version that is not 13", 107),
    Code("too_many_requests", 429, 3013, True, "messages come faster than `publish_rate_per_s`", 111),
    Code(
        "out_of_order",
        409,
        3013,
        True,
        "an earlier publish was refused for the time being: send it and all after it again",
        409,
    ),
    Code("too_many_connections", 429, 1013, True, "this address has `max_connections_per_address` open", 106),
    Code("internal", 500, 3004, True, "a fault of the server; its log has the details", 100),
    Code("not_available", 501, 3508, False, "the feature is switched off in this channel", 108),
    Code("node_full", 503, 1013, True, "this node has `max_connections` open", 106),
    Code(
        "too_many_connects",
        503,
        3100,
        True,
        "more come at once than `connects_per_s` lets in; the reason says when to return",
    ),
    Code("shutdown", 503, 1012, True, "the server is going away; come back after a moment", 100),
    Code("engine_unavailable", 503, 3004, True, "the store did not take it; nothing was published", 100),
    Code(
        "insufficient_state",
        409,
        3010,
        True,
        "the position cannot be continued; the reason carries the new one",
        112,
    ),
    Code("no_pong", 408, 3012, True, "nothing was heard for `ping_interval_s + pong_timeout_s`"),
    Code(
        "slow",
        408,
        3008,
        True,
        "the reader took nothing for `ping_interval_s + pong_timeout_s`, or too much waits for it",
    ),
    # What only clients of the Centrifugal protocol are told.
    Code("connection_closed", 499, 3000, True, "the client went, and said nothing"),
    Code("going_away", 503, 3001, True, "the server is going away; come back after a moment"),
    Code("connection_expired", 401, 3005, True, "the token's time is over, and no new one came"),
    Code("subscription_expired", 401, 3006, True, "a server-side subscription's time is over"),
    Code("force_reconnect", 503, 3011, True, "the application wants you to come back"),
    Code("state_invalidated", 409, 3014, True, "the application wants you to come back and start afresh"),
    Code("stale", 408, 3502, False, "no `connect` came in time"),
    Code("force_disconnect", 403, 3503, False, "the application does not want you to come back"),
    Code(
        "limit_exceeded",
        400,
        3505,
        False,
        "a limit of the server's or the client's; the message says which",
        106,
    ),
    Code("given_up", 504, 3000, True, "the client gave it up: no answer in time, or it was closed"),
    Code("connection_limit", 403, 3504, False, "you have too many connections"),
)

CODES: Final[dict[str, Code]] = {code.name: code for code in _TABLE}


def close_code(name: str) -> int:
    """The WebSocket close code of a named refusal. Raises ``KeyError`` for a name that is not in the
    table."""
    return CODES[name].close_code
