// Polls of "longpoll" and "poll": what each asks, how long the server may hold it, and when the next one
// follows. heartwire/client/polling.py.

import { oneDecimal } from "./outputs.js";

/** A long poll that fails without an answer, but not at once, was cut by something in between. */
const CUT_AFTER_S = 2;
const SHORTEST_WAIT_S = 1;
const QUICK_S = 0.5;

export class Polling {
  #options;
  #outputs;
  #deadlines;
  #traffic;
  #connect;
  #waitS;

  /** `connect` makes the `connect` command of a connection. */
  constructor(options, outputs, deadlines, traffic, connect) {
    this.#options = options;
    this.#outputs = outputs;
    this.#deadlines = deadlines;
    this.#traffic = traffic;
    this.#connect = connect;
    this.#waitS = options.pollWaitS;
  }

  /** Allows long waits again: what cut them may be on another network. */
  reset() {
    this.#waitS = this.#options.pollWaitS;
  }

  /** Asks for news of all channels. The server holds its answer only once each of them has a position. */
  poll(connection, now, askedWaitS = /** @type {number | null} */ (null)) {
    const isOnline = connection.onlineAt !== null;
    if (isOnline) this.#deadlines.delete("poll");
    const mayWait = connection.transport === "longpoll" && this.#traffic.isSettled;
    const waitS = askedWaitS ?? (mayWait ? this.#waitS : 0);
    connection.beginPoll(now, waitS);
    let commands = this.#traffic.subscribeCommands(connection, true);
    if (!isOnline || this.#traffic.hasServerSide) commands.unshift(this.#connect(connection));
    if (!commands.length) commands = [connection.command(this.#traffic.nextId(), "ping", {})];
    if (isOnline) this.#deadlines.set("silence", now + waitS + this.#options.pongTimeoutS);
    this.#outputs.push(["Poll", connection.generation, commands.join("\n"), waitS]);
  }

  /** Plans the next poll: at once, or after `pollIntervalS`. */
  answered(connection, now) {
    if (connection.cutAfterS) {
      this.#waitS = Math.max(SHORTEST_WAIT_S, connection.cutAfterS * 0.6);
      connection.cutAfterS = 0;
      const reason = `asking for ${oneDecimal(this.#waitS)} s from now on`;
      this.#outputs.push(["Note", "pollsCut", connection.transport, reason, ""]);
    }
    this.#deadlines.delete("silence");
    connection.hadHeartbeat ||= connection.waitS > 0 || connection.transport === "poll";
    if (this.#deadlines.has("poll")) return;
    if (this.#isIdle(connection, now)) this.#deadlines.set("poll", now + this.#options.pollIntervalS);
    else this.poll(connection, now);
  }

  /**
   * Where a failed poll was cut by something in between, sends one that is answered at once. Returns whether
   * it was: then the connection is not lost yet.
   */
  cut(connection, now) {
    const tookS = now - connection.polledAt;
    if (connection.onlineAt === null || connection.waitS <= SHORTEST_WAIT_S || tookS < CUT_AFTER_S)
      return false;
    connection.cutAfterS = tookS;
    this.poll(connection, now, 0);
    return true;
  }

  #isIdle(connection, now) {
    if (connection.transport === "poll") return !(connection.hadFullPage && connection.hadNews);
    const isQuick = now - connection.polledAt < QUICK_S;
    return !connection.hadNews && isQuick && (connection.waitS > 0 || !this.#traffic.isSettled);
  }
}
