"""A page in headless Chromium, driven over the DevTools protocol."""

import base64
import contextlib
import itertools
import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.programs import chromium

__all__ = ["Page", "open_page"]

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


class Page:
    """One tab. ``complaints`` are the console errors and uncaught exceptions so far."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

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

    def evaluate(self, expression: str) -> Any:
        """The value of an expression; a promise is awaited."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, condition: str, *, timeout_s: float = 20) -> Any:
        """Wait in the page until an expression is true; its value."""
        poll = f"""new Promise((done, failed) => {{
            const end = performance.now() + {timeout_s * 1000};
            const look = () => {{
                const value = ({condition});
                if (value) done(value);
                else if (performance.now() > end) failed(new Error("not so in time: " + {json.dumps(condition)}));
                else setTimeout(look, 20);
            }};
            look();
        }})"""
        return self.evaluate(poll)

    def goto(self, url: str) -> None:
        """Open an address, and wait until it is there."""
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def resize(self, width: int, height: int) -> None:
        """The window's size in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def screenshot(self, file: Path) -> None:
        """Save what is seen as PNG."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(
                str(params["exceptionDetails"].get("exception", params["exceptionDetails"]))
            )
        elif message.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(params["entry"]["text"])
        elif message.get("method") == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.complaints.append(str(params["args"]))


@contextlib.contextmanager
def open_page() -> Iterator[Page]:
    """A new browser with one tab. Without Chromium the test is skipped at a desk, and fails in CI."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [chromium(), *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        try:
            url = next(line.split()[-1] for line in process.stderr if "DevTools listening on" in line)
            with connect(url, max_size=None) as root:
                root.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
                targets = json.loads(root.recv())["result"]["targetInfos"]
            tab = next(target["targetId"] for target in targets if target["type"] == "page")
            with connect(f"{url.partition('/devtools')[0]}/devtools/page/{tab}", max_size=None) as socket:
                yield Page(socket)
        finally:
            process.kill()
            process.wait()
            process.stderr.close()
