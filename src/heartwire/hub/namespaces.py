"""Permissions: the options of namespaces, the names of channels, the application's functions."""

import re
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, get_args

from heartwire.channels import namespace_of, to_channel
from heartwire.engines.contract import Retention
from heartwire.errors import Forbidden, Refused, UnknownChannel
from heartwire.hub.identity import Identity, asked
from heartwire.hub.options import HubOptions, NamespaceOptions
from heartwire.types import Action, Channel

__all__ = ["ACTIONS", "Namespaces", "Permission"]

ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
_VERBS: Final = {
    "subscribe": "subscribe to",
    "publish": "publish to",
    "presence": "see who is in",
    "history": "read back",
}

Permission = Callable[[Identity, Action, Channel], Awaitable[bool] | bool]
"""Whether an identity may do an action in a channel; only ``True`` allows it. May raise
`heartwire.Forbidden`."""


class _Rule(NamedTuple):
    """The rules of one namespace. ``free``: actions that every client may do there."""

    options: NamespaceOptions
    permission: Permission | None
    free: frozenset[Action]
    retention: Retention


class Namespaces:
    """The namespaces of a hub, and the permissions in them.

    Attributes:
        knows_users: whether clients say who they are (by token, or to the application); else names limit
            nothing.
        asks_to_publish: whether the application looks at everything that clients publish (`Hub.on_publish`).
    """

    asks_to_publish = False

    def __init__(self, options: HubOptions) -> None:
        self._allow_unknown = options.allow_unknown_namespaces
        self._is_insecure = options.insecure
        self._asks_tokens = options.has_tokens
        self._private, self._boundary = options.channel_private_prefix, options.channel_user_boundary
        self._separator = options.channel_user_separator
        self._personal = (
            options.user_personal_channel_namespace if options.user_subscribe_to_personal else None
        )
        self.knows_users = options.has_tokens
        self._rules: dict[str, _Rule] = {}
        for name, given in ({"": NamespaceOptions()} | options.namespaces).items():
            self.configure(name, given, None)
        self._has_named = bool(self._rules.keys() - {""})

    def configure(self, name: str, options: NamespaceOptions, permission: Permission | None) -> None:
        """Set a namespace's options and its permission function."""
        free = frozenset(
            action for action in ACTIONS if permission is None and self._is_free(options, action)
        )
        self._rules[name] = _Rule(options, permission, free, options.retention())
        self._has_named = bool(self._rules.keys() - {""})

    def of(self, channel: Channel) -> NamespaceOptions:
        """The options of a channel. Raises `UnknownChannel`."""
        return self._rule(channel).options

    def retention(self, channel: Channel) -> Retention:
        """How much of a channel the engine keeps; the default where its namespace is no longer configured."""
        return self._rules.get(self._name(channel), self._rules[""]).retention

    def is_durable(self, channel: Channel) -> bool:
        """Whether a channel is a durable stream."""
        return self._rules.get(self._name(channel), self._rules[""]).options.durable

    def personal(self, user: str) -> Channel | None:
        """The personal channel of a user; ``None`` where there is none."""
        if self._personal is None or not user or not self._boundary:
            return None
        if self._boundary in user or self._separator in user:
            return None  # its name would let other users in
        try:
            channel = to_channel(
                f"{self._personal}:{self._boundary}{user}" if self._personal else self._boundary + user
            )
            self.of(channel)
        except Refused:
            return None
        return channel

    def asks(self, channel: Channel, action: Action) -> bool:
        """Whether `authorize` has to be called; else the action is allowed. Raises `UnknownChannel`."""
        return self._asks(self._rule(channel), channel, action)

    def free_retention(self, channel: Channel) -> Retention | None:
        """How much the engine keeps of a channel that every client may publish to; ``None``: `authorize` has
        to be called, or it is a durable stream. Raises `UnknownChannel`."""
        rule = self._rule(channel)
        return None if rule.options.durable or self._asks(rule, channel, "publish") else rule.retention

    def asks_application(self, channel: Channel) -> bool:
        """Whether `authorize` calls a function of the application. Raises `UnknownChannel`."""
        return self._rule(channel).permission is not None

    def tells_members(self, channel: Channel) -> bool:
        """Whether joins and leaves are reported in a channel."""
        return self._rules.get(self._name(channel), self._rules[""]).options.join_leave

    async def authorize(
        self,
        identity: Identity,
        action: Action,
        channel: Channel,
        *,
        is_subscriber: bool = False,
        has_token: bool = False,
    ) -> None:
        """Check that a client may do an action.

        Args:
            is_subscriber: the client follows the channel, by permission.
            has_token: it has shown a subscription token for it that was found good.
        Raises:
            UnknownChannel, Forbidden, or Refused: ``bad_channel``, or ``not_available`` where presence is
            off.

        In this order: what is switched off is off for everybody; ``insecure`` and a subscription token allow
        the rest; then the channel's name, the options ``allow_...`` and the application's function all have
        to allow it.
        """
        rule = self._rule(channel)
        self._check_features(rule.options, action, channel)
        if self._is_insecure or has_token:
            return
        is_limited = self.knows_users and self._is_limited(channel)
        follows = is_subscriber and action != "subscribe"
        if is_limited and not follows and not self._is_let_in(identity, channel, rule.options):
            raise Forbidden(self._limit(identity, channel))
        is_granted = self._is_granted(
            rule.options, action, is_named=bool(identity.user), is_subscriber=is_subscriber or is_limited
        )
        if not is_granted and not (is_limited and action == "subscribe"):
            raise Forbidden(
                f"{_who(identity)} may not {_VERBS[action]} {channel!r} (allow_{action}_for_... in its"
                " namespace)"
            )
        if (
            rule.permission is not None
            and await asked(rule.permission, identity, action, channel) is not True
        ):
            raise Forbidden(f"{_who(identity)} may not {_VERBS[action]} {channel!r}")

    # -- inside ----------------------------------------------------------------------------------------------

    def _name(self, channel: Channel) -> str:
        """A channel's namespace; the prefix of private channels does not belong to it."""
        return namespace_of(channel.removeprefix(self._private) if self._private else channel)

    def _rule(self, channel: Channel) -> _Rule:
        name = self._name(channel) if ":" in channel else ""  # every publish comes by here
        rule = self._rules.get(name)
        if rule is None:
            if not (self._allow_unknown or (self._allow_unknown is None and not self._has_named)):
                raise UnknownChannel(channel, name)
            return self._rules[""]
        return rule

    def _asks(self, rule: _Rule, channel: Channel, action: Action) -> bool:
        if self.asks_to_publish and action == "publish":
            return True
        return (
            action not in rule.free
            or bool(rule.options.channel_regex)
            or (self.knows_users and self._is_limited(channel))
        )

    def _is_free(self, options: NamespaceOptions, action: Action) -> bool:
        is_off = (action == "publish" and not options.publish) or (
            action == "presence" and not options.presence
        )
        return not is_off and (
            self._is_insecure or self._is_granted(options, action, is_named=False, is_subscriber=False)
        )

    def _is_granted(
        self, options: NamespaceOptions, action: Action, *, is_named: bool, is_subscriber: bool
    ) -> bool:
        """Whether the options ``allow_...`` permit an action."""
        is_open = not self._asks_tokens
        for_anonymous = getattr(options, f"allow_{action}_for_anonymous")
        if not is_named and not (is_open if for_anonymous is None else for_anonymous):
            return False
        for_client = getattr(options, f"allow_{action}_for_client")
        for_subscriber = getattr(options, f"allow_{action}_for_subscriber", None)
        if for_client is None and for_subscriber is None:
            return is_open
        return bool(for_client or (for_subscriber and is_subscriber))

    def _is_limited(self, channel: Channel) -> bool:
        return bool(self._boundary and self._boundary in channel) or self._is_private(channel)

    def _is_private(self, channel: Channel) -> bool:
        return self._asks_tokens and bool(self._private) and channel.startswith(self._private)

    def _check_features(self, options: NamespaceOptions, action: Action, channel: Channel) -> None:
        if action == "publish" and not options.publish:
            raise Forbidden(f"clients may not publish to {channel!r} (publish = false in its namespace)")
        if action == "presence" and not options.presence:
            raise Refused(
                "not_available", f"presence is off in {channel!r} (presence = false in its namespace)"
            )
        if options.channel_regex and not re.search(
            options.channel_regex, channel.partition(":")[2] or channel
        ):
            raise Refused(
                "bad_channel", f"channel {channel!r} does not match {options.channel_regex!r} (channel_regex)"
            )

    def _is_let_in(self, identity: Identity, channel: Channel, options: NamespaceOptions) -> bool:
        """Whether the name of a limited channel lists this user. That of a private channel lists nobody."""
        users = channel.rpartition(self._boundary)[2].split(self._separator)
        is_listed = options.allow_user_limited_channels and bool(identity.user) and identity.user in users
        return is_listed and not self._is_private(channel)

    def _limit(self, identity: Identity, channel: Channel) -> str:
        if self._is_private(channel):
            return f"channel {channel!r} is for those who have a subscription token (channel_private_prefix)"
        return f"channel {channel!r} is not for {_who(identity)} (channel_user_boundary)"


def _who(identity: Identity) -> str:
    return f"user {identity.user!r}" if identity.user else "an anonymous client"
