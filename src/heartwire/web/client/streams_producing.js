// The appends of one producer: which request is next, and what its answer means.
// heartwire/client/streams_producing.py.

import { HeartwireError } from "./errors.js";
import { isTrue, refusalOf } from "./streams_wire.js";
import { MAX_FRAME } from "./wire.js";

/** One request is in flight, the same until it is acknowledged. */
export class Producing {
  offset = "";
  isJson = false;
  isClosed = false;
  #seq = 0;
  #isNew;
  #canClaim;
  #options;
  #waiting = /** @type {Uint8Array[]} */ ([]);
  #size = 0;
  #isClosing = false;
  #flight = /** @type {Uint8Array[] | null} */ (null);
  #closes = false;
  #tries = 0;

  constructor(id, epoch, { isNew, canClaim, options }) {
    this.id = id;
    this.epoch = epoch;
    this.#isNew = isNew;
    this.#canClaim = canClaim;
    this.#options = options;
  }

  get isIdle() {
    return this.#flight === null && !this.#waiting.length && !this.#isClosing;
  }

  /** Appends after what waits; false: too much waits. */
  add(body) {
    if (this.#isClosing || this.isClosed)
      throw new HeartwireError(107, "this producer has closed its stream", false, "stream_closed");
    const { maxPendingItems, maxPendingBytes } = this.#options;
    const isFull = this.#waiting.length >= maxPendingItems || this.#size + body.length > maxPendingBytes;
    if (isFull && this.#waiting.length) return false;
    this.#waiting.push(body);
    this.#size += body.length;
    return true;
  }

  /** Closes the stream with the last append, or after it. */
  close() {
    this.#isClosing = !this.isClosed;
  }

  /** The headers and the parts of the body of the request that is next. */
  take() {
    if (this.#flight === null) {
      this.#flight = this.#batch();
      this.#closes = this.#isClosing && !this.#waiting.length;
      this.#tries = 0;
    }
    this.#tries++;
    const headers = {
      "producer-id": this.id,
      "producer-epoch": String(this.epoch),
      "producer-seq": String(this.#seq),
      ...(this.#closes && { "stream-closed": "true" }),
    };
    if (!this.isJson || !this.#flight.length) return [headers, this.#flight];
    return [headers, ["[", ...this.#flight.flatMap((one, n) => (n ? [",", one] : [one])), "]"]];
  }

  /** How many appends an answer acknowledges; null: they have to be sent again. */
  answered(answer) {
    const { status, headers } = answer;
    const current = headers.get("producer-epoch");
    const isStale = status === 403 && current !== null;
    if (status !== 200 && status !== 204 && !isStale) throw refusalOf(answer);
    if (isStale || !this.#isOurs(answer)) return this.#claim(current ?? this.epoch);
    this.offset = headers.get("stream-next-offset") ?? this.offset;
    this.isClosed = this.#closes || isTrue(headers, "stream-closed");
    this.#isClosing &&= !this.isClosed;
    const count = this.#flight?.length ?? 0;
    this.#flight = null;
    this.#seq++;
    return count;
  }

  #batch() {
    let [taken, size] = [0, 0];
    for (const one of this.#waiting) {
      if (taken && size + one.length > MAX_FRAME) break;
      size += one.length;
      taken++;
    }
    this.#size -= size;
    return this.#waiting.splice(0, taken);
  }

  /** Whether it was this producer, not one of the same id and epoch before it, that appended this. */
  #isOurs({ status, headers }) {
    if (status === 200 || this.#isNew || !this.#flight?.length) return true;
    const last = headers.get("producer-seq") ?? String(this.#seq);
    return last === String(this.#seq) && (this.#tries > 1 || this.#seq > 0);
  }

  #claim(current) {
    if (!this.#canClaim || !Number.isSafeInteger(Number(current))) {
      const what = `epoch ${this.epoch} of producer ${this.id} was used already`;
      throw new HeartwireError(103, `${what}; the stream has epoch ${current}`, false, "stale_producer");
    }
    this.#canClaim = false;
    this.epoch = Number(current) + 1;
    this.#seq = this.#tries = 0;
    return null;
  }
}
