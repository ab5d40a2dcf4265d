"""Publishing by the HTTP API, with its key, for `heartwire pub --api-key`."""

import base64
import http.client
import urllib.error
import urllib.request
from typing import Any

import msgspec
from yarl import URL

from heartwire.client.arguments import check_headers, checked_url
from heartwire.client.proxies import proxy_for
from heartwire.client.received import refused
from heartwire.client.wire import closed_by_http
from heartwire.errors import GivenUp, HeartwireError, Refused, Unauthorized
from heartwire.types import Position

__all__ = ["Backend"]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow none: a POST would become a GET, and the key go to whoever is named."""


class Backend:
    """The HTTP API of one server. Raises `ConfigError`."""

    def __init__(self, url: str, key: str, *, give_up_s: float) -> None:
        self._address = f"{checked_url(url).rstrip('/')}/api/publish"
        self._headers = {"X-API-Key": key, "Content-Type": "application/json"}
        check_headers(self._headers)
        self._give_up_s = give_up_s
        proxy = proxy_for(URL(self._address))
        proxies = {} if proxy is None else dict.fromkeys(("http", "https"), str(proxy))
        handlers = (urllib.request.ProxyHandler(proxies), _NoRedirect)
        self._open = urllib.request.build_opener(*handlers).open

    def publish(self, channel: str, body: str | bytes, idempotency_key: str) -> Position:
        """Publish, and return the position. Text that is not JSON goes as a JSON string: the API takes JSON.

        Raises `Refused`, or `GivenUp`: whether it was published is not known.
        """
        asked: dict[str, Any] = {"channel": channel, "idempotency_key": idempotency_key}
        asked |= (
            {"b64data": base64.b64encode(body).decode()} if isinstance(body, bytes) else {"data": _json(body)}
        )
        answer = msgspec.json.decode(self._post(msgspec.json.encode(asked)))
        if "error" in answer:
            raise refused(answer["error"]["code"], answer["error"]["message"])
        return Position(answer["result"]["epoch"], answer["result"]["offset"])

    def _post(self, body: bytes) -> bytes:
        request = urllib.request.Request(self._address, body, self._headers)  # noqa: S310 - `checked_url`
        try:
            with self._open(request, timeout=self._give_up_s) as answer:
                said: bytes = answer.read()
                return said
        except urllib.error.HTTPError as error:
            raise _refusal(error, self._address) from None
        except (OSError, http.client.HTTPException) as error:
            raise GivenUp(f"{self._address}: {error}", is_unknown=True) from None


def _refusal(error: urllib.error.HTTPError, address: str) -> HeartwireError:
    with error:
        reason = closed_by_http(error.code, error.read().decode(errors="replace"))[1]
    if error.code == 401:
        return Unauthorized(f"{address}: {reason}")
    if error.code == 404:
        return Refused("not_found", f"{address}: {reason}: the server has no api_key, or is not there")
    return HeartwireError(f"{address}: {reason}")


def _json(text: str) -> msgspec.Raw:
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return msgspec.Raw(msgspec.json.encode(text))
    return msgspec.Raw(text.encode())
