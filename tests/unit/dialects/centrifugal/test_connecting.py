"""How a session connects: its first command, and the answer."""

from typing import Any

import pytest

from heartwire.dialects.centrifugal import TokenExpired, Welcome
from heartwire.errors import EngineUnavailable, Forbidden, Unauthorized
from heartwire.types import ServerSubscription
from tests.unit.dialects.centrifugal.fakes import FakePort, Peer


def opened(port: FakePort | None = None, **limits: Any) -> Peer:
    peer = Peer(port, **limits)
    peer.open()
    return peer


def test_connect_reply_has_what_clients_need() -> None:
    assert Peer().open() == {"client": "c1", "version": "test 1", "ping": 25, "pong": True}


def test_first_id_need_not_be_one() -> None:
    """Ids grow for the life of the SDK's object, not of the connection."""
    assert Peer().say({"id": 4711, "connect": {}})[0]["id"] == 4711


def test_welcome_is_in_the_reply() -> None:
    port = FakePort()
    port.welcome = Welcome("42", b'{"name":"Al"}', 3600, b'{"hello":1}')
    connected = Peer(port).open()
    assert connected["data"] == {"hello": 1}
    assert (connected["expires"], connected["ttl"]) == (True, 3600)


def test_connect_reply_has_the_emulation_ids() -> None:
    from heartwire.dialects.centrifugal import JSON, Session, SessionSettings

    peer = Peer()
    peer.session = Session(
        peer.port,
        JSON,
        peer.outlet,
        SessionSettings("v"),
        client="c",
        now=0,
        emulation=("secret", "node"),
        pong=False,
    )
    connected = peer.open()
    assert (connected["session"], connected["node"], connected.get("pong")) == ("secret", "node", None)
    assert peer.session.heard  # nothing was asked for


@pytest.mark.parametrize("slow", [False, True])
def test_bad_token_closes_without_a_reply(slow: bool) -> None:
    peer = Peer()
    peer.port.slow = slow
    peer.port.welcome = Unauthorized("signature")
    assert peer.say({"id": 1, "connect": {"token": "x"}}, {"id": 2, "subscribe": {"channel": "a"}}) == []
    assert peer.closed == (3500, "invalid token: signature")
    assert not peer.port.ends


@pytest.mark.parametrize(
    ("error", "number"),
    [(TokenExpired(), 109), (Forbidden("no"), 103), (EngineUnavailable("x"), 100), (KeyError("x"), 100)],
)
def test_session_is_dead_after_an_error_to_connect(error: Exception, number: int) -> None:
    """[T] The rest of the frame is dropped, and nothing is answered any more; then the connection is
    stale."""
    peer = Peer()
    peer.port.welcome = error
    (reply,) = peer.say({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "a"}})
    assert reply["error"]["code"] == number
    assert peer.say({"id": 3, "subscribe": {"channel": "a"}}, {"id": 4, "connect": {}}) == []
    assert peer.closed is None
    peer.advance(10)
    assert peer.closed == (3502, "stale")


def test_connect_and_subscribes_come_in_one_frame() -> None:
    """[T] The first frame of centrifuge-js."""
    replies = Peer().say(
        {"connect": {"name": "js"}, "id": 1}, {"subscribe": {"channel": "a", "flag": 1}, "id": 2}
    )
    assert [sorted(reply) for reply in replies] == [["connect", "id"], ["id", "subscribe"]]


def test_connect_and_the_first_subscribe_are_answered_in_one_frame() -> None:
    peer = Peer()
    peer.say({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "a"}})
    (frame,) = peer.outlet.frames
    assert [message["id"] for message in frame] == [1, 2]


def test_connect_comes_before_another_method_of_its_command() -> None:
    peer = Peer()
    (reply,) = peer.say({"id": 1, "connect": {}, "publish": {"channel": "a", "data": 1}})
    assert "connect" in reply
    assert peer.port.published == []


def test_silent_connection_is_stale() -> None:
    peer = Peer()
    peer.advance(9.9)
    assert peer.closed is None
    peer.advance(0.2)
    assert peer.closed == (3502, "stale")


def test_connection_that_connected_is_not_stale() -> None:
    peer = opened()
    peer.advance(3600)
    assert peer.closed is None


def test_nothing_is_done_for_a_connection_that_was_lost_while_connecting() -> None:
    peer = Peer()
    peer.port.slow = True
    peer.port.welcome = Welcome(subs=[ServerSubscription("a"), ServerSubscription("b")])
    wait = peer.send(b'{"id":1,"connect":{}}')
    assert wait is not None
    steps = peer.steps(wait)
    next(steps)
    next(steps)
    peer.session.lost()
    assert not list(steps)
    assert not peer.port.opened_sessions
    assert not peer.port.followers
    assert not peer.session.subs
