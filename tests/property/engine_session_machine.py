"""Interleavings of everything that may happen to an Engine.IO session: polls, posts, aborts, probes, upgrades,
pings, closes from either side, timers. What a client gets is what was sent, in order, each once."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.strategies import data, integers, sampled_from

from heartwire.dialects.socketio import waiting as waiting_module
from heartwire.dialects.socketio.engine_io import SEPARATOR, EngineSettings, Parcel
from heartwire.dialects.socketio.engine_session import EngineSession
from heartwire.dialects.socketio.engine_states import CLOSED, CLOSING, TRANSITIONS, WEBSOCKET, State

__all__ = ["EngineSessionMachine"]


class Timer:
    def __init__(self, work: Callable[[], None]) -> None:
        self.work: Callable[[], None] | None = work

    def cancel(self) -> None:
        self.work = None


class Services:
    """Timers and turns that the test fires."""

    settings = EngineSettings()

    def __init__(self) -> None:
        self.timers: list[Timer] = []
        self.turns: list[Callable[[], None]] = []
        self.ends = 0

    def later(self, seconds: float, work: Callable[[], None]) -> Timer:
        timer = Timer(work)
        self.timers.append(timer)
        return timer

    def soon(self, work: Callable[[], None]) -> None:
        self.turns.append(work)

    def waiter(self) -> Any:
        raise AssertionError("nobody waits here")

    def beats(self, sid: str, *, is_answered: bool) -> None:
        pass

    def ended(self, sid: str) -> None:
        self.ends += 1


class Above:
    """The layer above."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.reasons: list[str] = []

    def message(self, is_text: bool, data: bytes) -> Awaitable[None] | None:
        assert not self.reasons, "a message came after the end"
        self.got.append(data)
        return None

    def closed(self, reason: str) -> None:
        self.reasons.append(reason)


class Poll:
    def __init__(self, client: "Client") -> None:
        self.client = client
        self.answers: list[tuple[int, bytes]] = []
        self.is_gone = False

    def answer(self, status: int, body: bytes) -> None:
        assert not self.answers, "a poll was answered twice"
        assert not self.is_gone, "a poll was answered that had been broken off"
        self.answers.append((status, body))
        if status == 200:
            for part in body.split(SEPARATOR):
                self.client.take(part)


class Socket:
    paused = takes = False

    def __init__(self, client: "Client") -> None:
        self.client = client
        self.is_closed = False

    def send(self, parcel: Parcel) -> None:
        if not self.is_closed:
            for _, data in parcel.messages:
                self.client.take(data)

    def look(self) -> None:
        raise AssertionError("it is never full")

    def close(self, reason: str) -> None:
        self.is_closed = True

    async def drained(self) -> None:
        raise AssertionError("it is never full")


class Client:
    """What a client has got."""

    def __init__(self) -> None:
        self.got: list[int] = []

    def take(self, packet: bytes) -> None:
        if packet[:1] == b"4":
            self.got.append(int(packet[1:]))


def done(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


class EngineSessionMachine(RuleBasedStateMachine):
    session_class: type[EngineSession] = EngineSession

    @initialize(packets=sampled_from([0, 2]))
    def begin(self, packets: int) -> None:
        self.services = Services()
        self.above = Above()
        self.client = Client()
        self.session = self.session_class("sid", self.services)
        self.session.handler = self.above
        self.polls: list[Poll] = []
        self.sockets: list[Socket] = []
        self.sent = self.said = 0
        self.heard: list[bytes] = []
        self.state = self.session.state
        self.lost_answers = False
        self.session.max_packets = packets
        first = self.session.open_polling()
        assert first[:1] == b"0"

    def held(self) -> list[Poll]:
        return [poll for poll in self.polls if not poll.answers and not poll.is_gone]

    # -- what happens ----------------------------------------------------------------------------------------

    @rule(count=integers(1, 3))
    def send(self, count: int) -> None:
        for _ in range(count):
            self.sent += 1
            self.session.send(Parcel([(True, b"4%d" % self.sent)]))

    @rule()
    def turn(self) -> None:
        turns, self.services.turns = self.services.turns, []
        for work in turns:
            work()

    @precondition(lambda self: self.services.timers)
    @rule(choice=data())
    def time(self, choice: Any) -> None:
        timer = choice.draw(sampled_from(self.services.timers))
        self.services.timers.remove(timer)
        if timer.work is not None:
            timer.work()

    @rule()
    def poll(self) -> None:
        poll = Poll(self.client)
        self.polls.append(poll)
        self.session.poll(poll)

    @precondition(lambda self: self.held())
    @rule()
    def abort(self) -> None:
        poll = self.held()[0]
        poll.is_gone = True
        self.session.poll_lost(poll)

    @rule(word=sampled_from([b"4", b"3", b"1", b"x", b"2"]))
    def post(self, word: bytes) -> None:
        if not self.session.begin_post():
            return
        was = self.session.state
        body = self._word(word)
        status, _ = done(self.session.post(body))
        self.session.end_post()
        if status == 200 and word == b"4" and was not in (CLOSED, CLOSING):
            self.heard.append(body[1:])

    @rule()
    def second_post(self) -> None:
        if self.session.begin_post():
            assert not self.session.begin_post()
            self.session.end_post()
            assert self.session.is_over or self.session.state is CLOSED

    @rule()
    def probe(self) -> None:
        socket = Socket(self.client)
        if self.session.probe(socket):
            self.sockets.append(socket)

    @rule(sends=sampled_from([False, True]), finishes=sampled_from([False, True]))
    def upgrade(self, sends: bool, finishes: bool) -> None:
        """What most upgrades are; the rules above and below mix it with all else."""
        socket = Socket(self.client)
        if not self.session.probe(socket):
            return
        self.sockets.append(socket)
        self.session.socket_message(socket, True, b"2probe")
        if sends:
            self.send(1)
        if finishes:
            self.session.socket_message(socket, True, b"5")

    @precondition(lambda self: any(not one.is_closed for one in self.sockets))
    @rule(choice=data(), word=sampled_from([b"2probe", b"2probe", b"5", b"5", b"4", b"3", b"1", b"x"]))
    def socket_message(self, choice: Any, word: bytes) -> None:
        socket = choice.draw(sampled_from([one for one in self.sockets if not one.is_closed]))
        message = self._word(word)
        is_transport = self.session.socket is socket and self.session.state is WEBSOCKET
        self.session.socket_message(socket, True, message)
        if is_transport and word == b"4":
            self.heard.append(message[1:])

    @precondition(lambda self: any(not one.is_closed for one in self.sockets))
    @rule(choice=data())
    def socket_lost(self, choice: Any) -> None:
        socket = choice.draw(sampled_from([one for one in self.sockets if not one.is_closed]))
        socket.is_closed = True
        self.session.socket_lost(socket)

    @rule()
    def ping(self) -> None:
        if not self.session.closed:
            self.session.ping()

    @rule()
    def give_up(self) -> None:
        if not self.session.closed:
            self.session.give_up()

    @rule()
    def close(self) -> None:
        self.session.close("forced close")

    def _word(self, word: bytes) -> bytes:
        if word != b"4":
            return word
        self.said += 1
        return b"4m%d" % self.said

    # -- what holds ------------------------------------------------------------------------------------------

    @invariant()
    def gets_a_prefix_of_what_was_sent(self) -> None:
        got = self.client.got
        assert got == list(range(1, len(got) + 1)), f"{got} of {self.sent}"

    @invariant()
    def what_a_client_says_is_heard_once_and_in_order(self) -> None:
        assert self.above.got == self.heard

    @invariant()
    def the_end_is_told_once(self) -> None:
        assert len(self.above.reasons) == (1 if self.session.is_over else 0)
        assert self.services.ends == (1 if self.session.state is CLOSED else 0)

    @invariant()
    def one_poll_is_held_at_most(self) -> None:
        held = self.held()
        assert len(held) <= 1
        assert not held or self.session._poll is held[0]
        assert not held or not self.session.is_over

    @invariant()
    def moves_along_the_table(self) -> None:
        was, now = self.state, self.session.state
        self.state = now
        reached = {was}
        for _ in range(3):  # some rules are several events
            reached |= {to for (state, _), to in TRANSITIONS.items() if state in reached}
        assert now in reached

    @invariant()
    def is_bounded(self) -> None:
        assert self.session._waiting.size <= waiting_module.MAX_WAITING_BYTES

    def teardown(self) -> None:
        """Whoever is there to the end gets all."""
        session = self.session
        if session.is_over:
            return
        self.turn()
        while session.state is not WEBSOCKET and not self.held():
            self.poll()
            self.turn()
        if not session.is_over:
            assert len(self.client.got) == self.sent, "something was not sent"


_: type[State] = State
