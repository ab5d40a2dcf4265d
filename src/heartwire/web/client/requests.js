// Requests (presence, history, rpc) without an answer, bounded in count, bytes and age:
// heartwire/client/requests.py.

import { general } from "./outputs.js";
import { LIMIT_EXCEEDED, LOCAL } from "./states.js";
import { characters } from "./wire.js";

/** @typedef {{method: string, json: string, size: number, expiresAt: number, isSent: boolean}} Request */

export class Requests {
  #sizeBytes = 0;
  /** @type {Map<number, Request>} */
  #waiting = new Map();
  #options;
  #outputs;
  #deadlines;

  constructor(options, outputs, deadlines) {
    this.#options = options;
    this.#outputs = outputs;
    this.#deadlines = deadlines;
  }

  /** Takes a request and returns it, or fails it at once and returns null. */
  add(id, method, body, now, isClosed) {
    if (isClosed) return this.#failed(id, LOCAL, "the client is closed");
    const json = JSON.stringify(body);
    const size = characters(json);
    const { maxMessageBytes: limit, maxPendingItems, maxPendingBytes, requestTimeoutS } = this.#options;
    if (size > limit) {
      const over = `over the limit of ${limit} (maxMessageBytes)`;
      return this.#failed(id, LIMIT_EXCEEDED, `a request of ${size} characters is ${over}`);
    }
    if (this.#waiting.size >= maxPendingItems || this.#sizeBytes + size > maxPendingBytes) {
      const waiting = `${this.#waiting.size} requests wait already (maxPendingItems, maxPendingBytes)`;
      return this.#failed(id, LIMIT_EXCEEDED, waiting);
    }
    const request = { method, json, size, expiresAt: now + requestTimeoutS, isSent: false };
    this.#waiting.set(id, request);
    this.#sizeBytes += size;
    if (!this.#deadlines.has("request")) this.#deadlines.set("request", request.expiresAt);
    return request;
  }

  entries() {
    return this.#waiting.entries();
  }

  /**
   * The connection is gone. Reads are sent again on the next; an `rpc` is not, because it may have been
   * carried out.
   */
  lost() {
    for (const [id, request] of [...this.#waiting]) {
      if (request.isSent && request.method === "rpc") this.#giveUp(id, "the connection was lost", true);
      request.isSent = false;
    }
  }

  answered(id, method, reply) {
    if (!this.#forget(id)) return;
    if (reply.error !== null) this.#failed(id, reply.error.code, reply.error.message);
    else this.#outputs.push(["Answered", id, reply[method], reply.line]);
  }

  /** Gives up what was not answered in time. */
  expire(now) {
    const limit = `${general(this.#options.requestTimeoutS)} s (requestTimeoutS)`;
    for (const [id, request] of [...this.#waiting])
      if (request.expiresAt <= now) this.#giveUp(id, `not answered within ${limit}`, request.isSent);
    if (this.#waiting.size)
      this.#deadlines.set(
        "request",
        Math.min(...[...this.#waiting.values()].map(({ expiresAt }) => expiresAt)),
      );
  }

  /** There will be no connection any more. */
  giveUp(reason) {
    for (const id of [...this.#waiting.keys()]) this.#giveUp(id, reason, false);
  }

  #forget(id) {
    this.#sizeBytes -= this.#waiting.get(id)?.size ?? 0;
    return this.#waiting.delete(id);
  }

  #giveUp(id, reason, isUnknown) {
    this.#forget(id);
    this.#outputs.push(["Failed", id, LOCAL, reason, isUnknown]);
  }

  #failed(id, code, reason) {
    this.#outputs.push(["Failed", id, code, reason, false]);
    return null;
  }
}
