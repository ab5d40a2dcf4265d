"""What every address does alike."""

from typing import Any

from starlette.requests import Request

from heartwire.server.addresses import Call, end_at_once


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
