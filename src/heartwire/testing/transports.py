"""The plain dialect over WebSocket (docs/plain.md) as a suite for any server: ours, or your mounting of it.

Each check is one promise of that page and uses channels of its own.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from heartwire.testing.promises import PromiseBroken, checks_in, expect, promise

__all__ = ["TRANSPORT_CHECKS", "TransportCheck", "Wire", "check_transport", "text_that_is_not_utf8_closes"]

ANSWER_S: Final = 10
"""How long any answer may take: a server that does not answer fails instead of hanging the suite."""


class Wire:
    """A server, its ``limit`` (``max_message_bytes``), and a channel of its own."""

    def __init__(self, url: str, limit: int) -> None:
        self.limit = limit
        self.channel = f"check-{secrets.token_hex(6)}"
        self._url = url.rstrip("/").replace("http", "ws", 1)

    @contextlib.asynccontextmanager
    async def connected(self, path: str = "", **query: str) -> AsyncIterator["Talk"]:
        """A WebSocket to the channel, or to ``path``."""
        async with self.opened(path or f"/channels/{self.channel}", query) as socket:
            yield Talk(socket)

    def opened(self, path: str, query: dict[str, str], **options: Any) -> connect:
        """A connection of `websockets`, not awaited yet."""
        url = f"{self._url}{path}{'&' if '?' in path else '?'}{urlencode(query)}"
        # A queue without bound: with messages left unread in a full one, `websockets` takes 10 s to close.
        off = ("proxy", "compression", "max_size", "max_queue", "ping_interval")
        settings: dict[str, Any] = dict.fromkeys(off) | options
        return connect(url, **settings)


class Talk:
    """One connection of a check."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def say(self, *messages: str | bytes) -> None:
        for message in messages:
            await self.socket.send(message)

    async def hear(self, what: str, *expected: str | bytes) -> None:
        """Expect exactly these messages next."""
        for message in expected:
            expect(what, await self.next(what), message)

    async def next(self, what: str) -> str | bytes:
        """The next message. Raises `PromiseBroken` where none comes."""
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self.socket.recv()
        except TimeoutError:
            raise PromiseBroken(f"{what}: nothing came within {ANSWER_S} s") from None
        except ConnectionClosed as error:
            raise PromiseBroken(f"{what}: the connection ended ({error})") from None

    async def next_json(self, what: str) -> Any:
        """The next message, from JSON in a text frame."""
        got = await self.next(what)
        promise(isinstance(got, str), f"{what}: JSON comes in text frames, got {got!r:.200}")
        return json.loads(got)

    async def closes(self, what: str, code: int, reason: str) -> None:
        """Expect a close with this code and reason; messages before it are ignored."""
        with contextlib.suppress(ConnectionClosed):
            async with asyncio.timeout(ANSWER_S):
                while True:
                    await self.socket.recv()
        cut = reason.encode()[:123].decode(errors="ignore")
        expect(what, (self.socket.close_code, self.socket.close_reason), (code, cut))


TransportCheck = Callable[[Wire], Awaitable[None]]
"""Raises `PromiseBroken`. Its name is the promise."""


async def check_transport(
    url: str, *, max_message_bytes: int = 1024 * 1024, checks: Sequence[TransportCheck] | None = None
) -> None:
    """Run the checks against a running server.

    Args:
        url: where the hub is, with its prefix where it is mounted: ``http://127.0.0.1:8000/realtime``.
        max_message_bytes: the hub's option.
        checks: default: `TRANSPORT_CHECKS`.
    Raises:
        PromiseBroken: at the first promise that is not kept.
    """
    for check in TRANSPORT_CHECKS if checks is None else checks:
        name = getattr(check, "__name__", check)
        try:
            async with asyncio.timeout(3 * ANSWER_S):
                await check(Wire(url, max_message_bytes))
        except TimeoutError:
            raise PromiseBroken(f"{name}: no end within {3 * ANSWER_S} s") from None
        except PromiseBroken as error:
            error.add_note(f"in {name}")
            raise


# -- messages ------------------------------------------------------------------------------------------------


async def text_stays_text_and_bytes_stay_bytes(wire: Wire) -> None:
    messages: list[str | bytes] = ["hello", b"hello", "", b"", "grüß 💬", b"\x00\xff"]
    messages += ["x" * 125, "x" * 126, b"y" * 40_000]
    async with wire.connected() as talk:
        for message in messages:
            await talk.say(message)
            await talk.hear("a message comes back as it was sent", message)


async def every_connection_gets_everything_in_the_same_order(wire: Wire) -> None:
    async with wire.connected() as one, wire.connected() as two, wire.connected() as three:
        # A connection follows from the moment it was accepted; the first round makes sure of all three.
        talks = (one, two, three)
        for number, talk in enumerate(talks):
            await talk.say(f"ready {number}")
        what = "every connection gets each message, once"
        ready = [{await talk.next(what) for _ in range(3)} for talk in talks]
        promise(all(len(heard) == 3 for heard in ready), what)
        sent = {name: [f"{name}{number}" for number in range(50)] for name in "ab"}
        await asyncio.gather(one.say(*sent["a"]), two.say(*sent["b"]))
        heard = [[await talk.next(what) for _ in range(100)] for talk in talks]
        promise(heard[0] == heard[1] == heard[2], "every connection gets the messages in the same order")
        for name in "ab":
            mine = [message for message in heard[0] if str(message).startswith(name)]
            expect("one sender's messages keep their order", mine, sent[name])


async def messages_sent_without_waiting_keep_their_order(wire: Wire) -> None:
    async with wire.connected() as talk:
        messages = [f"m{number}" for number in range(2000)]
        sending = asyncio.ensure_future(talk.say(*messages))
        await talk.hear("messages sent in a row come in order, each once", *messages)
        await sending


async def fragments_make_one_message(wire: Wire) -> None:
    async with wire.connected() as talk:
        await talk.socket.send(["one ", "mess", "age"])
        await talk.socket.send([b"\x00", b"\x01"])
        await talk.hear("fragments make one message", "one message", b"\x00\x01")


async def echo_0_leaves_out_what_one_sent(wire: Wire) -> None:
    async with wire.connected(echo="0") as quiet, wire.connected() as other:
        await quiet.say("mine")
        await other.hear("others get what a connection with echo=0 sends", "mine")
        await other.say("yours")
        await quiet.hear("echo=0 leaves out one's own messages only", "yours")


async def a_heartbeat_is_answered_to_its_sender_only(wire: Wire) -> None:
    async with wire.connected(heartbeat="ping?") as beating, wire.connected() as other:
        await beating.say("ping?", "news")
        await beating.hear("a heartbeat is answered with itself", "ping?", "news")
        await other.hear("a heartbeat is not a message", "news")
        await other.say("ping?")
        await beating.hear("to others a heartbeat's text is a text", "ping?")
        await other.hear("to others a heartbeat's text is a text", "ping?")
        await beating.say(b"ping?")
        await other.hear("bytes are not a heartbeat", b"ping?")


async def pings_are_answered(wire: Wire) -> None:
    async with wire.connected() as talk:
        await asyncio.wait_for(await talk.socket.ping(b"are you there?"), ANSWER_S)


# -- positions -----------------------------------------------------------------------------------------------


async def json_wraps_each_message_with_its_position(wire: Wire) -> None:
    async with wire.connected(format="json") as talk:
        first = await talk.next_json("the first frame has the position")
        expect("the first frame", first, {"position": first.get("position"), "recovered": True})
        epoch, _, offset = first["position"].partition(".")
        sent: list[tuple[str | bytes, dict[str, Any]]] = [
            ("text", {"data": "text"}),
            ('{"a": [1, "x"]}', {"data": {"a": [1, "x"]}}),
            ("{broken", {"data": "{broken"}),
            ("42", {"data": 42}),
            (b"\x00\xff", {"data": base64.b64encode(b"\x00\xff").decode(), "encoding": "base64"}),
        ]
        for number, (message, wrapped) in enumerate(sent, int(offset) + 1):
            await talk.say(message)
            what = "format=json wraps each message"
            expect(what, await talk.next_json(what), {"position": f"{epoch}.{number}", **wrapped})


async def since_replays_first(wire: Wire) -> None:
    positions = []
    async with wire.connected(format="json") as talk:
        await talk.next_json("the first frame has the position")
        for number in range(5):
            await talk.say(f"m{number}")
            positions.append((await talk.next_json("a message has its position"))["position"])
    async with wire.connected(since="earliest") as talk:
        await talk.hear("since=earliest replays the history", "m0", "m1", "m2", "m3", "m4")
        await talk.say("live")
        await talk.hear("live messages come after a replay", "live")
    async with wire.connected(since=positions[2]) as talk:
        await talk.hear("since=POSITION replays what came after it", "m3", "m4", "live")
    async with wire.connected(since=positions[2], format="json") as talk:
        first = await talk.next_json("the first frame has the position where a replay begins")
        expect("the first frame of a replay", first, {"position": positions[2], "recovered": True})
        what = "a replay has the same positions"
        expect(what, [(await talk.next_json(what))["position"] for _ in range(2)], positions[3:])


async def a_position_that_cannot_be_continued_is_reported(wire: Wire) -> None:
    async with wire.connected() as talk:
        await talk.say("kept")
        await talk.hear("a message comes back", "kept")
    async with wire.connected(since="AAAAAAAA.7", format="json") as talk:
        gap = await talk.next_json("a gap is reported")
        promise(gap.get("recovered") is False, f"a gap is reported with recovered: false, got {gap!r:.200}")
        what = "the kept messages come after a gap"
        expect(what, (await talk.next_json(what)).get("data"), "kept")
    async with wire.connected(since="AAAAAAAA.7") as talk:
        reason = f"insufficient state: position is now {gap['position']}"
        await talk.closes("without JSON a gap closes", 3010, reason)


async def publishing_across_a_reconnection_leaves_no_hole(wire: Wire) -> None:
    async with wire.connected(echo="0") as sender:
        since = "earliest"
        offsets: list[int] = []
        for round_ in range(5):
            sending = asyncio.ensure_future(sender.say(*(f"{round_}.{number}x" for number in range(40))))
            async with wire.connected(since=since, format="json") as reader:
                for _ in range(30):
                    message = await reader.next_json("a reader that resumes")
                    since = message["position"]
                    if "data" in message:
                        offsets.append(int(since.rpartition(".")[2]))
            await sending
    expected = list(range(1, len(offsets) + 1))
    expect("a reader that resumes sees every offset once", offsets, expected)


async def a_reader_that_stops_gets_everything_when_it_goes_on(wire: Wire) -> None:
    size = min(20_000, wire.limit)
    messages = [f"{number:06d}".ljust(size, ".") for number in range(200)]
    path = f"/channels/{wire.channel}"
    async with wire.connected(echo="0") as sender, wire.opened(path, {}, max_queue=1) as socket:
        reader = Talk(socket)
        await sender.say(*messages)
        async with wire.connected(since="earliest") as witness:
            await witness.hear("a reader that stops holds up no other", *messages)
        await reader.hear("a reader that stopped gets everything in order", *messages)


# -- several channels ----------------------------------------------------------------------------------------


async def several_channels_share_a_connection(wire: Wire) -> None:
    a, b = f"{wire.channel}-a", f"{wire.channel}-b"
    path = f"/channels?channel={b}&channel={a}"
    async with wire.connected(path) as talk:
        first = await talk.next_json("the first frame has the position of all")
        expect("the first frame of several", first, {"since": first.get("since"), "recovered": True})
        promise(len(first["since"].split("~")) == 2, "the position of two channels has two parts")
        sinces = [first["since"]]
        commands: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
            (a, {"data": "text"}, {"data": "text"}),
            (b, {"data": {"n": 1}}, {"data": {"n": 1}}),
            (a, {"data": "AP8=", "encoding": "base64"}, {"data": "AP8=", "encoding": "base64"}),
        ]
        for channel, command, wrapped in commands:
            await talk.say(json.dumps({"channel": channel, **command}))
            got = await talk.next_json("a command with a channel publishes there")
            places = {name: got.get(name) for name in ("position", "since")}
            expect("a message names its channel", got, {"channel": channel, **wrapped, **places})
            sinces.append(got["since"])
        foreign = json.dumps({"channel": f"{a}-other", "data": 1})
        for bad, code in (("nonsense", "bad_request"), (foreign, "forbidden")):
            await talk.say(bad)
            what = "a bad command is answered with its error"
            expect(what, (await talk.next_json(what)).get("error", {}).get("code"), code)
    for since, left in zip(sinces, (3, 2, 1, 0), strict=True):
        async with wire.connected(path, since=since) as talk:
            what = "a position of several channels resumes all"
            expect(what, sum(["data" in await talk.next_json(what) for _ in range(left + 1)]), left)
    async with wire.connected(f"/channels/{a}", since="earliest") as talk:
        await talk.hear("a message to one of several channels is in it", "text", b"\x00\xff")


# -- refusals ------------------------------------------------------------------------------------------------


async def a_message_over_the_limit_closes(wire: Wire) -> None:
    over = wire.limit + 1
    reason = f"bytes of this message: {over} is over the limit of {wire.limit} (max_message_bytes)"
    messages: tuple[str | bytes, ...] = ("x" * over, b"x" * over)
    for format, message in itertools.product(("raw", "json"), messages):
        async with wire.connected(format=format) as talk:
            await talk.say(message)
            await talk.closes("a message over the limit closes", 1009, reason)
    async with wire.connected(echo="0") as talk, wire.connected() as other:
        await talk.say(b"x" * wire.limit)
        await other.hear("a message at the limit passes", b"x" * wire.limit)


async def text_that_is_not_utf8_closes(wire: Wire) -> None:
    async with wire.connected() as talk:
        await talk.socket.send(b"ok \xff", text=True)
        with contextlib.suppress(ConnectionClosed):
            await asyncio.wait_for(talk.socket.recv(), ANSWER_S)
        expect("the code that closes text that is not UTF-8", talk.socket.close_code, 1007)


async def a_bad_request_is_closed_where_a_browser_can_read_it(wire: Wire) -> None:
    bad_since = "since='yesterday': `earliest`, or a position as an answer gave it"
    too_long = f"channel '{'x' * 32}'… has 256 bytes: a channel name has 1 to 255 bytes of UTF-8"
    refusals: tuple[tuple[str, int, str], ...] = (
        ("/channels/a%09b", 3501, r"channel 'a\tb' holds '\t': no control characters"),
        (f"/channels/{'x' * 256}", 3501, too_long),
        ("/channels", 3501, "no channel named: /channels/NAME, or /channels?channel=A&channel=B"),
        ("/channels/a?since=yesterday", 3501, bad_since),
        ("/channels/a?format=xml", 3501, "format='xml': one of raw, json"),
        ("/channels/a/b/c", 3508, "no WebSocket here: channels are at /channels/NAME"),
    )
    for path, code, reason in refusals:
        async with wire.opened(path, {}) as socket:
            await Talk(socket).closes("a bad request is closed after the handshake", code, reason)


async def the_first_subprotocol_is_chosen(wire: Wire) -> None:
    path = f"/channels/{wire.channel}"
    async with wire.opened(path, {}, subprotocols=["chat", "superchat"]) as socket:
        expect("the first subprotocol offered is chosen", socket.subprotocol, "chat")
    async with wire.opened(path, {}) as socket:
        expect("no subprotocol is chosen where none is offered", socket.subprotocol, None)


async def a_close_is_answered(wire: Wire) -> None:
    async with wire.connected() as talk:
        await talk.say("last")
        await talk.hear("a message comes back", "last")
        await asyncio.wait_for(talk.socket.close(4321, "bye"), ANSWER_S)
        expect("a close is answered with its code", talk.socket.close_code, 4321)


TRANSPORT_CHECKS: Final[tuple[TransportCheck, ...]] = checks_in(globals())
"""The promises of the plain dialect over WebSocket, on any server."""
