"""Options: durations, and values that are refused."""

from collections.abc import Sequence
from typing import Any, get_type_hints

import pytest

from heartwire import ConfigError, Hub
from heartwire.hub.options import HubArguments, HubOptions, NamespaceArguments, NamespaceOptions, duration_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("24h", 86400),
        ("1h30m", 5400),
        ("300s", 300),
        ("500ms", 0.5),
        ("7d", 604800),
        ("1.5h", 5400),
        ("0s", 0),
        ("1m1ms", 60.001),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "h", "-1h", "1y", "1h ", "1 h", "1.h", "1h30", "inf"])
def test_text_that_is_not_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        duration_s(text)


def test_marks_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="channel_user_separator"):
        HubOptions(channel_user_separator="")
    with pytest.raises(ConfigError, match="channel_regex"):
        NamespaceOptions(channel_regex="(")


@pytest.mark.parametrize("name", ["a:b", "x" * 255])
def test_a_name_that_no_namespace_can_have_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError) as failure:
        HubOptions(namespaces={name: NamespaceOptions()})
    assert (failure.value.setting, failure.value.value) == ("namespaces", name)
    assert "before the first ':'" in failure.value.fix


# -- keyword arguments: the fields of the options, so that an editor completes them --------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "more"),
    [
        (HubArguments, HubOptions, {}),
        (NamespaceArguments, NamespaceOptions, {"history_ttl": str, "ttl": str}),
    ],
)
def test_arguments_are_the_fields_of_the_options(
    arguments: Any, options: type, more: dict[str, type]
) -> None:
    wider = {  # a call may give any sequence, and namespaces as plain dicts
        tuple[str, ...]: Sequence[str],
        dict[str, NamespaceOptions]: dict[str, NamespaceOptions | dict[str, Any]],
    }
    fields = get_type_hints(options, include_extras=True)
    expected = {name: wider.get(kind, kind) for name, kind in fields.items()} | more
    assert get_type_hints(arguments, include_extras=True) == expected
    assert not arguments.__required_keys__


def by_cookie(request: object) -> str:
    return "ann"


async def test_pages_of_any_site_and_an_authenticator_that_may_read_cookies_do_not_start() -> None:
    """Nothing was said, and every page could act as its visitor."""
    hub = Hub(allowed_origins=["*"])
    hub.authenticate(by_cookie)
    with pytest.raises(ConfigError, match="authenticator_ignores_cookies=True"):
        await hub.start()
    with pytest.raises(ConfigError):
        async with hub.lifespan():
            pass


@pytest.mark.parametrize(
    "options",
    [
        {"allowed_origins": ["*"], "authenticator_ignores_cookies": True},
        {"allowed_origins": ["https://app.example"]},
    ],
)
async def test_an_authenticator_starts_with_listed_origins_or_without_cookies(options: HubArguments) -> None:
    hub = Hub(**options)
    hub.authenticate(by_cookie)
    await hub.start()
    await hub.stop()


async def test_tokens_are_fine_with_pages_of_any_site() -> None:
    hub = Hub(allowed_origins=["*"], token_hmac_secret_key="x" * 32)
    await hub.start()
    await hub.stop()


async def test_an_asgi_server_is_told_why_the_hub_does_not_start() -> None:
    hub = Hub(allowed_origins=["*"])
    hub.authenticate(by_cookie)
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(event: Any) -> None:
        sent.append(event)

    await hub.asgi()({"type": "lifespan"}, receive, send)
    (failed,) = sent
    assert failed["type"] == "lifespan.startup.failed"
    assert "allowed_origins" in failed["message"]
