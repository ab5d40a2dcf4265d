"""What caches, proxies, monitors and browsers send by themselves: tags, HEAD, positions that are none, and
bodies that are compressed. By both doors."""

import gzip
import json
from collections.abc import Callable

import pytest

from heartwire import Hub
from tests.unit.transports.tools import SERVERS, Answer, Served, Wire, at_rest, published, soon

pytestmark = pytest.mark.parametrize("door", sorted(SERVERS))


async def ask(served: Served, method: str, path: str, *lines: str, body: bytes = b"") -> Answer:
    wire = await Wire.open(served)
    await wire.send(_request(method, path, *lines, body=body))
    return await soon(wire.answer())


def _request(method: str, path: str, *lines: str, body: bytes = b"") -> bytes:
    head = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *lines, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


TAGS: dict[str, Callable[[str], str]] = {
    "as it was": lambda tag: f'"{tag}"',
    "weak": lambda tag: f'W/"{tag}"',
    "Apache, Caddy": lambda tag: f'"{tag}-gzip"',
    "Caddy": lambda tag: f'W/"{tag}-zstd"',
    "Jetty": lambda tag: f'"{tag}--gzip"',
    "semicolon": lambda tag: f'"{tag};gzip"',
    "slash": lambda tag: f'"{tag}/br"',
    "one of a list": lambda tag: f'"other", W/"{tag}-br", "more"',
    "on a second line": lambda tag: f'"other"\r\nIf-None-Match: "{tag}"',
    "any": lambda tag: "*",
    "without quotes": lambda tag: tag,
}


@pytest.mark.parametrize("how", TAGS)
@pytest.mark.parametrize("query", ["", "?wait=0.01", "?since=POSITION"])
async def test_a_known_tag_in_any_form(door: str, how: str, query: str) -> None:
    """Behind a proxy that compresses, every poll was an error."""
    hub = Hub()
    async with SERVERS[door](hub) as served:
        position = str(await hub.publish("a", "one"))
        path = "/channels/a" + query.replace("POSITION", position)
        answer = await ask(served, "GET", path, f"If-None-Match: {TAGS[how](position)}")
        assert (answer.status, dict(answer.headers)["etag"]) == (304, f'"{position}"')
        await hub.publish("a", "two")
        answer = await ask(served, "GET", path, f"If-None-Match: {TAGS[how](position)}")
        if how == "any" and "since" not in query:
            assert answer.status == 304  # it has no position to go on from
        else:
            assert [one["data"] for one in json.loads(answer.body)["publications"]] == ["two"]


@pytest.mark.parametrize(
    "tag", ['"abc"', '"x y"', 'W/"5f-1234"', '"abc", "def"', '"', "W/", ",", '"a.1~b.2"']
)
async def test_a_foreign_tag_is_not_an_error(door: str, tag: str) -> None:
    hub = Hub()
    async with SERVERS[door](hub) as served:
        position = str(await hub.publish("a", "one"))
        answer = await ask(served, "GET", "/channels/a", f"If-None-Match: {tag}")
        told = json.loads(answer.body)
        assert (answer.status, told["position"], told["publications"]) == (200, position, [])


@pytest.mark.parametrize(
    ("path", "accept", "content_type"),
    [
        ("/channels/a", "text/event-stream", "text/event-stream; charset=utf-8"),
        ("/channels?channel=a&channel=b", "text/event-stream", "text/event-stream; charset=utf-8"),
        ("/channels/a?wait=50&client=me", "*/*", "application/json"),
        ("/channels?channel=a&channel=b&wait=50", "*/*", "application/json"),
        ("/connection/sse", "text/event-stream", "text/event-stream; charset=utf-8"),
    ],
)
async def test_head_has_headers_and_an_end(door: str, path: str, accept: str, content_type: str) -> None:
    """A monitor that asked with HEAD was held as a stream, and stood in presence."""
    hub = Hub()
    async with SERVERS[door](hub) as served:
        wire = await Wire.open(served)
        await wire.send(_request("HEAD", path, f"Accept: {accept}"))
        head = await soon(wire.until(b"\r\n\r\n"))
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert f"content-type: {content_type}\r\n".encode() in head.lower()
        assert await hub.node.presence.members("a") == []  # type: ignore[arg-type]
        assert at_rest(hub)
        # The connection is free again.
        await wire.send(_request("GET", "/health"))
        assert (await soon(wire.answer())).status == 200


@pytest.mark.parametrize(
    "event_id", ["12345", "b7e1c2f0-8a7e-4f1e-9a52-0d3f6f0c9a11", "undefined", "h\xe9", "a.1~b.2"]
)
@pytest.mark.parametrize("path", ["/channels/a", "/channels?channel=a&channel=b&channel=c"])
async def test_a_stream_from_an_id_that_is_no_position_begins_with_a_gap(
    door: str, event_id: str, path: str
) -> None:
    """400 ends an EventSource for good."""
    hub = Hub()
    async with SERVERS[door](hub) as served:
        await hub.publish("a", "kept")
        wire = await Wire.open(served)
        await wire.send(_request("GET", path, "Accept: text/event-stream", f"Last-Event-ID: {event_id}"))
        told = await soon(wire.until(b"kept"))
        assert told.startswith(b"HTTP/1.1 200 OK")
        assert b"event: gap\n" in told
    async with SERVERS[door](hub := Hub()) as served:
        wire = await Wire.open(served)
        sign = "&" if "?" in path else "?"
        await wire.send(_request("GET", f"{path}{sign}since=12345", "Accept: text/event-stream"))
        assert (await soon(wire.answer())).status == 400


@pytest.mark.parametrize(
    "path", ["/channels/a", "/connection/http_stream", "/connection/commands", "/emulation", "/api/publish"]
)
@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP", "identity, gzip"])
async def test_a_compressed_body_is_refused(door: str, path: str, encoding: str) -> None:
    """Its compressed bytes were published."""
    hub = Hub(api_key="key")
    async with SERVERS[door](hub) as served:
        answer = await ask(
            served, "POST", path, f"Content-Encoding: {encoding}", "X-API-Key: key", body=gzip.compress(b"hi")
        )
        assert answer.status == 415
        assert json.loads(answer.body)["error"]["code"] == "unsupported_encoding"
        assert published(hub, "a") == []


async def test_identity_is_no_encoding(door: str) -> None:
    hub = Hub()
    async with SERVERS[door](hub) as served:
        answer = await ask(served, "POST", "/channels/a", "Content-Encoding: identity", body=b"hi")
        assert answer.status == 200
        assert published(hub, "a") == [(True, b"hi")]
