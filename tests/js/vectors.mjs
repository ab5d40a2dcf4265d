// Tells what is written in files of vectors (tests/vectors/recorder.py has their format) to the machine of heartwire.js, and
// compares what it says, step by step: node vectors.mjs heartwire.js FILE...
import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { pathToFileURL } from "node:url";

const [module, ...files] = process.argv.slice(2);
const { Machine, closedByHttp, retryAfter, verdict } = (await import(pathToFileURL(module))).internals;

const FRAME = { Open: 3, Send: 2, Poll: 2 }; // where in such an output the frame stands

const inJs = name => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());

/** What is wrong with a frame that is not of the protocol, each JSON parser says in its own words. */
function plain(value) {
  if (typeof value === "string") return value.replace(/(not of the protocol: ).*/s, "$1");
  return Array.isArray(value) ? value.map(plain) : value;
}

function told(output) {
  const at = FRAME[output[0]];
  if (at === undefined) return output;
  return output.with(at, output[at] ? output[at].split("\n").map(line => JSON.parse(line)) : []);
}

function take(machine, { at, wall, call, args, kwargs }) {
  if (call === "handle_deadline") return machine.handleDeadline(at, wall);
  const given = args.map(value => (Array.isArray(value) ? { epoch: value[0], offset: value[1] } : value));
  return machine[inJs(call)](at, ...given, ...(kwargs ? [kwargs] : []));
}

function* divergences({ options, machine: given, draws, steps }) {
  let drawn = 0;
  const draw = () => draws[drawn++ % draws.length];
  const machine = new Machine(options, { prefix: "key", now: 0, wall: 1000, ...given, draw });
  for (const [n, step] of steps.entries()) {
    const result = take(machine, step);
    const outputs = machine.outputs.splice(0).map(told);
    const said = { result, outputs, next_deadline: machine.nextDeadline() };
    const isSame =
      result === step.result &&
      said.next_deadline === step.next_deadline &&
      isDeepStrictEqual(plain(outputs), plain(step.outputs));
    if (!isSame) {
      yield { n, step, said };
      return; // what follows would only repeat it
    }
  }
}

/** wire.json: what single functions make of what comes over the wire. `replies` are in the machine's scenarios here. */
const WIRE = {
  closed_by_http: ({ status, body, code, reason }) => isDeepStrictEqual([...closedByHttp(status, body)], [code, reason]),
  retry_after_s: ({ reason, seconds }) => retryAfter(reason) === seconds,
  verdict: ({ code, verdict: expected }) => verdict(code) === expected,
};

function* wireDivergences(found) {
  for (const [name, holds] of Object.entries(WIRE))
    for (const step of found[name]) if (!holds(step)) yield { n: name, step, said: null };
}

let scenarios = 0;
let problems = 0;
for (const file of files) {
  const found = JSON.parse(readFileSync(file, "utf8"));
  for (const scenario of [found].flat()) {
    scenarios++;
    for (const { n, step, said } of scenario.steps ? divergences(scenario) : wireDivergences(scenario)) {
      problems++;
      console.error(`${file}: ${scenario.name}: step ${n} is another\n  ${JSON.stringify(step)}\nhere:\n  ${JSON.stringify(said)}`);
    }
  }
}
console.log(`${scenarios} scenarios, ${problems} of them are told otherwise here`);
process.exitCode = problems || !scenarios ? 1 : 0;
