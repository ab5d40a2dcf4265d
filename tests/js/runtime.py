"""Places in which heartwire.js runs: a process of Node, a page of a browser, a worker of one. Each takes
programs as text."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from typing import Any, Protocol

from tests.browser.page import Browser, Page
from tests.js.node import HERE, MODULE, need_node

__all__ = ["PageRuntime", "Runtime", "in_node", "in_page", "in_worker"]

PRELUDE = (HERE / "prelude.js").read_text()


class Runtime(Protocol):
    """Runs programs: the body of an async function. What they leave in `globalThis` stays."""

    def run(self, code: str, **values: Any) -> Any:
        """The value that a program returns; ``values`` are its variables."""


def _with(values: dict[str, Any], code: str) -> str:
    return "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items()) + code


class _Node:
    def __init__(self, *flags: str) -> None:
        command = ["node", *flags, str(HERE / "runtime.mjs"), str(MODULE)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._n = 0

    def run(self, code: str, **values: Any) -> Any:
        self._n += 1
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps({"n": self._n, "code": _with(values, code)}) + "\n")
        stdin.flush()
        line = stdout.readline()
        assert line, "node has ended"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def in_node(*, has_websocket: bool = True) -> Iterator[Runtime]:
    """A process. Node 20 has a WebSocket only where it is asked for."""
    need_node()
    runtime = _Node("--experimental-websocket" if has_websocket else "--no-experimental-websocket")
    try:
        runtime.run(PRELUDE)
        yield runtime
    finally:
        runtime.end()


class PageRuntime:
    """A page; ``tab`` is what can be done with it from outside."""

    def __init__(self, tab: Page) -> None:
        self.tab = tab

    def open(self, url: str) -> None:
        """Show a page of a server's that has nothing on it but the module."""
        self.tab.goto(f"{url}/heartwire.js")  # as text; Firefox has a viewer of its own for JSON
        self.run("globalThis.heartwire = await import('/heartwire.js');" + PRELUDE)

    def run(self, code: str, **values: Any) -> Any:
        return self.tab.evaluate(f"(async () => {{ {_with(values, code)} }})()")


# The browser asks for an icon, and says when it cannot connect.
_NETWORK = (
    "404",
    "WebSocket connection to",  # Chromium
    "Failed to load resource",  # Chromium
    "The connection to ws",  # Firefox: was interrupted
    "establish a connection to the server at ws",  # Firefox
)


@contextlib.contextmanager
def in_page(browser: Browser, url: str, *, is_network_bad: bool = False) -> Iterator[PageRuntime]:
    """A page of the server's that has nothing on it but the module. Its console stays empty, but for the bad
    network's."""
    with browser.page() as page:
        runtime = PageRuntime(page)
        runtime.open(url)
        yield runtime
        expected = _NETWORK if is_network_bad else _NETWORK[:1]
        complaints = [one for one in page.complaints if not any(words in one for words in expected)]
        assert complaints == [], complaints


_WORKER = """
globalThis.heartwire = await import(MODULE);
const AsyncFunction = (async () => {}).constructor;
onmessage = async ({ data }) => {
  try {
    postMessage({ result: (await new AsyncFunction(data)()) ?? null });
  } catch (error) {
    postMessage({ error: `${error.name}: ${error.message}` });
  }
};
postMessage({ result: "ready" });
"""


class _Worker:
    def __init__(self, page: Runtime, url: str) -> None:
        self._page = page
        source = _WORKER.replace("MODULE", json.dumps(f"{url}/heartwire.js"))
        page.run(
            """const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
               globalThis.worker = new Worker(address, { type: "module" });
               globalThis.said = () => new Promise((done, failed) => {
                 worker.onerror = ({ message }) => failed(new Error(message));
                 worker.onmessage = ({ data }) => done(data);
               });
               return await said();""",
            source=source,
        )

    def run(self, code: str, **values: Any) -> Any:
        answer = self._page.run(
            "const answer = said(); worker.postMessage(program); return await answer;",
            program=_with(values, code),
        )
        assert "error" not in answer, answer["error"]
        return answer["result"]


@contextlib.contextmanager
def in_worker(browser: Browser, url: str) -> Iterator[Runtime]:
    """A module worker of such a page."""
    with in_page(browser, url) as page:
        worker = _Worker(page, url)
        worker.run(PRELUDE)
        yield worker
