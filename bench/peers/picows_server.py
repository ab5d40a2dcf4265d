"""Peer: picows (Cython) on uvloop, one `send` per subscriber. Usage: picows_server.py PORT."""

# mypy: disable-error-code="import-not-found, import-untyped, no-any-unimported"
# mypy: allow-subclassing-any

import sys

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

subscribers: set[WSTransport] = set()


class Subscriber(WSListener):
    """A connection that only listens."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Join the broadcast."""
        subscribers.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Leave the broadcast."""
        subscribers.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Answer a close; nothing else is expected."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()


class Publisher(WSListener):
    """A connection whose messages go to all subscribers."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Send one message to everyone."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
            return
        message = frame.get_payload_as_bytes()
        for subscriber in subscribers:
            subscriber.send(WSMsgType.TEXT, message)


class Echo(WSListener):
    """A connection that gets its own messages back."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Send one message back."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
            return
        transport.send(frame.msg_type, frame.get_payload_as_bytes())


def listener(request: WSUpgradeRequest) -> WSListener:
    """Choose by path what a connection is."""
    if request.path == b"/sub":
        return Subscriber()
    return Echo() if request.path == b"/echo" else Publisher()


async def main(port: int) -> None:
    """Serve until ended."""
    server = await ws_create_server(listener, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
