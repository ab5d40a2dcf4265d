// One connection as the machine knows it: heartwire/client/connection.py.

import { command, takeFrame } from "./wire.js";

const POLLED = ["connect", "subscribe", "ping"];

export class Connection {
  /** Commands without a reply, by id: [method, subject]. @type {Map<number, [string, any]>} */
  waiting = new Map();
  /** Subscribes without a reply, by channel: {id, state, position}. */
  asked = new Map();
  /** Commands to send. @type {string[]} */
  queue = [];
  /** A time limit had passed during sleep, and was extended once since the server was heard last. */
  isExcused = false;
  isSending = false;
  onlineAt = /** @type {number | null} */ (null);
  hadHeartbeat = false;
  /** How long the server may hold the poll under way. */
  waitS = 0;
  hadNews = false;
  hadFullPage = false;
  cutAfterS = 0;

  constructor(generation, transport, rung, now, pingIntervalS) {
    this.generation = generation;
    this.transport = transport;
    this.rung = rung;
    this.pingIntervalS = pingIntervalS;
    this.polledAt = now;
    this.isPull = transport === "longpoll" || transport === "poll";
    this.isPosting = transport !== "websocket";
  }

  /** A command whose reply is awaited from now on; `subject` is the channel or the key that it is about. */
  command(id, method, body, subject = null) {
    this.waiting.set(id, [method, subject]);
    return command(id, method, body);
  }

  /** A poll begins. It replaces the last, whose commands without a reply will get none. */
  beginPoll(now, waitS) {
    this.polledAt = now;
    this.waitS = waitS;
    this.hadNews = this.hadFullPage = false;
    for (const [id, [method]] of this.waiting) if (POLLED.includes(method)) this.waiting.delete(id);
  }

  /** The next frame to send; "" where there is nothing, or a request is still under way. */
  takeFrame() {
    return this.isSending ? "" : takeFrame(this.queue);
  }
}
