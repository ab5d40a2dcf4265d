"""Errors as HTTP answers."""

from starlette.responses import Response

from heartwire.codes import CODES
from heartwire.dialects.plain.codec import error_json
from heartwire.errors import HeartwireError, Refused

__all__ = ["refusal"]


def refusal(error: HeartwireError) -> Response:
    """An error as JSON with a stable code, and the headers that go with its status."""
    after_s = error.after_s if isinstance(error, Refused) else None
    body = error_json(error.code.name, str(error), retry=error.retry, after_s=after_s)
    headers = {"cache-control": "no-store"}
    if error.retry:
        headers["retry-after"] = str(max(1, round(after_s or 1)))
    if isinstance(error, Refused) and error.allow:
        headers["allow"] = error.allow
    if error.code is CODES["upgrade_required"]:  # RFC 6455 4.4
        headers |= {"upgrade": "websocket", "sec-websocket-version": "13"}
    if error.code is CODES["unauthorized"]:
        headers["www-authenticate"] = "Bearer"
    return Response(body, error.code.http_status, headers, media_type="application/json")
