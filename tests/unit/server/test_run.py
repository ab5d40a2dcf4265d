"""The set-up of `heartwire serve`."""

from typing import Any

import pytest

from heartwire import Hub
from heartwire.server import run
from heartwire.server.config import Settings


def test_uvicorn_gets_the_limits_and_intervals_of_the_settings() -> None:
    settings = Settings(ping_interval_s=7, pong_timeout_s=3, max_message_bytes=1000)
    config = run.uvicorn_config(settings, Hub())
    assert (config.ws_ping_interval, config.ws_ping_timeout) == (7, 3)
    assert config.ws_max_size > 1000, "the limit that names its option comes first"
    assert config.server_header is False
    assert config.access_log is False


@pytest.mark.parametrize(
    ("host", "more", "url"),
    [
        ("127.0.0.1", {}, "http://127.0.0.1:8000"),
        ("::1", {}, "http://[::1]:8000"),
        ("0.0.0.0", {}, "http://localhost:8000"),
        ("::", {}, "http://localhost:8000"),
        ("127.0.0.1", {"tls_cert": "c", "tls_key": "k"}, "https://127.0.0.1:8000"),
        ("127.0.0.1", {"uds": "/run/h.sock"}, "unix:/run/h.sock"),
    ],
)
def test_the_address_that_is_shown_can_be_opened(host: str, more: dict[str, str], url: str) -> None:
    class Listener:
        def getsockname(self) -> tuple[Any, ...]:
            return (host, 8000, 0, 0) if ":" in host else (host, 8000)

    listener: Any = Listener()
    assert run.url_of(Settings(host=host, **more), listener) == url  # type: ignore[arg-type]
