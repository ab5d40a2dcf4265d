"""The Protobuf encoding: messages of ``client.proto``, each after its length as a varint, one after the
other.

Payloads are any bytes, as they were published. An application's function receives JSON parsed, so that one
function serves clients of both encodings, and anything else as bytes (`ProtobufCodec.value`).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal

import msgspec
from google.protobuf.message import DecodeError
from msgspec import Raw

from heartwire.dialects.centrifugal import client_pb2 as pb
from heartwire.dialects.centrifugal import types
from heartwire.dialects.centrifugal.codec import Codec, Method, PushKind
from heartwire.dialects.centrifugal.values import Post
from heartwire.text import is_json, is_utf8, parse_json
from heartwire.types import Member, Position, Publication

__all__ = ["PROTOBUF", "ProtobufCodec", "connect_command", "delimited", "emulation_request", "split"]

_MAX_VARINT: Final = 5  # bytes; lengths are below 2**32
_ASKED_FOR: Final = Raw(b"{}")


class ProtobufCodec(Codec):
    """`Codec` for Protobuf. Without state."""

    name = "protobuf"
    is_text = False
    ping = b"\0"

    def commands(self, data: bytes) -> Iterator[types.Command | types.Fault]:
        if not data:
            raise ValueError("an empty frame")
        for message in split(data):
            try:
                command = _decoded(pb.Command, message)
            except ValueError as error:
                yield _fault(message, str(error))
            else:
                yield _command(command)

    def reply(self, id: int, method: Method, result: msgspec.Struct) -> bytes:
        reply = pb.Reply(id=id)
        _write(getattr(reply, method), result)
        return _message(reply)

    def published(self, id: int, position: Position) -> bytes:
        return self.reply(id, "publish", types.PublishResult(position.epoch, position.offset))

    def error(self, id: int, error: types.ErrorBody) -> bytes:
        reply = pb.Reply(id=id)
        _write(reply.error, error)
        return _message(reply)

    def publication(self, publication: Publication) -> bytes:
        made = pb.Publication(data=publication.data, offset=publication.offset)
        publisher = publication.publisher
        if publisher is not None:
            _write(made.info, self.info(Member(publisher.client, publisher.user, publisher.info)))
        return _bytes(made)

    def raw(self, inside: bytes) -> Raw:
        return Raw(inside)

    def publications(self, channel: str, insides: Sequence[bytes]) -> list[bytes]:
        """See `Codec.publications`. Assembled by hand: what is encoded already is not parsed again."""
        head = _field(2, channel.encode())
        return [delimited(_field(4, head + _field(4, inside))) for inside in insides]

    def membership(self, channel: str, kind: Literal["join", "leave"], info: types.ClientInfo) -> bytes:
        reply = pb.Reply()
        reply.push.channel = channel
        _write(getattr(reply.push, kind).info, info)
        return _message(reply)

    def push(self, kind: PushKind, channel: str, body: msgspec.Struct) -> bytes:
        reply = pb.Reply()
        reply.push.channel = channel
        _write(getattr(reply.push, kind), body)
        return _message(reply)

    join = staticmethod(b"".join)

    def payload(self, data: bytes) -> Raw:
        return Raw(data)

    def info(self, member: Member) -> types.ClientInfo:
        info = Raw(member.info) if member.info else None
        chan_info = Raw(member.chan_info) if member.chan_info else None
        return types.ClientInfo(member.user, member.client, info, chan_info)

    def post(self, request: types.PublishRequest) -> Post:
        """See `Codec.post`. Any bytes may be published; those that are JSON are text."""
        data = bytes(request.data)
        return Post(data, is_json(data) and is_utf8(data), request.idempotency_key, request.round)

    def value(self, payload: bytes) -> Any:
        """See `Codec.value`, and the module."""
        if not payload:
            return None
        return parse_json(payload) if is_json(payload) and is_utf8(payload) else payload


PROTOBUF: Final = ProtobufCodec()


# -- framing -------------------------------------------------------------------------------------------------


def delimited(message: bytes) -> bytes:
    """A message after its length."""
    return _varint(len(message)) + message


def split(data: bytes) -> Iterator[bytes]:
    """The messages of a frame; ``ValueError`` where one is cut. Never allocates by a length alone."""
    at = 0
    while at < len(data):
        size, at = _read_varint(data, at)
        if size > len(data) - at:
            raise ValueError(f"a message of {size} bytes is cut after {len(data) - at}")
        yield data[at : at + size]
        at += size


def emulation_request(data: bytes) -> tuple[str, str, bytes]:
    """Session, node and commands of a request to the emulation endpoint. Raises ``ValueError``."""
    request = _decoded(pb.EmulationRequest, data)
    return request.session, request.node, request.data


def connect_command(id: int) -> bytes:
    """An empty ``connect``, as a frame."""
    command = pb.Command(id=id)
    command.connect.SetInParent()
    return _message(command)


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for count, byte in enumerate(data[at : at + _MAX_VARINT]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value, at + count + 1
    raise ValueError("a length is cut, or too long")


def _field(number: int, data: bytes) -> bytes:
    """A length-delimited field, as Protobuf writes it; ``number`` < 16."""
    return bytes((number << 3 | 2,)) + delimited(data)


def _message(message: Any) -> bytes:
    return delimited(_bytes(message))


def _bytes(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _decoded(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise ValueError(str(error)) from None


def _command(message: Any) -> types.Command:
    fields = {field.name: value for field, value in message.ListFields()}
    id = fields.pop("id", 0)
    return types.Command(id, **{name: _READ[name](request) for name, request in fields.items()})


def _fault(message: bytes, why: str) -> types.Fault:
    """What is wrong with a command: perhaps a text inside is not UTF-8. Raises ``ValueError`` where there is
    no id to reply to.

    An ``Error`` has its code where a command has its id, and passes over the rest unread.
    """
    id = _decoded(pb.Error, message).code
    if not id:
        raise ValueError(why)
    return types.Fault(id, why)


def _connect(message: Any) -> types.ConnectRequest:
    subs = {channel: _subscribe(request) for channel, request in message.subs.items()}
    return types.ConnectRequest(
        message.token, Raw(message.data), subs, message.name, message.version, dict(message.headers)
    )


def _subscribe(message: Any) -> types.SubscribeRequest:
    fields = {field.name: value for field, value in message.ListFields()}
    if "tf" in fields:
        fields["tf"] = _ASKED_FOR
    return types.SubscribeRequest(**fields | {"data": Raw(message.data)})


def _history(message: Any) -> types.HistoryRequest:
    at = message.since
    since = types.StreamPosition(at.offset, at.epoch) if message.HasField("since") else None
    return types.HistoryRequest(message.channel, message.limit, since, message.reverse)


def _publish(message: Any) -> types.PublishRequest:
    return types.PublishRequest(
        message.channel,
        Raw(message.data),
        message.type,
        message.key,
        message.idempotency_key,
        round=message.round,
    )


def _channel(message: Any) -> types.UnsubscribeRequest:
    return types.UnsubscribeRequest(message.channel)


_READ: Final[dict[str, Callable[[Any], Any]]] = {
    "connect": _connect,
    "subscribe": _subscribe,
    "unsubscribe": _channel,
    "publish": _publish,
    "presence": _channel,
    "presence_stats": _channel,
    "history": _history,
    "ping": lambda message: types.Empty(),
    "rpc": lambda message: types.RpcRequest(message.method, Raw(message.data)),
    "send": lambda message: types.SendRequest(Raw(message.data)),
    "refresh": lambda message: types.RefreshRequest(message.token),
    "sub_refresh": lambda message: types.SubRefreshRequest(message.channel, message.token, message.type),
}


def _write(message: Any, body: msgspec.Struct) -> None:
    """Fill a message from the struct of the same fields; an empty one is present too."""
    message.SetInParent()
    for name in body.__struct_fields__:
        match getattr(body, name):
            case None:
                pass
            case Raw() as payload:
                setattr(message, name, bytes(payload))
            case dict() as by_name:
                field = getattr(message, name)
                for key, value in by_name.items():
                    _write(field[key], value)
            case list() | tuple() as insides:  # of publications, as `publication` has made them
                field = getattr(message, name)
                for inside in insides:
                    field.add().MergeFromString(bytes(inside))
            case int() as number if name == "ttl":
                message.ttl = min(number, types.UINT32)
            case value:
                setattr(message, name, value)
