"""Subscriptions of a session: begin, recover, end; joins and leaves; the server's own."""

from typing import Any

import pytest

from heartwire.dialects.centrifugal import (
    Disconnected,
    Refreshed,
    Rules,
    SubscriptionGrant,
    TokenExpired,
    Welcome,
)
from heartwire.errors import EngineUnavailable, Unauthorized
from heartwire.types import Override, Position, ServerSubscription
from tests.unit.dialects.centrifugal.fakes import FakePort, Peer


def opened(port: FakePort | None = None, **limits: Any) -> Peer:
    peer = Peer(port, **limits)
    peer.open()
    return peer


def subscribed(peer: Peer, channel: str = "a", **request: Any) -> Any:
    (reply,) = peer.say({"id": 2, "subscribe": {"channel": channel} | request})
    return reply["subscribe"]


# -- what is granted -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "request_", "positioned", "recoverable"),
    [
        (Rules(), {}, False, False),
        (Rules(), {"positioned": True}, True, False),
        (Rules(), {"recoverable": True}, True, True),
        (Rules(force_positioning=True), {}, True, False),
        (Rules(force_recovery=True), {}, True, True),
        (
            Rules(allow_recovery=False, allow_positioning=False),
            {"positioned": True, "recoverable": True},
            False,
            False,
        ),
    ],
)
def test_positioned_and_recoverable(
    rules: Rules, request_: dict[str, Any], positioned: bool, recoverable: bool
) -> None:
    port = FakePort()
    port.rules_of["a"] = rules
    port.append("a", b"1")
    result = subscribed(opened(port), **request_)
    assert (result.get("positioned", False), result.get("recoverable", False)) == (positioned, recoverable)
    assert result.get("epoch") == (port.epoch if positioned else None)
    assert result.get("offset") == (1 if positioned else None)
    assert port.starts["a"] == Position(port.epoch, 1)


def test_position_that_the_node_knows_is_not_read_again() -> None:
    port = FakePort()
    port.knows_where, port.slow = True, False
    port.read = None  # type: ignore[method-assign, assignment]
    assert subscribed(opened(port)) == {}


@pytest.mark.parametrize("slow", [False, True])
def test_grant_is_in_the_reply(slow: bool) -> None:
    port = FakePort()
    port.slow = slow
    port.grants["t"] = SubscriptionGrant(60, b'{"role":"host"}', b'{"hi":1}')
    peer = opened(port)
    result = subscribed(peer, token="t", data={"a": 1})
    assert (result["expires"], result["ttl"], result["data"]) == (True, 60, {"hi": 1})
    (reply,) = peer.say({"id": 3, "presence": {"channel": "a"}})
    assert reply["presence"]["presence"]["c1"]["chan_info"] == {"role": "host"}


@pytest.mark.parametrize(("error", "number"), [(TokenExpired(), 109), (Unauthorized("bad signature"), 103)])
@pytest.mark.parametrize("slow", [False, True])
def test_bad_token_leaves_no_subscription(error: Exception, number: int, slow: bool) -> None:
    port = FakePort()
    port.grants["t"] = error
    peer = opened(port)
    port.slow = slow
    (reply,) = peer.say({"id": 2, "subscribe": {"channel": "a", "token": "t"}})
    assert reply["error"]["code"] == number
    assert not peer.session.subs
    assert not port.followers
    port.slow = False
    assert subscribed(peer) == {}


def test_token_of_another_user_disconnects() -> None:
    port = FakePort()
    port.grants["t"] = Disconnected("unauthorized")
    peer = opened(port)
    assert peer.say({"id": 2, "subscribe": {"channel": "a", "token": "t"}}) == []
    assert peer.closed == (3500, "invalid token")


def test_subscription_that_is_being_made_counts() -> None:
    peer = opened()
    peer.port.slow = True
    wait = peer.send(b'{"id":2,"subscribe":{"channel":"a"}}')
    assert wait is not None
    steps = peer.steps(wait)
    next(steps)
    assert list(peer.session.subs) == ["a"]
    list(steps)
    assert [follower.channel for follower in peer.port.followers] == ["a"]


@pytest.mark.parametrize("what", ["lost", "unsubscribed", "disconnected"])
def test_what_ends_while_it_is_being_made_does_not_begin(what: str) -> None:
    peer = opened()
    peer.port.slow = True
    wait = peer.send(b'{"id":2,"subscribe":{"channel":"a"}}\n{"id":3,"rpc":{"method":"no"}}')
    assert wait is not None
    steps = peer.steps(wait)
    next(steps)
    match what:
        case "lost":
            peer.session.lost()
        case "unsubscribed":
            assert peer.session.unsubscribe("a")
        case "disconnected":
            peer.session.disconnect("force_disconnect")
    list(steps)
    assert not peer.port.followers
    assert not peer.session.subs
    kinds = [message.get("error", {}).get("code") or next(iter(message)) for message in peer.read()]
    assert kinds == (["push", 103, 104] if what == "unsubscribed" else [])


def test_duplicate_in_one_frame_is_refused() -> None:
    peer = opened()
    replies = peer.say({"id": 2, "subscribe": {"channel": "a"}}, {"id": 3, "subscribe": {"channel": "a"}})
    assert "subscribe" in replies[0]
    assert replies[1]["error"]["code"] == 105


def test_several_hundred_channels_in_one_frame() -> None:
    peer = opened()
    replies = peer.say(*({"id": number, "subscribe": {"channel": f"c{number}"}} for number in range(2, 1002)))
    assert len(replies) == 1000
    (reply,) = peer.say({"id": 1003, "subscribe": {"channel": "one more"}})
    assert reply["error"]["code"] == 106


def test_unsubscribe_of_what_is_not_there_is_answered() -> None:
    """An error would make centrifuge-js reconnect."""
    assert opened().say({"id": 2, "unsubscribe": {"channel": "never"}}) == [{"id": 2, "unsubscribe": {}}]


def test_publications_come_until_unsubscribed() -> None:
    peer = opened()
    subscribed(peer)
    peer.port.append("a", b"1")
    assert peer.read() == [{"push": {"channel": "a", "pub": {"data": 1, "offset": 1}}}]
    peer.say({"id": 3, "unsubscribe": {"channel": "a"}})
    peer.port.append("a", b"2")
    assert peer.read() == []


def test_nothing_comes_before_the_reply() -> None:
    """[T] The reply first, then live pushes: what is published while the subscription is made is in neither
    twice nor lost."""
    peer = opened()
    port = peer.port
    port.append("a", b"1")
    port.slow = True
    wait = peer.send(b'{"id":2,"subscribe":{"channel":"a","recover":true,"epoch":"epochAAA"}}')
    assert wait is not None
    steps = peer.steps(wait)
    next(steps)
    port.append("a", b"2")
    assert peer.read() == []
    list(steps)
    (reply,) = peer.read()
    assert [publication["data"] for publication in reply["subscribe"]["publications"]] == [1, 2]
    assert port.starts["a"] == Position(port.epoch, 2)


# -- recovery ------------------------------------------------------------------------------------------------

E = "epochAAA"
RECOVERY: list[tuple[str, int, int, dict[str, Any], dict[str, Any], list[int]]] = [
    # published, evicted, the request, what the result says besides was_recovering, the recovered offsets
    ("at the top", 9, 0, {"offset": 9, "epoch": E}, {"recovered": True, "offset": 9}, []),
    ("some missed", 9, 0, {"offset": 7, "epoch": E}, {"recovered": True, "offset": 7}, [8, 9]),
    ("all missed", 3, 0, {"offset": 0, "epoch": E}, {"recovered": True}, [1, 2, 3]),
    ("since the beginning, without an epoch", 3, 0, {}, {"recovered": True}, [1, 2, 3]),
    ("since an offset, without an epoch", 3, 0, {"offset": 2}, {"recovered": True, "offset": 2}, [3]),
    ("empty stream", 0, 0, {"offset": 0, "epoch": E}, {"recovered": True}, []),
    (
        "the next one is just kept",
        9,
        5,
        {"offset": 5, "epoch": E},
        {"recovered": True, "offset": 5},
        [6, 7, 8, 9],
    ),
    ("the next one is gone", 9, 6, {"offset": 5, "epoch": E}, {"offset": 9}, []),
    (
        "all are gone, and none was missed",
        9,
        9,
        {"offset": 9, "epoch": E},
        {"recovered": True, "offset": 9},
        [],
    ),
    ("all are gone", 9, 9, {"offset": 8, "epoch": E}, {"offset": 9}, []),
    ("another epoch", 9, 0, {"offset": 7, "epoch": "other"}, {"offset": 9}, []),
    ("the epoch that must not match", 9, 0, {"offset": 9, "epoch": "_"}, {"offset": 9}, []),
    ("beyond the top", 3, 0, {"offset": 7, "epoch": E}, {"offset": 3}, []),
    ("beyond all numbers", 3, 0, {"offset": 2**64 - 1, "epoch": E}, {"offset": 3}, []),
]


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize(
    ("what", "published", "evicted", "request_", "told", "offsets"),
    RECOVERY,
    ids=[row[0] for row in RECOVERY],
)
def test_recovery(
    what: str,
    published: int,
    evicted: int,
    request_: dict[str, Any],
    told: dict[str, Any],
    offsets: list[int],
    slow: bool,
) -> None:
    port = FakePort()
    port.slow = slow
    for number in range(published):
        port.append("a", b"%d" % number)
    port.evicted["a"] = evicted
    peer = opened(port)
    result = subscribed(peer, recover=True, **request_)
    assert [publication["offset"] for publication in result.pop("publications", [])] == offsets
    assert result == {"recoverable": True, "positioned": True, "epoch": E, "was_recovering": True} | told
    assert port.starts["a"] == Position(E, published)
    # Flag 2: rather an error than a subscription that could not recover.
    other = opened(port)
    (reply,) = other.say({"id": 2, "subscribe": {"channel": "a", "recover": True, "flag": 3} | request_})
    assert ("error" in reply) is ("recovered" not in told)
    if "error" in reply:
        assert reply["error"]["code"] == 112
        assert not other.session.subs


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize(
    ("published", "evicted", "request_", "before", "offsets"),
    [
        (9, 6, {"offset": 5, "epoch": E}, 6, [7, 8, 9]),
        (9, 6, {}, 6, [7, 8, 9]),
        (9, 0, {"offset": 7, "epoch": "other"}, 0, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (9, 9, {"offset": 8, "epoch": E}, 9, []),
    ],
)
def test_gap_that_is_followed_by_what_is_kept(
    published: int, evicted: int, request_: dict[str, Any], before: int, offsets: list[int], slow: bool
) -> None:
    """``from_oldest``: the client is told where the gap ends, and gets everything after it."""
    port = FakePort()
    port.slow = slow
    for number in range(published):
        port.append("a", b"%d" % number)
    port.evicted["a"] = evicted
    result = subscribed(opened(port), recover=True, from_oldest=True, **request_)
    assert [publication["offset"] for publication in result.get("publications", [])] == offsets
    assert (result.get("recovered", False), result.get("offset", 0)) == (False, before)
    assert port.starts["a"] == Position(E, published)


def test_long_way_goes_on_as_pushes() -> None:
    """One reply has a bound; what comes after it is delivered like any other publication, so that all of it
    is recovered."""
    port = FakePort()
    for number in range(10):
        port.append("a", b"%d" % number)
    peer = opened(port, recovered_items=4)
    result = subscribed(peer, recover=True, epoch=E)
    assert [publication["offset"] for publication in result["publications"]] == [1, 2, 3, 4]
    assert result["recovered"] is True
    assert port.starts["a"] == Position(E, 4)


def test_recovery_that_is_not_allowed_is_reported() -> None:
    port = FakePort()
    port.rules_of["a"] = Rules(allow_recovery=False)
    port.append("a", b"1")
    assert subscribed(opened(port), recover=True) == {"was_recovering": True}


CACHE: list[tuple[str, int, int, dict[str, Any], dict[str, Any], list[int]]] = [
    ("some missed", 9, 0, {"offset": 3, "epoch": E}, {"recovered": True, "offset": 3}, [9]),
    ("another epoch", 9, 0, {"offset": 3, "epoch": "other"}, {"recovered": True, "offset": 3}, [9]),
    ("since the beginning", 9, 0, {}, {"recovered": True}, [9]),
    ("there already", 9, 0, {"offset": 9, "epoch": E}, {"recovered": True, "offset": 9}, []),
    ("none kept, and none missed", 9, 9, {"offset": 9, "epoch": E}, {"recovered": True, "offset": 9}, []),
    ("none kept", 9, 9, {"offset": 3, "epoch": E}, {"offset": 9}, []),
    ("none ever", 0, 0, {}, {}, []),
]


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize(
    ("what", "published", "evicted", "request_", "told", "offsets"), CACHE, ids=[row[0] for row in CACHE]
)
def test_cache_recovery_brings_the_newest(
    what: str,
    published: int,
    evicted: int,
    request_: dict[str, Any],
    told: dict[str, Any],
    offsets: list[int],
    slow: bool,
) -> None:
    port = FakePort()
    port.slow = slow
    port.rules_of["a"] = Rules(cache=True, force_recovery=True)
    for number in range(published):
        port.append("a", b"%d" % number)
    port.evicted["a"] = evicted
    result = subscribed(opened(port), recover=True, **request_)
    assert [publication["offset"] for publication in result.pop("publications", [])] == offsets
    assert result == {"recoverable": True, "positioned": True, "epoch": E, "was_recovering": True} | told


# -- gaps ----------------------------------------------------------------------------------------------------


def test_gap_ends_a_subscription_so_that_the_client_subscribes_anew() -> None:
    """[T] SDKs detect no gaps: nothing is delivered over one."""
    peer = opened()
    subscribed(peer)
    (follower,) = peer.port.followers
    follower.gap(Position("new", 5))
    assert peer.read() == [
        {"push": {"channel": "a", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}}
    ]
    assert not peer.port.followers
    assert subscribed(peer) == {}


def test_gap_of_a_server_side_subscription_ends_the_connection() -> None:
    port = FakePort()
    port.welcome = Welcome(subs=[ServerSubscription("a")])
    peer = opened(port)
    port.followers[0].gap(Position("new", 5))
    assert peer.closed == (3010, "insufficient state")
    assert not port.followers


# -- joins and leaves ----------------------------------------------------------------------------------------


def test_own_join_comes_after_the_reply() -> None:
    """[T]"""
    port = FakePort()
    port.rules_of["a"] = Rules(join_leave=True, force_push_join_leave=True)
    peer = opened(port)
    reply, push = peer.say({"id": 2, "subscribe": {"channel": "a"}})
    assert reply["id"] == 2
    assert push == {"push": {"channel": "a", "join": {"info": {"user": "", "client": "c1"}}}}


def test_leave_comes_to_those_who_stay_and_once() -> None:
    port = FakePort()
    port.rules_of["a"] = Rules(join_leave=True, force_push_join_leave=True)
    one, other = opened(port), opened(port)
    subscribed_now = [
        one.say({"id": 2, "subscribe": {"channel": "a"}}),
        other.say({"id": 2, "subscribe": {"channel": "a"}}),
    ]
    assert len(subscribed_now) == 2
    one.read()
    other.say({"id": 3, "unsubscribe": {"channel": "a"}})
    other.session.lost()
    assert [sorted(push["push"]) for push in one.read()] == [["channel", "leave"]]
    assert other.read() == []


@pytest.mark.parametrize(
    ("rules", "asks", "may", "hears"),
    [
        (Rules(join_leave=True), True, True, True),
        (Rules(join_leave=True), False, True, False),
        (Rules(join_leave=True), True, False, False),
        (Rules(join_leave=True, force_push_join_leave=True), False, False, True),
        (Rules(), True, True, False),
    ],
)
def test_subscribers_that_get_joins(rules: Rules, asks: bool, may: bool, hears: bool) -> None:
    port = FakePort()
    port.rules_of["a"] = rules
    if not may:
        port.forbidden.add(("presence", "a"))
    peer = opened(port)
    peer.say({"id": 2, "subscribe": {"channel": "a", "join_leave": asks}})
    assert port.followers[0].hears_members is hears


# -- expiry --------------------------------------------------------------------------------------------------


def test_subscription_expires_after_a_grace() -> None:
    port = FakePort()
    port.grants["t"] = SubscriptionGrant(60)
    peer = opened(port)
    subscribed(peer, token="t")
    subscribed(peer, "b")
    peer.advance(84)
    assert peer.read() == []
    peer.advance(2)
    assert peer.read() == [
        {"push": {"channel": "a", "unsubscribe": {"code": 2501, "reason": "subscription expired"}}}
    ]
    assert list(peer.session.subs) == ["b"]
    peer.advance(1000)
    assert peer.closed is None


def test_subscriptions_expire_one_by_one() -> None:
    port = FakePort()
    port.grants |= {"short": SubscriptionGrant(10), "long": SubscriptionGrant(100)}
    port.welcome = Welcome(ttl_s=1000)
    peer = opened(port)
    subscribed(peer, "long", token="long")
    subscribed(peer, "short", token="short")
    peer.advance(36)
    assert list(peer.session.subs) == ["long"]
    peer.advance(90)
    assert list(peer.session.subs) == []
    assert peer.closed is None
    peer.advance(1000)
    assert peer.closed == (3005, "connection expired")


@pytest.mark.parametrize("named", [True, False])
def test_sub_refresh_prolongs(named: bool) -> None:
    """[T] centrifuge-python 0.5.0 leaves the channel out: it is taken from the token."""
    port = FakePort()
    port.grants["t"] = SubscriptionGrant(60)
    port.tokens["new"] = Refreshed(100, "a")
    peer = opened(port)
    subscribed(peer, token="t")
    peer.advance(70)
    request = {"token": "new"} | ({"channel": "a"} if named else {})
    assert peer.say({"id": 3, "sub_refresh": request}) == [
        {"id": 3, "sub_refresh": {"expires": True, "ttl": 100}}
    ]
    peer.advance(100)
    assert list(peer.session.subs) == ["a"]
    peer.advance(50)
    assert list(peer.session.subs) == []


def test_server_side_subscription_that_expires_ends_the_connection() -> None:
    port = FakePort()
    port.welcome = Welcome(subs=[ServerSubscription("a", ttl_s=60)])
    peer = opened(port)
    peer.advance(90)
    assert peer.closed == (3006, "subscription expired")


# -- server-side ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slow", [False, True])
def test_server_side_subscriptions_are_in_the_reply_and_recover(slow: bool) -> None:
    port = FakePort()
    port.slow = slow
    port.append("feed", b"1")
    port.append("feed", b"2")
    port.rules_of["feed"] = Rules(join_leave=True, force_push_join_leave=True)
    subs = [
        ServerSubscription("feed", b'{"n":1}', b"[1]", override=Override(force_recovery=True)),
        ServerSubscription("plain", override=Override(force_positioning=True)),
        ServerSubscription("feed"),
    ]
    port.welcome = Welcome("42", subs=subs)
    peer = Peer(port)
    reply, join = peer.say(
        {"id": 1, "connect": {"subs": {"feed": {"recover": True, "offset": 1, "epoch": E}}}}
    )
    feed = reply["connect"]["subs"]["feed"]
    assert feed["publications"] == [{"data": 2, "offset": 2}]
    assert (feed["recovered"], feed["was_recovering"], feed["offset"], feed["data"]) == (True, True, 1, [1])
    assert reply["connect"]["subs"]["plain"] == {"positioned": True, "epoch": E}
    assert join["push"]["join"]["info"] == {"user": "42", "client": "c1", "chan_info": {"n": 1}}
    # Subscribing to it from the client's side as well is an error.
    (refused,) = peer.say({"id": 2, "subscribe": {"channel": "feed"}})
    assert refused["error"]["code"] == 105


def test_server_side_subscription_of_an_unknown_channel_refuses_the_connection() -> None:
    port = FakePort()
    port.welcome = Welcome(subs=[ServerSubscription("a"), ServerSubscription("nope:a")])
    peer = Peer(port)
    (reply,) = peer.say({"id": 1, "connect": {}})
    assert reply["error"]["code"] == 102
    assert not peer.session.subs


def test_too_many_server_side_subscriptions_close() -> None:
    port = FakePort()
    port.welcome = Welcome(subs=[ServerSubscription("a"), ServerSubscription("b")])
    peer = Peer(port, max_channels=1)
    assert peer.say({"id": 1, "connect": {}}) == []
    assert peer.closed is not None
    assert peer.closed[0] == 3505


@pytest.mark.parametrize("slow", [False, True])
def test_server_subscribes_and_unsubscribes(slow: bool) -> None:
    peer = opened()
    port = peer.port
    port.append("a", b"1")
    port.slow = slow
    for _ in range(2):  # the second time nothing happens
        wait = peer.session.subscribe(
            ServerSubscription("a", data=b"{}", override=Override(force_recovery=True))
        )
        for _ in peer.steps(wait) if wait is not None else ():
            pass
    subscribe = {"recoverable": True, "positioned": True, "epoch": E, "offset": 1, "data": {}}
    assert peer.read() == [{"push": {"channel": "a", "subscribe": subscribe}}]
    port.append("a", b"2")
    assert peer.session.unsubscribe("a")
    assert not peer.session.unsubscribe("a")
    pub, unsubscribe = peer.read()
    assert pub["push"]["pub"]["offset"] == 2
    assert unsubscribe == {
        "push": {"channel": "a", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}
    }


def test_server_subscribes_with_recovery() -> None:
    peer = opened()
    peer.port.append("a", b"1")
    assert peer.session.subscribe(ServerSubscription("a", since=Position(E, 0))) is None
    subscribe, pub = peer.read()
    assert subscribe["push"]["subscribe"].get("offset") is None
    assert pub["push"]["pub"] == {"data": 1, "offset": 1}


def test_server_unsubscribes_while_it_subscribes() -> None:
    peer = opened()
    peer.port.slow = True
    wait = peer.session.subscribe(ServerSubscription("a"))
    assert wait is not None
    steps = peer.steps(wait)
    next(steps)
    peer.session.unsubscribe("a")
    list(steps)
    assert not peer.port.followers


def test_client_unsubscribes_from_what_the_server_subscribed() -> None:
    peer = opened()
    peer.session.subscribe(ServerSubscription("a"))
    peer.read()
    assert peer.say({"id": 2, "unsubscribe": {"channel": "a"}}) == [{"id": 2, "unsubscribe": {}}]
    assert not peer.port.followers


def test_closed_session_is_not_subscribed() -> None:
    peer = opened()
    peer.session.lost()
    assert peer.session.subscribe(ServerSubscription("a")) is None
    assert not peer.port.followers


def test_everything_is_left_at_once() -> None:
    peer = opened()
    for name in "abc":
        peer.say({"id": 2, "subscribe": {"channel": name}})
    peer.session.lost()
    assert not peer.port.followers


def test_what_ends_with_the_reply_is_not_followed() -> None:
    """The reply itself may be one too many for a client that does not read."""
    peer = opened(max_owed_bytes=10)
    peer.outlet.paused, peer.outlet.backlog_bytes = True, 11
    peer.say({"id": 2, "subscribe": {"channel": "a"}})
    assert peer.closed == (3008, "slow")
    assert not peer.port.followers


def test_sub_refresh_may_lift_the_expiry() -> None:
    port = FakePort()
    port.grants["t"] = SubscriptionGrant(60)
    port.tokens["for ever"] = Refreshed(None, "a")
    peer = opened(port)
    subscribed(peer, token="t")
    assert peer.say({"id": 3, "sub_refresh": {"channel": "a", "token": "for ever"}}) == [
        {"id": 3, "sub_refresh": {}}
    ]
    peer.advance(1000)
    assert list(peer.session.subs) == ["a"]


@pytest.mark.parametrize("slow", [False, True])
def test_stream_that_cannot_be_read_leaves_no_subscription(slow: bool) -> None:
    port = FakePort()
    port.slow = slow

    def top(channel: str) -> Position:
        raise EngineUnavailable("the disk is gone")

    port.top = top  # type: ignore[method-assign]
    peer = opened(port)
    (reply,) = peer.say({"id": 2, "subscribe": {"channel": "a"}})
    assert reply["error"] == {"code": 100, "message": "internal server error", "temporary": True}
    assert not peer.session.subs
    port.welcome = Welcome(subs=[ServerSubscription("a")])
    other = Peer(port)
    (reply,) = other.say({"id": 1, "connect": {}})
    assert reply["error"]["code"] == 100
    assert not other.session.subs
    wait = peer.session.subscribe(ServerSubscription("b")) if slow else None
    if wait is not None:
        steps = peer.steps(wait)
        next(steps)
        peer.session.lost()
        with pytest.raises(EngineUnavailable):
            list(steps)
