/*
 * Heartwire for browsers, Web Workers and Node: channels over the best transport that the network lets
 * through, resumed without loss wherever it breaks. One file, no dependencies; docs/javascript.md says how it
 * is used.
 *
 * Made from the modules in client/ by tools/join.py: change them, then run `make format`.
 */

// -- errors --------------------------------------------------------------------------------------------------

// The error of the library.

/** A refusal of the server, or a failure. */
class HeartwireError extends Error {
  /**
   * @param {number} code docs/codes.md; 0: the client itself gave up
   * @param {string} message
   * @param {boolean} isUnknown whether it may have been done all the same
   * @param {string} reason the name of the code, of requests to streams
   */
  constructor(code, message, isUnknown = false, reason = "") {
    super(message || `code ${code}`);
    this.name = "HeartwireError";
    this.code = code;
    this.isUnknown = isUnknown;
    this.reason = reason;
  }
}

// -- states --------------------------------------------------------------------------------------------------

// The states of a client, and what a close code asks of it: heartwire/client/states.py, which has a drawing.

const ABNORMAL = 1006; // a connection that ended without a close frame (RFC 6455 7.1.5)
const LOCAL = 0; // what the client itself gives up
const LIMIT_EXCEEDED = 106; // over a limit, the client's own too (Centrifugal protocol, error codes)
const STREAM_CLOSED = 2100; // a subscription has got all of a durable stream
const INSUFFICIENT_STATE = 3010;
const TOO_LARGE = 1009;

/** @typedef {"connecting" | "online" | "waiting" | "offline" | "closed"} State */

/** Nothing else assigns the state. A pair that is not listed throws. */
const TRANSITIONS = {
  connecting: { established: "online", lost: "waiting", closed: "closed" },
  online: { established: "online", attempt: "online", lost: "waiting", closed: "closed" },
  waiting: { attempt: "connecting", networkDown: "offline", closed: "closed" },
  offline: { attempt: "connecting", networkUp: "waiting", closed: "closed" },
  closed: { closed: "closed" },
};

const LATER = new Set([1013, 3013]);
const NEW_TOKEN = new Set([3005, 3500]);
const NEVER = new Set([1002, 1003, 1007, 1008, 1010]);
const STALE = 3502; // no `connect` came in time; ours is sent at once, so the network has swallowed it

/** What a close code asks for: "now" (after the usual wait), "later", a new "token" first, or "never". */
function verdict(code) {
  if (NEW_TOKEN.has(code)) return "token";
  if (LATER.has(code)) return "later";
  if (code === STALE) return "now";
  const isForGood = NEVER.has(code) || (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000);
  return isForGood ? "never" : "now";
}

/**
 * The times at which the machine is to be called.
 * @typedef {"token" | "open" | "probe" | "silence" | "sending" | "attempt" | "refresh" | "poll" | "resend"
 *   | "resubscribe" | "publish" | "request" | "upgrade" | "tick"} Deadline
 */

// -- wire ----------------------------------------------------------------------------------------------------

// Commands and replies of the Centrifugal protocol as JSON lines: heartwire/client/wire.py. Only names of the
// protocol are snake_case.

const PONG = "{}";

const encoder = new TextEncoder();

/** Characters in a frame of many commands: the server takes 1 MiB, proxies and phones take less. */
const MAX_FRAME = 64 * 1024;

function fail(expected) {
  throw new SyntaxError(`expected ${expected}`);
}

const any = value => value;
const text = value => (typeof value === "string" ? value : fail("a string"));
const flag = value => (typeof value === "boolean" ? value : fail("true or false"));
const number = value => (Number.isFinite(value) ? value : fail("a number"));
const integer = value => (Number.isInteger(value) ? value : fail("an integer"));
const optional = of => value => (value === null ? null : of(value));
const list = of => value => (Array.isArray(value) ? value.map(of) : fail("an array"));
const isObject = value => typeof value === "object" && value !== null && !Array.isArray(value);
const table = of => value =>
  isObject(value) ? new Map(Object.entries(value).map(([name, one]) => [name, of(one)])) : fail("an object");

/**
 * Reads the known fields of an object, checked, with defaults for those that are missing. Other fields belong
 * to other versions of the protocol.
 * @returns {(value: any) => any}
 */
function struct(fields) {
  const known = Object.entries(fields);
  return value => {
    if (!isObject(value)) fail("an object");
    const made = {};
    for (const [name, [check, missing]] of known)
      made[name] = value[name] === undefined ? missing : check(value[name]);
    return made;
  };
}

const aPub = struct({
  data: [any, null],
  offset: [integer, 0],
  tags: [table(text), new Map()],
  info: [optional(struct({ user: [text, ""], client: [text, ""] })), null],
});
const aSubscription = struct({
  epoch: [text, ""],
  offset: [integer, 0],
  recovered: [flag, false],
  was_recovering: [flag, false],
  publications: [list(aPub), []],
});
const aConnection = struct({
  client: [text, ""],
  subs: [table(aSubscription), new Map()],
  ping: [number, 0],
  expires: [flag, false],
  ttl: [number, 0],
  session: [text, ""],
  node: [text, ""],
});
const anEnd = struct({ code: [integer, 0], reason: [text, ""] });
const aLease = struct({ expires: [flag, false], ttl: [number, 0] });
const aPush = struct({
  channel: [text, ""],
  pub: [optional(aPub), null],
  unsubscribe: [optional(anEnd), null],
  disconnect: [optional(anEnd), null],
  subscribe: [optional(aSubscription), null],
  message: [optional(struct({ data: [any, null] })), null],
  refresh: [optional(aLease), null],
});
const aReply = struct({
  id: [integer, 0],
  error: [optional(struct({ code: [integer, 0], message: [text, ""], temporary: [flag, false] })), null],
  push: [optional(aPush), null],
  connect: [optional(aConnection), null],
  subscribe: [optional(aSubscription), null],
  publish: [optional(struct({ epoch: [text, ""], offset: [integer, 0] })), null],
  refresh: [optional(aLease), null],
  rpc: [any, {}],
  presence: [any, {}],
  presence_stats: [any, {}],
  history: [any, {}],
});

/** Remembers where the data of publications stands, for `Publication.json`. */
function locate(line, pubs, ...path) {
  for (const [n, pub] of pubs.entries()) pub.source = [line, [...path, "publications", n, "data"]];
}

/** One line of the server: a reply where it has an id, else a push, else a ping. Throws `SyntaxError`. */
function parseReply(line) {
  try {
    const reply = { ...aReply(JSON.parse(line)), line };
    const { push, subscribe, connect } = reply;
    if (push?.pub) push.pub.source = [line, ["push", "pub", "data"]];
    if (push?.message) push.message.source = [line, ["push", "message", "data"]];
    if (push?.subscribe) locate(line, push.subscribe.publications, "push", "subscribe");
    if (subscribe !== null) locate(line, subscribe.publications, "subscribe");
    for (const [name, one] of connect?.subs ?? []) locate(line, one.publications, "connect", "subs", name);
    return reply;
  } catch (error) {
    throw new SyntaxError(`${JSON.stringify(line.slice(0, 80))}: ${error.message}`);
  }
}

/** Characters as Python counts them: a pair of surrogates is one. */
function characters(string) {
  if (!/[\ud800-\udbff]/.test(string)) return string.length;
  return string.length - (string.match(/[\ud800-\udbff][\udc00-\udfff]/g)?.length ?? 0);
}

/** Bytes as UTF-8. */
const byteLength = string => encoder.encode(string).length;

/** One command. A body that is a string is JSON already. */
const command = (id, method, body) =>
  `{"id":${id},"${method}":${typeof body === "string" ? body : JSON.stringify(body)}}`;

/**
 * Takes the first commands out of the list, as a frame of at most `MAX_FRAME`. A command that is larger goes
 * alone.
 */
function takeFrame(commands) {
  let size = 0;
  let taken = 0;
  for (const one of commands) {
    size += characters(one) + 1;
    if (taken && size > MAX_FRAME) break;
    taken++;
  }
  return commands.splice(0, taken).join("\n");
}

/** The seconds to wait that the reason of a close or an error names: `…; retry_after_ms=1500`. Else 0. */
function retryAfterS(reason) {
  const digits = /.*retry_after_ms=(\d{1,7})$/s.exec(reason);
  return digits ? Number(digits[1]) / 1000 : 0;
}

const HTTP_CODES = { 401: 3500, 403: 3507, 413: TOO_LARGE, 429: 1013, 503: 1013 };

/**
 * The close code and the reason that an HTTP answer stands for. An answer of something else than a Heartwire
 * server says nothing: 1006. But 413 means the same whoever sends it: a message that is too large for a proxy
 * must not be sent again and again.
 */
function closedByHttp(status, body) {
  try {
    const { error } = struct({ error: [struct({ code: [text], message: [text] })] })(JSON.parse(body));
    if (error?.code !== undefined && error.message !== undefined)
      return [HTTP_CODES[status] ?? ABNORMAL, `${error.code}: ${error.message}`];
  } catch {
    // the page of a proxy, or nothing
  }
  return [status === 413 ? TOO_LARGE : ABNORMAL, `HTTP ${status}`];
}

// -- arguments -----------------------------------------------------------------------------------------------

// Arguments of applications, checked before they can do harm: what a server cannot read would cost the
// connection, again on each new one, and with it what others have to say.

const FRAME_BYTES = 200; // of a publish beside its channel, its data and a key of the application's, at most

/** How many letters have to change for one name to become the other (Levenshtein). */
function distance(one, other) {
  let row = Array.from({ length: other.length + 1 }, (_, at) => at);
  for (const [n, letter] of [...one].entries()) {
    const next = [n + 1];
    for (let at = 1; at < row.length; at++)
      next.push(Math.min(row[at] + 1, next[at - 1] + 1, row[at - 1] + (letter === other[at - 1] ? 0 : 1)));
    row = next;
  }
  return row[other.length];
}

/** So that Python's name of an option, such as `ping_interval_s`, is near. */
const plainName = name => name.toLowerCase().replaceAll("_", "");

/**
 * Throws a `TypeError` for an option that does not exist, with the name that was probably meant.
 * @param {object} given
 * @param {string[]} known
 */
function checkNames(given, known) {
  for (const name of Object.keys(given)) {
    if (known.includes(name)) continue;
    const distances = known.map(one => distance(plainName(one), plainName(name)));
    const least = Math.min(...distances);
    const hint =
      least <= 2
        ? `did you mean "${known[distances.indexOf(least)]}"?`
        : `the options are ${known.join(", ")}`;
    throw new TypeError(`unknown option "${name}": ${hint}`);
  }
}

/** Whether text holds half of a pair of surrogates, as `slice` makes it of an emoji: that is not UTF-8. */
const isHalved = text => /\p{Surrogate}/u.test(text);

/** Throws a `TypeError` for what is not text, or cannot be sent as UTF-8. */
function checkText(name, text) {
  if (typeof text !== "string") throw new TypeError(`${name}: ${typeof text} is not a string`);
  if (isHalved(text))
    throw new TypeError(`${name}: ${JSON.stringify(text.slice(0, 64))} holds half a character`);
}

/** Throws a `TypeError` for a channel that no server takes. */
function checkChannel(name) {
  checkText("channel", name);
  const size = byteLength(name);
  if (size < 1 || size > 255)
    throw new TypeError(`channel: ${size} bytes; a name has 1 to 255 bytes of UTF-8`);
  if (/\p{Cc}/u.test(name)) throw new TypeError(`channel: ${JSON.stringify(name)} holds a control character`);
}

/** Throws a `TypeError` unless it is of the type, or null. */
function checkType(name, value, type) {
  if (value !== null && typeof value !== type)
    throw new TypeError(`${name}: ${typeof value} is not a ${type}`);
}

/** Throws a `TypeError` for what is not an `AbortSignal`, or null. */
function checkSignal(signal) {
  if (signal !== null) checkType("signal.throwIfAborted", signal?.throwIfAborted, "function");
}

/** Throws a `TypeError` for a number of publications that cannot be. */
function checkLimit(limit) {
  if (!Number.isSafeInteger(limit) || limit < 0) throw new TypeError(`limit: ${limit} is not a whole number`);
}

/**
 * Throws a `HeartwireError` for a message that has more than `limit` bytes with the frame around it: a server
 * counts all of a frame, and one that is over its limit would cost the connection.
 */
function checkSize(json, name, key, limit) {
  const frame = FRAME_BYTES + byteLength(JSON.stringify(name)) + key.length;
  if (json.length * 3 + frame <= limit) return; // no character has more bytes
  const size = byteLength(json) + frame;
  const over = `over the limit of ${limit} (maxMessageBytes)`;
  if (size > limit)
    throw new HeartwireError(LIMIT_EXCEEDED, `a message of ${size} bytes in its frame is ${over}`);
}

/** The replacer of `JSON.stringify` that refuses what it would change: NaN, infinities, half characters. */
function refuseLoss(name, value) {
  if (Object(value) instanceof Number && !Number.isFinite(Number(value)))
    throw new TypeError(`${name || "data"}: ${value} is not a number of JSON`);
  for (const text of [name, value]) if (Object(text) instanceof String) checkText("data", String(text));
  return value;
}

/** A value as JSON. Throws a `TypeError` where it cannot be written so. */
function jsonOf(value) {
  const json = JSON.stringify(value);
  if (json === undefined) throw new TypeError(`${typeof value} is not JSON`);
  // Only such text can have come of a loss, and a replacer for all would take long.
  if (/null|\\ud/.test(json)) JSON.stringify(value, refuseLoss);
  return json;
}

/** Throws a `TypeError` for a key that the server would refuse; "" means that there is none. */
function checkIdempotencyKey(key) {
  if (typeof key !== "string" || !/^[!-~]{0,255}$/.test(key))
    throw new TypeError(
      `idempotencyKey: ${JSON.stringify(String(key))} is not 1 to 255 visible ASCII characters`,
    );
}

/**
 * The address of a server for fetch. Without an argument: the origin of the page.
 * @param {any} given "https://host", "ws://host/below", a URL, or {scheme, host, port, path}
 */
function baseOf(given) {
  const { scheme = "http", host, port, path = "" } = given;
  const parts = `${scheme}://${host}${port ? `:${port}` : ""}/${path}`.replace(/([^:]\/)\/+/g, "$1");
  const url = new URL(host && !(given instanceof URL) ? parts : given, globalThis.location?.href);
  const protocol = { "ws:": "http:", "wss:": "https:" }[url.protocol] ?? url.protocol;
  if (protocol !== "http:" && protocol !== "https:") throw new TypeError(`${url}: http, https, ws or wss`);
  return `${protocol}//${url.host}${url.pathname.replace(/\/+$/, "")}`;
}

// -- holding -------------------------------------------------------------------------------------------------

// Which of a browser's tabs may hold an HTTP request open. Over HTTP/1.1 a browser opens six connections to a
// host, for all tabs together: the requests of a seventh tab that holds one, and all publishes, would wait
// for ever. Python has no such limit, and no such module.

/** Two of six stay free for what is answered at once. */
const MOST_HELD = 4;

/** HTTP/2 and 3 share one connection. The browser keeps to itself what other origins speak ("" then). */
function isShared(base) {
  const entries = globalThis.performance?.getEntriesByType?.("resource") ?? [];
  const last = entries.findLast(({ name }) => name.startsWith(`${base}/`));
  return /^h[23]/.test(/** @type {any} */ (last)?.nextHopProtocol ?? "");
}

/**
 * Holds a request open: `act`, until its promise settles. The tabs and workers of a browser share a few locks
 * for that, which end with the page that has one.
 * @param {string} base The address of the server.
 * @param {() => Promise<any>} act
 * @param {() => any} full Called instead where all are taken.
 */
async function holding(base, act, full) {
  const locks = globalThis.location && globalThis.navigator?.locks; // not in Node, and not on insecure pages
  if (!locks || isShared(base)) return act();
  for (let n = 0; n < MOST_HELD; n++) {
    const name = `heartwire ${new URL(base).host} ${n}`;
    let isHeld = false;
    const answer = await locks.request(name, { ifAvailable: true }, lock => {
      isHeld = lock !== null;
      return isHeld && act();
    });
    if (isHeld) return answer;
  }
  return full();
}

// -- links ---------------------------------------------------------------------------------------------------

// How bytes travel: a WebSocket, server-sent events, polls. heartwire/client/links.py.

const MAX_RETRY_AFTER_S = 3600; // as in Python: a slip of somebody between must not part us for years

/** When an HTTP server wants its client back; 0 where it does not say. */
function retryAfterHeaderS(headers) {
  const after = headers.get("retry-after") ?? "";
  return /^\d{1,9}$/.test(after) ? Math.min(Number(after), MAX_RETRY_AFTER_S) : 0;
}

/** An HTTP answer that is not 2xx, as an error for `Link.failed`. */
async function refusal(response) {
  const [code, reason] = closedByHttp(response.status, await response.text().catch(() => ""));
  return Object.assign(new HeartwireError(code, reason), { afterS: retryAfterHeaderS(response.headers) });
}

/**
 * What a link needs of its client.
 * @typedef {object} Surroundings
 * @property {string} base
 * @property {() => Record<string, string>} headers
 * @property {any} WebSocket
 * @property {typeof globalThis.fetch} fetch
 * @property {(input: string, ...fields: any[]) => void} report Passes an input to the machine.
 */

/** One connection. */
class Link {
  #isClosed = false;
  /** @type {Set<AbortController>} */
  #requests = new Set();

  /** @param {Surroundings} surroundings */
  constructor(surroundings, generation) {
    this.surroundings = surroundings;
    this.generation = generation;
  }

  /** Reports nothing from now on, then closes whatever is open. */
  close() {
    this.#isClosed = true;
    for (const request of this.#requests) request.abort();
  }

  report(input, ...fields) {
    if (!this.#isClosed) this.surroundings.report(input, this.generation, ...fields);
  }

  failed(error, more = {}) {
    const reason = error.cause?.message ? `${error.message}: ${error.cause.message}` : error.message;
    this.report("lost", error.code ?? ABNORMAL, reason, { afterS: error.afterS ?? 0, ...more });
  }

  /**
   * Sends a request and reads its answer. The body is a string, which goes as text/plain: a page of another
   * origin may send that without a preflight (Fetch standard, CORS-safelisted request-header).
   * @param {string} path
   * @param {string} body
   * @param {{request?: AbortController, read?: (response: Response) => Promise<any>}} options
   */
  async ask(path, body, { request = new AbortController(), read = response => response.text() } = {}) {
    if (this.#isClosed) request.abort(); // it was while this waited for its turn
    this.#requests.add(request);
    try {
      const { base, headers, fetch } = this.surroundings;
      const { signal } = request;
      const options = { method: "POST", body, headers: headers(), signal };
      const response = await fetch(base + path, { ...options, cache: "no-store" });
      if (!response.ok) throw await refusal(response);
      return await read(response);
    } finally {
      this.#requests.delete(request);
    }
  }
}

class SocketLink extends Link {
  #socket = /** @type {any} */ (null);

  open(frame) {
    const { WebSocket, base } = this.surroundings;
    const socket = new WebSocket(`${base.replace(/^http/, "ws")}/connection/websocket`);
    this.#socket = socket;
    socket.onopen = () => socket.send(frame);
    socket.onmessage = ({ data }) => this.report("received", String(data));
    // 1005 is how the browser reports a close without a code: the server said nothing.
    socket.onclose = ({ code, reason }) =>
      this.report("lost", code === 1005 ? ABNORMAL : code, reason || "the connection was closed", {});
    socket.onerror = () => {}; // says nothing, and the close comes after it
  }

  send(frame) {
    this.#socket.send(frame);
  }

  close() {
    super.close();
    const socket = this.#socket;
    if (socket === null) return;
    // First the listeners: the close of a dead socket can take minutes, or never come (iOS).
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }
}

/** The complete lines of a body, a chunk at a time. The end of a chunk may cut a character in two. */
async function* lineGroups(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const chunk = decoder.decode(value, { stream: true });
    const end = chunk.lastIndexOf("\n");
    if (end < 0) {
      rest += chunk;
    } else {
      yield (rest + chunk.slice(0, end)).split("\n");
      rest = chunk.slice(end + 1);
    }
  }
}

/** Server-sent events, read by fetch: EventSource cannot POST, and reconnects when it likes. */
class StreamLink extends Link {
  #session = {};

  open(frame) {
    const read = async ({ body }) => {
      for await (const lines of lineGroups(body)) {
        const data = lines.filter(line => line.startsWith("data:")).map(line => line.slice(5).trim());
        if (data.length) this.report("received", data.join("\n"));
      }
    };
    const stream = () => this.ask("/connection/sse", frame, { read });
    const full = () => {
      throw new HeartwireError(ABNORMAL, `${MOST_HELD} tabs hold requests to this host already`);
    };
    holding(this.surroundings.base, stream, full).then(
      () => this.report("lost", ABNORMAL, "the stream ended", {}),
      error => this.failed(error),
    );
  }

  session(session, node) {
    this.#session = { session, node };
  }

  send(frame) {
    this.ask("/emulation", JSON.stringify({ ...this.#session, data: frame })).then(
      () => this.report("sent"),
      error => this.failed(error),
    );
  }
}

class PollLink extends Link {
  /** @type {AbortController | null} */
  #request = null;

  open() {}

  poll(frame, waitS) {
    this.#request?.abort();
    const request = new AbortController();
    this.#request = request;
    const isDropped = () => this.#request !== request;
    const ask = (query = "") => this.ask(`/connection/commands${query}`, frame, { request });
    const { base } = this.surroundings;
    // Where no request may be held it is answered at once, and the machine makes a pause before the next.
    const asked = waitS ? holding(base, () => ask(`?wait=${waitS}`), ask) : ask();
    asked.then(
      answer => isDropped() || this.#answered(answer, "polled"),
      error => isDropped() || this.failed(error, { wasPoll: true }),
    );
  }

  send(frame) {
    this.ask("/connection/commands", frame).then(
      answer => this.#answered(answer, "sent"),
      error => this.failed(error),
    );
  }

  #answered(answer, as) {
    this.report("received", answer);
    this.report(as);
  }
}

/** The class of each transport. @type {Record<string, any>} */
const LINKS = { websocket: SocketLink, sse: StreamLink, longpoll: PollLink, poll: PollLink };

// -- ladder --------------------------------------------------------------------------------------------------

// The choice of a transport, best rung first: heartwire/client/ladder.py. Where a second rung fails too,
// perhaps nothing gets through: so each wait ends at `#home`, the last rung that worked, and only then comes
// another.

const FORGIVEN = 2; // strikes of a rung that has worked, and early deaths of any, before the rung is left

class Ladder {
  /** How often all rungs have failed since one worked. */
  rounds = 0;
  #home = /** @type {number | null} */ (null);
  #others = 0; // tried since a rung worked
  #strikes = 0;
  #earlyDeaths = 0;
  #lastBetter = -1;

  constructor(transports, first) {
    this.transports = transports;
    this.rung = first === null ? 0 : transports.indexOf(first);
  }

  get transport() {
    return this.transports[this.rung];
  }

  /** The rung did not open. Returns true where another is to be tried at once. */
  failed(isReachable, isTimeout) {
    if (!isReachable) {
      this.#earlyDeaths = 0; // the server died, not the transport
      return false;
    }
    this.#strikes += isTimeout ? 2 : 1;
    const hasChance = this.#home !== null && !this.#others;
    return this.#strikes >= (hasChance ? FORGIVEN : 1) && this.#stepDown();
  }

  /** An open connection ended. Abnormal: without a close code of the server. */
  died(hadHeartbeat, isAbnormal) {
    this.#earlyDeaths = hadHeartbeat || !isAbnormal ? 0 : this.#earlyDeaths + 1;
    if (this.#earlyDeaths >= FORGIVEN) this.#stepDown();
  }

  /**
   * The rung works. Returns whether its better home deserves a try at once, because a third rung had failed
   * with it: it may have failed only with everything.
   */
  opened(rung) {
    if (rung !== this.rung) {
      this.#earlyDeaths = 0;
      this.#lastBetter = -1;
    }
    const home = this.#home;
    const others = this.#others;
    this.rung = this.#home = rung;
    this.rounds = this.#strikes = this.#others = 0;
    if (home === null || others < 2 || home >= rung) return false;
    this.#lastBetter = home - 1;
    return true;
  }

  /** The next better rung to try, each in turn from the top; null at the top. */
  better() {
    if (this.rung === 0) return null;
    this.#lastBetter = (this.#lastBetter + 1) % this.rung;
    return this.#lastBetter;
  }

  #stepDown() {
    this.#strikes = this.#earlyDeaths = 0;
    this.#lastBetter = -1;
    const count = this.transports.length;
    if (this.#home === null && this.rung + 1 < count) {
      this.rung++;
      return true;
    }
    if (this.#home === null) {
      this.#others = count - 1; // one round of others: no second chance for the first
      this.#home = 0;
    } else if (this.rung === this.#home && count > 1) {
      this.rung = (this.#home + 1 + (this.#others % (count - 1))) % count;
      this.#others++;
      return true;
    }
    this.rung = this.#home;
    if (count === 1 || this.#others % (count - 1) === 0) this.rounds++;
    return false;
  }
}

// -- retry ---------------------------------------------------------------------------------------------------

// When to try again: full-jitter exponential backoff, and one bucket for all attempts.

/**
 * The wait before the n-th try in a row is drawn evenly from 0 to `baseS` doubled n times, at most `capS`.
 */
class Backoff {
  #failures = 0;
  #baseS;
  #capS;
  #draw;

  constructor(baseS, capS, draw) {
    this.#baseS = baseS;
    this.#capS = capS;
    this.#draw = draw;
  }

  nextS() {
    const limitS = Math.min(this.#capS, this.#baseS * 2 ** Math.min(this.#failures, 60));
    this.#failures++;
    return this.#draw() * limitS;
  }

  reset() {
    this.#failures = 0;
  }
}

/**
 * Holds up to `burst` tokens, and gains `ratePerS`. An attempt takes one, so no mix of triggers makes a
 * storm.
 */
class Bucket {
  #ratePerS;
  #burst;
  #tokens;
  #at;

  constructor(ratePerS, burst, now) {
    this.#ratePerS = ratePerS;
    this.#burst = this.#tokens = burst;
    this.#at = now;
  }

  /** Takes a token and returns 0, or returns the seconds until there is one. */
  take(now) {
    this.#tokens = Math.min(this.#burst, this.#tokens + Math.max(0, now - this.#at) * this.#ratePerS);
    this.#at = now;
    if (this.#tokens >= 1) {
      this.#tokens -= 1;
      return 0;
    }
    // A little more than the exact time, so that rounding does not make it too early again and again.
    return (1 - this.#tokens) / this.#ratePerS + 0.001;
  }
}

// -- attempts ------------------------------------------------------------------------------------------------

// When a client makes its next attempt, and over which transport: heartwire/client/attempts.py.

class Attempts {
  #options;
  #outputs;
  #deadlines;
  #bucket;
  #backoff;
  #upgradeS;

  constructor(options, outputs, deadlines, { draw, now }) {
    this.ladder = new Ladder(options.transports, options.firstTransport);
    /** The server wants no attempt before. */
    this.notBefore = now;
    this.#options = options;
    this.#outputs = outputs;
    this.#deadlines = deadlines;
    this.#bucket = new Bucket(options.attemptRatePerS, options.attemptBurst, now);
    this.#backoff = new Backoff(options.backoffBaseS, options.backoffCapS, draw);
    this.#upgradeS = options.upgradeAfterS;
  }

  /**
   * Takes an attempt ("attempt" or "upgrade") out of the bucket. False: there is none yet; the deadline says
   * when.
   */
  take(now, deadline) {
    const waitS = this.#bucket.take(now);
    if (waitS) this.#deadlines.set(deadline, now + waitS);
    else this.#deadlines.delete(deadline);
    return !waitS;
  }

  /** How long the next attempt may take: longer each time the whole ladder has failed. */
  openTimeoutS() {
    const { openTimeoutS, openTimeoutCapS } = this.#options;
    return Math.min(openTimeoutCapS, openTimeoutS * 2 ** Math.min(this.ladder.rounds, 60));
  }

  /** The seconds to the next attempt; counts a failure unless it may be made at once. */
  delayS(now, atOnce = false) {
    return Math.max(this.notBefore - now, atOnce ? 0 : this.#backoff.nextS());
  }

  /** Makes no attempt before: the server wants its client back later. */
  holdOff(until) {
    this.notBefore = Math.max(this.notBefore, until);
  }

  established(connection, now, isUpgrade) {
    if (!isUpgrade) this.#upgradeS = this.#options.upgradeAfterS;
    if (this.ladder.opened(connection.rung)) this.#deadlines.set("upgrade", Math.max(now, this.notBefore));
    else if (connection.rung) this.planUpgrade(now);
  }

  /** Plans to try a better transport, after twice as long each time. */
  planUpgrade(now) {
    this.#deadlines.set("upgrade", Math.max(now + this.#upgradeS, this.notBefore));
    this.#upgradeS = Math.min(this.#options.upgradeCapS, this.#upgradeS * 2);
  }

  /** Counts a loss against the transport. Returns whether another one is to be tried at once. */
  blame(connection, code, reason, now, { isReachable, isTimeout }) {
    const { ladder } = this;
    const isAbnormal = code === ABNORMAL;
    const before = ladder.transport;
    let stepsDown = false;
    if (connection.onlineAt !== null) {
      ladder.died(connection.hadHeartbeat, isAbnormal);
      if (now - connection.onlineAt >= this.#options.stableAfterS) this.#backoff.reset();
    } else if (isAbnormal && connection.rung === ladder.rung) {
      // On another rung it was an upgrade from a connection that is lost by now.
      stepsDown = ladder.failed(isReachable, isTimeout);
    }
    if (ladder.transport !== before)
      this.#outputs.push(["Note", "steppedDown", before, reason, ladder.transport]);
    return stepsDown;
  }
}

// -- connection ----------------------------------------------------------------------------------------------

// One connection as the machine knows it: heartwire/client/connection.py.

const POLLED = ["connect", "subscribe", "ping"];

class Connection {
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

// -- outputs -------------------------------------------------------------------------------------------------

// Outputs of the machine: [name, ...fields], as the classes of heartwire/client/outputs.py.

/** @typedef {[name: string, ...fields: any[]]} Output */

/**
 * The fields of a note: a change of transport that people may want to see.
 *   movedUp      `transport` is left for the better `next`
 *   steppedDown  `transport` does not work (`reason`): `next` is tried
 *   notYet       a better `transport` still does not work (`reason`)
 *   pollsCut     something between client and server cuts long polls; `reason` says what the client does
 *   unavailable  this runtime does not have `transport` (`reason`)
 * @typedef {"movedUp" | "steppedDown" | "notYet" | "pollsCut" | "unavailable"} NoteKind
 */

const NOTES = {
  movedUp: (transport, _, next) => `moved up from ${transport} to ${next}`,
  steppedDown: (transport, reason, next) => `${transport}: ${reason}; trying ${next}`,
  notYet: (transport, reason) => `${transport} does not work yet: ${reason}`,
  pollsCut: (_, reason) => `long polls are cut in between: ${reason}`,
  unavailable: (_, reason) => reason,
};

/** A note in words. */
const noteText = (kind, transport, reason, next) => NOTES[kind](transport, reason, next);

/** A number as Python's `:g` formats it, where it is neither huge nor tiny. */
const general = value => String(Number(value.toPrecision(6)));

/** A number as Python's `:.1f` formats it: an exact half goes to the even digit. */
const oneDecimal = value => (value % 1 === 0.25 ? value - 0.01 : value).toFixed(1);

// -- polling -------------------------------------------------------------------------------------------------

// Polls of "longpoll" and "poll": what each asks, how long the server may hold it, and when the next one
// follows. heartwire/client/polling.py.

/** A long poll that fails without an answer, but not at once, was cut by something in between. */
const CUT_AFTER_S = 2;
const SHORTEST_WAIT_S = 1;
const QUICK_S = 0.5;

class Polling {
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

// -- probing -------------------------------------------------------------------------------------------------

// Whether the connection in use is alive: the silence it is allowed, and the probe it has to answer after a
// wake-up or a change of network. heartwire/client/probing.py.

class Probing {
  #options;
  #deadlines;
  #traffic;
  #polling;

  constructor(options, deadlines, traffic, polling) {
    this.#options = options;
    this.#deadlines = deadlines;
    this.#traffic = traffic;
    this.#polling = polling;
  }

  /** Something came in: the server is there. */
  heard(connection, now) {
    connection.isExcused = false;
    if (connection.onlineAt === null) return;
    this.#deadlines.delete("probe");
    if (!connection.isPull)
      this.#deadlines.set("silence", now + connection.pingIntervalS + this.#options.pongTimeoutS);
  }

  /** Has the connection in use prove itself within `probeTimeoutS`. */
  probe(connection, now) {
    const due = this.#deadlines.get("probe");
    if (due !== undefined && (due > now || !this.excuse(connection, "probe", now))) return;
    const deadline = now + this.#options.probeTimeoutS;
    this.#deadlines.set("probe", deadline);
    if (connection.isPull) {
      this.#polling.poll(connection, now, 0);
    } else {
      connection.queue.push(connection.command(this.#traffic.nextId(), "ping", {}));
      this.#traffic.flush();
    }
    // What came in during sleep may wait to be read: the answer to the probe decides, not the silence before
    // it.
    this.#deadlines.set("silence", Math.max(deadline, this.#deadlines.get("silence") ?? deadline));
    const sending = this.#deadlines.get("sending");
    if (sending !== undefined) this.#deadlines.set("sending", Math.max(deadline, sending));
  }

  /**
   * Gives a connection whose time ran out during sleep `probeTimeoutS` more: its answer may wait to be read.
   * Once, until it is heard again, because timers may always be late; then false.
   */
  excuse(connection, deadline, now) {
    if (connection.isExcused) return false;
    connection.isExcused = true;
    this.#deadlines.set(deadline, now + this.#options.probeTimeoutS);
    return true;
  }
}

// -- tokens --------------------------------------------------------------------------------------------------

// The token of a client: when the application is asked for one, and how long it lasts.
// heartwire/client/tokens.py.

const SHORTEST_TTL_S = 1; // however soon a token expires, the application is not asked more often

class Tokens {
  #ttlS = /** @type {number | null} */ (null);
  #isAsking = false;
  #options;
  #outputs;
  #deadlines;
  #draw;
  #canAsk;

  /** `canAsk`: the application gives a token when it is asked; `token`: the first one, "" for none. */
  constructor(options, outputs, deadlines, { draw, canAsk, token }) {
    this.#options = options;
    this.#outputs = outputs;
    this.#deadlines = deadlines;
    this.#draw = draw;
    this.#canAsk = canAsk;
    this.token = token;
  }

  /** Whether the application has to be asked before a connection can be opened. */
  get isMissing() {
    return this.#canAsk && !this.token;
  }

  /** Asks the application, unless it is being asked already. */
  ask(now) {
    if (this.#isAsking) return;
    this.#isAsking = true;
    this.#deadlines.set("token", now + this.#options.openTimeoutCapS);
    this.#outputs.push(["AskToken"]);
  }

  /** Takes the answer of the application; null: it has no token for now. */
  answered(token) {
    this.#isAsking = false;
    this.#deadlines.delete("token");
    if (token !== null) this.token = token;
  }

  /** Forgets a token that the server refused. Returns whether the application can give another. */
  drop() {
    if (this.#canAsk) this.token = "";
    return this.#canAsk;
  }

  /** Takes from the server how long the connection may last. */
  expires({ expires, ttl }, now) {
    this.#ttlS = expires ? ttl : null;
    this.planRefresh(now);
  }

  /** Plans to ask after 70 to 90 % of the lifetime, by chance: a crowd does not ask at one moment. */
  planRefresh(now) {
    const ttlS = this.#ttlS;
    this.#deadlines.delete("refresh");
    if (this.#canAsk && ttlS !== null)
      this.#deadlines.set("refresh", now + Math.max(SHORTEST_TTL_S, (ttlS * (7 + 2 * this.#draw())) / 10));
  }

  /** Asks again after `laterS`, or after `afterS` where that is longer. */
  refreshLater(now, afterS = 0) {
    this.#deadlines.set("refresh", now + Math.max(this.#options.laterS, afterS));
  }
}

// -- lifecycle -----------------------------------------------------------------------------------------------

// The connections of one client: tried, established, probed, lost, and tried again.
// heartwire/client/lifecycle.py.
//
// There are at most two, the one in use (`current`) and the one being tried (`attempt`), because a better
// transport is tried while the lesser goes on.

const NEEDS_TOKEN = [101, 109]; // unauthorized, token expired (Centrifugal protocol, error codes)
const OF_CURRENT = ["probe", "silence", "sending", "poll", "upgrade", "refresh"]; // deadlines of `current`

class Lifecycle {
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

// -- options -------------------------------------------------------------------------------------------------

// The options of a client, with the defaults of heartwire/client/options.py, which says what each means.

/** The ladder, best first. */
const TRANSPORTS = Object.freeze(["websocket", "sse", "longpoll", "poll"]);

/** What the machine decides by; docs/javascript.md has a table. */
const DEFAULTS = Object.freeze({
  transports: TRANSPORTS,
  firstTransport: /** @type {string | null} */ (null),
  pingIntervalS: 25,
  pongTimeoutS: 10,
  probeTimeoutS: 3,
  tickS: 1,
  openTimeoutS: 4,
  openTimeoutCapS: 20,
  backoffBaseS: 0.5,
  backoffCapS: 20,
  laterS: 5,
  stableAfterS: 10,
  attemptBurst: 5,
  attemptRatePerS: 0.5,
  upgradeAfterS: 10,
  upgradeCapS: 600,
  pollIntervalS: 1,
  pollWaitS: 25,
  maxPendingItems: 1000,
  maxPendingBytes: 4 * 1024 * 1024,
  maxPendingAgeS: 120,
  maxInFlight: 64,
  maxMessageBytes: 1024 * 1024,
  maxQueueItems: 1000,
  requestTimeoutS: 10,
  closeTimeoutS: 5,
});

/** @typedef {typeof DEFAULTS} Options */

const LONGEST_POLL_S = 55; // the server answers by then

/** Throws a `TypeError` for the first value that cannot be used. @param {Options} options */
function checkOptions(options) {
  const refuse = (name, known) => {
    throw new TypeError(`${name}: ${JSON.stringify(options[name])} is not ${known}`);
  };
  const { transports, firstTransport } = options;
  if (!Array.isArray(transports) || !transports.length || transports.some(name => !TRANSPORTS.includes(name)))
    refuse("transports", `a list of some of ${TRANSPORTS.join(", ")}`);
  if (firstTransport !== null && !transports.includes(firstTransport))
    refuse("firstTransport", "one of `transports`");
  for (const [name, value] of Object.entries(options))
    if (name !== "transports" && name !== "firstTransport" && !(typeof value === "number" && value > 0))
      refuse(name, "a number over 0");
  if (options.pollWaitS > LONGEST_POLL_S) refuse("pollWaitS", `at most ${LONGEST_POLL_S}`);
}

// -- channel_state -------------------------------------------------------------------------------------------

// One followed channel: its position, and which publications are new. heartwire/client/channel_state.py.

/** @typedef {{epoch: string, offset: number}} Position */

const samePosition = (a, b) => a.epoch === b.epoch && a.offset === b.offset;

class ChannelState {
  isLive = false;
  isPaused = false;
  isServerSide = false;
  isPositioned = true;
  isWanted = true;
  refusals = 0;
  notBefore = 0;

  /** @param {Position | "earliest" | null} since */
  constructor(channel, since, token = "") {
    this.channel = channel;
    this.since = since;
    this.token = token;
    /** @type {Position | null} */
    this.position = typeof since === "object" ? since : null;
  }

  get wantsEarliest() {
    return this.position === null && this.since === "earliest";
  }

  /**
   * The server follows the channel for us. Returns both ends of the gap, or null. `asked` is the position at
   * the time of the request: another connection may have moved on since.
   * @returns {[Position, Position] | null}
   */
  subscribed({ epoch, offset, was_recovering: wasRecovering, recovered, publications }, asked) {
    this.isLive = true;
    this.isPositioned = epoch !== "";
    if (!this.isPositioned) return null;
    const before = this.position;
    const wantedEarliest = this.wantsEarliest;
    if (before !== null && wasRecovering && recovered) {
      // A channel in cache mode sends its newest and calls that recovered. The epoch is the same, or was not
      // known.
      this.position = { epoch, offset: Math.max(before.offset, (publications[0]?.offset ?? 0) - 1) };
      return this.position.offset === before.offset ? null : [before, this.position];
    }
    if (before === null) {
      this.position = { epoch, offset };
      return null;
    }
    const isOther = asked === null || !samePosition(before, asked);
    if (isOther && epoch === before.epoch && offset <= before.offset) return null;
    this.position = { epoch, offset };
    return wantedEarliest || samePosition(before, this.position) ? null : [before, this.position];
  }

  /**
   * The publications that are new. It stops before a hole: then the channel is not live, and has to be asked
   * for anew.
   */
  *news(pubs) {
    for (const pub of pubs) {
      const position = this.position;
      if (position === null || !this.isPositioned || !pub.offset) {
        yield pub; // a channel without history has no positions
      } else if (pub.offset === position.offset + 1) {
        this.position = { epoch: position.epoch, offset: pub.offset };
        yield pub;
      } else if (pub.offset > position.offset) {
        this.isLive = false;
        return;
      }
    }
  }

  lost() {
    this.isLive = false;
  }

  subscribeBody() {
    const { epoch, offset } = this.position ?? { epoch: "", offset: 0 };
    const from = { recover: true, epoch, offset, from_oldest: true };
    return {
      channel: this.channel,
      ...(this.token && { token: this.token }),
      ...(this.position !== null || this.wantsEarliest ? from : {}),
    };
  }

  /** The output for one publication. */
  delivered(pub) {
    const epoch = this.position !== null && pub.offset ? this.position.epoch : "";
    const { user, client } = pub.info ?? { user: "", client: "" };
    return [
      "Delivered",
      this.channel,
      epoch,
      pub.offset,
      pub.data,
      pub.tags.get("encoding") ?? "",
      user,
      client,
      pub.source,
    ];
  }
}

// -- pending_publishes ---------------------------------------------------------------------------------------

// Publishes without an answer, bounded in count, bytes and age, and kept in order (go-back-N):
// heartwire/client/pending_publishes.py.

const COMMAND = 1024; // characters of a publish beside its data, at most: a channel has 255, escaped each
const RESEND_S = 0.25;
const RESEND_CAP_S = 5;

/** One publish. `data` is JSON text; `isSent`: the server may have it. */
class Item {
  isInFlight = false;
  isSent = false;

  constructor(key, idempotencyKey, channel, data, encoding, expiresAt) {
    this.key = key;
    this.idempotencyKey = idempotencyKey;
    this.channel = channel;
    this.data = data;
    this.encoding = encoding;
    this.expiresAt = expiresAt;
    this.size = characters(data);
  }

  body(round) {
    const encoding = this.encoding ? `,"encoding":${JSON.stringify(this.encoding)}` : "";
    const [channel, key] = [this.channel, this.idempotencyKey].map(one => JSON.stringify(one));
    return `{"channel":${channel},"data":${this.data},"idempotency_key":${key},"round":${round}${encoding}}`;
  }
}

class PendingPublishes {
  sizeBytes = 0;
  /** @type {Map<string, Item>} */
  #items = new Map();
  #round = 0;
  #inFlight = 0;
  #mustGoBack = false;
  #serial = 0;
  #resends = 0;
  #notBefore = -Infinity;
  #options;
  #outputs;
  #deadlines;
  #prefix;
  #draw;

  constructor(options, outputs, deadlines, { prefix, draw }) {
    this.#options = options;
    this.#outputs = outputs;
    this.#deadlines = deadlines;
    this.#prefix = prefix;
    this.#draw = draw;
  }

  /** Takes a publish, or refuses it at once; returns its key. */
  add(channel, data, encoding, idempotencyKey, now, isClosed) {
    const { maxMessageBytes, maxPendingAgeS, maxPendingItems, maxPendingBytes } = this.#options;
    const key = `${this.#prefix}-${++this.#serial}`;
    const item = new Item(key, idempotencyKey || key, channel, data, encoding, now + maxPendingAgeS);
    if (isClosed) {
      this.#reject(item, LOCAL, "the client is closed");
    } else if (item.size > maxMessageBytes) {
      const limit = `over the limit of ${maxMessageBytes} (maxMessageBytes)`;
      this.#reject(item, LIMIT_EXCEEDED, `a message of ${item.size} characters is ${limit}`);
    } else if (this.#items.size >= maxPendingItems || this.sizeBytes + item.size > maxPendingBytes) {
      const waiting = `${this.#items.size} publishes wait already (maxPendingItems, maxPendingBytes)`;
      this.#reject(item, LIMIT_EXCEEDED, waiting);
    } else {
      this.#items.set(key, item);
      this.sizeBytes += item.size;
      this.#watch();
    }
    return key;
  }

  /** A new connection: a wait that the server asked for holds on this one too. */
  online(now) {
    if (this.#notBefore > now) this.#deadlines.set("resend", this.#notBefore);
  }

  /** The connection is gone: nothing is on the way any more, and the next one begins with round 0. */
  lost() {
    for (const item of this.#items.values()) item.isInFlight = false;
    this.#inFlight = this.#round = 0;
    this.#mustGoBack = false;
    this.#deadlines.delete("resend");
  }

  /** Keys and bodies that may go out now, oldest first; together at most `maxBytes`, but for the first. */
  *toSend(maxBytes) {
    if (this.#mustGoBack || this.#deadlines.has("resend")) return;
    let size = 0;
    for (const item of [...this.#items.values()]) {
      if (this.#inFlight >= this.#options.maxInFlight) return;
      if (item.isInFlight) continue;
      const own = item.size + COMMAND;
      size += own;
      if (size > maxBytes && size > own) return;
      item.isInFlight = item.isSent = true;
      this.#inFlight++;
      yield [item.key, item.body(this.#round)];
    }
  }

  answered(key, reply, now) {
    if (reply.error?.temporary) {
      const refused = this.#items.get(key);
      if (refused !== undefined) {
        this.#mustGoBack = true;
        this.#landed(refused);
      }
      // The first refusal of a round says when; the last, which plans the next round, says only that it came
      // later.
      this.#notBefore = Math.max(this.#notBefore, now + retryAfterS(reply.error.message));
      this.#planRound(now);
      return;
    }
    const item = this.#remove(key);
    this.#planRound(now);
    this.#watch();
    if (item === null) return;
    if (reply.error !== null) {
      item.isSent = false;
      this.#reject(item, reply.error.code, reply.error.message);
    } else {
      this.#resends = 0;
      this.#outputs.push(["Published", key, reply.publish?.epoch ?? "", reply.publish?.offset ?? 0]);
    }
  }

  /** What the server refused for now may be sent again. */
  nextRound() {
    if (!this.#mustGoBack) return;
    this.#mustGoBack = false;
    this.#round++;
  }

  /** The server ended the connection because a message was too large. */
  rejectLargest(reason) {
    /** @type {Item | null} */
    let largest = null;
    for (const item of this.#items.values())
      if (item.isInFlight && item.size > (largest?.size ?? -1)) largest = item;
    if (largest === null) return;
    this.#remove(largest.key);
    this.#reject(largest, LIMIT_EXCEEDED, reason);
  }

  /** Gives up what is too old. */
  expire(now) {
    const limit = `${general(this.#options.maxPendingAgeS)} s (maxPendingAgeS)`;
    for (const item of [...this.#items.values()]) {
      if (item.expiresAt > now) break;
      this.#remove(item.key);
      this.#reject(item, LOCAL, `not answered within ${limit}`);
    }
    this.#watch();
    this.#planRound(now);
  }

  /** There will be no connection any more. */
  giveUp(reason) {
    for (const item of this.#items.values()) this.#reject(item, LOCAL, reason);
    this.#items.clear();
    this.sizeBytes = this.#inFlight = 0;
  }

  #remove(key) {
    const item = this.#items.get(key);
    if (item === undefined) return null;
    this.#items.delete(key);
    this.sizeBytes -= item.size;
    this.#landed(item);
    return item;
  }

  #landed(item) {
    if (!item.isInFlight) return;
    item.isInFlight = false;
    this.#inFlight--;
  }

  /** Once one was refused for now, and all that went with it are answered: plan the next round. */
  #planRound(now) {
    if (!this.#mustGoBack || this.#inFlight || this.#deadlines.has("resend")) return;
    const limitS = Math.min(RESEND_CAP_S, RESEND_S * 2 ** Math.min(this.#resends, 60));
    this.#resends++;
    this.#deadlines.set("resend", Math.max(now + limitS * (0.5 + this.#draw() / 2), this.#notBefore));
  }

  #watch() {
    const [oldest] = this.#items.values();
    if (oldest === undefined) this.#deadlines.delete("publish");
    else this.#deadlines.set("publish", oldest.expiresAt);
  }

  #reject(item, code, message) {
    this.#outputs.push(["Rejected", item.key, code, message, item.isSent]);
  }
}

// -- requests ------------------------------------------------------------------------------------------------

// Requests (presence, history, rpc) without an answer, bounded in count, bytes and age:
// heartwire/client/requests.py.

/** @typedef {{method: string, json: string, size: number, expiresAt: number, isSent: boolean}} Request */

class Requests {
  #sizeBytes = 0;
  /** @type {Map<number, Request>} */
  #waiting = new Map();
  #options;
  #outputs;
  #deadlines;

  constructor(options, outputs, deadlines) {
    this.#options = options;
    this.#outputs = outputs;
    this.#deadlines = deadlines;
  }

  /** Takes a request and returns it, or fails it at once and returns null. */
  add(id, method, body, now, isClosed) {
    if (isClosed) return this.#failed(id, LOCAL, "the client is closed");
    const json = JSON.stringify(body);
    const size = characters(json);
    const { maxMessageBytes: limit, maxPendingItems, maxPendingBytes, requestTimeoutS } = this.#options;
    if (size > limit) {
      const over = `over the limit of ${limit} (maxMessageBytes)`;
      return this.#failed(id, LIMIT_EXCEEDED, `a request of ${size} characters is ${over}`);
    }
    if (this.#waiting.size >= maxPendingItems || this.#sizeBytes + size > maxPendingBytes) {
      const waiting = `${this.#waiting.size} requests wait already (maxPendingItems, maxPendingBytes)`;
      return this.#failed(id, LIMIT_EXCEEDED, waiting);
    }
    const request = { method, json, size, expiresAt: now + requestTimeoutS, isSent: false };
    this.#waiting.set(id, request);
    this.#sizeBytes += size;
    if (!this.#deadlines.has("request")) this.#deadlines.set("request", request.expiresAt);
    return request;
  }

  entries() {
    return this.#waiting.entries();
  }

  /**
   * The connection is gone. Reads are sent again on the next; an `rpc` is not, because it may have been
   * carried out.
   */
  lost() {
    for (const [id, request] of [...this.#waiting]) {
      if (request.isSent && request.method === "rpc") this.#giveUp(id, "the connection was lost", true);
      request.isSent = false;
    }
  }

  answered(id, method, reply) {
    if (!this.#forget(id)) return;
    if (reply.error !== null) this.#failed(id, reply.error.code, reply.error.message);
    else this.#outputs.push(["Answered", id, reply[method], reply.line]);
  }

  /** Gives up what was not answered in time. */
  expire(now) {
    const limit = `${general(this.#options.requestTimeoutS)} s (requestTimeoutS)`;
    for (const [id, request] of [...this.#waiting])
      if (request.expiresAt <= now) this.#giveUp(id, `not answered within ${limit}`, request.isSent);
    if (this.#waiting.size)
      this.#deadlines.set(
        "request",
        Math.min(...[...this.#waiting.values()].map(({ expiresAt }) => expiresAt)),
      );
  }

  /** There will be no connection any more. */
  giveUp(reason) {
    for (const id of [...this.#waiting.keys()]) this.#giveUp(id, reason, false);
  }

  #forget(id) {
    this.#sizeBytes -= this.#waiting.get(id)?.size ?? 0;
    return this.#waiting.delete(id);
  }

  #giveUp(id, reason, isUnknown) {
    this.#forget(id);
    this.#outputs.push(["Failed", id, LOCAL, reason, isUnknown]);
  }

  #failed(id, code, reason) {
    this.#outputs.push(["Failed", id, code, reason, false]);
    return null;
  }
}

// -- traffic -------------------------------------------------------------------------------------------------

// Channels, publishes and requests, over whatever connection there is: heartwire/client/traffic.py. They
// outlive connections: `online` announces a new one, on which everything that is still wanted is sent again.

const FULL_PAGE = 300; // publications in one answer of the server; as many mean that there may be more

/** Whether another connection has begun, paused or placed a channel anew since it was asked for. */
const isOutdated = (asked, state) =>
  state !== asked.state || state.isPaused || (asked.position === null && state.position !== null);

class Traffic {
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

// -- machine -------------------------------------------------------------------------------------------------

// The client without its sockets: one machine that takes what happened and returns what to do.
// heartwire/client/machine.py is the same machine, and tests/vectors and tests/property/test_client_twins.py
// hold both to the same behaviour.
//
// Each input is a method whose first argument is the time. What is to be done comes out as `outputs`, for the
// driver to carry out in order. A connection is known by its generation; what an old one still reports is
// ignored.

const JUMP_S = 3; // a timer this late, or a wall clock this far ahead of the monotonic one: we slept

class Machine {
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

// -- driver --------------------------------------------------------------------------------------------------

// A machine among real clocks, timers, sockets and tokens: heartwire/client/driver.py. Outputs for the
// application are handed on.

const now = () => performance.now() / 1000;
const randomPrefix = () =>
  crypto.getRandomValues(new Uint32Array(3)).reduce((all, one) => all + one.toString(36), "");

class Driver {
  #links = new Map(); // by generation
  #timer = /** @type {any} */ (undefined);
  #due = /** @type {number | null} */ (null);
  #isCarrying = false;
  #asks = 0;
  #token;
  #getToken;
  #application;
  #surroundings;

  /**
   * @param {Partial<import("./options.js").Options>} options
   * @param {object} shell
   * @param {string} shell.base The address of the server.
   * @param {any} shell.WebSocket
   * @param {typeof globalThis.fetch} shell.fetch
   * @param {Record<string, string>} shell.headers
   * @param {string} shell.token
   * @param {(() => any) | null} shell.getToken
   * @param {any} shell.data
   * @param {{take(output: import("./outputs.js").Output): void, problem(error: Error): void}} application
   */
  constructor(options, { base, WebSocket, fetch, headers, token, getToken, data }, application) {
    this.#token = token;
    this.#getToken = getToken;
    this.#application = application;
    this.machine = new Machine(options, {
      prefix: randomPrefix(),
      draw: Math.random,
      now: now(),
      wall: Date.now() / 1000,
      hasTokens: getToken !== null,
      token,
      data,
    });
    this.#surroundings = {
      base,
      WebSocket,
      fetch,
      headers: () => ({ ...headers, ...(this.#token && { authorization: `Bearer ${this.#token}` }) }),
      report: (input, ...fields) => this.input(input, ...fields),
    };
  }

  /**
   * Passes an input to the machine, and carries out what follows from it. Returns what the machine returned.
   */
  input(name, ...fields) {
    const result = this.machine[name](now(), ...fields);
    this.carryOut();
    return result;
  }

  /** The same, but the outputs wait for `carryOut`. */
  prepare(name, ...fields) {
    return this.machine[name](now(), ...fields);
  }

  /**
   * Does what the machine wants, and what is due: a throttled timer does not matter while other things
   * happen.
   */
  carryOut() {
    const at = now();
    const due = this.machine.nextDeadline();
    if (due !== null && due <= at) this.machine.handleDeadline(at, Date.now() / 1000);
    if (this.#isCarrying) return; // called by a listener: the loop outside goes on with it
    this.#isCarrying = true;
    const { outputs } = this.machine;
    while (outputs.length) for (const output of outputs.splice(0)) this.#do(output);
    this.#isCarrying = false;
    this.#setTimer();
  }

  /** Ends all connections at once, so that the browser may keep the page. */
  putAside() {
    for (const generation of [...this.#links.keys()])
      this.input("lost", generation, 1001, "the page was put aside");
  }

  #setTimer() {
    const due = this.machine.nextDeadline();
    if (due === this.#due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    if (due === null) return;
    const wake = () => {
      this.#due = null;
      this.carryOut();
    };
    this.#timer = setTimeout(wake, Math.ceil(Math.max(0, due - now()) * 1000));
  }

  #do(output) {
    const [name, generation, ...fields] = output;
    const link = this.#links.get(generation);
    try {
      if (name === "Open") this.#open(generation, ...fields);
      else if (name === "Send") link?.send(...fields);
      else if (name === "Poll") link?.poll(...fields);
      else if (name === "Session") link?.session(...fields);
      else if (name === "Close") this.#close(generation);
      else if (name === "AskToken") this.#askToken();
      else this.#application.take(output);
    } catch (error) {
      this.#application.problem(error);
    }
  }

  #open(generation, transport, frame) {
    const link = new LINKS[transport](this.#surroundings, generation);
    this.#links.set(generation, link);
    try {
      link.open(frame);
    } catch (error) {
      link.failed({ message: error.message }); // such as ws: from a page of https:
    }
  }

  #close(generation) {
    this.#links.get(generation)?.close();
    this.#links.delete(generation);
  }

  /** The machine gives up on a slow answer by itself, and asks anew: only the last call counts. */
  async #askToken() {
    const asked = ++this.#asks;
    let answer;
    try {
      answer = await this.#getToken?.();
      checkText("the answer of getToken", answer);
    } catch (error) {
      if (asked !== this.#asks) return;
      this.#application.problem(error);
      this.input("noToken", error.message ?? String(error));
      return;
    }
    if (asked !== this.#asks) return;
    this.#token = answer;
    this.input("token", answer);
  }
}

// -- emitter -------------------------------------------------------------------------------------------------

// Events: an EventTarget with `on` and `once`, whose listeners get the detail itself.

/**
 * An EventTarget whose listeners may throw, or return a promise that is rejected: that is given to `failed`.
 * By itself either would end a process of Node.
 */
class Emitter extends EventTarget {
  #heard = new Set();
  #guarded = new WeakMap(); // by listener
  #failed;

  /** @param {(error: Error, name: string) => void} failed */
  constructor(failed) {
    super();
    this.#failed = failed;
  }

  addEventListener(name, hear, options) {
    this.#heard.add(name);
    super.addEventListener(name, hear && this.#guard(hear), options);
  }

  removeEventListener(name, hear, options) {
    super.removeEventListener(name, (hear && this.#guarded.get(hear)) ?? hear, options);
  }

  /** Calls `hear` with the detail of each such event. Returns how to end it. */
  on(name, hear, options) {
    const listener = (/** @type {any} */ { detail }) => hear(detail);
    this.addEventListener(name, listener, options);
    return () => this.removeEventListener(name, listener);
  }

  once(name, hear) {
    return this.on(name, hear, { once: true });
  }

  /** Returns false where nobody has ever listened for such events. */
  emit(name, detail) {
    if (!this.#heard.has(name)) return false;
    this.dispatchEvent(new CustomEvent(name, { detail }));
    return true;
  }

  #guard(hear) {
    const known = this.#guarded.get(hear);
    if (known) return known;
    const guarded = event => {
      const fail = error => this.#failed(error, event.type);
      try {
        const result = typeof hear === "function" ? hear.call(this, event) : hear.handleEvent(event);
        if (typeof result?.then === "function") result.then(null, fail);
      } catch (error) {
        fail(error);
      }
    };
    this.#guarded.set(hear, guarded);
    return guarded;
  }
}

// -- source --------------------------------------------------------------------------------------------------

// The text of a value inside a JSON text. `JSON.parse` rounds integers over 2^53; here they are as they came.

const isIn = (set, json, at) => at < json.length && set.includes(json[at]);

/** The next character that is neither white space nor a separator. */
function skip(json, at) {
  while (isIn(" \t\r\n:,", json, at)) at++;
  return at;
}

function endOfString(json, at) {
  for (at++; json[at] !== '"'; at++) if (json[at] === "\\") at++;
  return at + 1;
}

/** The end of the value that begins there. The text is known to be JSON. */
function endOf(json, at) {
  let depth = 0;
  do {
    at = skip(json, at);
    if (json[at] === '"') at = endOfString(json, at);
    else if (isIn("[{", json, at++)) depth++;
    else if (isIn("]}", json, at - 1)) depth--;
    else while (at < json.length && !isIn(" \t\r\n,]}", json, at)) at++;
  } while (depth);
  return at;
}

/** The text of the value at a path of names and indexes. */
function sourceOf(json, path) {
  let at = skip(json, 0);
  for (const step of path) {
    const isObject = json[at] === "{";
    let found = -1;
    let n = 0;
    for (at = skip(json, at + 1); !isIn("]}", json, at); at = skip(json, endOf(json, at))) {
      let name = n++;
      if (isObject) {
        const end = endOf(json, at);
        name = JSON.parse(json.slice(at, end));
        at = skip(json, end);
      }
      if (name === step) found = at; // of two of a name the last counts
    }
    if (found < 0) return "null"; // what is missing is null
    at = found;
  }
  return json.slice(at, endOf(json, at));
}

// -- received ------------------------------------------------------------------------------------------------

// Values between applications and the wire: heartwire/client/received.py.

const toBase64 = bytes => {
  let binary = "";
  for (let at = 0; at < bytes.length; at += 0x8000)
    binary += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(binary);
};
const fromBase64 = encoded => Uint8Array.from(atob(encoded), character => character.charCodeAt(0));

/** The argument of `publish` as JSON text and its encoding: "text", "base64", or "" for JSON. */
function encode(data) {
  if (typeof data === "string") {
    checkText("data", data);
    return [JSON.stringify(data), "text"];
  }
  if (data instanceof ArrayBuffer) return encode(new Uint8Array(data));
  if (ArrayBuffer.isView(data)) {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    return [`"${toBase64(bytes)}"`, "base64"];
  }
  return [jsonOf(data), ""];
}

/** A position as applications see it. */
const tokenOf = (epoch, offset) => (epoch ? `${epoch}.${offset}` : "");

/** The position that a token stands for. Throws a `TypeError`. */
function parsePosition(given) {
  const [, epoch, offset] = /^([A-Za-z0-9_-]{1,32})\.(0|[1-9][0-9]{0,15})$/.exec(given) ?? [];
  if (epoch === undefined) throw new TypeError(`${JSON.stringify(given)} is not a position`);
  return { epoch, offset: Number(offset) };
}

class Publication {
  #source;

  constructor(fields, source) {
    Object.assign(this, fields);
    this.#source = source;
  }

  /** The data as it came, for what JavaScript cannot hold: integers over 2^53. Looked up when it is read. */
  get json() {
    return sourceOf(...this.#source);
  }
}

/** `source`: the line of the server, and the path to the data in it. @returns {any} */
function publication(channel, epoch, offset, data, encoding, user, client, source) {
  const isBytes = encoding === "base64";
  const value = isBytes ? fromBase64(data) : data;
  const position = tokenOf(epoch, offset);
  return new Publication({ channel, data: value, position, offset, user, client, isBytes }, source);
}

/** The result of a `history` request. */
function historyOf(channel, { publications = [], epoch = "", offset = 0 }, line) {
  const made = publications.map(({ data, offset, tags, info }, n) => {
    const source = [line, ["history", "publications", n, "data"]];
    return publication(
      channel,
      epoch,
      offset,
      data,
      tags?.encoding,
      info?.user ?? "",
      info?.client ?? "",
      source,
    );
  });
  return { publications: made, position: tokenOf(epoch, offset) };
}

/** The result of a `presence` request, by client id. */
function presenceOf({ presence = {} }) {
  const member = ({ client = "", user = "", conn_info: connInfo, chan_info: chanInfo }) => ({
    client,
    user,
    ...(connInfo !== undefined && { connInfo }),
    ...(chanInfo !== undefined && { chanInfo }),
  });
  return Object.fromEntries(Object.entries(presence).map(([id, one]) => [id, member(one)]));
}

// -- streams_wire --------------------------------------------------------------------------------------------

// What a client and a server of durable streams say over HTTP: heartwire/client/streams_wire.py.

/** The code and the name of each refusalOf, by HTTP status. */
const REFUSALS = {
  401: [101, "unauthorized"],
  403: [103, "forbidden"],
  404: [108, "stream_not_found"],
  409: [107, "stream_conflict"],
  410: [108, "stream_gone"],
  413: [106, "stream_full"],
  501: [108, "not_available"],
};

/** @typedef {{status: number, headers: Headers, body: Uint8Array}} Answer */

/** A request without an answer that counts: it is made again, no earlier than the server wants it. */
class Lost extends Error {
  constructor(reason, afterS = 0, isReachable = true) {
    super(reason);
    this.afterS = afterS;
    this.isReachable = isReachable;
  }
}

/** When a request is made again: full-jitter backoff, and a bucket of attempts. */
class Retry {
  #bucket;

  constructor({ backoffBaseS, backoffCapS, attemptRatePerS, attemptBurst }, draw, now) {
    this.backoff = new Backoff(backoffBaseS, backoffCapS, draw);
    this.#bucket = new Bucket(attemptRatePerS, attemptBurst, now);
  }

  nextS(lost, now) {
    return Math.max(lost.afterS, this.backoff.nextS(), this.#bucket.take(now));
  }
}

/** The address of a stream: its name itself where that is one. */
function streamUrl(base, path, name) {
  if (/^https?:\/\//.test(name)) return new URL(name);
  checkChannel(name);
  if (/(^|\/)\.\.?(\/|$)/.test(name)) throw new TypeError(`stream ${name}: "." or ".." between slashes`);
  const encoded = encodeURIComponent(name).replaceAll("%2F", "/").replaceAll("%3A", ":");
  return new URL([base, path.replace(/^\/+|\/+$/g, ""), encoded].filter(Boolean).join("/"));
}

const toBytes = text => new TextEncoder().encode(text);

const isTrue = (headers, name) => headers.get(name)?.toLowerCase() === "true";

/** What a stream is made of: "json", "text" or "bytes". */
function kindOf(contentType) {
  const mediaType = contentType.split(";")[0].trim().toLowerCase();
  if (mediaType === "application/json") return "json";
  return mediaType.startsWith("text/") ? "text" : "bytes";
}

/** The error of an answer: `Lost` where it is for now only. @param {Answer} answer */
function refusalOf({ status, headers, body }) {
  const text = new TextDecoder().decode(body.subarray(0, 2000));
  const message = `HTTP ${status} ${text}`.trim();
  if ([408, 425, 429].includes(status) || (status >= 500 && status !== 501))
    return new Lost(message, retryAfterHeaderS(headers));
  let [code, name] = REFUSALS[status] ?? [107, "bad_request"];
  name = /"code":\s*"(\w+)"/.exec(text)?.[1] ?? name;
  if (status === 409 && isTrue(headers, "stream-closed")) name = "stream_closed";
  else if (status === 409 && headers.has("producer-expected-seq")) name = "producer_gap";
  return new HeartwireError(code, message, false, name);
}

/** The events of a text that are complete, as [name, data], and the rest of it. */
function cutEvents(text) {
  const blocks = text.split(/\r?\n\r?\n/);
  const rest = /** @type {string} */ (blocks.pop());
  const events = blocks.map(block => {
    const values = name =>
      block
        .split(/\r?\n/)
        .filter(line => line.startsWith(`${name}:`))
        .map(line => line.slice(name.length + 1).replace(/^ /, ""));
    return [values("event").join(""), values("data").join("\n")];
  });
  return { events, rest };
}

// -- streams_reading -----------------------------------------------------------------------------------------

// One reading of a durable stream: what to ask next, and what the answers mean.
// heartwire/client/streams_reading.py.

const UNHELD_S = 0.5; // a long poll that is answered sooner, with nothing, was not held

/** Whether UTF-8 ends within a character: more of it may come. */
function isCut(bytes) {
  for (let back = 1; back <= 3 && back <= bytes.length; back++) {
    const byte = bytes[bytes.length - back];
    if (byte >= 0xc0) return back < (byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4);
    if (byte < 0x80) return false;
  }
  return false;
}

/** Parses JSON, or throws `Lost`. */
function parsed(text, isRight, what) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {}
  if (!isRight(value)) throw new Lost(`${text.slice(0, 80)}: ${what}`);
  return value;
}

const messages = body =>
  parsed(body.length ? new TextDecoder().decode(body) : "[]", Array.isArray, "not a JSON array");

function joined(parts) {
  const bytes = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** After each answer `offset` is where to go on once its values are taken. */
class Reading {
  contentType = "";
  isClosed = false; // and all of it was read
  isOver = false;
  isLive = false; // at the tail, from now on
  isHeard = false;
  #live;
  #retry;
  #stableAfterS;
  #next; // after what is held, too
  #cursor = "";
  #held = new Uint8Array(); // text that ends within a character
  #isSseCut = false;
  #events = /** @type {Uint8Array[]} */ ([]);
  #askedAt = 0;
  #isHeld = false;
  #wasSse = false;

  /** @param {boolean | "long-poll"} live */
  constructor(offset, live, retry, stableAfterS) {
    this.offset = this.#next = offset;
    this.#live = live;
    this.#retry = retry;
    this.#stableAfterS = stableAfterS;
  }

  /** Whether the next request is for an event stream. */
  get isSse() {
    const may = this.isLive && this.#live === true && !this.#isSseCut && !this.#held.length;
    return may && kindOf(this.contentType) !== "bytes";
  }

  /** What to ask; `mayHold`: the server may hold its answer. */
  query(now, mayHold = true) {
    this.#askedAt = now;
    this.#isHeld = this.isLive && mayHold;
    this.#wasSse = this.#isHeld && this.isSse;
    this.isHeard = false;
    this.#events = [];
    const query = { offset: this.#next };
    if (!this.#isHeld) return query;
    return {
      ...query,
      live: this.#wasSse ? "sse" : "long-poll",
      ...(this.#cursor && { cursor: this.#cursor }),
    };
  }

  /** The values of an answer that is complete. Throws its refusal, and `Lost`. */
  answered(answer, now) {
    const { status, headers, body } = answer;
    if (status === 400 && this.#wasSse) throw new Lost("there is no event stream of it");
    if (status !== 200 && status !== 204) throw refusalOf(answer);
    const streamNextOffset = headers.get("stream-next-offset");
    if (streamNextOffset === null) throw new Lost("an answer without Stream-Next-Offset");
    if (status === 200) this.contentType = headers.get("content-type") ?? this.contentType;
    const upToDate = isTrue(headers, "stream-up-to-date");
    const streamClosed = isTrue(headers, "stream-closed");
    const maySame = streamClosed || (upToDate && !this.#isHeld);
    if (streamNextOffset === this.#next && !maySame && now - this.#askedAt < UNHELD_S)
      throw new Lost("the server answers at once, with nothing");
    const streamCursor = headers.get("stream-cursor") ?? "";
    return this.#moved({ streamNextOffset, streamCursor, upToDate, streamClosed }, [body], now);
  }

  /** The values that are complete with an event. */
  event(name, data, now) {
    if (name === "data") this.#events.push(toBytes(data));
    if (name !== "control") return [];
    const control = parsed(data, value => typeof value?.streamNextOffset === "string", "not a control event");
    const bodies = this.#events;
    this.#events = [];
    this.isHeard = true;
    this.#isSseCut = false;
    return this.#moved(control, bodies, now);
  }

  /** The seconds to wait after a request that failed, or ended. */
  lost(lost, now) {
    // What keeps an event stream to itself, as some proxies do, lets long polls through.
    if (this.isLive && lost.isReachable) this.#isSseCut = this.#wasSse && !this.isHeard;
    if (now - this.#askedAt >= this.#stableAfterS) this.#retry.backoff.reset();
    return this.#retry.nextS(lost, now);
  }

  #moved({ streamNextOffset, streamCursor, upToDate = false, streamClosed = false }, bodies, now) {
    const hasMoved = streamNextOffset !== this.#next;
    const values = this.#values(hasMoved ? bodies : [], streamClosed);
    if (hasMoved || now - this.#askedAt >= this.#stableAfterS) this.#retry.backoff.reset();
    this.#next = streamNextOffset;
    this.#cursor = streamCursor || this.#cursor;
    if (!this.#held.length) this.offset = this.#next;
    this.isLive ||= upToDate && this.#live !== false;
    this.isClosed = streamClosed;
    this.isOver = streamClosed || (upToDate && this.#live === false);
    return values;
  }

  #values(bodies, isLast) {
    const kind = kindOf(this.contentType);
    if (kind === "json") return bodies.flatMap(messages);
    const bytes = joined([this.#held, ...bodies]);
    if (kind === "bytes") return bytes.length ? [bytes] : [];
    this.#held = isLast || !isCut(bytes) ? new Uint8Array() : bytes;
    return bytes.length && !this.#held.length
      ? [new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes)]
      : [];
  }
}

// -- streams_http --------------------------------------------------------------------------------------------

// Requests to one durable stream: sent with a token, given up in time, made again until they are answered.
// heartwire/client/streams_http.py.

const clockS = () => performance.now() / 1000;

/** Waits, or until it is aborted. */
const pause = (s, signal) =>
  new Promise(resolve => {
    const timer = setTimeout(resolve, s * 1000);
    signal?.addEventListener("abort", () => resolve(clearTimeout(timer)));
  });

/** The token of a client's requests, and what else it sends with them to its own server. */
class StreamAccess {
  constructor({ base, token, getToken, headers, fetch, options }) {
    this.origin = new URL(base).origin;
    this.token = token;
    this.getToken = getToken;
    this.headers = headers;
    this.fetch = fetch;
    this.options = options;
  }

  async find() {
    if (!this.getToken || this.token) return;
    try {
      const token = await this.getToken();
      checkText("the answer of getToken", token);
      this.token = token;
    } catch (error) {
      throw new Lost(`getToken: ${error.message}`, 0, false);
    }
  }
}

class StreamRequests {
  #access;

  constructor(url, access) {
    this.url = url;
    this.options = access.options;
    this.silenceS = this.options.pingIntervalS + this.options.pongTimeoutS;
    this.#access = access;
  }

  retry() {
    return new Retry(this.options, Math.random, clockS());
  }

  /** Asks until it is answered, for `maxPendingAgeS`. */
  async settle(ask, retry) {
    const endsAt = clockS() + this.options.maxPendingAgeS;
    for (;;) {
      try {
        const answer = await ask();
        retry.backoff.reset();
        return answer;
      } catch (lost) {
        if (!(lost instanceof Lost)) throw lost;
        const delayS = retry.nextS(lost, clockS());
        if (clockS() + delayS > endsAt)
          throw new HeartwireError(LOCAL, `not answered within maxPendingAgeS: ${lost.message}`, true);
        await pause(delayS);
      }
    }
  }

  /** The whole answer to one request. Throws `Lost`. @param {any} init */
  async ask(method, init, end = new AbortController()) {
    const { withinS = this.options.requestTimeoutS, ...rest } = init;
    const parts = [];
    let answer = /** @type {any} */ (null);
    for await (const [response, part] of this.send(method, rest, end, () => withinS)) {
      answer = response;
      if (part) parts.push(part);
    }
    return { status: answer.status, headers: answer.headers, body: joined(parts) };
  }

  /**
   * Sends a request. Yields the response, then the response and each piece of its body. Throws `Lost`.
   * @param {any} init for fetch, with a query
   * @param {AbortController} end ends it
   * @param {() => number} withinS how long it may be silent
   */
  async *send(method, init, end, withinS) {
    const { query = {}, ...rest } = init;
    let timer;
    const heard = () => {
      clearTimeout(timer);
      timer = setTimeout(() => end.abort(new Lost("nothing came in time")), withinS() * 1000);
    };
    try {
      const response = await this.#authorized(method, query, { ...rest, signal: end.signal }, heard);
      yield [response, null];
      const reader = response.body?.getReader();
      for (heard(); reader; heard()) {
        const { value, done } = await reader.read();
        clearTimeout(timer);
        if (done) return;
        yield [response, value];
      }
    } catch (error) {
      if (end.signal.aborted) throw end.signal.reason;
      if (error instanceof TypeError)
        throw new Lost(`${error.message} ${/** @type {any} */ (error.cause)?.message ?? ""}`, 0, false);
      throw error;
    } finally {
      clearTimeout(timer);
      end.abort();
    }
  }

  /** Sends with a token, and once more with a new one where it is refused. */
  async #authorized(method, query, init, heard) {
    const url = new URL(this.url);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    const access = this.#access;
    const isOwn = url.origin === access.origin; // who else is asked gets neither the token nor the headers
    for (const isLast of [false, true]) {
      heard();
      if (isOwn) await access.find();
      const token = isOwn && access.token;
      const headers = {
        ...(isOwn && access.headers),
        ...init.headers,
        ...(token && { authorization: `Bearer ${token}` }),
      };
      const { fetch } = access;
      const response = await fetch(url.href, { ...init, method, headers, cache: "no-store" });
      if (response.status !== 401 || isLast || !access.getToken || !isOwn) return response;
      if (access.token === token) access.token = "";
    }
  }
}

// -- streams_producing ---------------------------------------------------------------------------------------

// The appends of one producer: which request is next, and what its answer means.
// heartwire/client/streams_producing.py.

/** One request is in flight, the same until it is acknowledged. */
class Producing {
  offset = "";
  isJson = false;
  isClosed = false;
  #seq = 0;
  #isNew;
  #canClaim;
  #options;
  #waiting = /** @type {Uint8Array[]} */ ([]);
  #size = 0;
  #isClosing = false;
  #flight = /** @type {Uint8Array[] | null} */ (null);
  #closes = false;
  #tries = 0;

  constructor(id, epoch, { isNew, canClaim, options }) {
    this.id = id;
    this.epoch = epoch;
    this.#isNew = isNew;
    this.#canClaim = canClaim;
    this.#options = options;
  }

  get isIdle() {
    return this.#flight === null && !this.#waiting.length && !this.#isClosing;
  }

  /** Appends after what waits; false: too much waits. */
  add(body) {
    if (this.#isClosing || this.isClosed)
      throw new HeartwireError(107, "this producer has closed its stream", false, "stream_closed");
    const { maxPendingItems, maxPendingBytes } = this.#options;
    const isFull = this.#waiting.length >= maxPendingItems || this.#size + body.length > maxPendingBytes;
    if (isFull && this.#waiting.length) return false;
    this.#waiting.push(body);
    this.#size += body.length;
    return true;
  }

  /** Closes the stream with the last append, or after it. */
  close() {
    this.#isClosing = !this.isClosed;
  }

  /** The headers and the parts of the body of the request that is next. */
  take() {
    if (this.#flight === null) {
      this.#flight = this.#batch();
      this.#closes = this.#isClosing && !this.#waiting.length;
      this.#tries = 0;
    }
    this.#tries++;
    const headers = {
      "producer-id": this.id,
      "producer-epoch": String(this.epoch),
      "producer-seq": String(this.#seq),
      ...(this.#closes && { "stream-closed": "true" }),
    };
    if (!this.isJson || !this.#flight.length) return [headers, this.#flight];
    return [headers, ["[", ...this.#flight.flatMap((one, n) => (n ? [",", one] : [one])), "]"]];
  }

  /** How many appends an answer acknowledges; null: they have to be sent again. */
  answered(answer) {
    const { status, headers } = answer;
    const current = headers.get("producer-epoch");
    const isStale = status === 403 && current !== null;
    if (status !== 200 && status !== 204 && !isStale) throw refusalOf(answer);
    if (isStale || !this.#isOurs(answer)) return this.#claim(current ?? this.epoch);
    this.offset = headers.get("stream-next-offset") ?? this.offset;
    this.isClosed = this.#closes || isTrue(headers, "stream-closed");
    this.#isClosing &&= !this.isClosed;
    const count = this.#flight?.length ?? 0;
    this.#flight = null;
    this.#seq++;
    return count;
  }

  #batch() {
    let [taken, size] = [0, 0];
    for (const one of this.#waiting) {
      if (taken && size + one.length > MAX_FRAME) break;
      size += one.length;
      taken++;
    }
    this.#size -= size;
    return this.#waiting.splice(0, taken);
  }

  /** Whether it was this producer, not one of the same id and epoch before it, that appended this. */
  #isOurs({ status, headers }) {
    if (status === 200 || this.#isNew || !this.#flight?.length) return true;
    const last = headers.get("producer-seq") ?? String(this.#seq);
    return last === String(this.#seq) && (this.#tries > 1 || this.#seq > 0);
  }

  #claim(current) {
    if (!this.#canClaim || !Number.isSafeInteger(Number(current))) {
      const what = `epoch ${this.epoch} of producer ${this.id} was used already`;
      throw new HeartwireError(103, `${what}; the stream has epoch ${current}`, false, "stale_producer");
    }
    this.#canClaim = false;
    this.epoch = Number(current) + 1;
    this.#seq = this.#tries = 0;
    return null;
  }
}

// -- system --------------------------------------------------------------------------------------------------

// What a browser, a worker or Node offers beside sockets: reports of the network and the page, and a place to
// remember which transport worked.

/**
 * Passes on what window, document and navigator report, as far as they exist here, until the signal is
 * aborted.
 * @param {AbortSignal} signal
 * @param {(kind: "networkUp" | "networkDown" | "wake") => void} hint
 * @param {() => void} putAside The page is put aside for the way back: only where no connection is open.
 */
function listenToSystem(signal, hint, putAside) {
  const listen = (target, name, hear) => target?.addEventListener?.(name, hear, { signal });
  const { document, navigator } = globalThis;
  const connection = /** @type {any} */ (navigator)?.connection;
  listen(globalThis, "online", () => hint("networkUp"));
  listen(globalThis, "offline", () => hint("networkDown"));
  listen(globalThis, "pageshow", ({ persisted }) => persisted && hint("wake"));
  listen(globalThis, "pagehide", ({ persisted }) => persisted && putAside());
  listen(document, "visibilitychange", () => document.visibilityState === "visible" && hint("wake"));
  listen(document, "resume", () => hint("wake"));
  listen(connection, "change", () => hint("wake"));
}

/** The storage of this tab; null where there is none. */
function pageStorage() {
  try {
    return globalThis.sessionStorage ?? null;
  } catch {
    return null; // a page without an origin, or a browser that allows no storage
  }
}

/** The transport that worked the last time. */
const recallTransport = (storage, base) => storage?.getItem(`heartwire ${base}`);

function rememberTransport(storage, base, transport) {
  try {
    storage?.setItem(`heartwire ${base}`, transport);
  } catch {
    // it is full or closed to us: the next page begins at the top of the ladder
  }
}

// -- streams -------------------------------------------------------------------------------------------------

// A durable stream as applications see it: heartwire/client/streams.py.

/** What is appended for a value. */
function bodyOf(data, isJson, limit) {
  let body;
  if (isJson) body = toBytes(jsonOf(data));
  else if (data instanceof ArrayBuffer) body = new Uint8Array(data.slice());
  else if (ArrayBuffer.isView(data))
    body = new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
  else {
    checkText("data", data);
    body = toBytes(data);
  }
  if (!body.length) throw new TypeError("data: nothing to append");
  if (body.length > limit)
    throw new HeartwireError(
      LIMIT_EXCEEDED,
      `data: ${body.length} bytes, over the limit of ${limit} (maxMessageBytes)`,
    );
  return body;
}

/** One of the places that tabs share for requests that are held: how to free it; null: there is none. */
const place = base =>
  new Promise(resolve => {
    const hold = () => new Promise(free => resolve(() => free(null)));
    holding(base, hold, () => resolve(null));
  });

/** Appends to one stream, each exactly once, in order. Once one has failed, so do all after it. */
class StreamProducer {
  #requests;
  #producing;
  #type;
  #typed = /** @type {any} */ (null);
  #contentType = "";
  #answers = /** @type {any[]} */ ([]);
  #error = /** @type {any} */ (null);
  #running = /** @type {Promise<void> | null} */ (null);

  constructor(requests, producing, type) {
    this.#requests = requests;
    this.#producing = producing;
    this.#type = type;
  }

  get id() {
    return this.#producing.id;
  }

  get epoch() {
    return this.#producing.epoch;
  }

  /** Resolves to the offset after it, once the server has it. Not awaited, it waits its turn. */
  append(data) {
    const answer = this.#append(data);
    answer.catch(() => {}); // `flush` and `close` reject, too
    return answer;
  }

  /** Resolves to the offset after all that was appended so far, once the server has it. */
  async flush() {
    await this.#ready();
    while (this.#running) await this.#running;
    if (this.#error) throw this.#error;
    return this.#producing.offset;
  }

  /** Closes the stream for good, in one step with the last append. */
  async close(data = undefined) {
    if (data !== undefined) this.append(data);
    await this.#ready();
    this.#producing.close();
    this.#start();
    return this.flush();
  }

  async #append(data) {
    try {
      await this.#ready();
      if (this.#error) throw this.#error;
      const body = bodyOf(data, this.#producing.isJson, this.#requests.options.maxMessageBytes);
      const limit = "too many appends wait (maxPendingItems, maxPendingBytes): await what you append";
      if (!this.#producing.add(body)) throw new HeartwireError(LIMIT_EXCEEDED, limit);
    } catch (error) {
      this.#fail(error); // else what comes after it would be there without it
      throw error;
    }
    return new Promise((resolve, reject) => {
      this.#answers.push({ resolve, reject });
      this.#start();
    });
  }

  /** Asks for the type once, so that all who wait for it go on in their order. */
  async #ready() {
    this.#typed ??= this.#type();
    this.#contentType = await this.#typed;
    this.#producing.isJson = kindOf(this.#contentType) === "json";
  }

  #start() {
    this.#running ??= this.#run();
  }

  async #run() {
    const retry = this.#requests.retry();
    await null; // what is appended in the same turn goes along
    try {
      while (!this.#error && !this.#producing.isIdle) {
        const count = await this.#requests.settle(() => this.#send(), retry);
        for (const { resolve } of this.#answers.splice(0, count)) resolve(this.#producing.offset);
      }
    } catch (error) {
      this.#fail(error);
    }
    this.#running = null;
  }

  async #send() {
    for (;;) {
      const [headers, parts] = this.#producing.take();
      const init = { headers: { ...headers, "content-type": this.#contentType }, body: new Blob(parts) };
      const count = this.#producing.answered(await this.#requests.ask("POST", init));
      if (count !== null) return count;
    }
  }

  #fail(error) {
    this.#error ??= error;
    for (const { reject } of this.#answers.splice(0)) reject(this.#error);
  }
}

/** One durable stream, for one reader at a time and any number of producers. */
class Stream {
  /** Where to go on. It moves as the last value of an answer is handed out. */
  offset = "-1";
  /** Whether the last answer said that nothing will be appended any more. */
  closed = false;
  contentType = "";
  #requests;
  #waiting = /** @type {any[]} */ ([]); // read, not handed out yet, in reverse; they lead to `#after`
  #after = "";

  constructor(url, access) {
    this.#requests = new StreamRequests(url, access);
  }

  get url() {
    return this.#requests.url.href;
  }

  [Symbol.asyncIterator]() {
    return this.read();
  }

  /**
   * What was appended and, where live, what will be, until it is closed.
   * @returns {AsyncGenerator<any, void, undefined>}
   */
  async *read(options = {}) {
    checkNames(options, ["offset", "live", "signal"]);
    const { offset = null, live = true, signal = null } = options;
    checkSignal(signal);
    if (offset !== null) {
      this.offset = offset;
      this.#waiting = [];
    }
    const from = this.#waiting.length ? this.#after : this.offset;
    const retry = this.#requests.retry();
    const reading = new Reading(from, live, retry, this.#requests.options.stableAfterS);
    yield* this.#handedOut();
    const over = new AbortController();
    let end = new AbortController();
    const wake = () => reading.isLive && end.abort(new Lost("woken"));
    listenToSystem(over.signal, kind => kind !== "networkDown" && wake(), wake);
    signal?.addEventListener("abort", () => end.abort(signal.reason), { signal: over.signal });
    let isProven = true; // a browser may have other connections that died with the one that was lost
    try {
      while (!reading.isOver) {
        end = new AbortController();
        signal?.throwIfAborted();
        try {
          for await (const values of this.#answers(reading, end, isProven)) {
            isProven = true;
            this.#take(reading, values);
            yield* this.#handedOut();
          }
        } catch (error) {
          if (!(error instanceof Lost)) throw error;
          isProven = false;
          end = new AbortController();
          await pause(reading.lost(error, clockS()), end.signal);
        }
      }
    } finally {
      over.abort();
    }
  }

  #take(reading, values) {
    this.closed = reading.isClosed;
    this.contentType = reading.contentType;
    this.#waiting = values.reverse();
    this.#after = reading.offset;
    if (!values.length) this.offset = reading.offset;
  }

  *#handedOut() {
    while (this.#waiting.length) {
      if (this.#waiting.length === 1) this.offset = this.#after;
      yield this.#waiting.pop();
    }
  }

  /** Makes one request, which is held where it may be. Yields the values that come. */
  async *#answers(reading, end, isProven) {
    const { options, silenceS, url } = this.#requests;
    const free = reading.isLive && (await place(url.origin));
    const mayHold = free !== null && isProven;
    try {
      if (free === null) await pause(options.pollIntervalS, end.signal);
      const isSse = reading.isSse && mayHold;
      const query = reading.query(clockS(), mayHold);
      if (!isSse) {
        const atOnceS = isProven ? options.requestTimeoutS : options.openTimeoutS;
        const withinS = reading.isLive && mayHold ? silenceS : atOnceS;
        yield reading.answered(await this.#requests.ask("GET", { query, withinS }, end), clockS());
        return;
      }
      const decoder = new TextDecoder();
      let rest = "";
      const withinS = () => (reading.isHeard ? silenceS : options.openTimeoutS);
      for await (const [response, piece] of this.#requests.send("GET", { query }, end, withinS)) {
        const { status, headers } = response;
        if (status !== 200 || !headers.get("content-type")?.startsWith("text/event-stream")) {
          reading.answered({ status, headers, body: new Uint8Array() }, clockS());
          throw new Lost("the server has no event stream of it");
        }
        const cut = cutEvents(rest + decoder.decode(piece ?? new Uint8Array(), { stream: true }));
        rest = cut.rest;
        for (const [name, data] of cut.events) yield reading.event(name, data, clockS());
      }
      if (!reading.isOver) throw new Lost("the event stream ended");
    } finally {
      if (free) free();
    }
  }

  /** Creates it. Resolves to whether it is new. */
  async create(options = {}) {
    checkNames(options, ["contentType", "ttlS", "closed"]);
    const { contentType = "application/json", ttlS = null, closed = false } = options;
    const { status, headers } = await this.#ask("PUT", {
      "content-type": contentType,
      ...(ttlS !== null && { "stream-ttl": String(ttlS) }),
      ...(closed && { "stream-closed": "true" }),
    });
    this.contentType = headers.get("content-type") ?? contentType;
    this.closed = closed;
    return status === 201;
  }

  /** What the server says of it. */
  async head() {
    const { headers } = await this.#ask("HEAD", {});
    this.contentType = headers.get("content-type") ?? "";
    this.closed = isTrue(headers, "stream-closed");
    const ttl = headers.get("stream-ttl");
    return {
      contentType: this.contentType,
      offset: headers.get("stream-next-offset") ?? "",
      closed: this.closed,
      ttlS: ttl === null ? null : Number(ttl),
    };
  }

  /** Closes it for good, after one last append where there is data. */
  async close(data = undefined) {
    if (data !== undefined) await this.producer().close(data);
    else await this.#ask("POST", { "stream-closed": "true" });
    this.closed = true;
  }

  async delete() {
    await this.#ask("DELETE", {}, 404);
  }

  /** A producer of this stream, by an id that is new or, with an epoch, known to the server. */
  producer(options = {}) {
    checkNames(options, ["id", "epoch", "autoClaim"]);
    const { id = null, epoch = 0, autoClaim = false } = options;
    const tuning = { isNew: id === null, canClaim: autoClaim, options: this.#requests.options };
    const producing = new Producing(id ?? crypto.randomUUID(), epoch, tuning);
    const type = async () => this.contentType || (await this.head()).contentType;
    return new StreamProducer(this.#requests, producing, type);
  }

  /** Asks until it is answered. `isDone`: the status where an earlier try was carried out. */
  #ask(method, headers, isDone = 0) {
    let tries = 0;
    const ask = async () => {
      tries++;
      const answer = await this.#requests.ask(method, { headers });
      if (answer.status >= 300 && !(tries > 1 && answer.status === isDone)) throw refusalOf(answer);
      return answer;
    };
    return this.#requests.settle(ask, this.#requests.retry());
  }
}

// -- subscription --------------------------------------------------------------------------------------------

// One followed channel, as applications see it: heartwire/client/subscription.py.

class Subscription extends Emitter {
  /** After the last publication that was handed out; "" before the server has said where it begins. */
  position = "";
  /** Why the durable stream that the channel is was closed: "done", "error", "aborted", "interrupted". */
  end = /** @type {any} */ ("");
  #queue = /** @type {any[] | null} */ (null);
  #ending = /** @type {[HeartwireError | null] | null} */ (null); // once it is over
  #wake = () => {};
  #begun = _ => {};
  #refused = _ => {};
  #flow;

  /**
   * @param {{maxItems: number, pause(): void, resume(): void, end(): void, failed(error: any,
   *   name: string): void}} flow what the client does for it
   */
  constructor(channel, flow) {
    super(flow.failed);
    this.channel = channel;
    this.#flow = flow;
    this.ready = new Promise((resolve, reject) => {
      this.#begun = resolve;
      this.#refused = reject;
    });
    this.ready.catch(() => {}); // a refusal is an event too
  }

  unsubscribe() {
    this.#flow.end();
  }

  /** From the client: a publication. */
  deliver(item) {
    if (this.#queue !== null) {
      this.#queue.push(item);
      if (this.#queue.length === this.#flow.maxItems) this.#flow.pause();
      this.#wake();
    } else {
      this.position = item.position || this.position;
    }
    this.emit("publication", item);
  }

  /** From the client: the position of the channel. What waits in the queue comes before it. */
  place(at) {
    if (!this.#queue?.length) this.position = at || this.position;
  }

  /** From the client: the server follows the channel for us. */
  subscribed(position, wasRecovered) {
    this.place(position);
    this.#begun(this);
    this.emit("subscribed", { position, wasRecovered });
  }

  /** From the client: the end of a stream. An iteration ends after the last publication. */
  closed(reason, end) {
    this.end = reason;
    this.emit("end", { reason });
    this.ended(null, end);
  }

  /**
   * From the client: it is over; null: because the application wants so, or all has come. Returns whether
   * anybody hears of it.
   */
  ended(error, end = error ?? new HeartwireError(LOCAL, "closed by the application")) {
    if (this.#ending !== null) return true;
    this.#ending = [error];
    this.#wake();
    this.#refused(end);
    return this.emit("unsubscribed", { code: end.code, reason: end.message }) || this.#queue !== null;
  }

  /**
   * `for await (const publication of subscription)`; leaving the loop ends the subscription.
   * @returns {AsyncIterator<any>}
   */
  [Symbol.asyncIterator]() {
    if (this.#queue !== null) throw new Error(`${this.channel} is iterated already`);
    const queue = [];
    this.#queue = queue;
    return {
      next: () => this.#next(queue),
      return: async () => {
        this.unsubscribe();
        return { value: undefined, done: true };
      },
    };
  }

  /** @returns {Promise<IteratorResult<any>>} */
  async #next(queue) {
    while (!queue.length) {
      if (this.#ending?.[0]) throw this.#ending[0];
      if (this.#ending) return { value: undefined, done: true };
      await new Promise(resolve => {
        this.#wake = () => resolve(null);
      });
    }
    const value = queue.shift();
    this.position = value.position || this.position;
    if (queue.length === this.#flow.maxItems >> 1) this.#flow.resume();
    return { value, done: false };
  }
}

// -- client --------------------------------------------------------------------------------------------------

// The client as applications see it: heartwire/client/client.py. docs/javascript.md says how it is used.

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
class Client extends Emitter {
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
function connect(url, options) {
  return new Client(url, options);
}

/** A durable stream at an address, on any server, without a client. The options are those of `connect`. */
function stream(url, given = {}) {
  checkNames(given, [...Object.keys(SHELL_DEFAULTS), ...Object.keys(DEFAULTS)]);
  const shell = shellOptions(given);
  const options = tuning(given);
  checkOptions(options);
  const address = new URL(url, globalThis.location?.href);
  const fetch = shell.fetch ?? globalThis.fetch;
  return new Stream(address, new StreamAccess({ ...shell, base: address.origin, fetch, options }));
}

// -- index ---------------------------------------------------------------------------------------------------

// The module as applications import it.

/** For tests. */
const internals = Object.freeze({
  Lost,
  Machine,
  Producing,
  Reading,
  Retry,
  baseOf,
  closedByHttp,
  cutEvents,
  lineGroups,
  noteText,
  retryAfterS,
  sourceOf,
  streamUrl,
  verdict,
});

export {
  Client,
  connect,
  DEFAULTS,
  HeartwireError,
  internals,
  Stream,
  StreamProducer,
  Subscription,
  stream,
  TRANSPORTS,
};
