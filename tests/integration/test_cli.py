"""The command line, as somebody types it: what it says, what it refuses and how it ends."""

import asyncio
import http.client
import json
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

import heartwire
from heartwire.cli.serve import _called
from heartwire.testing import faulty_network
from heartwire.testing.server import COMMAND, ServerProcess, run_server
from tests.integration.certificates import self_signed
from tests.integration.wire import Raw, Stream, Task, get, present, publish, until, ws

pytestmark = pytest.mark.slow


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEARTWIRE_")}
    return kept | {"COLUMNS": "200", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1", **(extra or {})}


def run(
    *arguments: str,
    given: str | bytes = b"",
    extra: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """`heartwire …` to its end."""
    data = given.encode() if isinstance(given, str) else given
    done = subprocess.run(
        (*COMMAND, *arguments),
        input=data,
        capture_output=True,
        timeout=20,
        env=environment(extra),
        cwd=folder,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


class Following:
    """`heartwire sub …` in the background."""

    def __init__(self, *arguments: str, extra: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            (*COMMAND, "sub", *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(extra),
            text=True,
        )
        self.lines: list[str] = []
        self.notes: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.lines), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self.notes), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(pipe: IO[str], into: list[str]) -> None:
        for line in pipe:
            into.append(line.rstrip("\n"))  # noqa: PERF401 - each as it comes

    def end(self, within_s: float = 20) -> int:
        code = self.process.wait(within_s)
        for reader in self._readers:
            reader.join()
        return code


# -- help and version ----------------------------------------------------------------------------------------


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"heartwire {heartwire.__version__}\n")


def test_help_teaches() -> None:
    done = run("--help")
    assert done.returncode == 0
    for word in ("serve", "pub", "sub", "heartwire sub http://127.0.0.1:8000 chat"):
        assert word in done.stdout
    done = run("serve", "-h")
    for option in (
        "--port",
        "--engine",
        "--allow-anonymous",
        "--allowed-origin",
        "--max-message-bytes",
        "--log-format",
    ):
        assert option in done.stdout
    assert "HEARTWIRE_" in done.stdout
    assert "[8000]" in done.stdout


def test_banner_gives_addresses_to_try(server: ServerProcess) -> None:
    url = server.url
    assert re.search(
        rf"Heartwire is up at {re.escape(url)}   \(streams in test\.db; Ctrl-C ends\)", server.log
    )
    for line in (
        f"  demo page    {url}/",
        f"  publish      curl -d hello {url}/channels/chat",
        f"  read         curl '{url}/channels/chat?since=earliest'",
        f"  long poll    curl '{url}/channels/chat?wait=25'",
        f"  stream       curl -N -H 'Accept: text/event-stream' {url}/channels/chat",
        f"  browser      new WebSocket('{server.ws_url}/channels/chat')",
    ):
        assert f"{line}\n" in server.log
    assert re.search(rf"^  terminal     (python -m )?heartwire sub {url} chat$", server.log, re.MULTILINE)


@pytest.mark.parametrize(
    ("path", "program", "called"),
    [
        ("here", "/opt/app/bin/heartwire", "heartwire"),
        ("", ".venv/bin/heartwire", ".venv/bin/heartwire"),
        ("", "/opt/app/heartwire/__main__.py", "python -m heartwire"),
    ],
)
def test_banner_names_the_command_as_it_can_be_typed(
    path: str, program: str, called: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "heartwire").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / path))
    monkeypatch.setattr(sys, "argv", [program])
    assert _called() == called


HOW_URLS_ARE = "http://HOST:PORT or https://HOST:PORT, and the path where the hub is mounted"


# -- pub and sub ---------------------------------------------------------------------------------------------


def test_pub(server: ServerProcess, channel: str) -> None:
    url = server.url
    first = run("pub", url, channel, "hello").stdout.strip()
    assert first == get(url, f"/channels/{channel}").json["position"]
    assert run("pub", url, channel, given="from a pipe\n").returncode == 0
    assert run("pub", url, channel, "-", "--bytes", given=b"\x00\xff").returncode == 0
    done = run("pub", url, channel, "--lines", given="one\ntwo\r\n\nfour")
    assert len(done.stdout.split()) == 4
    keys = {run("pub", url, channel, "once", "--idempotency-key", "k").stdout for _ in range(2)}
    assert len(keys) == 1
    page = get(url, f"/channels/{channel}?since=earliest").json["publications"]
    assert [item["data"] for item in page] == [
        "hello",
        "from a pipe\n",
        "AP8=",
        "one",
        "two",
        "",
        "four",
        "once",
    ]


def test_pub_by_the_http_api() -> None:
    with run_server(environment={"HEARTWIRE_API_KEY": "the-key"}) as server:
        for words in ("hello", '{"a":1}', "- --bytes", "once --idempotency-key k"):
            done = run("pub", server.url, "a", *words.split(), "--api-key", "the-key", given=b"\x00\xff")
            assert (done.returncode, done.stderr) == (0, "")
        key = {"HEARTWIRE_API_KEY": "the-key"}
        assert run("pub", server.url, "a", "once", "--idempotency-key", "k", extra=key).stdout == done.stdout
        lines = run("pub", server.url, "a", "--lines", given="one\n2", extra=key).stdout.split()
        page = get(server.url, "/channels/a?since=earliest").json
        assert page["position"] == lines[-1]
        sent = [item["data"] for item in page["publications"]]
        assert sent == ["hello", {"a": 1}, "AP8=", "once", "one", 2]
        for arguments, message in (
            (("a", "x", "--api-key", "other"), "unauthorized"),
            (("a\tb", "x", "--api-key", "the-key"), "channel"),
            (("a", "x", "--api-key", "the\nkey"), "X-API-Key"),
        ):
            done = run("pub", server.url, *arguments)
            assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
            assert message in done.stderr
    for url in (server.url, "http://nobody.invalid"):
        done = run("pub", url, "a", "x", "--api-key", "the-key")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("URL", "a", b"\xff"),
        ("URL", b"\xff", "x"),
        (b"http://\xff", "a", "x"),
        ("URL", "a", "x", "--token", b"\xff"),
        ("URL", "a", "x", "--idempotency-key", b"\xff"),
        ("URL", "a", "x", "--api-key", b"\xff"),
        ("URL", "a", "-"),
        ("URL", "a", "--lines"),
    ],
    ids=ascii,
)
def test_pub_of_what_is_not_utf8_is_one_line(
    arguments: tuple[str | bytes, ...], server: ServerProcess
) -> None:
    # It was a traceback.
    given = tuple(os.fsdecode(server.url if one == "URL" else one) for one in arguments)
    done = run("pub", *given, given=b"\xff\n")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith("heartwire: ")


def test_pub_takes_bytes_as_an_argument(server: ServerProcess, channel: str) -> None:
    assert run("pub", server.url, channel, os.fsdecode(b"\xff"), "--bytes").returncode == 0
    assert get(server.url, f"/channels/{channel}?since=earliest").json["publications"][0]["data"] == "/w=="


def test_sub_escapes_control_characters_on_a_terminal(server: ServerProcess, channel: str) -> None:
    # Whoever publishes could write to the terminal of whoever reads: titles, colours, a cleared screen.
    publish(server.url, channel, "\x1b]0;title\x07 \x9b2J \u202etxt \r tab\tline\nfeed é")
    arguments = ("sub", server.url, channel, "--since", "earliest", "--count", "1")
    ours, theirs = os.openpty()
    with open(ours, "rb", buffering=0) as terminal:
        subprocess.run((*COMMAND, *arguments), stdout=theirs, env=environment(), timeout=20, check=True)
        os.close(theirs)
        shown = terminal.read(4096).decode()
    assert shown == "\\x1b]0;title\\x07 \\x9b2J \\u202etxt \\r tab\tline\r\nfeed é\r\n"
    assert "\x1b]0;title" in run(*arguments).stdout, "into a pipe it goes as it is"


@pytest.mark.parametrize("transport", ["auto", "websocket", "sse", "longpoll", "poll"])
def test_sub_shows_a_line_each(server: ServerProcess, channel: str, transport: str) -> None:
    for data in ("plain", '{"a": 1}', "grüß", b"bytes"):
        last = publish(server.url, channel, data)
    done = run("sub", server.url, channel, "--transport", transport, "--since", "earliest", "--count", "4")
    assert (done.returncode, done.stdout, done.stderr) == (0, 'plain\n{"a": 1}\ngrüß\nbytes\n', "")
    before = last.replace(".4", ".3")
    done = run(
        "sub", server.url, channel, "--transport", transport, "--since", before, "--count", "1", "--positions"
    )
    assert done.stdout == f"{last} bytes\n"


def test_sub_goes_on_across_a_restart(tmp_path: Path) -> None:
    """Over each transport: the server is killed in the middle, and every message is printed once, in
    order."""
    with run_server(engine="sqlite:///sub.db", folder=tmp_path) as server:
        options = ("--since", "earliest", "--count", "20")
        transports = ("auto", "websocket", "sse", "longpoll", "poll")
        readers = {name: Following(server.url, "a", "--transport", name, *options) for name in transports}
        for number in range(10):
            publish(server.url, "a", f"m{number}")
        until(lambda: all(len(following.lines) == 10 for following in readers.values()))
        server.restart()
        for number in range(10, 20):
            publish(server.url, "a", f"m{number}")
        for following in readers.values():
            assert following.end() == 0, following.notes
            assert following.lines == [f"m{number}" for number in range(20)]
        assert any("again in" in note for note in readers["websocket"].notes)
        assert "heartwire: connected over websocket" in readers["auto"].notes


def test_sub_reports_a_gap(tmp_path: Path) -> None:
    with run_server() as server:
        position = publish(server.url, "a", "x")
        done = run("sub", server.url, "a", "--since", "AAAAAAAA.9", "--count", "1")
        assert done.stdout == "x\n"
        assert (
            done.stderr
            == f"heartwire: some messages are no longer kept: going on after {position.replace('.1', '.0')}\n"
        )


def test_sub_reports_the_transports_it_tries(server: ServerProcess, channel: str) -> None:
    """A proxy that lets no WebSocket through, then holds event streams back, too: each is told, and nothing
    is lost."""
    with faulty_network(server.url) as network:
        network.strip_upgrade()
        following = Following(network.url, channel, "--transport", "auto")
        until(lambda: "heartwire: connected over sse" in following.notes)
        assert re.fullmatch(r"heartwire: websocket: HTTP \d+; trying sse", following.notes[0])
        publish(server.url, channel, "one")
        until(lambda: following.lines == ["one"])
        network.buffer_responses()
        network.reset()
        until(lambda: "heartwire: connected over longpoll" in following.notes)
        publish(server.url, channel, "two")
        until(lambda: following.lines == ["one", "two"])
        following.process.send_signal(signal.SIGINT)
        assert following.end() == 0
        assert [note for note in following.notes if "trying longpoll" in note]
        assert run("pub", network.url, channel, "three").stdout.endswith(".3\n")


def test_sub_ends_with_control_c(server: ServerProcess, channel: str) -> None:
    following = Following(server.url, channel)
    until(lambda: present(server.url, channel))
    following.process.send_signal(signal.SIGINT)
    assert following.end() == 0
    assert (following.lines, following.notes) == ([], [])


def test_clients_report_what_is_wrong(server: ServerProcess) -> None:
    done = run("pub", "127.0.0.1:8000", "a", "b")
    assert (done.returncode, done.stderr) == (1, f"heartwire: url = '127.0.0.1:8000': {HOW_URLS_ARE}\n")
    done = run("pub", "http://127.0.0.1:1", "a", "b", "--give-up-s", "0.5")
    assert done.returncode == 1
    assert re.search(r"heartwire: no connection: .*; again in \d\.\d s\n", done.stderr)
    assert done.stderr.endswith("heartwire: not answered within 0.5 s (max_pending_age_s)\n")
    done = run("pub", server.url, "a\tb", "c")
    message = "heartwire: channel 'a\\tb' holds '\\t': no control characters\n"
    assert (done.returncode, done.stderr) == (1, message)
    done = run("sub", server.url, "a\tb", "--transport", "sse")
    assert (done.returncode, done.stderr) == (1, message)
    done = run("sub", server.url, "a", "--transport", "pigeon")
    assert done.returncode == 2
    assert "'pigeon' is not one of" in done.stderr


# -- wrong options -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "variables", "file", "told"),
    [
        (["--port", "99999"], {}, None, "configuration: port = 99999: Expected `int` <= 65535"),
        (
            ["--host", "0.0.0.0"],
            {},
            None,
            "host = '0.0.0.0': others can reach this address, and nobody is asked who they are:"
            " add @hub.authenticate or a token key, or --allow-anonymous",
        ),
        (
            ["--engine", "mysql://x"],
            {},
            None,
            "engine = 'mysql://x': memory, sqlite:///FILE or sqlite:////ABSOLUTE/FILE, redis://HOST, postgresql://HOST/DATABASE",
        ),
        (["--ping-interval-s", "5"], {}, None, "pong_timeout_s = 10: less than ping_interval_s (5)"),
        (["--tls-cert", "x"], {}, None, "tls_cert = 'x': give tls_cert and tls_key together"),
        (
            ["nowhere:hub"],
            {},
            None,
            "MODULE:HUB = 'nowhere:hub': cannot be imported: No module named 'nowhere'",
        ),
        (["os:path"], {}, None, "MODULE:HUB = 'os:path': is a module, not a heartwire.Hub"),
        (
            ["--config", "nope.toml"],
            {},
            None,
            "config = 'nope.toml': cannot be read: No such file or directory",
        ),
        (
            ["--strict"],
            {"HEARTWIRE_PROT": "1"},
            None,
            "HEARTWIRE_PROT = 'prot': no such option; did you mean port?",
        ),
        ([], {"HEARTWIRE_PORT": "abc"}, None, "HEARTWIRE_PORT: port = 'abc': Expected `int`, got `str`"),
        (
            [],
            {"HEARTWIRE_CONFIG": "nope.toml"},
            None,
            "config = 'nope.toml': cannot be read: No such file or directory",
        ),
        ([], {}, "prot = 1", "h.toml = 'prot': no such option; did you mean port?"),
        ([], {}, 'port = "x"', "h.toml: port = 'x': Expected `int`, got `str`"),
        ([], {}, "port = ", "config = 'h.toml': is not TOML: Invalid value (at end of document)"),
        (
            [],
            {},
            "[namespaces.chat]\nhistroy_size = 1",
            "h.toml: namespaces.chat = 'histroy_size': no such option; did you mean history_size?",
        ),
        (
            [],
            {},
            "[namespaces.chat]\nhistory_size = 0",
            "h.toml: namespaces.chat: history_size = 0: Expected `int` >= 1",
        ),
        (
            [],
            {},
            '[namespaces."a:b"]',
            "namespaces = 'a:b': a namespace is the part of a channel's name before the first ':'",
        ),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else None,
)
def test_wrong_options(
    arguments: list[str], variables: dict[str, str], file: str | None, told: str, tmp_path: Path
) -> None:
    if file is not None:
        Path(tmp_path, "h.toml").write_text(file)
        arguments = ["--config", "h.toml"]
    done = run("serve", *arguments, extra=variables, folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"heartwire: {told}\n")


def test_unknown_flags_name_the_one_that_was_meant() -> None:
    done = run("serve", "--prot", "9000")
    assert done.returncode == 2
    assert "No such option: --prot" in done.stderr
    assert "--port" in done.stderr


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    Path(tmp_path, "h.toml").write_text(
        'max_message_bytes = 1\nallowed_origins = ["https://a.example"]\ndemo = false\npublish_burst = 7\n'
    )
    variables = {
        "HEARTWIRE_MAX_MESSAGE_BYTES": "2",
        "HEARTWIRE_ALLOWED_ORIGINS": "https://b.example, https://c.example",
    }
    with run_server(
        "--config", "h.toml", "--max-message-bytes", "3", environment=variables, folder=tmp_path
    ) as server:
        assert "demo page" not in server.log
        assert get(server.url, "/").status == 404
        publish(server.url, "a", "123")
        assert get(server.url, "/channels/a", Origin="https://c.example").status == 200
        assert get(server.url, "/channels/a", Origin="https://a.example").status == 403
    with run_server("--config", "h.toml", folder=tmp_path) as server:
        assert get(server.url, "/channels/a", Origin="https://a.example").status == 200


# -- addresses -----------------------------------------------------------------------------------------------


def test_port_in_use(server: ServerProcess) -> None:
    done = run("serve", "--engine", "memory", "--port", str(server.port))
    told = f"heartwire: port = '127.0.0.1:{server.port}': cannot listen: Address already in use\n"
    assert (done.returncode, done.stderr) == (1, told)


def test_database_in_use_or_foreign(tmp_path: Path) -> None:
    with run_server(engine="sqlite:///mine.db", folder=tmp_path) as server:
        done = run("serve", "--engine", "sqlite:///mine.db", "--port", "0", folder=tmp_path)
        assert done.returncode == 1
        told = "heartwire: mine.db is in use by another process: stop it, or name another file;"
        assert done.stderr.startswith(told)
        assert "?shared=yes" in done.stderr
        publish(server.url, "a", "still there")
    Path(tmp_path, "notes.db").write_text("these are my notes")
    done = run("serve", "--engine", "sqlite:///notes.db", "--port", "0", folder=tmp_path)
    told = "heartwire: notes.db is not a SQLite database; it was left as it is: name another file\n"
    assert (done.returncode, done.stderr) == (1, told)
    assert Path(tmp_path, "notes.db").read_text() == "these are my notes"


def test_public_address_with_allow_anonymous() -> None:
    with run_server("--host", "0.0.0.0", "--allow-anonymous") as server:
        assert server.url.startswith("http://localhost:")
        publish(f"http://127.0.0.1:{server.port}", "a", "x")


def test_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with run_server("--host", "::1") as server:
        assert re.fullmatch(r"http://\[::1\]:\d+", server.url)
        position = publish(server.url, "a", "x")
        with ws(server.url, "/channels/a?since=earliest") as socket_:
            assert socket_.recv() == "x"
        assert (
            run("sub", server.url, "a", "--since", "earliest", "--count", "1", "--positions").stdout
            == f"{position} x\n"
        )


def test_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "heartwire.sock")
    with run_server("--uds", path) as server:
        assert server.url == f"unix:{path}"
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(10)
                sock.connect(path)
                sock.sendall(b"POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi")
                assert sock.recv(4096).startswith(b"HTTP/1.1 200 OK")
            server.restart()  # a stale socket file is no obstacle


@pytest.mark.parametrize(
    ("umask", "config", "mode"), [(0o007, "", 0o770), (0o077, "", 0o700), (0o077, 'uds_mode = "0660"', 0o660)]
)
def test_the_umask_decides_who_may_use_the_unix_socket(
    umask: int, config: str, mode: int, tmp_path: Path
) -> None:
    """It was open to all, whatever the umask."""
    path = str(tmp_path / "heartwire.sock")
    ours = os.umask(umask)
    try:
        with run_server("--uds", path, config=config, folder=tmp_path):
            assert stat.S_IMODE(os.stat(path).st_mode) == mode
    finally:
        os.umask(ours)


def test_a_file_is_not_replaced_by_a_unix_socket(tmp_path: Path) -> None:
    """It was deleted."""
    file = tmp_path / "precious.txt"
    file.write_text("years of work")
    done = run("serve", "--engine", "memory", "--uds", str(file))
    told = f"heartwire: uds = '{file}': is there already, and is not a socket: name another path\n"
    assert (done.returncode, done.stderr) == (1, told)
    assert file.read_text() == "years of work"


def test_variables_that_are_not_options_are_logged_once() -> None:
    variables = {
        "HEARTWIRE_PROT": "1",
        "HEARTWIRE_PORT": "tcp://10.0.0.1:80",
        "HEARTWIRE_SERVICE_HOST": "10.0.0.1",
    }
    with run_server("--log-format", "json", environment=variables) as server:
        server.stop()
        lines = [json.loads(line) for line in server.log.splitlines()]
    told = [(line["level"], line["message"]) for line in lines if "HEARTWIRE_" in line["message"]]
    assert [level for level, _ in told] == ["info", "warning"]
    assert told[0][1].endswith("HEARTWIRE_PORT, HEARTWIRE_SERVICE_HOST")
    assert "did you mean port?" in told[1][1]


def test_tls(tmp_path: Path) -> None:
    cert, key = map(str, self_signed(tmp_path, "127.0.0.1", "localhost"))
    trust = ssl.create_default_context(cafile=cert)
    with run_server("--tls-cert", cert, "--tls-key", key) as server:
        assert server.url.startswith("https://127.0.0.1:")

        # Not the client with threads: it reads and writes one TLS connection at once, and now and then that
        # waits for ever.
        async def secret() -> str | bytes:
            url = server.url.replace("http", "ws", 1)
            async with asyncio.timeout(20), connect(f"{url}/channels/a", ssl=trust, proxy=None) as sock:
                assert run("pub", server.url, "a", "secret", extra={"SSL_CERT_FILE": cert}).returncode == 0
                return await sock.recv()

        assert asyncio.run(secret()) == "secret"
        for transport in ("websocket", "sse", "longpoll"):
            arguments = (
                "sub",
                server.url,
                "a",
                "--since",
                "earliest",
                "--count",
                "1",
                "--transport",
                transport,
            )
            assert run(*arguments, extra={"SSL_CERT_FILE": cert}).stdout == "secret\n"
        assert "curl -k -d hello https://" in server.log
        assert server.stop() == 0


# -- logs ----------------------------------------------------------------------------------------------------


def test_json_logs_are_lines_of_json() -> None:
    with run_server("--log-format", "json", "--access-log") as server:
        publish(server.url, "a", "x")
        get(server.url, "/nowhere?secret=1")
        assert server.stop() == 0
        lines = [json.loads(line) for line in server.log.splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    assert lines[0]["message"].startswith(f"Heartwire is up at {server.url}")
    assert any("POST /channels/a" in line["message"] for line in lines)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in lines)


def test_a_quiet_life_logs_nothing(channel: str) -> None:
    with run_server() as server:
        with (
            Stream(server.url, f"/channels/{channel}") as stream,
            ws(server.url, f"/channels/{channel}") as sock,
        ):
            stream.joined()
            publish(server.url, channel, "x")
            sock.recv()
        with Raw(server.url) as raw:
            raw.send("GET /channels/a HTTP/1.1\r\n")  # and goes
        with Raw(server.url) as raw:
            raw.send(
                "POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf"
            )  # and goes
        until(lambda: not present(server.url, channel))
        assert server.stop() == 0
        assert server.log.rstrip().endswith(f"heartwire sub {server.url} chat")


# -- the end -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("engine", ["memory", "sqlite:///end.db"])
def test_signals_end_it_at_once_and_cleanly(number: signal.Signals, engine: str, channel: str) -> None:
    """With open polls, streams, sockets, an idle connection and half a request."""
    path = f"/channels/{channel}"
    with run_server(engine=engine) as server:
        position = publish(server.url, channel, "x")
        poll = Task(lambda: get(server.url, f"{path}?since={position}&wait=50&client=me"))
        idle = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=10)
        idle.request("GET", "/health")
        idle.getresponse().read()
        half = Raw(server.url)
        half.send("POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf")
        unread = Raw(server.url)
        unread.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        with Stream(server.url, path) as stream, ws(server.url, path) as sock, ws(server.url, "/") as lobby:
            stream.joined()
            until(lambda: len(present(server.url, channel)) == 4)
            began = time.monotonic()
            code = server.stop(number)
            taken_s = time.monotonic() - began
            assert taken_s < 2, server.log
            assert code == 0, server.log
            assert poll.result().json == {"publications": [], "position": position, "recovered": True}
            assert list(stream) == []  # ended in good order, not cut
            for each in (sock, lobby):
                with pytest.raises(ConnectionClosed) as closed:
                    each.recv(5)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1012
                assert re.fullmatch(
                    r"shutdown: come back after a moment; retry_after_ms=\d+", closed.value.rcvd.reason
                )
        idle.close()
        half.sock.close()
        unread.sock.close()
        assert "Traceback" not in server.log
        assert "rror" not in server.log


def test_an_impatient_second_signal_does_no_harm(channel: str) -> None:
    with run_server() as server, ws(server.url, f"/channels/{channel}"):
        os.kill(server.pid, signal.SIGINT)
        assert server.stop(signal.SIGINT) in (0, 130, -signal.SIGINT)
        assert "Traceback" not in server.log
