"""Whatever happens to the client's machine, and in whatever order, it keeps its promises. A server that
answers at random."""

import json
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from heartwire.client import outputs as out
from heartwire.client.machine import Machine
from heartwire.client.options import Options
from heartwire.client.states import State
from heartwire.types import Position

_CHANNELS = st.sampled_from(["a", "b"])
_CODES = st.sampled_from([1006, 1006, 1009, 1012, 1013, 3005, 3008, 3013, 3500, 4500])
_BURST, _RATE = 3, 0.5


class Shell(RuleBasedStateMachine):
    """Carries out nothing, but holds the machine to what its outputs may be."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.wall = 0.0
        self.connections: dict[int, str] = {}  # those that are open or being opened: their transports
        self.polls: dict[int, list[dict[str, Any]]] = {}
        self.asked: dict[int, list[dict[str, Any]]] = {}
        self.generation = 0
        self.opened: list[float] = []
        self.tokens_asked = 0
        self.last_offset: dict[str, int] = {}
        self.head = {"a": 0, "b": 0}
        self.pending: set[str] = set()
        self.requests: set[int] = set()
        self.is_started = self.was_closed = False

    @initialize(
        has_tokens=st.booleans(),
        rungs=st.sampled_from([("websocket", "sse", "longpoll", "poll"), ("longpoll", "poll"), ("sse",)]),
        is_last=st.booleans(),
    )
    def make(self, has_tokens: bool, rungs: Any, is_last: bool) -> None:
        options = Options(
            transports=rungs,
            first_transport=rungs[-1] if is_last else None,
            attempt_burst=_BURST,
            attempt_rate_per_s=_RATE,
            max_pending_items=4,
            max_in_flight=2,
            max_pending_age_s=20,
            upgrade_after_s=2,
            poll_wait_s=5,
            poll_interval_s=3,
        )
        self.options = options
        self.machine = Machine(options, prefix="k", draw=lambda: 0.3, now=0, wall=0, has_tokens=has_tokens)
        self.machine.start(self.now)
        self.is_started = True
        self.take()

    def take(self) -> None:
        outputs = list(self.machine.outputs)
        self.machine.outputs.clear()
        assert not (
            self.was_closed and [one for one in outputs if not isinstance(one, out.Rejected | out.Failed)]
        )
        for one in outputs:
            self.see(one)
        attempts = set(self.connections) - {self.machine.current.generation if self.machine.current else 0}
        assert len(attempts) <= 1
        self.was_closed = self.machine.state is State.CLOSED

    def see(self, one: out.Output) -> None:
        match one:
            case out.Open():
                assert one.generation > self.generation
                self.generation = one.generation
                self.connections[one.generation] = one.transport
                self.asked[one.generation] = [json.loads(line) for line in one.frame.split("\n") if line]
                self.opened.append(self.now)
                self.see_bucket()
            case out.Send() | out.Poll():
                assert one.generation in self.connections
                commands = [json.loads(line) for line in one.frame.split("\n")]
                self.asked[one.generation] = self.asked[one.generation][-20:] + commands
                if isinstance(one, out.Poll):
                    assert self.connections[one.generation] in ("longpoll", "poll")
                    assert one.wait_s <= self.options.poll_wait_s
                    self.polls[one.generation] = commands
            case out.Close():
                self.connections.pop(one.generation, None)
            case out.AskToken():
                self.tokens_asked += 1
            case out.Subscribed():
                self.last_offset[one.channel] = one.offset
            case out.Gap():
                self.last_offset[one.channel] = one.after_offset
            case out.Delivered():
                assert one.offset == self.last_offset[one.channel] + 1
                self.last_offset[one.channel] = one.offset
            case out.Published() | out.Rejected():
                self.pending.discard(one.key)
            case out.Answered() | out.Failed():
                self.requests.discard(one.request)

    def see_bucket(self) -> None:
        for first in range(len(self.opened)):
            span = self.now - self.opened[first]
            assert len(self.opened) - first <= _BURST + span * _RATE + 1e-6

    # -- the application -------------------------------------------------------------------------------------

    @rule(channel=_CHANNELS, since=st.sampled_from([None, "earliest"]))
    def subscribe(self, channel: str, since: Any) -> None:
        if channel not in self.machine.traffic.channels:
            self.last_offset.pop(channel, None)
            self.machine.subscribe(channel, since, self.now)
            self.take()

    @rule(channel=_CHANNELS, what=st.sampled_from(["unsubscribe", "pause", "resume"]))
    def change(self, channel: str, what: str) -> None:
        getattr(self.machine, what)(channel, self.now)
        self.take()

    @rule(channel=_CHANNELS)
    def publish(self, channel: str) -> None:
        count = len(self.machine.outputs)
        key = self.machine.publish(channel, "1", "", self.now)
        assert count == 0
        self.pending.add(key)
        self.take()

    @rule(method=st.sampled_from(["rpc", "presence"]))
    def request(self, method: str) -> None:
        id = self.machine.request(method, {}, self.now)
        self.requests.add(id)
        self.take()

    @rule(is_given=st.booleans())
    def token(self, is_given: bool) -> None:
        if is_given:
            self.machine.token("t", self.now)
        else:
            self.machine.no_token("none", self.now)
        self.take()

    @rule(kind=st.sampled_from(["network_down", "network_up", "wake"]))
    def hint(self, kind: Any) -> None:
        self.machine.hint(kind, self.now)
        self.take()

    @rule(luck=st.integers(0, 30))
    def close(self, luck: int) -> None:
        if luck == 17:
            self.machine.close(self.now)
            self.take()

    # -- time ------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0]), slept=st.sampled_from([0.0, 0.0, 0.0, 500.0]))
    def wait(self, seconds: float, slept: float) -> None:
        until = self.now + seconds
        self.wall += slept
        calls = 0
        while (due := self.machine.next_deadline()) is not None and due <= until:
            calls += 1
            assert calls < 100, "it goes round in circles"
            self.wall += max(0.0, due - self.now)
            self.now = max(due, self.now)
            self.machine.handle_deadline(self.now, self.wall)
            self.take()
        self.wall += until - self.now
        self.now = until

    # -- the server ------------------------------------------------------------------------------------------

    def answer(self, command: dict[str, Any], mood: str) -> dict[str, Any]:
        method = next((key for key in command if key != "id"), "")
        id = command.get("id", 0)
        if mood == "busy" and method in ("subscribe", "publish"):
            return {
                "id": id,
                "error": {"code": 100, "message": "busy; retry_after_ms=700", "temporary": True},
            }
        if mood == "refuse" and method != "connect":
            return {"id": id, "error": {"code": 103, "message": "no"}}
        if method == "subscribe":
            body = command[method]
            after = body.get("offset", 0)
            can = mood != "gap" and body.get("recover", False) and after <= self.head[body["channel"]]
            start = after if can else self.head[body["channel"]]
            pubs = [{"offset": n, "data": n} for n in range(start + 1, self.head[body["channel"]] + 1)]
            told = {
                "epoch": "e",
                "offset": start,
                "recovered": can,
                "was_recovering": body.get("recover", False),
            }
            return {"id": id, "subscribe": {**told, "publications": pubs}}
        if method == "publish":
            return {"id": id, "publish": {"epoch": "e", "offset": 1}}
        if method == "connect":
            return {
                "id": id,
                "connect": {"client": "c", "ping": 3, "expires": True, "ttl": 4, "session": "s", "node": "n"},
            }
        return {"id": id, method: {"expires": True, "ttl": 4} if method == "refresh" else {}}

    @precondition(lambda self: self.connections)
    @rule(data=st.data(), mood=st.sampled_from(["well", "well", "well", "busy", "refuse", "gap"]))
    def replies(self, data: st.DataObject, mood: str) -> None:
        self.reply(data.draw(st.sampled_from(sorted(self.connections))), mood)

    @rule()
    def all_is_well(self) -> None:
        """Tokens are given, and servers answer: twice, so that what is asked at that is answered too."""
        if self.machine.state is State.CONNECTING and self.machine.attempt is None:
            self.token(True)
        for generation in [*self.connections, *self.connections]:
            if generation in self.connections:
                self.reply(generation, "well")

    @rule(seconds=st.sampled_from([0.5, 3.0]))
    def a_good_while(self, seconds: float) -> None:
        for _ in range(4):
            self.all_is_well()
            self.wait(seconds, 0.0)

    def reply(self, generation: int, mood: str) -> None:
        is_poll = generation in self.polls
        asked, self.asked[generation] = self.asked[generation], []
        self.polls.pop(generation, None)
        body = "\n".join(json.dumps(self.answer(one, mood)) for one in asked if one)
        self.machine.received(generation, body, self.now)
        self.take()
        self.machine.sent(generation, self.now)
        self.take()
        if is_poll and generation in self.connections and generation not in self.polls:
            self.machine.polled(generation, self.now)
            self.take()

    @rule(data=st.data(), channel=_CHANNELS, skipped=st.sampled_from([0, 0, 0, 1]))
    def push(self, data: st.DataObject, channel: str, skipped: int) -> None:
        self.head[channel] += 1 + skipped
        pub = {"push": {"channel": channel, "pub": {"offset": self.head[channel], "data": 1}}}
        self.machine.received(data.draw(st.integers(1, self.generation + 1)), json.dumps(pub), self.now)
        self.take()

    @rule(
        data=st.data(),
        code=_CODES,
        is_reachable=st.booleans(),
        was_poll=st.booleans(),
        after_s=st.sampled_from([0.0, 2.0]),
    )
    def lost(
        self, data: st.DataObject, code: int, is_reachable: bool, was_poll: bool, after_s: float
    ) -> None:
        generation = data.draw(st.integers(1, self.generation + 1))
        if code in (3500, 4500) and data.draw(st.integers(0, 10)) != 7:
            code = 1006
        self.machine.lost(
            generation, code, "gone", self.now, is_reachable=is_reachable, was_poll=was_poll, after_s=after_s
        )
        self.take()

    # -- what always holds -----------------------------------------------------------------------------------

    @invariant()
    def there_is_a_deadline_unless_it_is_closed(self) -> None:
        if self.is_started:
            assert (self.machine.next_deadline() is None) == (self.machine.state is State.CLOSED)

    @invariant()
    def something_is_under_way_or_has_its_time(self) -> None:
        """The tick aside: it only looks at clocks."""
        if not self.is_started:
            return
        deadlines = self.machine._deadlines
        match self.machine.state:
            case State.CLOSED:
                assert not deadlines
                assert not self.connections
            case State.WAITING | State.OFFLINE:
                assert "attempt" in deadlines
                assert not self.connections
            case State.CONNECTING:
                assert "open" in deadlines if self.machine.attempt else "token" in deadlines
            case State.ONLINE:
                assert self.machine.current
                assert "silence" in deadlines or "poll" in deadlines
                if self.machine.current.rung:
                    assert self.machine.attempt or "upgrade" in deadlines
        assert ("open" in deadlines) == (self.machine.attempt is not None)
        of_connection = {"probe", "silence", "sending", "poll", "refresh", "resend", "resubscribe", "upgrade"}
        assert self.machine.current is not None or not of_connection & set(deadlines)

    @invariant()
    def no_channel_is_forgotten(self) -> None:
        if self.is_started and self.machine.current is not None and not self.machine.current.is_pull:
            for following in self.machine.traffic.channels.values():
                is_asked = following.channel in self.machine.current.asked
                waits = following.not_before >= self.now and "resubscribe" in self.machine._deadlines
                assert following.is_paused or following.is_live or is_asked or waits

    @invariant()
    def nothing_grows_without_a_bound(self) -> None:
        if self.is_started:
            publishes = self.machine.traffic.publishes
            assert len(publishes) <= 4
            assert sum(item.is_in_flight for item in publishes._items.values()) <= 2
            assert self.pending == set(publishes._items)
            assert self.requests == set(self.machine.traffic.requests._waiting)
            assert len(self.requests) <= 4
            assert not publishes._items or "publish" in self.machine._deadlines
            assert not self.requests or "request" in self.machine._deadlines


TestInvariants = Shell.TestCase
TestInvariants.settings = settings(
    max_examples=60,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_positions_are_reported_as_they_were() -> None:
    machine = Machine(Options(), prefix="k", draw=lambda: 0.5, now=0, wall=0)
    machine.subscribe("a", Position("e", 3), 0)
    machine.start(0)
    assert '"epoch":"e","offset":3' in machine.outputs[1].frame  # type: ignore[union-attr]
