"""The AI SDK's own chat in tabs of a browser, over two workers: what people do to answers, and what deploys do."""

import contextlib
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.browser.cdp import Chromium, ChromiumPage
from tests.js.node import HERE, need_packages
from tests.processes import AppProcess, run_app

pytestmark = pytest.mark.slow

REFRESHES = 20
LEASE_S = 2.0


class Workers(NamedTuple):
    """Two processes with one store."""

    folder: Path
    one: AppProcess
    other: AppProcess

    def finish(self, question: str) -> None:
        """End the answer."""
        (self.folder / question).touch()

    def runs(self, question: str) -> int:
        """How often the model was asked."""
        return (self.folder / "runs").read_text().splitlines().count(question)


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    need_packages()
    folder = tmp_path_factory.mktemp("ai")
    esbuild = str(HERE.parents[1] / "node_modules" / ".bin" / "esbuild")
    flags = ("--bundle", "--minify", "--format=esm", "--define:process.env.NODE_ENV='production'")
    command = (esbuild, str(HERE / "ai_page.mjs"), *flags, f"--outfile={folder}/ai.js")
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    environment = {
        "ENGINE": f"sqlite:///{folder}/a.db?shared=yes",
        "CHATS": f"{folder}/chats.db",
        "FOLDER": str(folder),
        "LEASE_S": str(LEASE_S),
    }
    with (
        run_app("tests.browser.ai_app:app", environment=environment) as one,
        run_app("tests.browser.ai_app:app", environment=environment) as other,
    ):
        yield Workers(folder, one, other)


class Tab:
    """A tab with a chat, by way of a worker."""

    def __init__(self, page: ChromiumPage, chat: str, worker: AppProcess) -> None:
        self.page = page
        page.goto(f"{worker.url}/ai?chat={chat}")
        page.until("globalThis.seen?.chat")

    def refresh(self) -> None:
        """Load it anew."""
        self.page.reload()
        self.page.until("globalThis.seen?.chat")

    def ask(self, question: str, *, after_s: float = 0) -> None:
        """The question is its message's name too."""
        at = (time.time() + after_s) * 1000
        self.page.evaluate(f"ask('{question}', {at}, '{question}')")

    def shows(self, count: int) -> None:
        """Wait for so many words."""
        self.page.until(f"seen.words.length >= {count}")

    def ends(self, status: str) -> dict[str, Any]:
        """Wait for the answer's end: its status, error, time and words."""
        self.page.until(f"seen.words.length && seen.last.status === '{status}'")
        found: dict[str, Any] = self.page.evaluate(
            "({...seen.last, words: seen.words.length, wrong: seen.wrong})"
        )
        assert found["wrong"] == []
        return found

    @property
    def words(self) -> int:
        return int(self.page.evaluate("seen.words.length"))


@contextlib.contextmanager
def tabs(chromium: Chromium, chat: str, *workers: AppProcess) -> Iterator[list[Tab]]:
    """A tab of one window each, loaded from its worker."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(chromium.page())
        pages = [first, *(stack.enter_context(first.beside()) for _ in workers[1:])]
        yield [Tab(page, chat, worker) for page, worker in zip(pages, workers, strict=True)]


@pytest.mark.timeout(120)
def test_each_word_is_shown_once_over_twenty_refreshes_in_three_tabs(
    chromium: Chromium, workers: Workers
) -> None:
    chance = random.Random(15)
    with tabs(chromium, "refresh", workers.one, workers.other, workers.one) as three:
        three[0].ask("refresh")
        three[0].shows(1)
        for _ in range(REFRESHES):
            tab = chance.choice(three)
            shown = tab.words
            tab.refresh()
            tab.shows(shown + chance.randrange(30))
        workers.finish("refresh")
        ends = [tab.ends("ready") for tab in three]
        assert len({end["words"] for end in ends}) == 1
        assert [tab.page.complaints for tab in three] == [[]] * 3
    assert workers.runs("refresh") == 1


def test_a_stop_in_another_tab_is_seen_within_a_second(chromium: Chromium, workers: Workers) -> None:
    with tabs(chromium, "stop", workers.one, workers.one, workers.other) as three:
        three[0].ask("stop")
        three[0].shows(1)
        for tab in three[1:]:
            tab.refresh()  # as is done where an answer is awaited on another device
        for tab in three:
            tab.shows(20)
        stop = three[2].page.evaluate("stopAnswer()")
        assert stop["stopped"] is True
        ends = [tab.ends("ready") for tab in three]
        assert all(end["at"] - stop["at"] < 1000 for end in ends)
        for tab in three:
            tab.refresh()
        assert [tab.ends("ready")["words"] for tab in three] == [end["words"] for end in ends]
        assert three[0].page.evaluate("stopAnswer()")["stopped"] is False


@pytest.mark.timeout(120)
def test_a_worker_that_is_killed_ends_its_answers_and_their_text_stays(
    chromium: Chromium, workers: Workers
) -> None:
    with tabs(chromium, "kill", workers.one, workers.one, workers.other) as three:
        three[0].ask("kill")
        three[0].shows(1)
        for tab in three[1:]:
            tab.refresh()
        for tab in three:
            tab.shows(20)
        killed_at = time.time() * 1000
        workers.one.kill()
        try:
            ends = [tab.ends("error") for tab in three]
            assert all(end["at"] - killed_at < (LEASE_S + 1) * 1000 for end in ends)
            assert ends[2]["error"] == "interrupted"
            assert all(20 <= end["words"] <= ends[2]["words"] for end in ends)
        finally:
            workers.one.start()
        for tab in three:
            tab.refresh()
            again = tab.ends("error")
            assert (again["error"], again["words"]) == ("interrupted", ends[2]["words"])
    assert workers.runs("kill") == 1


def test_two_questions_at_once_are_one_run(chromium: Chromium, workers: Workers) -> None:
    with tabs(chromium, "twice", workers.one, workers.other) as both:
        for tab in both:
            tab.ask("twice", after_s=0.5)
        for tab in both:
            tab.shows(20)
        workers.finish("twice")
        assert len({tab.ends("ready")["words"] for tab in both}) == 1
    assert workers.runs("twice") == 1


def test_the_page_of_the_example_needs_no_packages(chromium: Chromium, workers: Workers) -> None:
    text = "document.querySelector('.answer')?.textContent.split(' ').slice(0, -1)"
    with chromium.page() as page, page.beside() as other:
        for tab in (page, other):
            tab.goto(f"{workers.one.url}/#plain")
        page.evaluate("document.forms[0].text.value = 'plain'; document.forms[0].requestSubmit();")
        for tab in (page, other):
            tab.until(f"{text}?.length >= 20")
        page.goto(f"{workers.one.url}/ai?chat=none")
        page.goto(f"{workers.one.url}/#plain")
        page.until(f"{text}?.length >= 20")
        other.evaluate("document.querySelector('#stop').click()")
        shown = []
        for tab in (page, other):
            tab.until("document.querySelector('.why')?.textContent === 'stopped'")
            shown.append(tab.evaluate(text))
            assert tab.complaints == []
        assert shown[0] == shown[1] == [str(n) for n in range(len(shown[0]))]
    assert workers.runs("plain") == 1
