"""The settings and the notes of a report: the options of a run, the defaults, and what was shortened."""

from typing import Final

from heartwire.compare.figures import Figure
from heartwire.compare.plan import (
    BARE_RETRY_S,
    DEFAULT_BACKOFF_CAP_S,
    DEFAULT_PING_INTERVAL_S,
    DEFAULT_POLL_WAIT_S,
    DEFAULT_PONG_TIMEOUT_S,
    SHORT_BACKOFF_CAP_S,
    Plan,
)
from heartwire.compare.template import part

__all__ = ["MAX_FAULT_SUBSCRIBERS", "notes_of", "settings_of"]

MAX_FAULT_SUBSCRIBERS: Final = 4


def settings_of(plan: Plan) -> dict[str, Figure]:
    """The options of a run, the defaults, and what was shortened."""
    interval = (None, "s", "the server's own") if plan.url else (plan.ping_interval_s, "s")
    settings = {
        "seconds": Figure(plan.seconds, "s"),
        "rate": Figure(plan.rate_per_s, "messages/s"),
        "size": Figure(plan.size_bytes, "B"),
        "subscribers": Figure(plan.subscribers, "subscribers"),
        "default_ping_interval": Figure(DEFAULT_PING_INTERVAL_S, "s"),
        "default_pong_timeout": Figure(DEFAULT_PONG_TIMEOUT_S, "s"),
        "default_poll_wait": Figure(DEFAULT_POLL_WAIT_S, "s"),
        "ping_interval": Figure(*interval),
        "pong_timeout": Figure(plan.pong_timeout_s, "s"),
        "poll_wait": Figure(plan.poll_wait_s, "s"),
        "bare_retry": Figure(BARE_RETRY_S, "s"),
        "default_longest_wait_between_attempts": Figure(DEFAULT_BACKOFF_CAP_S, "s"),
        "longest_wait_between_attempts": Figure(SHORT_BACKOFF_CAP_S, "s"),
    }
    if plan.cut_s:
        settings |= {
            "fault_subscribers": Figure(min(plan.subscribers, MAX_FAULT_SUBSCRIBERS), "subscribers"),
            "before": Figure(plan.before_s, "s"),
            "cut": Figure(plan.cut_s, "s"),
            "after": Figure(plan.after_s, "s"),
        }
    return settings


def notes_of(plan: Plan) -> list[str]:
    """Remarks on how it was measured."""
    values = {
        "ping": plan.ping_interval_s,
        "pong": plan.pong_timeout_s,
        "wait": plan.poll_wait_s,
        "bound": plan.ping_interval_s + plan.pong_timeout_s,
        "default_ping": DEFAULT_PING_INTERVAL_S,
        "default_pong": DEFAULT_PONG_TIMEOUT_S,
        "default_wait": DEFAULT_POLL_WAIT_S,
        "default_bound": DEFAULT_PING_INTERVAL_S + DEFAULT_PONG_TIMEOUT_S,
        "cap": SHORT_BACKOFF_CAP_S,
        "default_cap": DEFAULT_BACKOFF_CAP_S,
        "retry": BARE_RETRY_S,
    }
    names = ["latency", "bytes", *(("no cpu", "remote") if plan.url else ("cpu", "short")), "idle"]
    names += [*(["attempts"] if plan.cut_s else []), "bare", *(["tls"] if plan.is_tls else [])]
    texts = {name: f"{value:g}" for name, value in values.items()}
    return [str(part(f"note {name}", **texts)) for name in names]
