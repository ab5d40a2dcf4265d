"""Publishes of a session, and their order.

A client that sends one publish after the other without waiting would lose their order to a refusal in the
middle: those behind it are taken, and its retry comes after them. So publishes with a key have a *round*, and
go back together: one that is refused for the time being ends its round, and the rest of that round is refused
too (``out_of_order``), until the client sends all of them again in a later one. The keys keep what had been
taken from being published twice.

What had been handed to the engine when an earlier publish *fails there* cannot be called back: the engine has
to fail it too, as SQLite does; memory answers at once. If the engine takes it, the earlier publish's retry
gets the higher offset.
"""

from collections.abc import Awaitable, Coroutine
from functools import partial
from typing import Any

from heartwire.dialects.centrifugal.state import SessionState
from heartwire.dialects.centrifugal.types import PublishRequest
from heartwire.dialects.centrifugal.values import error_code
from heartwire.errors import Refused
from heartwire.types import Position

__all__ = ["keep_order", "publish"]


def publish(session: SessionState, id: int, request: PublishRequest) -> Coroutine[Any, Any, None] | None:
    """Publish; answered with the position when the engine has it. The next command need not wait for that."""
    key, round = request.idempotency_key, request.round
    try:
        if key:
            keep_order(session, key, round)
        if request.type:
            raise Refused("not_available", "map subscriptions are not supported")
        post = session.codec.post(request)
        answer = session.port.publish(session, request.channel, post)
        if isinstance(answer, Position):
            session.too_fast = 0
            session.send(session.codec.published(id, answer))
            return None
        wait = answer(partial(_published, session, id, key, round))
    except Exception as error:
        _failed(session, key, round, error)
        raise
    return None if wait is None else _wait(session, key, round, wait)


async def _wait(session: SessionState, key: str, round: int, wait: Awaitable[None]) -> None:
    try:
        await wait
    except Exception as error:
        _failed(session, key, round, error)
        raise


def _published(
    session: SessionState, id: int, key: str, round: int, outcome: Position | BaseException
) -> None:
    if isinstance(outcome, Position):
        session.too_fast = 0
        session.send(session.codec.published(id, outcome))
    else:
        _failed(session, key, round, outcome)
        session.refuse(id, "publish", outcome)


def _failed(session: SessionState, key: str, round: int, error: BaseException) -> None:
    """End the round, where the error is temporary: later publishes must not overtake the retry. Disconnect a
    client that goes on too fast after ``publish_burst`` refusals."""
    code = error_code(error)
    if key and code.temporary:
        session.round = max(session.round, round + 1)
    if code.name == "too_many_requests":
        session.too_fast += 1
        if session.too_fast > session.settings.publish_burst:
            session.disconnect("too_many_requests")


def keep_order(session: SessionState, key: str, round: int) -> None:
    """Raise `Refused` (``out_of_order``) for a publish with a key whose round is over."""
    if key and round < session.round:
        hint = f"send what was refused, and all after it, in round {session.round}"
        raise Refused("out_of_order", f"round {round} is over: {hint}")
