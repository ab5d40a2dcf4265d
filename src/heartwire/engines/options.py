"""The options of a store's URL, for engines on a store of several nodes."""

from typing import Annotated, Literal, TypeVar
from urllib.parse import parse_qsl, urlsplit

import msgspec

from heartwire.errors import ConfigError

__all__ = ["SharedOptions", "options_from", "without_password"]

_Seconds = Annotated[float, msgspec.Meta(gt=0)]


class SharedOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a store's URL that all stores have.

    Attributes:
        patience_s: how long calls wait for a store that is away.
        check_s: how often the heads of quiet channels are asked for.
        on_failover: "renew": a store that another server has taken over gives its streams new epochs, since
            answered appends may be lost; "trust": the operator knows that none is.
        node_lease_s: members of a node that was cut off or killed are gone after it.
        connect_timeout_s, answer_timeout_s: of the store; an answer that is late ends the connection.
    """

    patience_s: _Seconds = 5
    check_s: _Seconds = 10
    on_failover: Literal["renew", "trust"] = "renew"
    node_lease_s: _Seconds = 20
    connect_timeout_s: _Seconds = 2
    answer_timeout_s: _Seconds = 5


OptionsT = TypeVar("OptionsT", bound=SharedOptions)


def options_from(url: str, kind: type[OptionsT]) -> OptionsT:
    """The options in a URL's query. Raises `ConfigError`, which lists them."""
    given = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(f"{one.name} ({one.default})" for one in msgspec.structs.fields(kind))
        fix = f"{error}; options after the ? are, with their defaults: {known}"
        raise ConfigError("engine", without_password(url), fix) from None


def without_password(url: str) -> str:
    """A URL as it may be logged."""
    parts = urlsplit(url)
    user, at, place = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    return parts._replace(netloc=f"{name}{colon}***{at}{place}").geturl() if colon else url
