"""Names of channels, their namespaces, and idempotency keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartwire.channels import check_idempotency_key, namespace_of, to_channel
from tests.unit.refusals import refusal


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "x" * 255,
        "é" * 127,
        "chat:42",
        "a:b:c",
        " ",
        "a/b",
        "💬",
        "%2C",
        "dialog#41,42",
        "\u2028",
        "a b",
        "'\"\\",
        "~",
        "-",
        "\u00a0",
    ],
)
def test_channel_name_is_taken_as_it_is(name: str) -> None:
    assert to_channel(name) == name


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "channel ''… has 0 bytes: a channel name has 1 to 255 bytes of UTF-8"),
        ("x" * 256, f"channel {'x' * 32!r}… has 256 bytes: a channel name has 1 to 255 bytes of UTF-8"),
        ("é" * 128, f"channel {'é' * 32!r}… has 256 bytes: a channel name has 1 to 255 bytes of UTF-8"),
        ("a\nb", "channel 'a\\nb' holds '\\n': no control characters"),
        ("\0", "channel '\\x00' holds '\\x00': no control characters"),
        ("a\x7f", "channel 'a\\x7f' holds '\\x7f': no control characters"),
        ("a\x85", "channel 'a\\x85' holds '\\x85': no control characters"),
        ("\ud800", "channel '\\ud800' is not UTF-8: percent-encode its UTF-8 bytes"),
    ],
)
def test_channel_name_out_of_bounds_is_refused(name: str, told: str) -> None:
    assert refusal(lambda: to_channel(name)) == ("bad_channel", told)


@given(st.text())
def test_channel_name_is_taken_or_refused(name: str) -> None:
    in_bounds = all(not char < " " and not "\x7f" <= char < "\xa0" for char in name)
    if in_bounds and 1 <= len(name.encode()) <= 255:
        assert to_channel(name) == name
    else:
        assert refusal(lambda: to_channel(name))[0] == "bad_channel"


@pytest.mark.parametrize(
    ("channel", "namespace"),
    [("chat:42", "chat"), ("chat:a:b", "chat"), ("lobby", ""), (":x", ""), ("a:", "a"), ("", "")],
)
def test_namespace_is_the_part_before_the_first_colon(channel: str, namespace: str) -> None:
    assert namespace_of(channel) == namespace


@pytest.mark.parametrize("key", ["k", "!~", "x" * 255, '"quoted"'])
def test_idempotency_key_is_taken_as_it_is(key: str) -> None:
    assert check_idempotency_key(key) == key


@pytest.mark.parametrize("key", ["", "a b", "é", "\t", "x" * 256, "a\n", "\x7f"])
def test_idempotency_key_out_of_bounds_is_refused(key: str) -> None:
    told = f"idempotency key {key[:64]!r}: 1 to 255 visible ASCII characters"
    assert refusal(lambda: check_idempotency_key(key)) == ("bad_idempotency_key", told)
