/*
 * Heartwire demo, 1 of 7: the weather.
 *
 * Simulates a bad network: a `WebSocket` and a `fetch` for heartwire.js that delay, hold back or drop the
 * traffic. Server and client are real, and neither knows. Sleep stops the timers of the page, too, as a
 * shut lid does.
 */

/** @typedef {{label: string, world: string, client: string, option?: string} & Traffic} Fault */
/** @typedef {{blocks?: string[], cuts?: string[]}} Traffic  Transports: refused, and cut. */

const SLOW_MS = [200, 800];
const LONG_POLL_CUT_S = 10;
const SLEEP_S = 10;
const REFUSED_AFTER_MS = 40;
const ALL = ["websocket", "sse", "longpoll", "poll", "send"];

/** Stays until another is chosen. @type {Record<string, Fault>} */
export const WEATHER = {
  clear: {
    label: "Clear",
    world: "What is sent arrives, and at once.",
    client: "keeps one connection open, and knows by the server’s pings that it lives.",
  },
  slow: {
    label: "Slow",
    world: "A train, a crowded café: every packet takes 0.2 to 0.8 s, each way.",
    client:
      "does nothing, because slow is not dead: no attempt is made, the order stays, publishes take longer.",
  },
  offline: {
    label: "No network",
    world: "A tunnel, a lift, a cable that was pulled: every attempt fails.",
    client:
      "keeps what you publish, and waits longer and longer between attempts (at random, at most 20 s), " +
      "never faster than its bucket fills.",
    option: "and the browser says so",
    blocks: ALL,
    cuts: ALL,
  },
  websocket: {
    label: "No WebSocket",
    world: "A company proxy that has never heard of WebSocket refuses the handshake.",
    client:
      "steps down to server-sent events, resumes from its position, and looks for a way up after 10 s, " +
      "then 20, 40 …",
    blocks: ["websocket"],
    cuts: ["websocket"],
  },
  sse: {
    label: "+ SSE held",
    world: "Besides, the proxy keeps answers until they are complete, so that a stream never arrives.",
    client: "gives a first word 4 s to come, then steps down to long polls.",
    blocks: ["websocket"],
    cuts: ["websocket", "sse", "send"],
  },
  longpoll: {
    label: "+ polls cut",
    world: "Besides, whatever has not been answered after 10 s is cut with a 504.",
    client: "sees that its long poll was cut and not refused, loses nothing, and asks for shorter ones.",
    blocks: ["websocket"],
    cuts: ["websocket", "sse", "send"],
  },
};

/** Happens once. @type {Record<string, Fault>} */
export const STRIKES = {
  cut: {
    label: "Cut",
    world: "The server restarts, a proxy is reloaded: every connection ends, now.",
    client:
      "is back within half a second, resumes from its position, and repeats publishes without an answer.",
  },
  halfopen: {
    label: "Half-open",
    world: "A router has forgotten the connection: nothing passes any more, and neither side is informed.",
    client:
      "cannot know before the ping that does not come: it gives up after 35 s of silence, " +
      "or within 3 s of a hint.",
    option: "and the system says that the network has changed",
  },
  asleep: {
    label: "Sleep 10 s",
    world: "The lid is shut: no timer runs, nothing is read. This page stands still for 10 s.",
    client:
      "sees that the clock has jumped and asks the server; a connection that answers stays, " +
      "one that does not is replaced.",
    option: "and the connection dies meanwhile",
  },
};

const page = /** @type {any} */ (globalThis);
const native = {
  setTimeout: globalThis.setTimeout.bind(globalThis),
  clearTimeout: globalThis.clearTimeout.bind(globalThis),
};

/** Timers that stand still while the page sleeps, and then run at once. */
class Timers {
  #held = new Map();

  install(isAsleep) {
    page.setTimeout = (act, ms, ...more) => {
      const held = () => act(...more);
      const id = native.setTimeout(() => (isAsleep() ? this.#held.set(id, held) : held()), ms);
      return id;
    };
    page.clearTimeout = id => {
      this.#held.delete(id);
      native.clearTimeout(id);
    };
  }

  release() {
    for (const [id, act] of [...this.#held]) if (this.#held.delete(id)) act();
  }
}

/** One connection or request in the weather. `cut` ends it as a network does. */
class Way {
  isSilent = false;
  #last = /** @type {Promise<any>} */ (Promise.resolve());

  constructor(weather, kind, cut) {
    this.weather = weather;
    this.kind = kind;
    this.cut = cut;
  }

  /** Resolves when the traffic of this moment may pass: in order, late, or never. */
  pass() {
    const due = performance.now() + this.weather.delay();
    this.#last = this.#last
      .then(() => this.weather.until(due))
      .then(() => this.isSilent && new Promise(() => {}));
    return this.#last;
  }
}

/** The part of WebSocket that heartwire.js uses, with all traffic in the weather. */
const socketIn = weather =>
  class {
    onopen = /** @type {any} */ (null);
    onmessage = /** @type {any} */ (null);
    onclose = /** @type {any} */ (null);
    onerror = null;
    #real = /** @type {any} */ (null);
    #way;

    constructor(address) {
      this.#way = weather.open("websocket", () => this.#cut());
      weather.emit("attempt", { transport: "websocket" });
      if (weather.blocks("websocket")) native.setTimeout(() => this.#cut(), REFUSED_AFTER_MS);
      else this.#open(new WebSocket(address));
    }

    #open(real) {
      this.#real = real;
      real.onopen = event => this.#way.pass().then(() => this.onopen?.(event));
      real.onmessage = event =>
        this.#way.pass().then(() => {
          weather.emit("heard", { text: event.data });
          this.onmessage?.(event);
        });
      real.onclose = event =>
        this.#way.pass().then(() => {
          weather.ended(this.#way);
          this.onclose?.(event);
        });
    }

    send(text) {
      weather.emit("said", { text });
      this.#way.pass().then(() => this.#real.readyState === WebSocket.OPEN && this.#real.send(text));
    }

    close() {
      weather.ended(this.#way);
      if (this.#real) this.#real.onclose = null;
      this.#real?.close();
    }

    #cut() {
      this.close();
      this.#way.isSilent = true; // traffic under way does not arrive
      this.onclose?.({ code: 1006, reason: "the network broke" });
    }
  };

const broken = () => new TypeError("the network broke"); // as a browser's fetch, in fewer words

function kindOf(address) {
  const { pathname, searchParams } = new URL(address);
  if (pathname.endsWith("/connection/sse")) return "sse";
  if (pathname.endsWith("/emulation")) return "send";
  return searchParams.has("wait") ? "longpoll" : "poll";
}

export class Weather {
  name = "clear";
  isAsleep = false;
  #ways = new Set();
  #timers = new Timers();
  #awake = /** @type {Promise<void> | null} */ (null);
  #wake = () => {};
  #saidOffline = false;

  /**
   * @param {(kind: string, what: any) => void} emit Gets `attempt` {transport}, `heard` and `said`
   *   {text}, `changed` {name}, `struck` {name}, `woke`.
   */
  constructor(emit) {
    this.emit = emit;
    this.WebSocket = socketIn(this);
    this.fetch = (address, options) => this.#fetch(address, options);
    this.#timers.install(() => this.isAsleep);
  }

  /** Switches to a weather of `WEATHER`. With its option, the browser reports it to the page. */
  set(name, { option = false } = {}) {
    this.name = name;
    this.emit("changed", { name });
    for (const way of [...this.#ways]) if (WEATHER[name].cuts?.includes(way.kind)) way.cut();
    const saysOffline = name === "offline" && option;
    if (saysOffline !== this.#saidOffline) dispatchEvent(new Event(saysOffline ? "offline" : "online"));
    this.#saidOffline = saysOffline;
  }

  /** Makes one of `STRIKES` happen. */
  strike(name, { option = false, sleepS = SLEEP_S } = {}) {
    this.emit("struck", { name });
    if (name === "cut") for (const way of [...this.#ways]) way.cut();
    if (name === "halfopen" || (name === "asleep" && option))
      for (const way of this.#ways) way.isSilent = true;
    if (name === "halfopen" && option) dispatchEvent(new Event("online"));
    if (name === "asleep") this.#sleep(sleepS);
  }

  #sleep(forS) {
    if (this.isAsleep) return;
    this.isAsleep = true;
    this.#awake = new Promise(wake => {
      this.#wake = () => wake();
    });
    native.setTimeout(() => this.wake(), forS * 1000);
  }

  wake() {
    if (!this.isAsleep) return;
    this.isAsleep = false;
    this.#awake = null;
    this.emit("woke", {});
    this.#timers.release();
    this.#wake();
  }

  // For connections and requests.

  open(kind, cut) {
    const way = new Way(this, kind, cut);
    this.#ways.add(way);
    return way;
  }

  ended(way) {
    this.#ways.delete(way);
  }

  blocks(kind) {
    return WEATHER[this.name].blocks?.includes(kind) ?? false;
  }

  delay() {
    const [least, most] = this.name === "slow" ? SLOW_MS : [0, 0];
    return least + Math.random() * (most - least);
  }

  async until(due) {
    const left = due - performance.now();
    if (left > 0) await new Promise(done => native.setTimeout(done, left));
    await this.#awake;
  }

  async #fetch(address, { signal, ...options }) {
    const kind = kindOf(address);
    const stop = new AbortController();
    const ended = new Promise((_, failed) => {
      stop.signal.onabort = () => failed(stop.signal.reason);
    });
    const way = this.open(kind, () => stop.abort(broken()));
    ended.catch(() => this.ended(way));
    signal.addEventListener("abort", () => stop.abort(signal.reason));
    if (kind === "sse" || /"connect":/.test(options.body)) this.emit("attempt", { transport: kind });
    if (this.blocks(kind)) {
      native.setTimeout(way.cut, REFUSED_AFTER_MS);
      await ended;
    }
    this.emit("said", { text: options.body });
    await Promise.race([way.pass(), ended]);
    const answers = [fetch(address, { ...options, signal: stop.signal }), ended];
    if (kind === "longpoll") answers.push(this.#cutLongPoll());
    const response = await Promise.race(answers);
    return this.#arrive(way, response, stop, ended);
  }

  /** @returns {Promise<Response>} The proxy's own answer to a poll that was held for too long. */
  async #cutLongPoll() {
    await new Promise(done => native.setTimeout(done, LONG_POLL_CUT_S * 1000));
    return this.name === "longpoll" ? new Response("", { status: 504 }) : new Promise(() => {});
  }

  /** The answer, as the weather lets it through. */
  async #arrive(way, response, stop, ended) {
    await Promise.race([way.pass(), ended]);
    const { status, headers } = response;
    if (status === 504) stop.abort(); // nobody waits for the answer of the server any more
    if (!response.body || status !== 200) {
      this.ended(way);
      return response;
    }
    const isHeldBack = way.kind === "sse" && (this.name === "sse" || this.name === "longpoll");
    const whole = isHeldBack && new Response(await Promise.race([response.arrayBuffer(), ended]));
    const { body } = whole || response;
    const decoder = new TextDecoder();
    const passed = new TransformStream({
      transform: async (chunk, out) => {
        await Promise.race([way.pass(), ended]);
        this.emit("heard", { text: decoder.decode(chunk, { stream: true }) });
        out.enqueue(chunk);
      },
      flush: () => this.ended(way),
    });
    return new Response(body.pipeThrough(passed), { status, headers });
  }
}
