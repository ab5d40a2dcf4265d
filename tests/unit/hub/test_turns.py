"""Large answers share the turns of the event loop."""

import asyncio

from heartwire.hub.turns import TurnBudget


async def test_small_answers_are_not_counted() -> None:
    budget = TurnBudget(100_000)
    for _ in range(100):
        budget.spend(10_000)
    assert not budget.is_spent


async def test_a_spent_budget_is_there_again_in_the_next_turn() -> None:
    budget = TurnBudget(100_000)
    budget.spend(60_000)
    assert not budget.is_spent
    budget.spend(60_000)
    assert budget.is_spent
    await asyncio.sleep(0)
    assert not budget.is_spent


async def test_those_that_wait_come_one_a_turn_in_order_and_before_new_ones() -> None:
    budget = TurnBudget(100_000)
    made: list[int] = []

    def make(number: int) -> None:
        made.append(number)
        budget.spend(200_000)

    make(0)
    for number in (1, 2, 3):
        budget.when_left(lambda number=number: make(number))  # type: ignore[misc]
    for turns in range(1, 4):
        await asyncio.sleep(0)
        assert made == list(range(turns + 1))
        assert budget.is_spent
    await asyncio.sleep(0)
    assert not budget.is_spent


async def test_tasks_wait_for_their_turn() -> None:
    budget = TurnBudget(100_000)
    made: list[int] = []

    async def make(number: int) -> None:
        await budget.turn()
        made.append(number)
        budget.spend(200_000)

    tasks = [asyncio.create_task(make(number)) for number in range(5)]
    await asyncio.sleep(0)
    assert made == [0]
    await asyncio.gather(*tasks)
    assert made == [0, 1, 2, 3, 4]
