// Arguments of applications, checked before they can do harm: what a server cannot read would cost the
// connection, again on each new one, and with it what others have to say.

import { HeartwireError } from "./errors.js";
import { LIMIT_EXCEEDED } from "./states.js";
import { byteLength } from "./wire.js";

const FRAME_BYTES = 200; // of a publish beside its channel, its data and a key of the application's, at most

/** How many letters have to change for one name to become the other (Levenshtein). */
function distance(one, other) {
  let row = Array.from({ length: other.length + 1 }, (_, at) => at);
  for (const [n, letter] of [...one].entries()) {
    const next = [n + 1];
    for (let at = 1; at < row.length; at++)
      next.push(Math.min(row[at] + 1, next[at - 1] + 1, row[at - 1] + (letter === other[at - 1] ? 0 : 1)));
    row = next;
  }
  return row[other.length];
}

/** So that Python's name of an option, such as `ping_interval_s`, is near. */
const plainName = name => name.toLowerCase().replaceAll("_", "");

/**
 * Throws a `TypeError` for an option that does not exist, with the name that was probably meant.
 * @param {object} given
 * @param {string[]} known
 */
export function checkNames(given, known) {
  for (const name of Object.keys(given)) {
    if (known.includes(name)) continue;
    const distances = known.map(one => distance(plainName(one), plainName(name)));
    const least = Math.min(...distances);
    const hint =
      least <= 2
        ? `did you mean "${known[distances.indexOf(least)]}"?`
        : `the options are ${known.join(", ")}`;
    throw new TypeError(`unknown option "${name}": ${hint}`);
  }
}

/** Whether text holds half of a pair of surrogates, as `slice` makes it of an emoji: that is not UTF-8. */
const isHalved = text => /\p{Surrogate}/u.test(text);

/** Throws a `TypeError` for what is not text, or cannot be sent as UTF-8. */
export function checkText(name, text) {
  if (typeof text !== "string") throw new TypeError(`${name}: ${typeof text} is not a string`);
  if (isHalved(text))
    throw new TypeError(`${name}: ${JSON.stringify(text.slice(0, 64))} holds half a character`);
}

/** Throws a `TypeError` for a channel that no server takes. */
export function checkChannel(name) {
  checkText("channel", name);
  const size = byteLength(name);
  if (size < 1 || size > 255)
    throw new TypeError(`channel: ${size} bytes; a name has 1 to 255 bytes of UTF-8`);
  if (/\p{Cc}/u.test(name)) throw new TypeError(`channel: ${JSON.stringify(name)} holds a control character`);
}

/** Throws a `TypeError` unless it is of the type, or null. */
export function checkType(name, value, type) {
  if (value !== null && typeof value !== type)
    throw new TypeError(`${name}: ${typeof value} is not a ${type}`);
}

/** Throws a `TypeError` for what is not an `AbortSignal`, or null. */
export function checkSignal(signal) {
  if (signal !== null) checkType("signal.throwIfAborted", signal?.throwIfAborted, "function");
}

/** Throws a `TypeError` for a number of publications that cannot be. */
export function checkLimit(limit) {
  if (!Number.isSafeInteger(limit) || limit < 0) throw new TypeError(`limit: ${limit} is not a whole number`);
}

/**
 * Throws a `HeartwireError` for a message that has more than `limit` bytes with the frame around it: a server
 * counts all of a frame, and one that is over its limit would cost the connection.
 */
export function checkSize(json, name, key, limit) {
  const frame = FRAME_BYTES + byteLength(JSON.stringify(name)) + key.length;
  if (json.length * 3 + frame <= limit) return; // no character has more bytes
  const size = byteLength(json) + frame;
  const over = `over the limit of ${limit} (maxMessageBytes)`;
  if (size > limit)
    throw new HeartwireError(LIMIT_EXCEEDED, `a message of ${size} bytes in its frame is ${over}`);
}

/** The replacer of `JSON.stringify` that refuses what it would change: NaN, infinities, half characters. */
function refuseLoss(name, value) {
  if (Object(value) instanceof Number && !Number.isFinite(Number(value)))
    throw new TypeError(`${name || "data"}: ${value} is not a number of JSON`);
  for (const text of [name, value]) if (Object(text) instanceof String) checkText("data", String(text));
  return value;
}

/** A value as JSON. Throws a `TypeError` where it cannot be written so. */
export function jsonOf(value) {
  const json = JSON.stringify(value);
  if (json === undefined) throw new TypeError(`${typeof value} is not JSON`);
  // Only such text can have come of a loss, and a replacer for all would take long.
  if (/null|\\ud/.test(json)) JSON.stringify(value, refuseLoss);
  return json;
}

/** Throws a `TypeError` for a key that the server would refuse; "" means that there is none. */
export function checkIdempotencyKey(key) {
  if (typeof key !== "string" || !/^[!-~]{0,255}$/.test(key))
    throw new TypeError(
      `idempotencyKey: ${JSON.stringify(String(key))} is not 1 to 255 visible ASCII characters`,
    );
}

/**
 * The address of a server for fetch. Without an argument: the origin of the page.
 * @param {any} given "https://host", "ws://host/below", a URL, or {scheme, host, port, path}
 */
export function baseOf(given) {
  const { scheme = "http", host, port, path = "" } = given;
  const parts = `${scheme}://${host}${port ? `:${port}` : ""}/${path}`.replace(/([^:]\/)\/+/g, "$1");
  const url = new URL(host && !(given instanceof URL) ? parts : given, globalThis.location?.href);
  const protocol = { "ws:": "http:", "wss:": "https:" }[url.protocol] ?? url.protocol;
  if (protocol !== "http:" && protocol !== "https:") throw new TypeError(`${url}: http, https, ws or wss`);
  return `${protocol}//${url.host}${url.pathname.replace(/\/+$/, "")}`;
}
