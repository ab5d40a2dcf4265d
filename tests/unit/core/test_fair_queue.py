"""Connections that flood take turns."""

from collections.abc import Callable

from heartwire.core.fair_queue import FairQueue


class Turns:
    """An event loop by hand."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.count = 0

    def run(self) -> None:
        while self.soon and self.count < 1000:
            soon, self.soon = self.soon, []
            self.count += 1
            for work in soon:
                work()


def test_one_piece_a_turn_round_and_round() -> None:
    turns = Turns()
    queue = FairQueue(lambda work: turns.soon.append(work))
    served: list[str] = []

    def flood(name: str, pieces: int) -> Callable[[], None]:
        def work() -> None:
            served.append(f"{name}@{turns.count}")
            if pieces > 1:
                queue.add(flood(name, pieces - 1))

        return work

    queue.add(flood("a", 3))
    queue.add(flood("b", 1))
    queue.add(flood("c", 2))
    assert served == []
    assert len(queue) == 3
    turns.run()
    assert served == ["a@1", "b@2", "c@3", "a@4", "c@5", "a@6"]
    assert len(queue) == 0
    queue.add(flood("d", 1))
    turns.run()
    assert served[-1] == "d@7"


def test_work_that_fails_does_not_stop_the_others() -> None:
    turns = Turns()
    queue = FairQueue(lambda work: turns.soon.append(work))
    served: list[int] = []
    queue.add(lambda: served.append(1 // 0))
    queue.add(lambda: served.append(2))
    for _ in range(2):
        try:
            turns.run()
        except ZeroDivisionError:
            continue
    assert served == [2]
