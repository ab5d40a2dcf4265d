"""Deadlines of many machines in one heap."""

from heartwire.core.deadlines import Deadlines


class Timed:
    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    def handle_deadline(self, now: float) -> None:
        self.log.append(f"{self.name}@{now:g}")


def test_deadlines_come_in_order_and_once() -> None:
    log: list[str] = []
    deadlines = Deadlines()
    for when, name in [(3, "c"), (1, "a"), (2, "b"), (2, "b2")]:
        deadlines.at(when, Timed(log, name))
    deadlines.advance(0.9)
    assert log == []
    deadlines.advance(2)
    assert log == ["a@2", "b@2", "b2@2"]
    deadlines.advance(9)
    deadlines.advance(10)
    assert log == ["a@2", "b@2", "b2@2", "c@9"]


def test_cancelled_deadline_does_not_come() -> None:
    log: list[str] = []
    deadlines = Deadlines()
    deadline = deadlines.at(1, Timed(log, "a"))
    deadline.cancel()
    deadline.cancel()
    deadlines.advance(2)
    assert log == []
