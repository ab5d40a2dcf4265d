"""Headless Chromium, driven over the DevTools protocol."""

import base64
import contextlib
import itertools
import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from websockets.sync.client import ClientConnection, connect

from tests.browser.page import Page, stop
from tests.programs import chromium

__all__ = ["Chromium", "ChromiumPage"]

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)


class _Calls:
    """Commands over one socket."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)

    def call(self, method: str, **params: Any) -> Any:
        """A DevTools command's result."""
        id = next(self._ids)
        self._socket.send(json.dumps({"id": id, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=30))
            if message.get("id") == id:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        """Take an event."""


class ChromiumPage(_Calls, Page):
    """One tab, which may do all that DevTools can."""

    def __init__(self, socket: ClientConnection, browser: "Chromium", profile: str, target: str) -> None:
        super().__init__(socket)
        self.complaints: list[str] = []
        self._browser = browser
        self._profile = profile
        self._target = target
        self._document = ""
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def evaluate(self, expression: str) -> Any:
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def goto(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def reload(self) -> None:
        """Load the page anew, as the button does, and wait until it is there."""
        before = self.call("Page.getFrameTree")["frameTree"]["frame"]["loaderId"]
        self._document = before
        self.call("Page.reload")
        while self._document == before:
            self._note(json.loads(self._socket.recv(timeout=30)))
        self.until("document.readyState === 'complete'")

    def back(self) -> None:
        history = self.call("Page.getNavigationHistory")
        entry = history["entries"][history["currentIndex"] - 1]
        self.call("Page.navigateToHistoryEntry", entryId=entry["id"])

    def resize(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def hide(self) -> None:
        self._browser.call("Target.createTarget", url="about:blank", browserContextId=self._profile)

    def show(self) -> None:
        self._browser.call("Target.activateTarget", targetId=self._target)

    def beside(self) -> contextlib.AbstractContextManager["ChromiumPage"]:
        return self._browser.tab(self._profile)

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message.get("method") == "Page.frameNavigated" and "parentId" not in params["frame"]:
            self._document = params["frame"]["loaderId"]
        elif message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(
                str(params["exceptionDetails"].get("exception", params["exceptionDetails"]))
            )
        elif message.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(params["entry"]["text"])
        elif message.get("method") == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.complaints.append(str(params["args"]))


class Chromium(_Calls):
    """The browser, through its own socket."""

    name = "chromium"

    def __init__(self, socket: ClientConnection, address: str) -> None:
        super().__init__(socket)
        self._address = address

    @classmethod
    @contextlib.contextmanager
    def started(cls) -> Iterator[Self]:
        """A new process, with a folder of its own."""
        program = chromium()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            command = [program, *_FLAGS, f"--user-data-dir={folder}", "about:blank"]
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            assert process.stderr is not None
            try:
                url = next(line.split()[-1] for line in process.stderr if "DevTools listening on" in line)
                with connect(url, max_size=None) as socket:
                    yield cls(socket, url.partition("/devtools")[0])
            finally:
                stop(process)

    @contextlib.contextmanager
    def page(self) -> Iterator[ChromiumPage]:
        profile = self.call("Target.createBrowserContext")["browserContextId"]
        try:
            with self.tab(profile) as page:
                yield page
        finally:
            self.call("Target.disposeBrowserContext", browserContextId=profile)

    @contextlib.contextmanager
    def tab(self, profile: str) -> Iterator[ChromiumPage]:
        """A window of a profile that exists."""
        created = self.call(
            "Target.createTarget", url="about:blank", browserContextId=profile, newWindow=True
        )
        target = created["targetId"]
        with connect(f"{self._address}/devtools/page/{target}", max_size=None) as socket:
            yield ChromiumPage(socket, self, profile, target)
        self.call("Target.closeTarget", targetId=target)
