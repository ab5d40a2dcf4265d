"""The parts of the client's machine that stand alone."""

from itertools import product
from typing import Any, get_args

import pytest

from heartwire.client.channel_state import ChannelState
from heartwire.client.context import Context
from heartwire.client.ladder import Ladder
from heartwire.client.machine import Machine
from heartwire.client.options import Options, check_options
from heartwire.client.outputs import Failed, Note, Rejected
from heartwire.client.pending_publishes import PendingPublishes
from heartwire.client.retry import Backoff, Bucket
from heartwire.client.states import TRANSITIONS, Event, State
from heartwire.client.wire import ErrorBody, Pub, Reply
from heartwire.errors import ConfigError
from heartwire.types import Position

# -- states --------------------------------------------------------------------------------------------------


def test_what_is_not_listed_raises() -> None:
    unlisted = set(product(State, get_args(Event))) - set(TRANSITIONS)
    assert (State.ONLINE, "network_down") in unlisted
    assert (State.CLOSED, "attempt") in unlisted
    for state, event in unlisted:
        with pytest.raises(KeyError):
            TRANSITIONS[state, event]


def test_closed_is_for_good() -> None:
    assert {after for (before, _), after in TRANSITIONS.items() if before is State.CLOSED} == {State.CLOSED}


# -- options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("transports", ()),
        ("transports", ("carrier pigeon",)),
        ("first_transport", "carrier pigeon"),
        ("tick_s", 0),
        ("max_in_flight", -1),
        ("ping_interval_s", "25"),
        ("poll_wait_s", 56),
    ],
)
def test_options_that_cannot_be_are_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        check_options(Options()._replace(**{name: value}))


def test_first_transport_is_of_the_ladder() -> None:
    with pytest.raises(ConfigError, match="first_transport"):
        check_options(Options(transports=("poll",), first_transport="sse"))


def test_defaults_are_good() -> None:
    check_options(Options())


# -- retry ---------------------------------------------------------------------------------------------------


def test_backoff_doubles_to_the_cap_and_begins_anew() -> None:
    backoff = Backoff(base_s=1, cap_s=3, draw=lambda: 1.0)
    assert [backoff.next_s() for _ in range(4)] == [1, 2, 3, 3]
    backoff.reset()
    assert backoff.next_s() == 1


def test_backoff_of_a_client_that_never_gives_up() -> None:
    backoff = Backoff(base_s=1, cap_s=3, draw=lambda: 1.0)
    backoff.failures = 10**6
    assert backoff.next_s() == 3


def test_bucket_holds_its_burst_and_fills_at_its_rate() -> None:
    bucket = Bucket(0.5, 2, 0.0)
    assert [bucket.take(0.0), bucket.take(0.0)] == [0, 0]
    assert bucket.take(0.0) == pytest.approx(2.001)
    assert bucket.take(2.001) == 0
    assert bucket.take(1.0) > 0  # a clock that goes back fills nothing


def test_a_wait_that_was_told_is_long_enough() -> None:
    bucket, now = Bucket(0.3, 1, 0.0), 0.1
    for _ in range(1000):
        now += bucket.take(now)
        assert bucket.take(now) in (0, pytest.approx(1 / 0.3 + 0.001))


# -- the ladder ----------------------------------------------------------------------------------------------


def test_the_top_has_nothing_better() -> None:
    assert Ladder(["a", "b"]).better() is None


def test_each_better_rung_in_turn() -> None:
    ladder = Ladder(["a", "b", "c"], "c")
    assert [ladder.better() for _ in range(3)] == [0, 1, 0]


def test_below_the_last_is_the_first_and_no_second_at_once() -> None:
    ladder = Ladder(["a", "b"])
    assert ladder.failed(is_reachable=True, is_timeout=False)
    assert (ladder.transport, ladder.rounds) == ("b", 0)
    assert not ladder.failed(is_reachable=True, is_timeout=True)
    assert (ladder.transport, ladder.rounds) == ("a", 1)


def test_heartbeats_forgive_early_deaths() -> None:
    ladder = Ladder(["a", "b"])
    ladder.opened(0)
    for had_heartbeat in (False, True, False):
        ladder.died(had_heartbeat=had_heartbeat, is_abnormal=True)
    assert ladder.transport == "a"
    assert not ladder.failed(is_reachable=False, is_timeout=False)  # the server died, not what carried it
    ladder.died(had_heartbeat=False, is_abnormal=True)
    assert ladder.transport == "a"
    ladder.died(had_heartbeat=False, is_abnormal=True)
    assert ladder.transport == "b"


# -- pending publishes ---------------------------------------------------------------------------------------


def pending(*keys: str, in_flight: int = 2) -> PendingPublishes:
    options = Options(
        max_pending_items=3, max_pending_bytes=100, max_in_flight=in_flight, max_pending_age_s=10
    )
    box = PendingPublishes(Context(options, draw=lambda: 0.5, now=0), prefix="p")
    for number, key in enumerate(keys):
        assert add(box, key, f'"{key}"', now=number)
    return box


def add(box: PendingPublishes, key: str, data: str, *, now: float = 0) -> bool:
    """Whether it was taken."""
    count = len(box)
    box._context.now = now
    box.add("a", data, "", key)
    return len(box) > count


def sent(box: PendingPublishes) -> list[str]:
    return [item.idempotency_key for item in box.to_send()]


def refuse_for_now(box: PendingPublishes, key: str) -> bool:
    """Whether that ends the round."""
    box.answered(key, Reply(error=ErrorBody(temporary=True)))
    return box.is_round_over


def next_round(box: PendingPublishes) -> None:
    box._deadlines.pop("resend", None)
    box.next_round()


def rejected(box: PendingPublishes) -> list[str]:
    keys = [one.key for one in box._outputs if isinstance(one, Rejected)]
    box._outputs.clear()
    return keys


def test_bounds() -> None:
    box = pending("1", "2", "3")
    assert not add(box, "4", "")
    box.answered("p-1", Reply())
    assert not add(box, "4", "x" * 95)
    assert add(box, "4", "x" * 94)
    assert (len(box), box.size_bytes) == (3, 100)


def test_go_back_n() -> None:
    box = pending("1", "2", "3")
    assert sent(box) == ["1", "2"]
    box.next_round()  # without effect: nothing was refused
    assert not refuse_for_now(box, "p-1")
    assert sent(box) == []
    assert refuse_for_now(box, "p-2")
    assert not refuse_for_now(box, "unknown") or box.is_round_over
    next_round(box)
    assert (sent(box), box.round) == (["1", "2"], 1)
    box.lost()
    assert (sent(box), box.round) == (["1", "2"], 0)


def test_what_is_too_old_leaves_in_order() -> None:
    box = pending("1", "2", "3")
    assert box._deadlines["publish"] == 10
    box._context.now = 11
    box.expire()
    assert rejected(box) == ["p-1", "p-2"]
    box._context.now = 100
    box.expire()
    assert rejected(box) == ["p-3"]
    assert "publish" not in box._deadlines


def test_removing_what_is_not_there() -> None:
    box = pending("1")
    box.answered("p-9", Reply())
    assert box._outputs == []
    box.give_up("closed")
    assert rejected(box) == ["p-1"]
    assert (len(box), box.size_bytes) == (0, 0)


def test_the_largest_on_the_way() -> None:
    box = pending("1", "long")
    box.reject_largest("too large")
    assert rejected(box) == []
    sent(box)
    box.reject_largest("too large")
    assert rejected(box) == ["p-2"]


# -- requests ------------------------------------------------------------------------------------------------


def test_nobody_waits_for_the_answer_any_more() -> None:
    machine = Machine(Options(), prefix="k", draw=lambda: 0.5, now=0, wall=0)
    machine.traffic.requests.cancel(machine.request("presence", {}, 0))
    machine.handle_deadline(1000, 1000)
    assert not [one for one in machine.outputs if isinstance(one, Failed)]


def test_a_request_that_cannot_be_json_is_refused_where_it_is_asked() -> None:
    machine = Machine(Options(), prefix="k", draw=lambda: 0.5, now=0, wall=0)
    with pytest.raises(TypeError):
        machine.request("rpc", {"data": object()}, 0)
    assert machine.next_deadline() is None


# -- channels ------------------------------------------------------------------------------------------------


def test_recovered_from_another_epoch_takes_its_name() -> None:
    state = ChannelState("a", Position("", 3))
    assert state.subscribed("e", 9, was_recovering=True, recovered=True, asked=state.position) is None
    assert state.position == Position("e", 3)


def test_news_stop_before_a_hole() -> None:
    state = ChannelState("a", Position("e", 3))
    state.subscribed("e", 3, was_recovering=True, recovered=True, asked=state.position)
    assert [
        pub.offset for pub in state.news([Pub(offset=3), Pub(offset=4), Pub(offset=6), Pub(offset=7)])
    ] == [4]
    assert not state.is_live


@pytest.mark.parametrize(("offset", "is_gap"), [(3, False), (5, False), (6, True)])
def test_another_connection_has_gone_on_since_it_was_asked(offset: int, *, is_gap: bool) -> None:
    state = ChannelState("a", Position("e", 5))
    gap = state.subscribed("e", offset, was_recovering=True, recovered=False, asked=Position("e", 3))
    assert (gap is not None) == is_gap


def test_a_server_that_lost_the_end_of_its_stream_is_believed() -> None:
    state = ChannelState("a", Position("e", 5))
    gap = state.subscribed("e", 2, was_recovering=True, recovered=False, asked=Position("e", 5))
    assert gap == (Position("e", 5), Position("e", 2))


# -- notes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("note", "text"),
    [
        (Note("moved_up", "sse", "", "websocket"), "moved up from sse to websocket"),
        (Note("stepped_down", "sse", "cut", "poll"), "sse: cut; trying poll"),
        (Note("not_yet", "sse", "HTTP 502"), "sse does not work yet: HTTP 502"),
        (
            Note("polls_cut", "longpoll", "asking for 9.0 s"),
            "long polls are cut in between: asking for 9.0 s",
        ),
    ],
)
def test_a_note_says_its_fields_in_words(note: Note, text: str) -> None:
    assert str(note) == text
