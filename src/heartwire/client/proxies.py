"""The proxy of the environment for an address, as curl reads it."""

import contextlib
import ipaddress
import re
import urllib.request

from yarl import URL

from heartwire.errors import ConfigError

__all__ = ["proxy_for"]


def proxy_for(url: URL) -> URL | None:
    """Return the environment's proxy for a URL (``http_proxy``, ``https_proxy``, ``all_proxy``, ``no_proxy``,
    in either case); ``None`` for this machine itself. Raises `ConfigError`."""
    host = url.host or ""
    if host == "localhost" or host.endswith(".localhost"):
        return None
    found = urllib.request.getproxies()
    name = url.scheme if found.get(url.scheme) else "all"
    proxy = found.get(name)
    if not proxy or _is_exempt(host, url.port or 0, found.get("no", "")):
        return None
    return _checked(f"{name}_proxy", proxy)


def _is_exempt(host: str, port: int, exempt: str) -> bool:
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.is_loopback:
            return True
        for one in re.split(r"[\s,]+", exempt):
            with contextlib.suppress(ValueError):
                if address in ipaddress.ip_network(one.strip("[]"), strict=False):
                    return True
    return bool(urllib.request.proxy_bypass(f"{host}:{port}"))


def _checked(name: str, value: str) -> URL:
    wanted = "HOST:PORT, http://HOST:PORT or https://HOST:PORT; NO_PROXY names hosts to reach without it"
    try:
        proxy = URL(value if "://" in value else f"http://{value}")
        is_whole = bool(proxy.host) and bool(proxy.port)
    except ValueError:
        raise ConfigError(name, "…", wanted) from None  # there may be a password in it
    if not is_whole or proxy.scheme not in ("http", "https"):
        raise ConfigError(name, f"{proxy.scheme}://{proxy.host or ''}", wanted)
    return proxy
