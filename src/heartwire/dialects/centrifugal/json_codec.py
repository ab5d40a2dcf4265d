"""The JSON encoding: one object per command, reply or push, joined by newlines, never a blank line.

How a publication's data stands in ``pub.data``:

* text or bytes that are JSON: as that JSON, on one line;
* other text: as a JSON string, with ``"tags":{"encoding":"text"}`` beside it, which distinguishes ``hello``
  from ``"hello"``;
* other bytes: base64 in a JSON string, with ``"tags":{"encoding":"base64"}`` beside it. (The protocol's own
  server ends the connection here, with 3506; losing a connection of many channels for one message would be
  too much.)
"""

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Literal

import msgspec

from heartwire.core.fair_queue import SLICE
from heartwire.dialects.centrifugal.codec import Codec, Method, PushKind
from heartwire.dialects.centrifugal.types import UINT32, ClientInfo, Command, ErrorBody, Fault, PublishRequest
from heartwire.dialects.centrifugal.values import Post
from heartwire.errors import Refused
from heartwire.text import is_json, is_utf8, parse_json
from heartwire.types import Member, Position, Publication

__all__ = ["JSON", "JsonCodec"]

_encode: Final = msgspec.json.encode
_decoder: Final = msgspec.json.Decoder(Command)
_text_decoder: Final = msgspec.json.Decoder(str)
_base64_decoder: Final = msgspec.json.Decoder(bytes)


class JsonCodec(Codec):
    """`Codec` for JSON. Without state."""

    name = "json"
    is_text = True
    ping = b"{}"

    def commands(self, data: bytes) -> Iterable[Command | Fault]:
        """See `Codec.commands`. One newline at the end is allowed."""
        if not data.isascii():
            # JSON is UTF-8, and msgspec does not look into what it skips; UnicodeDecodeError is a ValueError
            data.decode()
        count = data.count(b"\n")
        if not count:
            return (_command(data),)
        return map(_command, data.removesuffix(b"\n").split(b"\n") if count < SLICE else _lines(data))

    def reply(self, id: int, method: Method, result: msgspec.Struct) -> bytes:
        return b'{"id":%d,"%b":%b}' % (id, method.encode(), _encode(result))

    def published(self, id: int, position: Position) -> bytes:
        epoch, offset = position
        return b'{"id":%d,"publish":{"epoch":%b,"offset":%d}}' % (id, _encode(epoch), offset)

    def error(self, id: int, error: ErrorBody) -> bytes:
        return b'{"id":%d,"error":%b}' % (id, _encode(error))

    def publication(self, publication: Publication) -> bytes:
        """See `Codec.publication`, and the module."""
        publisher = publication.publisher
        info = b""
        if publisher is not None:
            conn_info = self.payload(publisher.info) if publisher.info else None
            info = b',"info":' + _encode(ClientInfo(publisher.user, publisher.client, conn_info))
        data = publication.data
        if is_json(data) and (publication.is_text or is_utf8(data)):
            data = _inlined(data)
        else:
            data = _in_string(data, is_text=publication.is_text)
        return b'{"data":%b,"offset":%d%b}' % (data, publication.offset, info)

    def raw(self, inside: bytes) -> msgspec.Raw:
        return msgspec.Raw(inside)

    def publications(self, channel: str, insides: Sequence[bytes]) -> list[bytes]:
        name = _encode(channel)
        if len(insides) == 1:  # most often, and then a comprehension takes twice as long
            return [b'{"push":{"channel":%b,"pub":%b}}' % (name, insides[0])]
        return [b'{"push":{"channel":%b,"pub":%b}}' % (name, inside) for inside in insides]

    def membership(self, channel: str, kind: Literal["join", "leave"], info: ClientInfo) -> bytes:
        return b'{"push":{"channel":%b,"%b":{"info":%b}}}' % (_encode(channel), kind.encode(), _encode(info))

    def push(self, kind: PushKind, channel: str, body: msgspec.Struct) -> bytes:
        where = b'"channel":%b,' % _encode(channel) if channel else b""
        return b'{"push":{%b"%b":%b}}' % (where, kind.encode(), _encode(body))

    join = staticmethod(b"\n".join)

    def payload(self, data: bytes) -> msgspec.Raw:
        if not is_utf8(data):
            return msgspec.Raw(_encode(data))  # in base64
        return msgspec.Raw(_inlined(data) if is_json(data) else _encode(data.decode()))

    def info(self, member: Member) -> ClientInfo:
        info = self.payload(member.info) if member.info else None
        chan_info = self.payload(member.chan_info) if member.chan_info else None
        return ClientInfo(member.user, member.client, info, chan_info)

    def post(self, request: PublishRequest) -> Post:
        """See `Codec.post`.

        Without ``encoding``, ``data`` is kept as the JSON it is; "text": ``data`` is a string, and the
        message is that text; "base64": ``data`` is a string, and the message is the bytes it encodes.
        """
        data, is_text = bytes(request.data), True
        if not data:
            raise Refused("bad_request", "publish without data")
        if not request.encoding:
            return Post(data, True, request.idempotency_key, request.round)
        try:
            match request.encoding:
                case "text":
                    data = _text_decoder.decode(data).encode()
                case "base64":
                    data, is_text = _base64_decoder.decode(data), False
                case other:
                    hint = '"text" or "base64", or leave it out'
                    raise Refused("bad_request", f"encoding {other[:32]!r}: {hint}")
        except ValueError as error:
            raise Refused("bad_request", f"data in encoding {request.encoding!r}: {error}") from None
        return Post(data, is_text, request.idempotency_key, request.round)

    def value(self, payload: bytes) -> Any:
        return parse_json(payload) if payload else None


JSON: Final = JsonCodec()


def _command(line: bytes) -> Command | Fault:
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        return _fault(line, str(error))


def _lines(data: bytes) -> Iterator[bytes]:
    """Lines one by one: thousands of them may wait for their turn."""
    at, size = 0, len(data) - data.endswith(b"\n")
    while at <= size:
        end = data.find(b"\n", at, size)
        end = size if end < 0 else end
        yield data[at:end]
        at = end + 1


def _fault(line: bytes, why: str) -> Fault:
    """What is wrong with a command. Raises ``ValueError`` where there is no id to reply to.

    Python's own reader takes half a surrogate pair, which text that was cut in a browser has.
    """
    try:
        command = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError(why) from None
    id = command.get("id") if isinstance(command, dict) else None
    if type(id) is not int or not 0 < id <= UINT32:
        raise ValueError(why)
    return Fault(id, why)


def _in_string(data: bytes, *, is_text: bool) -> bytes:
    """What is not JSON, with what tells so."""
    if is_text:
        return _encode(data.decode()) + b',"tags":{"encoding":"text"}'
    return b'"%b","tags":{"encoding":"base64"}' % base64.b64encode(data)


def _inlined(data: bytes) -> bytes:
    """JSON on one line: a newline would end the message."""
    return msgspec.json.format(data, indent=-1) if b"\n" in data or b"\r" in data else data
