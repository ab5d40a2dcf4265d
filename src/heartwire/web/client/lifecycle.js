// The connections of one client: tried, established, probed, lost, and tried again.
// heartwire/client/lifecycle.py.
//
// There are at most two, the one in use (`current`) and the one being tried (`attempt`), because a better
// transport is tried while the lesser goes on.

import { Attempts } from "./attempts.js";
import { Connection } from "./connection.js";
import { Polling } from "./polling.js";
import { Probing } from "./probing.js";
import { LOCAL, TOO_LARGE, TRANSITIONS, verdict } from "./states.js";
import { Tokens } from "./tokens.js";
import { PONG, retryAfterS } from "./wire.js";

const NEEDS_TOKEN = [101, 109]; // unauthorized, token expired (Centrifugal protocol, error codes)
const OF_CURRENT = ["probe", "silence", "sending", "poll", "upgrade", "refresh"]; // deadlines of `current`

export class Lifecycle {
  state = /** @type {import("./states.js").State} */ ("waiting");
  current = /** @type {Connection | null} */ (null);
  attempt = /** @type {Connection | null} */ (null);
  clientId = "";
  #generation = 0;
  #isNetworkDown = false;
  #isHinted = false; // while an attempt is under way: the network on which it began may be gone
  #options;
  #outputs;
  #deadlines;
  #traffic;
  #data;
  #attempts;

  constructor(options, outputs, deadlines, traffic, { draw, now, hasTokens, token, data }) {
    /** Set by the machine before it calls. */
    this.now = now;
    this.#options = options;
    this.#outputs = outputs;
    this.#deadlines = deadlines;
    this.#traffic = traffic;
    this.#data = data;
    this.#attempts = new Attempts(options, outputs, deadlines, { draw, now });
    this.tokens = new Tokens(options, outputs, deadlines, { draw, canAsk: hasTokens, token });
    const connect = connection => this.#connect(connection);
    this.polling = new Polling(options, outputs, deadlines, traffic, connect);
    this.probing = new Probing(options, deadlines, traffic, this.polling);
  }

  /** The connection of a generation; null where it is over. */
  known(generation) {
    return [this.current, this.attempt].find(connection => connection?.generation === generation) ?? null;
  }

  /** The transport that is tried while none is in use; "": none is. */
  get tried() {
    return this.state === "connecting" ? (this.attempt?.transport ?? this.#attempts.ladder.transport) : "";
  }

  // Attempts.

  /** Makes an attempt where none is under way, as soon as the bucket allows it. */
  tryNow() {
    if (this.attempt !== null || this.current !== null) return;
    if (this.state === "connecting" || this.state === "closed") return;
    if (!this.#attempts.take(this.now, "attempt")) return;
    const { ladder } = this.#attempts;
    this.#on("attempt", `trying ${ladder.transport}`);
    if (this.tokens.isMissing) this.tokens.ask(this.now);
    else this.#open(ladder.rung);
  }

  /** Tries a better transport, as soon as the bucket allows it. */
  upgrade() {
    const { ladder } = this.#attempts;
    if (this.current === null || this.attempt !== null || ladder.rung === 0) return;
    if (this.tokens.isMissing) {
      this.tokens.ask(this.now);
      this.#attempts.planUpgrade(this.now);
    } else if (this.#attempts.take(this.now, "upgrade")) {
      this.#open(ladder.better());
    }
  }

  /** Takes a token of the application, and uses it where one is waited for. */
  token(token) {
    const { current } = this;
    this.tokens.answered(token);
    if (current === null) {
      if (this.attempt === null && this.state === "connecting") this.#open(this.#attempts.ladder.rung);
    } else if (current.isPull) {
      this.tokens.planRefresh(this.now); // each poll carries it
    } else {
      current.queue.push(current.command(this.#traffic.nextId(), "refresh", { token }));
      this.#traffic.flush();
    }
  }

  /** The application has no token for now: ask again later. */
  noToken(reason) {
    this.tokens.answered(null);
    if (this.current !== null) this.tokens.refreshLater(this.now);
    else if (this.attempt === null && this.state === "connecting")
      this.#wait(LOCAL, `no token: ${reason}`, false, this.#attempts.delayS(this.now));
  }

  #open(rung) {
    const transport = this.#attempts.ladder.transports[rung];
    const generation = ++this.#generation;
    const connection = new Connection(generation, transport, rung, this.now, this.#options.pingIntervalS);
    this.attempt = connection;
    this.#deadlines.set("open", this.now + this.#attempts.openTimeoutS());
    if (connection.isPull) {
      this.#outputs.push(["Open", generation, transport, ""]);
      this.polling.poll(connection, this.now, 0);
    } else {
      const commands = [this.#connect(connection), ...this.#traffic.subscribeCommands(connection, true)];
      this.#outputs.push(["Open", generation, transport, commands.join("\n")]);
    }
  }

  #connect(connection) {
    const { token } = this.tokens;
    const data = this.#data;
    const subs = this.#traffic.serverSidePositions();
    const body = {
      name: "heartwire",
      ...(token && { token }),
      ...(data !== null && { data }),
      ...(subs !== null && { subs }),
    };
    return connection.command(this.#traffic.nextId(), "connect", body);
  }

  // Replies and pushes of the server.

  reply(connection, reply) {
    const { id, push } = reply;
    if (push !== null) {
      this.#pushed(connection, push);
    } else if (!id && !connection.isPull) {
      connection.hadHeartbeat = true;
      connection.queue.push(PONG);
      if (connection === this.current) this.#traffic.flush();
    } else if (connection.waiting.has(id)) {
      const [method, subject] = connection.waiting.get(id);
      connection.waiting.delete(id);
      if (method === "connect") this.#connected(connection, reply);
      else if (method === "refresh") this.#refreshed(connection, reply);
      else if (connection === this.current) this.#traffic.reply(connection, id, method, subject, reply);
    }
  }

  #pushed(connection, push) {
    if (push.disconnect !== null) this.lost(connection, push.disconnect.code, push.disconnect.reason);
    else if (connection !== this.current) return;
    else if (push.refresh !== null) this.tokens.expires(push.refresh, this.now);
    else this.#traffic.push(push);
  }

  #connected(connection, { error, connect }) {
    if (error !== null) this.#refused(connection, error);
    else if (connect !== null && connection === this.attempt) this.#established(connection, connect);
    else if (connect !== null) this.#traffic.placeServerSide(connect.subs);
  }

  #refreshed(connection, { error, refresh }) {
    if (error?.temporary) this.tokens.refreshLater(this.now, retryAfterS(error.message));
    else if (error !== null) this.#refused(connection, error);
    else if (refresh !== null) this.tokens.expires(refresh, this.now);
  }

  #refused(connection, { code, message, temporary }) {
    const asks = NEEDS_TOKEN.includes(code) ? "token" : temporary ? "later" : "never";
    this.lost(connection, code, message, { asks });
  }

  #established(connection, result) {
    const before = this.current;
    this.attempt = null;
    this.#isHinted = false;
    this.#forget("open", "attempt", ...OF_CURRENT);
    if (before !== null) {
      this.#outputs.push(["Close", before.generation]);
      this.#traffic.lost();
      this.#outputs.push(["Note", "movedUp", before.transport, "", connection.transport]);
    } else {
      this.polling.reset();
    }
    this.current = connection;
    connection.onlineAt = this.now;
    connection.pingIntervalS = result.ping || connection.pingIntervalS;
    this.clientId = result.client;
    this.#attempts.established(connection, this.now, before !== null);
    this.tokens.expires(result, this.now);
    if (connection.transport === "sse")
      this.#outputs.push(["Session", connection.generation, result.session, result.node]);
    this.#on("established", connection.transport);
    this.#traffic.online(connection, result.subs);
    this.probing.heard(connection, this.now);
  }

  // Reports of the system.

  /** See `Machine.hint`. */
  hint(kind) {
    if (kind === "networkDown") {
      this.#isNetworkDown = true;
      if (this.current !== null) this.probing.probe(this.current, this.now);
      else if (this.state === "waiting") this.#on("networkDown", "the system says that there is no network");
      return;
    }
    if (kind === "networkUp") {
      this.#isNetworkDown = false;
      if (this.state === "offline") this.#on("networkUp", "the system says that there is a network");
    }
    this.woke();
  }

  /** Has the connection prove itself, or tries at once: time has passed unseen, or the network is another. */
  woke() {
    if (this.attempt !== null) {
      this.#isHinted = this.current === null;
      const due = this.#deadlines.get("open");
      // On a network that is gone the attempt is not worth more time than a new one.
      if (due <= this.now) this.probing.excuse(this.attempt, "open", this.now);
      else this.#deadlines.set("open", Math.min(due, this.now + this.#options.openTimeoutS));
    }
    if (this.current !== null) {
      this.probing.probe(this.current, this.now);
    } else if (this.now >= this.#attempts.notBefore) {
      this.#deadlines.delete("attempt");
      this.tryNow();
    } else if (this.attempt === null && this.#deadlines.has("attempt")) {
      this.#deadlines.set("attempt", this.#attempts.notBefore);
    }
  }

  // The end of a connection.

  /** Ends a connection, and decides what is next. */
  lost(
    connection,
    code,
    reason,
    { asks = verdict(code), isReachable = true, isTimeout = false, afterS = 0 } = {},
  ) {
    this.#outputs.push(["Close", connection.generation]);
    if (asks === "token") asks = this.tokens.drop() ? "now" : "never";
    const leastS = Math.max(afterS, retryAfterS(reason), asks === "later" ? this.#options.laterS : 0);
    this.#attempts.holdOff(this.now + leastS);
    const wasOpen = connection === this.current;
    if (wasOpen) {
      this.#forgetCurrent(code, reason);
    } else {
      this.attempt = null;
      this.#deadlines.delete("open");
      if (this.current !== null) {
        this.#outputs.push(["Note", "notYet", connection.transport, reason, ""]);
        this.#attempts.planUpgrade(this.now);
        return;
      }
    }
    if (asks === "never") {
      this.finish(code, reason, wasOpen);
      return;
    }
    const stepsDown = this.#attempts.blame(connection, code, reason, this.now, { isReachable, isTimeout });
    const atOnce = stepsDown || this.#isHinted;
    this.#isHinted = false;
    this.#wait(code, reason, wasOpen, this.#attempts.delayS(this.now, atOnce));
  }

  /** Closes for good. Idempotent. */
  finish(code, reason, wasOpen) {
    if (this.state === "closed") return;
    this.#traffic.isClosed = true;
    for (const connection of [this.current, this.attempt])
      if (connection !== null) this.#outputs.push(["Close", connection.generation]);
    this.current = this.attempt = null;
    this.#traffic.close(reason);
    this.#on("closed", reason);
    this.#outputs.push(["Closed", code, reason, wasOpen, -1]);
    this.#deadlines.clear();
  }

  #forgetCurrent(code, reason) {
    this.current = null;
    this.#forget(...OF_CURRENT);
    if (code === TOO_LARGE) this.#traffic.publishes.rejectLargest(reason);
    this.#traffic.lost();
  }

  /** No connection is in use; makes the next attempt in `delayS`. */
  #wait(code, reason, wasOpen, delayS) {
    this.#on("lost", reason);
    this.#outputs.push(["Closed", code, reason, wasOpen, this.attempt === null ? delayS : 0]);
    if (this.attempt !== null) {
      this.#on("attempt", `trying ${this.attempt.transport}`); // a better transport is being tried already
      return;
    }
    if (this.#isNetworkDown) this.#on("networkDown", "the system says that there is no network");
    this.#deadlines.set("attempt", this.now + delayS);
    if (!delayS) this.tryNow();
  }

  #on(event, reason) {
    const state = TRANSITIONS[this.state][event];
    if (state === undefined) throw new Error(`${event} in ${this.state}`);
    if (state === this.state && event !== "established") return;
    this.state = state;
    this.#outputs.push(["StateChanged", state, reason]);
  }

  #forget(...names) {
    for (const name of names) this.#deadlines.delete(name);
  }
}
