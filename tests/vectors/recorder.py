"""Vectors of the client's machine: each input and output written down, so that another implementation can be
held to the same behaviour.

A file is a list of scenarios. A scenario is played to a new machine, made with ``options`` (those that differ
from the defaults) and ``machine`` (its other arguments); its chance is ``draws``, over and over. A step calls
a method of the machine:

    at              the argument ``now``, which comes last in Python
    wall            only of `handle_deadline`: the wall clock
    call, args      the method and its arguments, in Python's order; ``since`` is null, "earliest" or a list
                    of epoch and offset
    kwargs          the keyword arguments of `lost`
    result          the return value, where there is one
    outputs         the outputs: the name of the class, then its fields. A frame is a list of commands, data
                    is the JSON value and not its text, and a note is its text
    next_deadline   the machine's, after the step
"""

import json
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any, Final, NamedTuple

from heartwire.client.machine import Hint, Machine
from heartwire.client.options import Options, check_options
from heartwire.client.outputs import Note
from heartwire.types import Position

__all__ = ["Recorder", "Scenario", "dump", "encode", "replay"]

Json = Any

_MACHINE: Final = {
    "prefix": "key",
    "now": 0.0,
    "wall": 1000.0,
    "has_tokens": False,
    "token": "",
    "data": None,
}
_CALM: Final = {"tick_s": 3600}
"""No ticks, so that each step is an event. A scenario about ticks overrides it."""


class Scenario(NamedTuple):
    """A name, a machine, and the function that plays the scenario to it."""

    name: str
    options: dict[str, Json]
    machine: dict[str, Json]
    draws: tuple[float, ...]
    play: "Callable[[Recorder], None]"

    def record(self) -> dict[str, Json]:
        """Play it to a machine. Return what is written down."""
        recorder = Recorder(self.options, self.machine, self.draws)
        self.play(recorder)
        machine = {name: recorder.arguments[name] for name in _MACHINE}
        options = plain(recorder.options)
        return {
            "name": self.name,
            "options": options,
            "machine": machine,
            "draws": list(self.draws),
            "steps": recorder.steps,
        }


def plain(value: Json) -> Json:
    """Return a value as it is after a trip through JSON."""
    return json.loads(json.dumps(value))


def _machine(options: dict[str, Json], arguments: dict[str, Json], draws: tuple[float, ...]) -> Machine:
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    values: Any = given
    made = Options(**values)
    check_options(made)
    chances = cycle(draws)
    return Machine(made, draw=lambda: next(chances), **arguments)


def encode(output: Any) -> list[Json]:
    """Return an output as the vectors have it."""
    fields: list[Json] = [type(output).__name__]
    if isinstance(output, Note):
        return [*fields, str(output)]
    for name, value in output._asdict().items():
        if name == "frame":
            fields.append([json.loads(line) for line in value.split("\n")] if value else [])
        elif name in ("data", "result"):
            fields.append(json.loads(value))
        else:
            fields.append(value)
    return fields


def _step(
    machine: Machine, at: float, call: str, args: list[Json], extra: dict[str, Json]
) -> dict[str, Json]:
    given = [Position(*value) if isinstance(value, list) else value for value in args]
    when = [at, extra["wall"]] if "wall" in extra else [at]
    if call == "subscribe":
        given[2:2] = when
    else:
        given += when
    result = getattr(machine, call)(*given, **extra.get("kwargs", {}))
    outputs = [encode(output) for output in machine.outputs]
    machine.outputs.clear()
    step = {"at": at, **extra, "call": call, "args": args}
    if result is not None:
        step["result"] = result
    return {**step, "outputs": outputs, "next_deadline": machine.next_deadline()}


class Recorder:
    """Plays to a machine. ``now`` is the time, ``last`` the outputs of the last step."""

    def __init__(self, options: dict[str, Json], machine: dict[str, Json], draws: tuple[float, ...]) -> None:
        self.options = {**_CALM, **options}
        self.arguments = {**_MACHINE, **machine}
        self.machine = _machine(self.options, self.arguments, draws)
        self.steps: list[dict[str, Json]] = []
        self.now = 0.0
        self._slept = 0.0

    def _call(self, call: str, *args: Json, **extra: Json) -> Any:
        self.steps.append(_step(self.machine, self.now, call, list(args), extra))
        return self.steps[-1].get("result")

    # -- inputs ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._call("start")

    def close(self) -> None:
        self._call("close")

    def subscribe(self, channel: str = "a", since: Json = None, token: str = "") -> None:
        self._call("subscribe", channel, since, *([token] if token else []))

    def unsubscribe(self, channel: str = "a") -> None:
        self._call("unsubscribe", channel)

    def pause(self, channel: str = "a") -> None:
        self._call("pause", channel)

    def resume(self, channel: str = "a") -> None:
        self._call("resume", channel)

    def publish(self, data: Json = 1, channel: str = "a", encoding: str = "") -> str:
        key: str = self._call("publish", channel, json.dumps(data), encoding)
        return key

    def request(self, method: str, body: dict[str, Json]) -> int:
        id: int = self._call("request", method, body)
        return id

    def token(self, token: str) -> None:
        self._call("token", token)

    def no_token(self, reason: str = "nobody is logged in") -> None:
        self._call("no_token", reason)

    def hint(self, kind: Hint) -> None:
        self._call("hint", kind)

    def received(self, generation: int, *messages: Json) -> None:
        """Input of the server; a text goes as it is."""
        lines = [one if isinstance(one, str) else json.dumps(one, separators=(",", ":")) for one in messages]
        self._call("received", generation, "\n".join(lines))

    def sent(self, generation: int) -> None:
        self._call("sent", generation)

    def polled(self, generation: int, *messages: Json) -> None:
        """The answer of a poll, where there is one, and that the poll has ended."""
        if messages:
            self.received(generation, *messages)
        self._call("polled", generation)

    def lost(self, generation: int, code: int = 1006, reason: str = "", **kwargs: Json) -> None:
        self._call("lost", generation, code, reason, **({"kwargs": kwargs} if kwargs else {}))

    # -- time ------------------------------------------------------------------------------------------------

    def after(self, seconds: float) -> None:
        """Let time pass, and call the machine at its deadlines."""
        until = self.now + seconds
        while (due := self.machine.next_deadline()) is not None and due <= until:
            self.now = max(due, self.now)
            self.look()
        self.now = until

    def to_deadline(self) -> None:
        """Let time pass to the next deadline."""
        due = self.machine.next_deadline()
        assert due is not None
        self.after(max(0.0, due - self.now))

    def sleep(self, seconds: float) -> None:
        """Let time pass only on the wall clock, without calling the machine: as in a laptop that is shut."""
        self._slept += seconds

    def look(self) -> None:
        """Call `handle_deadline`, due or not."""
        self._call("handle_deadline", wall=self.arguments["wall"] + self.now + self._slept)

    # -- outputs ---------------------------------------------------------------------------------------------

    @property
    def last(self) -> list[list[Json]]:
        outputs: list[list[Json]] = self.steps[-1]["outputs"]
        return outputs

    def fields(self, kind: str, *, last: int = 0) -> list[list[Json]]:
        """Return the fields of all outputs of a kind, or of those in the last steps."""
        return [output[1:] for step in self.steps[-last:] for output in step["outputs"] if output[0] == kind]

    def state(self) -> str:
        return self.machine.state.value

    def kinds(self) -> list[str]:
        """Return the names of the outputs of the last step."""
        return [output[0] for output in self.last]


def replay(scenario: dict[str, Json]) -> Iterator[tuple[dict[str, Json], dict[str, Json]]]:
    """Play a written scenario to a new machine. Yield each step as written, and as it is now."""
    machine = _machine(scenario["options"], scenario["machine"], tuple(scenario["draws"]))
    for step in scenario["steps"]:
        extra = {name: step[name] for name in ("wall", "kwargs") if name in step}
        yield step, _step(machine, step["at"], step["call"], step["args"], extra)


def dump(scenarios: list[dict[str, Json]]) -> str:
    """Return the text of a file, with a step a line."""

    def line(value: Json) -> str:
        return json.dumps(value, ensure_ascii=False)

    parts = []
    for scenario in scenarios:
        head = [f"{line(name)}: {line(scenario[name])}" for name in ("name", "options", "machine", "draws")]
        steps = ",\n".join(f"    {line(step)}" for step in scenario["steps"])
        parts.append("{" + ",\n  ".join(head) + f',\n  "steps": [\n{steps}\n  ]' + "}")
    return "[\n" + ",\n".join(parts) + "\n]\n"
