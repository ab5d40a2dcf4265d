"""Runs the suites of the official Centrifugal SDKs, unchanged, against `heartwire serve`.

``python -m tools.sdk_suites [--python CHECKOUT] [--js CHECKOUT]``, or ``make sdks``. The checkouts are of
centrifuge-python and centrifuge-js, the latter with its packages installed. The suites expect a server on
port 8000, set up as the checkout sets up Centrifugo; here is the same for Heartwire. Left out is what
Heartwire does not have: map and shared-poll subscriptions, and the two tests that want fossil deltas. Exits
with 1 where a suite fails.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from heartwire.testing import ServerProcess


class Suite(NamedTuple):
    """The options of the server, and the command in the checkout."""

    config: str
    command: tuple[str, ...]


_HISTORY: Final = 'history_size = 100\nhistory_ttl = "300s"\n'
_SMALL: Final = '[namespaces.smallhistory]\nhistory_size = 2\nhistory_ttl = "300s"\n'
_FOR_SUBSCRIBERS: Final = "allow_publish_for_subscriber = true\nallow_history_for_subscriber = true\n"

SUITES: Final = {
    "python": Suite(
        f"""token_hmac_secret_key = "secret"
user_subscribe_to_personal = true
[namespaces.""]
join_leave = true
force_push_join_leave = true
allow_presence_for_subscriber = true
{_HISTORY}{_FOR_SUBSCRIBERS}{_SMALL}{_FOR_SUBSCRIBERS}""",
        (sys.executable, "-m", "unittest", "discover", "-s", "tests", "-t", "."),
    ),
    "js": Suite(
        f"""insecure = true
token_hmac_secret_key = "secret"
api_key = "test-api-key"
[namespaces.""]
{_HISTORY}[namespaces.delta]
{_HISTORY}[namespaces.recovery]
{_HISTORY}{_SMALL}""",
        (
            *("node_modules/.bin/jest", "--verbose", "--forceExit"),
            *("--testPathIgnorePatterns", "shared_poll", r"/map\.", "bench"),
            *("--testNamePattern", "^(?!map|stream delta: (successive|many))"),
        ),
    ),
}


def run(suite: Suite, checkout: str) -> bool:
    """Run one suite in its checkout. Returns whether it passed."""
    with tempfile.TemporaryDirectory(prefix="heartwire-") as folder:
        (Path(folder) / "heartwire.toml").write_text(suite.config, encoding="utf-8")
        flags = ("--engine", "sqlite:///suite.db", "--config", "heartwire.toml")
        server = ServerProcess(flags, {}, Path(folder))
        server.url = "http://127.0.0.1:8000"  # its port from the start
        server.start()
        try:
            return subprocess.run(suite.command, cwd=checkout, check=False).returncode == 0  # noqa: S603
        finally:
            server.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the suites of the official SDKs.")
    for name in SUITES:
        parser.add_argument(f"--{name}", metavar="CHECKOUT", help=f"of centrifuge-{name}")
    checkouts = {name: path for name, path in vars(parser.parse_args()).items() if path}
    if not checkouts:
        parser.error("name a checkout: make sdks PYTHON_SDK=… JS_SDK=…")
    failed = [name for name, path in checkouts.items() if not run(SUITES[name], path)]
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
