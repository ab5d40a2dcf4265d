"""The Durable Streams protocol where its public suite does not look: Heartwire's permissions and bounds, live
readers at the end of a stream, positions of other lives, names, several doors."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import pytest

from heartwire import Forbidden, Hub, Identity
from heartwire.testing.server import serving

TEXT: Final = {"content_type": "text/plain"}
JSON: Final = {"content_type": "application/json"}


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of an error."""
        return str(json.loads(self.body)["error"]["code"])


class Client:
    """A client of one server."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send a request, and read the whole answer. ``stream_ttl="1"`` is a header of that name."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with asyncio.timeout(10):
            async with self._session.request(method, self.url + path, data=body, headers=named) as answer:
                return Answer(answer.status, answer.headers, await answer.read())

    async def make(self, path: str, body: bytes | None = None, content_type: str = "text/plain") -> str:
        """Create a stream. Returns the offset after its first body."""
        answer = await self.ask("PUT", path, body, content_type=content_type)
        assert answer.status == 201, answer.body
        return answer.headers["stream-next-offset"]

    async def append(self, path: str, body: bytes, **headers: str) -> int:
        return (await self.ask("POST", path, body, **({"content_type": "text/plain"} | headers))).status

    @contextlib.asynccontextmanager
    async def events(self, path: str, **headers: str) -> AsyncIterator["Events"]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.get(self.url + path, headers=named) as answer:
            assert answer.status == 200, await answer.text()
            yield Events(answer)


class Events:
    """An event stream."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def next(self) -> tuple[str, str, str]:
        """The next event: its name, data and id. Raises ``EOFError`` at the end."""
        async with asyncio.timeout(10):
            while True:
                fields: dict[str, list[str]] = {}
                while (line := (await self.answer.content.readline()).decode()) not in ("\n", ""):
                    name, _, value = line.rstrip("\n").partition(":")
                    fields.setdefault(name, []).append(value.removeprefix(" "))
                if not line:
                    raise EOFError
                if "event" in fields:
                    return fields["event"][0], "\n".join(fields["data"]), fields["id"][0]

    async def rest(self) -> list[tuple[str, str]]:
        """All events until the server ends the answer."""
        events = []
        with contextlib.suppress(EOFError):
            while True:
                events.append((await self.next())[:2])
        return events


@contextlib.asynccontextmanager
async def client_of(hub: Hub, *, is_native: bool = True) -> AsyncIterator[Client]:
    app: Any = hub if is_native else hub.asgi()
    async with serving(app, hub=hub) as url, aiohttp.ClientSession() as session:
        yield Client(url, session)


def durable(**options: Any) -> Hub:
    hub = Hub(**({"allow_anonymous": True} | options))
    hub.namespace("", durable=True)
    return hub


async def connected(hub: Hub, count: int) -> None:
    """Wait until so many live readers are there."""
    async with asyncio.timeout(10):
        while len(hub.node.connections) < count:  # noqa: ASYNC110 - a few turns of this very loop
            await asyncio.sleep(0)


doors = pytest.mark.parametrize("is_native", [True, False])


# -- live readers --------------------------------------------------------------------------------------------


@doors
async def test_a_live_reader_gets_all_and_then_the_end(is_native: bool) -> None:
    async with client_of(durable(), is_native=is_native) as client:
        await client.make("/streams/a", b"one")
        async with client.events("/streams/a?offset=-1&live=sse") as events:
            assert (await events.next())[:2] == ("data", "one")
            assert '"upToDate":true' in (await events.next())[1]
            assert await client.append("/streams/a", b"two") == 204
            assert (await events.next())[:2] == ("data", "two")
            await events.next()
            assert await client.append("/streams/a", b"three", stream_closed="true") == 204
            data, *controls = await events.rest()
            assert data == ("data", "three")
            assert ["streamClosed" in told for _, told in controls] == [False, True]


@doors
async def test_deleting_a_stream_ends_its_live_readers(is_native: bool) -> None:
    hub = durable()
    async with client_of(hub, is_native=is_native) as client:
        offset = await client.make("/streams/a", b"one")
        async with client.events(f"/streams/a?offset={offset}&live=sse") as events:
            await events.next()
            poll = asyncio.ensure_future(client.ask("GET", f"/streams/a?offset={offset}&live=long-poll"))
            await connected(hub, 2)
            assert (await client.ask("DELETE", "/streams/a")).status == 204
            assert await events.rest() == []
            assert (await poll).status == 404


async def test_positions_of_a_deleted_stream_are_not_those_of_the_next() -> None:
    async with client_of(durable()) as client:
        old = await client.make("/streams/a", b"old")
        await client.ask("DELETE", "/streams/a")
        await client.make("/streams/a", b"new")
        for live in ("", "&live=sse", "&live=long-poll"):
            answer = await client.ask("GET", f"/streams/a?offset={old}{live}")
            assert answer.status == 410
            assert answer.code == "stream_gone"


async def test_an_event_source_comes_back_by_its_last_id_and_stops_at_the_end() -> None:
    async with client_of(durable()) as client:
        await client.make("/streams/a", b"one")
        path = "/streams/a?offset=-1&live=sse"
        async with client.events(path) as events:
            _, _, seen = await events.next()
        await client.append("/streams/a", b"two", stream_closed="true")
        async with client.events(path, last_event_id=seen) as events:
            name, data, seen = await events.next()
            assert (name, data) == ("data", "two")
        assert (await client.ask("GET", path, last_event_id=seen)).status == 204


async def test_a_character_in_two_appends_is_one_over_events() -> None:
    async with client_of(durable()) as client:
        await client.make("/streams/a", "aé".encode()[:2])
        async with client.events("/streams/a?offset=-1&live=sse") as events:
            assert (await events.next())[:2] == ("data", "a")
            _, _, seen = await events.next()
            await client.append("/streams/a", "é".encode()[1:])
            assert (await events.next())[:2] == ("data", "é")
        async with client.events(f"/streams/a?offset={seen}&live=sse") as events:
            assert (await events.next())[:2] == ("data", "é")
        whole = await client.ask("GET", "/streams/a")
        assert whole.body == "aé".encode()


async def test_a_draining_server_lets_its_readers_go() -> None:
    hub = durable()
    async with client_of(hub) as client:
        offset = await client.make("/streams/a")
        poll = asyncio.ensure_future(client.ask("GET", f"/streams/a?offset={offset}&live=long-poll"))
        async with client.events("/streams/a?offset=-1&live=sse") as events:
            await events.next()
            await connected(hub, 2)
            hub.drain()
            assert await events.rest() == []
        assert (await poll).status == 204


async def test_a_live_reader_keeps_a_stream() -> None:
    hub = durable()
    async with client_of(hub) as client:
        await client.ask("PUT", "/streams/a", stream_ttl="2", content_type="text/plain")
        touched = []
        touch = hub.node.engine.touch
        hub.node.engine.touch = lambda channel: (touched.append(channel), touch(channel))[1]  # type: ignore[method-assign,func-returns-value]
        async with client.events("/streams/a?offset=-1&live=sse") as events:
            await events.next()
            assert touched == ["a"]
            hub.node.background.deadlines.advance(hub.node.clocks.monotonic() + 1)
            assert touched == ["a", "a"]


@pytest.mark.parametrize("ending", ["POST", "DELETE"])
async def test_a_run_hears_at_once_that_a_client_ends_its_stream(ending: str) -> None:
    hub = durable(stream_lease_s=3600)
    ended = asyncio.get_running_loop().create_future()

    async def produce() -> AsyncIterator[str]:
        try:
            yield "word"
            await asyncio.Event().wait()
        finally:
            ended.set_result(None)

    async with client_of(hub) as client:
        await hub.start_stream("a", produce)
        while (answer := await client.ask("GET", "/streams/a?offset=-1&live=long-poll")).status != 200:
            pass
        assert answer.body == b"word"
        assert (await client.ask(ending, "/streams/a", stream_closed="true")).status == 204
        async with asyncio.timeout(10):
            await ended


# -- reading -------------------------------------------------------------------------------------------------


async def test_a_long_stream_is_read_in_chunks() -> None:
    async with client_of(durable()) as client:
        offset = await client.make("/streams/a")
        piece = bytes(range(256)) * 2048
        for _ in range(5):
            assert await client.append("/streams/a", piece) == 204
        await client.ask("POST", "/streams/a", stream_closed="true")
        read, answers = b"", list[Answer]()
        while not answers or "stream-up-to-date" not in answers[-1].headers:
            answer = await client.ask("GET", f"/streams/a?offset={offset}")
            read += answer.body
            offset = answer.headers["stream-next-offset"]
            answers.append(answer)
        assert read == piece * 5
        assert len(answers) == 3
        assert ["stream-closed" in one.headers for one in answers] == [False, False, True]


async def test_answers_say_who_may_keep_them() -> None:
    public, private = durable(), durable()

    @private.authenticate
    async def who(request: Any) -> str:
        return "kim"

    for hub, word in ((public, "public"), (private, "private")):
        async with client_of(hub) as client:
            await client.make("/streams/a", b"x")
            answer = await client.ask("GET", "/streams/a")
            assert answer.headers["cache-control"].startswith(word)
            assert "Authorization" in answer.headers["vary"]
            tag = answer.headers["etag"]
            again = await client.ask("GET", "/streams/a", if_none_match=tag)
            assert (again.status, again.headers["etag"]) == (304, tag)
            await client.ask("POST", "/streams/a", stream_closed="true")
            assert (await client.ask("GET", "/streams/a", if_none_match=tag)).status == 200


# -- names and doors -----------------------------------------------------------------------------------------


async def test_names_have_segments() -> None:
    async with client_of(durable()) as client:
        await client.make("/streams/chats/42/answer", b"x")
        assert (await client.ask("GET", "/streams/chats%2F42/answer")).status == 200
        assert (await client.ask("GET", "/streams/chats/42")).status == 404
        for path in ("/streams", "/streams/", "/streams/__ds", "/streams/__ds/subscriptions/a"):
            assert (await client.ask("GET", path)).status == 404
        answer = await client.ask("PATCH", "/streams/a")
        assert (answer.status, answer.headers["allow"]) == (405, "GET, PUT, POST, DELETE, OPTIONS")


async def test_only_durable_channels_are_streams() -> None:
    hub = Hub(allow_anonymous=True)
    hub.namespace("chat")
    async with client_of(hub) as client:
        answer = await client.ask("PUT", "/streams/chat:1")
        assert (answer.status, answer.code) == (501, "not_available")
        assert "durable = true" in answer.body.decode()
        assert (await client.ask("PUT", "/streams/other:1")).status == 404


async def test_the_protocol_is_spoken_where_it_is_configured_to_be() -> None:
    for path, expected in (("", 404), ("/v1/stream", 404), ("/streams", 201)):
        async with client_of(durable(durable_path=path)) as client:
            assert (await client.ask("PUT", "/streams/a")).status == expected


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
@doors
async def test_appends_are_answered_alike_at_each_door(is_native: bool, engine: str, tmp_path: Path) -> None:
    hub = Hub("memory" if engine == "memory" else f"sqlite:///{tmp_path}/streams.db", allow_anonymous=True)
    hub.namespace("", durable=True, max_stream_bytes=100)
    slow: list[str] = []
    admit = hub.node.publishing.admit
    hub.node.publishing.admit = lambda *given: (slow.append(given[1]), admit(*given))[1]  # type: ignore[method-assign,func-returns-value]
    producer = {"producer_id": "p", "producer_epoch": "3", "producer_seq": "0"}
    async with client_of(hub, is_native=is_native) as client:
        for name, body in (("a", b"x"), ("closed", b"y")):
            await client.make(f"/streams/{name}", body)
        await client.ask("POST", "/streams/closed", stream_closed="true")
        slow.clear()

        async def ask(path: str, body: bytes, **headers: str) -> tuple[int, dict[str, str]]:
            async with aiohttp.ClientSession() as session:  # else it is not the first of its connection
                answer = await Client(client.url, session).ask("POST", path, body, **(TEXT | headers))
            offset = {"stream-next-offset": answer.headers.get("stream-next-offset", "_")[-1]}
            return answer.status, {k.lower(): v for k, v in answer.headers.items()} | offset

        async def got(path: str, body: bytes, *names: str, **headers: str) -> list[object]:
            status, has = await ask(path, body, **headers)
            assert has["x-content-type-options"] == "nosniff"
            assert has["cross-origin-resource-policy"] == "same-origin"
            assert has["vary"] == "Origin, Accept, Authorization"
            return [status, *(has.get(name) for name in names)]

        offset = "stream-next-offset"
        assert await got("/streams/a", b"one", offset, "producer-seq", "content-length") == [
            204,
            "2",
            None,
            None,
        ]
        assert await got("/streams/a", b"two", offset, "producer-seq", **producer) == [200, "3", "0"]
        assert await got("/streams/a", b"two", offset, "producer-epoch", **producer) == [204, "3", "3"]
        assert await got("/streams/a", b"c", offset, stream_seq="5") == [204, "4"]
        assert len(slow) == (0 if is_native else 4)
        assert await got("/streams/a", b"c", stream_seq="5") == [409]
        late, gap = {"producer_epoch": "2"}, {"producer_seq": "7"}
        assert await got("/streams/a", b"x", "producer-epoch", **(producer | late)) == [403, "3"]
        names = "producer-expected-seq", "producer-received-seq"
        assert await got("/streams/a", b"x", *names, **(producer | gap)) == [409, "1", "7"]
        assert await got("/streams/closed", b"x", "stream-closed", offset) == [409, "true", "1"]
        assert await got("/streams/a", b"x" * 100) == [413]
        assert await got("/streams/a", b"x", content_type="image/png") == [409]
        assert await got("/streams/none", b"x") == [404]
        assert await got("/streams/a", b"", offset) == [400, "_"]
        await client.make("/streams/json", None, JSON["content_type"])
        assert await got("/streams/json", b"[1, [2]]", offset, **JSON) == [204, "2"]
        assert await got("/streams/json", b"[1, 2", **JSON) == [400]
        assert (await client.ask("GET", "/streams/json")).body == b"[1,[2]]"
        assert (await client.ask("GET", "/streams/a")).body == b"xonetwoc"


# -- permissions and bounds ----------------------------------------------------------------------------------


async def test_readers_may_not_write_and_writers_may_not_read() -> None:
    hub = Hub()

    @hub.authenticate
    async def who(request: Any) -> Identity:
        return Identity(request.headers.get("authorization", ""))

    @hub.namespace("answer", durable=True)
    async def may(identity: Identity, action: str, channel: str) -> bool:
        return identity.user == {"subscribe": "reader", "publish": "writer"}[action]

    async with client_of(hub) as client:
        path = "/streams/answer:1"
        for user, writes, reads in (("reader", 403, 200), ("writer", 204, 403), ("", 403, 403)):
            await client.ask("PUT", path, b"x", authorization="writer", **TEXT)
            for method in ("PUT", "POST", "DELETE"):
                answer = await client.ask(method, path, b"x", authorization=user, **TEXT)
                assert answer.status == (writes if method != "PUT" or writes == 403 else 200)
            await client.ask("PUT", path, b"x", authorization="writer", **TEXT)
            for query in ("", "?offset=-1&live=long-poll"):
                assert (await client.ask("GET", path + query, authorization=user)).status == reads
            assert (await client.ask("HEAD", path, authorization=user)).status == reads
        answer = await client.ask("PUT", "/streams/answer:2", authorization="writer", stream_forked_from=path)
        assert answer.status == 403  # a fork shows what its source has


async def test_the_application_looks_at_what_is_appended() -> None:
    hub = durable()

    @hub.on_publish
    async def look(identity: Identity, channel: str, data: bytes) -> bytes | None:
        if b"bad" in data:
            raise Forbidden("no")
        return b'"changed"' if b"old" in data else None

    async with client_of(hub) as client:
        await client.make("/streams/a", b'["old", 1]', JSON["content_type"])
        assert await client.append("/streams/a", b'[1, "bad"]', **JSON) == 403
        assert json.loads((await client.ask("GET", "/streams/a")).body) == ["changed", 1]


async def test_pages_of_other_origins_are_refused_unless_they_are_allowed() -> None:
    async with client_of(durable(allowed_origins=("https://app.example",))) as client:
        assert (await client.ask("PUT", "/streams/a", origin="https://evil.example")).status == 403
        answer = await client.ask("PUT", "/streams/a", origin="https://app.example")
        assert answer.status == 201
        assert "Stream-Next-Offset" in answer.headers["access-control-expose-headers"]
        answer = await client.ask(
            "OPTIONS",
            "/streams/a",
            origin="https://app.example",
            access_control_request_headers="producer-id",
        )
        assert answer.headers["access-control-allow-headers"] == "producer-id"
        assert "PUT" in answer.headers["access-control-allow-methods"]


async def test_bounds() -> None:
    hub = Hub(allow_anonymous=True, max_message_bytes=100, publish_rate_per_s=0.001, publish_burst=4)
    hub.namespace("", durable=True, max_stream_bytes=150)
    async with client_of(hub) as client:
        await client.make("/streams/a", b"x" * 100)
        for size, code in ((101, "message_too_large"), (51, "stream_full")):
            answer = await client.ask("POST", "/streams/a", b"x" * size, **TEXT)
            assert (answer.status, answer.code) == (413, code)
        assert await client.append("/streams/a", b"x" * 50) == 204
        answer = await client.ask("POST", "/streams/a", b"x", **TEXT)
        assert (answer.status, answer.code) == (413, "stream_full")
        answer = await client.ask("POST", "/streams/a", b"x", **TEXT)
        assert answer.status == 429
        assert re.fullmatch(r"\d+", answer.headers["retry-after"])


async def test_an_append_with_an_idempotency_key_is_kept_once() -> None:
    async with client_of(durable()) as client:
        await client.make("/streams/a")
        for body, key in ((b"one", "k1"), (b"two", "k2"), (b"one", "k1")):
            answer = await client.ask("POST", "/streams/a", body, idempotency_key=key, **TEXT)
            assert answer.status == 204
        assert answer.headers["stream-next-offset"].endswith("1")
        assert (await client.ask("GET", "/streams/a")).body == b"onetwo"
        answer = await client.ask("POST", "/streams/a", b"x", idempotency_key="é" * 200, **TEXT)
        assert (answer.status, answer.code) == (400, "bad_idempotency_key")


async def test_refusals_have_a_code_and_the_headers_of_the_protocol() -> None:
    async with client_of(durable()) as client:
        tail = await client.make("/streams/a", b"x")
        producer = {"producer_id": "p", "producer_epoch": "1", "producer_seq": "0", **TEXT}
        assert (await client.ask("POST", "/streams/a", b"y", **producer)).status == 200
        answer = await client.ask("POST", "/streams/a", b"y", **(producer | {"producer_epoch": "0"}))
        assert (answer.status, answer.headers["producer-epoch"]) == (403, "1")
        answer = await client.ask("POST", "/streams/a", b"y", **(producer | {"producer_seq": "5"}))
        assert answer.status == 409
        assert answer.headers["producer-expected-seq"] == "1"
        assert answer.headers["producer-received-seq"] == "5"
        assert answer.code == "producer_gap"
        await client.ask("POST", "/streams/a", stream_closed="true")
        answer = await client.ask("POST", "/streams/a", b"y", **TEXT)
        assert (answer.status, answer.headers["stream-closed"]) == (409, "true")
        assert answer.headers["stream-next-offset"] > tail
        assert answer.headers["x-content-type-options"] == "nosniff"
