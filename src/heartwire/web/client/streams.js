// A durable stream as applications see it: heartwire/client/streams.py.

import { checkNames, checkSignal, checkText, jsonOf } from "./arguments.js";
import { HeartwireError } from "./errors.js";
import { holding } from "./holding.js";
import { LIMIT_EXCEEDED } from "./states.js";
import { clockS, pause, StreamRequests } from "./streams_http.js";
import { Producing } from "./streams_producing.js";
import { Reading } from "./streams_reading.js";
import { cutEvents, isTrue, kindOf, Lost, refusalOf, toBytes } from "./streams_wire.js";
import { listenToSystem } from "./system.js";

/** What is appended for a value. */
function bodyOf(data, isJson, limit) {
  let body;
  if (isJson) body = toBytes(jsonOf(data));
  else if (data instanceof ArrayBuffer) body = new Uint8Array(data.slice());
  else if (ArrayBuffer.isView(data))
    body = new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
  else {
    checkText("data", data);
    body = toBytes(data);
  }
  if (!body.length) throw new TypeError("data: nothing to append");
  if (body.length > limit)
    throw new HeartwireError(
      LIMIT_EXCEEDED,
      `data: ${body.length} bytes, over the limit of ${limit} (maxMessageBytes)`,
    );
  return body;
}

/** One of the places that tabs share for requests that are held: how to free it; null: there is none. */
const place = base =>
  new Promise(resolve => {
    const hold = () => new Promise(free => resolve(() => free(null)));
    holding(base, hold, () => resolve(null));
  });

/** Appends to one stream, each exactly once, in order. Once one has failed, so do all after it. */
export class StreamProducer {
  #requests;
  #producing;
  #type;
  #typed = /** @type {any} */ (null);
  #contentType = "";
  #answers = /** @type {any[]} */ ([]);
  #error = /** @type {any} */ (null);
  #running = /** @type {Promise<void> | null} */ (null);

  constructor(requests, producing, type) {
    this.#requests = requests;
    this.#producing = producing;
    this.#type = type;
  }

  get id() {
    return this.#producing.id;
  }

  get epoch() {
    return this.#producing.epoch;
  }

  /** Resolves to the offset after it, once the server has it. Not awaited, it waits its turn. */
  append(data) {
    const answer = this.#append(data);
    answer.catch(() => {}); // `flush` and `close` reject, too
    return answer;
  }

  /** Resolves to the offset after all that was appended so far, once the server has it. */
  async flush() {
    await this.#ready();
    while (this.#running) await this.#running;
    if (this.#error) throw this.#error;
    return this.#producing.offset;
  }

  /** Closes the stream for good, in one step with the last append. */
  async close(data = undefined) {
    if (data !== undefined) this.append(data);
    await this.#ready();
    this.#producing.close();
    this.#start();
    return this.flush();
  }

  async #append(data) {
    try {
      await this.#ready();
      if (this.#error) throw this.#error;
      const body = bodyOf(data, this.#producing.isJson, this.#requests.options.maxMessageBytes);
      const limit = "too many appends wait (maxPendingItems, maxPendingBytes): await what you append";
      if (!this.#producing.add(body)) throw new HeartwireError(LIMIT_EXCEEDED, limit);
    } catch (error) {
      this.#fail(error); // else what comes after it would be there without it
      throw error;
    }
    return new Promise((resolve, reject) => {
      this.#answers.push({ resolve, reject });
      this.#start();
    });
  }

  /** Asks for the type once, so that all who wait for it go on in their order. */
  async #ready() {
    this.#typed ??= this.#type();
    this.#contentType = await this.#typed;
    this.#producing.isJson = kindOf(this.#contentType) === "json";
  }

  #start() {
    this.#running ??= this.#run();
  }

  async #run() {
    const retry = this.#requests.retry();
    await null; // what is appended in the same turn goes along
    try {
      while (!this.#error && !this.#producing.isIdle) {
        const count = await this.#requests.settle(() => this.#send(), retry);
        for (const { resolve } of this.#answers.splice(0, count)) resolve(this.#producing.offset);
      }
    } catch (error) {
      this.#fail(error);
    }
    this.#running = null;
  }

  async #send() {
    for (;;) {
      const [headers, parts] = this.#producing.take();
      const init = { headers: { ...headers, "content-type": this.#contentType }, body: new Blob(parts) };
      const count = this.#producing.answered(await this.#requests.ask("POST", init));
      if (count !== null) return count;
    }
  }

  #fail(error) {
    this.#error ??= error;
    for (const { reject } of this.#answers.splice(0)) reject(this.#error);
  }
}

/** One durable stream, for one reader at a time and any number of producers. */
export class Stream {
  /** Where to go on. It moves as the last value of an answer is handed out. */
  offset = "-1";
  /** Whether the last answer said that nothing will be appended any more. */
  closed = false;
  contentType = "";
  #requests;
  #waiting = /** @type {any[]} */ ([]); // read, not handed out yet, in reverse; they lead to `#after`
  #after = "";

  constructor(url, access) {
    this.#requests = new StreamRequests(url, access);
  }

  get url() {
    return this.#requests.url.href;
  }

  [Symbol.asyncIterator]() {
    return this.read();
  }

  /**
   * What was appended and, where live, what will be, until it is closed.
   * @returns {AsyncGenerator<any, void, undefined>}
   */
  async *read(options = {}) {
    checkNames(options, ["offset", "live", "signal"]);
    const { offset = null, live = true, signal = null } = options;
    checkSignal(signal);
    if (offset !== null) {
      this.offset = offset;
      this.#waiting = [];
    }
    const from = this.#waiting.length ? this.#after : this.offset;
    const retry = this.#requests.retry();
    const reading = new Reading(from, live, retry, this.#requests.options.stableAfterS);
    yield* this.#handedOut();
    const over = new AbortController();
    let end = new AbortController();
    const wake = () => reading.isLive && end.abort(new Lost("woken"));
    listenToSystem(over.signal, kind => kind !== "networkDown" && wake(), wake);
    signal?.addEventListener("abort", () => end.abort(signal.reason), { signal: over.signal });
    let isProven = true; // a browser may have other connections that died with the one that was lost
    try {
      while (!reading.isOver) {
        end = new AbortController();
        signal?.throwIfAborted();
        try {
          for await (const values of this.#answers(reading, end, isProven)) {
            isProven = true;
            this.#take(reading, values);
            yield* this.#handedOut();
          }
        } catch (error) {
          if (!(error instanceof Lost)) throw error;
          isProven = false;
          end = new AbortController();
          await pause(reading.lost(error, clockS()), end.signal);
        }
      }
    } finally {
      over.abort();
    }
  }

  #take(reading, values) {
    this.closed = reading.isClosed;
    this.contentType = reading.contentType;
    this.#waiting = values.reverse();
    this.#after = reading.offset;
    if (!values.length) this.offset = reading.offset;
  }

  *#handedOut() {
    while (this.#waiting.length) {
      if (this.#waiting.length === 1) this.offset = this.#after;
      yield this.#waiting.pop();
    }
  }

  /** Makes one request, which is held where it may be. Yields the values that come. */
  async *#answers(reading, end, isProven) {
    const { options, silenceS, url } = this.#requests;
    const free = reading.isLive && (await place(url.origin));
    const mayHold = free !== null && isProven;
    try {
      if (free === null) await pause(options.pollIntervalS, end.signal);
      const isSse = reading.isSse && mayHold;
      const query = reading.query(clockS(), mayHold);
      if (!isSse) {
        const atOnceS = isProven ? options.requestTimeoutS : options.openTimeoutS;
        const withinS = reading.isLive && mayHold ? silenceS : atOnceS;
        yield reading.answered(await this.#requests.ask("GET", { query, withinS }, end), clockS());
        return;
      }
      const decoder = new TextDecoder();
      let rest = "";
      const withinS = () => (reading.isHeard ? silenceS : options.openTimeoutS);
      for await (const [response, piece] of this.#requests.send("GET", { query }, end, withinS)) {
        const { status, headers } = response;
        if (status !== 200 || !headers.get("content-type")?.startsWith("text/event-stream")) {
          reading.answered({ status, headers, body: new Uint8Array() }, clockS());
          throw new Lost("the server has no event stream of it");
        }
        const cut = cutEvents(rest + decoder.decode(piece ?? new Uint8Array(), { stream: true }));
        rest = cut.rest;
        for (const [name, data] of cut.events) yield reading.event(name, data, clockS());
      }
      if (!reading.isOver) throw new Lost("the event stream ended");
    } finally {
      if (free) free();
    }
  }

  /** Creates it. Resolves to whether it is new. */
  async create(options = {}) {
    checkNames(options, ["contentType", "ttlS", "closed"]);
    const { contentType = "application/json", ttlS = null, closed = false } = options;
    const { status, headers } = await this.#ask("PUT", {
      "content-type": contentType,
      ...(ttlS !== null && { "stream-ttl": String(ttlS) }),
      ...(closed && { "stream-closed": "true" }),
    });
    this.contentType = headers.get("content-type") ?? contentType;
    this.closed = closed;
    return status === 201;
  }

  /** What the server says of it. */
  async head() {
    const { headers } = await this.#ask("HEAD", {});
    this.contentType = headers.get("content-type") ?? "";
    this.closed = isTrue(headers, "stream-closed");
    const ttl = headers.get("stream-ttl");
    return {
      contentType: this.contentType,
      offset: headers.get("stream-next-offset") ?? "",
      closed: this.closed,
      ttlS: ttl === null ? null : Number(ttl),
    };
  }

  /** Closes it for good, after one last append where there is data. */
  async close(data = undefined) {
    if (data !== undefined) await this.producer().close(data);
    else await this.#ask("POST", { "stream-closed": "true" });
    this.closed = true;
  }

  async delete() {
    await this.#ask("DELETE", {}, 404);
  }

  /** A producer of this stream, by an id that is new or, with an epoch, known to the server. */
  producer(options = {}) {
    checkNames(options, ["id", "epoch", "autoClaim"]);
    const { id = null, epoch = 0, autoClaim = false } = options;
    const tuning = { isNew: id === null, canClaim: autoClaim, options: this.#requests.options };
    const producing = new Producing(id ?? crypto.randomUUID(), epoch, tuning);
    const type = async () => this.contentType || (await this.head()).contentType;
    return new StreamProducer(this.#requests, producing, type);
  }

  /** Asks until it is answered. `isDone`: the status where an earlier try was carried out. */
  #ask(method, headers, isDone = 0) {
    let tries = 0;
    const ask = async () => {
      tries++;
      const answer = await this.#requests.ask(method, { headers });
      if (answer.status >= 300 && !(tries > 1 && answer.status === isDone)) throw refusalOf(answer);
      return answer;
    };
    return this.#requests.settle(ask, this.#requests.retry());
  }
}
