"""The table of refusals and the tree of errors."""

import copy
import inspect
import multiprocessing
import pickle
import re
from typing import Any

import pytest

from heartwire import errors
from heartwire.codes import _ROWS, CODES, Code, close_code, verdict
from heartwire.errors import (
    ClosedAbnormally,
    ConfigError,
    ConnectionClosed,
    EngineCorrupt,
    EngineError,
    EngineUnavailable,
    EngineUncertain,
    Forbidden,
    GivenUp,
    HeartwireError,
    LimitExceeded,
    NotStarted,
    ProtocolError,
    Refused,
    StreamCancelled,
    Unauthorized,
    UnknownChannel,
)


def test_names_are_unique_and_explained() -> None:
    assert len(CODES) == sum(map(len, _ROWS.values()))
    for name, code in CODES.items():
        assert name == code.name
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        assert code.meaning
        assert code.advice


@pytest.mark.parametrize("code", CODES.values(), ids=CODES)
def test_close_code_says_whether_to_come_back(code: Code) -> None:
    number = code.close_code
    if number >= 3000:
        assert code.retry is (number % 1000 < 500), "3000-3499 and 4000-4499 mean: come back"
        assert number < 5000
    else:
        # RFC 6455 7.4.1 and the IANA registry: those an endpoint may send; 1012 and 1013 mean: come back.
        assert number in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013)
        assert code.retry is (number in (1012, 1013))
    assert 400 <= code.http_status <= 599


@pytest.mark.parametrize("code", CODES.values(), ids=CODES)
def test_http_status_says_whether_to_come_back(code: Code) -> None:
    if code.http_status in (429, 500, 503):
        assert code.retry


def test_close_code_of_a_name() -> None:
    assert close_code("message_too_large") == 1009
    with pytest.raises(KeyError):
        close_code("nonsense")


def test_tree_has_one_root_and_is_exported() -> None:
    classes = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, Exception)
    }
    assert classes == set(errors.__all__)
    assert all(issubclass(getattr(errors, name), HeartwireError) for name in classes)


@pytest.mark.parametrize(
    ("error", "code", "retry", "message"),
    [
        (HeartwireError("x"), "internal", True, "x"),
        (ProtocolError("x"), "bad_request", False, "x"),
        (Refused("slow", "too slow"), "slow", True, "too slow"),
        (Unauthorized(), "unauthorized", False, "authentication failed: send valid credentials"),
        (Forbidden(), "forbidden", False, "permission denied"),
        (Forbidden("ask ann"), "forbidden", False, "ask ann"),
        (
            UnknownChannel("x:1", "x"),
            "unknown_channel",
            False,
            "channel 'x:1': namespace 'x' is not configured; add it, or set allow_unknown_namespaces",
        ),
        (
            LimitExceeded(
                "message_too_large", "bytes of this message", 1048577, 1048576, "max_message_bytes"
            ),
            "message_too_large",
            False,
            "bytes of this message: 1048577 is over the limit of 1048576 (max_message_bytes)",
        ),
        (
            LimitExceeded("too_many_requests", "messages a second", 10.5, 10, "publish_rate_per_s"),
            "too_many_requests",
            True,
            "messages a second: 10.5 is over the limit of 10 (publish_rate_per_s)",
        ),
        (ConnectionClosed(4000, "bye"), "internal", True, "connection closed with 4000 bye"),
        (ClosedAbnormally(), "internal", True, "connection closed with 1006"),
        (EngineError("x"), "internal", True, "x"),
        (EngineUnavailable("x"), "engine_unavailable", True, "x"),
        (EngineCorrupt("x"), "internal", True, "x"),
        (ConfigError("port", 99999, "1 to 65535"), "internal", True, "port = 99999: 1 to 65535"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_error_has_a_code_and_a_message_of_its_fields(
    error: HeartwireError, code: str, retry: bool, message: str
) -> None:
    assert (error.code.name, error.retry, str(error)) == (code, retry, message)


def test_fields_can_be_read() -> None:
    limit = LimitExceeded("too_many_channels", "channels", 5, 3, "max_channels_per_request")
    assert (limit.value, limit.limit, limit.setting) == (5, 3, "max_channels_per_request")
    refused = Refused("shutdown", "going", after_s=1.5, allow="GET")
    assert (refused.message, refused.after_s, refused.allow) == ("going", 1.5, "GET")
    closed = ClosedAbnormally("reset")
    assert (closed.close_code, closed.reason) == (1006, "reset")
    config = ConfigError("port", 0, "fix")
    assert (config.setting, config.value, config.fix) == ("port", 0, "fix")
    assert UnknownChannel("x:1", "x").channel == "x:1"


ONE_OF_EACH = [
    HeartwireError("x"),
    ProtocolError("x"),
    Refused("shutdown", "going", after_s=1.5, allow="GET"),
    Unauthorized("who?"),
    NotStarted("not here"),
    Forbidden("ask ann"),
    UnknownChannel("x:1", "x"),
    LimitExceeded("too_many_channels", "channels", 5, 3, "max_channels_per_request"),
    ConnectionClosed(4000, "bye"),
    ClosedAbnormally("reset"),
    GivenUp("no answer", is_unknown=True),
    EngineError("x"),
    EngineUnavailable("x"),
    EngineUncertain("x"),
    EngineCorrupt("x"),
    StreamCancelled("answer:42", "aborted"),
    ConfigError("port", 99999, "1 to 65535"),
]


def test_there_is_one_of_each() -> None:
    assert {type(error).__name__ for error in ONE_OF_EACH} == set(errors.__all__)


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "again",
    [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy],
    ids=["pickle", "copy", "deepcopy"],
)
def test_an_error_keeps_its_fields_through_a_pickle_and_a_copy(error: HeartwireError, again: Any) -> None:
    # Most of them take other arguments than the message: they could be pickled, but not read again.
    error.add_note("a note")
    other = again(error)
    assert type(other) is type(error)
    assert (str(other), other.args, other.code, other.retry) == (
        str(error),
        error.args,
        error.code,
        error.retry,
    )
    assert vars(other) == vars(error)


def test_an_error_of_the_application_with_arguments_of_its_own_keeps_them() -> None:
    error = pickle.loads(pickle.dumps(_TooPoor(3, currency="EUR")))
    assert (error.missing, error.currency, error.code.name) == (3, "EUR", "forbidden")


class _TooPoor(Refused):
    def __init__(self, missing: int, *, currency: str) -> None:
        self.missing, self.currency = missing, currency
        super().__init__("forbidden", f"{missing} {currency} missing")


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
def test_repr_has_the_class_the_code_and_the_message(error: HeartwireError) -> None:
    assert repr(error) == f"{type(error).__name__}({error.code.name!r}, {str(error)!r})"


def test_a_pool_of_processes_raises_them_and_does_not_hang() -> None:
    # An error that cannot be read again ends the thread that takes the answers: `get` waited for ever.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for number, error in enumerate(ONE_OF_EACH):
            answer = pool.apply_async(_raise, (number,))
            with pytest.raises(type(error), match=re.escape(str(error))):
                answer.get(timeout=30)


def _raise(number: int) -> None:
    raise ONE_OF_EACH[number]


@pytest.mark.parametrize(
    ("code", "retry"),
    [
        (1000, True),
        (1006, True),
        (1008, False),
        (1009, True),  # the client rejects the message that was too large, and goes on
        (1013, True),
        (3005, False),  # with the same token it is refused again
        (3500, False),
        (3501, False),
        (3502, True),  # the network has swallowed the client's `connect`
        (3503, False),
        (4000, True),
        (4500, False),
    ],
)
def test_a_closed_connection_says_what_the_client_does(code: int, retry: bool) -> None:
    assert ConnectionClosed(code, "").retry is retry
    assert (verdict(code) in ("now", "later")) is retry
