"""centrifuge-js in headless Chromium: hundreds of channels on one connection, over a network that is cut, to
a server that dies."""

import http.server
import json
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heartwire.hub.tokens import make_token
from tests.integration.centrifugal.sdk.app import SECRET
from tests.integration.centrifugal.sdk.harness import HERE, Relay, node_modules, serving
from tests.programs import chromium

CHANNELS = 300

PAGE = """<!doctype html><title>Heartwire</title><script src="/centrifuge.js"></script><script>
const tell = (event, more) => fetch("/tell", { method: "POST", body: JSON.stringify({ event, ...more }) });
const query = new URLSearchParams(location.search);
const heard = {}, problems = [];
const client = new Centrifuge(query.get("url"), {
  token: query.get("token"), data: { channels: ["feed:browser"] }, minReconnectDelay: 20, maxReconnectDelay: 200 });
let lives = 0, feed = 0;
client.on("connected", ctx => tell("connected", { life: ++lives, hello: ctx.data.hello }));
client.on("disconnected", ctx => tell("disconnected", { code: ctx.code }));
client.on("publication", ctx => { if (ctx.offset !== ++feed) problems.push(["feed", ctx.offset]); check(); });
let wanted = Infinity, total = 0;
function check() { if (total >= wanted) { wanted = Infinity; tell("complete", { total, feed, problems }); } }
let subscribed = 0;
for (let n = 0; n < CHANNELS; n++) {
  const channel = "news:browser-" + n, sub = client.newSubscription(channel, { minResubscribeDelay: 20, maxResubscribeDelay: 200 });
  heard[channel] = 0;
  sub.on("publication", ctx => {
    if (ctx.offset !== ++heard[channel] || ctx.data.n !== ctx.offset) problems.push([channel, ctx.offset, ctx.data]);
    total++; check();
  });
  sub.on("subscribed", ctx => {
    if (ctx.wasRecovering && !ctx.recovered) problems.push([channel, "not recovered"]);
    if (++subscribed % CHANNELS === 0) tell("subscribed", { times: subscribed / CHANNELS });
  });
  sub.subscribe();
}
client.connect();
const calls = {
  async publish({ first, last }) {
    const all = [];
    for (let n = first; n <= last; n++) for (const channel of Object.keys(heard)) all.push(client.publish(channel, { n }));
    await Promise.all(all);
  },
  expect({ count }) { wanted = count; check(); },
  async rpc({ method, data }) { return (await client.rpc(method, data)).data; },
  async presence({ channel }) { return Object.values((await client.presence(channel)).clients).map(info => info.user); },
};
(async () => {
  while (true) {
    const command = await (await fetch("/next")).json();
    try { tell("done", { result: (await calls[command.do](command)) ?? null }); }
    catch (error) { tell("failed", { code: error.code, message: String(error.message) }); }
  }
})();
</script>""".replace("CHANNELS", str(CHANNELS))


class Page:
    """Serves the page, hands it commands, and takes what it tells."""

    def __init__(self) -> None:
        page = self
        self._commands: queue.Queue[dict[str, Any]] = queue.Queue()
        self._told: queue.Queue[dict[str, Any]] = queue.Queue()
        self._kept: list[dict[str, Any]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/centrifuge.js":
                    self._answer(
                        "text/javascript", (HERE / "node_modules/centrifuge/dist/centrifuge.js").read_bytes()
                    )
                elif self.path == "/next":
                    self._answer("application/json", json.dumps(page._commands.get()).encode())
                else:
                    self._answer("text/html", PAGE.encode())

            def do_POST(self) -> None:
                page._told.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self._answer("text/plain", b"")

            def _answer(self, kind: str, body: bytes) -> None:
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def do(self, what: str, **arguments: Any) -> Any:
        """Have the page do something, and wait for it; the result."""
        self._commands.put({"do": what} | arguments)
        return self.wait("done")["result"]

    def wait(self, event: str, **fields: Any) -> dict[str, Any]:
        """The next of a kind."""
        deadline = time.monotonic() + 30
        while True:
            for told in self._kept:
                if told["event"] == event and all(told[name] == value for name, value in fields.items()):
                    self._kept.remove(told)
                    return told
            try:
                self._kept.append(self._told.get(timeout=max(0, deadline - time.monotonic())))
            except queue.Empty:
                pytest.fail(f"the page has not told {event} {fields}; it told {self._kept[-5:]}")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def page() -> Iterator[Page]:
    page = Page()
    yield page
    page.close()


@pytest.mark.slow
def test_hundreds_of_channels_in_chromium(page: Page, tmp_path: Path) -> None:
    node_modules()
    program = chromium()
    server_folder, profile = tmp_path / "server", tmp_path / "profile"
    server_folder.mkdir()
    with serving(server_folder, APP_ORIGIN=page.origin) as server:
        relay = Relay(server.port)
        url = f"ws://127.0.0.1:{relay.port}/connection/websocket"
        token = make_token({"sub": "42", "exp": int(time.time()) + 3600}, SECRET)
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-sync",
        ]
        flags += [
            "--disable-background-networking",
            "--disable-component-update",
            f"--user-data-dir={profile}",
        ]
        address = f"{page.origin}/?url={url}&token={token}"
        with subprocess.Popen(
            [program, *flags, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as browser:
            try:
                assert page.wait("connected")["hello"] == "42"
                page.wait("subscribed", times=1)
                page.do("publish", first=1, last=2)
                page.do("expect", count=2 * CHANNELS)
                assert page.wait("complete")["problems"] == []
                assert page.do("presence", channel="news:browser-7") == ["42"]
                relay.cut()
                relay.mend()
                page.wait("connected", life=2)
                page.wait("subscribed", times=2)
                page.do("publish", first=3, last=3)
                server.stop(signal.SIGKILL)
                server.start()
                page.wait("connected", life=3)
                page.wait("subscribed", times=3)
                page.do("rpc", method="burst", data={"channel": "feed:browser", "count": 3})
                page.do("publish", first=4, last=4)
                page.do("expect", count=4 * CHANNELS)
                complete = page.wait("complete")
                assert (complete["total"], complete["problems"]) == (4 * CHANNELS, [])
                assert complete["feed"] == 3
            finally:
                browser.kill()
        relay.close()
