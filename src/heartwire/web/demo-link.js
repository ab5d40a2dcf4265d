/*
 * Heartwire demo, 2 of 4: the link.
 *
 * Keeps one channel flowing over one wire at a time, and keeps three promises: nothing lost or doubled (each wire starts
 * where the last one stopped), a dead wire is noticed (silence past a bound), and never a storm (one attempt in flight,
 * full-jitter exponential backoff, a token bucket over every automatic trigger).
 *
 *   connecting ──> online ──> waiting ──> connecting …       offline: cut by the user, or waiting without a network
 *                     └─────> closed (the server said never) closed: until the user asks again
 */

import { WIRES, refusal } from "./demo-wires.js";

const BACKOFF_BASE_S = 0.5;
const BACKOFF_CAP_S = 20;
const BUCKET_SIZE = 3; // automatic attempts in a burst ...
const BUCKET_REFILL_S = 5; // ... and then one in so many seconds
const CONNECT_TIMEOUT_S = 10;
const STABLE_AFTER_S = 5; // online this long: the next loss is a new story, the backoff starts over
const SILENCE_S = 25; // with nothing heard for so long, ask ...
const ANSWER_S = 10; // ... and without an answer by then, it is dead
const HINT_ANSWER_S = 5; // the same after a wake-up or a change of network
const BEAT_EVERY_S = 5; // a visible page asks more often, to show round trips
const SLEPT_S = 30; // a clock that jumps so far has slept
const SETTLE_MS = 400; // caught up: nothing more comes for so long
const SETTLE_MAX_MS = 3000;
const SEEN_LIMIT = 20000;
const OUTBOX_LIMIT = 100;
const UNCONFIRMED_S = 5; // what was sent on a wire that died is sent again if it does not come back by then

export class Link {
  /** Reads: `state`, `why`, `retryAt`, `transport`, `channel`, `position`, `counts`, `outbox`, `onlineAt`, `heardAt`. */
  state = "closed";
  why = "";
  retryAt = 0;
  transport = "websocket";
  channel = "lobby";
  position = null;
  onlineAt = 0;
  heardAt = 0;
  counts = { received: 0, duplicates: 0, gaps: 0, caughtUp: 0, sent: 0, connects: 0 };
  /** Own messages not yet seen in the channel, by id. */
  outbox = new Map();

  #base;
  #client;
  #emit;
  #wire = null;
  #generation = 0; // one wire counts at a time; what older ones still say is not heard
  #timer = 0;
  #tries = 0;
  #bucket = { tokens: BUCKET_SIZE, at: Date.now() };
  #seen = new Set();
  #replayed = false; // after a gap the server repeats what it keeps: not a duplicate
  #startPosition = null;
  #lostAt = 0;
  #catchUp = null;
  #askedAt = 0;
  #answerBy = 0;
  #tickAt = Date.now();
  #posting = null;
  #postAfter = 0;

  /**
   * @param {object} options
   * @param {string} options.base    Where Heartwire is mounted, as an URL.
   * @param {string} options.client  Names this page in presence while it polls.
   * @param {(kind: string, detail: object) => void} options.emit  Told of: `state`, `publication`, `beat`, `gap`, `log`,
   *   `outbox`, `roundtrip`, `caughtup`.
   */
  constructor({ base, client, emit }) {
    this.#base = base;
    this.#client = client;
    this.#emit = emit;
    setInterval(() => this.#tick(), 1000);
    addEventListener("online", () => this.#hint("the network changed", { moved: true }));
    addEventListener("offline", () => this.#hint("the browser says it is offline"));
    addEventListener("pageshow", (event) => event.persisted && this.#hint("the page came back"));
    const left = { code: "hidden", reason: "the page left", retry: true };
    addEventListener("pagehide", () => this.#wire && this.#lost(left)); // an open socket would keep it from coming back
    document.addEventListener("visibilitychange", () => document.hidden || this.#hint("the page is visible again"));
  }

  /** The channel's URL with a query. */
  url(params = {}, path = "") {
    const url = new URL(`channels/${encodeURIComponent(this.channel)}${path}`, this.#base);
    for (const [name, value] of Object.entries(params)) url.searchParams.set(name, value);
    return url;
  }

  /** Follow a channel from the oldest publication that is kept. */
  follow(channel, transport) {
    this.#close();
    // What a socket has taken is on its way; the rest is posted to the channel it was written for.
    for (const [id, entry] of this.outbox) if (entry.sentOn || entry.refused) this.outbox.delete(id);
    Object.assign(this, { channel, transport, position: null });
    this.counts = { ...this.counts, received: 0, duplicates: 0, gaps: 0, caughtUp: 0 };
    this.#seen.clear();
    this.#catchUp = null;
    this.#lostAt = 0;
    this.#connect();
  }

  /** Go on over another transport, from the very same position. */
  switchTo(transport) {
    const from = this.transport;
    this.transport = transport;
    if (this.isCut) return;
    const text = `${WIRES[from].label} → ${WIRES[transport].label}, from ${this.position ?? "the start"}`;
    this.#emit("log", { kind: "note", text });
    this.#close();
    this.#connect();
  }

  get isCut() {
    return this.state === "offline" && this.why === "cut";
  }

  /** Break the connection and stay away until `restore`. */
  cut() {
    this.#close();
    this.#emit("log", { kind: "down", text: `Cut by you at ${this.position ?? "the start"}` });
    this.#set("offline", "cut");
  }

  /** Come back: after `cut`, after `closed`, or without waiting for the next attempt. */
  restore() {
    // A person's click is not an automatic trigger: it takes no token.
    this.#tries = 0;
    this.#close();
    this.#connect();
  }

  /**
   * Publish a text; it waits in the outbox until it was seen in the channel.
   * @returns {boolean} false when the outbox is full.
   */
  publish(from, text) {
    if (this.outbox.size >= OUTBOX_LIMIT) return false;
    const id = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random().toString(36).slice(2)}`;
    const body = JSON.stringify({ from, text, id, at: Date.now() });
    const { channel } = this;
    this.outbox.set(id, { id, text, body, channel, sentAt: 0, sentOn: 0, byPost: false, kept: false, refused: "" });
    this.counts.sent++;
    this.#emit("outbox", {});
    this.#flush();
    return true;
  }

  /** Forget a message that was refused. */
  discard(id) {
    if (this.outbox.delete(id)) this.#emit("outbox", {});
  }

  #set(state, why = "") {
    this.state = state;
    this.why = why;
    this.#emit("state", { state, why });
  }

  /** Drop the wire, if any; whatever it says from now on belongs to a past generation. */
  #close() {
    this.#generation++;
    clearTimeout(this.#timer);
    this.#wire?.close();
    this.#wire = null;
    this.#posting?.abort();
    if (this.#catchUp) clearTimeout(this.#catchUp.timer);
    if (this.state === "online") this.#lostAt = Date.now();
  }

  #connect() {
    const generation = this.#generation;
    const current = (act) => (detail) => generation === this.#generation && act(detail);
    this.#startPosition = null;
    this.#askedAt = 0;
    this.#catchUp = { count: 0, first: this.position === null, timer: 0 };
    this.#set("connecting");
    const order = { url: (params) => this.url(params), since: this.position ?? "earliest", client: this.#client };
    this.#timer = setTimeout(
      current(() => this.#lost({ code: "timeout", reason: `no answer in ${CONNECT_TIMEOUT_S} s`, retry: true })),
      CONNECT_TIMEOUT_S * 1000,
    );
    this.#wire = WIRES[this.transport].open(order, {
      heard: current(() => { this.heardAt = Date.now(); }),
      open: current((start) => this.#opened(start)),
      publication: current((publication) => this.#publication(publication)),
      position: current((position) => { this.position = position; }),
      gap: current((gap) => this.#gap(gap)),
      beat: current((rtt_ms) => this.#emit("beat", { rtt_ms })),
      refused: current((error) => this.#refused(error)),
      end: current((ending) => this.#lost(ending)),
    });
  }

  #opened({ position }) {
    if (this.state === "online") return;
    clearTimeout(this.#timer);
    this.onlineAt = this.heardAt = Date.now();
    this.counts.connects++;
    // What was kept may still follow: the start position counts once nothing does (see #tick).
    if (this.position === null) this.#startPosition = position;
    this.#set("online");
    this.#emit("log", { kind: "up", text: `${WIRES[this.transport].label} online, from ${this.position ?? "the oldest kept"}` });
    this.#settleSoon();
    if (this.#wire?.send) this.#ask(ANSWER_S); // the first heartbeat, for a first round trip
  }

  #gap({ position }) {
    if (this.position === null) return; // a first visit has nothing to miss
    this.counts.gaps++;
    this.#replayed = true;
    this.#startPosition = position;
    this.#emit("log", { kind: "gap", text: `Gap: ${this.position} cannot be continued; what is kept follows, then ${position}` });
    this.#emit("gap", { position });
  }

  #publication(publication) {
    const { position, data } = publication;
    this.#startPosition = null;
    const known = this.#seen.has(position);
    if (known && !this.#replayed) {
      this.counts.duplicates++;
      return;
    }
    this.position = position;
    if (known) return;
    this.#replayed = false;
    this.#seen.add(position);
    if (this.#seen.size > SEEN_LIMIT) this.#seen.delete(this.#seen.values().next().value);
    this.counts.received++;
    if (this.#catchUp) {
      this.#catchUp.count++;
      this.#settleSoon();
    }
    const entry = typeof data?.id === "string" ? this.outbox.get(data.id) : undefined;
    if (entry) {
      this.outbox.delete(entry.id);
      this.#emit("outbox", {});
      if (entry.sentAt) this.#emit("roundtrip", { rtt_ms: performance.now() - entry.sentAt });
    }
    this.#emit("publication", { ...publication, mine: Boolean(entry), transport: this.transport, live: !this.#catchUp });
  }

  /** Wait for the flow of what was missed to end, tell how much it was, and only then send what waits in the outbox. */
  #settleSoon() {
    const catchUp = this.#catchUp;
    if (!catchUp) return;
    clearTimeout(catchUp.timer);
    const left = this.onlineAt + SETTLE_MAX_MS - Date.now();
    catchUp.timer = setTimeout(() => {
      this.#catchUp = null;
      const { count, first } = catchUp;
      if (!first) this.counts.caughtUp += count;
      this.#emit("caughtup", { count, first, away_ms: this.onlineAt - this.#lostAt });
      this.#flush();
    }, Math.max(0, Math.min(SETTLE_MS, left)));
  }

  #lost({ code, reason, retry, after_s = 0 }) {
    this.#close();
    const what = `${WIRES[this.transport].label} ended: ${code}${reason ? ` ${reason}` : ""}`;
    if (!retry) {
      this.#emit("log", { kind: "error", text: `${what}; not trying again` });
      this.#set("closed", `${code} ${reason}`);
      return;
    }
    this.#emit("log", { kind: "down", text: what });
    this.#retryLater(after_s);
  }

  #retryLater(after_s) {
    const jitter_s = Math.random() * Math.min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** this.#tries);
    this.#tries++;
    const delay_s = Math.max(after_s, jitter_s, this.#takeToken());
    this.#emit("log", { kind: "retry", text: `Attempt ${this.#tries} in ${delay_s.toFixed(1)} s` });
    this.retryAt = Date.now() + delay_s * 1000;
    this.#set(navigator.onLine === false ? "offline" : "waiting");
    this.#timer = setTimeout(() => this.#connect(), delay_s * 1000);
  }

  /** @returns {number} seconds until the token that was taken may be used. */
  #takeToken() {
    const now = Date.now();
    const { tokens, at } = this.#bucket;
    const refilled = Math.min(BUCKET_SIZE, tokens + (now - at) / 1000 / BUCKET_REFILL_S);
    this.#bucket = { tokens: refilled - 1, at: now };
    return Math.max(0, (1 - refilled) * BUCKET_REFILL_S);
  }

  /** Something suggests that the network is not what it was. Never taken as a fact: it only makes us look. */
  #hint(text, { moved = false } = {}) {
    if (this.isCut || this.state === "closed" || this.state === "connecting") return;
    if (this.state !== "online") {
      if (this.#bucket.tokens + (Date.now() - this.#bucket.at) / 1000 / BUCKET_REFILL_S < 1) return;
      this.#takeToken();
      this.#emit("log", { kind: "note", text: `${text}: trying now` });
      this.#close();
      this.#connect();
    } else if (this.#wire.probe) this.#ask(HINT_ANSWER_S);
    else if (moved || Date.now() - this.heardAt > SILENCE_S * 1000) {
      // A stream or a held answer cannot be asked, and replacing it costs nothing: the position goes on.
      this.#lost({ code: "replaced", reason: text, retry: true });
    }
  }

  #ask(answer_s) {
    this.#askedAt = Date.now();
    this.#answerBy = this.#askedAt + answer_s * 1000;
    this.#wire.probe?.();
  }

  /** Wall clock, not timers: a hidden page's timers are late, and a laptop that slept has none. */
  #tick() {
    const now = Date.now();
    const slept = now - this.#tickAt > SLEPT_S * 1000 && !document.hidden;
    this.#tickAt = now;
    if (slept) this.#hint("the clock jumped");
    if (this.state !== "online") return;
    if (now - this.onlineAt > STABLE_AFTER_S * 1000) this.#tries = 0;
    if (this.#startPosition !== null && !this.#catchUp) {
      this.position = this.#startPosition;
      this.#startPosition = null;
    }
    const beats = this.#wire.send && !document.hidden;
    if (this.#askedAt > this.heardAt) {
      if (now > this.#answerBy) {
        const silence_s = Math.round((now - this.heardAt) / 1000);
        return this.#lost({ code: "silent", reason: `nothing heard for ${silence_s} s`, retry: true });
      }
    } else if (beats ? now - this.#askedAt >= BEAT_EVERY_S * 1000 : now - this.heardAt >= SILENCE_S * 1000) {
      this.#ask(ANSWER_S);
    }
    this.#flush();
  }

  #refused({ code, message, retry }) {
    // The frame does not say which message: they are judged in order, so it is the oldest that is unconfirmed.
    const entry = [...this.outbox.values()].find(({ sentOn, refused }) => sentOn && !refused);
    this.#emit("log", { kind: "error", text: `Message refused: ${code}: ${message}` });
    if (!entry) return;
    if (retry) Object.assign(entry, { sentOn: 0, byPost: true });
    else entry.refused = message || code;
    this.#postAfter = Date.now() + 1000;
    this.#emit("outbox", {});
  }

  /** Whether a message is to be sent now (again, if it went out on a wire that died and never came back). */
  #isDue({ kept, refused, sentOn }) {
    if (kept || refused || sentOn === this.#generation) return false;
    return !sentOn || Date.now() - this.onlineAt > UNCONFIRMED_S * 1000;
  }

  /** Send what waits: over the socket where there is one, else by POST, where a key makes a retry safe. */
  #flush() {
    if (this.state !== "online" || this.#catchUp) return;
    for (const entry of this.outbox.values()) {
      if (!this.#isDue(entry)) continue;
      const bySocket = this.#wire.send && !entry.sentOn && !entry.byPost && entry.channel === this.channel;
      if (!bySocket) {
        this.#post();
        return; // in order: what follows waits for the answer
      }
      entry.sentAt = performance.now();
      if (!this.#wire.send(entry.body)) return;
      entry.sentOn = this.#generation;
    }
  }

  async #post() {
    if (this.#posting || Date.now() < this.#postAfter) return;
    const entry = [...this.outbox.values()].find((one) => this.#isDue(one));
    const stop = (this.#posting = new AbortController());
    entry.byPost = true;
    entry.sentAt ||= performance.now();
    try {
      const url = new URL(`channels/${encodeURIComponent(entry.channel)}`, this.#base);
      const headers = { "Content-Type": "application/json", "Idempotency-Key": entry.id };
      const response = await fetch(url, { method: "POST", body: entry.body, headers, signal: stop.signal });
      if (response.ok) {
        entry.kept = true;
        if (entry.channel !== this.channel) this.outbox.delete(entry.id);
      } else {
        const { code, reason, retry, after_s } = await refusal(response);
        this.#emit("log", { kind: "error", text: `POST answered ${code} ${reason}` });
        if (!retry) entry.refused = reason;
        this.#postAfter = Date.now() + Math.max(after_s, 1) * 1000;
      }
    } catch (error) {
      if (!stop.signal.aborted) {
        this.#emit("log", { kind: "error", text: `POST failed: ${error.message}; the key makes a retry safe` });
        this.#postAfter = Date.now() + Math.random() * 2000;
      }
    }
    this.#posting = null;
    this.#emit("outbox", {});
    this.#flush();
  }
}
