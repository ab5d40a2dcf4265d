"""Requests to durable streams: sent with a token, given up in time, made again until they are answered."""

import asyncio
import contextlib
import inspect
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import aiohttp
from yarl import URL

from heartwire.client.arguments import checked_token
from heartwire.client.options import Options
from heartwire.client.proxies import proxy_for
from heartwire.client.redirects import Moved
from heartwire.client.sessions import Sessions
from heartwire.client.streams_wire import MAX_ANSWER, Answer, Lost, Retry
from heartwire.errors import GivenUp, ProtocolError

if TYPE_CHECKING:
    from heartwire.client.driver import TokenSource

__all__ = ["StreamRequests", "StreamTokens"]

T = TypeVar("T")

_log: Final = logging.getLogger("heartwire.client")


class StreamTokens:
    """The token of a client's requests to streams."""

    def __init__(self, token: str = "", get_token: "TokenSource | None" = None) -> None:
        self.token, self.get_token = token, get_token

    async def find(self, within_s: float) -> str:
        """Return a token, "" for none. Raises `Lost`, and `ConfigError` for what cannot be one."""
        if self.get_token is None or self.token:
            return self.token
        try:
            async with asyncio.timeout(within_s):
                answer = self.get_token()
                token = await answer if inspect.isawaitable(answer) else answer
        except Exception as error:
            raise Lost(f"get_token: {error!r}", is_reachable=False) from error
        if token is None:
            raise Lost("get_token returned None", is_reachable=False)
        self.token = checked_token("get_token", token)
        return self.token


class StreamRequests:
    """Requests to the stream at ``url``. See the module."""

    def __init__(self, url: str, options: Options, tokens: StreamTokens, sessions: Sessions) -> None:
        self.url = URL(url)
        self.options = options
        self.session = sessions.session
        self._tokens = tokens

    def retry(self) -> Retry:
        """Return when to make requests again, for one activity."""
        return Retry(self.options, random.random, asyncio.get_running_loop().time())

    def log(self, lost: Lost, retry: Retry) -> None:
        """Log a failure: loudly once there were two in a row."""
        level = logging.WARNING if retry.backoff.failures == 2 else logging.INFO
        _log.log(level, "%s: %s; trying on", self.url.with_query(None), lost)

    async def settle(self, ask: Callable[[], Awaitable[T]], retry: Retry) -> T:
        """Ask until it is answered. Raises what the answer means, and `GivenUp` (``max_pending_age_s``)."""
        now, age_s, is_unknown = asyncio.get_running_loop().time, self.options.max_pending_age_s, False
        ends_at = now() + age_s
        while True:
            try:
                answer = await ask()
            except Lost as lost:
                is_unknown = is_unknown or lost.is_reachable
                delay_s = retry.next_s(lost, now())
                self.log(lost, retry)
                if now() + delay_s > ends_at:
                    reason = f"not answered within {age_s:g} s (max_pending_age_s): {lost}"
                    raise GivenUp(reason, is_unknown=is_unknown) from None
                await asyncio.sleep(delay_s)
            else:
                retry.backoff.reset()
                return answer

    async def ask(
        self, session: aiohttp.ClientSession, method: str, within_s: float = 0, **arguments: Any
    ) -> Answer:
        """Return the answer to one request. Raises `Lost` where none came, or not all of it."""
        within_s, parts, size = within_s or self.options.request_timeout_s, [], 0
        async with self.send(session, method, within_s, **arguments) as response:
            async for part in self.pieces(response, lambda: within_s):
                parts.append(part)
                size += len(part)
                if size > MAX_ANSWER:
                    raise ProtocolError(f"{self.url}: an answer of over {MAX_ANSWER} bytes")
            return Answer(response.status, response.headers, b"".join(parts))

    @contextlib.asynccontextmanager
    async def send(
        self, session: aiohttp.ClientSession, method: str, within_s: float, **arguments: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request. In the ``async with`` its body is read; what breaks it is raised as `Lost`."""
        try:
            async with asyncio.timeout(within_s):
                response = await self._authorized(session, method, **arguments)
            async with response:
                yield response
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Lost(f"no connection: {error}", is_reachable=False) from None
        except Moved as moved:
            raise ProtocolError(f"{self.url} has moved to {moved}: give that, if it is the server") from None
        except TimeoutError:
            raise Lost("nothing came in time") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Lost(f"{type(error).__name__}: {error}") from None

    async def pieces(
        self, response: aiohttp.ClientResponse, within_s: Callable[[], float]
    ) -> AsyncGenerator[bytes, None]:
        """Yield the pieces of a body. Raises ``TimeoutError``."""
        while not response.content.at_eof():
            async with asyncio.timeout(within_s()):
                piece = await response.content.readany()
            if piece:
                yield piece

    async def _authorized(
        self,
        session: aiohttp.ClientSession,
        method: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        query: Mapping[str, str] | None = None,
    ) -> aiohttp.ClientResponse:
        """Send with a token, and once more with a new one where it is refused."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self.options.open_timeout_s)
        url, proxy, tokens = self.url.update_query(query or {}), proxy_for(self.url), self._tokens
        with_token, sent = dict(headers or {}), ""
        while True:
            token = await tokens.find(self.options.open_timeout_cap_s)
            if token:
                with_token["Authorization"] = f"Bearer {token}"
            response = await session.request(
                method, url, headers=with_token, data=body or None, proxy=proxy, timeout=timeout
            )
            if response.status != 401 or tokens.get_token is None or sent:
                return response
            response.close()
            sent = token
            if tokens.token == token:  # else another request has found a new one meanwhile
                tokens.token = ""
