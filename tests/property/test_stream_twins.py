"""How durable streams are read and appended to, in Python and in heartwire.js: told the same random stories,
both say the same."""

import base64
import random
from typing import Any, Final

from heartwire.client.options import Options
from heartwire.client.streams_producing import Producing
from heartwire.client.streams_reading import Reading
from heartwire.client.streams_wire import Answer, Lost, Retry, cut_events
from heartwire.errors import HeartwireError
from tests.js.runtime import in_node

SEEDS: Final = 300
TYPES: Final = (
    "application/json",
    "text/plain; charset=utf-8",
    "application/octet-stream",
    "Application/JSON",
)
OFFSETS: Final = ("-1", "1", "2", "3")
STATUSES: Final = (200, 200, 200, 200, 204, 204, 400, 401, 403, 404, 409, 410, 413, 429, 500, 501, 503)

Json = Any


def a_body(chance: random.Random, kind: str) -> str:
    if kind == TYPES[0]:
        return chance.choice(["[]", '[1, "é"]', '[{"a": [null]}]', "{}", "[1"]).encode().hex()
    return chance.choice(["", "a", "é€𝄞", "\ufeffb"]).encode()[chance.randrange(3) :].hex() + chance.choice(
        ["", "", "c3", "e282", "f09d84", "ff", "80"]
    )


def an_answer(chance: random.Random) -> Json:
    kind = chance.choice(TYPES)
    headers = {"Content-Type": kind, "Stream-Next-Offset": chance.choice(OFFSETS)}
    others = {
        "Stream-Up-To-Date": chance.choice(["true", "TRUE", "no"]),
        "Stream-Closed": chance.choice(["true", "false", "no"]),
        "Stream-Cursor": "7",
        "Retry-After": chance.choice(["3", "soon"]),
        "Producer-Epoch": chance.choice("013"),
        "Producer-Seq": chance.choice("012"),
        "Producer-Expected-Seq": "0",
    }
    headers |= {name: value for name, value in others.items() if chance.random() < 0.3}
    if chance.random() < 0.1:
        del headers["Stream-Next-Offset"]
    return {"status": chance.choice(STATUSES), "headers": headers, "body": a_body(chance, kind)}


def a_reading(chance: random.Random) -> Json:
    steps: list[Json] = []
    for _ in range(chance.randrange(1, 12)):
        steps.append({"call": "query"})
        for _ in range(chance.randrange(3)):
            data = chance.choice(["[1]", "[2, 3]", "text\n", "[]"])
            steps.append({"call": "event", "name": chance.choice(["data", "data", "other"]), "data": data})
            control: Json = {"streamNextOffset": chance.choice(OFFSETS)}
            control |= {name: True for name in ("upToDate", "streamClosed") if chance.random() < 0.2}
            steps.append({"call": "control", "control": control})
        if chance.random() < 0.7:
            steps.append({"call": "answered", "answer": an_answer(chance)})
    live = chance.choice([True, True, True, False, "long-poll"])
    return {"live": live, "offset": chance.choice(OFFSETS), "steps": steps}


def a_producing(chance: random.Random) -> Json:
    steps: list[Json] = []
    for _ in range(chance.randrange(1, 20)):
        call = chance.choice(["add", "add", "take", "close"] if chance.random() < 0.2 else ["add", "take"])
        steps.append({"call": call, "size": chance.choice([1, 5, 40_000])})
        if call == "take":
            steps.append({"call": "answered", "answer": an_answer(chance)})
    flags = {name: chance.random() < 0.5 for name in ("isNew", "canClaim", "isJson")}
    return {"steps": steps, **flags}


def failure(error: Exception) -> Json:
    if isinstance(error, Lost):
        return ["lost", error.after_s]
    assert isinstance(error, HeartwireError)
    return ["error", error.code.name]


def shown(values: Any) -> Json:
    return [base64.b64encode(one).decode() if isinstance(one, bytes) else one for one in values]


def parsed(answer: Json) -> Answer:
    return Answer(answer["status"], answer["headers"], bytes.fromhex(answer["body"]))


def read(story: Json) -> Json:
    now = 0.0
    retry = Retry(Options(), lambda: 0.5, now)
    one = Reading(story["offset"], story["live"], retry, stable_after_s=10)
    told: list[Json] = []
    for n, step in enumerate(story["steps"]):
        now += n % 3 * 0.4
        try:
            match step:
                case {"call": "query"}:
                    told.append(one.query(now))
                case {"call": "event", "name": name, "data": data}:
                    told.append(shown(one.event(name, data, now)))
                case {"call": "control", "control": control}:
                    text = f'{{"streamNextOffset": "{control["streamNextOffset"]}"'
                    text += "".join(f', "{name}": true' for name in list(control)[1:]) + "}"
                    told.append(shown(one.event("control", text, now)))
                case {"call": "answered", "answer": answer}:
                    told.append(shown(one.answered(parsed(answer), now)))
        except Lost as lost:
            told.append([failure(lost), round(one.lost(lost, now), 6)])
        except HeartwireError as error:
            told.append(failure(error))
        told.append([one.offset, one.is_over, one.is_closed, one.is_live, one.is_sse])
    return told


def produce(story: Json) -> Json:
    options = Options(max_pending_items=3, max_pending_bytes=60_000)
    one = Producing("p", 0, options, is_new=story["isNew"], can_claim=story["canClaim"])
    one.is_json = story["isJson"]
    told: list[Json] = []
    is_out = False
    for step in story["steps"]:
        try:
            match step["call"]:
                case "add":
                    told.append(one.add(b"x" * step["size"]))
                case "close":
                    one.close()
                case "take" if not one.is_idle:
                    headers, body = one.take()
                    is_out = True
                    told.append([{name.lower(): value for name, value in headers.items()}, len(body)])
                case "answered" if is_out:
                    is_out = False
                    told.append(one.answered(parsed(step["answer"])))
        except (Lost, HeartwireError) as error:
            told.append(failure(error))
        told.append([one.is_idle, one.is_closed, one.offset, one.epoch])
    return told


JS: Final = """
const { Lost, Producing, Reading, Retry } = heartwire.internals;
const bytes = hex => Uint8Array.from(hex.match(/../g) ?? [], one => parseInt(one, 16));
const shown = values => values.map(one => (one instanceof Uint8Array ? Buffer.from(one).toString("base64") : one));
const parsed = ({ status, headers, body }) => ({ status, headers: new Headers(headers), body: bytes(body) });
const failure = error => {
  if (error instanceof Lost) return ["lost", error.afterS];
  if (error.reason) return ["error", error.reason];
  throw error;
};
const retry = () => new Retry(heartwire.DEFAULTS, () => 0.5, 0);

function read({ offset, live, steps }) {
  const one = new Reading(offset, live, retry(), 10);
  const told = [];
  let now = 0;
  for (const [n, { call, name, data, control, answer }] of steps.entries()) {
    now += (n % 3) * 0.4;
    try {
      if (call === "query") told.push(one.query(now));
      else if (call === "event") told.push(shown(one.event(name, data, now)));
      else if (call === "control") told.push(shown(one.event("control", JSON.stringify(control), now)));
      else told.push(shown(one.answered(parsed(answer), now)));
    } catch (error) {
      const failed = failure(error);
      told.push(failed[0] === "lost" ? [failed, Math.round(one.lost(error, now) * 1e6) / 1e6] : failed);
    }
    told.push([one.offset, one.isOver, one.isClosed, one.isLive, one.isSse]);
  }
  return told;
}

function produce({ isNew, canClaim, isJson, steps }) {
  const options = { maxPendingItems: 3, maxPendingBytes: 60000 };
  const one = new Producing("p", 0, { isNew, canClaim, options });
  one.isJson = isJson;
  const told = [];
  let isOut = false;
  for (const { call, size, answer } of steps) {
    try {
      if (call === "add") told.push(one.add(new Uint8Array(size)));
      else if (call === "close") one.close();
      else if (call === "take" && !one.isIdle) {
        const [headers, parts] = one.take();
        isOut = true;
        told.push([headers, new Blob(parts).size]);
      } else if (call === "answered" && isOut) {
        isOut = false;
        told.push(one.answered(parsed(answer)));
      }
    } catch (error) {
      told.push(failure(error));
    }
    told.push([one.isIdle, one.isClosed, one.offset, one.epoch]);
  }
  return told;
}
return [readings.map(read), producings.map(produce)];
"""


def test_both_say_the_same() -> None:
    chances = [random.Random(seed) for seed in range(SEEDS)]
    readings, producings = [a_reading(one) for one in chances], [a_producing(one) for one in chances]
    with in_node() as node:
        found = node.run(JS, readings=readings, producings=producings)
    for seed in range(SEEDS):
        assert found[0][seed] == read(readings[seed]), readings[seed]
        assert found[1][seed] == produce(producings[seed]), producings[seed]


def test_both_cut_events_at_the_same_places() -> None:
    text = ": c\r\n\r\nevent: data\ndata: [1,\ndata:2]\n\nevent:control\r\ndata: {}\r\n\r\ndata:  é\n\n\n\nevent: x\n"
    with in_node() as node:
        events, rest = node.run(
            "const { events, rest } = heartwire.internals.cutEvents(text); return [events, rest];", text=text
        )
    ours, left = cut_events(text.encode())
    assert ([tuple(one) for one in events], rest.encode()) == (ours, left)
