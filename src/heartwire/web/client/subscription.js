// One followed channel, as applications see it: heartwire/client/subscription.py.

import { Emitter } from "./emitter.js";
import { HeartwireError } from "./errors.js";
import { LOCAL } from "./states.js";

export class Subscription extends Emitter {
  /** After the last publication that was handed out; "" before the server has said where it begins. */
  position = "";
  /** Why the durable stream that the channel is was closed: "done", "error", "aborted", "interrupted". */
  end = /** @type {any} */ ("");
  #queue = /** @type {any[] | null} */ (null);
  #ending = /** @type {[HeartwireError | null] | null} */ (null); // once it is over
  #wake = () => {};
  #begun = _ => {};
  #refused = _ => {};
  #flow;

  /**
   * @param {{maxItems: number, pause(): void, resume(): void, end(): void, failed(error: any,
   *   name: string): void}} flow what the client does for it
   */
  constructor(channel, flow) {
    super(flow.failed);
    this.channel = channel;
    this.#flow = flow;
    this.ready = new Promise((resolve, reject) => {
      this.#begun = resolve;
      this.#refused = reject;
    });
    this.ready.catch(() => {}); // a refusal is an event too
  }

  unsubscribe() {
    this.#flow.end();
  }

  /** From the client: a publication. */
  deliver(item) {
    if (this.#queue !== null) {
      this.#queue.push(item);
      if (this.#queue.length === this.#flow.maxItems) this.#flow.pause();
      this.#wake();
    } else {
      this.position = item.position || this.position;
    }
    this.emit("publication", item);
  }

  /** From the client: the position of the channel. What waits in the queue comes before it. */
  place(at) {
    if (!this.#queue?.length) this.position = at || this.position;
  }

  /** From the client: the server follows the channel for us. */
  subscribed(position, wasRecovered) {
    this.place(position);
    this.#begun(this);
    this.emit("subscribed", { position, wasRecovered });
  }

  /** From the client: the end of a stream. An iteration ends after the last publication. */
  closed(reason, end) {
    this.end = reason;
    this.emit("end", { reason });
    this.ended(null, end);
  }

  /**
   * From the client: it is over; null: because the application wants so, or all has come. Returns whether
   * anybody hears of it.
   */
  ended(error, end = error ?? new HeartwireError(LOCAL, "closed by the application")) {
    if (this.#ending !== null) return true;
    this.#ending = [error];
    this.#wake();
    this.#refused(end);
    return this.emit("unsubscribed", { code: end.code, reason: end.message }) || this.#queue !== null;
  }

  /**
   * `for await (const publication of subscription)`; leaving the loop ends the subscription.
   * @returns {AsyncIterator<any>}
   */
  [Symbol.asyncIterator]() {
    if (this.#queue !== null) throw new Error(`${this.channel} is iterated already`);
    const queue = [];
    this.#queue = queue;
    return {
      next: () => this.#next(queue),
      return: async () => {
        this.unsubscribe();
        return { value: undefined, done: true };
      },
    };
  }

  /** @returns {Promise<IteratorResult<any>>} */
  async #next(queue) {
    while (!queue.length) {
      if (this.#ending?.[0]) throw this.#ending[0];
      if (this.#ending) return { value: undefined, done: true };
      await new Promise(resolve => {
        this.#wake = () => resolve(null);
      });
    }
    const value = queue.shift();
    this.position = value.position || this.position;
    if (queue.length === this.#flow.maxItems >> 1) this.#flow.resume();
    return { value, done: false };
  }
}
