// Commands and replies of the Centrifugal protocol as JSON lines: heartwire/client/wire.py. Only names of the
// protocol are snake_case.

import { ABNORMAL, TOO_LARGE } from "./states.js";

export const PONG = "{}";

const encoder = new TextEncoder();

/** Characters in a frame of many commands: the server takes 1 MiB, proxies and phones take less. */
export const MAX_FRAME = 64 * 1024;

function fail(expected) {
  throw new SyntaxError(`expected ${expected}`);
}

const any = value => value;
const text = value => (typeof value === "string" ? value : fail("a string"));
const flag = value => (typeof value === "boolean" ? value : fail("true or false"));
const number = value => (Number.isFinite(value) ? value : fail("a number"));
const integer = value => (Number.isInteger(value) ? value : fail("an integer"));
const optional = of => value => (value === null ? null : of(value));
const list = of => value => (Array.isArray(value) ? value.map(of) : fail("an array"));
export const isObject = value => typeof value === "object" && value !== null && !Array.isArray(value);
const table = of => value =>
  isObject(value) ? new Map(Object.entries(value).map(([name, one]) => [name, of(one)])) : fail("an object");

/**
 * Reads the known fields of an object, checked, with defaults for those that are missing. Other fields belong
 * to other versions of the protocol.
 * @returns {(value: any) => any}
 */
function struct(fields) {
  const known = Object.entries(fields);
  return value => {
    if (!isObject(value)) fail("an object");
    const made = {};
    for (const [name, [check, missing]] of known)
      made[name] = value[name] === undefined ? missing : check(value[name]);
    return made;
  };
}

const aPub = struct({
  data: [any, null],
  offset: [integer, 0],
  tags: [table(text), new Map()],
  info: [optional(struct({ user: [text, ""], client: [text, ""] })), null],
});
const aSubscription = struct({
  epoch: [text, ""],
  offset: [integer, 0],
  recovered: [flag, false],
  was_recovering: [flag, false],
  publications: [list(aPub), []],
});
const aConnection = struct({
  client: [text, ""],
  subs: [table(aSubscription), new Map()],
  ping: [number, 0],
  expires: [flag, false],
  ttl: [number, 0],
  session: [text, ""],
  node: [text, ""],
});
const anEnd = struct({ code: [integer, 0], reason: [text, ""] });
const aLease = struct({ expires: [flag, false], ttl: [number, 0] });
const aPush = struct({
  channel: [text, ""],
  pub: [optional(aPub), null],
  unsubscribe: [optional(anEnd), null],
  disconnect: [optional(anEnd), null],
  subscribe: [optional(aSubscription), null],
  message: [optional(struct({ data: [any, null] })), null],
  refresh: [optional(aLease), null],
});
const aReply = struct({
  id: [integer, 0],
  error: [optional(struct({ code: [integer, 0], message: [text, ""], temporary: [flag, false] })), null],
  push: [optional(aPush), null],
  connect: [optional(aConnection), null],
  subscribe: [optional(aSubscription), null],
  publish: [optional(struct({ epoch: [text, ""], offset: [integer, 0] })), null],
  refresh: [optional(aLease), null],
  rpc: [any, {}],
  presence: [any, {}],
  presence_stats: [any, {}],
  history: [any, {}],
});

/** Remembers where the data of publications stands, for `Publication.json`. */
function locate(line, pubs, ...path) {
  for (const [n, pub] of pubs.entries()) pub.source = [line, [...path, "publications", n, "data"]];
}

/** One line of the server: a reply where it has an id, else a push, else a ping. Throws `SyntaxError`. */
export function parseReply(line) {
  try {
    const reply = { ...aReply(JSON.parse(line)), line };
    const { push, subscribe, connect } = reply;
    if (push?.pub) push.pub.source = [line, ["push", "pub", "data"]];
    if (push?.message) push.message.source = [line, ["push", "message", "data"]];
    if (push?.subscribe) locate(line, push.subscribe.publications, "push", "subscribe");
    if (subscribe !== null) locate(line, subscribe.publications, "subscribe");
    for (const [name, one] of connect?.subs ?? []) locate(line, one.publications, "connect", "subs", name);
    return reply;
  } catch (error) {
    throw new SyntaxError(`${JSON.stringify(line.slice(0, 80))}: ${error.message}`);
  }
}

/** Characters as Python counts them: a pair of surrogates is one. */
export function characters(string) {
  if (!/[\ud800-\udbff]/.test(string)) return string.length;
  return string.length - (string.match(/[\ud800-\udbff][\udc00-\udfff]/g)?.length ?? 0);
}

/** Bytes as UTF-8. */
export const byteLength = string => encoder.encode(string).length;

/** One command. A body that is a string is JSON already. */
export const command = (id, method, body) =>
  `{"id":${id},"${method}":${typeof body === "string" ? body : JSON.stringify(body)}}`;

/**
 * Takes the first commands out of the list, as a frame of at most `MAX_FRAME`. A command that is larger goes
 * alone.
 */
export function takeFrame(commands) {
  let size = 0;
  let taken = 0;
  for (const one of commands) {
    size += characters(one) + 1;
    if (taken && size > MAX_FRAME) break;
    taken++;
  }
  return commands.splice(0, taken).join("\n");
}

/** The seconds to wait that the reason of a close or an error names: `…; retry_after_ms=1500`. Else 0. */
export function retryAfterS(reason) {
  const digits = /.*retry_after_ms=(\d{1,7})$/s.exec(reason);
  return digits ? Number(digits[1]) / 1000 : 0;
}

const HTTP_CODES = { 401: 3500, 403: 3507, 413: TOO_LARGE, 429: 1013, 503: 1013 };

/**
 * The close code and the reason that an HTTP answer stands for. An answer of something else than a Heartwire
 * server says nothing: 1006. But 413 means the same whoever sends it: a message that is too large for a proxy
 * must not be sent again and again.
 */
export function closedByHttp(status, body) {
  try {
    const { error } = struct({ error: [struct({ code: [text], message: [text] })] })(JSON.parse(body));
    if (error?.code !== undefined && error.message !== undefined)
      return [HTTP_CODES[status] ?? ABNORMAL, `${error.code}: ${error.message}`];
  } catch {
    // the page of a proxy, or nothing
  }
  return [status === 413 ? TOO_LARGE : ABNORMAL, `HTTP ${status}`];
}
