"""The recorded bytes of a run, explained: heads line by line, frames byte by byte. As HTML; pure."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from websockets.utils import GUID, accept_key

from heartwire.compare.figures import Result, Shown
from heartwire.compare.template import Html, join, part, parts

__all__ = ["Frame", "frame_html", "frames_of", "handshake_html", "head_of", "header_of", "heads_of"]

_OPCODES: Final = {0: "continuation", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}
_MAX_PAYLOAD_SHOWN: Final = 24
_MAX_TEXT_SHOWN: Final = 220


class Frame(NamedTuple):
    """A WebSocket frame as it passed: its header, and the first bytes of its payload of ``size`` bytes."""

    direction: str
    header: bytes
    payload: bytes
    size: int

    @property
    def mask(self) -> bytes:
        """Four bytes; empty where it is not masked."""
        return self.header[-4:] if self.header[1] & 0x80 else b""

    @property
    def text(self) -> str:
        """The text of the recorded payload, unmasked."""
        data = self.payload
        if self.mask:
            data = bytes(byte ^ self.mask[index % 4] for index, byte in enumerate(data))
        return data.decode("utf-8", "replace")


def frames_of(trace: Sequence[Shown]) -> list[Frame]:
    """The data frames of a recording."""
    found = []
    for index, shown in enumerate(trace):
        if shown.what == "frame":
            after = next((one for one in trace[index + 1 :] if one.direction == shown.direction), None)
            payload, size = b"", 0
            if after is not None and after.what == "data":
                payload, size = bytes.fromhex(after.hex), int(after.size.value or 0)
            found.append(Frame(shown.direction, bytes.fromhex(shown.hex), payload, size))
    return found


def header_of(head: str, name: str) -> str:
    """The value of a header; "" without it."""
    for line in head.split("\r\n")[1:]:
        key, _, value = line.partition(":")
        if key.strip().lower() == name:
            return value.strip()
    return ""


def heads_of(trace: Sequence[Shown], at: int) -> list[Shown]:
    """A request's head and its answer's from ``at`` on; empty where they were not recorded."""
    heads = [shown for shown in trace if shown.what in ("request", "response")][at : at + 2]
    return heads if [shown.what for shown in heads] == ["request", "response"] else []


def head_of(shown: Shown) -> str:
    """The text of a recorded head."""
    return bytes.fromhex(shown.hex).decode("latin-1")


def handshake_html(result: Result) -> Html:
    """Request and answer line by line, and the key's arithmetic. Empty where they were not recorded."""
    heads = heads_of(result.trace, 0)
    if not heads or " 101 " not in head_of(heads[1])[:16]:
        return Html()
    request, response = (head_of(shown) for shown in heads)
    key = header_of(request, "sec-websocket-key")
    accept = accept_key(key)
    same = accept == header_of(response, "sec-websocket-accept")
    proof = part("proof", key=key, guid=GUID, accept=accept, same=same, other=not same)
    return join([*map(_lines, heads), proof])


def _lines(shown: Shown) -> Html:
    rows = []
    for number, line in enumerate(head_of(shown).removesuffix("\r\n\r\n").split("\r\n")):
        name = f"{shown.what} {line.partition(':')[0].lower()}" if number else shown.what
        rows.append(part("bytes line", line=line, size=len(line) + 2, note=parts().get(name, "")))
    size = f"{shown.size.value:.0f} {shown.size.unit}"
    return part("bytes", title=part(f"bytes {shown.direction}"), size=size, rows=join(rows))


def frame_html(frame: Frame, title: str) -> Html:
    """A frame byte by byte, and what its bits mean."""
    header, payload = frame.header, frame.payload[:_MAX_PAYLOAD_SHOWN]
    extra = {126: 2, 127: 8}.get(header[1] & 0x7F, 0)
    pieces = {"op": header[:1], "len": header[1 : 2 + extra], "mask": frame.mask, "pay": payload}
    bytes_of = ((kind, f"{byte:02x}") for kind, data in pieces.items() for byte in data)
    boxes = join(part("frame byte", kind=kind, hex=text) for kind, text in bytes_of)
    hexes = {kind: data.hex(" ") for kind, data in pieces.items()} | {"pay": "…"}
    noted = _notes(frame, extra).items()
    notes = join(part("frame note", kind=kind, hex=hexes[kind], text=text) for kind, text in noted)
    more = max(0, frame.size - len(payload)) or None
    sizes = {"total": len(header) + frame.size, "header": len(header), "more": more}
    ways = {"up": frame.direction == "up", "down": frame.direction == "down"}
    return part("frame", title=title, **ways, **sizes, boxes=boxes, notes=notes)


def _notes(frame: Frame, extra: int) -> dict[str, Html]:
    """What each piece of a frame's header says, and its payload."""
    first, second = frame.header[0], frame.header[1]
    last, opcode, text = first >> 7, first & 0x0F, frame.text[:_MAX_TEXT_SHOWN]
    kind = _OPCODES.get(opcode, "reserved")
    bits = {"bits": f"{first:08b}", "fin": last, "last": last == 1, "more": last == 0}
    length = {"bits": f"{second:08b}", "mask": second >> 7, "length": second & 0x7F, "short": not extra}
    notes = {"op": part("frame op", **bits, opcode=opcode, kind=kind)}
    notes["len"] = part("frame len", **length, extra=extra or None, size=frame.size)
    if frame.mask:
        notes["mask"] = part("frame mask")
    is_cut = frame.size > len(text)
    notes["pay"] = part("frame pay", size=frame.size, mask=bool(frame.mask), text=text, more=is_cut)
    return notes
