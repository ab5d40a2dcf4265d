"""WebKitGTK's MiniBrowser, driven over WebDriver (https://www.w3.org/TR/webdriver2/), on a display in memory."""

import base64
import contextlib
import http.client
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

from tests.browser.page import Page, stop
from tests.programs import program

__all__ = ["WebKit"]

_LIBRARIES: Final = Path("/usr/lib")

# WebDriver has no command for the console.
_COMPLAINTS: Final = """
  globalThis.complaints = [];
  addEventListener("error", ({ message }) => complaints.push(String(message)));
  addEventListener("unhandledrejection", ({ reason }) => complaints.push(String(reason)));
  const log = console.error;
  console.error = (...words) => { complaints.push(words.map(String).join(" ")); log(...words); };
"""


class WebKit:
    """The browser: a driver process, which starts it. All tabs share one profile, which is nowhere saved."""

    name = "webkit"

    def __init__(self, port: int, program: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=40)
        self._prefix = ""
        options = {"binary": program, "args": ["--automation"]}
        wanted = {"browserName": "MiniBrowser", "webkitgtk:browserOptions": options}
        made = self.call("POST", "/session", capabilities={"alwaysMatch": wanted})
        self._prefix = f"/session/{made['sessionId']}"

    @classmethod
    @contextlib.contextmanager
    def started(cls) -> Iterator[Self]:
        """A new display, driver and browser."""
        driver = program("webkit2gtk-driver", "WebKitWebDriver")
        display = program("xvfb", "Xvfb")
        mini_browser = next(map(str, _LIBRARIES.glob("*/webkit2gtk-4.*/MiniBrowser")))
        with contextlib.ExitStack() as stack:
            shown = _started(
                stack, [display, "-displayfd", "1", "-nolisten", "tcp", "-screen", "0", "1400x1000x24"]
            )
            assert shown.stdout is not None
            environment = os.environ | {
                "DISPLAY": f":{shown.stdout.readline().strip()}",
                "WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS": "1",  # which does not work for root
            }
            port = _free_port()
            process = _started(stack, [driver, f"--port={port}", "--host=127.0.0.1"], env=environment)
            while process.poll() is None and not _listens(port):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.02)
            browser = cls(port, mini_browser)
            yield browser
            browser.call("DELETE", "")
            browser._connection.close()

    def call(self, method: str, path: str, **body: Any) -> Any:
        """A WebDriver command's value."""
        self._connection.request(method, self._prefix + path, json.dumps(body) if method == "POST" else None)
        value = json.loads(self._connection.getresponse().read())["value"]
        assert not (isinstance(value, dict) and "error" in value and "stacktrace" in value), value
        return value

    @contextlib.contextmanager
    def page(self) -> Iterator[Page]:
        handle = self.call("POST", "/window/new", type="window")["handle"]
        tab = _Tab(self, handle)
        yield tab
        tab.call("DELETE", "/window")
        # Commands need a window; the first one stays.
        self.call("POST", "/window", handle=self.call("GET", "/window/handles")[0])


class _Tab(Page):
    def __init__(self, browser: WebKit, handle: str) -> None:
        self._browser = browser
        self._handle = handle

    @property
    def complaints(self) -> list[str]:  # type: ignore[override]
        """Since the page was opened."""
        return list(self.evaluate("globalThis.complaints ?? []"))

    def call(self, method: str, path: str, **body: Any) -> Any:
        self._browser.call("POST", "/window", handle=self._handle)
        return self._browser.call(method, path, **body)

    def evaluate(self, expression: str) -> Any:
        return self.call("POST", "/execute/sync", script=f"return ({expression})", args=[])

    def goto(self, url: str) -> None:
        self.call("POST", "/url", url=url)
        self.evaluate(f"(() => {{ {_COMPLAINTS} }})()")

    def back(self) -> None:
        self.call("POST", "/back")

    def resize(self, width: int, height: int) -> None:
        """At least as wide as the browser's own buttons, some 450 pixels."""
        self.call("POST", "/window/rect", width=width, height=height)

    def screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.call("GET", "/screenshot")))

    def hide(self) -> None:
        self.call("POST", "/window/minimize")

    def show(self) -> None:
        self.call("POST", "/window/rect", width=1024, height=768)

    def beside(self) -> contextlib.AbstractContextManager[Page]:
        return self._browser.page()


def _started(stack: contextlib.ExitStack, command: list[str], **more: Any) -> subprocess.Popen[str]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **more)
    stack.callback(stop, process)
    return process


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
