"""A set of keys that another server publishes at an address (RFC 7517), fetched when it is needed."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar

__all__ = ["KeySet"]

log = logging.getLogger("heartwire")

_FETCH_WITHIN_S: Final = 5
_REFRESH_S: Final = 3600
"""A key that was withdrawn is good for as long at most, while the address answers."""
_PAUSE_S: Final = 10
"""Between two fetches, so that tokens with made-up keys ask nobody for more."""
_MAX_BYTES: Final = 1024 * 1024


class _Identified(Protocol):
    @property
    def id(self) -> str | None: ...


KeyT = TypeVar("KeyT", bound=_Identified)


class KeySet(Generic[KeyT]):
    """The keys of one address. It belongs to one event loop; while the address is away the last keys stay.

    Attributes:
        keys: the last that were fetched.
    """

    def __init__(self, address: str, read: Callable[[str], list[KeyT]], clock: Callable[[], float]) -> None:
        self.keys: list[KeyT] = []
        self._address, self._read, self._clock = address, read, clock
        self._fetched_at = self._tried_at = -math.inf
        self._fetching: asyncio.Task[None] | None = None

    def wait_for(self, id: object) -> Awaitable[None] | None:
        """What to wait for before a token of the key ``id`` is read; ``None`` where nothing would help."""
        now = self._clock()
        is_known = any(id is None or key.id in (None, id) for key in self.keys)
        is_due = not is_known or now - self._fetched_at >= _REFRESH_S
        if is_due and self._fetching is None and now - self._tried_at >= _PAUSE_S:
            self._tried_at = now
            self._fetching = asyncio.ensure_future(self._fetch())
        return None if is_known or self._fetching is None else asyncio.shield(self._fetching)

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(_FETCH_WITHIN_S):
                self.keys = self._read(await _body(self._address))
            self._fetched_at = self._clock()
        except Exception as error:  # whatever it is, the last keys are as good as they were
            log.warning("token_jwks: %s cannot be read: %r", self._address, error)
        finally:
            self._fetching = None


async def _body(address: str) -> str:
    import aiohttp  # only where keys have an address

    body = b""
    async with aiohttp.ClientSession() as session, session.get(address) as response:
        response.raise_for_status()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > _MAX_BYTES:
                raise ValueError(f"it is larger than {_MAX_BYTES} bytes")
    return body.decode()
