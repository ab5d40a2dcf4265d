/*
 * Heartwire for browsers, Web Workers and Node: channels over the best transport that the network lets through, resumed without
 * loss wherever it breaks. One file, no dependencies; docs/javascript.md says how it is used.
 *
 *   options and words of the protocol    what can be set, what goes over the wire
 *   Machine                              what is decided. Pure: time, chance and what came in are arguments, what is to be done comes
 *                                        out as `outputs`. It is the twin of heartwire/client in Python, method by method, and
 *                                        tests/vectors and tests/property/test_client_twins.py hold both to the same behaviour
 *   SocketLink, StreamLink, PollLink     how bytes travel
 *   Client, Subscription                 carry out what the machine says, and tell the application
 */

// -- options --------------------------------------------------------------------------------------------------------------

/** The ladder, best first. */
export const TRANSPORTS = Object.freeze(["websocket", "sse", "longpoll", "poll"]);

/** What the machine can be told, with defaults: those of heartwire/client/options.py, which says what each means. */
export const DEFAULTS = Object.freeze({
  transports: TRANSPORTS,
  first_transport: null,
  ping_interval_s: 25,
  pong_timeout_s: 10,
  probe_timeout_s: 3,
  tick_s: 1,
  open_timeout_s: 4,
  open_timeout_cap_s: 20,
  backoff_base_s: 0.5,
  backoff_cap_s: 20,
  later_s: 5,
  stable_after_s: 10,
  attempt_burst: 5,
  attempt_rate_per_s: 0.5,
  upgrade_after_s: 10,
  upgrade_cap_s: 600,
  poll_interval_s: 1,
  poll_wait_s: 25,
  max_pending_items: 1000,
  max_pending_bytes: 4 * 1024 * 1024,
  max_pending_age_s: 120,
  max_in_flight: 64,
  max_message_bytes: 1024 * 1024,
  max_queue_items: 1000,
  request_timeout_s: 10,
  close_timeout_s: 5,
});

function checkOptions(options) {
  const wrong = (name, known) => {
    throw new TypeError(`${name}: ${JSON.stringify(options[name])} cannot be; it is ${known}`);
  };
  const { transports, first_transport } = options;
  if (!Array.isArray(transports) || !transports.length || transports.some(name => !TRANSPORTS.includes(name)))
    wrong("transports", `some of ${TRANSPORTS.join(", ")}`);
  if (first_transport !== null && !transports.includes(first_transport)) wrong("first_transport", "one of `transports`");
  for (const [name, value] of Object.entries(options)) {
    if (!(name in DEFAULTS)) throw new TypeError(`there is no option ${name}`);
    if (name !== "transports" && name !== "first_transport" && !(typeof value === "number" && value > 0))
      wrong(name, "a number over 0");
  }
  if (options.poll_wait_s > 55) wrong("poll_wait_s", "at most 55: the server answers by then");
}

// -- words of the protocol --------------------------------------------------------------------------------------------------

const ABNORMAL = 1006; // the code of a connection that ended without a word (RFC 6455 7.1.5)
const LOCAL = 0; // the code of what the client itself gives up
const LIMIT_EXCEEDED = 106;
const INSUFFICIENT_STATE = 3010;
const TOO_LARGE = 1009;
const PONG = "{}";
const MAX_FRAME = 64 * 1024; // characters in a frame of many commands: the server takes 1 MiB, proxies and phones like less

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

/** What is known of an object, checked, with defaults for what is not there. Whatever else it has belongs to other versions. */
function struct(fields) {
  const known = Object.entries(fields);
  return value => {
    if (!isObject(value)) fail("an object");
    const made = {};
    for (const [name, [check, missing]] of known) made[name] = value[name] === undefined ? missing : check(value[name]);
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
const aPush = struct({
  channel: [text, ""],
  pub: [optional(aPub), null],
  unsubscribe: [optional(anEnd), null],
  disconnect: [optional(anEnd), null],
  subscribe: [optional(aSubscription), null],
  message: [optional(struct({ data: [any, null] })), null],
});
const aReply = struct({
  id: [integer, 0],
  error: [optional(struct({ code: [integer, 0], message: [text, ""], temporary: [flag, false] })), null],
  push: [optional(aPush), null],
  connect: [optional(aConnection), null],
  subscribe: [optional(aSubscription), null],
  publish: [optional(struct({ epoch: [text, ""], offset: [integer, 0] })), null],
  refresh: [optional(struct({ expires: [flag, false], ttl: [number, 0] })), null],
  rpc: [any, {}],
  presence: [any, {}],
  presence_stats: [any, {}],
  history: [any, {}],
});

/** One line of the server's: a reply where there is an id, else a push, else a ping. Throws `SyntaxError`. */
function parseReply(line) {
  try {
    return aReply(JSON.parse(line));
  } catch (error) {
    throw new SyntaxError(`${JSON.stringify(line.slice(0, 80))}: ${error.message}`);
  }
}

/** Characters as Python counts them: a pair of surrogates is one. */
function characters(string) {
  return /[\ud800-\udbff]/.test(string) ? string.length - (string.match(/[\ud800-\udbff][\udc00-\udfff]/g)?.length ?? 0) : string.length;
}

/** The first commands as a frame of a bearable size, taken out of the list. One that is larger goes alone. */
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

/** When the server wants to see its client again, where the reason of a close says so: `…; retry_after_ms=1500`. Else 0. */
function retryAfter(reason) {
  const digits = /.*retry_after_ms=(\d{1,7})$/s.exec(reason);
  return digits ? Number(digits[1]) / 1000 : 0;
}

const HTTP_CODES = { 401: 3500, 403: 3507, 429: 1013, 503: 1013 };

/** The close code and the reason that an HTTP answer stands for. What is not our server's own says nothing: 1006. */
function closedByHttp(status, body) {
  try {
    const { error } = struct({ error: [struct({ code: [text], message: [text] })] })(JSON.parse(body));
    if (error?.code !== undefined && error.message !== undefined)
      return [HTTP_CODES[status] ?? ABNORMAL, `${error.code}: ${error.message}`];
  } catch {
    // a proxy's page, or nothing
  }
  return [ABNORMAL, `HTTP ${status}`];
}

const LATER = new Set([1013, 3013]);
const NEW_TOKEN = new Set([3005, 3500]);
const NEVER = new Set([1002, 1003, 1007, 1008, 1010]);

/** What a close code asks for: "now" (after the usual wait), "later", a new "token" first, or "never". */
function verdict(code) {
  if (NEW_TOKEN.has(code)) return "token";
  if (LATER.has(code)) return "later";
  const isForGood = NEVER.has(code) || (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000);
  return isForGood ? "never" : "now";
}

/** As Python's `:g` has a number that is neither huge nor tiny. */
const general = value => String(Number(value.toPrecision(6)));

/** As Python's `:.1f`: an exact half goes to the even digit. */
const oneDecimal = value => (value % 1 === 0.25 ? value - 0.01 : value).toFixed(1);

// -- the machine's parts ------------------------------------------------------------------------------------------------------

/** Full-jitter exponential backoff: heartwire/client/retry.py. */
class Backoff {
  failures = 0;

  constructor(base_s, cap_s, draw) {
    Object.assign(this, { base_s, cap_s, draw });
  }

  next_s() {
    const limit_s = Math.min(this.cap_s, this.base_s * 2 ** Math.min(this.failures, 60));
    this.failures++;
    return this.draw() * limit_s;
  }

  reset() {
    this.failures = 0;
  }
}

/** One bucket for all attempts, whatever triggers them: no mix of triggers makes a storm. */
class Bucket {
  constructor(rate_per_s, burst, at) {
    Object.assign(this, { rate_per_s, burst, at, tokens: burst });
  }

  /** 0 where a token was there, and is taken; else the seconds until there is one. */
  take(now) {
    this.tokens = Math.min(this.burst, this.tokens + Math.max(0, now - this.at) * this.rate_per_s);
    this.at = now;
    if (this.tokens >= 1) {
      this.tokens -= 1;
      return 0;
    }
    // A little more than the exact time, so that rounding does not make it a moment too early, again and again.
    return (1 - this.tokens) / this.rate_per_s + 0.001;
  }
}

const FORGIVEN = 2; // strikes that a rung which has worked may have, and early deaths that any may have, before it is left

/** Which transport to try: heartwire/client/ladder.py. */
class Ladder {
  rounds = 0;
  #worked = new Set();
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

  /** The rung did not open. True: another is to be tried at once. */
  failed(isReachable, isTimeout) {
    if (!isReachable) {
      this.#earlyDeaths = 0; // it is the server that died, not what carried it
      return false;
    }
    this.#strikes += isTimeout ? 2 : 1;
    return this.#strikes >= (this.#worked.has(this.rung) ? FORGIVEN : 1) && this.#stepDown();
  }

  /** An open connection ended; abnormal: without a word of the server's. */
  died(hadHeartbeat, isAbnormal) {
    this.#earlyDeaths = hadHeartbeat || !isAbnormal ? 0 : this.#earlyDeaths + 1;
    if (this.#earlyDeaths >= FORGIVEN) this.#stepDown();
  }

  opened(rung) {
    if (rung !== this.rung) {
      this.#earlyDeaths = 0;
      this.#lastBetter = -1;
    }
    this.rung = rung;
    this.rounds = 0;
    this.#strikes = 0;
    this.#worked.add(rung);
  }

  /** A rung above to try meanwhile, each in turn from the top; null at the top. */
  better() {
    if (this.rung === 0) return null;
    this.#lastBetter = (this.#lastBetter + 1) % this.rung;
    return this.#lastBetter;
  }

  #stepDown() {
    this.#strikes = this.#earlyDeaths = 0;
    this.#lastBetter = -1;
    this.rung++;
    if (this.rung < this.transports.length) return true;
    this.rung = 0;
    this.rounds++;
    return false;
  }
}

/** One connection as the machine knows it: heartwire/client/connection.py. */
class Connection {
  waiting = new Map(); // what was asked, by the command's id: [method, of what]
  asked = new Map(); // ids of the subscribes that are on the way, by channel
  queue = [];
  isSending = false;
  online_at = null;
  hadHeartbeat = false;
  wait_s = 0;
  hadNews = false;
  hadFullPage = false;
  cut_after_s = 0;

  constructor(generation, transport, rung, now, ping_interval_s) {
    Object.assign(this, { generation, transport, rung, ping_interval_s, polled_at: now });
    this.isPull = transport === "longpoll" || transport === "poll";
    this.isPosting = transport !== "websocket";
  }

  /** A command, whose answer is awaited from now on. A body that is a string is JSON already. */
  command(id, method, body, of = null) {
    this.waiting.set(id, [method, of]);
    if (method === "subscribe") this.asked.set(of, id);
    return `{"id":${id},"${method}":${typeof body === "string" ? body : JSON.stringify(body)}}`;
  }

  takeFrame() {
    return this.isSending ? "" : takeFrame(this.queue);
  }
}

const samePosition = (a, b) => a.epoch === b.epoch && a.offset === b.offset;

/** One followed channel: where it stands, and what of the things that come in is news. heartwire/client/following.py. */
class Following {
  isLive = false;
  isPaused = false;
  isServerSide = false;
  isPositioned = true;
  refusals = 0;

  constructor(channel, since, token = "") {
    Object.assign(this, { channel, since, token });
    this.position = isObject(since) ? since : null;
  }

  get wantsEarliest() {
    return this.position === null && this.since === "earliest";
  }

  /** The server follows it for us. Both ends of the gap, where there is one. */
  subscribed({ epoch, offset, was_recovering, recovered }) {
    this.refusals = 0;
    this.isLive = true;
    this.isPositioned = epoch !== "";
    if (!this.isPositioned) return null;
    const before = this.position;
    const wantedEarliest = this.wantsEarliest;
    if (before !== null && was_recovering && recovered) {
      this.position = { epoch, offset: before.offset }; // the epoch is the same, or was not known
      return null;
    }
    this.position = { epoch, offset };
    return before === null || wantedEarliest || samePosition(before, this.position) ? null : [before, this.position];
  }

  /** Those that were not told yet. It stops before a hole: then the channel is not live, and has to be asked for anew. */
  *news(pubs) {
    for (const pub of pubs) {
      const position = this.position;
      if (position === null || !this.isPositioned || !pub.offset) {
        yield pub; // a channel without a history has no positions
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
    const body = { channel: this.channel };
    if (this.token) body.token = this.token;
    if (this.position !== null || this.wantsEarliest) {
      const { epoch, offset } = this.position ?? { epoch: "", offset: 0 };
      Object.assign(body, { recover: true, epoch, offset, from_oldest: true });
    }
    return body;
  }

  delivered(pub) {
    const epoch = this.position !== null && pub.offset ? this.position.epoch : "";
    const { user, client } = pub.info ?? { user: "", client: "" };
    return ["Delivered", this.channel, epoch, pub.offset, pub.data, pub.tags.get("encoding") ?? "", user, client];
  }
}

/** One publish. `data` is JSON text; `isSent`: the server may have it. */
class Item {
  isInFlight = false;
  isSent = false;

  constructor(key, channel, data, encoding, expires_at) {
    Object.assign(this, { key, channel, data, encoding, expires_at, size: characters(data) });
  }

  body(round) {
    const encoding = this.encoding ? `,"encoding":${JSON.stringify(this.encoding)}` : "";
    const [channel, key] = [this.channel, this.key].map(one => JSON.stringify(one));
    return `{"channel":${channel},"data":${this.data},"idempotency_key":${key},"round":${round}${encoding}}`;
  }
}

/** What was published and is not answered yet, and how its order is kept (go-back-N): heartwire/client/outbox.py. */
class Outbox {
  #items = new Map();
  #inFlight = 0;
  #mustGoBack = false;
  round = 0;
  size_bytes = 0;

  constructor({ max_pending_items, max_pending_bytes, max_in_flight }) {
    Object.assign(this, { max_pending_items, max_pending_bytes, max_in_flight });
  }

  get size() {
    return this.#items.size;
  }

  add(item) {
    if (this.#items.size >= this.max_pending_items || this.size_bytes + item.size > this.max_pending_bytes) return false;
    this.#items.set(item.key, item);
    this.size_bytes += item.size;
    return true;
  }

  remove(key) {
    const item = this.#items.get(key);
    if (item === undefined) return null;
    this.#items.delete(key);
    this.size_bytes -= item.size;
    this.#landed(item);
    return item;
  }

  refuseForNow(key) {
    const item = this.#items.get(key);
    if (item === undefined) return;
    this.#mustGoBack = true;
    this.#landed(item);
  }

  get isRoundOver() {
    return this.#mustGoBack && this.#inFlight === 0;
  }

  nextRound() {
    if (!this.#mustGoBack) return;
    this.#mustGoBack = false;
    this.round++;
  }

  *toSend() {
    if (this.#mustGoBack) return;
    for (const item of [...this.#items.values()]) {
      if (this.#inFlight >= this.max_in_flight) return;
      if (item.isInFlight) continue;
      item.isInFlight = item.isSent = true;
      this.#inFlight++;
      yield item;
    }
  }

  /** The connection is gone: nothing is on the way any more, and a new connection begins with round 0. */
  recall() {
    for (const item of this.#items.values()) item.isInFlight = false;
    this.#inFlight = 0;
    this.#mustGoBack = false;
    this.round = 0;
  }

  nextDeadline() {
    for (const item of this.#items.values()) return item.expires_at;
    return null;
  }

  takeExpired(now) {
    const expired = [];
    for (const item of this.#items.values()) {
      if (item.expires_at > now) break;
      expired.push(item);
    }
    for (const item of expired) this.remove(item.key);
    return expired;
  }

  takeAll() {
    const items = [...this.#items.values()];
    this.#items.clear();
    this.size_bytes = this.#inFlight = 0;
    return items;
  }

  takeLargestInFlight() {
    let largest = null;
    for (const item of this.#items.values()) if (item.isInFlight && item.size > (largest?.size ?? -1)) largest = item;
    return largest && this.remove(largest.key);
  }

  #landed(item) {
    if (!item.isInFlight) return;
    item.isInFlight = false;
    this.#inFlight--;
  }
}

const FULL_PAGE = 300; // publications in one answer of the server's; as many mean that there may be more
const RESEND_S = 0.25;
const RESEND_CAP_S = 5;

/** What is said over whatever connection there is; it outlives connections. heartwire/client/traffic.py. */
class Traffic {
  connection = null;
  isBroken = false;
  isClosed = false;
  followed = new Map();
  #ids = 0;
  #serial = 0;
  #resends = 0;
  #requests = new Map();

  constructor(options, outputs, deadlines, prefix, draw, now) {
    Object.assign(this, { options, outputs, deadlines, prefix, draw, now });
    this.outbox = new Outbox(options);
  }

  nextId() {
    return ++this.#ids;
  }

  // The connection comes and goes.

  online(connection, serverSide) {
    this.connection = connection;
    this.isBroken = false;
    this.placeServerSide(serverSide);
    for (const following of [...this.followed.values()])
      if (following.isServerSide && !serverSide.has(following.channel))
        this.#end(following, LOCAL, "the server does not subscribe us any more");
    if (!connection.isPull) {
      for (const channel of [...connection.asked.keys()])
        if (!this.followed.has(channel)) this.#ask("unsubscribe", { channel }, channel);
      this.resubscribe();
    }
    for (const [id, request] of this.#requests) this.#sendRequest(id, request);
    this.pump();
  }

  placeServerSide(subs) {
    for (const [channel, result] of subs) this.#madeByServer(channel, result);
  }

  lost() {
    this.connection = null;
    this.outbox.recall();
    this.deadlines.delete("resend");
    this.deadlines.delete("resubscribe");
    for (const following of this.followed.values()) following.lost();
    for (const [id, request] of [...this.#requests]) {
      if (request.isSent && request.method === "rpc") this.#fail(id, "the connection was lost", true);
      request.isSent = false;
    }
  }

  close(reason) {
    this.lost();
    for (const item of this.outbox.takeAll()) this.#reject(item, LOCAL, reason);
    for (const id of [...this.#requests.keys()]) this.#fail(id, reason, false);
  }

  /** Send what waits. On a socket all of it; else in a request, one at a time. */
  flush() {
    const connection = this.connection;
    for (let frame; connection !== null && (frame = connection.takeFrame()); ) {
      this.outputs.push(["Send", connection.generation, frame]);
      if (connection.isPosting) {
        connection.isSending = true;
        this.deadlines.set("sending", this.now + this.options.pong_timeout_s);
      }
    }
  }

  #ask(method, body, of = null, id = this.nextId()) {
    this.connection.queue.push(this.connection.command(id, method, body, of));
  }

  // Channels.

  follow(channel, since, token) {
    this.followed.set(channel, new Following(channel, since, token));
    this.resubscribe();
    this.flush();
  }

  unfollow(channel) {
    if (this.followed.delete(channel)) this.#unsubscribe(channel);
  }

  pause(channel) {
    const following = this.followed.get(channel);
    if (following === undefined || following.isPaused) return;
    following.isPaused = true;
    following.lost();
    this.#unsubscribe(channel);
  }

  resume(channel) {
    const following = this.followed.get(channel);
    if (following === undefined || !following.isPaused) return;
    following.isPaused = false;
    this.resubscribe();
    this.flush();
  }

  subscribeCommands(connection, isAnew) {
    if (isAnew) connection.asked = new Map();
    return [...this.followed.values()]
      .filter(following => !following.isPaused && !following.isServerSide)
      .filter(following => isAnew || !(following.isLive || connection.asked.has(following.channel)))
      .map(following => connection.command(this.nextId(), "subscribe", following.subscribeBody(), following.channel));
  }

  /** For `connect`: where the channels stand that the server made us follow. */
  serverSidePositions() {
    const placed = [...this.followed.values()].filter(following => following.isServerSide && following.position);
    return placed.length ? Object.fromEntries(placed.map(following => [following.channel, following.subscribeBody()])) : null;
  }

  resubscribe() {
    this.deadlines.delete("resubscribe");
    const connection = this.connection;
    if (connection === null) return;
    if (connection.isPull) this.deadlines.set("poll", this.now);
    else connection.queue.push(...this.subscribeCommands(connection, false));
  }

  get isSettled() {
    return [...this.followed.values()].every(following => following.isLive || following.isPaused || following.isServerSide);
  }

  #unsubscribe(channel) {
    const connection = this.connection;
    if (connection === null) return;
    connection.asked.delete(channel);
    if (connection.isPull) return;
    this.#ask("unsubscribe", { channel }, channel);
    this.flush();
  }

  #subscribed(connection, id, channel, reply) {
    const following = this.followed.get(channel);
    if (following === undefined || following.isPaused || connection.asked.get(channel) !== id) return;
    connection.asked.delete(channel);
    if (reply.error !== null) this.#refused(following, reply.error);
    else if (reply.subscribe !== null) this.#placed(following, reply.subscribe);
  }

  #placed(following, result) {
    const wasLive = following.isLive;
    const gap = following.subscribed(result);
    if (gap !== null) this.outputs.push(["Gap", following.channel, ...gap.flatMap(({ epoch, offset }) => [epoch, offset])]);
    if (gap !== null || !wasLive) {
      const { epoch, offset } = following.position ?? { epoch: "", offset: 0 };
      this.outputs.push(["Subscribed", following.channel, epoch, offset, result.recovered]);
      this.#hasNews();
    }
    this.#deliver(following, result.publications);
  }

  #refused(following, error) {
    following.lost();
    if (!error.temporary) {
      this.#end(following, error.code, error.message);
      return;
    }
    const { backoff_base_s, backoff_cap_s } = this.options;
    const limit_s = Math.min(backoff_cap_s, backoff_base_s * 2 ** Math.min(following.refusals, 60));
    following.refusals++;
    const when = this.now + Math.max(this.draw() * limit_s, retryAfter(error.message));
    this.deadlines.set("resubscribe", Math.min(when, this.deadlines.get("resubscribe") ?? when));
  }

  #end(following, code, reason) {
    this.followed.delete(following.channel);
    this.outputs.push(["Unsubscribed", following.channel, code, reason]);
    this.#hasNews();
  }

  #deliver(following, pubs) {
    const connection = this.connection;
    for (const pub of following.news(pubs)) {
      this.#hasNews();
      this.outputs.push(following.delivered(pub));
    }
    if (connection === null) return;
    connection.hadFullPage ||= pubs.length >= FULL_PAGE;
    if (following.isLive || connection.isPull) return;
    if (following.isServerSide) {
      this.isBroken = true;
    } else {
      this.#ask("unsubscribe", { channel: following.channel }, following.channel);
      this.resubscribe();
      this.flush();
    }
  }

  #hasNews() {
    if (this.connection !== null) this.connection.hadNews = true;
  }

  #madeByServer(channel, result) {
    let following = this.followed.get(channel);
    if (following === undefined) this.followed.set(channel, (following = new Following(channel, null)));
    following.isServerSide = true;
    this.#placed(following, result);
  }

  // Publishing.

  publish(channel, data, encoding) {
    const { max_message_bytes, max_pending_age_s } = this.options;
    const item = new Item(`${this.prefix}-${++this.#serial}`, channel, data, encoding, this.now + max_pending_age_s);
    if (this.isClosed) {
      this.#reject(item, LOCAL, "the client is closed");
    } else if (item.size > max_message_bytes) {
      const limit = `over the limit of ${max_message_bytes} (max_message_bytes)`;
      this.#reject(item, LIMIT_EXCEEDED, `a message of ${item.size} characters is ${limit}`);
    } else if (!this.outbox.add(item)) {
      this.#reject(item, LIMIT_EXCEEDED, `${this.outbox.size} publishes wait already (max_pending_items, max_pending_bytes)`);
    } else {
      this.#watchOutbox();
      this.pump();
    }
    return item.key;
  }

  pump() {
    if (this.connection === null) return;
    for (const item of this.outbox.toSend()) this.#ask("publish", item.body(this.outbox.round), item.key);
    this.flush();
  }

  resend() {
    this.outbox.nextRound();
    this.pump();
  }

  rejectLargest(reason) {
    const item = this.outbox.takeLargestInFlight();
    if (item !== null) this.#reject(item, LIMIT_EXCEEDED, reason);
  }

  expirePublishes() {
    const limit = `${general(this.options.max_pending_age_s)} s (max_pending_age_s)`;
    for (const item of this.outbox.takeExpired(this.now)) this.#reject(item, LOCAL, `not answered within ${limit}`);
    this.#watchOutbox();
    this.#planRound();
  }

  #published(key, reply) {
    if (reply.error?.temporary) {
      this.outbox.refuseForNow(key);
      this.#planRound(retryAfter(reply.error.message));
      return;
    }
    const item = this.outbox.remove(key);
    this.#planRound();
    this.#watchOutbox();
    if (item === null) return;
    if (reply.error !== null) {
      item.isSent = false;
      this.#reject(item, reply.error.code, reply.error.message);
    } else {
      this.#resends = 0;
      this.outputs.push(["Published", key, reply.publish?.epoch ?? "", reply.publish?.offset ?? 0]);
    }
  }

  #planRound(after_s = 0) {
    if (!this.outbox.isRoundOver || this.deadlines.has("resend")) return;
    const limit_s = Math.min(RESEND_CAP_S, RESEND_S * 2 ** Math.min(this.#resends, 60));
    this.#resends++;
    this.deadlines.set("resend", this.now + Math.max(limit_s * (0.5 + this.draw() / 2), after_s));
  }

  #watchOutbox() {
    const deadline = this.outbox.nextDeadline();
    if (deadline === null) this.deadlines.delete("outbox");
    else this.deadlines.set("outbox", deadline);
  }

  #reject(item, code, message) {
    this.outputs.push(["Rejected", item.key, code, message, item.isSent]);
  }

  // Questions.

  request(method, body) {
    const id = this.nextId();
    if (this.isClosed) {
      this.outputs.push(["Failed", id, LOCAL, "the client is closed", false]);
      return id;
    }
    const request = { method, body, expires_at: this.now + this.options.request_timeout_s, isSent: false };
    this.#requests.set(id, request);
    if (!this.deadlines.has("request")) this.deadlines.set("request", request.expires_at);
    if (this.connection !== null) {
      this.#sendRequest(id, request);
      this.flush();
    }
    return id;
  }

  expireRequests() {
    const limit = `${general(this.options.request_timeout_s)} s (request_timeout_s)`;
    for (const [id, request] of [...this.#requests])
      if (request.expires_at <= this.now) this.#fail(id, `not answered within ${limit}`, request.isSent);
    if (this.#requests.size)
      this.deadlines.set("request", Math.min(...[...this.#requests.values()].map(request => request.expires_at)));
  }

  #sendRequest(id, request) {
    request.isSent = true;
    this.#ask(request.method, request.body, id);
  }

  #answered(id, method, reply) {
    if (!this.#requests.delete(id)) return;
    if (reply.error !== null) this.outputs.push(["Failed", id, reply.error.code, reply.error.message, false]);
    else this.outputs.push(["Answered", id, reply[method]]);
  }

  #fail(id, reason, isUnknown) {
    this.#requests.delete(id);
    this.outputs.push(["Failed", id, LOCAL, reason, isUnknown]);
  }

  // What the server says.

  reply(connection, id, method, of, reply) {
    if (method === "subscribe") this.#subscribed(connection, id, of, reply);
    else if (method === "publish") this.#published(of, reply);
    else if (["rpc", "presence", "presence_stats", "history"].includes(method)) this.#answered(of, method, reply);
  }

  push({ channel, pub, subscribe, message, unsubscribe }) {
    const following = this.followed.get(channel);
    if (pub !== null) {
      if (following?.isLive) this.#deliver(following, [pub]);
    } else if (subscribe !== null) {
      this.#madeByServer(channel, subscribe);
    } else if (message !== null) {
      this.outputs.push(["Message", message.data]);
    } else if (unsubscribe !== null && following !== undefined) {
      const { code, reason } = unsubscribe;
      following.lost();
      if (code < 2500) this.#end(following, code, reason); // for good (Centrifugal protocol, unsubscribe codes)
      else this.#refused(following, { code, message: reason, temporary: true });
    }
  }
}

// -- the machine ----------------------------------------------------------------------------------------------------------

/** heartwire/client/states.py draws it. A pair that is not listed throws. */
const TRANSITIONS = {
  connecting: { established: "online", lost: "waiting", closed: "closed" },
  online: { established: "online", attempt: "online", lost: "waiting", closed: "closed" },
  waiting: { attempt: "connecting", network_down: "offline", closed: "closed" },
  offline: { attempt: "connecting", network_up: "waiting", closed: "closed" },
  closed: { closed: "closed" },
};

const JUMP_S = 3; // a timer this late, or a wall clock this far ahead of the monotonic one, means that we slept
const CUT_AFTER_S = 2; // a long poll that ends without an answer, but not at once, was cut by something in between
const SHORTEST_WAIT_S = 1;
const QUICK_S = 0.5;

/**
 * The client without its sockets: heartwire/client/machine.py. Each input is a method whose first argument is the time; what is
 * to be done is in `outputs`, as [name, ...fields] (heartwire/client/outputs.py), for the shell to take and carry out in order.
 */
class Machine {
  outputs = [];
  state = "waiting";
  current = null;
  attempt = null;
  client_id = "";
  #deadlines = new Map();
  #generation = 0;
  #isAskingToken = false;
  #isNetworkDown = false;
  #options;
  #now;
  #lookedAt;
  #ladder;
  #bucket;
  #backoff;
  #hasTokens;
  #token;
  #data;
  #notBefore;
  #upgrade_s;
  #poll_wait_s;

  constructor(given, { prefix, draw, now, wall, has_tokens = false, token = "", data = null }) {
    const options = { ...DEFAULTS, ...given };
    checkOptions(options);
    this.#options = options;
    this.#now = this.#notBefore = now;
    this.#lookedAt = [now, wall];
    this.#ladder = new Ladder(options.transports, options.first_transport);
    this.#bucket = new Bucket(options.attempt_rate_per_s, options.attempt_burst, now);
    this.#backoff = new Backoff(options.backoff_base_s, options.backoff_cap_s, draw);
    this.#hasTokens = has_tokens;
    this.#token = token;
    this.#data = data;
    this.#upgrade_s = options.upgrade_after_s;
    this.#poll_wait_s = options.poll_wait_s;
    this.traffic = new Traffic(options, this.outputs, this.#deadlines, prefix, draw, now);
  }

  get transport() {
    return this.current?.transport ?? "";
  }

  // What the application does.

  start(now) {
    this.#at(now);
    this.#deadlines.set("tick", now + this.#options.tick_s);
    this.#try();
  }

  close(now) {
    this.#at(now);
    this.#finish(1000, "closed by the application");
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

  pause(now, channel) {
    this.#at(now);
    this.traffic.pause(channel);
  }

  resume(now, channel) {
    this.#at(now);
    this.traffic.resume(channel);
  }

  /** `data` is JSON text. The key by which Published or Rejected will come, perhaps at once. */
  publish(now, channel, data, encoding) {
    this.#at(now);
    return this.traffic.publish(channel, data, encoding);
  }

  /** The id by which Answered or Failed will come. */
  request(now, method, body) {
    this.#at(now);
    return this.traffic.request(method, body);
  }

  token(now, token) {
    this.#at(now);
    this.#isAskingToken = false;
    this.#deadlines.delete("token");
    this.#token = token;
    if (this.current !== null) {
      if (this.current.isPull) return; // each poll shows its own
      this.current.queue.push(this.current.command(this.traffic.nextId(), "refresh", { token }));
      this.traffic.flush();
    } else if (this.attempt === null && this.state === "connecting") {
      this.#open(this.#ladder.rung);
    }
  }

  noToken(now, reason) {
    this.#at(now);
    this.#isAskingToken = false;
    this.#deadlines.delete("token");
    if (this.current !== null) this.#deadlines.set("refresh", now + this.#options.later_s);
    else if (this.attempt === null && this.state === "connecting")
      this.#wait(LOCAL, `no token: ${reason}`, false, this.#backoff.next_s());
  }

  /** "network_down", "network_up" or "wake". */
  hint(now, kind) {
    this.#at(now);
    if (kind === "network_down") {
      this.#isNetworkDown = true;
      if (this.current !== null) this.#probe();
      else if (this.state === "waiting") this.#on("network_down", "the system says that there is no network");
      return;
    }
    if (kind === "network_up") {
      this.#isNetworkDown = false;
      if (this.state === "offline") this.#on("network_up", "the system says that there is a network");
    }
    this.#woke();
  }

  // What the transports say.

  received(now, generation, data) {
    this.#at(now);
    const connection = this.#known(generation);
    if (connection === null) return;
    this.#heard(connection);
    for (const line of data.split("\n")) {
      if (!line) continue;
      let reply;
      try {
        reply = parseReply(line);
      } catch (error) {
        this.#lost(connection, ABNORMAL, `not of the protocol: ${error.message}`);
        return;
      }
      this.#reply(connection, reply);
      if (this.#known(generation) === null) return;
    }
    if (connection !== this.current) return;
    this.traffic.pump();
    if (this.traffic.isBroken) this.#lost(connection, INSUFFICIENT_STATE, "something was left out");
  }

  sent(now, generation) {
    this.#at(now);
    const connection = this.#known(generation);
    if (connection === null) return;
    connection.isSending = false;
    this.#deadlines.delete("sending");
    this.traffic.flush();
  }

  polled(now, generation) {
    this.#at(now);
    const connection = this.#known(generation);
    if (connection === null) return;
    if (connection === this.attempt) {
      this.#lost(connection, ABNORMAL, "an answer without a word of `connect`");
      return;
    }
    if (connection.cut_after_s) {
      this.#poll_wait_s = Math.max(SHORTEST_WAIT_S, connection.cut_after_s * 0.6);
      connection.cut_after_s = 0;
      this.#note(`long polls are cut in between: asking for ${oneDecimal(this.#poll_wait_s)} s from now on`);
    }
    this.#deadlines.delete("silence");
    connection.hadHeartbeat ||= connection.wait_s > 0 || connection.transport === "poll";
    if (!this.#isIdle(connection)) {
      if (!this.#deadlines.has("poll")) this.#poll(connection);
    } else if (!this.#deadlines.has("poll")) {
      this.#deadlines.set("poll", now + this.#options.poll_interval_s);
    }
  }

  #isIdle(connection) {
    if (connection.transport === "poll") return !connection.hadFullPage;
    const took_s = this.#now - connection.polled_at;
    return !connection.hadNews && took_s < QUICK_S && (connection.wait_s > 0 || !this.traffic.isSettled);
  }

  lost(now, generation, code, reason, { is_reachable = true, was_poll = false, after_s = 0 } = {}) {
    this.#at(now);
    const connection = this.#known(generation);
    if (connection === null) return;
    const took_s = now - connection.polled_at;
    const wasHeld = connection === this.current && connection.wait_s > SHORTEST_WAIT_S && took_s >= CUT_AFTER_S;
    if (was_poll && code === ABNORMAL && wasHeld) {
      connection.cut_after_s = took_s;
      this.#poll(connection, 0);
    } else {
      this.#lost(connection, code, reason, { isReachable: is_reachable, after_s });
    }
  }

  // Time.

  nextDeadline() {
    return this.#deadlines.size ? Math.min(...this.#deadlines.values()) : null;
  }

  handleDeadline(now, wall) {
    this.#at(now);
    const due = this.nextDeadline();
    const [before, wallBefore] = this.#lookedAt;
    this.#lookedAt = [now, wall];
    if (due !== null && Math.max(now - due, wall - wallBefore - (now - before)) > JUMP_S) this.#woke();
    for (const [name, handle] of Machine.#DEADLINES) {
      if ((this.#deadlines.get(name) ?? now + 1) <= now) {
        this.#deadlines.delete(name);
        handle(this);
      }
    }
  }

  /** In the order in which those that have come are dealt with. */
  static #DEADLINES = Object.entries({
    token: machine => machine.noToken(machine.#now, "the application gave none in time"),
    open: machine => machine.attempt && machine.#lost(machine.attempt, ABNORMAL, "no answer in time", { isTimeout: true }),
    probe: machine => machine.#dead(`no answer to a probe within ${general(machine.#options.probe_timeout_s)} s`),
    silence: machine => machine.#dead("nothing was heard in time"),
    sending: machine => machine.#dead("a request was not answered in time"),
    attempt: machine => machine.#try(),
    refresh: machine => machine.#askToken(),
    poll: machine => machine.current?.isPull && machine.#poll(machine.current),
    resend: machine => machine.traffic.resend(),
    resubscribe: machine => {
      machine.traffic.resubscribe();
      machine.traffic.flush();
    },
    outbox: machine => machine.traffic.expirePublishes(),
    request: machine => machine.traffic.expireRequests(),
    upgrade: machine => machine.#upgrade(),
    tick: machine => machine.#deadlines.set("tick", machine.#now + machine.#options.tick_s),
  });

  #dead(reason) {
    if (this.current !== null) this.#lost(this.current, ABNORMAL, reason);
  }

  #upgrade() {
    if (this.current === null || this.attempt !== null || this.#ladder.rung === 0) return;
    if (this.#hasTokens && !this.#token) {
      this.#askToken();
      this.#planUpgrade();
      return;
    }
    const wait_s = this.#bucket.take(this.#now);
    if (wait_s) this.#deadlines.set("upgrade", this.#now + wait_s);
    else this.#open(this.#ladder.better());
  }

  // Attempts.

  #try() {
    if (this.attempt !== null || this.current !== null || this.state === "connecting" || this.state === "closed") return;
    const wait_s = this.#bucket.take(this.#now);
    if (wait_s) {
      this.#deadlines.set("attempt", this.#now + wait_s);
      return;
    }
    this.#deadlines.delete("attempt");
    this.#on("attempt", `trying ${this.#ladder.transport}`);
    if (this.#hasTokens && !this.#token) this.#askToken();
    else this.#open(this.#ladder.rung);
  }

  #askToken() {
    if (this.#isAskingToken) return;
    this.#isAskingToken = true;
    this.#deadlines.set("token", this.#now + this.#options.open_timeout_cap_s);
    this.outputs.push(["AskToken"]);
  }

  #open(rung) {
    const { open_timeout_s, open_timeout_cap_s, ping_interval_s } = this.#options;
    const transport = this.#ladder.transports[rung];
    const connection = new Connection(++this.#generation, transport, rung, this.#now, ping_interval_s);
    this.attempt = connection;
    const timeout_s = Math.min(open_timeout_cap_s, open_timeout_s * 2 ** Math.min(this.#ladder.rounds, 60));
    this.#deadlines.set("open", this.#now + timeout_s);
    if (connection.isPull) {
      this.outputs.push(["Open", connection.generation, transport, ""]);
      this.#poll(connection, 0);
    } else {
      const commands = [this.#connect(connection), ...this.traffic.subscribeCommands(connection, true)];
      this.outputs.push(["Open", connection.generation, transport, commands.join("\n")]);
    }
  }

  #connect(connection) {
    const body = { name: "heartwire" };
    if (this.#token) body.token = this.#token;
    if (this.#data !== null) body.data = this.#data;
    const subs = this.traffic.serverSidePositions();
    if (subs !== null) body.subs = subs;
    return connection.command(this.traffic.nextId(), "connect", body);
  }

  #connected(connection, reply) {
    if (reply.error !== null) this.#refused(connection, reply.error);
    else if (reply.connect !== null && connection === this.attempt) this.#established(connection, reply.connect);
    else if (reply.connect !== null) this.traffic.placeServerSide(reply.connect.subs);
  }

  #refused(connection, { code, message, temporary }) {
    const asks = code === 101 || code === 109 ? "token" : temporary ? "later" : "never";
    this.#lost(connection, code, message, { asks });
  }

  #established(connection, result) {
    this.attempt = null;
    this.#forget("open", "attempt", "probe", "silence", "sending", "poll", "upgrade", "refresh");
    if (this.current !== null) {
      this.outputs.push(["Close", this.current.generation]);
      this.traffic.lost();
      this.#note(`moved up from ${this.current.transport} to ${connection.transport}`);
    } else {
      this.#upgrade_s = this.#options.upgrade_after_s;
    }
    this.current = connection;
    connection.online_at = this.#now;
    connection.ping_interval_s = result.ping || connection.ping_interval_s;
    this.client_id = result.client;
    this.#ladder.opened(connection.rung);
    if (connection.rung) this.#planUpgrade();
    if (result.expires && this.#hasTokens) this.#deadlines.set("refresh", this.#now + result.ttl * 0.8);
    if (connection.transport === "sse") this.outputs.push(["Session", connection.generation, result.session, result.node]);
    this.#on("established", connection.transport);
    this.traffic.online(connection, result.subs);
    this.#heard(connection);
  }

  #planUpgrade() {
    this.#deadlines.set("upgrade", this.#now + this.#upgrade_s);
    this.#upgrade_s = Math.min(this.#options.upgrade_cap_s, this.#upgrade_s * 2);
  }

  // The life of a connection.

  #reply(connection, reply) {
    if (reply.push !== null) {
      if (reply.push.disconnect !== null) this.#lost(connection, reply.push.disconnect.code, reply.push.disconnect.reason);
      else if (connection === this.current) this.traffic.push(reply.push);
    } else if (!reply.id) {
      connection.hadHeartbeat = true;
      connection.queue.push(PONG);
      if (connection === this.current) this.traffic.flush();
    } else if (connection.waiting.has(reply.id)) {
      const [method, of] = connection.waiting.get(reply.id);
      connection.waiting.delete(reply.id);
      if (method === "connect") this.#connected(connection, reply);
      else if (method === "refresh") this.#refreshed(connection, reply);
      else if (connection === this.current) this.traffic.reply(connection, reply.id, method, of, reply);
    }
  }

  #refreshed(connection, reply) {
    if (reply.error !== null) this.#refused(connection, reply.error);
    else if (reply.refresh?.expires) this.#deadlines.set("refresh", this.#now + reply.refresh.ttl * 0.8);
  }

  #heard(connection) {
    if (connection !== this.current) return;
    this.#deadlines.delete("probe");
    if (!connection.isPull)
      this.#deadlines.set("silence", this.#now + connection.ping_interval_s + this.#options.pong_timeout_s);
  }

  #woke() {
    if (this.current !== null) {
      this.#probe();
    } else if (this.#now >= this.#notBefore) {
      this.#deadlines.delete("attempt");
      this.#try();
    } else if (this.attempt === null && this.#deadlines.has("attempt")) {
      this.#deadlines.set("attempt", this.#notBefore);
    }
  }

  #probe() {
    const connection = this.current;
    if (connection === null || this.#deadlines.has("probe")) return;
    const deadline = this.#now + this.#options.probe_timeout_s;
    this.#deadlines.set("probe", deadline);
    if (connection.isPull) {
      this.#poll(connection, 0);
    } else {
      connection.queue.push(connection.command(this.traffic.nextId(), "ping", {}));
      this.traffic.flush();
    }
    // What came in while we slept may wait to be read: the answer to the probe decides, not the silence before it.
    this.#deadlines.set("silence", Math.max(deadline, this.#deadlines.get("silence") ?? deadline));
  }

  /** Ask for news of all channels. The answer is only held where each of them has been placed already. */
  #poll(connection, asked_wait_s = null) {
    this.#deadlines.delete("poll");
    const mayWait = connection.transport === "longpoll" && this.traffic.isSettled;
    const wait_s = asked_wait_s ?? (mayWait ? this.#poll_wait_s : 0);
    Object.assign(connection, { polled_at: this.#now, wait_s, hadNews: false, hadFullPage: false });
    let commands = this.traffic.subscribeCommands(connection, true);
    if (connection === this.attempt || this.traffic.serverSidePositions() !== null) commands.unshift(this.#connect(connection));
    if (!commands.length) commands = [connection.command(this.traffic.nextId(), "ping", {})];
    if (connection === this.current) this.#deadlines.set("silence", this.#now + wait_s + this.#options.pong_timeout_s);
    this.outputs.push(["Poll", connection.generation, commands.join("\n"), wait_s]);
  }

  /** A connection is over; decide what is next. */
  #lost(connection, code, reason, { asks = verdict(code), isReachable = true, isTimeout = false, after_s = 0 } = {}) {
    this.outputs.push(["Close", connection.generation]);
    if (asks === "token") {
      asks = this.#hasTokens ? "now" : "never";
      this.#token = "";
    }
    const wasOpen = connection === this.current;
    if (wasOpen) {
      this.#forgetCurrent(code, reason);
    } else {
      this.attempt = null;
      this.#deadlines.delete("open");
      if (this.current !== null) {
        this.#note(`${connection.transport} does not work yet: ${reason}`);
        this.#planUpgrade();
        return;
      }
    }
    if (asks === "never") {
      this.#finish(code, reason);
      return;
    }
    let delay_s = Math.max(after_s, retryAfter(reason), asks === "later" ? this.#options.later_s : 0);
    this.#notBefore = this.#now + delay_s;
    const stepsDown = this.#blame(connection, code, reason, { wasOpen, isReachable, isTimeout });
    if (!stepsDown) delay_s = Math.max(delay_s, this.#backoff.next_s());
    this.#wait(code, reason, wasOpen, delay_s);
  }

  /** What the loss says about the rung of the ladder. True: another is to be tried at once. */
  #blame(connection, code, reason, { wasOpen, isReachable, isTimeout }) {
    const isAbnormal = code === ABNORMAL;
    const before = this.#ladder.transport;
    let stepsDown = false;
    if (wasOpen) {
      this.#ladder.died(connection.hadHeartbeat, isAbnormal);
      if (this.#now - (connection.online_at || this.#now) >= this.#options.stable_after_s) this.#backoff.reset();
    } else {
      stepsDown = isAbnormal && this.#ladder.failed(isReachable, isTimeout);
    }
    if (this.#ladder.transport !== before) this.#note(`${before}: ${reason}; trying ${this.#ladder.transport}`);
    return stepsDown;
  }

  #forgetCurrent(code, reason) {
    this.current = null;
    this.#forget("probe", "silence", "sending", "poll", "upgrade", "refresh");
    if (code === TOO_LARGE) this.traffic.rejectLargest(reason);
    this.traffic.lost();
  }

  /** Nothing is in use; the next attempt is then. */
  #wait(code, reason, wasOpen, delay_s) {
    this.#on("lost", reason);
    this.outputs.push(["Closed", code, reason, wasOpen, delay_s]);
    if (this.attempt !== null) {
      this.#on("attempt", `trying ${this.attempt.transport}`); // a better transport is on its way already
      return;
    }
    if (this.#isNetworkDown) this.#on("network_down", "the system says that there is no network");
    this.#deadlines.set("attempt", this.#now + delay_s);
    if (!delay_s) this.#try();
  }

  #finish(code, reason) {
    if (this.state === "closed") return;
    this.traffic.isClosed = true;
    for (const connection of [this.current, this.attempt])
      if (connection !== null) this.outputs.push(["Close", connection.generation]);
    const wasOpen = this.current !== null;
    this.current = this.attempt = null;
    this.traffic.close(reason);
    this.#on("closed", reason);
    this.outputs.push(["Closed", code, reason, wasOpen, -1]);
    this.#deadlines.clear();
  }

  // Small things.

  #at(now) {
    this.#now = this.traffic.now = now;
  }

  #known(generation) {
    return [this.current, this.attempt].find(connection => connection?.generation === generation) ?? null;
  }

  #on(event, reason) {
    const state = TRANSITIONS[this.state][event];
    if (state === undefined) throw new Error(`${event} in ${this.state}`);
    if (state === this.state && event !== "established") return;
    this.state = state;
    this.outputs.push(["StateChanged", state, reason]);
  }

  #note(words) {
    this.outputs.push(["Note", words]);
  }

  #forget(...names) {
    for (const name of names) this.#deadlines.delete(name);
  }
}

/** For tests. */
export const internals = Object.freeze({ Machine, closedByHttp, retryAfter, verdict });
