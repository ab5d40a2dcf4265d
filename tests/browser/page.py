"""What tests do with a tab, whichever browser it is in."""

import json
import subprocess
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Browser", "Page", "stop"]


class Page(ABC):
    """One tab. ``complaints`` are the console errors and uncaught exceptions so far."""

    complaints: list[str]

    @abstractmethod
    def evaluate(self, expression: str) -> Any:
        """The value of an expression; a promise is awaited."""

    @abstractmethod
    def goto(self, url: str) -> None:
        """Open an address, and wait until it is there."""

    @abstractmethod
    def back(self) -> None:
        """Go to the page before, as the button does."""

    @abstractmethod
    def resize(self, width: int, height: int) -> None:
        """The window's size in CSS pixels."""

    @abstractmethod
    def screenshot(self, file: Path) -> None:
        """Save what is seen as PNG."""

    @abstractmethod
    def hide(self) -> None:
        """Put another tab before this one, or the window away: the page is hidden."""

    @abstractmethod
    def show(self) -> None:
        """Undo `hide`."""

    @abstractmethod
    def beside(self) -> AbstractContextManager["Page"]:
        """Another tab of the same profile: with the same connections, and the same limits of them."""

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


class Browser(Protocol):
    """One browser, started once."""

    name: str

    def page(self) -> AbstractContextManager[Page]:
        """A visible tab of a profile of its own."""


def stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
