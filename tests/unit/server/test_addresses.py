"""What every address does alike."""

from typing import Any

from starlette.requests import Request

from heartwire.server.addresses import Call, Route, end_at_once, find_route, table_of


async def test_head_on_a_stream_has_its_headers_and_no_body() -> None:
    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event)

    request = Request({"type": "http", "method": "HEAD", "headers": []})
    call = Call(request, [], {"vary": "Origin"}, send)
    await end_at_once(call, [(b"content-type", b"text/event-stream")])
    headers = [(b"content-type", b"text/event-stream"), (b"vary", b"Origin")]
    start, body = sent
    assert start == {"type": "http.response.start", "status": 200, "headers": headers}
    assert body["body"] == b""
    assert not body.get("more_body")


def test_a_route_may_take_all_segments_that_are_left() -> None:
    async def answer(call: Call) -> None: ...

    whole, inner = Route("/v1/streams/{*}", ("GET",), answer), Route("/v1/streams/now", ("GET",), answer)
    table = table_of([whole, inner])
    assert find_route(table, ["v1", "streams", "a", "", "b"]) == (whole, ["a", "", "b"])
    assert find_route(table, ["v1", "streams", "now"]) == (inner, [])
    for path in (["v1", "streams"], ["v1"], ["v1", "other", "a"], [""]):
        assert find_route(table, path) is None
