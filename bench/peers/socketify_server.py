"""Peer: socketify (uWebSockets, C++) with its own publish/subscribe. Usage: socketify_server.py PORT."""

# mypy: disable-error-code="import-not-found, import-untyped, no-any-unimported, no-untyped-call"

import sys

from socketify import App, AppListenOptions, OpCode, WebSocket

TOPIC = "bench"


def join(socket: WebSocket) -> None:
    """Subscribe a connection to the one topic."""
    socket.subscribe(TOPIC)


def publish(socket: WebSocket, message: str, opcode: OpCode) -> None:
    """Send one message to all subscribers; not to the sender, as uWebSockets has it."""
    socket.publish(TOPIC, message, opcode)


def echo(socket: WebSocket, message: str, opcode: OpCode) -> None:
    """Send one message back."""
    socket.send(message, opcode)


def main(port: int) -> None:
    """Serve until ended. max_backpressure 0: no limit, so that nothing is dropped."""
    common = {"compression": 0, "max_backpressure": 0, "idle_timeout": 960}
    app = App()
    app.ws("/sub", {**common, "open": join})
    app.ws("/pub", {**common, "message": publish})
    app.ws("/echo", {**common, "message": echo})
    app.listen(AppListenOptions(port=port, host="127.0.0.1"), lambda _config: None)
    app.run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
