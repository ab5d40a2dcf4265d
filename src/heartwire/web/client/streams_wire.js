// What a client and a server of durable streams say over HTTP: heartwire/client/streams_wire.py.

import { checkChannel } from "./arguments.js";
import { HeartwireError } from "./errors.js";
import { retryAfterHeaderS } from "./links.js";
import { Backoff, Bucket } from "./retry.js";

/** The code and the name of each refusalOf, by HTTP status. */
const REFUSALS = {
  401: [101, "unauthorized"],
  403: [103, "forbidden"],
  404: [108, "stream_not_found"],
  409: [107, "stream_conflict"],
  410: [108, "stream_gone"],
  413: [106, "stream_full"],
  501: [108, "not_available"],
};

/** @typedef {{status: number, headers: Headers, body: Uint8Array}} Answer */

/** A request without an answer that counts: it is made again, no earlier than the server wants it. */
export class Lost extends Error {
  constructor(reason, afterS = 0, isReachable = true) {
    super(reason);
    this.afterS = afterS;
    this.isReachable = isReachable;
  }
}

/** When a request is made again: full-jitter backoff, and a bucket of attempts. */
export class Retry {
  #bucket;

  constructor({ backoffBaseS, backoffCapS, attemptRatePerS, attemptBurst }, draw, now) {
    this.backoff = new Backoff(backoffBaseS, backoffCapS, draw);
    this.#bucket = new Bucket(attemptRatePerS, attemptBurst, now);
  }

  nextS(lost, now) {
    return Math.max(lost.afterS, this.backoff.nextS(), this.#bucket.take(now));
  }
}

/** The address of a stream: its name itself where that is one. */
export function streamUrl(base, path, name) {
  if (/^https?:\/\//.test(name)) return new URL(name);
  checkChannel(name);
  if (/(^|\/)\.\.?(\/|$)/.test(name)) throw new TypeError(`stream ${name}: "." or ".." between slashes`);
  const encoded = encodeURIComponent(name).replaceAll("%2F", "/").replaceAll("%3A", ":");
  return new URL([base, path.replace(/^\/+|\/+$/g, ""), encoded].filter(Boolean).join("/"));
}

export const toBytes = text => new TextEncoder().encode(text);

export const isTrue = (headers, name) => headers.get(name)?.toLowerCase() === "true";

/** What a stream is made of: "json", "text" or "bytes". */
export function kindOf(contentType) {
  const mediaType = contentType.split(";")[0].trim().toLowerCase();
  if (mediaType === "application/json") return "json";
  return mediaType.startsWith("text/") ? "text" : "bytes";
}

/** The error of an answer: `Lost` where it is for now only. @param {Answer} answer */
export function refusalOf({ status, headers, body }) {
  const text = new TextDecoder().decode(body.subarray(0, 2000));
  const message = `HTTP ${status} ${text}`.trim();
  if ([408, 425, 429].includes(status) || (status >= 500 && status !== 501))
    return new Lost(message, retryAfterHeaderS(headers));
  let [code, name] = REFUSALS[status] ?? [107, "bad_request"];
  name = /"code":\s*"(\w+)"/.exec(text)?.[1] ?? name;
  if (status === 409 && isTrue(headers, "stream-closed")) name = "stream_closed";
  else if (status === 409 && headers.has("producer-expected-seq")) name = "producer_gap";
  return new HeartwireError(code, message, false, name);
}

/** The events of a text that are complete, as [name, data], and the rest of it. */
export function cutEvents(text) {
  const blocks = text.split(/\r?\n\r?\n/);
  const rest = /** @type {string} */ (blocks.pop());
  const events = blocks.map(block => {
    const values = name =>
      block
        .split(/\r?\n/)
        .filter(line => line.startsWith(`${name}:`))
        .map(line => line.slice(name.length + 1).replace(/^ /, ""));
    return [values("event").join(""), values("data").join("\n")];
  });
  return { events, rest };
}
