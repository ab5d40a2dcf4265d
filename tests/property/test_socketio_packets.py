"""The codec of Socket.IO: what is written is read, and whatever comes in is a packet or a `BadPacket`."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from heartwire.dialects.socketio.engine_io import BadPacket
from heartwire.dialects.socketio.packet import ACK, EVENT, RESERVED, Decoder, Json, encode

JSON = Json()
_SMALL = 2**53
values = st.recursive(
    st.none() | st.booleans() | st.integers(-_SMALL, _SMALL) | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
namespaces = st.sampled_from(["/", "/a", "/admin/42"])
names = st.text(max_size=8).filter(lambda name: name not in RESERVED)


def has_placeholder(value: Any) -> bool:
    """Whether a value looks like what stands for bytes."""
    if isinstance(value, dict):
        return "_placeholder" in value or any(map(has_placeholder, value.values()))
    return isinstance(value, list) and any(map(has_placeholder, value))


@given(namespaces, st.none() | st.integers(0, 10**9), names, st.lists(values, max_size=3), st.booleans())
def test_what_is_written_is_read(
    namespace: str, id: int | None, name: str, arguments: list[Any], is_ack: bool
) -> None:
    kind = ACK if is_ack else EVENT
    data = arguments if is_ack else [name, *arguments]
    parcel = encode(kind, namespace, 7 if is_ack and id is None else id, data, JSON)
    decoder = Decoder(JSON, max_attachments=50)
    *first, last = [
        decoder.feed(is_text, message[1:] if is_text else message) for is_text, message in parcel.messages
    ]
    assert first == [None] * len(first)
    assert last is not None
    assert (last.kind, last.namespace, last.data) == (kind, namespace, data)


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=40)), max_size=6))
def test_whatever_comes_is_a_packet_or_a_bad_packet(messages: list[tuple[bool, bytes]]) -> None:
    decoder = Decoder(JSON, max_attachments=3)
    for is_text, message in messages:
        try:
            decoder.feed(is_text, message)
        except BadPacket:
            return


@given(st.text(alphabet='0123456789-,/[]{}":aé_num', max_size=40), st.binary(max_size=4))
def test_so_is_what_looks_like_one(text: str, attachment: bytes) -> None:
    decoder = Decoder(JSON, max_attachments=3)
    try:
        decoder.feed(True, text.encode())
        decoder.feed(False, attachment)
    except BadPacket:
        return
