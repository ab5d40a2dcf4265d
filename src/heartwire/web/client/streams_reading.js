// One reading of a durable stream: what to ask next, and what the answers mean.
// heartwire/client/streams_reading.py.

import { isTrue, kindOf, Lost, refusalOf, toBytes } from "./streams_wire.js";

const UNHELD_S = 0.5; // a long poll that is answered sooner, with nothing, was not held

/** Whether UTF-8 ends within a character: more of it may come. */
function isCut(bytes) {
  for (let back = 1; back <= 3 && back <= bytes.length; back++) {
    const byte = bytes[bytes.length - back];
    if (byte >= 0xc0) return back < (byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4);
    if (byte < 0x80) return false;
  }
  return false;
}

/** Parses JSON, or throws `Lost`. */
function parsed(text, isRight, what) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {}
  if (!isRight(value)) throw new Lost(`${text.slice(0, 80)}: ${what}`);
  return value;
}

const messages = body =>
  parsed(body.length ? new TextDecoder().decode(body) : "[]", Array.isArray, "not a JSON array");

export function joined(parts) {
  const bytes = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** After each answer `offset` is where to go on once its values are taken. */
export class Reading {
  contentType = "";
  isClosed = false; // and all of it was read
  isOver = false;
  isLive = false; // at the tail, from now on
  isHeard = false;
  #live;
  #retry;
  #stableAfterS;
  #next; // after what is held, too
  #cursor = "";
  #held = new Uint8Array(); // text that ends within a character
  #isSseCut = false;
  #events = /** @type {Uint8Array[]} */ ([]);
  #askedAt = 0;
  #isHeld = false;
  #wasSse = false;

  /** @param {boolean | "long-poll"} live */
  constructor(offset, live, retry, stableAfterS) {
    this.offset = this.#next = offset;
    this.#live = live;
    this.#retry = retry;
    this.#stableAfterS = stableAfterS;
  }

  /** Whether the next request is for an event stream. */
  get isSse() {
    const may = this.isLive && this.#live === true && !this.#isSseCut && !this.#held.length;
    return may && kindOf(this.contentType) !== "bytes";
  }

  /** What to ask; `mayHold`: the server may hold its answer. */
  query(now, mayHold = true) {
    this.#askedAt = now;
    this.#isHeld = this.isLive && mayHold;
    this.#wasSse = this.#isHeld && this.isSse;
    this.isHeard = false;
    this.#events = [];
    const query = { offset: this.#next };
    if (!this.#isHeld) return query;
    return {
      ...query,
      live: this.#wasSse ? "sse" : "long-poll",
      ...(this.#cursor && { cursor: this.#cursor }),
    };
  }

  /** The values of an answer that is complete. Throws its refusal, and `Lost`. */
  answered(answer, now) {
    const { status, headers, body } = answer;
    if (status === 400 && this.#wasSse) throw new Lost("there is no event stream of it");
    if (status !== 200 && status !== 204) throw refusalOf(answer);
    const streamNextOffset = headers.get("stream-next-offset");
    if (streamNextOffset === null) throw new Lost("an answer without Stream-Next-Offset");
    if (status === 200) this.contentType = headers.get("content-type") ?? this.contentType;
    const upToDate = isTrue(headers, "stream-up-to-date");
    const streamClosed = isTrue(headers, "stream-closed");
    const maySame = streamClosed || (upToDate && !this.#isHeld);
    if (streamNextOffset === this.#next && !maySame && now - this.#askedAt < UNHELD_S)
      throw new Lost("the server answers at once, with nothing");
    const streamCursor = headers.get("stream-cursor") ?? "";
    return this.#moved({ streamNextOffset, streamCursor, upToDate, streamClosed }, [body], now);
  }

  /** The values that are complete with an event. */
  event(name, data, now) {
    if (name === "data") this.#events.push(toBytes(data));
    if (name !== "control") return [];
    const control = parsed(data, value => typeof value?.streamNextOffset === "string", "not a control event");
    const bodies = this.#events;
    this.#events = [];
    this.isHeard = true;
    this.#isSseCut = false;
    return this.#moved(control, bodies, now);
  }

  /** The seconds to wait after a request that failed, or ended. */
  lost(lost, now) {
    // What keeps an event stream to itself, as some proxies do, lets long polls through.
    if (this.isLive && lost.isReachable) this.#isSseCut = this.#wasSse && !this.isHeard;
    if (now - this.#askedAt >= this.#stableAfterS) this.#retry.backoff.reset();
    return this.#retry.nextS(lost, now);
  }

  #moved({ streamNextOffset, streamCursor, upToDate = false, streamClosed = false }, bodies, now) {
    const hasMoved = streamNextOffset !== this.#next;
    const values = this.#values(hasMoved ? bodies : [], streamClosed);
    if (hasMoved || now - this.#askedAt >= this.#stableAfterS) this.#retry.backoff.reset();
    this.#next = streamNextOffset;
    this.#cursor = streamCursor || this.#cursor;
    if (!this.#held.length) this.offset = this.#next;
    this.isLive ||= upToDate && this.#live !== false;
    this.isClosed = streamClosed;
    this.isOver = streamClosed || (upToDate && this.#live === false);
    return values;
  }

  #values(bodies, isLast) {
    const kind = kindOf(this.contentType);
    if (kind === "json") return bodies.flatMap(messages);
    const bytes = joined([this.#held, ...bodies]);
    if (kind === "bytes") return bytes.length ? [bytes] : [];
    this.#held = isLast || !isCut(bytes) ? new Uint8Array() : bytes;
    return bytes.length && !this.#held.length
      ? [new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes)]
      : [];
  }
}
