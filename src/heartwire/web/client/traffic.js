// Channels, publishes and requests, over whatever connection there is: heartwire/client/traffic.py. They
// outlive connections: `online` announces a new one, on which everything that is still wanted is sent again.

import { ChannelState } from "./channel_state.js";
import { PendingPublishes } from "./pending_publishes.js";
import { Requests } from "./requests.js";
import { LOCAL } from "./states.js";
import { MAX_FRAME, retryAfterS } from "./wire.js";

const FULL_PAGE = 300; // publications in one answer of the server; as many mean that there may be more

/** Whether another connection has begun, paused or placed a channel anew since it was asked for. */
const isOutdated = (asked, state) =>
  state !== asked.state || state.isPaused || (asked.position === null && state.position !== null);

export class Traffic {
  /** In use. @type {import("./connection.js").Connection | null} */
  connection = null;
  /** Something was left out that only a new connection can bring. */
  isBroken = false;
  isClosed = false;
  /** @type {Map<string, ChannelState>} */
  followed = new Map();
  #ids = 0;
  #options;
  #outputs;
  #deadlines;
  #draw;

  constructor(options, outputs, deadlines, { prefix, draw, now }) {
    this.#options = options;
    this.#outputs = outputs;
    this.#deadlines = deadlines;
    this.#draw = draw;
    /** Set by the machine before it calls. */
    this.now = now;
    this.publishes = new PendingPublishes(options, outputs, deadlines, { prefix, draw });
    this.requests = new Requests(options, outputs, deadlines);
  }

  nextId() {
    return ++this.#ids;
  }

  // The connection comes and goes.

  online(connection, serverSide) {
    this.connection = connection;
    this.isBroken = false;
    this.placeServerSide(serverSide);
    for (const state of [...this.followed.values()])
      if (state.isServerSide && !serverSide.has(state.channel)) {
        state.isServerSide = false;
        if (!state.isWanted) this.#end(state, LOCAL, "the server does not subscribe us any more");
      }
    for (const [channel, asked] of [...connection.asked]) {
      const state = this.followed.get(channel);
      if (state === undefined || (!state.isServerSide && isOutdated(asked, state)))
        this.#unsubscribe(channel);
    }
    this.resubscribe();
    for (const [id, request] of this.requests.entries()) this.#sendRequest(connection, id, request);
    this.publishes.online(this.now);
    this.pump();
  }

  placeServerSide(subs) {
    for (const [channel, result] of subs) this.#subscribedByServer(channel, result);
  }

  lost() {
    this.connection = null;
    this.publishes.lost();
    this.#deadlines.delete("resubscribe");
    for (const state of this.followed.values()) state.lost();
    this.requests.lost();
  }

  /** There will be no connection any more. */
  close(reason) {
    this.lost();
    this.publishes.giveUp(reason);
    this.requests.giveUp(reason);
  }

  /** Sends what waits: all of it on a socket, else in one request at a time. */
  flush() {
    const connection = this.connection;
    if (connection === null) return;
    for (let frame = connection.takeFrame(); frame; frame = connection.takeFrame()) {
      this.#outputs.push(["Send", connection.generation, frame]);
      if (!connection.isPosting) continue;
      connection.isSending = true;
      this.#deadlines.set("sending", this.now + this.#options.pongTimeoutS);
    }
  }

  #ask(connection, method, body, subject) {
    connection.queue.push(connection.command(this.nextId(), method, body, subject));
  }

  // Channels.

  /** A channel to which the server has subscribed us already goes on as it is. */
  follow(channel, since, token) {
    const known = this.followed.get(channel);
    if (known?.isServerSide) {
      known.isWanted = true;
      if (known.isLive) this.#reportSubscribed(known, false);
      this.resume(channel);
      return;
    }
    this.unfollow(channel);
    this.followed.set(channel, new ChannelState(channel, since, token));
    this.resubscribe();
    this.flush();
  }

  unfollow(channel) {
    if (!this.followed.delete(channel)) return;
    this.#unsubscribe(channel);
    this.flush();
  }

  /** The reader is too slow: the server keeps what comes, until `resume`. */
  pause(channel) {
    const state = this.followed.get(channel);
    if (state === undefined || state.isPaused) return;
    state.isPaused = true;
    state.lost();
    this.#unsubscribe(channel);
    this.flush();
  }

  resume(channel) {
    const state = this.followed.get(channel);
    if (state === undefined || !state.isPaused) return;
    state.isPaused = false;
    if (this.connection?.isPull) this.#deadlines.set("poll", this.now);
    else if (this.connection !== null) state.isServerSide = false; // the pause ended that: now it is ours
    this.resubscribe();
    this.flush();
  }

  /**
   * Commands that follow the channels, each from its position. Not `isAnew`: only those not asked for yet.
   */
  subscribeCommands(connection, isAnew) {
    if (isAnew) connection.asked = new Map();
    return this.#unasked(connection, isAnew).map(state => {
      const { channel, position } = state;
      const id = this.nextId();
      connection.asked.set(channel, { id, state, position });
      return connection.command(id, "subscribe", state.subscribeBody(), channel);
    });
  }

  #unasked(connection, isAnew) {
    return [...this.followed.values()]
      .filter(({ isPaused, isServerSide, notBefore }) => !(isPaused || isServerSide || notBefore > this.now))
      .filter(({ isLive, channel }) => isAnew || !(isLive || connection.asked.has(channel)));
  }

  /** For `connect`: the positions of the channels to which the server has subscribed us. */
  serverSidePositions() {
    const placed = [...this.followed.values()].filter(state => state.isServerSide && state.position);
    return placed.length
      ? Object.fromEntries(placed.map(state => [state.channel, state.subscribeBody()]))
      : null;
  }

  get hasServerSide() {
    return [...this.followed.values()].some(state => state.isServerSide);
  }

  /** Asks for what is wanted and not followed yet; for what was refused for now, not before its time. */
  resubscribe() {
    this.#deadlines.delete("resubscribe");
    const connection = this.connection;
    if (connection === null) return;
    for (const { notBefore } of this.followed.values())
      if (notBefore > this.now) this.#resubscribeAt(notBefore);
    if (!connection.isPull) connection.queue.push(...this.subscribeCommands(connection, false));
    else if (this.#unasked(connection, false).length) this.#deadlines.set("poll", this.now);
  }

  resubscribeDue() {
    this.resubscribe();
    this.flush();
  }

  /** Whether the server has given the position of every channel, or has refused it for now. */
  get isSettled() {
    return [...this.followed.values()].every(
      ({ isLive, isPaused, isServerSide, notBefore }) =>
        isLive || isPaused || isServerSide || notBefore > this.now,
    );
  }

  #unsubscribe(channel) {
    const connection = this.connection;
    if (connection === null) return;
    connection.asked.delete(channel);
    if (!connection.isPull) this.#ask(connection, "unsubscribe", { channel }, channel);
  }

  #subscribed(connection, id, channel, reply) {
    const asked = connection.asked.get(channel);
    if (asked?.id !== id) return;
    connection.asked.delete(channel);
    const state = this.followed.get(channel);
    if (state === undefined || state !== asked.state || state.isPaused || state.isServerSide) return;
    if (reply.error !== null) this.#refused(state, reply.error);
    else if (reply.subscribe !== null) this.#placed(state, reply.subscribe, asked.position);
  }

  #placed(state, result, asked) {
    const wasLive = state.isLive;
    const gap = state.subscribed(result, asked);
    if (gap !== null) {
      const [before, after] = gap;
      this.#outputs.push(["Gap", state.channel, before.epoch, before.offset, after.epoch, after.offset]);
    }
    if (gap !== null || !wasLive) this.#reportSubscribed(state, result.recovered);
    this.#deliver(state, result.publications);
    if (state.isLive) state.refusals = 0;
  }

  #reportSubscribed(state, wasRecovered) {
    const { epoch, offset } = state.position ?? { epoch: "", offset: 0 };
    this.#outputs.push(["Subscribed", state.channel, epoch, offset, wasRecovered]);
  }

  #refused(state, error) {
    state.lost();
    if (!error.temporary) {
      this.#end(state, error.code, error.message);
      return;
    }
    const { backoffBaseS, backoffCapS } = this.#options;
    const limitS = Math.min(backoffCapS, backoffBaseS * 2 ** Math.min(state.refusals, 60));
    state.refusals++;
    state.notBefore = this.now + Math.max(this.#draw() * limitS, retryAfterS(error.message));
    this.#resubscribeAt(state.notBefore);
  }

  #resubscribeAt(when) {
    this.#deadlines.set("resubscribe", Math.min(when, this.#deadlines.get("resubscribe") ?? when));
  }

  #end(state, code, reason) {
    this.followed.delete(state.channel);
    this.#outputs.push(["Unsubscribed", state.channel, code, reason]);
    this.#hasNews();
  }

  #deliver(state, pubs) {
    for (const pub of state.news(pubs)) {
      this.#hasNews();
      this.#outputs.push(state.delivered(pub));
    }
    const connection = this.connection;
    if (connection === null) return;
    connection.hadFullPage ||= pubs.length >= FULL_PAGE;
    if (state.isLive || connection.isPull) return;
    if (state.isServerSide) {
      this.isBroken = true;
    } else {
      // If the server has nothing better to send, this must not go round and round.
      this.#unsubscribe(state.channel);
      this.#refused(state, { code: 0, message: "", temporary: true });
      this.flush();
    }
  }

  #hasNews() {
    if (this.connection !== null) this.connection.hadNews = true;
  }

  #subscribedByServer(channel, result) {
    let state = this.followed.get(channel);
    if (state === undefined) {
      state = new ChannelState(channel, null);
      state.isWanted = false;
      this.followed.set(channel, state);
    }
    state.isServerSide = true;
    if (state.isPaused) this.#unsubscribe(channel);
    else this.#placed(state, result, state.position);
  }

  // Publishes and requests.

  publish(channel, data, encoding, idempotencyKey) {
    const key = this.publishes.add(channel, data, encoding, idempotencyKey, this.now, this.isClosed);
    this.pump();
    return key;
  }

  /**
   * Sends the publishes that may go. Polling requests are independent of each other, so one carries all of
   * them.
   */
  pump() {
    const connection = this.connection;
    if (connection === null) return;
    if (connection.isPull) this.flush();
    if (!(connection.isPull && connection.isSending))
      for (const [key, body] of this.publishes.toSend(connection.isPull ? MAX_FRAME : Infinity))
        this.#ask(connection, "publish", body, key);
    this.flush();
  }

  resend() {
    this.publishes.nextRound();
    this.pump();
  }

  request(method, body) {
    const id = this.nextId();
    const request = this.requests.add(id, method, body, this.now, this.isClosed);
    if (request !== null && this.connection !== null) {
      this.#sendRequest(this.connection, id, request);
      this.flush();
    }
    return id;
  }

  #sendRequest(connection, id, request) {
    request.isSent = true;
    this.#ask(connection, request.method, request.json, id);
  }

  // Replies and pushes.

  reply(connection, id, method, subject, reply) {
    if (method === "subscribe") this.#subscribed(connection, id, subject, reply);
    else if (method === "publish") this.publishes.answered(subject, reply, this.now);
    else if (["rpc", "presence", "presence_stats", "history"].includes(method))
      this.requests.answered(subject, method, reply);
  }

  push({ channel, pub, subscribe, message, unsubscribe }) {
    const state = this.followed.get(channel);
    if (pub !== null) {
      if (state?.isLive) this.#deliver(state, [pub]);
    } else if (subscribe !== null) {
      this.#subscribedByServer(channel, subscribe);
    } else if (message !== null) {
      this.#outputs.push(["Message", message.data, message.source]);
    } else if (unsubscribe !== null && state !== undefined) {
      const { code, reason } = unsubscribe;
      state.lost();
      const isForGood = code < 2500 || state.isServerSide; // Centrifugal protocol, unsubscribe codes
      if (isForGood) this.#end(state, code, reason);
      else this.#refused(state, { code, message: reason, temporary: true });
    }
  }
}
