"""Errors as HTTP answers: the status, and the headers that go with it."""

import json

import pytest

from heartwire.errors import HeartwireError, Refused, Unauthorized
from heartwire.server.responses import refusal


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (Refused("not_found", "x"), 404, {}),
        (Refused("too_many_requests", "x"), 429, {"retry-after": "1"}),
        (Refused("too_many_requests", "x", after_s=0.2), 429, {"retry-after": "1"}),
        (Refused("too_many_requests", "x", after_s=7.4), 429, {"retry-after": "7"}),
        (Refused("method_not_allowed", "x", allow="GET, OPTIONS"), 405, {"allow": "GET, OPTIONS"}),
        (Unauthorized("x"), 401, {"www-authenticate": "Bearer"}),
        (Refused("upgrade_required", "x"), 426, {"upgrade": "websocket", "sec-websocket-version": "13"}),
    ],
)
def test_an_error_has_its_status_and_its_headers(
    error: HeartwireError, status: int, headers: dict[str, str]
) -> None:
    response = refusal(error)
    assert response.status_code == status
    always = {"cache-control": "no-store", "content-type": "application/json"}
    given = {name: value for name, value in response.headers.items() if name != "content-length"}
    assert given == always | headers
    told = json.loads(bytes(response.body))["error"]
    assert (told["code"], told["message"], told["retry"]) == (error.code.name, "x", error.retry)


def test_the_body_says_when_to_come_back() -> None:
    assert (
        json.loads(bytes(refusal(Refused("too_many_requests", "x", after_s=0.25)).body))["error"][
            "retry_after_s"
        ]
        == 0.25
    )
