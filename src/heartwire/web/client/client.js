// The client as applications see it: heartwire/client/client.py. docs/javascript.md says how it is used.

import {
  baseOf,
  checkChannel,
  checkIdempotencyKey,
  checkLimit,
  checkNames,
  checkSignal,
  checkSize,
  checkText,
  checkType,
  jsonOf,
} from "./arguments.js";
import { Driver } from "./driver.js";
import { Emitter } from "./emitter.js";
import { HeartwireError } from "./errors.js";
import { checkOptions, DEFAULTS, TRANSPORTS } from "./options.js";
import { noteText } from "./outputs.js";
import { encode, historyOf, parsePosition, presenceOf, publication, tokenOf } from "./received.js";
import { LOCAL, STREAM_CLOSED } from "./states.js";
import { Stream } from "./streams.js";
import { StreamAccess } from "./streams_http.js";
import { streamUrl } from "./streams_wire.js";
import { Subscription } from "./subscription.js";
import { listenToSystem, pageStorage, recallTransport, rememberTransport } from "./system.js";

/** The options of `connect` beside `DEFAULTS`, which are the machine's. @type {any} */
const SHELL_DEFAULTS = {
  token: "",
  getToken: null,
  data: null,
  headers: {},
  signal: null,
  storage: undefined,
  debugUrl: null,
  WebSocket: undefined,
  fetch: undefined,
};
const NO_WEBSOCKET =
  "there is no WebSocket here (Node has one from 22 on; or pass a class as the option WebSocket)";

function take(map, key) {
  const value = map.get(key);
  map.delete(key);
  return value;
}

/** One client. Made by `connect`. */
export class Client extends Emitter {
  #driver;
  #base;
  #storage;
  #maxQueueItems;
  #maxMessageBytes;
  #closeTimeoutS;
  #access;
  #publishes = new Map(); // how to settle them, by key
  #requests = new Map(); // the same, by id
  #subscriptions = new Map(); // by channel
  #isLeaving = false;
  #left = /** @type {Promise<void> | null} */ (null);
  #idle = () => {};
  #end = new AbortController();

  constructor(url, given = {}) {
    super((error, name) => this.#failed(error, name));
    checkNames(given, [...Object.keys(SHELL_DEFAULTS), ...Object.keys(DEFAULTS)]);
    const shell = shellOptions(given);
    const { signal, debugUrl } = shell;
    const WebSocket = shell.WebSocket ?? globalThis.WebSocket;
    const fetch = shell.fetch ?? globalThis.fetch;
    const environment = /** @type {any} */ (globalThis).process?.env;
    const address = debugUrl ?? environment?.HEARTWIRE_DEBUG_URL;
    this.#base = baseOf(address || (url ?? globalThis.location?.origin));
    this.#storage = shell.storage === undefined ? pageStorage() : shell.storage;
    const isLacking = WebSocket === undefined && (given.transports ?? TRANSPORTS).includes("websocket");
    const options = machineOptions(given, isLacking, recallTransport(this.#storage, this.#base));
    this.#maxQueueItems = options.maxQueueItems;
    this.#maxMessageBytes = options.maxMessageBytes;
    this.#closeTimeoutS = options.closeTimeoutS;
    const surroundings = { ...shell, base: this.#base, WebSocket, fetch };
    this.#access = new StreamAccess({ ...surroundings, options });
    this.#driver = new Driver(options, surroundings, {
      take: ([name, ...fields]) => Client.#TAKE[name](this, ...fields),
      problem: error => this.#problem(error),
    });
    signal?.addEventListener("abort", () => this.close(), { signal: this.#end.signal });
    // Later, so that the application can listen, and follow channels with the first request.
    queueMicrotask(() => this.#start(isLacking));
    if (signal?.aborted) this.close();
  }

  /** "connecting", "online", "waiting", "offline" or "closed". */
  get state() {
    return this.#driver.machine.state;
  }

  /** In use; "" where there is none. */
  get transport() {
    return this.#driver.machine.transport;
  }

  /** The number of publishes without an answer. */
  get pending() {
    return this.#publishes.size;
  }

  /** The server's name for this client. */
  get clientId() {
    return this.#driver.machine.clientId;
  }

  /** Follows a channel. `callback` gets each publication. */
  subscribe(channel, callback = null, options = {}) {
    checkNames(options, ["since", "token", "signal", "onGap"]);
    const { since = null, token = "", signal = null, onGap = null } = options;
    checkChannel(channel);
    checkText("token", token ?? "");
    checkSignal(signal);
    checkType("callback", callback, "function");
    checkType("onGap", onGap, "function");
    this.#checkOpen();
    if (this.#subscriptions.has(channel))
      throw new Error(`${channel} is followed already: listen to the subscription that there is`);
    const after = since === null || since === "earliest" ? since : parsePosition(since);
    const subscription = new Subscription(channel, {
      maxItems: this.#maxQueueItems,
      pause: () => this.#driver.input("pause", channel),
      resume: () => this.#driver.input("resume", channel),
      end: () => this.#unsubscribe(subscription),
      failed: (error, name) => this.#failed(error, name),
    });
    this.#subscriptions.set(channel, subscription);
    if (callback !== null) subscription.on("publication", callback);
    if (onGap !== null) subscription.on("gap", onGap);
    signal?.addEventListener("abort", () => subscription.unsubscribe(), { once: true });
    this.#driver.input("subscribe", channel, after, token ?? "");
    if (signal?.aborted) subscription.unsubscribe();
    return subscription;
  }

  /**
   * Publishes. Resolves to the position once the server has kept it; sent again, and applied once, over
   * whatever breaks.
   */
  async publish(channel, data, options = {}) {
    checkNames(options, ["signal", "idempotencyKey"]);
    const { signal = null, idempotencyKey = "" } = options;
    checkChannel(channel);
    checkIdempotencyKey(idempotencyKey);
    checkSignal(signal);
    signal?.throwIfAborted();
    const [json, encoding] = encode(data);
    checkSize(json, channel, idempotencyKey, this.#maxMessageBytes);
    return this.#ask(this.#publishes, signal, "publish", channel, json, encoding, idempotencyKey);
  }

  /**
   * A durable stream, over requests of its own. `name`: of the stream, or its whole address; `path`: below
   * which the server has its streams.
   */
  stream(name, options = {}) {
    checkNames(options, ["path"]);
    const { path = "streams" } = options;
    return new Stream(streamUrl(this.#base, path, name), this.#access);
  }

  /** The members of a channel, by client id. */
  async presence(channel) {
    checkChannel(channel);
    return presenceOf((await this.#request("presence", { channel }))[0]);
  }

  /** What a channel has kept: `limit` publications after `since`, or in reverse. */
  async history(channel, options = {}) {
    checkNames(options, ["limit", "since", "reverse"]);
    const { limit = 100, since = null, reverse = false } = options;
    checkChannel(channel);
    checkLimit(limit);
    checkType("reverse", reverse, "boolean");
    const after = since === null ? {} : { since: parsePosition(since) };
    return historyOf(channel, ...(await this.#request("history", { channel, limit, reverse, ...after })));
  }

  /** Calls a function of the application on the server. */
  async rpc(method, data = null) {
    checkText("method", method);
    checkSize(jsonOf(data), method, "", this.#maxMessageBytes);
    return (await this.#request("rpc", { method, data }))[0].data;
  }

  /** Leaves for good. Pending publishes have `closeTimeoutS` to be answered. */
  close() {
    this.#left ??= this.#leave();
    return this.#left;
  }

  async #leave() {
    this.#isLeaving = true;
    if (this.#publishes.size) {
      let timer;
      await new Promise(resolve => {
        this.#idle = () => resolve(null);
        timer = setTimeout(resolve, this.#closeTimeoutS * 1000);
        this.#end.signal.addEventListener("abort", resolve);
      });
      clearTimeout(timer);
    }
    this.#driver.input("close");
  }

  #start(isLacking) {
    if (this.state === "closed") return;
    const hint = kind => this.#driver.input("hint", kind);
    listenToSystem(this.#end.signal, hint, () => this.#driver.putAside());
    if (isLacking) this.#note("unavailable", "websocket", NO_WEBSOCKET, "");
    this.#driver.input("start");
  }

  /** What is done with the outputs of the machine that the driver hands on, by name. */
  static #TAKE = {
    StateChanged(client, state, reason) {
      const { tried, transport } = client.#driver.machine;
      const used = { connecting: tried, online: transport }[state] ?? "";
      client.emit("state", { state, transport: used, reason });
      if (state !== "online") return;
      rememberTransport(client.#storage, client.#base, client.transport);
      client.emit("open", { transport: client.transport });
    },
    Delivered(client, channel, ...more) {
      const made = publication(channel, ...more);
      client.#subscriptions.get(channel)?.deliver(made);
      client.emit("message", made);
    },
    Message(client, data, source) {
      client.emit("message", publication("", "", 0, data, "", "", "", source));
    },
    Gap(client, channel, beforeEpoch, beforeOffset, afterEpoch, afterOffset) {
      client.#gap(channel, tokenOf(beforeEpoch, beforeOffset), tokenOf(afterEpoch, afterOffset));
    },
    Subscribed(client, channel, epoch, offset, wasRecovered) {
      client.#subscriptions.get(channel)?.subscribed(tokenOf(epoch, offset), wasRecovered);
    },
    Unsubscribed(client, channel, code, reason) {
      const error = new HeartwireError(code, `${channel}: ${reason}`);
      const subscription = take(client.#subscriptions, channel);
      if (code === STREAM_CLOSED) subscription?.closed(reason.replace("stream closed: ", ""), error);
      else if (subscription?.ended(error) === false) client.#problem(error);
    },
    Published: (client, key, epoch, offset) => take(client.#publishes, key)?.resolve(tokenOf(epoch, offset)),
    Rejected(client, key, code, message, isUnknown) {
      take(client.#publishes, key)?.reject(new HeartwireError(code, message, isUnknown));
    },
    Answered: (client, id, result, line) => take(client.#requests, id)?.resolve([result, line]),
    Failed(client, id, code, message, isUnknown) {
      take(client.#requests, id)?.reject(new HeartwireError(code, message, isUnknown));
    },
    Closed: (client, ...how) => client.#closed(...how),
    Note: (client, ...fields) => client.#note(...fields),
  };

  #note(kind, transport, reason, next) {
    this.emit("note", { kind, transport, reason, next, text: noteText(kind, transport, reason, next) });
  }

  #gap(channel, before, after) {
    const subscription = this.#subscriptions.get(channel);
    subscription?.place(after);
    const gap = { channel, before, after };
    const isHeard = [subscription?.emit("gap", gap), this.emit("gap", gap)].includes(true);
    if (!isHeard) console.warn(`heartwire: ${channel}: what came after ${before} and up to ${after} is lost`);
  }

  #closed(code, reason, wasOpen, nextAttemptS) {
    this.emit("close", { code, reason, wasOpen, nextAttemptS });
    if (nextAttemptS >= 0) return;
    const error = this.#isLeaving ? null : new HeartwireError(code, reason);
    this.#end.abort();
    for (const subscription of [...this.#subscriptions.values()]) subscription.ended(error);
    this.#subscriptions.clear();
    if (error !== null) this.#problem(error);
  }

  #problem(error) {
    if (!this.emit("error", { error })) console.error("heartwire:", error);
  }

  /** A listener has failed. For one of `error` there is no such event: that would go on and on. */
  #failed(error, name) {
    console.error(`heartwire: a listener of "${name}" failed:`, error);
    if (name !== "error") this.emit("error", { error });
  }

  #checkOpen() {
    if (this.state === "closed") throw new HeartwireError(LOCAL, "the client is closed");
  }

  #unsubscribe(subscription) {
    if (this.#subscriptions.get(subscription.channel) !== subscription) return;
    this.#subscriptions.delete(subscription.channel);
    this.#driver.input("unsubscribe", subscription.channel);
    subscription.ended(null);
  }

  #request(method, body) {
    return this.#ask(this.#requests, null, "request", method, body);
  }

  /**
   * A promise for the answer to an input of the machine, which returns the name by which the answer will
   * come.
   */
  #ask(waiting, signal, input, ...fields) {
    return new Promise((resolve, reject) => {
      const name = this.#driver.prepare(input, ...fields);
      const abort = () => take(waiting, name)?.reject(signal.reason);
      const last = settle => value => {
        signal?.removeEventListener("abort", abort);
        settle(value);
        if (!this.#publishes.size) this.#idle();
      };
      waiting.set(name, { resolve: last(resolve), reject: last(reject) });
      signal?.addEventListener("abort", abort);
      this.#driver.carryOut(); // only now: the answer may be there already
    });
  }
}

/** The other options, checked: with what is wrong there no connection would come about. */
function shellOptions(given) {
  const chosen = Object.entries(SHELL_DEFAULTS).map(([name, value]) => [
    name,
    given[name] === undefined ? value : given[name],
  ]);
  const shell = /** @type {typeof SHELL_DEFAULTS} */ (Object.fromEntries(chosen));
  shell.token ??= "";
  checkSignal(shell.signal);
  checkText("token", shell.token);
  checkType("getToken", shell.getToken, "function");
  jsonOf(shell.data);
  new Headers(shell.headers); // throws where fetch would, again and again
  return shell;
}

function tuning(given) {
  const names = Object.keys(DEFAULTS).filter(name => name in given);
  return { ...DEFAULTS, ...Object.fromEntries(names.map(name => [name, given[name]])) };
}

/**
 * The options of the machine, with the transports that exist here, and the one that worked the last time
 * first.
 */
function machineOptions(given, isLackingWebSocket, worked) {
  const options = tuning(given);
  if (isLackingWebSocket) {
    options.transports = options.transports.filter(name => name !== "websocket");
    if (!options.transports.length) throw new TypeError(NO_WEBSOCKET);
  }
  if (options.firstTransport === null && options.transports?.includes(worked))
    options.firstTransport = worked;
  return options;
}

/** A client that connects, and stays connected until it is closed. `url`: see `baseOf`. */
export function connect(url, options) {
  return new Client(url, options);
}

/** A durable stream at an address, on any server, without a client. The options are those of `connect`. */
export function stream(url, given = {}) {
  checkNames(given, [...Object.keys(SHELL_DEFAULTS), ...Object.keys(DEFAULTS)]);
  const shell = shellOptions(given);
  const options = tuning(given);
  checkOptions(options);
  const address = new URL(url, globalThis.location?.href);
  const fetch = shell.fetch ?? globalThis.fetch;
  return new Stream(address, new StreamAccess({ ...shell, base: address.origin, fetch, options }));
}
