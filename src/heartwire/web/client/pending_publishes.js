// Publishes without an answer, bounded in count, bytes and age, and kept in order (go-back-N):
// heartwire/client/pending_publishes.py.

import { general } from "./outputs.js";
import { LIMIT_EXCEEDED, LOCAL } from "./states.js";
import { characters, retryAfterS } from "./wire.js";

const COMMAND = 1024; // characters of a publish beside its data, at most: a channel has 255, escaped each
const RESEND_S = 0.25;
const RESEND_CAP_S = 5;

/** One publish. `data` is JSON text; `isSent`: the server may have it. */
class Item {
  isInFlight = false;
  isSent = false;

  constructor(key, idempotencyKey, channel, data, encoding, expiresAt) {
    this.key = key;
    this.idempotencyKey = idempotencyKey;
    this.channel = channel;
    this.data = data;
    this.encoding = encoding;
    this.expiresAt = expiresAt;
    this.size = characters(data);
  }

  body(round) {
    const encoding = this.encoding ? `,"encoding":${JSON.stringify(this.encoding)}` : "";
    const [channel, key] = [this.channel, this.idempotencyKey].map(one => JSON.stringify(one));
    return `{"channel":${channel},"data":${this.data},"idempotency_key":${key},"round":${round}${encoding}}`;
  }
}

export class PendingPublishes {
  sizeBytes = 0;
  /** @type {Map<string, Item>} */
  #items = new Map();
  #round = 0;
  #inFlight = 0;
  #mustGoBack = false;
  #serial = 0;
  #resends = 0;
  #notBefore = -Infinity;
  #options;
  #outputs;
  #deadlines;
  #prefix;
  #draw;

  constructor(options, outputs, deadlines, { prefix, draw }) {
    this.#options = options;
    this.#outputs = outputs;
    this.#deadlines = deadlines;
    this.#prefix = prefix;
    this.#draw = draw;
  }

  /** Takes a publish, or refuses it at once; returns its key. */
  add(channel, data, encoding, idempotencyKey, now, isClosed) {
    const { maxMessageBytes, maxPendingAgeS, maxPendingItems, maxPendingBytes } = this.#options;
    const key = `${this.#prefix}-${++this.#serial}`;
    const item = new Item(key, idempotencyKey || key, channel, data, encoding, now + maxPendingAgeS);
    if (isClosed) {
      this.#reject(item, LOCAL, "the client is closed");
    } else if (item.size > maxMessageBytes) {
      const limit = `over the limit of ${maxMessageBytes} (maxMessageBytes)`;
      this.#reject(item, LIMIT_EXCEEDED, `a message of ${item.size} characters is ${limit}`);
    } else if (this.#items.size >= maxPendingItems || this.sizeBytes + item.size > maxPendingBytes) {
      const waiting = `${this.#items.size} publishes wait already (maxPendingItems, maxPendingBytes)`;
      this.#reject(item, LIMIT_EXCEEDED, waiting);
    } else {
      this.#items.set(key, item);
      this.sizeBytes += item.size;
      this.#watch();
    }
    return key;
  }

  /** A new connection: a wait that the server asked for holds on this one too. */
  online(now) {
    if (this.#notBefore > now) this.#deadlines.set("resend", this.#notBefore);
  }

  /** The connection is gone: nothing is on the way any more, and the next one begins with round 0. */
  lost() {
    for (const item of this.#items.values()) item.isInFlight = false;
    this.#inFlight = this.#round = 0;
    this.#mustGoBack = false;
    this.#deadlines.delete("resend");
  }

  /** Keys and bodies that may go out now, oldest first; together at most `maxBytes`, but for the first. */
  *toSend(maxBytes) {
    if (this.#mustGoBack || this.#deadlines.has("resend")) return;
    let size = 0;
    for (const item of [...this.#items.values()]) {
      if (this.#inFlight >= this.#options.maxInFlight) return;
      if (item.isInFlight) continue;
      const own = item.size + COMMAND;
      size += own;
      if (size > maxBytes && size > own) return;
      item.isInFlight = item.isSent = true;
      this.#inFlight++;
      yield [item.key, item.body(this.#round)];
    }
  }

  answered(key, reply, now) {
    if (reply.error?.temporary) {
      const refused = this.#items.get(key);
      if (refused !== undefined) {
        this.#mustGoBack = true;
        this.#landed(refused);
      }
      // The first refusal of a round says when; the last, which plans the next round, says only that it came
      // later.
      this.#notBefore = Math.max(this.#notBefore, now + retryAfterS(reply.error.message));
      this.#planRound(now);
      return;
    }
    const item = this.#remove(key);
    this.#planRound(now);
    this.#watch();
    if (item === null) return;
    if (reply.error !== null) {
      item.isSent = false;
      this.#reject(item, reply.error.code, reply.error.message);
    } else {
      this.#resends = 0;
      this.#outputs.push(["Published", key, reply.publish?.epoch ?? "", reply.publish?.offset ?? 0]);
    }
  }

  /** What the server refused for now may be sent again. */
  nextRound() {
    if (!this.#mustGoBack) return;
    this.#mustGoBack = false;
    this.#round++;
  }

  /** The server ended the connection because a message was too large. */
  rejectLargest(reason) {
    /** @type {Item | null} */
    let largest = null;
    for (const item of this.#items.values())
      if (item.isInFlight && item.size > (largest?.size ?? -1)) largest = item;
    if (largest === null) return;
    this.#remove(largest.key);
    this.#reject(largest, LIMIT_EXCEEDED, reason);
  }

  /** Gives up what is too old. */
  expire(now) {
    const limit = `${general(this.#options.maxPendingAgeS)} s (maxPendingAgeS)`;
    for (const item of [...this.#items.values()]) {
      if (item.expiresAt > now) break;
      this.#remove(item.key);
      this.#reject(item, LOCAL, `not answered within ${limit}`);
    }
    this.#watch();
    this.#planRound(now);
  }

  /** There will be no connection any more. */
  giveUp(reason) {
    for (const item of this.#items.values()) this.#reject(item, LOCAL, reason);
    this.#items.clear();
    this.sizeBytes = this.#inFlight = 0;
  }

  #remove(key) {
    const item = this.#items.get(key);
    if (item === undefined) return null;
    this.#items.delete(key);
    this.sizeBytes -= item.size;
    this.#landed(item);
    return item;
  }

  #landed(item) {
    if (!item.isInFlight) return;
    item.isInFlight = false;
    this.#inFlight--;
  }

  /** Once one was refused for now, and all that went with it are answered: plan the next round. */
  #planRound(now) {
    if (!this.#mustGoBack || this.#inFlight || this.#deadlines.has("resend")) return;
    const limitS = Math.min(RESEND_CAP_S, RESEND_S * 2 ** Math.min(this.#resends, 60));
    this.#resends++;
    this.#deadlines.set("resend", Math.max(now + limitS * (0.5 + this.#draw() / 2), this.#notBefore));
  }

  #watch() {
    const [oldest] = this.#items.values();
    if (oldest === undefined) this.#deadlines.delete("publish");
    else this.#deadlines.set("publish", oldest.expiresAt);
  }

  #reject(item, code, message) {
    this.#outputs.push(["Rejected", item.key, code, message, item.isSent]);
  }
}
