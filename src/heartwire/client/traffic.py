"""What is said over whatever connection there is: channels followed, publishes pending, requests asked. Part
of the machine.

It outlives connections. `online` says that there is a new one, and `lost` that it is gone; then everything
that is still wanted is said again on the next.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from heartwire.client import outputs as out
from heartwire.client.channel_state import ChannelState
from heartwire.client.connection import Asked, Connection
from heartwire.client.options import Options
from heartwire.client.publishing import Publishing
from heartwire.client.requests import Request, Requests
from heartwire.client.states import LOCAL
from heartwire.client.wire import MAX_FRAME, ErrorBody, Pub, Push, Reply, SubscribeResult, retry_after_s
from heartwire.types import Position

__all__ = ["Traffic"]

_FULL_PAGE: Final = 300
"""Publications in one answer of the server's; as many mean that there may be more."""


class Traffic:
    """Args: the options, where outputs and deadlines go, the prefix of idempotency keys, and chance.

    Attributes: ``now`` is set by the machine before it calls; ``connection`` is the one in use; ``is_broken``
    says that it left something out which only a new one can bring; ``is_closed`` that there will be none any
    more.
    """

    def __init__(
        self,
        options: Options,
        outputs: list[out.Output],
        deadlines: dict[str, float],
        *,
        prefix: str,
        draw: Callable[[], float],
        now: float,
    ) -> None:
        self.now = now
        self.connection: Connection | None = None
        self.is_broken = self.is_closed = False
        self.channels: dict[str, ChannelState] = {}
        self.publishing = Publishing(options, outputs, deadlines, prefix=prefix, draw=draw)
        self.requests = Requests(options, outputs, deadlines)
        self._options = options
        self._outputs = outputs
        self._deadlines = deadlines
        self._draw = draw
        self._ids = 0

    def next_id(self) -> int:
        """An id for a command; never used twice."""
        self._ids += 1
        return self._ids

    # -- the connection comes and goes -----------------------------------------------------------------------

    def online(self, connection: Connection, server_side: dict[str, SubscribeResult]) -> None:
        """There is a connection, which was asked for some channels with its first words: say what else there
        is to say."""
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
        self.resubscribe()
        for id, request in self.requests.items():
            self._put(id, request)
        self.publishing.online(self.now)
        self.pump()

    def place_server_side(self, subs: dict[str, SubscribeResult]) -> None:
        """What the server has subscribed us to."""
        for channel, result in subs.items():
            self._made_by_server(channel, result)

    def lost(self) -> None:
        """The connection is gone. What was on the way is not any more."""
        self.connection = None
        self.publishing.lost()
        self._deadlines.pop("resubscribe", None)
        for state in self.channels.values():
            state.lost()
        self.requests.recall()

    def close(self, reason: str) -> None:
        """No connection will come any more: give up what is pending."""
        self.lost()
        self.publishing.give_up(reason)
        self.requests.give_up(reason)

    def flush(self) -> None:
        """Send what waits. On a socket all of it; else in a request, one at a time."""
        connection = self.connection
        while connection is not None and (frame := connection.take_frame()):
            self._outputs.append(out.Send(connection.generation, frame))
            if connection.is_posting:
                connection.is_sending = True
                self._deadlines["sending"] = self.now + self._options.pong_timeout_s

    def _ask(self, method: str, body: object, of: Any = None) -> None:
        assert self.connection is not None
        self.connection.queue.append(self.connection.command(self.next_id(), method, body, of))

    # -- channels --------------------------------------------------------------------------------------------

    def follow(self, channel: str, since: Position | Literal["earliest"] | None, token: str) -> None:
        """Begin to follow a channel. Where the server has made us follow it already, it goes on as it is."""
        known = self.channels.get(channel)
        if known is not None and known.is_server_side:
            known.is_wanted = True
            if known.is_live:
                self._tell_subscribed(known, recovered=False)
            self.resume(channel)
            return
        self.unfollow(channel)
        self.channels[channel] = ChannelState(channel, since, token)
        self.resubscribe()
        self.flush()

    def unfollow(self, channel: str) -> None:
        """Follow it no more."""
        if self.channels.pop(channel, None) is not None:
            self._unsubscribe(channel)
            self.flush()

    def pause(self, channel: str) -> None:
        """Its reader is too slow: let the server keep what comes, until `resume`."""
        state = self.channels.get(channel)
        if state is not None and not state.is_paused:
            state.is_paused = True
            state.lost()
            self._unsubscribe(channel)
            self.flush()

    def resume(self, channel: str) -> None:
        """Go on where it was paused."""
        state = self.channels.get(channel)
        if state is not None and state.is_paused:
            state.is_paused = False
            if self.connection is not None and self.connection.is_pull:
                self._deadlines["poll"] = self.now
            elif self.connection is not None:
                state.is_server_side = False  # that was ended when it was paused: from now on it is ours
            self.resubscribe()
            self.flush()

    def subscribe_commands(self, connection: Connection, *, anew: bool) -> list[str]:
        """Commands to follow what is followed, each from its position. Not ``anew``: only what is not
        followed there yet."""
        if anew:
            connection.asked = {}
        commands = []
        for state in self._unasked(connection, anew=anew):
            id = self.next_id()
            connection.asked[state.channel] = Asked(id, state, state.position)
            commands.append(connection.command(id, "subscribe", _subscribe(state), state.channel))
        return commands

    def _unasked(self, connection: Connection, *, anew: bool) -> list[ChannelState]:
        return [
            state
            for state in self.channels.values()
            if not (state.is_paused or state.is_server_side or state.not_before > self.now)
            and (anew or not (state.is_live or state.channel in connection.asked))
        ]

    def server_side_positions(self) -> dict[str, Any]:
        """For `connect`: where the channels stand that the server made us follow."""
        return {
            state.channel: _subscribe(state)
            for state in self.channels.values()
            if state.is_server_side and state.position
        }

    @property
    def has_server_side(self) -> bool:
        """Whether the server makes us follow anything."""
        return any(state.is_server_side for state in self.channels.values())

    def resubscribe(self) -> None:
        """Ask for what is wanted and not followed yet; for what was refused for now, not before its time."""
        self._deadlines.pop("resubscribe", None)
        connection = self.connection
        if connection is None:
            return
        for state in self.channels.values():
            if state.not_before > self.now:
                self._resubscribe_at(state.not_before)
        if not connection.is_pull:
            connection.queue += self.subscribe_commands(connection, anew=False)
        elif self._unasked(connection, anew=False):
            self._deadlines["poll"] = self.now

    @property
    def is_settled(self) -> bool:
        """Whether the server has said of every channel where it stands, or that it will not for now."""
        return all(
            state.is_live or state.is_paused or state.is_server_side or state.not_before > self.now
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
            self._tell_subscribed(state, recovered=result.recovered)
        self._deliver(state, result.publications)
        if state.is_live:
            state.refusals = 0

    def _tell_subscribed(self, state: ChannelState, *, recovered: bool) -> None:
        epoch, offset = state.position or ("", 0)
        self._outputs.append(out.Subscribed(state.channel, epoch, offset, recovered))

    def _refused(self, state: ChannelState, error: ErrorBody) -> None:
        state.lost()
        if not error.temporary:
            self._end(state, error.code, error.message)
            return
        limit_s = min(
            self._options.backoff_cap_s, self._options.backoff_base_s * 2.0 ** min(state.refusals, 60)
        )
        state.refusals += 1
        state.not_before = self.now + max(self._draw() * limit_s, retry_after_s(error.message))
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
            self._outputs.append(_delivered(state, pub))
        if connection is not None:
            connection.had_full_page = connection.had_full_page or len(pubs) >= _FULL_PAGE
            if state.is_live or connection.is_pull:
                return
            if state.is_server_side:
                self.is_broken = True
            else:  # should the server have nothing better to say, this must not go round and round
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
        """Take a publish, or refuse it at once; its key."""
        key = self.publishing.add(
            channel, data, encoding, idempotency_key, self.now, is_closed=self.is_closed
        )
        self.pump()
        return key

    def pump(self) -> None:
        """Send what may be sent.

        Requests of a client that polls know nothing of one another, nor of their rounds: publishes that could
        be refused together have to be in one, and none goes out before it has been answered.
        """
        connection = self.connection
        if connection is None:
            return
        max_bytes: float = math.inf
        if connection.is_pull:
            self.flush()
            max_bytes = MAX_FRAME
        if not (connection.is_pull and connection.is_sending):
            for key, body in self.publishing.to_send(max_bytes):
                self._ask("publish", body, key)
        self.flush()

    def resend(self) -> None:
        """What the server did not take for now may be sent again."""
        self.publishing.outbox.next_round()
        self.pump()

    # -- requests -------------------------------------------------------------------------------------------

    def request(self, method: str, body: dict[str, Any]) -> int:
        """Ask something, now or once there is a connection; its id. Raises ``TypeError`` where ``body``
        cannot be JSON."""
        id = self.next_id()
        request = self.requests.add(id, method, body, self.now, is_closed=self.is_closed)
        if request is not None and self.connection is not None:
            self._put(id, request)
            self.flush()
        return id

    def _put(self, id: int, request: Request) -> None:
        request.is_sent = True
        self._ask(request.method, request.body, id)

    # -- what the server says --------------------------------------------------------------------------------

    def reply(self, connection: Connection, id: int, method: str, of: Any, reply: Reply) -> None:
        """An answer to something that was asked on this connection."""
        if method == "subscribe":
            self._subscribed(connection, id, of, reply)
        elif method == "publish":
            self.publishing.answered(of, reply, self.now)
        elif method in ("rpc", "presence", "presence_stats", "history"):
            self.requests.answered(of, method, reply)

    def push(self, push: Push) -> None:
        """Something it says unasked; but for a disconnect."""
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
            if (
                push.unsubscribe.code < 2500 or state.is_server_side
            ):  # for good (Centrifugal protocol, unsubscribe codes)
                self._end(state, push.unsubscribe.code, push.unsubscribe.reason)
            else:
                self._refused(
                    state, ErrorBody(push.unsubscribe.code, push.unsubscribe.reason, temporary=True)
                )


def _subscribe(state: ChannelState) -> dict[str, Any]:
    body: dict[str, Any] = {"channel": state.channel}
    if state.token:
        body["token"] = state.token
    if state.position is not None or state.wants_earliest:
        epoch, offset = state.position or ("", 0)
        body |= {"recover": True, "epoch": epoch, "offset": offset, "from_oldest": True}
    return body


def _delivered(state: ChannelState, pub: Pub) -> out.Delivered:
    epoch = state.position.epoch if state.position is not None and pub.offset else ""
    user, client = (pub.info.user, pub.info.client) if pub.info is not None else ("", "")
    return out.Delivered(
        state.channel, epoch, pub.offset, bytes(pub.data).decode(), pub.tags.get("encoding", ""), user, client
    )
