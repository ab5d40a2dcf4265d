"""Identities, and how a request is authenticated."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from starlette.requests import HTTPConnection

from heartwire.core.waiting import settled
from heartwire.errors import Unauthorized
from heartwire.hub.claims import Expired, Invalid

if TYPE_CHECKING:
    from heartwire.hub.tokens import Tokens

__all__ = [
    "ANONYMOUS",
    "Authenticator",
    "Identity",
    "NoToken",
    "after",
    "asked",
    "called",
    "finished",
    "identify",
    "token_authenticator",
    "token_of",
]


T = TypeVar("T")


class Identity(msgspec.Struct, frozen=True, gc=False):
    """The user of a client: ``user`` ("" when anonymous), and JSON ``info`` that others see in presence and
    publications.

    After ``expires_at`` (seconds since 1970; ``None``: never) a connection of the plain dialect is ended, to
    say it anew.
    """

    user: str = ""
    info: bytes | None = None
    expires_at: float | None = None


async def after(wait: Awaitable[object], then: Callable[[], T | Awaitable[T]]) -> T:
    """Do something once something else is done."""
    await wait
    return await settled(then())


class NoToken(Unauthorized):
    """The request shows no token where one is needed."""


ANONYMOUS: Final = Identity()

_CANCELLED: Final = "a CancelledError left a function of the application that was not cancelled"

Authenticator = Callable[[HTTPConnection], Awaitable[Identity | str | None] | Identity | str | None]
"""Given the request: an identity, a user's name, or ``None`` for anonymous. Raises
`heartwire.Unauthorized`."""


async def asked(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the answer of a sync or async function of the application; see `called` and `finished`."""
    answer = called(function, *arguments)
    return await finished(answer) if inspect.isawaitable(answer) else answer


def called(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of the application.

    A ``CancelledError`` that leaves it is of something that it waited for, such as a task that it cancelled:
    a fault of this call, which must not end the connection as a cancellation of ours does.
    """
    try:
        return function(*arguments)
    except asyncio.CancelledError as error:
        raise RuntimeError(_CANCELLED) from error


async def finished(answer: Awaitable[Any]) -> Any:
    """Await what a function of the application returned; see `called`."""
    try:
        return await answer
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise RuntimeError(_CANCELLED) from error


async def identify(authenticate: Authenticator | None, request: HTTPConnection) -> Identity:
    """Authenticate a request. Raises what the application raises."""
    if authenticate is None:
        return ANONYMOUS
    found = await asked(authenticate, request)
    if isinstance(found, str):
        return Identity(found)
    return ANONYMOUS if found is None else found


def token_authenticator(
    tokens: "Tokens", clock: Callable[[], float], *, allow_anonymous: bool
) -> Authenticator:
    """The authenticator of a hub with token keys: ``Authorization: Bearer``, ``?token=``,
    ``?access_token=``."""

    def authenticate(request: HTTPConnection) -> Awaitable[Identity] | Identity | None:
        token = token_of(request)
        if not token:
            if allow_anonymous:
                return None
            raise NoToken("no token: send Authorization: Bearer TOKEN, or ?token=TOKEN")
        wait = tokens.wait_for_key(token)
        return read(token) if wait is None else after(wait, partial(read, token))

    def read(token: str) -> Identity:
        claims = tokens.connection(token, clock())
        if isinstance(claims, Expired):
            raise Unauthorized(f"the token expired at {claims.expired_at:.0f}: get a new one")
        if isinstance(claims, Invalid):
            raise Unauthorized(f"the token is not valid: {claims.reason}")
        return Identity(claims.user, claims.info, claims.expires_at)

    return authenticate


def token_of(request: HTTPConnection) -> str:
    """The token of a request, "" where it has none (RFC 6750 2)."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    query = request.query_params
    return query.get("token") or query.get("access_token") or ""
