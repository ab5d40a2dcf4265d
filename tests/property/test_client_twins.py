"""The client's machine in Python and its twin in heartwire.js, told the same random stories, say the same."""

import json
import random
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import pytest

from heartwire.client.machine import Machine
from heartwire.client.options import TRANSPORTS, Options
from heartwire.types import Position
from tests.js.node import node
from tests.vectors.recorder import encode

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
CHANNELS: Final = ("a", "b", "é:𝄞", "__proto__")
SEEDS: Final = 300
_AFTER: Final = "come back; retry_after_ms=1500"

Json = Any


class Story:
    """A machine that random things happen to: each is written down, in the format of `tests.vectors`."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.name = f"seed {seed}"
        self.options = self._options()
        self.has_tokens = self.chance.random() < 0.3
        data = self.chance.choice([None, {"who": "ä"}])
        self.arguments: dict[str, Json] = {
            "prefix": "p",
            "now": 0.0,
            "wall": 1000.0,
            "has_tokens": self.has_tokens,
            "token": "",
            "data": data,
        }
        self.draws = [self.chance.random() for _ in range(7)]
        draws = cycle(self.draws)
        self.machine = Machine(Options(**self.options), draw=lambda: next(draws), **self.arguments)
        self.steps: list[Json] = []
        self.now = 0.0
        self.ahead = 1000.0
        self.asked: dict[int, list[Json]] = {}  # what the server has to answer, by generation
        self.out: dict[int, list[str]] = {}  # requests that are out: "send" or "poll"
        self.transports: dict[int, str] = {}
        self.offset = dict.fromkeys(CHANNELS, 0)
        self.epoch = "e"

    def _options(self) -> dict[str, Json]:
        chance = self.chance
        transports = tuple(name for name in TRANSPORTS if chance.random() < 0.6) or ("websocket",)
        options: dict[str, Json] = {"transports": transports, "tick_s": chance.choice([1, 30, 3600])}
        if chance.random() < 0.3:
            options["first_transport"] = chance.choice(transports)
        some = {
            "max_pending_items": 5,
            "max_pending_bytes": 40,
            "max_in_flight": 2,
            "max_message_bytes": 12,
            "max_pending_age_s": 7.5,
            "request_timeout_s": 2.5,
            "attempt_burst": 50,
            "stable_after_s": 2,
            "poll_wait_s": 20,
            "upgrade_after_s": 3,
            "open_timeout_s": 1,
        }
        return options | {name: value for name, value in some.items() if chance.random() < 0.25}

    # -- writing it down -------------------------------------------------------------------------------------

    def call(self, name: str, *args: Json, **more: Json) -> None:
        """Have one thing happen."""
        step: dict[str, Json] = {"at": self.now, **more, "call": name, "args": list(args)}
        given = [Position(*one) if isinstance(one, list) else one for one in args]
        when = [self.now, more["wall"]] if "wall" in more else [self.now]
        at = {"subscribe": 2, "publish": 3}.get(name, len(given))
        given[at:at] = when
        result = getattr(self.machine, name)(*given, **more.get("kwargs", {}))
        if result is not None:
            step["result"] = result
        step["outputs"] = [encode(output) for output in self.machine.outputs]
        self.machine.outputs.clear()
        step["next_deadline"] = self.machine.next_deadline()
        self.steps.append(step)
        for output in step["outputs"]:
            self._note(*output)

    def _note(self, name: str, *fields: Json) -> None:
        if name == "Close":
            for by_generation in (self.asked, self.out, self.transports):
                by_generation.pop(fields[0], None)
        elif name == "Open":
            generation, transport, frame = fields
            self.transports[generation] = transport
            self.asked[generation] = list(frame)
            self.out[generation] = []
        elif name in ("Send", "Poll"):
            self.asked[fields[0]] += fields[1]
            if name == "Poll" or self.transports[fields[0]] != "websocket":
                self.out[fields[0]].append(name)

    # -- what may happen -------------------------------------------------------------------------------------

    def tell(self) -> dict[str, Json]:
        """The whole story."""
        self.call("start")
        kinds = [
            (12, self.time),
            (14, self.answer),
            (4, self.pushed),
            (4, self.publish),
            (3, self.follow),
            (1, self.question),
            (1, self.hint),
            (1, self.lost),
            (1, self.cut),
            (1, self.elsewhere),
            (1, self.token),
            (0.2, self.nonsense),
            (0.04, self.close),
        ]
        weights, things = zip(*kinds, strict=True)
        for thing in self.chance.choices(things, weights, k=150):
            thing()
        options = {
            name: list(value) if isinstance(value, tuple) else value for name, value in self.options.items()
        }
        story = {
            "name": self.name,
            "options": options,
            "machine": self.arguments,
            "draws": self.draws,
            "steps": self.steps,
        }
        return story

    def time(self) -> None:
        due = self.machine.next_deadline()
        if due is not None and self.chance.random() < 0.7:
            self.now = max(self.now, due) + self.chance.choice([0, 0, 0.01, 4])
        else:
            self.now += self.chance.random() * self.chance.choice([0.1, 1, 10])
        if self.chance.random() < 0.05:
            self.ahead += 100
        self.call("handle_deadline", wall=self.ahead + self.now)

    def answer(self) -> None:
        """The server answers all or some of what it was asked on one connection."""
        generations = [
            generation for generation in self.asked if self.asked[generation] or self.out[generation]
        ]
        if not generations:
            return
        generation = self.chance.choice(generations)
        asked = self.asked[generation]
        count = len(asked) if self.out[generation] else self.chance.randint(0, len(asked))
        taken, self.asked[generation] = asked[:count], asked[count:]
        lines = [json.dumps(reply) for command in taken if (reply := self.reply(command))]
        if lines:
            self.call("received", generation, "\n".join(lines))
        for name in self.out.get(generation, []):
            if generation in self.out:
                self.out[generation].remove(name)
                self.call("polled" if name == "Poll" else "sent", generation)

    def reply(self, command: dict[str, Json]) -> Json:
        if "id" not in command:
            return None
        method = next(name for name in command if name != "id")
        if self.chance.random() < 0.06:
            code, temporary = self.chance.choice(
                [(100, True), (111, True), (103, False), (109, False), (101, False)]
            )
            message = self.chance.choice(["no", _AFTER])
            return {"id": command["id"], "error": {"code": code, "message": message, "temporary": temporary}}
        make: Callable[[Json], Json] = getattr(self, f"_{method}", lambda body: {})
        return {"id": command["id"], method: make(command[method])}

    def _connect(self, body: Json) -> Json:
        result = {
            "client": "c",
            "ping": self.chance.choice([0, 25, 4.5]),
            "session": "s",
            "node": "n",
            "data": {"x": 1},
        }
        if self.chance.random() < 0.3:
            result |= {"expires": True, "ttl": self.chance.choice([5, 60])}
        if self.chance.random() < 0.3:
            result["subs"] = {"a": self._subscribe({"channel": "a", **body.get("subs", {}).get("a", {})})}
        return result

    def _subscribe(self, body: Json) -> Json:
        channel = body["channel"]
        if self.chance.random() < 0.1:
            return {}
        if self.chance.random() < 0.05:
            self.epoch += "e"
        top = self.offset[channel]
        result = {"epoch": self.epoch, "offset": top, "recoverable": True}
        if body.get("recover"):
            since = body["offset"]
            recovered = body["epoch"] in (self.epoch, "") and self.chance.random() < 0.8
            result |= {"was_recovering": True, "recovered": recovered}
            if recovered:
                first = (
                    max(top, since + 1) if self.chance.random() < 0.1 else since + 1
                )  # in cache mode, the newest
                result["publications"] = [
                    self._pub(channel, n) for n in range(first, min(top, first + 299) + 1)
                ]
        return result

    def _pub(self, channel: str, offset: int) -> Json:
        pub: dict[str, Json] = {"data": {"n": offset, "text": "ü𝄞"}, "offset": offset}
        if self.chance.random() < 0.3:
            pub |= {"tags": {"encoding": self.chance.choice(["text", "base64"])}, "data": "aGk="}
        if self.chance.random() < 0.3:
            pub["info"] = {"user": "u", "client": "c", "conn_info": {"a": [1]}}
        return pub

    def _publish(self, body: Json) -> Json:
        self.offset[body["channel"]] += 1
        return (
            {"epoch": self.epoch, "offset": self.offset[body["channel"]]}
            if self.chance.random() < 0.8
            else {}
        )

    def _refresh(self, body: Json) -> Json:
        return {"expires": True, "ttl": 10}

    def _rpc(self, body: Json) -> Json:
        return {"data": [body]}

    def pushed(self) -> None:
        """The server says something by itself; also on connections that are no more."""
        generation = self.chance.choice([*self.asked, 1])
        channel = self.chance.choice(CHANNELS)
        kind = self.chance.choices(
            ["pub", "ping", "unsubscribe", "disconnect", "subscribe", "message"], [20, 6, 1, 1, 1, 1]
        )[0]
        if kind == "pub":
            self.offset[channel] += self.chance.choice([1, 1, 1, 1, 2, 0])
            push: Json = {"push": {"channel": channel, "pub": self._pub(channel, self.offset[channel])}}
        elif kind == "ping":
            push = {}
        elif kind == "unsubscribe":
            push = {
                "push": {"channel": channel, kind: {"code": self.chance.choice([2000, 2500]), "reason": "so"}}
            }
        elif kind == "disconnect":
            code = self.chance.choice([1012, 1013, 3000, 3005, 3500, 3010, 1009])
            push = {"push": {kind: {"code": code, "reason": self.chance.choice(["go", _AFTER])}}}
        elif kind == "subscribe":
            push = {"push": {"channel": channel, kind: self._subscribe({"channel": channel})}}
        else:
            push = {"push": {kind: {"data": {"hello": None}}}}
        self.call("received", generation, json.dumps(push))

    def publish(self) -> None:
        data = self.chance.choice(["1", '"ä𝄞"', '{"a": [1.5, null]}', '"text that is long"'])
        key = self.chance.choice([(), (), ("a key",)])
        self.call(
            "publish",
            self.chance.choice(CHANNELS),
            data,
            self.chance.choice(["", "", "text", "base64"]),
            *key,
        )

    def follow(self) -> None:
        channel = self.chance.choice(CHANNELS)
        what = self.chance.choice(["subscribe", "subscribe", "unsubscribe", "pause", "resume", "resume"])
        if what == "subscribe":
            since = self.chance.choice([None, "earliest", ["e", self.chance.randint(0, 3)]])
            self.call(what, channel, since, *self.chance.choice([(), ("sesame",)]))
        else:
            self.call(what, channel)

    def question(self) -> None:
        method = self.chance.choice(["presence", "presence_stats", "history", "rpc"])
        self.call(
            "request", method, {"channel": "a"} if method != "rpc" else {"method": "m", "data": {"x": 1}}
        )

    def hint(self) -> None:
        self.call("hint", self.chance.choice(["network_down", "network_up", "wake"]))

    def lost(self) -> None:
        generation = self.chance.choice([*self.asked, 1])
        kwargs: dict[str, Json] = {}
        if self.chance.random() < 0.4:
            kwargs["is_reachable"] = False
        if self.chance.random() < 0.5:
            kwargs["was_poll"] = True
        if self.chance.random() < 0.3:
            kwargs["after_s"] = 2.5
        code = self.chance.choice([1006, 1006, 1006, 1012, 1013, 3500, 3507, 1000])
        self.call(
            "lost", generation, code, self.chance.choice(["gone", _AFTER, "retry_after_ms=1x"]), kwargs=kwargs
        )

    def cut(self) -> None:
        """Something in between ends a request that was held for long."""
        held = [generation for generation, names in self.out.items() if "Poll" in names]
        if held:
            generation = self.chance.choice(held)
            self.now += self.chance.choice([1, 2, 5.5, 12.5])
            self.out[generation].remove("Poll")
            self.call("lost", generation, 1006, "cut", kwargs={"was_poll": True})

    def elsewhere(self) -> None:
        """Others publish while we do not look."""
        self.offset[self.chance.choice(CHANNELS)] += self.chance.choice([1, 3, 350])

    def token(self) -> None:
        if self.has_tokens:
            self.call(*self.chance.choice([("token", "t"), ("token", "t2"), ("no_token", "none here")]))

    def nonsense(self) -> None:
        generation = self.chance.choice([*self.asked, 1])
        self.call(
            "received",
            generation,
            self.chance.choice(["{", '{"id":"1"}', "[]", '{}\n{"push":{"pub":1}}', '{"id":1}x']),
        )

    def close(self) -> None:
        self.call("close")


def test_both_have_the_same_options(tmp_path: Path) -> None:
    program = tmp_path / "defaults.mjs"
    program.write_text(
        """const { DEFAULTS } = await import(process.argv[2]);
           const inPython = name => name.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`);
           const entries = Object.entries(DEFAULTS).map(([name, value]) => [inPython(name), value]);
           console.log(JSON.stringify(Object.fromEntries(entries)));"""
    )
    assert json.loads(node(program).stdout) == json.loads(json.dumps(Options()._asdict()))


def test_both_say_the_same(tmp_path: Path) -> None:
    file = tmp_path / "stories.json"
    stories = [Story(seed).tell() for seed in range(SEEDS)]
    file.write_text(json.dumps(stories))
    kinds = {output[0] for story in stories for step in story["steps"] for output in step["outputs"]}
    assert len(kinds) == 18, f"some outputs never come about: there are {sorted(kinds)}"
    done = node("vectors.mjs", file)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize(
    "file", sorted((ROOT / "tests" / "vectors").glob("*.json")), ids=lambda path: path.stem
)
def test_vectors(file: Path) -> None:
    done = node("vectors.mjs", file)
    assert done.returncode == 0, done.stderr[-4000:]
