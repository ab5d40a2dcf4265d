/*
 * Heartwire demo, 2 of 7: the room.
 *
 * One client of heartwire.js, which follows the channel of the chat and that of the tally, and the messages
 * that were written and not seen yet. Another transport is another client, which resumes from the same
 * positions with the same keys.
 */

import { connect } from "../heartwire.js";

const OUTBOX_LIMIT = 100;
const SETTLE_MS = 150; // caught up: nothing more comes for so long
const TALLY_EVERY_MS = 100;

/** Names of the transports for people. */
export const LABELS = { websocket: "WebSocket", sse: "SSE", longpoll: "Long poll", poll: "Poll" };

const NOTES = {
  movedUp: ({ transport, next }) => `moved up from ${LABELS[transport]} to ${LABELS[next]}`,
  steppedDown: ({ transport, reason, next }) => `${LABELS[transport]}: ${reason}; trying ${LABELS[next]}`,
  notYet: ({ transport, reason }) => `${LABELS[transport]} does not work yet: ${reason}`,
  pollsCut: ({ reason }) => `long polls are cut in between: ${reason}`,
  unavailable: ({ reason }) => reason,
};

/** A note of the client, with these names. */
export const inWords = note => NOTES[note.kind](note);

const newId = () => [...crypto.getRandomValues(new Uint8Array(9))].map(byte => byte.toString(36)).join("");

/** Numbers that are published one after the other, and their fate. */
export class Tally {
  sent = 0;
  acknowledged = 0;
  received = 0;
  doubled = 0;
  swapped = 0;
  givenUp = 0;
  unanswered = new Map(); // data and key of each publish, by number
  #highest = 0;
  #missing = new Set(); // numbers below the highest that have not arrived
  #run = newId();

  /** Numbers that did not arrive though a later one has, without those that the client has given up. */
  get lost() {
    return this.#missing.size;
  }

  next() {
    const n = ++this.sent;
    const entry = { data: { run: this.#run, n }, key: `${this.#run}-${n}`, sentAt: performance.now() };
    this.unanswered.set(n, entry);
    return n;
  }

  answered(n, isKept) {
    if (!this.unanswered.delete(n)) return;
    if (isKept) this.acknowledged++;
    else this.givenUp++;
    if (!isKept) this.#missing.delete(n);
  }

  came({ run, n }) {
    if (run !== this.#run) return; // somebody else's
    this.received++;
    for (let between = this.#highest + 1; between < n; between++) this.#missing.add(between);
    if (n > this.#highest) this.#highest = n;
    else if (this.#missing.delete(n)) this.swapped++;
    else this.doubled++;
  }
}

export class Room {
  channel = "lobby";
  transport = "auto";
  client = /** @type {any} */ (null);
  position = "";
  onlineAt = 0;
  counts = { received: 0, caughtUp: 0, gaps: 0, connects: 0 };
  /** Own messages that were not yet seen in the channel, by id. */
  outbox = new Map();
  tally = new Tally();
  isTallying = false;
  #base;
  #weather;
  #emit;
  #subscriptions = [];
  #tallyChannel = "";
  #tallyPosition = "";
  #catchUp = /** @type {any} */ (null);
  #lostAt = 0;

  /**
   * @param {object} options
   * @param {URL} options.base  Where Heartwire is mounted, as a URL.
   * @param {import("./weather.js").Weather} options.weather
   * @param {(kind: string, detail: object) => void} options.emit Gets `state`, `open`, `close`, `note` and
   *   `error` of the client; `publication`, `gap`, `caughtup`, `outbox`, `tally`, and `answered` and `seen`
   *   with {tookMs}.
   */
  constructor({ base, weather, emit }) {
    this.#base = base;
    this.#weather = weather;
    this.#emit = emit;
    setInterval(() => this.#count(), TALLY_EVERY_MS);
  }

  get state() {
    return this.client.state;
  }

  /** The channel's URL in the plain dialect. */
  get url() {
    return new URL(`channels/${encodeURIComponent(this.channel)}`, this.#base);
  }

  /** Follows a channel over one transport, or down the ladder ("auto"), from where the last one was. */
  follow(channel, transport) {
    if (channel !== this.channel || this.client === null) this.#begin(channel);
    this.transport = transport;
    const [last, subscriptions] = [this.client, this.#subscriptions];
    if (this.onlineAt) this.#lostAt = Date.now();
    this.onlineAt = 0;
    const { WebSocket, fetch } = this.#weather;
    const fixed = transport === "auto" ? {} : { transports: [transport], storage: null };
    const client = connect(this.#base, { WebSocket, fetch, ...fixed });
    this.client = client; // which ignores events of the last, and publishes what that has not settled
    for (const subscription of subscriptions) subscription.unsubscribe();
    last?.close();
    this.#listen(client);
    this.#emit("state", { state: client.state, transport: "", reason: "" });
    for (const entry of this.outbox.values()) if (!entry.refused) this.#publish(entry);
    for (const n of this.tally.unanswered.keys()) this.#publishNumber(n);
  }

  #begin(channel) {
    this.channel = channel;
    this.position = this.#tallyPosition = "";
    Object.assign(this.counts, { received: 0, caughtUp: 0, gaps: 0 });
    this.#lostAt = 0;
    const [namespace] = channel.includes(":") ? channel.split(":") : [""];
    this.#tallyChannel = `${namespace && `${namespace}:`}tally-${newId()}`;
    this.tally = new Tally();
    for (const [id, entry] of this.outbox) if (entry.refused) this.outbox.delete(id);
  }

  #listen(client) {
    const now = hear => what => client === this.client && hear(what);
    const onState = now(what => this.#stateChanged(what));
    const onChat = now(one => this.#came(one));
    const onSubscribed = now(({ position }) => {
      this.#caughtUpSoon(this.#catchUp ?? { count: 0, first: this.position === "" });
      this.position ||= position;
    });
    const onTally = now(one => {
      this.#tallyPosition = one.position;
      this.tally.came(one.data);
      this.#emit("tally", { isIncoming: true });
    });
    const onGap = now(gap => {
      this.counts.gaps++;
      this.#emit("gap", gap);
    });
    client.on("state", onState);
    for (const name of ["open", "close", "note", "error"]) {
      const pass = now(what => this.#emit(name, what));
      client.on(name, pass);
    }
    const chat = client.subscribe(this.channel, onChat, { since: this.position || "earliest", onGap });
    chat.on("subscribed", onSubscribed);
    const since = this.#tallyPosition || "earliest";
    this.#subscriptions = [chat, client.subscribe(this.#tallyChannel, onTally, { since, onGap })];
  }

  #stateChanged(what) {
    if (what.state === "online") {
      this.counts.connects++;
      this.onlineAt ||= Date.now();
    } else if (this.onlineAt) {
      this.#lostAt = Date.now();
      this.onlineAt = 0;
    }
    this.#emit("state", what);
  }

  #came(publication) {
    const { data, position } = publication;
    this.position = position || this.position;
    this.counts.received++;
    const entry = typeof data?.id === "string" ? this.outbox.get(data.id) : undefined;
    if (entry) {
      this.outbox.delete(entry.id);
      this.#emit("outbox", {});
      this.#emit("seen", { tookMs: performance.now() - entry.sentAt });
    } else if (this.#catchUp) {
      this.#catchUp.count++;
      this.#caughtUpSoon(this.#catchUp);
    }
    this.#emit("publication", { ...publication, mine: Boolean(entry), transport: this.client.transport });
  }

  /** Waits until nothing more arrives, then reports how much was caught up. */
  #caughtUpSoon(catchUp) {
    clearTimeout(catchUp.timer);
    this.#catchUp = catchUp;
    catchUp.timer = setTimeout(() => {
      this.#catchUp = null;
      if (!catchUp.first) this.counts.caughtUp += catchUp.count;
      const awayMs = this.#lostAt ? Math.max(0, this.onlineAt - this.#lostAt) : 0;
      this.#emit("caughtup", { ...catchUp, awayMs });
    }, SETTLE_MS);
  }

  /** @returns {boolean} False when too much waits already. */
  say(from, text) {
    if (this.outbox.size >= OUTBOX_LIMIT) return false;
    const id = newId();
    const data = { from, text, id, at: Date.now() };
    const entry = { id, text, channel: this.channel, data, sentAt: performance.now(), refused: "" };
    this.outbox.set(id, entry);
    this.#emit("outbox", {});
    this.#publish(entry);
    return true;
  }

  /** Forgets a message that was refused. */
  discard(id) {
    if (this.outbox.delete(id)) this.#emit("outbox", {});
  }

  async #publish(entry) {
    const { client } = this;
    try {
      await client.publish(entry.channel, entry.data, { idempotencyKey: entry.id });
      entry.kept = true;
      if (entry.channel !== this.channel) this.outbox.delete(entry.id);
      this.#emit("answered", { tookMs: performance.now() - entry.sentAt });
    } catch (error) {
      if (client !== this.client) return; // the next client has taken it over
      entry.refused = error.message;
    }
    this.#emit("outbox", {});
  }

  /** Publishes the next number, ten times a second where that is wanted. The outbox can be full. */
  #count() {
    if (!this.isTallying || this.#weather.isAsleep || this.isOutboxFull || this.state === "closed") return;
    this.#publishNumber(this.tally.next());
    this.#emit("tally", {});
  }

  get isOutboxFull() {
    return this.client.pending >= 900; // of maxPendingItems; the rest is for people
  }

  async #publishNumber(n) {
    const { client, tally } = this;
    const { data, key, sentAt } = tally.unanswered.get(n);
    try {
      await client.publish(this.#tallyChannel, data, { idempotencyKey: key });
      tally.answered(n, true);
      this.#emit("answered", { tookMs: performance.now() - sentAt });
    } catch {
      if (client !== this.client && tally === this.tally) return;
      tally.answered(n, false);
    }
    this.#emit("tally", {});
  }
}
