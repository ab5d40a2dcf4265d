"""Every refusal there is, in one table: its stable name, its HTTP status, its WebSocket close code, whether a retry can help.

The table feeds the errors (`heartwire.errors`), the documentation (`docs/codes.md`) and the clients' constants. Close codes of
3000-3499 and 4000-4499 mean *come back*, 3500-3999 and 4500-4999 mean *do not* (the public Centrifugal convention);
codes below 3000 are those of RFC 6455 7.4.1 and the IANA registry.
"""

from typing import Final, NamedTuple

__all__ = ["CODES", "Code", "close_code"]


class Code(NamedTuple):
    """One refusal. ``retry``: the same request may succeed later without being changed."""

    name: str
    http_status: int
    close_code: int
    retry: bool
    meaning: str


_TABLE: Final = (
    Code("bad_request", 400, 3501, False, "the request is malformed; the message says where"),
    Code("bad_channel", 400, 3501, False, "a channel name is empty, too long, or holds a comma or control character"),
    Code("bad_position", 400, 3501, False, "`since` is not `earliest` or a position token of these channels"),
    Code("bad_wait", 400, 3501, False, "`wait` is not a number of seconds in range"),
    Code("bad_idempotency_key", 400, 3501, False, "`Idempotency-Key` is empty, too long or not visible ASCII"),
    Code("invalid_utf8", 400, 1007, False, "text that is not UTF-8"),
    Code("unauthorized", 401, 3500, False, "who you are could not be established; get a new token, then retry"),
    Code("forbidden", 403, 3507, False, "you may not do this here"),
    Code("origin_refused", 403, 1008, False, "a browser page of another origin, which is not in `allowed_origins`"),
    Code("unknown_channel", 404, 3507, False, "the channel's namespace is not configured"),
    Code("not_found", 404, 3508, False, "no such address"),
    Code("method_not_allowed", 405, 3501, False, "the address does not take this method"),
    Code("poll_displaced", 409, 3501, False, "a newer poll of the same client took over"),
    Code("too_many_channels", 400, 3505, False, "more channels in one request than `max_channels_per_request`"),
    Code("message_too_large", 413, 1009, False, "a message over `max_message_bytes`"),
    Code("unsupported_charset", 415, 1003, False, "text in another charset than UTF-8"),
    Code("upgrade_required", 426, 1002, False, "a WebSocket handshake of a version that is not 13"),
    Code("too_many_requests", 429, 3013, True, "messages come faster than `publish_rate_per_s`"),
    Code("too_many_connections", 429, 1013, True, "this address has `max_connections_per_address` open"),
    Code("internal", 500, 3004, True, "a fault of the server; its log has the details"),
    Code("not_available", 501, 3508, False, "the feature is switched off in this channel"),
    Code("node_full", 503, 1013, True, "this node has `max_connections` open"),
    Code("shutdown", 503, 1012, True, "the server is going away; come back after a moment"),
    Code("engine_unavailable", 503, 3004, True, "the store did not take it; nothing was published"),
    Code("insufficient_state", 409, 3010, True, "the position cannot be continued; the reason carries the new one"),
    Code("no_pong", 408, 3012, True, "nothing was heard for `ping_interval_s + pong_timeout_s`"),
    Code("slow", 408, 3008, True, "the reader took nothing for `ping_interval_s + pong_timeout_s`"),
)

CODES: Final[dict[str, Code]] = {code.name: code for code in _TABLE}


def close_code(name: str) -> int:
    """The WebSocket close code of a named refusal. Raises ``KeyError`` for a name that is not in the table."""
    return CODES[name].close_code
