"""The end of an HTTP answer that streams."""

import asyncio
from typing import Any

import pytest

from heartwire import Hub
from heartwire.transports.http.stream import HttpStream
from tests.unit.transports.tools import until


class Transport:
    aborted = False

    def abort(self) -> None:
        self.aborted = True

    def get_extra_info(self, name: str) -> None:
        """It has no socket."""


class Request:
    """A request whose client goes at once."""

    def __init__(self, transport: Transport) -> None:
        self.scope = {"extensions": {"heartwire.transport": transport}}

    async def receive(self) -> Any:
        return {"type": "http.disconnect"}


@pytest.mark.parametrize("has_gone", [False, True])
async def test_a_stream_that_is_given_up_aborts_its_connection_unless_the_client_has_gone(
    has_gone: bool,
) -> None:
    """Where the client has gone, the connection may already carry the next request."""
    transport = Transport()

    async def send(event: Any) -> None:
        raise AssertionError(event)

    request: Any = Request(transport)
    stream = HttpStream(Hub().node.switchboard, request, send, serial=1)
    if has_gone:
        await stream._watch_peer()
    stream.give_up()
    assert transport.aborted is not has_gone


async def test_what_one_turn_writes_is_one_piece_and_much_is_several() -> None:
    transport, sent = Transport(), []

    async def send(event: Any) -> None:
        sent.append(event["body"])

    request: Any = Request(transport)
    stream = HttpStream(Hub().node.switchboard, request, send, serial=1)
    stream.transport = None
    for payload in (b"one", b"two", b"three"):
        stream.write(payload)
    task = asyncio.ensure_future(stream.run())
    await until(lambda: sent == [b"onetwothree"])
    assert stream.backlog_bytes == 0
    for payload in (b"x" * 10_000, b"y" * 10_000, b"z" * 50_000, b"w"):
        stream.write(payload)
    await until(lambda: len(sent) == 4)
    assert [len(body) for body in sent[1:]] == [20_000, 50_000, 1]
    task.cancel()
