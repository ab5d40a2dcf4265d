"""Keys that another server publishes, which is a real one here."""

import asyncio
import json
from typing import Any

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import rsa

from heartwire import Hub
from heartwire.engines.memory import MemoryEngine
from heartwire.hub.claims import Invalid
from heartwire.hub.options import HubOptions
from heartwire.hub.tokens import Tokens
from tests.integration.centrifugal.test_hub import Visitor
from tests.unit.transports.tools import until

KEYS = {id: rsa.generate_private_key(65537, 2048) for id in ("one", "two")}


def token_of(id: str) -> str:
    return jwt.encode({"sub": "ann"}, KEYS["two" if id == "two" else "one"], "RS256", {"kid": id})


class Publisher:
    """The server of the keys ``ids``; ``None``: it is out of order."""

    def __init__(self) -> None:
        self.ids: list[str] | None = ["one"]
        self.body_bytes = 0  # at least, with spaces
        self.asked = 0
        application = web.Application()
        application.router.add_get("/keys", self._answer)
        self.server = TestServer(application)

    async def __aenter__(self) -> "Publisher":
        await self.server.start_server()
        self.address = str(self.server.make_url("/keys"))
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.server.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        if self.ids is None:
            return web.Response(status=500)
        to_jwk = jwt.algorithms.RSAAlgorithm.to_jwk
        keys: list[Any] = [to_jwk(KEYS[id].public_key(), as_dict=True) | {"kid": id} for id in self.ids]
        text = json.dumps({"keys": keys}).encode()
        answer = web.StreamResponse()
        await answer.prepare(request)
        for start in range(0, max(len(text), self.body_bytes), 100_000):  # in pieces, as large sets come
            await answer.write(text.ljust(self.body_bytes)[start : start + 100_000])
        return answer


def test_keys_are_fetched_kept_and_fetched_again() -> None:
    """An address of a key set could not be read at all."""

    async def test() -> None:
        async with Publisher() as publisher:
            now = 0.0
            tokens = Tokens(HubOptions(token_jwks=publisher.address), lambda: now)

            async def is_good(id: str) -> bool:
                token = token_of(id)
                wait = tokens.wait_for_key(token)
                if wait is not None:
                    await wait
                return not isinstance(tokens.connection(token, now), Invalid)

            assert await asyncio.gather(*(is_good("one") for _ in range(5))) == [True] * 5
            assert await is_good("one")
            assert publisher.asked == 1
            # A key that is not known is asked for, once in a while only.
            assert [await is_good(id) for id in ("two", "two", "made up")] == [False] * 3
            assert publisher.asked == 1
            now, publisher.ids = 10.0, ["one", "two"]
            assert await is_good("two")
            assert [await is_good("made up") for _ in range(3)] == [False] * 3
            assert publisher.asked == 2
            # Keys are fetched again an hour after the last time.
            now = 10.0 + 3599
            assert await is_good("one")
            assert publisher.asked == 2
            now += 1
            assert tokens.wait_for_key(token_of("one")) is None  # by the keys it has, and behind it:
            await until(lambda: publisher.asked == 3, "they are fetched again")
            assert not await is_good("made up")  # waits for that fetch
            # While the server is out of order the last keys stay.
            now, publisher.ids = 9000.0, None
            assert tokens.wait_for_key(token_of("one")) is None  # the fetch goes on behind it
            assert not await is_good("made up")  # waits for that fetch
            assert publisher.asked == 4
            assert await is_good("one")
            # A key that was withdrawn is gone with the next fetch.
            now, publisher.ids = 9010.0, ["two"]
            assert await is_good("one")
            assert not await is_good("made up")
            assert not await is_good("one")
            assert await is_good("two")

    asyncio.run(test())


@pytest.mark.parametrize(("body_bytes", "is_read"), [(1024 * 1024, True), (1024 * 1024 + 1, False)])
async def test_a_key_set_may_have_a_mebibyte(
    body_bytes: int, is_read: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with Publisher() as publisher:
        publisher.body_bytes = body_bytes
        tokens = Tokens(HubOptions(token_jwks=publisher.address), lambda: 0.0)
        wait = tokens.wait_for_key(token_of("one"))
        assert wait is not None
        await wait
        assert isinstance(tokens.connection(token_of("one"), 0), Invalid) is not is_read
        assert ("larger than 1048576 bytes" in caplog.text) is not is_read


def test_an_address_that_is_away_refuses_tokens_and_nothing_else() -> None:
    async def test() -> None:
        tokens = Tokens(HubOptions(token_jwks="http://127.0.0.1:1/keys"), lambda: 0.0)
        wait = tokens.wait_for_key(token_of("one"))
        assert wait is not None
        await wait
        assert isinstance(tokens.connection(token_of("one"), 0), Invalid)
        assert tokens.wait_for_key("not a token") is None

    asyncio.run(test())


def test_a_connection_waits_for_its_key() -> None:
    async def test() -> None:
        async with Publisher() as publisher:
            hub = Hub(MemoryEngine(), token_jwks=publisher.address)
            await hub.start()
            visitor = Visitor(hub)
            (reply,) = await visitor.say({"id": 1, "connect": {"token": token_of("one")}})
            assert reply["connect"]["client"] == visitor.connection.id
            assert visitor.connection.identity.user == "ann"
            await hub.stop()

    asyncio.run(test())
