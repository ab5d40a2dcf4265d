"""How processes are started again, and what is said of their ends."""

import signal

import pytest

from heartwire.server.workers.child import backoff_s, ending


def test_the_pause_doubles_up_to_ten_seconds() -> None:
    assert [backoff_s(failures) for failures in range(9)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]
    assert backoff_s(10**6) == 10


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "ended with status 0"),
        (1, "ended with status 1"),
        (-signal.SIGKILL, "was ended by SIGKILL"),
        (-99, "was ended by signal 99"),
    ],
)
def test_an_end_in_words(status: int, words: str) -> None:
    assert ending(status) == words
