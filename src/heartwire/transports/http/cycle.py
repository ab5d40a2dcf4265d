"""What uvicorn's HTTP protocol works with, as `HeartwireHttpProtocol` needs it: flow control, a request, and
a body whose head was parsed before.

In: the protocol's calls, ASGI messages from the application. Out: pauses, answers, the connection to a
`NativeStream`.
"""

from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl as UvicornFlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from heartwire.transports.http.native_stream import TAKE_OVER

__all__ = ["BodyParts", "FlowControl", "StreamingCycle"]


class BodyParts:
    """What httptools finds in a body whose head was parsed before."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self.on_body = protocol.on_body

    def on_message_complete(self) -> None:
        self._protocol.parser = httptools.HttpRequestParser(self._protocol)
        self._protocol.on_message_complete()


class FlowControl(UvicornFlowControl):
    """uvicorn's flow control, which also reads nothing while an answer is not taken."""

    _may_read = True

    def pause_reading(self) -> None:
        self._may_read = False
        super().pause_reading()

    def resume_reading(self) -> None:
        self._may_read = True
        if not self.write_paused:
            super().resume_reading()

    def pause_writing(self) -> None:
        super().pause_writing()
        super().pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._may_read and not self._transport.is_closing():
            super().resume_reading()


class StreamingCycle(RequestResponseCycle):
    """uvicorn's request, which a `NativeStream` can take the connection from."""

    async def receive(self) -> Any:
        """See ASGI. What it returns is the application's to count."""
        message = await super().receive()
        protocol: Any = self.transport.get_protocol()
        if getattr(protocol, "cycle", None) is self:  # else another protocol has the connection
            protocol.bounds.release(protocol)
        return message

    async def send(self, message: Any) -> None:
        """See ASGI. The stream is begun when this returns, or it is not named, or the answer is not one to
        take over."""
        stream = message.get(TAKE_OVER)
        protocol: Any = self.transport.get_protocol()
        if stream is None or not (self._can_be_left() and protocol.may_leave(self)):
            await super().send(message)
            return
        self.response_complete = True
        self.message_event.set()
        protocol.leave()
        stream.begin(self.transport, protocol.connections, message["body"])

    def _can_be_left(self) -> bool:
        """Whether nothing of the request or of its answer is owed but the rest of the body."""
        is_plain = self.response_started and self.chunked_encoding and not self.response_complete
        is_whole = (
            not self.more_body and self.scope["method"] != "HEAD" and self.scope["http_version"] == "1.1"
        )
        return bool(is_plain and is_whole and not self.disconnected and not self.transport.is_closing())
