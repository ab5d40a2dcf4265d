"""What scenarios are written with: the decorator that makes one of a function, and the words of servers."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.vectors.recorder import Recorder, Scenario, dump

__all__ = [
    "FOLDER",
    "SUBJECTS",
    "connect",
    "id_of",
    "placed",
    "poll_online",
    "pub",
    "refused",
    "scenario",
    "scenarios",
    "text",
    "welcome",
]

FOLDER = Path(__file__).parent
SUBJECTS = sorted(path.stem for path in (FOLDER / "scenarios").glob("[!_]*.py"))

_ARGUMENTS = ("has_tokens", "token", "data")
_all: dict[str, list[Scenario]] = {}


def scenario(
    *, draws: tuple[float, ...] = (0.5,), **settings: Any
) -> Callable[[Callable[[Recorder], None]], Scenario]:
    """Make a scenario of a function, whose name says what a client does."""

    def made(play: Callable[[Recorder], None]) -> Scenario:
        options = {name: value for name, value in settings.items() if name not in _ARGUMENTS}
        machine = {name: value for name, value in settings.items() if name in _ARGUMENTS}
        one = Scenario(play.__name__.replace("_", " "), options, machine, draws, play)
        _all.setdefault(play.__module__.rpartition(".")[2], []).append(one)
        return one

    return made


def scenarios(subject: str) -> list[Scenario]:
    """Return the scenarios of one subject."""
    importlib.import_module(f"tests.vectors.scenarios.{subject}")
    return _all[subject]


def text(subject: str) -> str:
    """Return the text of the file of one subject."""
    return dump([one.record() for one in scenarios(subject)])


# -- words of servers ----------------------------------------------------------------------------------------


def welcome(id: int = 1, **extra: Any) -> dict[str, Any]:
    """The answer to `connect`."""
    return {"id": id, "connect": {"client": "me", "ping": 25, **extra}}


def placed(
    id: int,
    offset: int = 0,
    *,
    epoch: str = "e",
    after: int | None = None,
    pubs: Any = (),
    lost: bool = False,
) -> Any:
    """The answer to `subscribe`. ``after``: recovered from there, with ``pubs``; ``lost``: not recovered."""
    result: dict[str, Any] = {"epoch": epoch, "offset": offset if after is None else after}
    if after is not None or lost:
        result |= {"was_recovering": True, "recovered": not lost}
    if pubs:
        result["publications"] = [{"offset": one, "data": f"m{one}"} for one in pubs]
    return {"id": id, "subscribe": result}


def refused(id: int, code: int, message: str = "", *, temporary: bool = False) -> dict[str, Any]:
    """An error."""
    return {
        "id": id,
        "error": {"code": code, "message": message, **({"temporary": True} if temporary else {})},
    }


def pub(offset: int, channel: str = "a") -> dict[str, Any]:
    """A publication."""
    return {"push": {"channel": channel, "pub": {"offset": offset, "data": f"m{offset}"}}}


def connect(client: Recorder, *extra: Any, **result: Any) -> None:
    """Start, and answer `connect` on the first connection."""
    client.start()
    client.received(1, welcome(**result), *extra)
    assert client.machine.current is not None


def poll_online(client: Recorder, *extra: Any, **result: Any) -> None:
    """Start on a transport that polls, with channel a, whose subscribe has the id 1."""
    client.subscribe("a")
    client.start()
    client.polled(1, welcome(2, ping=0, **result), *extra)
    assert client.machine.current is not None


def id_of(client: Recorder, method: str, of: Any = None, *, on: int = 0) -> int:
    """Return the id of the last command of a kind; ``of`` a channel or an idempotency key, ``on`` a connection."""
    for step in reversed(client.steps):
        for kind, generation, *rest in reversed(
            [output for output in step["outputs"] if output[0] in ("Open", "Send", "Poll")]
        ):
            for one in reversed(rest[0] if kind == "Poll" else rest[-1]):
                body = one.get(method)
                is_it = body is not None and of in (None, body.get("channel"), body.get("idempotency_key"))
                if is_it and on in (0, generation):
                    return int(one["id"])
    raise LookupError(method)
