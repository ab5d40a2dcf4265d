// The client without its sockets: one machine that takes what happened and returns what to do.
// heartwire/client/machine.py is the same machine, and tests/vectors and tests/property/test_client_twins.py
// hold both to the same behaviour.
//
// Each input is a method whose first argument is the time. What is to be done comes out as `outputs`, for the
// driver to carry out in order. A connection is known by its generation; what an old one still reports is
// ignored.

import { Lifecycle } from "./lifecycle.js";
import { checkOptions, DEFAULTS } from "./options.js";
import { general } from "./outputs.js";
import { ABNORMAL, INSUFFICIENT_STATE } from "./states.js";
import { Traffic } from "./traffic.js";
import { parseReply } from "./wire.js";

const JUMP_S = 3; // a timer this late, or a wall clock this far ahead of the monotonic one: we slept

export class Machine {
  /** The driver empties it after each input. @type {import("./outputs.js").Output[]} */
  outputs = [];
  /** @type {Map<import("./states.js").Deadline, number>} */
  #deadlines = new Map();
  #options;
  #now;
  #lookedAt;
  #life;

  /**
   * @param {Partial<import("./options.js").Options>} given
   * @param {object} surroundings
   * @param {string} surroundings.prefix Of idempotency keys; unique among clients.
   * @param {() => number} surroundings.draw Chance, from 0 to 1.
   * @param {number} surroundings.now Monotonic seconds.
   * @param {number} surroundings.wall The wall clock.
   * @param {boolean} [surroundings.hasTokens] The application gives a token when it is asked (AskToken).
   * @param {string} [surroundings.token] The first one; "" for none.
   * @param {any} [surroundings.data] For the server's `on_connect`; null for none.
   */
  constructor(given, { prefix, draw, now, wall, hasTokens = false, token = "", data = null }) {
    const options = { ...DEFAULTS, ...given };
    checkOptions(options);
    this.#options = options;
    this.#now = now;
    this.#lookedAt = [now, wall];
    this.traffic = new Traffic(options, this.outputs, this.#deadlines, { prefix, draw, now });
    const surroundings = { draw, now, hasTokens, token, data };
    this.#life = new Lifecycle(options, this.outputs, this.#deadlines, this.traffic, surroundings);
  }

  get state() {
    return this.#life.state;
  }

  /** In use; "": none is. */
  get transport() {
    return this.#life.current?.transport ?? "";
  }

  /** Being tried while none is in use; "": none is. */
  get tried() {
    return this.#life.tried;
  }

  /** The server's name for this client; "" before the first connection. */
  get clientId() {
    return this.#life.clientId;
  }

  // Calls of the application.

  start(now) {
    this.#at(now);
    if (this.state === "closed") return;
    this.#deadlines.set("tick", now + this.#options.tickS);
    this.#life.tryNow();
  }

  close(now) {
    this.#at(now);
    this.#life.finish(1000, "closed by the application", this.#life.current !== null);
  }

  /** `since`: null (from now on), "earliest" or {epoch, offset}. */
  subscribe(now, channel, since, token = "") {
    this.#at(now);
    this.traffic.follow(channel, since, token);
  }

  unsubscribe(now, channel) {
    this.#at(now);
    this.traffic.unfollow(channel);
  }

  /** Delivers nothing of a channel until `resume`; nothing is lost meanwhile that the server keeps. */
  pause(now, channel) {
    this.#at(now);
    this.traffic.pause(channel);
  }

  resume(now, channel) {
    this.#at(now);
    this.traffic.resume(channel);
  }

  /**
   * Publishes JSON (or what `encoding` says). Returns the key of the Published or Rejected to come, perhaps
   * at once. It is the idempotency key, too, unless one is given.
   */
  publish(now, channel, data, encoding, idempotencyKey = "") {
    this.#at(now);
    return this.traffic.publish(channel, data, encoding, idempotencyKey);
  }

  /** Returns the id of the Answered or Failed to come. */
  request(now, method, body) {
    this.#at(now);
    return this.traffic.request(method, body);
  }

  /** Answers AskToken. */
  token(now, token) {
    this.#at(now);
    this.#life.token(token);
  }

  /** Answers AskToken: there is none for now. */
  noToken(now, reason) {
    this.#at(now);
    this.#life.noToken(reason);
  }

  /** Takes "networkDown", "networkUp" or "wake". It may be wrong, so it never ends a connection. */
  hint(now, kind) {
    this.#at(now);
    this.#life.hint(kind);
  }

  // Reports of the transports.

  /** A frame, or the body of an answer, came in. */
  received(now, generation, data) {
    this.#at(now);
    const connection = this.#life.known(generation);
    if (connection === null) return;
    this.#life.probing.heard(connection, now);
    for (const line of data.split("\n")) {
      if (!line) continue;
      let reply;
      try {
        reply = parseReply(line);
      } catch (error) {
        this.#life.lost(connection, ABNORMAL, `not of the protocol: ${error.message}`);
        return;
      }
      this.#life.reply(connection, reply);
      if (this.#life.known(generation) === null) return;
    }
    if (connection !== this.#life.current) return;
    this.traffic.pump();
    if (this.traffic.isBroken) this.#life.lost(connection, INSUFFICIENT_STATE, "something was left out");
  }

  /** The request of a Send was answered, and the answer was given to `received`. */
  sent(now, generation) {
    this.#at(now);
    const connection = this.#life.known(generation);
    if (connection === null) return;
    connection.isSending = false;
    this.#deadlines.delete("sending");
    if (connection === this.#life.current) this.traffic.pump();
  }

  /** The request of the last Poll was answered, and the answer was given to `received`. */
  polled(now, generation) {
    this.#at(now);
    const connection = this.#life.known(generation);
    if (connection === null) return;
    if (connection === this.#life.current) this.#life.polling.answered(connection, now);
    else this.#life.lost(connection, ABNORMAL, "an answer without a word of `connect`");
  }

  /**
   * A connection ended or could not be opened, or one of its requests failed. `isReachable`: a TCP connection
   * came about; `wasPoll`: the request of a Poll failed; `afterS`: when the server wants its client back.
   */
  lost(now, generation, code, reason, { isReachable = true, wasPoll = false, afterS = 0 } = {}) {
    this.#at(now);
    const connection = this.#life.known(generation);
    if (connection === null) return;
    if (wasPoll && code === ABNORMAL && this.#life.polling.cut(connection, now)) return;
    this.#life.lost(connection, code, reason, { isReachable, afterS });
  }

  // Time.

  /** When `handleDeadline` is to be called at the latest; null: never. */
  nextDeadline() {
    return this.#deadlines.size ? Math.min(...this.#deadlines.values()) : null;
  }

  /** Time has passed. May be called at any time, with both clocks. */
  handleDeadline(now, wall) {
    this.#at(now);
    const due = this.nextDeadline();
    const [before, wallBefore] = this.#lookedAt;
    this.#lookedAt = [now, wall];
    if (due !== null && Math.max(now - due, wall - wallBefore - (now - before)) > JUMP_S) this.#life.woke();
    for (const [name, handle] of Machine.#DEADLINES) {
      if ((this.#deadlines.get(name) ?? now + 1) <= now) {
        this.#deadlines.delete(name);
        handle(this);
      }
    }
  }

  /**
   * In the order in which those that are due are handled. @type {[import("./states.js").Deadline, (machine:
   * Machine) => void][]}
   */
  static #DEADLINES = [
    ["token", machine => machine.#life.noToken("the application gave none in time")],
    ["open", machine => machine.#dueOpen()],
    [
      "probe",
      machine => machine.#dead(`no answer to a probe within ${general(machine.#options.probeTimeoutS)} s`),
    ],
    ["silence", machine => machine.#dead("nothing was heard in time")],
    ["sending", machine => machine.#dead("a request was not answered in time")],
    ["attempt", machine => machine.#life.tryNow()],
    ["refresh", machine => machine.#life.tokens.ask(machine.#now)],
    ["poll", machine => machine.#duePoll()],
    ["resend", machine => machine.traffic.resend()],
    ["resubscribe", machine => machine.traffic.resubscribeDue()],
    ["publish", machine => machine.traffic.publishes.expire(machine.#now)],
    ["request", machine => machine.traffic.requests.expire(machine.#now)],
    ["upgrade", machine => machine.#life.upgrade()],
    ["tick", machine => machine.#deadlines.set("tick", machine.#now + machine.#options.tickS)],
  ];

  #dead(reason) {
    const { current } = this.#life;
    if (current !== null) this.#life.lost(current, ABNORMAL, reason);
  }

  #dueOpen() {
    const { attempt } = this.#life;
    if (attempt !== null) this.#life.lost(attempt, ABNORMAL, "no answer in time", { isTimeout: true });
  }

  #duePoll() {
    const { current } = this.#life;
    if (current?.isPull) this.#life.polling.poll(current, this.#now);
  }

  #at(now) {
    this.#now = this.#life.now = this.traffic.now = now;
  }
}
