"""A NiceGUI page works over `heartwire.socketio`, in a browser. Where NiceGUI is not installed it is skipped:
``pip install nicegui`` has it run."""

import contextlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from heartwire.testing import faulty_network
from heartwire.testing.stores import free_port
from tests.browser.cdp import Chromium

pytest.importorskip("nicegui", reason="NiceGUI is too large for every test run: pip install nicegui")

PAGE = """
import sys

import heartwire.socketio as socketio

sys.modules["socketio"] = socketio  # the one change: what NiceGUI's own ``import socketio`` means
sys.modules["socketio.exceptions"] = socketio.exceptions
socketio.AsyncClient = None  # for NiceGUI On Air, which is not used

from nicegui import core, ui

assert isinstance(core.sio, socketio.AsyncServer)

@ui.page("/")
def index():
    clicks = 0

    def press():
        nonlocal clicks
        clicks += 1
        label.set_text(f"pressed {clicks}")

    label = ui.label("pressed 0")
    ui.button("Press", on_click=press)
    ticks = ui.label("0").classes("ticks")
    ui.timer(0.2, lambda: ticks.set_text(str(int(ticks.text) + 1)))

ui.run(port=int(sys.argv[1]), host="127.0.0.1", show=False, reload=False, reconnect_timeout=5)
"""
TEXT = "(document.body?.innerText ?? '')"


@contextlib.contextmanager
def serving_page(port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    (folder / "page.py").write_text(PAGE)
    command = [sys.executable, "page.py", str(port)]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


PRESS = "[...document.querySelectorAll('button')].find(one => /press/i.test(one.innerText)).click()"
TICKS = "+(document.querySelector('.ticks')?.innerText ?? 0)"


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_a_page_works_and_does_so_after_a_break_and_a_restart(tmp_path: Path) -> None:
    port = free_port()
    with (
        faulty_network(f"http://127.0.0.1:{port}") as network,
        Chromium.started() as chromium,
        chromium.page() as page,
    ):
        with serving_page(port, tmp_path):
            page.goto(network.url)
            page.until(f"{TICKS} > 0")
            page.evaluate(PRESS)
            page.until(f"{TEXT}.includes('pressed 1')")
            ticks = page.evaluate(TICKS)
            network.reset()
            page.until(f"{TICKS} > {ticks + 2}")  # the server goes on where it was
            page.evaluate(PRESS)
            page.until(f"{TEXT}.includes('pressed 2')")
        with serving_page(port, tmp_path):
            with contextlib.suppress(AssertionError):  # it loads itself anew: its state was the server's
                page.until("false")
            page.until(f"{TEXT}.includes('pressed 0')")
            page.until(f"{TICKS} > 0")
            page.evaluate(PRESS)
            page.until(f"{TEXT}.includes('pressed 1')")
    assert "Traceback" not in (tmp_path / "log").read_text()
