"""What a client sends and receives over whatever connection there is: subscriptions, publishes, requests.
Part of the machine.

It outlives connections: `online` gives it a new one and `lost` takes it away; whatever is still wanted is
sent again on the next.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, Literal

from heartwire.client import outputs as out
from heartwire.client.channel_state import ChannelState
from heartwire.client.connection import Asked, Connection
from heartwire.client.context import Context
from heartwire.client.pending_publishes import PendingPublishes
from heartwire.client.requests import Request, Requests
from heartwire.client.states import LOCAL
from heartwire.client.wire import MAX_FRAME, ErrorBody, Pub, Push, Reply, SubscribeResult, retry_after_s
from heartwire.types import Position

__all__ = ["Traffic"]

_FULL_PAGE: Final = 300
"""Most publications in one answer of the server; as many mean that there may be more."""


class Traffic:
    """The traffic of one client."""

    def __init__(self, context: Context, *, prefix: str) -> None:
        self.connection: Connection | None = None
        self.is_broken = False  # the connection left out something that only a new one can bring
        self.channels: dict[str, ChannelState] = {}
        self.publishes = PendingPublishes(context, prefix=prefix)
        self.requests = Requests(context)
        self._context = context
        self._options, self._outputs, self._deadlines = context.options, context.outputs, context.deadlines
        self._ids = 0

    def next_id(self) -> int:
        """Return an id for a command; never the same twice."""
        self._ids += 1
        return self._ids

    # -- connections -----------------------------------------------------------------------------------------

    def online(self, connection: Connection, server_side: dict[str, SubscribeResult]) -> None:
        """Take a new connection, whose first frame asked for some channels: send everything else."""
        self.connection = connection
        self.is_broken = False
        self.place_server_side(server_side)
        for state in list(self.channels.values()):
            if state.is_server_side and state.channel not in server_side:
                state.is_server_side = False
                if not state.is_wanted:
                    self._end(state, LOCAL, "the server does not subscribe us any more")
        for channel, asked in list(connection.asked.items()):
            now = self.channels.get(channel)
            if now is None or (not now.is_server_side and asked.is_outdated(now)):
                self._unsubscribe(channel)
        self._resubscribe()
        for id, request in self.requests.items():
            self._put(id, request)
        self.publishes.online()
        self.pump()

    def place_server_side(self, subs: dict[str, SubscribeResult]) -> None:
        """Take subscriptions that the server has made."""
        for channel, result in subs.items():
            self._made_by_server(channel, result)

    def lost(self) -> None:
        """Note that the connection is gone, and what was in flight with it."""
        self.connection = None
        self.publishes.lost()
        self._deadlines.pop("resubscribe", None)
        for state in self.channels.values():
            state.lost()
        self.requests.lost()

    def close(self, reason: str) -> None:
        """Give up what is pending: there will be no other connection."""
        self.lost()
        self.publishes.give_up(reason)
        self.requests.give_up(reason)

    def flush(self) -> None:
        """Send what waits: on a socket all of it, else one request at a time."""
        connection = self.connection
        while connection is not None and (frame := connection.take_frame()):
            self._outputs.append(out.Send(connection.generation, frame))
            if connection.transport != "websocket":  # commands go in requests, one after the other
                connection.is_sending = True
                self._deadlines["sending"] = self._context.now + self._options.pong_timeout_s

    def _ask(self, method: str, body: object, of: Any = None) -> None:
        assert self.connection is not None
        self.connection.queue.append(self.connection.command(self.next_id(), method, body, of))

    # -- channels --------------------------------------------------------------------------------------------

    def follow(self, channel: str, since: Position | Literal["earliest"] | None, token: str) -> None:
        """Follow a channel. A subscription that the server has made goes on as it is."""
        known = self.channels.get(channel)
        if known is not None and known.is_server_side:
            known.is_wanted = True
            if known.is_live:
                self._report_subscribed(known, recovered=False)
            self.resume(channel)
            return
        self.unfollow(channel)
        self.channels[channel] = ChannelState(channel, since, token)
        self.resubscribe()

    def unfollow(self, channel: str) -> None:
        """Stop following a channel."""
        if self.channels.pop(channel, None) is not None:
            self._unsubscribe(channel)
            self.flush()

    def pause(self, channel: str) -> None:
        """Pause a channel, whose reader is too slow: the server keeps what comes until `resume`."""
        state = self.channels.get(channel)
        if state is not None and not state.is_paused:
            state.is_paused = True
            state.lost()
            self._unsubscribe(channel)
            self.flush()

    def resume(self, channel: str) -> None:
        """Go on where a channel was paused."""
        state = self.channels.get(channel)
        if state is not None and state.is_paused:
            state.is_paused = False
            if self.connection is not None and self.connection.is_pull:
                self._deadlines["poll"] = self._context.now
            elif self.connection is not None:
                state.is_server_side = False  # the server's was ended by the pause: from now on it is ours
            self.resubscribe()

    def subscribe_commands(self, connection: Connection, *, anew: bool) -> list[str]:
        """Return commands that subscribe channels from their positions; without ``anew`` only new ones."""
        if anew:
            connection.asked = {}
        commands = []
        for state in self._unasked(connection, anew=anew):
            id = self.next_id()
            connection.asked[state.channel] = Asked(id, state, state.position)
            commands.append(connection.command(id, "subscribe", state.subscribe_body(), state.channel))
        return commands

    def _unasked(self, connection: Connection, *, anew: bool) -> list[ChannelState]:
        return [
            state
            for state in self.channels.values()
            if not (state.is_paused or state.is_server_side or state.not_before > self._context.now)
            and (anew or not (state.is_live or state.channel in connection.asked))
        ]

    def server_side_positions(self) -> dict[str, Any]:
        """Return the positions of server-side subscriptions, for `connect`."""
        return {
            state.channel: state.subscribe_body()
            for state in self.channels.values()
            if state.is_server_side and state.position
        }

    @property
    def has_server_side(self) -> bool:
        """Whether there are server-side subscriptions."""
        return any(state.is_server_side for state in self.channels.values())

    def resubscribe(self) -> None:
        """Subscribe the channels that are wanted and not live. Those refused for now wait their time."""
        self._resubscribe()
        self.flush()

    def _resubscribe(self) -> None:
        self._deadlines.pop("resubscribe", None)
        connection = self.connection
        if connection is None:
            return
        for state in self.channels.values():
            if state.not_before > self._context.now:
                self._resubscribe_at(state.not_before)
        if not connection.is_pull:
            connection.queue += self.subscribe_commands(connection, anew=False)
        elif self._unasked(connection, anew=False):
            self._deadlines["poll"] = self._context.now

    @property
    def is_settled(self) -> bool:
        """Whether the server has answered for every channel, with its position or with a refusal for now."""
        return all(
            state.is_live or state.is_paused or state.is_server_side or state.not_before > self._context.now
            for state in self.channels.values()
        )

    def _unsubscribe(self, channel: str) -> None:
        connection = self.connection
        if connection is not None:
            connection.asked.pop(channel, None)
            if not connection.is_pull:
                self._ask("unsubscribe", {"channel": channel}, channel)

    def _subscribed(self, connection: Connection, id: int, channel: str, reply: Reply) -> None:
        asked = connection.asked.get(channel)
        if asked is None or asked.id != id:
            return
        del connection.asked[channel]
        state = self.channels.get(channel)
        if state is not asked.state or state.is_paused or state.is_server_side:
            return
        if reply.error is not None:
            self._refused(state, reply.error)
        elif reply.subscribe is not None:
            self._placed(state, reply.subscribe, asked.position)

    def _placed(self, state: ChannelState, result: SubscribeResult, asked: Position | None) -> None:
        was_live = state.is_live
        gap = state.subscribed(
            result.epoch,
            result.offset,
            was_recovering=result.was_recovering,
            recovered=result.recovered,
            asked=asked,
            first=result.publications[0].offset if result.publications else 0,
        )
        if gap is not None:
            self._outputs.append(out.Gap(state.channel, *gap[0], *gap[1]))
        if gap is not None or not was_live:
            self._report_subscribed(state, recovered=result.recovered)
        self._deliver(state, result.publications)
        if state.is_live:
            state.refusals = 0

    def _report_subscribed(self, state: ChannelState, *, recovered: bool) -> None:
        epoch, offset = state.position or ("", 0)
        self._outputs.append(out.Subscribed(state.channel, epoch, offset, recovered))

    def _refused(self, state: ChannelState, error: ErrorBody) -> None:
        state.lost()
        if not error.temporary:
            self._end(state, error.code, error.message)
            return
        options = self._options
        limit_s = min(options.backoff_cap_s, options.backoff_base_s * 2.0 ** min(state.refusals, 60))
        state.refusals += 1
        delay_s = max(self._context.draw() * limit_s, retry_after_s(error.message))
        state.not_before = self._context.now + delay_s
        self._resubscribe_at(state.not_before)

    def _resubscribe_at(self, when: float) -> None:
        self._deadlines["resubscribe"] = min(when, self._deadlines.get("resubscribe", when))

    def _end(self, state: ChannelState, code: int, reason: str) -> None:
        del self.channels[state.channel]
        self._outputs.append(out.Unsubscribed(state.channel, code, reason))
        self._has_news()

    def _deliver(self, state: ChannelState, pubs: Sequence[Pub]) -> None:
        connection = self.connection
        for pub in state.news(pubs):
            self._has_news()
            self._outputs.append(state.delivered(pub))
        if connection is not None:
            connection.had_full_page = connection.had_full_page or len(pubs) >= _FULL_PAGE
            if state.is_live or connection.is_pull:
                return
            if state.is_server_side:
                self.is_broken = True
            else:  # with a wait: a server that repeats the same answer must not be asked in a busy loop
                self._unsubscribe(state.channel)
                self._refused(state, ErrorBody(temporary=True))
                self.flush()

    def _has_news(self) -> None:
        if self.connection is not None:
            self.connection.had_news = True

    def _made_by_server(self, channel: str, result: SubscribeResult) -> None:
        state = self.channels.get(channel)
        if state is None:
            state = self.channels[channel] = ChannelState(channel, None)
            state.is_wanted = False
        state.is_server_side = True
        if state.is_paused:
            self._unsubscribe(channel)
        else:
            self._placed(state, result, state.position)

    # -- publishing ------------------------------------------------------------------------------------------

    def publish(self, channel: str, data: str, encoding: str, idempotency_key: str = "") -> str:
        """Add a publish, or reject it at once. Return its key."""
        key = self.publishes.add(channel, data, encoding, idempotency_key)
        self.pump()
        return key

    def pump(self) -> None:
        """Send what may be sent.

        The server handles the requests of a polling client independently, so rounds do not span them:
        publishes that could be refused together go in one request, and the next one waits for its answer.
        """
        connection = self.connection
        if connection is None:
            return
        max_bytes: float = math.inf
        if connection.is_pull:
            self.flush()
            max_bytes = MAX_FRAME
        if not (connection.is_pull and connection.is_sending):
            for item in self.publishes.to_send(max_bytes):
                self._ask("publish", item.body(self.publishes.round), item.key)
        self.flush()

    def resend(self) -> None:
        """Send again what the server refused for now."""
        self.publishes.next_round()
        self.pump()

    def request(self, method: str, body: dict[str, Any]) -> int:
        """Return the id of a request, sent now or once online. ``TypeError``: ``body`` cannot be JSON."""
        id = self.next_id()
        request = self.requests.add(id, method, body)
        if request is not None and self.connection is not None:
            self._put(id, request)
            self.flush()
        return id

    def _put(self, id: int, request: Request) -> None:
        request.is_sent = True
        self._ask(request.method, request.body, id)

    # -- input from the server -------------------------------------------------------------------------------

    def reply(self, connection: Connection, id: int, method: str, of: Any, reply: Reply) -> None:
        """Take the answer to a command that was sent on this connection."""
        if method == "subscribe":
            self._subscribed(connection, id, of, reply)
        elif method == "publish":
            self.publishes.answered(of, reply)
        elif method in ("rpc", "presence", "presence_stats", "history"):
            self.requests.answered(of, method, reply)

    def push(self, push: Push) -> None:
        """Take a push, other than a disconnect or a refresh."""
        state = self.channels.get(push.channel)
        if push.pub is not None:
            if state is not None and state.is_live:
                self._deliver(state, (push.pub,))
        elif push.subscribe is not None:
            self._made_by_server(push.channel, push.subscribe)
        elif push.message is not None:
            self._outputs.append(out.Message(bytes(push.message.data).decode()))
        elif push.unsubscribe is not None and state is not None:
            state.lost()
            code, reason = push.unsubscribe.code, push.unsubscribe.reason
            if code < 2500 or state.is_server_side:  # for good (Centrifugal protocol, unsubscribe codes)
                self._end(state, code, reason)
            else:
                self._refused(state, ErrorBody(code, reason, temporary=True))
