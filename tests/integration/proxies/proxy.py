"""nginx, Caddy and HAProxy with the configurations of docs/deploy.md, of which only ports and paths change."""

import contextlib
import os
import re
import shlex
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from typing import Final, NamedTuple

from tests.integration.certificates import self_signed
from tests.integration.wire import TIMEOUT_S
from tests.programs import program

SITE: Final = "app.example"
KINDS: Final = ("nginx", "caddy", "haproxy")
HAPROXY_HTTP: Final = "haproxy without TLS"
_PAGE: Final = Path(__file__).parents[3] / "docs" / "deploy.md"
_Setup = tuple[list[str], Path | None]
"""The command, and the file of the certificate."""

_SECTION: Final = _PAGE.read_text("utf-8").partition("## Behind a proxy\n")[2].partition("\n## ")[0]


def snippet(language: str) -> str:
    """The one block of the section *Behind a proxy* in that language."""
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", _SECTION, re.DOTALL | re.MULTILINE)
    return str(block)


def server_flags() -> list[str]:
    """The flags that the section gives `heartwire serve`."""
    program, command, *flags = shlex.split(snippet("sh"))
    assert (program, command) == ("heartwire", "serve")
    return flags


class Proxy(NamedTuple):
    """A running proxy; its ``url`` has the site's name. ``trusted``: the file of its certificate, None without TLS."""

    port: int
    trusted: Path | None

    @property
    def url(self) -> str:
        return f"http{'s' if self.trusted else ''}://{SITE}:{self.port}"

    def trust(self, *protocols: str) -> ssl.SSLContext:
        """A context that trusts it, and offers protocols for ALPN."""
        context = ssl.create_default_context(cafile=self.trusted)
        if protocols:
            context.set_alpn_protocols(protocols)
        return context

    def connection(self, source: str = "127.0.0.1") -> HTTPSConnection:
        """A connection for HTTP from an address of this machine, such as 127.0.0.2."""
        address = (source, 0)
        return HTTPSConnection(
            SITE, self.port, timeout=TIMEOUT_S, source_address=address, context=self.trust()
        )


def _replaced(text: str, by: dict[str, str]) -> str:
    """The text with each key of ``by``, which has to be there, replaced."""
    for old, new in by.items():
        assert old in text, f"docs/deploy.md has no {old!r} any more:\n{text}"
        text = text.replace(old, new)
    return text


def _nginx(folder: Path, port: int, server: str) -> _Setup:
    certificate, key = self_signed(folder, SITE)
    changes = {
        "listen 443 ": f"listen 127.0.0.1:{port} ",
        "127.0.0.1:8000": server,
        "/etc/ssl/app.example.crt": str(certificate),
        "/etc/ssl/app.example.key": str(key),
    }
    (folder / "site.conf").write_text(_replaced(snippet("nginx"), changes))
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""  # else its workers could not enter the folder
    (folder / "nginx.conf").write_text(
        f"{user}daemon off;\nworker_processes 1;\npid {folder}/pid;\nerror_log stderr;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}include {folder}/site.conf;\n}}\n"
    )
    command = [program("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    return command, certificate


def _caddy(folder: Path, port: int, server: str) -> _Setup:
    changes = {"app.example {": f"app.example:{port} {{\nbind 127.0.0.1", "127.0.0.1:8000": server}
    # A certificate of its own authority, since no other would certify this name.
    options = f"admin off\nlocal_certs\nskip_install_trust\nauto_https disable_redirects\nstorage file_system {folder}/storage\n"
    (folder / "Caddyfile").write_text(f"{{\n{options}}}\n{_replaced(snippet('caddy'), changes)}")
    command = [program("caddy"), "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
    return command, folder / "storage/pki/authorities/local/root.crt"


def _haproxy(folder: Path, port: int, server: str) -> _Setup:
    certificate, key = self_signed(folder, SITE)
    (folder / "both.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
    changes = {
        "bind :443 ": f"bind 127.0.0.1:{port} ",
        "127.0.0.1:8000": server,
        "/etc/haproxy/app.example.pem": str(folder / "both.pem"),
    }
    (folder / "haproxy.cfg").write_text(_replaced(snippet("haproxy"), changes))
    return [program("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")], certificate


def _haproxy_http(folder: Path, port: int, server: str) -> _Setup:
    """Where TLS ends before it, or nowhere."""
    bind = "bind :443 ssl crt /etc/haproxy/app.example.pem alpn h2,http/1.1"
    changes = {bind: f"bind 127.0.0.1:{port}", "127.0.0.1:8000": server}
    (folder / "haproxy.cfg").write_text(_replaced(snippet("haproxy"), changes))
    return [program("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")], None


_SETUPS: Final = {"nginx": _nginx, "caddy": _caddy, "haproxy": _haproxy, HAPROXY_HTTP: _haproxy_http}


@contextlib.contextmanager
def run_proxy(kind: str, server_port: int, folder: Path) -> Iterator[Proxy]:
    """Run it before the server of that port until the end of the block."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command, trusted = _SETUPS[kind](folder, port, f"127.0.0.1:{server_port}")
    homes = {name: str(folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | homes, stdout=log, stderr=log, cwd=folder)
    proxy = Proxy(port, trusted)
    try:
        _until_ready(process, proxy, folder / "log")
        yield proxy
    finally:
        process.terminate()
        try:
            process.wait(TIMEOUT_S)
        finally:
            process.kill()


def _until_ready(process: "subprocess.Popen[bytes]", proxy: Proxy, log: Path) -> None:
    """Wait until it accepts, with its certificate: it has no other sign."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=TIMEOUT_S) as sock:
                if proxy.trusted:
                    proxy.trust().wrap_socket(sock, server_hostname=SITE).close()
                return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the proxy did not start: {error}\n{log.read_text()}") from None
        time.sleep(0.02)
