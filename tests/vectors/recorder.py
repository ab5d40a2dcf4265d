"""A client's machine whose every input and output is written down, so that another implementation can be held
to the same.

A file of vectors is a list of scenarios; a scenario is told to a new machine, made with ``options`` (what
differs from the defaults) and ``machine`` (its other arguments), whose chance is ``draws``, again and again.
A step calls a method of the machine:

    at              when: the argument ``now``, which comes last in Python
    wall            only of `handle_deadline`: the clock on the wall
    call, args      the method and its arguments, in Python's order; ``since`` is null, "earliest" or [epoch,
    offset] kwargs          those of `lost` that have names
    result          what it returned, where that is something
    outputs         what was to be done: the name of its class, then its fields. A frame is a list of
    commands, and data is not
                    the text but the JSON value that it says
    next_deadline   what the machine says then
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
"""So that a step is an event. Those who want to see the ticks say so."""


class Scenario(NamedTuple):
    """What is told, in words and in calls."""

    name: str
    options: dict[str, Json]
    machine: dict[str, Json]
    draws: tuple[float, ...]
    tell: "Callable[[Recorder], None]"

    def record(self) -> dict[str, Json]:
        """Have it told to a machine, and write down what happens."""
        recorder = Recorder(self.options, self.machine, self.draws)
        self.tell(recorder)
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
    """As it is after it has been JSON."""
    return json.loads(json.dumps(value))


def _machine(options: dict[str, Json], arguments: dict[str, Json], draws: tuple[float, ...]) -> Machine:
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    values: Any = given
    made = Options(**values)
    check_options(made)
    chances = cycle(draws)
    return Machine(made, draw=lambda: next(chances), **arguments)


def encode(output: Any) -> list[Json]:
    """An output as the vectors have it. A note is its text."""
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
    """Speaks to a machine. ``now`` is the time; ``last`` what was to be done after the last step."""

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
        """What the server says; a text is said as it is."""
        lines = [one if isinstance(one, str) else json.dumps(one, separators=(",", ":")) for one in messages]
        self._call("received", generation, "\n".join(lines))

    def sent(self, generation: int) -> None:
        self._call("sent", generation)

    def polled(self, generation: int, *messages: Json) -> None:
        """The answer of a poll, where there is one, and that it was one."""
        if messages:
            self.received(generation, *messages)
        self._call("polled", generation)

    def lost(self, generation: int, code: int = 1006, reason: str = "", **kwargs: Json) -> None:
        self._call("lost", generation, code, reason, **({"kwargs": kwargs} if kwargs else {}))

    # -- time ------------------------------------------------------------------------------------------------

    def after(self, seconds: float) -> None:
        """Let time pass; the machine is called at its deadlines, as it asked."""
        until = self.now + seconds
        while (due := self.machine.next_deadline()) is not None and due <= until:
            self.now = max(due, self.now)
            self.look()
        self.now = until

    def to_deadline(self) -> None:
        """Let time pass to the next one."""
        due = self.machine.next_deadline()
        assert due is not None
        self.after(max(0.0, due - self.now))

    def sleep(self, seconds: float) -> None:
        """Time passes, but the machine is not called, nor does the monotonic clock know of it: as in a laptop
        that is shut."""
        self._slept += seconds

    def look(self) -> None:
        """Call it, deadline or not."""
        self._call("handle_deadline", wall=self.arguments["wall"] + self.now + self._slept)

    # -- what came of it -------------------------------------------------------------------------------------

    @property
    def last(self) -> list[list[Json]]:
        outputs: list[list[Json]] = self.steps[-1]["outputs"]
        return outputs

    def fields(self, kind: str, *, last: int = 0) -> list[list[Json]]:
        """All outputs of a kind so far, or of the last steps; without its name."""
        return [output[1:] for step in self.steps[-last:] for output in step["outputs"] if output[0] == kind]

    def state(self) -> str:
        return self.machine.state.value

    def kinds(self) -> list[str]:
        """What was to be done after the last step, by name."""
        return [output[0] for output in self.last]


def replay(scenario: dict[str, Json]) -> Iterator[tuple[dict[str, Json], dict[str, Json]]]:
    """Tell a written scenario to a new machine: each step as it was written, and as it is now."""
    machine = _machine(scenario["options"], scenario["machine"], tuple(scenario["draws"]))
    for step in scenario["steps"]:
        extra = {name: step[name] for name in ("wall", "kwargs") if name in step}
        yield step, _step(machine, step["at"], step["call"], step["args"], extra)


def dump(scenarios: list[dict[str, Json]]) -> str:
    """As a file that can be read: a step a line."""

    def line(value: Json) -> str:
        return json.dumps(value, ensure_ascii=False)

    parts = []
    for scenario in scenarios:
        head = [f"{line(name)}: {line(scenario[name])}" for name in ("name", "options", "machine", "draws")]
        steps = ",\n".join(f"    {line(step)}" for step in scenario["steps"])
        parts.append("{" + ",\n  ".join(head) + f',\n  "steps": [\n{steps}\n  ]' + "}")
    return "[\n" + ",\n".join(parts) + "\n]\n"
