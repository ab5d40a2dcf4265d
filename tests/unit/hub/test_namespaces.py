"""Permissions: options, names of channels, token keys and the application's functions, as tables."""

import asyncio
from typing import Any

import pytest

from heartwire import Channel, Forbidden, Hub, Identity, Refused, UnknownChannel
from heartwire.hub.identity import ANONYMOUS
from heartwire.hub.namespaces import ACTIONS, Namespaces
from heartwire.hub.options import HubOptions, NamespaceOptions
from heartwire.types import Action

ANN, BOB = Identity("ann"), Identity("bob")
KEY: dict[str, Any] = {"token_hmac_secret_key": "x" * 32}


def namespaces(
    *, knows_users: bool = False, options: dict[str, Any] | None = None, **namespace: Any
) -> Namespaces:
    """Those of a hub where namespace "n" has some options; ``knows_users``: the application has an
    authenticator."""
    made = Namespaces(HubOptions(namespaces={"n": NamespaceOptions(**namespace)}, **(options or {})))
    made.knows_users |= knows_users
    return made


def may(told: Namespaces, who: Identity, action: Action, channel: str = "n:1", **how: Any) -> bool:
    """Ask `authorize`, and see that `asks` agrees where it says that nobody need ask."""

    async def ask() -> bool:
        try:
            await told.authorize(who, action, Channel(channel), **how)
        except Refused:
            return False
        return True

    answer = asyncio.run(ask())
    assert answer or told.asks(Channel(channel), action)
    return answer


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("options", "knows_users", "allowed"),
    [
        ({}, False, {"ann", "anonymous"}),  # nothing is configured: open, as on a developer's desk
        ({}, True, {"ann", "anonymous"}),  # the application says who may come in
        (KEY, False, set()),  # with token keys, what is not allowed is not allowed
        (KEY | {"insecure": True}, False, {"ann", "anonymous"}),
    ],
)
def test_defaults_of_permissions(
    action: Action, options: dict[str, Any], knows_users: bool, allowed: set[str]
) -> None:
    told = namespaces(knows_users=knows_users, options=options)
    assert {
        name for name, who in (("ann", ANN), ("anonymous", ANONYMOUS)) if may(told, who, action)
    } == allowed


@pytest.mark.parametrize("action", ["publish", "presence", "history"])
@pytest.mark.parametrize(
    ("options", "client", "subscriber", "anonymous", "anonymous_subscriber"),
    [
        ({}, False, False, False, False),
        ({"client": True}, True, True, False, False),
        ({"subscriber": True}, False, True, False, False),
        ({"client": True, "subscriber": False}, True, True, False, False),
        ({"client": False}, False, False, False, False),
        ({"anonymous": True}, False, False, False, False),
        ({"client": True, "anonymous": True}, True, True, True, True),
        ({"subscriber": True, "anonymous": True}, False, True, False, True),
    ],
)
def test_permissions_with_token_keys(
    action: Action,
    options: dict[str, bool],
    client: bool,
    subscriber: bool,
    anonymous: bool,
    anonymous_subscriber: bool,
) -> None:
    told = namespaces(options=KEY, **{f"allow_{action}_for_{who}": value for who, value in options.items()})
    assert may(told, ANN, action) is client
    assert may(told, ANN, action, is_subscriber=True) is subscriber
    assert may(told, ANONYMOUS, action) is anonymous
    assert may(told, ANONYMOUS, action, is_subscriber=True) is anonymous_subscriber


@pytest.mark.parametrize(
    ("options", "client", "anonymous"),
    [
        ({}, False, False),
        ({"allow_subscribe_for_client": True}, True, False),
        ({"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}, True, True),
        ({"allow_subscribe_for_anonymous": True}, False, False),
    ],
)
def test_subscribe_permissions_with_token_keys(
    options: dict[str, bool], client: bool, anonymous: bool
) -> None:
    told = namespaces(options=KEY, **options)
    assert may(told, ANN, "subscribe") is client
    assert may(told, ANONYMOUS, "subscribe") is anonymous
    assert may(told, ANONYMOUS, "subscribe", has_token=True)


def test_one_option_of_an_action_closes_the_others_also_on_an_open_hub() -> None:
    told = namespaces(allow_publish_for_subscriber=True)
    assert not may(told, ANONYMOUS, "publish")
    assert may(told, ANONYMOUS, "publish", is_subscriber=True)
    assert may(told, ANONYMOUS, "subscribe")


def test_anonymous_clients_can_be_kept_out_of_an_open_hub() -> None:
    told = namespaces(knows_users=True, allow_publish_for_anonymous=False)
    assert may(told, ANN, "publish")
    assert not may(told, ANONYMOUS, "publish")


@pytest.mark.parametrize("how", [{}, {"is_subscriber": True}, {"has_token": True}])
@pytest.mark.parametrize("options", [{}, KEY, {"insecure": True}])
def test_an_action_that_is_off_is_off_for_all(how: dict[str, Any], options: dict[str, Any]) -> None:
    told = namespaces(
        options=options,
        publish=False,
        presence=False,
        allow_publish_for_client=True,
        allow_presence_for_client=True,
    )
    assert not may(told, ANN, "publish", **how)
    with pytest.raises(Refused) as refusal:
        asyncio.run(told.authorize(ANN, "presence", Channel("n:1"), **how))
    assert refusal.value.code.name == "not_available"


# -- names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channel", "allowed"),
    [
        ("#ann", {"ann"}),
        ("#bob", {"bob"}),
        ("n:#ann", {"ann"}),
        ("n:dialog#ann,bob", {"ann", "bob"}),
        ("n:dialog#ann,bobby", {"ann"}),
        ("n:#annie", set()),
        ("n:#", set()),
        ("n:#,", set()),
        ("n:#ann#bob", {"bob"}),
        ("$n:1", set()),
        ("$n:#ann", set()),
        ("$1", set()),
    ],
)
@pytest.mark.parametrize("action", ACTIONS)
def test_names_limit_channels_where_users_are_known(channel: str, allowed: set[str], action: Action) -> None:
    everything = NamespaceOptions(
        allow_subscribe_for_client=True,
        allow_subscribe_for_anonymous=True,
        allow_publish_for_client=True,
        allow_presence_for_client=True,
        allow_history_for_client=True,
    )
    told = Namespaces(HubOptions(namespaces={"": everything, "n": everything}, **KEY))
    people = {"ann": ANN, "bob": BOB, "": ANONYMOUS}
    assert {name for name, who in people.items() if may(told, who, action, channel)} == allowed
    assert may(told, ANN, action, channel, has_token=True)
    if action != "subscribe":
        assert may(told, ANN, action, channel, is_subscriber=True)


def test_a_user_limited_channel_still_needs_the_options_for_what_its_users_do() -> None:
    told = namespaces(options=KEY, allow_publish_for_subscriber=True)
    assert may(told, ANN, "subscribe", "n:#ann")
    assert may(told, ANN, "publish", "n:#ann")
    assert not may(told, BOB, "publish", "n:#ann")
    assert not may(told, ANN, "history", "n:#ann")


def test_user_limited_channels_can_be_switched_off() -> None:
    told = namespaces(options=KEY, allow_user_limited_channels=False, allow_subscribe_for_client=True)
    assert not may(told, ANN, "subscribe", "n:#ann")
    assert may(told, ANN, "subscribe", "n:#ann", has_token=True)


def test_names_limit_nothing_where_nobody_has_a_name() -> None:
    told = namespaces()
    for channel in ("n:#ann", "#general", "$n:1"):
        assert may(told, ANONYMOUS, "subscribe", channel)
        assert not told.asks(Channel(channel), "publish")


def test_private_channels_need_token_keys_and_user_limited_ones_users() -> None:
    told = namespaces(knows_users=True)
    assert may(told, ANN, "subscribe", "$n:1")
    assert not may(told, ANN, "subscribe", "n:#bob")


def test_the_marks_can_be_changed_and_switched_off() -> None:
    options = KEY | {
        "channel_private_prefix": "",
        "channel_user_boundary": "@",
        "channel_user_separator": "+",
    }
    told = namespaces(options=options, allow_subscribe_for_client=True)
    assert may(told, ANN, "subscribe", "n:#bob")
    assert not may(told, ANN, "subscribe", "n:x@bob")
    assert may(told, ANN, "subscribe", "n:x@bob+ann")
    unmarked = namespaces(options=KEY | {"channel_user_boundary": ""}, allow_subscribe_for_client=True)
    assert may(unmarked, ANN, "subscribe", "n:#bob")


@pytest.mark.parametrize(
    ("options", "user", "channel"),
    [
        ({}, "42", None),
        ({"user_subscribe_to_personal": True}, "42", "#42"),
        ({"user_subscribe_to_personal": True}, "", None),
        ({"user_subscribe_to_personal": True, "user_personal_channel_namespace": "n"}, "42", "n:#42"),
        ({"user_subscribe_to_personal": True, "channel_user_boundary": ""}, "42", None),
        ({"user_subscribe_to_personal": True}, "a,b", None),  # a and b would be let in
        ({"user_subscribe_to_personal": True}, "a#b", None),  # b would be let in
        ({"user_subscribe_to_personal": True}, "x" * 255, None),
    ],
)
def test_personal_channels(options: dict[str, Any], user: str, channel: str | None) -> None:
    told = namespaces(options=KEY | options)
    assert told.personal(user) == channel
    if channel is not None:
        assert may(told, Identity(user), "subscribe", channel)
        assert not may(told, Identity("43"), "subscribe", channel)


def test_the_rest_of_a_name_can_have_to_match() -> None:
    told = namespaces(channel_regex=r"^\d+$")
    assert may(told, ANN, "subscribe", "n:1")
    assert not may(told, ANN, "subscribe", "n:x")
    assert not may(told, ANN, "subscribe", "n:1x", has_token=True)


def test_namespaces_of_private_channels_and_unknown_ones() -> None:
    told = namespaces(history_size=7, options=KEY)
    assert told.of(Channel("$n:1")).history_size == told.retention(Channel("$n:1")).history_size == 7
    with pytest.raises(UnknownChannel):
        told.of(Channel("m:1"))


# -- the application's functions -----------------------------------------------------------------------------


def test_the_permission_function_runs_after_the_options_and_only_true_allows() -> None:
    hub = Hub()
    asked: list[Action] = []

    @hub.authenticate
    def who(request: object) -> str:
        return "ann"

    @hub.namespace("n", allow_history_for_subscriber=True)
    def may_they(identity: Identity, action: Action, channel: Channel) -> Any:
        asked.append(action)
        return {"subscribe": True, "publish": 1}.get(action)

    assert may(hub.node.namespaces, ANN, "subscribe")
    assert not may(hub.node.namespaces, ANN, "publish")
    assert not may(hub.node.namespaces, ANN, "presence")
    assert not may(hub.node.namespaces, ANN, "history")
    assert asked == ["subscribe", "publish", "presence"]
    assert may(hub.node.namespaces, ANN, "subscribe", has_token=True)
    assert not may(hub.node.namespaces, ANN, "subscribe", "n:#bob")


def test_the_function_of_the_unnamed_namespace_holds_for_channels_of_no_other() -> None:
    hub = Hub()

    @hub.namespace("")
    def nobody(identity: Identity, action: Action, channel: Channel) -> bool:
        return False

    assert not may(hub.node.namespaces, ANN, "subscribe", "x")
    assert not may(hub.node.namespaces, ANN, "subscribe", "x:1")


def test_a_refusal_names_user_action_and_channel() -> None:
    with pytest.raises(Forbidden, match=r"user 'ann' may not publish to 'n:1' \(allow_publish_for_\.\.\."):
        asyncio.run(namespaces(options=KEY).authorize(ANN, "publish", Channel("n:1")))
    with pytest.raises(Forbidden, match="an anonymous client"):
        asyncio.run(namespaces(options=KEY).authorize(ANONYMOUS, "publish", Channel("n:1")))
