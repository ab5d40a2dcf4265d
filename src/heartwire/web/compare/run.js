/*
 * Heartwire live comparison, 1 of 2: the run.
 *
 * Four clients of heartwire.js follow one channel, each over one transport, while a fifth publishes numbered
 * and time-stamped messages. It records what each receives, requests and pays. Network and server are real.
 */

import { connect } from "../heartwire.js";

const EVERY_MS = 200;
const CONNECT_MS = 8000; // a transport that has not begun by then is left out
const FINISH_MS = 5000; // a message that is later than the last publish and this is lost
const LINGER_MS = 1200; // once all have arrived: one poll more, for duplicates

/** The transports to compare, in the order of the table. */
export const KINDS = [
  { name: "poll", label: "Poll 1\u00a0s", options: { pollIntervalS: 1 } },
  { name: "longpoll", label: "Long poll", options: {} },
  { name: "sse", label: "SSE", options: {} },
  { name: "websocket", label: "WebSocket", options: {} },
];

const bytesOf = text =>
  typeof text === "string" ? new TextEncoder().encode(text).length : (text?.byteLength ?? text?.size ?? 0);

/** After `ms`; rejects as soon as the signal is aborted. */
function pause(ms, signal) {
  return new Promise((done, failed) => {
    const over = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", over);
      if (signal.aborted) failed(signal.reason);
      else done(undefined);
    };
    const timer = setTimeout(over, Math.max(0, ms));
    signal.addEventListener("abort", over);
    if (signal.aborted) over();
  });
}

/** One transport: its messages, and its cost as far as a page can see. */
export class Lane {
  received = 0;
  doubled = 0;
  requests = 0;
  upBytes = 0; // bodies of requests, payloads of WebSocket frames
  downBytes = 0;
  problem = ""; // why it is not in the comparison
  #latenciesMs = []; // ascending
  #seen = new Set();
  #missing = new Set();
  #highest = 0;
  #isCounting = true;
  #report;

  /**
   * @param {{name: string, label: string}} kind
   * @param {(kind: "request" | "arrived", what: object) => void} report
   */
  constructor({ name, label }, report) {
    this.name = name;
    this.label = label;
    this.#report = report;
  }

  /** Numbers that did not arrive though a later one has; once it is settled, all that did not arrive. */
  get lost() {
    return this.#missing.size;
  }

  /** @returns {number | null} The delivery latency that a share of the messages did not exceed. */
  latencyMs(share) {
    const { length } = this.#latenciesMs;
    return length ? this.#latenciesMs[Math.max(0, Math.ceil(share * length) - 1)] : null;
  }

  came({ n, sentMs }, nowMs) {
    if (!this.#isCounting) return;
    this.received++;
    if (this.#seen.has(n)) {
      this.doubled++;
      return;
    }
    this.#seen.add(n);
    this.#missing.delete(n);
    for (let between = this.#highest + 1; between < n; between++) this.#missing.add(between);
    this.#highest = Math.max(this.#highest, n);
    const tookMs = nowMs - sentMs;
    const at = this.#latenciesMs.findIndex(other => other > tookMs);
    this.#latenciesMs.splice(at < 0 ? this.#latenciesMs.length : at, 0, tookMs);
    this.#report("arrived", { lane: this, sentMs, atMs: nowMs });
  }

  hasAll(numbers) {
    return numbers.every(n => this.#seen.has(n));
  }

  /** No more will arrive: those of these numbers that have not are lost. */
  settle(numbers) {
    this.#missing = new Set(numbers.filter(n => !this.#seen.has(n)));
  }

  /** Nothing counts any more: leaving is not a part of the comparison. */
  stopCounting() {
    this.#isCounting = false;
  }

  #asked() {
    if (!this.#isCounting) return;
    this.requests++;
    this.#report("request", { lane: this });
  }

  #moved(up, down) {
    if (!this.#isCounting) return;
    this.upBytes += up;
    this.downBytes += down;
  }

  /**
   * A `fetch` that counts bodies as they pass. `transferSize` would be the body and 300, whatever the headers
   * (Resource Timing, 4.3), and for a stream nothing before its end.
   */
  fetch = async (address, options) => {
    this.#asked();
    this.#moved(bytesOf(options.body), 0);
    const response = await fetch(address, options);
    if (!response.body) return response;
    const counted = new TransformStream({
      transform: (chunk, out) => {
        this.#moved(0, chunk.byteLength);
        out.enqueue(chunk);
      },
    });
    const { status, statusText, headers } = response;
    return new Response(response.body.pipeThrough(counted), { status, statusText, headers });
  };

  /** A `WebSocket` that counts: the handshake is a request, the payloads of frames are bytes. */
  get WebSocket() {
    const asked = () => this.#asked();
    const moved = (up, down) => this.#moved(up, down);
    return class extends WebSocket {
      constructor(address) {
        super(address);
        asked();
        this.addEventListener("message", ({ data }) => moved(0, bytesOf(data)));
      }

      send(text) {
        moved(bytesOf(text), 0);
        super.send(text);
      }
    };
  }
}

/** One run. It is bounded: `CONNECT_MS`, then `seconds`, then `FINISH_MS` and `LINGER_MS` at most. */
export class Run {
  lanes;
  sent = 0;
  total;
  begun = /** @type {number | null} */ (null); // by performance.now(): when the first message was published
  isSettled = false;
  refusal = ""; // why a message was not taken
  #base;
  #channel;
  #report;
  #clients = [];
  #kept = []; // the numbers of messages that the server has
  #refused = 0;
  #over = new AbortController();

  /**
   * @param {object} options
   * @param {URL} options.base  Where Heartwire is mounted.
   * @param {string} options.channel  One that nobody else uses.
   * @param {number} options.seconds  How long messages are published.
   * @param {(kind: string, what: object) => void} options.report Gets `phase` {name}, and `sent`,
   *   `arrived` and `request` with `atMs` since the first message.
   */
  constructor({ base, channel, seconds, report }) {
    this.#base = base;
    this.#channel = channel;
    this.#report = report;
    this.total = Math.max(1, Math.round((seconds * 1000) / EVERY_MS));
    const timed = (what, more) => report(what, { atMs: this.#now(), ...more });
    this.lanes = KINDS.map(kind => new Lane(kind, timed));
  }

  /** Runs. Rejects where it was stopped or is impossible. Either way all connections are closed then. */
  async go() {
    try {
      this.#report("phase", { name: "connecting" });
      const publisher = this.#connect({});
      const isOpen = new Promise(done => publisher.once("open", done));
      await Promise.all(this.lanes.map((lane, index) => this.#follow(lane, KINDS[index])));
      if (this.lanes.every(lane => lane.problem)) throw new Error(this.lanes[0].problem);
      await Promise.race([isOpen, this.#pause(CONNECT_MS)]); // without its handshake
      this.#report("phase", { name: "publishing" });
      await this.#publishAll(publisher);
      this.#report("phase", { name: "finishing" });
      await this.#finish();
    } finally {
      this.#over.abort();
      for (const lane of this.lanes) lane.stopCounting();
      await Promise.all(this.#clients.map(client => client.close()));
    }
  }

  /** Ends it as soon as possible. */
  stop() {
    this.#over.abort();
  }

  get isStopped() {
    return this.#over.signal.aborted;
  }

  #pause(ms) {
    return pause(ms, this.#over.signal);
  }

  #now() {
    return this.begun === null ? 0 : performance.now() - this.begun;
  }

  #connect(options) {
    const client = connect(this.#base, { storage: null, closeTimeoutS: 1, ...options });
    this.#clients.push(client);
    client.on("error", () => {}); // it rejects a promise, too
    client.on("gap", () => {}); // then messages are lost, and counted as such
    return client;
  }

  async #follow(lane, { name, options }) {
    const { fetch, WebSocket } = lane;
    const client = this.#connect({ ...options, transports: [name], fetch, WebSocket });
    let why = `nothing was heard within ${CONNECT_MS / 1000} s`;
    client.on("close", ({ reason }) => {
      why = reason || why;
    });
    const subscription = client.subscribe(this.#channel, ({ data }) => lane.came(data, this.#now()));
    const tooLate = this.#pause(CONNECT_MS).then(() => {
      throw new Error(why);
    });
    tooLate.catch(() => {}); // perhaps nobody waits for it any more
    try {
      await Promise.race([subscription.ready, tooLate]);
    } catch (error) {
      if (this.isStopped) throw error;
      lane.problem = error.message;
      lane.stopCounting();
      client.close();
    }
  }

  async #publishAll(publisher) {
    this.begun = performance.now();
    for (let n = 1; n <= this.total; n++) {
      await this.#pause((n - 1) * EVERY_MS - this.#now());
      this.#publish(publisher, n);
    }
  }

  async #publish(publisher, n) {
    const sentMs = this.#now();
    this.sent++;
    this.#report("sent", { atMs: sentMs });
    try {
      await publisher.publish(this.#channel, { n, sentMs });
      this.#kept.push(n);
    } catch (error) {
      this.#refused++;
      this.refusal = error.message;
    }
  }

  async #finish() {
    const until = performance.now() + FINISH_MS;
    const isAnswered = () => this.#kept.length + this.#refused === this.sent;
    const isDone = () => isAnswered() && this.lanes.every(lane => lane.problem || lane.hasAll(this.#kept));
    while (!isDone() && performance.now() < until) await this.#pause(50);
    await this.#pause(LINGER_MS);
    if (!this.#kept.length) throw new Error(this.refusal || "no message was taken by the server");
    for (const lane of this.lanes) if (!lane.problem) lane.settle(this.#kept);
    this.isSettled = true;
  }
}
