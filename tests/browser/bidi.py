"""Headless Firefox, driven over WebDriver BiDi (https://w3c.github.io/webdriver-bidi/), which it speaks itself."""

import base64
import contextlib
import itertools
import json
import os
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from websockets.sync.client import ClientConnection, connect

from tests.browser.page import Page, stop
from tests.programs import program

__all__ = ["Firefox"]


class Firefox:
    """The browser, through the one socket of its session."""

    name = "firefox"

    def __init__(self, socket: ClientConnection) -> None:
        self.complaints = defaultdict[str, list[str]](list)
        self._socket = socket
        self._ids = itertools.count(1)
        self.call("session.new", capabilities={})
        self.call("session.subscribe", events=["log.entryAdded"])

    @classmethod
    @contextlib.contextmanager
    def started(cls) -> Iterator[Self]:
        """A new process, with a folder of its own."""
        firefox = program("firefox-esr", "firefox-esr", "firefox")
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            command = [firefox, "--headless", "--no-remote", "--profile", folder, "--remote-debugging-port=0"]
            environment = os.environ | {"HOME": folder}  # it takes no other user's
            log = Path(folder) / "stderr"
            with log.open("w") as stderr:  # a file: a pipe that nobody reads would stop it when it is full
                process = subprocess.Popen(command, stdout=stderr, stderr=stderr, text=True, env=environment)
            try:
                with connect(f"{_address(process, log)}/session", max_size=None, open_timeout=60) as socket:
                    yield cls(socket)
            finally:
                stop(process)

    def call(self, method: str, **params: Any) -> Any:
        """A BiDi command's result."""
        id = next(self._ids)
        self._socket.send(json.dumps({"id": id, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=40))
            if message.get("id") == id:
                assert message["type"] == "success", message
                return message["result"]
            self._note(message)

    @contextlib.contextmanager
    def page(self) -> Iterator[Page]:
        profile = self.call("browser.createUserContext")["userContext"]
        try:
            with self.tab(profile) as page:
                yield page
        finally:
            self.call("browser.removeUserContext", userContext=profile)

    @contextlib.contextmanager
    def tab(self, profile: str) -> Iterator[Page]:
        """A window of a profile that exists."""
        context = self.call("browsingContext.create", type="window", userContext=profile)["context"]
        yield _Tab(self, profile, context)
        self.call("browsingContext.close", context=context)

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message.get("method") == "log.entryAdded" and params["level"] == "error":
            self.complaints[params["source"].get("context", "")].append(str(params["text"]))


class _Tab(Page):
    def __init__(self, browser: Firefox, profile: str, context: str) -> None:
        self.complaints = browser.complaints[context]
        self._browser = browser
        self._profile = profile
        self._context = context

    def evaluate(self, expression: str) -> Any:
        answer = self._browser.call(
            "script.evaluate", expression=expression, target={"context": self._context}, awaitPromise=True
        )
        assert answer["type"] == "success", answer["exceptionDetails"]
        return _value(answer["result"])

    def goto(self, url: str) -> None:
        self._call("browsingContext.navigate", url=url, wait="complete")

    def back(self) -> None:
        self._call("browsingContext.traverseHistory", delta=-1)

    def resize(self, width: int, height: int) -> None:
        self._call("browsingContext.setViewport", viewport={"width": width, "height": height})

    def screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self._call("browsingContext.captureScreenshot")["data"]))

    def hide(self) -> None:
        self._browser.call("browsingContext.create", type="tab", referenceContext=self._context)

    def show(self) -> None:
        self._call("browsingContext.activate")

    def beside(self) -> contextlib.AbstractContextManager[Page]:
        return self._browser.tab(self._profile)

    def _call(self, method: str, **params: Any) -> Any:
        return self._browser.call(method, context=self._context, **params)


def _address(process: subprocess.Popen[str], log: Path) -> str:
    """Where it listens, as soon as it says so."""
    while process.poll() is None:
        for line in log.read_text().splitlines():
            if "WebDriver BiDi listening on" in line:
                return line.split()[-1]
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    raise RuntimeError(f"Firefox did not start: {log.read_text()}")


def _value(remote: dict[str, Any]) -> Any:
    """A value of JavaScript's from its description."""
    if remote["type"] == "array":
        return [_value(one) for one in remote["value"]]
    if remote["type"] == "object":
        return {name: _value(one) for name, one in remote["value"]}
    return remote.get("value")
