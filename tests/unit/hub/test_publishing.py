"""One error for one fault, on every door that takes a publish; and the checks come in one order."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import pytest

from heartwire import Hub, Refused
from heartwire.codes import CODES
from heartwire.hub.options import NamespaceOptions
from heartwire.streams.record import StreamOptions
from heartwire.types import Channel, Message, Publisher

MAX_BYTES: Final = 1000


class Publish(NamedTuple):
    """What is published; without a fault of its own."""

    channel: str = "n:1"
    data: str = "x"
    key: str | None = None


class Told(NamedTuple):
    """An answer: a `Code`'s ``name``, ``number`` or ``close_code``, by the name of that field."""

    field: str
    value: object


class Door(Protocol):
    async def __call__(self, hub: Hub, publishes: list[Publish]) -> Told | None:
        """Publish them one after the other; the answer to the last, ``None`` where it was taken."""


# -- the doors -----------------------------------------------------------------------------------------------


async def http(hub: Hub, path: str, body: str, headers: dict[str, str], application: Any = None) -> Any:
    """One POST to the hub's application, a new one by default; the parsed answer."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body.encode(), "more_body": False}

    async def send(event: Any) -> None:
        sent.append(event)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [
            (b"host", b"here"),
            *((name.encode(), value.encode()) for name, value in headers.items()),
        ],
        "client": ("1.2.3.4", 5),
    }
    await (application or hub.asgi())(scope, receive, send)
    return json.loads(b"".join(event.get("body", b"") for event in sent))


async def socket(hub: Hub, path: str, query: str, messages: list[str]) -> list[Any]:
    """One WebSocket to the hub's application; the events of what it sends, up to its close."""
    coming: list[Any] = [{"type": "websocket.receive", "text": message} for message in messages]
    coming.insert(0, {"type": "websocket.connect"})
    sent: list[Any] = []

    async def receive() -> Any:
        if coming:
            return coming.pop(0)
        for _ in range(10):
            await asyncio.sleep(0)
        return {"type": "websocket.disconnect"}

    async def send(event: Any) -> None:
        sent.append(event)

    scope = {
        "type": "websocket",
        "path": path,
        "query_string": query.encode(),
        "headers": [],
        "client": ("1.2.3.4", 5),
        "subprotocols": [],
    }
    await hub.asgi()(scope, receive, send)
    return sent


async def by_post(hub: Hub, publishes: list[Publish]) -> Told | None:
    answer: Any = None
    for channel, data, key in publishes:
        headers = {} if key is None else {"idempotency-key": key}
        answer = await http(hub, f"/channels/{channel}", data, headers)
    return Told("name", answer["error"]["code"]) if "error" in answer else None


async def by_socket(hub: Hub, publishes: list[Publish]) -> Told | None:
    assert all(one.key is None for one in publishes)
    messages = [data for _, data, _ in publishes]
    sent = await socket(hub, f"/channels/{publishes[0].channel}", "format=json&echo=0", messages)
    for event in reversed(sent):
        if event["type"] == "websocket.close":
            return Told("close_code", event["code"])
        if "error" in (told := json.loads(event.get("text", "{}"))):
            return Told("name", told["error"]["code"])
    return None


async def by_command(hub: Hub, publishes: list[Publish]) -> Told | None:
    commands: list[Any] = [{"id": 1, "connect": {}}]
    for channel, data, key in publishes:
        publish = {"channel": channel, "data": data} | ({} if key is None else {"idempotency_key": key})
        commands.append({"id": len(commands) + 1, "publish": publish})
    sent = await socket(hub, "/connection/websocket", "", [json.dumps(command) for command in commands])
    if sent[-1]["type"] == "websocket.close":
        return Told("close_code", sent[-1]["code"])
    replies = [json.loads(line) for event in sent[1:] for line in event["text"].split("\n")]
    (reply,) = [reply for reply in replies if reply.get("id") == len(commands)]
    return Told("number", reply["error"]["code"]) if "error" in reply else None


async def by_api(hub: Hub, publishes: list[Publish]) -> Told | None:
    answer: Any = None
    for channel, data, key in publishes:
        body = {"channel": channel, "data": data} | ({} if key is None else {"idempotency_key": key})
        answer = await http(hub, "/api/publish", json.dumps(body), {"x-api-key": "k"})
    return Told("number", answer["error"]["code"]) if "error" in answer else None


async def by_hub(hub: Hub, publishes: list[Publish]) -> Told | None:
    told: Told | None = None
    await hub.start()
    for channel, data, key in publishes:
        try:
            await hub.publish(channel, data, idempotency_key=key)
            told = None
        except Refused as refusal:
            told = Told("name", refusal.code.name)
    return told


CLIENTS: Final[tuple[Door, ...]] = (by_post, by_socket, by_command)
BACKENDS: Final[tuple[Door, ...]] = (by_api, by_hub)
WITH_KEYS: Final[tuple[Door, ...]] = (by_post, by_command, *BACKENDS)


def by_door(rows: "Sequence[Fault]") -> list[Any]:
    """Each row with each of its doors."""
    return [
        pytest.param(row, door, id=f"{row.code}-{door.__name__}")  # type: ignore[attr-defined]
        for row in rows
        for door in row.doors
    ]


def is_code(name: str, told: Told | None) -> bool:
    return told is not None and told.value == getattr(CODES[name], told.field)


# -- one error for one fault ---------------------------------------------------------------------------------


def hub_where(*, rate: bool = False, publish: bool = True, hook: bool = False) -> Hub:
    """A hub with a namespace "n", and "d" of streams. ``rate``: of two publishes of a client the second is too fast; ``hook``: one
    that refuses."""
    options: dict[str, Any] = {"publish_rate_per_s": 0.001, "publish_burst": 1} if rate else {}
    durable = NamespaceOptions(publish=publish, durable=True, max_stream_bytes=5)
    namespaces: dict[str, Any] = {"n": NamespaceOptions(publish=publish), "d": durable}
    hub = Hub(namespaces=namespaces, max_message_bytes=MAX_BYTES, api_key="k", **options)
    if hook:

        @hub.on_publish
        def refuse(*_: object) -> None:
            raise Refused("limit_exceeded", "not that word")

    return hub


class Fault(NamedTuple):
    code: str
    doors: tuple[Door, ...]
    publish: Publish = Publish()
    hub: Callable[[], Hub] = hub_where


FAULTS: Final = [
    Fault("bad_channel", CLIENTS + BACKENDS, Publish(channel="n:a\nb")),
    Fault("unknown_channel", CLIENTS + BACKENDS, Publish(channel="other:1")),
    Fault("message_too_large", CLIENTS + BACKENDS, Publish(data="x" * (MAX_BYTES + 1))),
    Fault("bad_idempotency_key", WITH_KEYS, Publish(key="a b")),
    Fault("too_many_requests", CLIENTS, hub=lambda: hub_where(rate=True)),
    Fault("forbidden", CLIENTS, hub=lambda: hub_where(publish=False)),
    Fault("limit_exceeded", CLIENTS, hub=lambda: hub_where(hook=True)),
    Fault("stream_not_found", CLIENTS + BACKENDS, Publish(channel="d:1")),
]


@pytest.mark.parametrize(("fault", "door"), by_door(FAULTS))
async def test_one_error_for_one_fault_on_every_door(fault: Fault, door: Door) -> None:
    hub = fault.hub()
    assert is_code(fault.code, await door(hub, [fault.publish] * 2))
    await hub.stop()


@pytest.mark.parametrize("door", CLIENTS + BACKENDS, ids=lambda door: door.__name__)
async def test_a_publish_without_a_fault_is_taken(door: Door) -> None:
    hub = hub_where()
    assert await door(hub, [Publish()] * 2) is None
    assert len((await hub.node.history.page(Publish().channel, limit=9)).publications) == 2  # type: ignore[arg-type]
    await hub.stop()


@pytest.mark.parametrize(
    "fault", [fault for fault in FAULTS if fault.doors == CLIENTS], ids=lambda fault: fault.code
)
@pytest.mark.parametrize("door", BACKENDS, ids=lambda door: door.__name__)
async def test_the_application_is_neither_limited_nor_asked(fault: Fault, door: Door) -> None:
    hub = fault.hub()
    assert await door(hub, [fault.publish] * 2) is None
    await hub.stop()


# -- one order -----------------------------------------------------------------------------------------------

CHANNEL, LARGE, KEY = "n:a\nb", "x" * (MAX_BYTES + 1), "a b"


def strict_hub() -> Hub:
    return hub_where(rate=True, publish=False, hook=True)


ORDER: Final = [  # publishes with several faults, by the first in the order of the checks
    Fault("bad_channel", (by_post, *BACKENDS), Publish(CHANNEL, LARGE, KEY), strict_hub),
    Fault("bad_channel", (by_socket,), Publish(CHANNEL, LARGE), strict_hub),  # its messages have no keys
    Fault("bad_channel", (by_command,), Publish(CHANNEL, "x", KEY), strict_hub),  # reads no large frame
    Fault("message_too_large", WITH_KEYS, Publish(data=LARGE, key=KEY), strict_hub),
    Fault("message_too_large", (by_socket,), Publish(data=LARGE), strict_hub),
    Fault("bad_idempotency_key", WITH_KEYS, Publish(key=KEY), strict_hub),
    Fault("too_many_requests", CLIENTS, Publish(), strict_hub),
    Fault("forbidden", CLIENTS, Publish(), lambda: hub_where(publish=False, hook=True)),
    Fault("message_too_large", WITH_KEYS, Publish("d:1", LARGE, KEY)),
    Fault("bad_idempotency_key", WITH_KEYS, Publish("d:1", "x", KEY)),
    Fault("too_many_requests", CLIENTS, Publish("d:1"), strict_hub),
    Fault("forbidden", CLIENTS, Publish("d:1"), lambda: hub_where(publish=False, hook=True)),
]


@pytest.mark.parametrize(("first", "door"), by_door(ORDER))
async def test_the_first_of_several_faults_is_answered(first: Fault, door: Door) -> None:
    hub = first.hub()
    assert is_code(first.code, await door(hub, [first.publish] * 2))
    await hub.stop()


# -- into durable streams ------------------------------------------------------------------------------------

STREAM: Final = Channel("d:1")
each_door = pytest.mark.parametrize("door", CLIENTS + BACKENDS, ids=lambda door: door.__name__)


@contextlib.asynccontextmanager
async def stream(content_type: str = "text/plain") -> AsyncIterator[Hub]:
    hub = Hub(namespaces={"d": NamespaceOptions(durable=True)}, api_key="k")
    await hub.start()
    await hub.node.streams.create(STREAM, StreamOptions(content_type=content_type))
    yield hub
    await hub.stop()


async def kept(hub: Hub) -> list[bytes]:
    return [one.data for one in (await hub.node.history.page(STREAM, limit=-1)).publications]


@each_door
async def test_a_publish_into_a_stream_is_appended_in_order(door: Door) -> None:
    async with stream() as hub:
        words = [f"w{number}" for number in range(100)]
        assert await door(hub, [Publish(STREAM, word) for word in words]) is None
        quotes = '"' if door in (by_command, by_api) else ""  # as for every channel: the payload is JSON
        assert await kept(hub) == [f"{quotes}{word}{quotes}".encode() for word in words]
        assert (await hub.node.streams.look(STREAM)).record.tail == 100


@pytest.mark.parametrize("door", WITH_KEYS, ids=lambda door: door.__name__)
async def test_a_key_that_is_used_again_appends_nothing_also_when_the_stream_is_closed(door: Door) -> None:
    async with stream() as hub:
        publishes = [Publish(STREAM, "a", "k"), Publish(STREAM, "b"), Publish(STREAM, "a", "k")]
        assert await door(hub, publishes) is None
        assert [len(await kept(hub)), await hub.node.streams.close(STREAM, "done")] == [2, True]
        assert await door(hub, publishes[:1]) is None
        assert (await hub.publish(STREAM, "a", idempotency_key="k")).offset == 1
        assert len(await kept(hub)) == 2


@pytest.mark.parametrize("door", WITH_KEYS, ids=lambda door: door.__name__)
async def test_a_closed_stream_takes_nothing(door: Door) -> None:
    async with stream() as hub:
        await hub.node.streams.close(STREAM, "done")
        assert is_code("stream_closed", await door(hub, [Publish(STREAM)]))
        assert await kept(hub) == []


@each_door
async def test_a_full_stream_takes_nothing_more(door: Door) -> None:
    hub = hub_where()
    await hub.start()
    await hub.node.streams.create(STREAM, StreamOptions(), [Message(b"1234")])
    assert is_code("stream_full", await door(hub, [Publish(STREAM, "56")]))
    await hub.stop()


async def test_a_stream_of_json_takes_json_only() -> None:
    async with stream("application/json") as hub:
        assert await by_post(hub, [Publish(STREAM, "{}")]) is None
        assert is_code("bad_request", await by_post(hub, [Publish(STREAM, "word")]))
        assert await kept(hub) == [b"{}"]


async def test_a_stream_keeps_who_published_and_whether_it_is_text() -> None:
    async with stream() as hub:
        who = Publisher("ann", "c-1")
        for body in ("text", b"\x00"):
            await hub.publish(STREAM, body, publisher=who)
        page = await hub.node.history.page(STREAM, limit=-1)
        assert [(one.publisher, one.is_text) for one in page.publications] == [(who, True), (who, False)]


async def test_a_stream_is_not_emptied() -> None:
    async with stream() as hub:
        await hub.publish(STREAM, "x")
        with pytest.raises(Refused, match="durable stream") as refused:
            await hub.remove_history(STREAM)
        assert refused.value.code.name == "not_available"
        assert await kept(hub) == [b"x"]
