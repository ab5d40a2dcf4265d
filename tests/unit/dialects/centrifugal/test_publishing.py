"""Publishes of a session: rates, rounds, and answers that come later."""

from typing import Any

import pytest

from heartwire.dialects.centrifugal.values import Post
from heartwire.errors import EngineUnavailable, Refused
from heartwire.types import Position
from tests.unit.dialects.centrifugal.fakes import FakePort, Peer


def opened(port: FakePort | None = None, **limits: Any) -> Peer:
    peer = Peer(port, **limits)
    peer.open()
    return peer


def test_too_fast_is_an_error_and_then_a_disconnect() -> None:
    peer = opened(publish_rate_per_s=1, publish_burst=2)
    publish = {"publish": {"channel": "a", "data": 1}}
    replies = [peer.say({"id": number} | publish)[0] for number in range(2, 6)]
    assert ["error" in reply for reply in replies] == [False, False, True, True]
    assert replies[-1]["error"] == {"code": 111, "message": "too many requests", "temporary": True}
    peer.say({"id": 9} | publish)
    assert peer.closed == (3013, "too many requests")


def test_too_fast_is_counted_however_the_server_reports_it() -> None:
    peer = opened(publish_burst=2)
    publish = {"publish": {"channel": "a", "data": 1}}
    peer.port.publish_waits = []
    peer.say(*({"id": number} | publish for number in range(2, 6)))
    too_fast = Refused("too_many_requests", "too many requests")
    outcomes: list[Position | BaseException] = [
        too_fast,
        too_fast,
        Position("e", 1),
        too_fast,
    ]  # those before one that is kept are forgotten
    for done, outcome in zip(peer.port.publish_waits, outcomes, strict=True):
        done(outcome)
    peer.port.publish_fails = too_fast
    assert _numbers(peer.say({"id": 7} | publish)) == {2: 111, 3: 111, 4: 0, 5: 111, 7: 111}
    peer.say({"id": 8} | publish)
    assert peer.closed == (3013, "too many requests")


def test_rate_comes_before_permission() -> None:
    port = FakePort()
    port.forbidden = {("publish", "closed")}
    peer = opened(port, publish_rate_per_s=1, publish_burst=1)
    publish = {"publish": {"channel": "closed", "data": 1}}
    assert _numbers(peer.say({"id": 2} | publish, {"id": 3} | publish)) == {2: 103, 3: 111}


def test_patience_makes_good_for_too_fast() -> None:
    peer = opened(publish_rate_per_s=1, publish_burst=1)
    publish = {"publish": {"channel": "a", "data": 1}}
    for number in range(2, 10):
        peer.advance(0.5)
        peer.say({"id": number} | publish)
    assert peer.closed is None


def test_publishes_do_not_wait_for_the_engine_one_by_one() -> None:
    peer = opened()
    peer.port.publish_waits = []
    assert (
        peer.say(*({"id": number, "publish": {"channel": "a", "data": number}} for number in (2, 3, 4))) == []
    )
    waits = peer.port.publish_waits
    assert len(waits) == 3
    before = len(peer.outlet.frames)
    waits[0](Position("e", 1))
    waits[1](EngineUnavailable("disk"))
    waits[2](Position("e", 2))
    replies = peer.read()
    assert [(reply["id"], "error" in reply) for reply in replies] == [(2, False), (3, True), (4, False)]
    assert len(peer.outlet.frames) == before + 1


def test_answer_that_comes_after_the_end_is_dropped() -> None:
    peer = opened()
    peer.port.publish_waits = []
    peer.say({"id": 2, "publish": {"channel": "a", "data": 1}})
    peer.session.lost()
    peer.port.publish_waits[0](Position("e", 1))
    assert peer.read() == []


@pytest.mark.parametrize(
    ("said", "data", "is_text"),
    [
        ({"data": "hello"}, b'"hello"', True),
        ({"data": "hello", "encoding": ""}, b'"hello"', True),
        ({"data": "hello\u2028é", "encoding": "text"}, "hello\u2028é".encode(), True),
        ({"data": "", "encoding": "text"}, b"", True),
        ({"data": "AP8K", "encoding": "base64"}, b"\x00\xff\n", False),
        ({"data": "aGVsbG8=", "encoding": "base64"}, b"hello", False),
        ({"data": "", "encoding": "base64"}, b"", False),
    ],
)
def test_data_of_each_encoding(said: Any, data: bytes, is_text: bool) -> None:
    peer = opened()
    peer.say({"id": 2, "publish": {"channel": "a", **said}})
    assert peer.port.published == [("a", Post(data, is_text))]


def _keyed(id: int, round: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "id": id,
        "publish": {"channel": "a", "data": id, "idempotency_key": f"k{id}", "round": round, **more},
    }


def _numbers(replies: list[Any]) -> dict[int, int]:
    """By id: the error's number, 0 where there is none."""
    return {reply["id"]: reply.get("error", {}).get("code", 0) for reply in replies if "id" in reply}


def test_refusal_for_the_time_being_ends_the_round() -> None:
    """Those behind it in the pipe must not get in front of its retry."""
    peer = opened()
    peer.say(_keyed(2))
    peer.port.publish_fails = EngineUnavailable("full")
    assert _numbers(peer.say(_keyed(3))) == {3: 100}
    peer.port.publish_fails = None
    (reply,) = peer.say(_keyed(4))
    assert reply["error"] == {
        "code": 409,
        "message": "out of order: round 0 is over: send what was refused, and all after it, in round 1",
        "temporary": True,
    }
    assert _numbers(peer.say(_keyed(5), _keyed(3, 1), _keyed(4, 1), _keyed(5, 1))) == {5: 409} | {
        3: 0,
        4: 0,
        5: 0,
    }
    assert [post.data for _, post in peer.port.published] == [b"2", b"3", b"4", b"5"]


def test_out_of_order_ends_no_round_and_is_not_counted() -> None:
    peer = opened(publish_rate_per_s=1, publish_burst=2)
    assert _numbers(peer.say(*map(_keyed, range(2, 50)))) == {2: 0, 3: 0, 4: 111} | dict.fromkeys(
        range(5, 50), 409
    )
    assert (peer.session.round, peer.closed) == (1, None)
    peer.advance(1)
    assert _numbers(peer.say(_keyed(4, 1), _keyed(5, 1), _keyed(6, 1), _keyed(7, 7))) == {
        4: 0,
        5: 111,
        6: 409,
        7: 111,
    }
    assert (peer.session.round, peer.closed) == (8, None)


def test_refusal_for_good_ends_no_round() -> None:
    peer = opened()
    peer.port.publish_fails = Refused("message_too_large", "too large")
    assert _numbers(peer.say(_keyed(2))) == {2: 106}
    peer.port.publish_fails = None
    assert _numbers(peer.say(_keyed(3))) == {3: 0}


def test_fault_ends_the_round() -> None:
    peer = opened()
    peer.port.publish_fails = RuntimeError("a fault of the application's")
    assert _numbers(peer.say(_keyed(2), _keyed(3))) == {2: 100, 3: 409}


def test_publishes_without_a_key_have_no_rounds() -> None:
    peer = opened()
    peer.port.publish_fails = EngineUnavailable("full")
    assert _numbers(peer.say(_keyed(2, idempotency_key=""))) == {2: 100}
    peer.port.publish_fails = None
    assert _numbers(peer.say(_keyed(3))) == {3: 0}
    peer.port.publish_fails = EngineUnavailable("full")
    peer.say(_keyed(4))
    peer.port.publish_fails = None
    assert _numbers(peer.say(_keyed(5, idempotency_key=""), _keyed(6))) == {5: 0, 6: 409}


def test_failure_in_the_engine_ends_the_round_of_those_that_follow() -> None:
    peer = opened()
    peer.port.publish_waits = []
    peer.say(_keyed(2), _keyed(3))
    peer.port.publish_waits[0](EngineUnavailable("disk"))
    assert _numbers(peer.say(_keyed(4))) == {2: 100, 4: 409}
    peer.port.publish_waits[1](Position("e", 1))  # it was in the engine's hands already
    assert _numbers(peer.read()) == {3: 0}


def test_publish_may_have_to_wait() -> None:
    from tests.unit.dialects.centrifugal.fakes import Later

    peer = opened()
    peer.port.publish_wait = Later(lambda: None)
    assert peer.say({"id": 2, "publish": {"channel": "a", "data": 1}}) == [
        {"id": 2, "publish": {"epoch": "epochAAA", "offset": 1}}
    ]
