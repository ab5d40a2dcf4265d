"""A session: what may be said when, and what comes of it."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from heartwire.core.fair_queue import SLICE
from heartwire.dialects.centrifugal import Phase, Refreshed, TokenExpired, Welcome
from heartwire.dialects.centrifugal.state import TRANSITIONS
from heartwire.dialects.centrifugal.values import Post
from heartwire.errors import EngineUnavailable, Forbidden
from tests.unit.dialects.centrifugal.fakes import FakePort, Peer


def opened(port: FakePort | None = None, **limits: Any) -> Peer:
    peer = Peer(port, **limits)
    peer.open()
    return peer


# -- the order of the checks, as a table ---------------------------------------------------------------------

DISCONNECTS: list[tuple[str, bool, list[bytes], int]] = [
    ("command before connect", False, [b'{"id":1,"subscribe":{"channel":"a"}}'], 3501),
    ("pong before connect", False, [b"{}"], 3501),
    ("connect without an id is a pong", False, [b'{"connect":{}}'], 3501),
    ("malformed JSON", True, [b"{"], 3501),
    ("not UTF-8", True, [b'{"id":2,"rpc":{"method":"\xff"}}'], 3501),
    ("empty frame", True, [b""], 3501),
    ("blank line", True, [b'{"id":2,"rpc":{}}\n\n{"id":3,"rpc":{}}'], 3501),
    ("wrong type of connect's fields", False, [b'{"id":1,"connect":{"token":7}}'], 3501),
    ("wrong field type, and nothing to reply to", True, [b'{"publish":{"channel":7}}'], 3501),
    ("wrong type of an id", True, [b'{"id":"2","publish":{"channel":"a"}}'], 3501),
    ("unknown command", True, [b'{"id":2,"dance":{}}'], 3501),
    ("no command", True, [b'{"id":2}'], 3501),
    ("ping before connect", False, [b'{"id":2,"ping":{}}'], 3501),
    ("ping without an id", True, [b'{"ping":{}}'], 3501),
    ("unsolicited pong", True, [b"{}"], 3501),
    ("second connect", True, [b'{"id":2,"connect":{}}'], 3501),
    ("connect again, in one frame", False, [b'{"id":1,"connect":{}}\n{"id":2,"connect":{}}'], 3501),
    ("send that nobody listens to", True, [b'{"send":{"data":1}}'], 3508),
    ("bad token in refresh", True, [b'{"id":2,"refresh":{"token":"bad"}}'], 3500),
    ("expired token in refresh", True, [b'{"id":2,"refresh":{"token":"old"}}'], 3005),
    (
        "bad token in sub_refresh",
        True,
        [b'{"id":2,"subscribe":{"channel":"a"}}', b'{"id":3,"sub_refresh":{"channel":"a","token":"bad"}}'],
        3500,
    ),
]


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize(
    ("what", "connected", "frames", "code"), DISCONNECTS, ids=[row[0] for row in DISCONNECTS]
)
def test_disconnect(what: str, connected: bool, frames: list[bytes], code: int, slow: bool) -> None:
    peer = Peer()
    peer.port.slow = slow
    peer.port.tokens["old"] = TokenExpired()
    if connected:
        peer.open()
    for frame in frames:
        wait = peer.send(frame)
        for _ in peer.steps(wait) if wait is not None else ():
            pass
    assert peer.closed is not None
    assert peer.closed[0] == code
    # An empty reason, or one that is JSON, makes centrifuge-js come back after a terminal code.
    assert peer.closed[1]
    with pytest.raises(ValueError, match=r".+"):
        json.loads(peer.closed[1])
    assert peer.session.phase is Phase.CLOSED
    assert len(peer.port.ends) == (1 if peer.port.opened_sessions else 0)


ERRORS: list[tuple[str, dict[str, Any], int]] = [
    ("bad channel name", {"subscribe": {"channel": "a\nb"}}, 107),
    ("unknown namespace", {"subscribe": {"channel": "nope:a"}}, 102),
    ("publish to an unknown namespace", {"publish": {"channel": "nope:a", "data": 1}}, 102),
    ("subscribed already", {"subscribe": {"channel": "mine"}}, 105),
    ("too many channels", {"subscribe": {"channel": "one more"}}, 106),
    ("map subscription", {"subscribe": {"channel": "a", "type": 1}}, 108),
    ("shared poll", {"subscribe": {"channel": "a", "type": 4}}, 108),
    ("tags filter", {"subscribe": {"channel": "a", "tf": {"key": "x"}}}, 107),
    ("map publish", {"publish": {"channel": "a", "data": 1, "type": 1, "key": "x"}}, 108),
    ("publish without data", {"publish": {"channel": "a"}}, 107),
    ("encoding that is not there", {"publish": {"channel": "a", "data": "1", "encoding": "hex"}}, 107),
    ("text that is no string", {"publish": {"channel": "a", "data": 1, "encoding": "text"}}, 107),
    ("base64 that is no string", {"publish": {"channel": "a", "data": 1, "encoding": "base64"}}, 107),
    ("base64 that is none", {"publish": {"channel": "a", "data": "AP8", "encoding": "base64"}}, 107),
    ("idempotency key too long", {"publish": {"channel": "a", "data": 1, "idempotency_key": "k" * 256}}, 107),
    ("publish not allowed", {"publish": {"channel": "closed", "data": 1}}, 103),
    ("presence not allowed", {"presence": {"channel": "closed"}}, 103),
    ("presence_stats not allowed", {"presence_stats": {"channel": "closed"}}, 103),
    ("history not allowed", {"history": {"channel": "closed"}}, 103),
    ("history limit", {"history": {"channel": "a", "limit": -2}}, 107),
    ("no channel to subscribe to", {"subscribe": {}}, 107),
    ("no channel to leave", {"unsubscribe": {}}, 107),
    ("no channel to publish to", {"publish": {"data": 1}}, 107),
    ("no channel for presence", {"presence": {}}, 107),
    ("no channel for presence_stats", {"presence_stats": {}}, 107),
    ("no channel for history", {"history": {}}, 107),
    ("refresh without a token", {"refresh": {}}, 107),
    ("unknown delta", {"subscribe": {"channel": "a", "delta": "diff"}}, 107),
    ("wrong type of a channel", {"publish": {"channel": 7, "data": 1}}, 107),
    ("wrong type of a request", {"publish": 7}, 107),
    ("wrong type of a key", {"publish": {"channel": "a", "data": 1, "idempotency_key": 7}}, 107),
    ("a limit that is no whole number", {"history": {"channel": "a", "limit": 1.5}}, 107),
    ("a negative offset", {"subscribe": {"channel": "a", "recover": True, "offset": -1}}, 107),
    ("half a surrogate pair in a name", {"subscribe": {"channel": "\ud83d"}}, 107),
    ("half a surrogate pair in data", {"publish": {"channel": "a", "data": "\ud83d"}}, 107),
    ("half a surrogate pair in a method", {"rpc": {"method": "\ud83d"}}, 107),
    ("unknown method", {"rpc": {"method": "no"}}, 104),
    ("fault in a method", {"rpc": {"method": "fault"}}, 100),
    ("engine away", {"rpc": {"method": "away"}}, 100),
    ("sub_refresh without a token", {"sub_refresh": {"channel": "mine"}}, 107),
    ("sub_refresh of another's channel", {"sub_refresh": {"channel": "a", "token": "t"}}, 103),
    (
        "sub_refresh of a token for another channel",
        {"sub_refresh": {"channel": "mine", "token": "other"}},
        103,
    ),
    ("expired token in sub_refresh", {"sub_refresh": {"channel": "mine", "token": "old"}}, 110),
    ("sub_refresh of a map", {"sub_refresh": {"channel": "mine", "token": "t", "type": 1}}, 108),
]


def _raises(error: Exception) -> Callable[[bytes], Any]:
    def handler(data: bytes) -> Any:
        raise error

    return handler


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize(("what", "command", "number"), ERRORS, ids=[row[0] for row in ERRORS])
def test_error_reply(what: str, command: dict[str, Any], number: int, slow: bool) -> None:
    """A refused command is answered, and the connection lives."""
    port = FakePort()
    port.slow = slow
    port.rpcs = {
        "fault": _raises(RuntimeError("a fault")),
        "away": _raises(EngineUnavailable("/secret/path")),
    }
    port.forbidden = {(action, "closed") for action in ("publish", "presence", "history")}
    port.tokens = {"other": Refreshed(60, "elsewhere"), "old": TokenExpired()}
    peer = opened(port, max_channels=1 if what == "too many channels" else 10)
    peer.say({"id": 2, "subscribe": {"channel": "mine"}})
    (reply,) = peer.say({"id": 3} | command)
    assert reply["id"] == 3
    assert reply["error"]["code"] == number
    assert reply["error"]["message"]
    assert reply["error"].get("temporary", False) is (number == 100)
    assert "secret" not in reply["error"]["message"]
    assert peer.closed is None
    assert [name for name, _ in port.failures] == (["rpc"] if what == "fault in a method" else [])
    assert peer.say({"id": 4, "unsubscribe": {"channel": "mine"}}) == [{"id": 4, "unsubscribe": {}}]


# -- pings ---------------------------------------------------------------------------------------------------


def _pinged(peer: Peer) -> None:
    """As the wheel does."""
    peer.session.heard, peer.session.asked = False, True
    peer.session.ping()


def test_pong_answers_a_ping() -> None:
    peer = opened()
    _pinged(peer)
    assert peer.read() == [{}]
    assert not peer.session.heard
    assert peer.say({}) == []
    assert peer.session.heard
    assert peer.closed is None


def test_two_pongs_for_one_ping_are_a_fault() -> None:
    peer = opened()
    _pinged(peer)
    peer.say({}, {})
    assert peer.closed is not None
    assert peer.closed[0] == 3501


def test_only_a_pong_is_an_answer() -> None:
    peer = opened()
    _pinged(peer)
    peer.say({"id": 2, "publish": {"channel": "a", "data": 1}})
    assert not peer.session.heard
    peer.session.give_up()
    assert peer.outlet.given_up
    assert peer.port.ends == [(3012, "no pong")]


def test_full_outlet_is_not_pinged_and_answers_by_draining() -> None:
    peer = opened()
    peer.outlet.paused = peer.outlet.heard = True
    _pinged(peer)
    assert peer.read() == []
    assert not peer.session.heard
    peer.outlet.heard = True
    assert peer.session.heard
    peer.say({})
    assert peer.closed is not None


def test_full_outlet_that_shrinks_is_a_sign_of_life_and_what_comes_in_is_not() -> None:
    peer = opened()
    peer.port.slow = True
    peer.port.rpcs["wait"] = lambda data: b"1"
    peer.outlet.paused = True
    _pinged(peer)
    assert peer.outlet.looks == 1
    wait = peer.send(b'{"id":2,"rpc":{"method":"wait"}}')
    assert wait is not None
    assert not peer.session.heard, "a command under way does not keep it"
    assert not peer.session.takes
    peer.outlet.takes = True
    assert peer.session.takes
    list(peer.steps(wait))


async def test_long_frame_is_served_a_slice_a_turn_and_waits_for_a_client_that_takes_no_answers() -> None:
    peer = opened()
    peer.outlet.frames.clear()
    peer.outlet.paused = True
    rpc = b'{"id":%d,"rpc":{"method":"no"}}'
    rest = peer.send(b"\n".join(rpc % id for id in range(1, 3 * SLICE + 1)))
    assert rest is not None
    assert [len(frame) for frame in peer.outlet.frames] == [SLICE]
    served = asyncio.ensure_future(rest)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(peer.outlet.frames) == 1, "it has taken no answer"
    peer.outlet.paused = False
    peer.outlet.drain.set()
    await served
    for work in peer.port.later:
        work()
    assert [message["id"] for frame in peer.outlet.frames for message in frame] == [*range(1, 3 * SLICE + 1)]
    assert peer.port.turns == 2


async def test_large_answers_are_not_gathered_for_one_frame() -> None:
    peer = opened()
    peer.port.rpcs["large"] = lambda data: b'"%b"' % (b"x" * 50_000)
    peer.outlet.frames.clear()
    rest = peer.send(b"\n".join(b'{"id":%d,"rpc":{"method":"large"}}' % id for id in range(1, 7)))
    assert rest is not None
    await rest
    for work in peer.port.later:
        work()
    assert [len(frame) for frame in peer.outlet.frames] == [2, 2, 2]


def test_command_under_way_keeps_a_connection_from_being_given_up() -> None:
    """What comes in is not read meanwhile, the pong neither."""
    peer = opened()
    peer.port.slow = True
    peer.port.rpcs["wait"] = lambda data: b"1"
    _pinged(peer)
    wait = peer.send(b'{"id":2,"rpc":{"method":"wait"}}')
    assert wait is not None
    assert peer.session.heard
    assert not peer.session.closed
    list(peer.steps(wait))
    assert not peer.session.heard


def test_pong_that_waited_for_a_command_is_not_a_fault() -> None:
    """A method took longer than the pong's timeout; the wheel had gone on, and the pong was then one that
    nobody had asked for."""
    peer = opened()
    peer.port.slow = True
    peer.port.rpcs["wait"] = lambda data: b"1"
    wait = peer.send(b'{"id":2,"rpc":{"method":"wait"}}')
    assert wait is not None
    for _ in range(2):
        _pinged(peer)
        assert peer.session.heard
        peer.session.asked = False
    list(peer.steps(wait))
    peer.say({}, {})
    assert peer.closed is None
    peer.say({})
    assert peer.closed is not None


def test_ping_of_the_client_is_not_a_pong() -> None:
    peer = opened()
    _pinged(peer)
    assert peer.say({"id": 2, "ping": {}}) == [{}, {"id": 2, "ping": {}}]
    assert not peer.session.heard


# -- commands that ask and answer ----------------------------------------------------------------------------


@pytest.mark.parametrize("slow", [False, True])
def test_commands_are_answered_in_order(slow: bool) -> None:
    peer = opened()
    peer.port.slow = slow
    peer.port.rpcs["echo"] = lambda data: data
    peer.port.append("a", b"1")
    replies = peer.say(
        {"id": 2, "subscribe": {"channel": "a"}},
        {"id": 3, "publish": {"channel": "a", "data": {"x": "y"}, "idempotency_key": "k"}},
        {"id": 4, "presence": {"channel": "a"}},
        {"id": 5, "presence_stats": {"channel": "a"}},
        {"id": 6, "history": {"channel": "a", "limit": 1, "since": {"offset": 1}, "reverse": True}},
        {"id": 7, "history": {"channel": "a", "limit": -1}},
        {"id": 8, "rpc": {"method": "echo", "data": [1]}},
        {"id": 9, "unsubscribe": {"channel": "a"}},
        {"id": 10, "ping": {}},
    )
    assert [reply["id"] for reply in replies if "id" in reply] == list(range(2, 11))
    by_id = {reply.get("id"): reply for reply in replies}
    assert by_id[3] == {"id": 3, "publish": {"epoch": "epochAAA", "offset": 2}}
    assert by_id[4]["presence"] == {"presence": {"c1": {"user": "", "client": "c1"}}}
    assert by_id[5]["presence_stats"] == {"num_clients": 1, "num_users": 1}
    assert by_id[6]["history"]["publications"] == [{"data": {"x": "y"}, "offset": 2}]
    assert len(by_id[7]["history"]["publications"]) == 2
    assert by_id[8]["rpc"] == {"data": [1]}
    assert by_id[10] == {"id": 10, "ping": {}}
    assert peer.port.published == [("a", Post(b'{"x": "y"}', True, "k"))]


def test_replies_of_one_frame_go_out_in_one() -> None:
    peer = opened()
    before = len(peer.outlet.frames)
    peer.say(*({"id": number, "rpc": {"method": "no"}} for number in range(2, 12)))
    assert len(peer.outlet.frames) == before + 1


def test_rpc_without_data_has_an_empty_result() -> None:
    peer = opened()
    peer.port.rpcs["nothing"] = lambda data: None
    assert peer.say({"id": 2, "rpc": {"method": "nothing"}}) == [{"id": 2, "rpc": {}}]


def test_send_has_no_reply() -> None:
    peer = opened()
    peer.port.listens = True
    assert peer.say({"send": {"data": {"a": 1}}}) == []
    assert peer.port.sent == [b'{"a": 1}']


def test_fault_in_a_listener_is_logged_and_not_answered() -> None:
    peer = opened()
    peer.port.send = _raises(RuntimeError("x"))  # type: ignore[method-assign, assignment]
    assert peer.say({"send": {"data": 1}}) == []
    assert [name for name, _ in peer.port.failures] == ["send"]


def test_replies_before_a_disconnect_still_go_out() -> None:
    peer = opened()
    wait = peer.send(b'{"id":2,"rpc":{"method":"no"}}\nrubbish\n{"id":3,"rpc":{"method":"no"}}')
    assert wait is None
    assert [reply["id"] for reply in peer.read()] == [2]
    assert peer.closed is not None


# -- expiry and refresh --------------------------------------------------------------------------------------


def test_connection_expires_after_a_grace() -> None:
    port = FakePort()
    port.welcome = Welcome("42", None, 60)
    peer = opened(port)
    peer.advance(60)
    peer.advance(24)
    assert peer.closed is None
    peer.advance(2)
    assert peer.closed == (3005, "connection expired")


def test_refresh_prolongs_a_connection() -> None:
    port = FakePort()
    port.welcome = Welcome("42", None, 60)
    port.tokens = {"good": Refreshed(100), "for ever": Refreshed(None)}
    peer = opened(port)
    peer.advance(70)
    assert peer.say({"id": 2, "refresh": {"token": "good"}}) == [
        {"id": 2, "refresh": {"expires": True, "ttl": 100}}
    ]
    peer.advance(100)
    assert peer.closed is None
    assert peer.say({"id": 3, "refresh": {"token": "for ever"}}) == [{"id": 3, "refresh": {}}]
    peer.advance(10_000)
    assert peer.closed is None


def test_earlier_deadline_replaces_a_later_one() -> None:
    port = FakePort()
    port.welcome = Welcome("42", None, 1000)
    port.tokens = {"short": Refreshed(10)}
    peer = opened(port)
    peer.say({"id": 2, "refresh": {"token": "short"}})
    peer.advance(36)
    assert peer.closed == (3005, "connection expired")


# -- what the server does ------------------------------------------------------------------------------------


def test_server_sends_a_message_and_refreshes() -> None:
    peer = opened()
    peer.session.message(b'{"a":1}')
    peer.session.refreshed(60)
    assert peer.read() == [
        {"push": {"message": {"data": {"a": 1}}}},
        {"push": {"refresh": {"expires": True, "ttl": 60}}},
    ]
    peer.advance(90)
    assert peer.closed == (3005, "connection expired")


def test_server_disconnects() -> None:
    peer = opened()
    peer.session.disconnect_with(4501, "banned")
    peer.session.disconnect("shutdown")
    peer.session.message(b"1")
    assert peer.closed == (4501, "banned")
    assert peer.port.ends == [(4501, "banned")]
    assert peer.session.user == ""


def test_peer_that_goes_ends_the_session_once() -> None:
    peer = opened()
    peer.session.lost()
    peer.session.lost()
    peer.session.disconnect("shutdown")
    assert peer.port.ends == [(3000, "connection closed")]
    assert peer.closed is None


def test_client_that_does_not_read_its_answers_is_slow() -> None:
    peer = opened(max_owed_bytes=1000)
    peer.outlet.paused = True
    peer.outlet.backlog_bytes = 999
    peer.say({"id": 2, "rpc": {"method": "no"}})
    assert peer.closed is None
    peer.outlet.backlog_bytes = 1001
    peer.say({"id": 3, "rpc": {"method": "no"}})
    assert peer.closed == (3008, "slow")


def test_client_that_does_not_read_pushes_is_slow() -> None:
    peer = opened(max_owed_bytes=1000)
    told: list[object] = []

    def write(payload: object) -> bool:
        told.append(payload)
        return len(told) < 2  # the second closes it, as links do

    for payload in "xyz":
        peer.session.relay(payload, write)
    assert told == ["x", "y"]
    assert peer.port.ends == [(3008, "slow")]


def test_slow_client_that_was_to_be_disconnected_is_closed_once() -> None:
    peer = opened(max_owed_bytes=1000)
    peer.outlet.paused, peer.outlet.backlog_bytes = True, 1001
    peer.session.message(b"1")
    peer.session.disconnect("force_disconnect")
    assert peer.closed == (3008, "slow")


def test_every_phase_ends() -> None:
    assert {phase for (phase, event) in TRANSITIONS if event == "ended"} == set(Phase)


def test_wait_that_fails_is_answered() -> None:
    """What is awaited raises in the place that awaits it."""
    peer = opened()
    peer.port.rpcs["wait"] = lambda data: b"1"
    peer.port.slow = True
    wait = peer.send(b'{"id":2,"rpc":{"method":"wait"}}')
    assert wait is not None
    work = wait.__await__()
    next(work)
    with pytest.raises(StopIteration):
        work.throw(OSError("the connection to the store broke"))
    (reply,) = peer.read()
    assert reply["error"]["code"] == 100


def test_refusal_after_the_end_is_dropped() -> None:
    peer = Peer()
    peer.port.slow = True
    peer.port.welcome = Forbidden("no")
    wait = peer.send(b'{"id":1,"connect":{}}')
    assert wait is not None
    steps = peer.steps(wait)
    next(steps)
    peer.session.lost()
    list(steps)
    assert peer.read() == []
    assert peer.session.phase is Phase.CLOSED


def test_peer_that_is_gone_is_not_given_up() -> None:
    peer = opened()
    peer.session.lost()
    peer.session.give_up()
    assert not peer.outlet.given_up
