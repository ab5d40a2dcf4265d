"""The wire format of live publications: encoded once per codec, joined once per codec and transport, then the
same bytes for every client."""

from collections.abc import Callable
from typing import Any, Literal

from heartwire.dialects.centrifugal.codec import Codec
from heartwire.types import Channel, Member, Position, Publication

__all__ = ["PushFormat"]


class PushFormat:
    """`heartwire.core.link.WireFormat`. One object serves all connections of a codec on a transport.

    Args:
        pack: turns messages into what a link of the transport takes.
    """

    __slots__ = ("codec", "encode", "pack")

    def __init__(self, codec: Codec, pack: Callable[[list[bytes]], Any]) -> None:
        self.codec = codec
        self.pack = pack
        # One function per codec, so that the core encodes a publication once for all its transports.
        self.encode: Callable[[Publication], bytes] = codec.publication

    def join(self, frames: list[bytes], last: Publication) -> Any:
        """See `WireFormat.join`."""
        return self.pack(self.codec.publications(last.channel, frames))

    def membership(self, channel: Channel, kind: Literal["join", "leave"], member: Member) -> Any:
        """A join or leave, to be sent as it is."""
        return self.pack([self.codec.membership(channel, kind, self.codec.info(member))])

    def joined(self, channel: Channel, position: Position, *, recovered: bool) -> None:
        """See `WireFormat.joined`. The reply has the start; `ClientSubscription` reports a gap."""

    def ended(self, end: Publication) -> None:
        """See `WireFormat.ended`. `ClientSubscription` reports it."""
