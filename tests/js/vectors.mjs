// Feeds files of vectors (tests/vectors/recorder.py has their format) to the machine of heartwire.js, and
// compares its outputs step by step: node vectors.mjs heartwire.js FILE... The files have the names of
// Python; they are translated here.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { isDeepStrictEqual } from "node:util";

const [module, ...files] = process.argv.slice(2);
const { DEFAULTS, internals } = await import(pathToFileURL(module).href);
const { Machine, closedByHttp, noteText, retryAfterS, verdict } = internals;

const KEPT = { Answered: 3, Delivered: 8, Message: 2 }; // of both machines; here a source comes after it
const FRAME = { Open: 3, Send: 2, Poll: 2 }; // where in such an output the frame is

const inJs = name => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
const namesInJs = object =>
  Object.fromEntries(Object.entries(object).map(([name, value]) => [inJs(name), value]));

/** The options that a text names, in JavaScript's names. */
const wordsInJs = text =>
  text.replace(/\b[a-z]+(_[a-z]+)+\b/g, name => (inJs(name) in DEFAULTS ? inJs(name) : name));

/**
 * What does not depend on the language. Each JSON parser describes a frame that is not of the protocol in its
 * own words.
 */
function plain(value) {
  if (typeof value === "string") return wordsInJs(value).replace(/(not of the protocol: ).*/s, "$1");
  return Array.isArray(value) ? value.map(plain) : value;
}

/** An output as the vectors have it. */
function recorded(output) {
  const [name, ...fields] = output;
  if (name === "Note") return [name, noteText(...fields)];
  const at = FRAME[name];
  if (at === undefined) return output.slice(0, KEPT[name]);
  return output.with(at, output[at] ? output[at].split("\n").map(line => JSON.parse(line)) : []);
}

function take(machine, { at, wall, call, args, kwargs }) {
  if (call === "handle_deadline") return machine.handleDeadline(at, wall);
  const given = args.map(value => (Array.isArray(value) ? { epoch: value[0], offset: value[1] } : value));
  if (call === "hint") given[0] = inJs(given[0]);
  return machine[inJs(call)](at, ...given, ...(kwargs ? [namesInJs(kwargs)] : []));
}

function* divergences({ options, machine: given, draws, steps }) {
  let drawn = 0;
  const draw = () => draws[drawn++ % draws.length];
  const surroundings = { prefix: "key", now: 0, wall: 1000, ...namesInJs(given), draw };
  const machine = new Machine(namesInJs(options), surroundings);
  for (const [n, step] of steps.entries()) {
    const result = take(machine, step);
    const outputs = machine.outputs.splice(0).map(recorded);
    const found = { result, outputs, next_deadline: machine.nextDeadline() };
    const isSame =
      result === step.result &&
      found.next_deadline === step.next_deadline &&
      isDeepStrictEqual(plain(outputs), plain(step.outputs));
    if (!isSame) {
      yield { n, step, found };
      return; // what follows would only repeat it
    }
  }
}

/** wire.json: single functions on what comes over the wire. `replies` are in the machine's scenarios here. */
const WIRE = {
  closed_by_http: ({ status, body, code, reason }) =>
    isDeepStrictEqual([...closedByHttp(status, body)], [code, reason]),
  retry_after_s: ({ reason, seconds }) => retryAfterS(reason) === seconds,
  verdict: ({ code, verdict: expected }) => verdict(code) === expected,
};

function* wireDivergences(scenario) {
  for (const [name, holds] of Object.entries(WIRE))
    for (const step of scenario[name]) if (!holds(step)) yield { n: name, step, found: null };
}

let scenarios = 0;
let problems = 0;
for (const file of files) {
  for (const scenario of [JSON.parse(readFileSync(file, "utf8"))].flat()) {
    scenarios++;
    for (const { n, step, found } of scenario.steps ? divergences(scenario) : wireDivergences(scenario)) {
      problems++;
      const both = `  ${JSON.stringify(step)}\nhere:\n  ${JSON.stringify(found)}`;
      console.error(`${file}: ${scenario.name}: step ${n} differs\n${both}`);
    }
  }
}
console.log(`${scenarios} scenarios, ${problems} of them differ here`);
process.exitCode = problems || !scenarios ? 1 : 0;
