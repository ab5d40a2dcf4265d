"""The recorded bytes of a run, explained: heads line by line, frames byte by byte. As HTML; pure."""

from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple

from websockets.utils import GUID, accept_key

from heartwire.compare.figures import Result, Shown

__all__ = ["Frame", "exchange_html", "frame_html", "frames_of", "handshake_html", "header_of"]

_OPCODES: Final = {0: "continuation", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}
_MAX_PAYLOAD_SHOWN: Final = 24
_MAX_TEXT_SHOWN: Final = 220

_REQUEST_NOTES: Final = {
    "": "The client speaks first. It is an ordinary GET, so that everything that knows HTTP lets it pass.",
    "host": "Which site is meant: the same port can serve many.",
    "upgrade": "What the connection should become.",
    "connection": (
        "Upgrade is meant for the next hop. A proxy that does not know it leaves it out, and the handshake"
        " fails."
    ),
    "sec-websocket-version": "13 is that of RFC 6455, the only one in use.",
    "sec-websocket-key": (
        "16 random bytes in base64. No secret: the answer is made from them, so it can't come from a cache."
    ),
    "sec-websocket-protocol": "Subprotocols on offer: what the messages will mean.",
    "sec-websocket-extensions": "Extensions on offer, such as compression.",
    "origin": (
        "Which page asks. Only browsers send it, and only the server can refuse it: WebSockets know no CORS."
    ),
    "cookie": "Sent once, here, and not with each message.",
    "authorization": "Who asks; once, not with each message.",
    "user-agent": "Which program asks.",
    "accept": "What a request may bring along; it means nothing here.",
    "accept-encoding": "The same.",
}
_RESPONSE_NOTES: Final = {
    "": "101: from the next byte on this connection is no HTTP any more, in either direction.",
    "upgrade": "What it is now.",
    "connection": "The same for the hop in between.",
    "sec-websocket-accept": "Made from the key: the proof that the other side knows WebSocket.",
    "sec-websocket-protocol": "The subprotocol that was chosen.",
    "date": "When; HTTP's custom.",
    "server": "Which program answers.",
}


class Frame(NamedTuple):
    """A WebSocket frame as it passed: the bytes of its header, and the first of its payload."""

    direction: str
    header: bytes
    payload: bytes
    size: int

    @property
    def mask(self) -> bytes:
        """Four bytes; none where it is not masked."""
        return self.header[-4:] if self.header[1] & 0x80 else b""

    @property
    def text(self) -> str:
        """What it says, as far as it was kept."""
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
            payload = bytes.fromhex(after.hex) if after is not None and after.what == "data" else b""
            found.append(
                Frame(
                    shown.direction,
                    bytes.fromhex(shown.hex),
                    payload,
                    int(after.size.value or 0) if payload and after else 0,
                )
            )
    return found


def header_of(head: str, name: str) -> str:
    """A header's value; "" where there is none."""
    for line in head.split("\r\n")[1:]:
        key, _, value = line.partition(":")
        if key.strip().lower() == name:
            return value.strip()
    return ""


def _head(shown: Shown) -> str:
    return bytes.fromhex(shown.hex).decode("latin-1")


def handshake_html(result: Result) -> str:
    """Request and answer, a line each with what it is for, and the key's arithmetic. "" where nothing was
    recorded."""
    heads = [shown for shown in result.trace if shown.what in ("request", "response")][:2]
    if [shown.what for shown in heads] != ["request", "response"] or " 101 " not in _head(heads[1])[:16]:
        return ""
    request, response = (_head(shown) for shown in heads)
    key, accept = header_of(request, "sec-websocket-key"), header_of(response, "sec-websocket-accept")
    made = accept_key(key)
    verdict = "which is what came back" if made == accept else "which is not what came back"
    return (
        _lines("Request", "client to server", request, heads[0], _REQUEST_NOTES)
        + _lines("Answer", "server to client", response, heads[1], _RESPONSE_NOTES)
        + '<p class="sum">The proof: append the fixed GUID of RFC 6455 to the key, take SHA-1 of it, write'
        f" that in base64:<br><code>base64(sha1(<wbr>“{escape(key)}<wbr>{GUID}”))</code><br>="
        f" <code>{escape(made)}</code>, {verdict}.</p>"
    )


def _lines(title: str, way: str, head: str, shown: Shown, notes: dict[str, str]) -> str:
    rows = []
    for number, line in enumerate(head.removesuffix("\r\n\r\n").split("\r\n")):
        name = line.partition(":")[0].lower() if number else ""
        note = notes.get(name, "")
        rows.append(
            f"<tr><td><code>{escape(line)}</code></td><td>{len(line) + 2}</td><td>{escape(note)}</td></tr>"
        )
    rows.append("<tr><td><code>↵</code></td><td>2</td><td>An empty line ends the head.</td></tr>")
    arrow = "↑" if shown.direction == "up" else "↓"
    return (
        f'<table class="bytes"><caption>{arrow} {title}, {way}: {shown.size.value:.0f}'
        f" {shown.size.unit}</caption>"
        '<thead><tr><th scope="col">As it was sent</th><th scope="col">B</th><th scope="col">What'
        " for</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def frame_html(frame: Frame, title: str) -> str:
    """A frame byte by byte: each in hex with its part, then what the bits say."""
    header = frame.header
    first, second, length = header[0], header[1], header[1] & 0x7F
    extra = {126: 2, 127: 8}.get(length, 0)
    parts = [
        ("op", header[:1]),
        ("len", header[1 : 2 + extra]),
        ("mask", frame.mask),
        ("pay", frame.payload[:_MAX_PAYLOAD_SHOWN]),
    ]
    boxes = "".join(f'<b class="{kind}">{byte:02x}</b>' for kind, data in parts for byte in data)
    more = frame.size - len(frame.payload[:_MAX_PAYLOAD_SHOWN])
    boxes += f"<i>… {more} B more</i>" if more > 0 else ""
    opcode = first & 0x0F
    notes = [
        (
            "op",
            header[:1],
            (
                f"{first:08b}: FIN = {first >> 7},"
                f" {'the message ends here' if first >> 7 else 'more follows'}; opcode {opcode},"
                f" {_OPCODES.get(opcode, 'reserved')}"
            ),
        ),
        (
            "len",
            header[1 : 2 + extra],
            f"{second:08b}: MASK = {second >> 7}; length {length}"
            + (f", which says: the next {extra} B are the length, {frame.size}" if extra else " B"),
        ),
    ]
    if frame.mask:
        notes.append(
            (
                "mask",
                frame.mask,
                (
                    "the masking key: the payload is XORed with it, byte by byte, or old proxies might take"
                    " it for HTTP"
                ),
            )
        )
    text = frame.text[:_MAX_TEXT_SHOWN]
    ending = "…" if frame.size > len(text) else ""
    notes.append(
        ("pay", b"", f"payload, {frame.size} B" + (", unmasked: " if frame.mask else ": ") + text + ending)
    )
    items = "".join(
        f'<li><span class="{kind}">{data.hex(" ") or "…"}</span> {escape(note)}</li>'
        for kind, data, note in notes
    )
    arrow = "↑ client to server" if frame.direction == "up" else "↓ server to client"
    total = len(header) + frame.size
    return (
        f'<figure class="frame"><figcaption><b>{escape(title)}</b> {arrow}: {total} B, {len(header)} B of'
        f' them header</figcaption><p class="hex" aria-hidden="true">{boxes}</p><ul>{items}</ul></figure>'
    )


def exchange_html(trace: Sequence[Shown], frame: Frame | None) -> str:
    """The heads of a request and its answer that are not the first, beside a frame's. "" where they were not
    recorded."""
    heads = [shown for shown in trace if shown.what in ("request", "response")][2:4]
    if frame is None or [shown.what for shown in heads] != ["request", "response"]:
        return ""
    request, response = heads
    sizes = (
        f"{request.size.value:.0f} B to ask, {response.size.value:.0f} B to answer, before the first byte of"
        " news"
    )
    text = escape(f"{_head(request).strip()}\n\n{_head(response).strip()}".replace("\r", ""))
    left = (
        f"<figure><figcaption><b>Long poll:</b> {sizes}</figcaption><pre"
        f' tabindex="0"><code>{text}</code></pre></figure>'
    )
    header = frame.header.hex(" ")
    right = (
        f"<figure><figcaption><b>WebSocket:</b> {len(frame.header)}"
        f" B</figcaption><pre><code>{header}</code></pre></figure>"
    )
    return f'<h3>The same message, twice: what comes before it</h3><div class="pair">{left}{right}</div>'
