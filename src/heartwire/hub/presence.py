"""Who is in which channel: leases in the engine, joins and leaves to those who asked for them."""

import math
from typing import Any

from heartwire.core.link import WireFormat
from heartwire.core.subscription import ChannelListener, Subscription
from heartwire.core.switchboard import Switchboard
from heartwire.engines.contract import Engine, Told, shared_engine
from heartwire.errors import Refused
from heartwire.hub.links import ServedLink
from heartwire.hub.namespaces import Namespaces
from heartwire.types import Channel, Member, Override, Start

__all__ = ["Presence"]


class Presence:
    """Follows channels for links, and keeps the presence of their members.

    ``lease_s``: a lease outlives a missed renewal; the members of a node that crashed are gone after it.
    """

    def __init__(
        self, engine: Engine, switchboard: Switchboard, namespaces: Namespaces, *, lease_s: float
    ) -> None:
        self.lease_s = lease_s
        self._engine = engine
        self._shared = shared_engine(engine)
        self._socket_lease_s = lease_s if self._shared is None else math.inf
        self._switchboard = switchboard
        self._namespaces = namespaces

    def follow(
        self,
        link: ServedLink,
        channel: Channel,
        format: WireFormat,
        start: Start,
        *,
        echo: bool = True,
        listener: ChannelListener | None = None,
    ) -> None:
        """Let a link follow a channel, and list its member there. Undone by `unfollow` or `unfollow_all`."""
        options = self._namespaces.of(channel)
        member = link.member if listener is None else listener.member
        override = None if listener is None else listener.override
        presence, join_leave = options.presence, options.join_leave
        if override is not None:
            presence = _chosen(override, "presence", presence)
            join_leave = _chosen(override, "join_leave", join_leave)
        if member is not None and presence:
            self._engine.lease(channel, member, self._socket_lease_s)
        subscription = self._switchboard.follow(link, channel, format, start, echo=echo, listener=listener)
        link.subscriptions.append(subscription)
        if listener is not None:
            listener.live(subscription)
        if member is not None and join_leave:
            self._announce(channel, "join", member)

    def unfollow(self, link: ServedLink, subscription: Subscription) -> None:
        """The link leaves one channel."""
        if subscription in link.subscriptions:
            link.subscriptions.remove(subscription)
        self._leave(subscription)

    def unfollow_all(self, link: ServedLink) -> None:
        """The link is gone: from its channels, and from their presence."""
        for subscription in link.subscriptions:
            self._leave(subscription)

    def hold(self, channel: Channel, member: Member, ttl_s: float | None = None) -> None:
        """List a member that has no link, such as the client of polls, for ``ttl_s`` (`lease_s`) seconds."""
        if self._namespaces.of(channel).presence:
            self._engine.lease(channel, member, self.lease_s if ttl_s is None else ttl_s)

    async def members(self, channel: Channel) -> list[Member]:
        """The members of a channel. Raises `Refused` (``not_available``) where presence is off."""
        if not self._namespaces.of(channel).presence:
            raise Refused(
                "not_available", f"presence is off in {channel!r} (presence = false in its namespace)"
            )
        return await self._engine.members(channel)

    def renew(self) -> None:
        """Renew the leases of this node's members. Called every third of `lease_s`."""
        if self._shared is not None:
            return
        for topic in list(self._switchboard.topics.values()):
            on = self._namespaces.of(topic.channel).presence
            for subscription in topic.subscriptions:
                if subscription.member is not None:
                    override = subscription.override
                    if _chosen(override, "presence", on):
                        self._engine.lease(topic.channel, subscription.member, self.lease_s)

    def _leave(self, subscription: Subscription) -> None:
        channel, member = subscription.topic.channel, subscription.member
        self._switchboard.leave(subscription)
        if member is not None:
            self._engine.release(channel, member.client)
            override = subscription.override
            if _chosen(override, "join_leave", self._namespaces.tells_members(channel)):
                self._announce(channel, "leave", member)

    def _announce(self, channel: Channel, told: Told, member: Member) -> None:
        """Report a join or leave to the channel's listeners, on every node."""
        if self._shared is None:
            self.heard(channel, told, member)
        else:
            self._shared.announce(channel, told, member)

    def heard(self, channel: Channel, told: Told, member: Member) -> None:
        """Report a join or leave to the channel's listeners on this node."""
        topic = self._switchboard.topics.get(channel)
        if topic is None:
            return
        made: dict[Any, Any] = {}
        for subscription in tuple(topic.subscriptions):
            if subscription.listener is not None:
                subscription.listener.hear(told, member, made)


def _chosen(override: Override | None, name: str, default: bool) -> bool:
    """An option of a channel, for a subscription that may have its own."""
    given: bool | None = None if override is None else getattr(override, name)
    return default if given is None else given
