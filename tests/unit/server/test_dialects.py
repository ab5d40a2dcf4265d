"""A dialect is added by one line in a list: it is served on every door, and its connections are the hub's."""

from collections.abc import Iterator
from typing import Any, Final

import pytest
from starlette.responses import PlainTextResponse, Response

from heartwire import Hub
from heartwire.channels import to_channel
from heartwire.codes import close_code
from heartwire.hub.connections import Connection
from heartwire.hub.identity import ANONYMOUS
from heartwire.hub.links import WatchedLink
from heartwire.hub.node import Node
from heartwire.server.addresses import Call, Dialect, Handshake, Opening, Route, SocketRoute
from heartwire.server.dialects import DIALECTS
from heartwire.server.requests import read_body
from heartwire.transports.websocket.messages import SocketMessages
from heartwire.transports.websocket.native import NativeSocket
from heartwire.types import NOW, Channel, Position, Publication
from tests.unit.transports.tools import SERVERS, TEXT, Wire, close_frame, connected, frame, soon, until

TOYS: Final = Channel("toys")


class ToyFormat:
    """Publications as they are."""

    def __init__(self, messages: SocketMessages) -> None:
        self._messages = messages

    def encode(self, publication: Publication) -> Any:
        return self._messages.one(publication.is_text, publication.data)

    def join(self, frames: list[Any], last: Publication) -> Any:
        return self._messages.join(frames)

    def joined(self, channel: Channel, position: Position, *, recovered: bool) -> None:
        return None

    def ended(self, end: Publication) -> None:
        return None


class ToyConnection(Connection):
    """Answers each message with itself, and follows one channel."""

    dialect = "toy"
    transport = "websocket"
    identity = ANONYMOUS

    def __init__(self, node: Node, link: WatchedLink, messages: SocketMessages, address: str) -> None:
        self.serial, self.address, self.since = link.serial, address, node.clocks.monotonic()
        self._node, self._link, self._messages = node, link, messages
        node.connections.add(self)

    @property
    def id(self) -> str:
        return self._node.connections.id_of(self.serial)

    @property
    def channels(self) -> list[str]:
        return [subscription.topic.channel for subscription in self._link.subscriptions]

    def opened(self) -> None:
        self._node.presence.follow(self._link, TOYS, ToyFormat(self._messages), NOW)

    def receive(self, is_text: bool, data: bytes) -> None:
        self._link.write(self._messages.payload(is_text, data))

    def lost(self) -> None:
        self._node.connections.remove(self)
        self._node.presence.unfollow_all(self._link)

    def disconnect(self, code: int, reason: str) -> None:
        self._link.close(code, reason)

    def drain(self, after_s: float) -> None:
        self.disconnect(close_code("shutdown"), "the toys go home")


def routes(node: Node) -> Iterator[Route]:
    async def publish(call: Call) -> Response:
        channel, data = to_channel(call.values[0]), await read_body(node, call.request)
        position = await node.publishing.publish_and_wait(None, channel, True, data)
        return PlainTextResponse(str(position.offset))

    yield Route("/toy/{}", ("POST",), publish)


def sockets(node: Node) -> Iterator[SocketRoute]:
    def open(handshake: Handshake) -> Opening:
        def made(link: WatchedLink, messages: SocketMessages) -> ToyConnection:
            return ToyConnection(node, link, messages, handshake.address)

        return Opening(None, made, node.options.max_message_bytes)

    yield SocketRoute("/toy", open)


@pytest.fixture(autouse=True)
def toy() -> Iterator[None]:
    DIALECTS.append(Dialect("toy", routes, sockets))
    yield
    DIALECTS.pop()


@pytest.mark.parametrize("kind", sorted(SERVERS))
async def test_a_dialect_that_is_listed_is_served_and_drained(kind: str) -> None:
    hub = Hub()
    async with SERVERS[kind](hub) as served, await connected(served, "/toy") as toy:
        await toy.send(frame(TEXT, b"hi"))
        assert (await soon(toy.next_frame())).payload == b"hi"
        (connection,) = hub.node.connections
        assert (connection.dialect, connection.channels) == ("toy", [TOYS])
        assert hub.node.connections.get(connection.id) is connection
        assert isinstance(connection, ToyConnection)
        assert isinstance(connection._link, NativeSocket) is (kind == "native")

        async with await Wire.open(served) as poster:
            await poster.send(b"POST /toy/toys HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\na car")
            answer = await soon(poster.answer())
        assert (answer.status, answer.body) == (200, b"1")
        assert (await soon(toy.next_frame())).payload == b"a car"

        hub.drain()
        assert (await soon(toy.next_frame())).payload == (1012).to_bytes(2) + b"the toys go home"
        await toy.send(close_frame(1012))
        await until(lambda: not len(hub.node.connections), "the connection is gone")
