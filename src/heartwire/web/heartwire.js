/*
 * Heartwire for browsers, Web Workers and Node: channels over the best transport that the network lets through, resumed without
 * loss wherever it breaks. One file, no dependencies; docs/javascript.md says how it is used.
 *
 *   options and words of the protocol    what can be set, what goes over the wire
 *   Machine                              what is decided. Pure: time, chance and what came in are arguments, what is to be done
 *                                        comes out as `outputs`. It is the twin of heartwire/client in Python, method by method;
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
  if (!/[\ud800-\udbff]/.test(string)) return string.length;
  return string.length - (string.match(/[\ud800-\udbff][\udc00-\udfff]/g)?.length ?? 0);
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

const HTTP_CODES = { 401: 3500, 403: 3507, 413: TOO_LARGE, 429: 1013, 503: 1013 };

/**
 * The close code and the reason that an HTTP answer stands for. What is not our server's own says nothing: 1006. But 413 says the
 * same whoever says it; a message that is too large for a proxy must not be sent again and again.
 */
function closedByHttp(status, body) {
  try {
    const { error } = struct({ error: [struct({ code: [text], message: [text] })] })(JSON.parse(body));
    if (error?.code !== undefined && error.message !== undefined)
      return [HTTP_CODES[status] ?? ABNORMAL, `${error.code}: ${error.message}`];
  } catch {
    // a proxy's page, or nothing
  }
  return [status === 413 ? TOO_LARGE : ABNORMAL, `HTTP ${status}`];
}

const LATER = new Set([1013, 3013]);
const NEW_TOKEN = new Set([3005, 3500]);
const NEVER = new Set([1002, 1003, 1007, 1008, 1010]);
const STALE = 3502; // no `connect` came in time; ours is sent at once, so that the network has swallowed it

/** What a close code asks for: "now" (after the usual wait), "later", a new "token" first, or "never". */
function verdict(code) {
  if (NEW_TOKEN.has(code)) return "token";
  if (LATER.has(code)) return "later";
  if (code === STALE) return "now";
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

const POLLED = ["connect", "subscribe", "ping"];

/** One connection as the machine knows it: heartwire/client/connection.py. */
class Connection {
  waiting = new Map(); // what was asked, by the command's id: [method, of what]
  asked = new Map(); // the subscribes that are on the way, by channel: { id, following, position }
  queue = [];
  isExcused = false; // a time limit was over while we slept, and it was given another since it was heard last
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
    return `{"id":${id},"${method}":${typeof body === "string" ? body : JSON.stringify(body)}}`;
  }

  /** Another poll takes the place of the last: what that asked and is not answered will not be. */
  forgetPoll() {
    for (const [id, [method]] of this.waiting) if (POLLED.includes(method)) this.waiting.delete(id);
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
  isWanted = true;
  refusals = 0;
  not_before = 0;

  constructor(channel, since, token = "") {
    Object.assign(this, { channel, since, token });
    this.position = isObject(since) ? since : null;
  }

  get wantsEarliest() {
    return this.position === null && this.since === "earliest";
  }

  /**
   * The server follows it for us. Both ends of the gap, where there is one. `asked` is the position when it was asked: another
   * connection may have gone on from there meanwhile.
   */
  subscribed({ epoch, offset, was_recovering, recovered, publications }, asked) {
    this.isLive = true;
    this.isPositioned = epoch !== "";
    if (!this.isPositioned) return null;
    const before = this.position;
    const wantedEarliest = this.wantsEarliest;
    if (before !== null && was_recovering && recovered) {
      // A channel in cache mode begins with its newest, and calls that recovered. The epoch is the same, or was not known.
      this.position = { epoch, offset: Math.max(before.offset, (publications[0]?.offset ?? 0) - 1) };
      return this.position.offset === before.offset ? null : [before, this.position];
    }
    const isOther = before !== null && (asked === null || !samePosition(before, asked));
    if (isOther && epoch === before.epoch && offset <= before.offset) return null;
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

  constructor(key, idempotency_key, channel, data, encoding, expires_at) {
    Object.assign(this, { key, idempotency_key, channel, data, encoding, expires_at, size: characters(data) });
  }

  body(round) {
    const encoding = this.encoding ? `,"encoding":${JSON.stringify(this.encoding)}` : "";
    const [channel, key] = [this.channel, this.idempotency_key].map(one => JSON.stringify(one));
    return `{"channel":${channel},"data":${this.data},"idempotency_key":${key},"round":${round}${encoding}}`;
  }
}

/** Whether a channel was begun anew, paused or placed, by another connection, since it was asked for. */
const isOutdated = (asked, now) =>
  now !== asked.following || now.isPaused || (asked.position === null && now.position !== null);

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

  /** As commands they are together at most so large; the first may be larger. */
  *toSend(maxBytes) {
    if (this.#mustGoBack) return;
    let size = 0;
    for (const item of [...this.#items.values()]) {
      if (this.#inFlight >= this.max_in_flight) return;
      if (item.isInFlight) continue;
      const own = item.size + COMMAND;
      size += own;
      if (size > maxBytes && size > own) return;
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

const COMMAND = 1024; // characters of a publish beside its data, at most: a channel's name has 255, and each may be escaped
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
  #publish_at;
  #requests = new Map();
  #requestSize = 0;

  constructor(options, outputs, deadlines, prefix, draw, now) {
    Object.assign(this, { options, outputs, deadlines, prefix, draw, now });
    this.#publish_at = now;
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
      if (following.isServerSide && !serverSide.has(following.channel)) {
        following.isServerSide = false;
        if (!following.isWanted) this.#end(following, LOCAL, "the server does not subscribe us any more");
      }
    for (const [channel, asked] of [...connection.asked]) {
      const now = this.followed.get(channel);
      if (now === undefined || (!now.isServerSide && isOutdated(asked, now))) this.#unsubscribe(channel);
    }
    this.resubscribe();
    for (const [id, request] of this.#requests) this.#sendRequest(id, request);
    if (this.#publish_at > this.now) this.deadlines.set("resend", this.#publish_at);
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

  /** Where the server has made us follow it already, it goes on as it is. */
  follow(channel, since, token) {
    const known = this.followed.get(channel);
    if (known?.isServerSide) {
      known.isWanted = true;
      if (known.isLive) this.#tellSubscribed(known, false);
      this.resume(channel);
      return;
    }
    this.unfollow(channel);
    this.followed.set(channel, new Following(channel, since, token));
    this.resubscribe();
    this.flush();
  }

  unfollow(channel) {
    if (!this.followed.delete(channel)) return;
    this.#unsubscribe(channel);
    this.flush();
  }

  pause(channel) {
    const following = this.followed.get(channel);
    if (following === undefined || following.isPaused) return;
    following.isPaused = true;
    following.lost();
    this.#unsubscribe(channel);
    this.flush();
  }

  resume(channel) {
    const following = this.followed.get(channel);
    if (following === undefined || !following.isPaused) return;
    following.isPaused = false;
    if (this.connection?.isPull) this.deadlines.set("poll", this.now);
    else if (this.connection !== null) following.isServerSide = false; // that was ended when it was paused: it is ours now
    this.resubscribe();
    this.flush();
  }

  subscribeCommands(connection, isAnew) {
    if (isAnew) connection.asked = new Map();
    return this.#unasked(connection, isAnew).map(following => {
      const { channel, position } = following;
      const id = this.nextId();
      connection.asked.set(channel, { id, following, position });
      return connection.command(id, "subscribe", following.subscribeBody(), channel);
    });
  }

  #unasked(connection, isAnew) {
    return [...this.followed.values()]
      .filter(({ isPaused, isServerSide, not_before }) => !(isPaused || isServerSide || not_before > this.now))
      .filter(({ isLive, channel }) => isAnew || !(isLive || connection.asked.has(channel)));
  }

  /** For `connect`: where the channels stand that the server made us follow. */
  serverSidePositions() {
    const placed = [...this.followed.values()].filter(following => following.isServerSide && following.position);
    return placed.length ? Object.fromEntries(placed.map(following => [following.channel, following.subscribeBody()])) : null;
  }

  get hasServerSide() {
    return [...this.followed.values()].some(following => following.isServerSide);
  }

  /** Ask for what is wanted and not followed yet; for what was refused for now, not before its time. */
  resubscribe() {
    this.deadlines.delete("resubscribe");
    const connection = this.connection;
    if (connection === null) return;
    for (const { not_before } of this.followed.values()) if (not_before > this.now) this.#resubscribeAt(not_before);
    if (!connection.isPull) connection.queue.push(...this.subscribeCommands(connection, false));
    else if (this.#unasked(connection, false).length) this.deadlines.set("poll", this.now);
  }

  /** Whether the server has said of every channel where it stands, or that it will not for now. */
  get isSettled() {
    return [...this.followed.values()].every(
      ({ isLive, isPaused, isServerSide, not_before }) => isLive || isPaused || isServerSide || not_before > this.now,
    );
  }

  #unsubscribe(channel) {
    const connection = this.connection;
    if (connection === null) return;
    connection.asked.delete(channel);
    if (!connection.isPull) this.#ask("unsubscribe", { channel }, channel);
  }

  #subscribed(connection, id, channel, reply) {
    const asked = connection.asked.get(channel);
    if (asked?.id !== id) return;
    connection.asked.delete(channel);
    const following = this.followed.get(channel);
    if (following !== asked.following || following.isPaused || following.isServerSide) return;
    if (reply.error !== null) this.#refused(following, reply.error);
    else if (reply.subscribe !== null) this.#placed(following, reply.subscribe, asked.position);
  }

  #placed(following, result, asked) {
    const wasLive = following.isLive;
    const gap = following.subscribed(result, asked);
    if (gap !== null) this.outputs.push(["Gap", following.channel, ...gap.flatMap(({ epoch, offset }) => [epoch, offset])]);
    if (gap !== null || !wasLive) this.#tellSubscribed(following, result.recovered);
    this.#deliver(following, result.publications);
    if (following.isLive) following.refusals = 0;
  }

  #tellSubscribed(following, wasRecovered) {
    const { epoch, offset } = following.position ?? { epoch: "", offset: 0 };
    this.outputs.push(["Subscribed", following.channel, epoch, offset, wasRecovered]);
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
    following.not_before = this.now + Math.max(this.draw() * limit_s, retryAfter(error.message));
    this.#resubscribeAt(following.not_before);
  }

  #resubscribeAt(when) {
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
      // Should the server have nothing better to say, this must not go round and round.
      this.#unsubscribe(following.channel);
      this.#refused(following, { code: 0, message: "", temporary: true });
      this.flush();
    }
  }

  #hasNews() {
    if (this.connection !== null) this.connection.hadNews = true;
  }

  #madeByServer(channel, result) {
    let following = this.followed.get(channel);
    if (following === undefined) {
      following = new Following(channel, null);
      following.isWanted = false;
      this.followed.set(channel, following);
    }
    following.isServerSide = true;
    if (following.isPaused) this.#unsubscribe(channel);
    else this.#placed(following, result, following.position);
  }

  // Publishing.

  publish(channel, data, encoding, idempotency_key) {
    const { max_message_bytes, max_pending_age_s } = this.options;
    const key = `${this.prefix}-${++this.#serial}`;
    const item = new Item(key, idempotency_key || key, channel, data, encoding, this.now + max_pending_age_s);
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

  /** Requests of a client that polls know nothing of one another: its publishes go out in one at a time. */
  pump() {
    const connection = this.connection;
    if (connection === null) return;
    if (connection.isPull) this.flush();
    if (!this.deadlines.has("resend") && !(connection.isPull && connection.isSending)) {
      const items = this.outbox.toSend(connection.isPull ? MAX_FRAME : Infinity);
      for (const item of items) this.#ask("publish", item.body(this.outbox.round), item.key);
    }
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
      // The first of a round says when; the last, at which the next is planned, only that it came after the first.
      this.#publish_at = Math.max(this.#publish_at, this.now + retryAfter(reply.error.message));
      this.#planRound();
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

  #planRound() {
    if (!this.outbox.isRoundOver || this.deadlines.has("resend")) return;
    const limit_s = Math.min(RESEND_CAP_S, RESEND_S * 2 ** Math.min(this.#resends, 60));
    this.#resends++;
    this.deadlines.set("resend", Math.max(this.now + limit_s * (0.5 + this.draw() / 2), this.#publish_at));
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
    const json = JSON.stringify(body);
    const size = characters(json);
    const { max_message_bytes: limit, max_pending_items, max_pending_bytes, request_timeout_s } = this.options;
    let message = "";
    if (size > limit) message = `a request of ${size} characters is over the limit of ${limit} (max_message_bytes)`;
    else if (this.#requests.size >= max_pending_items || this.#requestSize + size > max_pending_bytes)
      message = `${this.#requests.size} requests wait already (max_pending_items, max_pending_bytes)`;
    if (message) {
      this.outputs.push(["Failed", id, LIMIT_EXCEEDED, message, false]);
      return id;
    }
    const request = { method, json, size, expires_at: this.now + request_timeout_s, isSent: false };
    this.#requests.set(id, request);
    this.#requestSize += size;
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
    this.#ask(request.method, request.json, id);
  }

  #answered(id, method, reply) {
    if (!this.#forget(id)) return;
    if (reply.error !== null) this.outputs.push(["Failed", id, reply.error.code, reply.error.message, false]);
    else this.outputs.push(["Answered", id, reply[method]]);
  }

  #forget(id) {
    this.#requestSize -= this.#requests.get(id)?.size ?? 0;
    return this.#requests.delete(id);
  }

  #fail(id, reason, isUnknown) {
    this.#forget(id);
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
      const isForGood = code < 2500 || following.isServerSide; // Centrifugal protocol, unsubscribe codes
      if (isForGood) this.#end(following, code, reason);
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
const SHORTEST_TTL_S = 1; // however short the life of a token, the application is not asked for a new one more often
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
  #isHinted = false; // while an attempt is under way; what that began on may be gone
  #options;
  #now;
  #lookedAt;
  #ladder;
  #bucket;
  #backoff;
  #draw;
  #hasTokens;
  #token;
  #token_ttl_s = null;
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
    this.#draw = draw;
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
    if (this.state === "closed") return;
    this.#deadlines.set("tick", now + this.#options.tick_s);
    this.#try();
  }

  close(now) {
    this.#at(now);
    this.#finish(1000, "closed by the application", this.current !== null);
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

  /**
   * `data` is JSON text. The key by which Published or Rejected will come, perhaps at once. The same key is the one for idempotency,
   * unless there is another.
   */
  publish(now, channel, data, encoding, idempotency_key = "") {
    this.#at(now);
    return this.traffic.publish(channel, data, encoding, idempotency_key);
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
      if (this.current.isPull) {
        this.#planRefresh(); // each poll shows its own
        return;
      }
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
      this.#wait(LOCAL, `no token: ${reason}`, false, Math.max(this.#notBefore - now, this.#backoff.next_s()));
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
    if (connection === this.current) this.traffic.pump();
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
    if (connection.transport === "poll") return !(connection.hadFullPage && connection.hadNews);
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
    this.#isHinted = false;
    this.#forget("open", "attempt", "probe", "silence", "sending", "poll", "upgrade", "refresh");
    if (this.current !== null) {
      this.outputs.push(["Close", this.current.generation]);
      this.traffic.lost();
      this.#note(`moved up from ${this.current.transport} to ${connection.transport}`);
    } else {
      this.#upgrade_s = this.#options.upgrade_after_s;
      this.#poll_wait_s = this.#options.poll_wait_s; // what cut them may be on another network
    }
    this.current = connection;
    connection.online_at = this.#now;
    connection.ping_interval_s = result.ping || connection.ping_interval_s;
    this.client_id = result.client;
    this.#ladder.opened(connection.rung);
    if (connection.rung) this.#planUpgrade();
    this.#mayStay(result);
    if (connection.transport === "sse") this.outputs.push(["Session", connection.generation, result.session, result.node]);
    this.#on("established", connection.transport);
    this.traffic.online(connection, result.subs);
    this.#heard(connection);
  }

  #planUpgrade() {
    this.#deadlines.set("upgrade", Math.max(this.#now + this.#upgrade_s, this.#notBefore));
    this.#upgrade_s = Math.min(this.#options.upgrade_cap_s, this.#upgrade_s * 2);
  }

  // The life of a connection.

  #reply(connection, reply) {
    if (reply.push !== null) {
      if (reply.push.disconnect !== null) this.#lost(connection, reply.push.disconnect.code, reply.push.disconnect.reason);
      else if (connection === this.current && reply.push.refresh !== null) this.#mayStay(reply.push.refresh);
      else if (connection === this.current) this.traffic.push(reply.push);
    } else if (!reply.id && !connection.isPull) {
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
    if (reply.error?.temporary)
      this.#deadlines.set("refresh", this.#now + Math.max(this.#options.later_s, retryAfter(reply.error.message)));
    else if (reply.error !== null) this.#refused(connection, reply.error);
    else if (reply.refresh !== null) this.#mayStay(reply.refresh);
  }

  /** The server has said for how long. */
  #mayStay({ expires, ttl }) {
    this.#token_ttl_s = expires ? ttl : null;
    this.#planRefresh();
  }

  /** Ask for a new token before this one is too old; those of a crowd that came together at different times. */
  #planRefresh() {
    const ttl_s = this.#token_ttl_s;
    this.#deadlines.delete("refresh");
    if (this.#hasTokens && ttl_s !== null)
      this.#deadlines.set("refresh", this.#now + Math.max(SHORTEST_TTL_S, (ttl_s * (7 + 2 * this.#draw())) / 10));
  }

  #heard(connection) {
    connection.isExcused = false;
    if (connection !== this.current) return;
    this.#deadlines.delete("probe");
    if (!connection.isPull)
      this.#deadlines.set("silence", this.#now + connection.ping_interval_s + this.#options.pong_timeout_s);
  }

  #woke() {
    if (this.attempt !== null) {
      this.#isHinted = this.current === null;
      const due = this.#deadlines.get("open");
      // On a network that is gone it is not worth more time than a new attempt.
      if (due <= this.#now) this.#excuse(this.attempt, "open");
      else this.#deadlines.set("open", Math.min(due, this.#now + this.#options.open_timeout_s));
    }
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
    if (connection === null) return;
    const due = this.#deadlines.get("probe");
    if (due !== undefined && (due > this.#now || !this.#excuse(connection, "probe"))) return;
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
    const sending = this.#deadlines.get("sending");
    if (sending !== undefined) this.#deadlines.set("sending", Math.max(deadline, sending));
  }

  /** Its time was over while we slept, and the answer may wait to be read. That counts once: timers may always be late. */
  #excuse(connection, name) {
    if (connection.isExcused) return false;
    connection.isExcused = true;
    this.#deadlines.set(name, this.#now + this.#options.probe_timeout_s);
    return true;
  }

  /** Ask for news of all channels. The answer is only held where each of them has been placed already. */
  #poll(connection, asked_wait_s = null) {
    if (connection === this.current) this.#deadlines.delete("poll");
    const mayWait = connection.transport === "longpoll" && this.traffic.isSettled;
    const wait_s = asked_wait_s ?? (mayWait ? this.#poll_wait_s : 0);
    Object.assign(connection, { polled_at: this.#now, wait_s, hadNews: false, hadFullPage: false });
    connection.forgetPoll();
    let commands = this.traffic.subscribeCommands(connection, true);
    if (connection === this.attempt || this.traffic.hasServerSide) commands.unshift(this.#connect(connection));
    if (!commands.length) commands = [connection.command(this.traffic.nextId(), "ping", {})];
    if (connection === this.current) this.#deadlines.set("silence", this.#now + wait_s + this.#options.pong_timeout_s);
    this.outputs.push(["Poll", connection.generation, commands.join("\n"), wait_s]);
  }

  /** A connection is over; decide what is next. */
  #lost(connection, code, reason, { asks = verdict(code), isReachable = true, isTimeout = false, after_s = 0 } = {}) {
    this.outputs.push(["Close", connection.generation]);
    if (asks === "token") {
      asks = this.#hasTokens ? "now" : "never";
      if (this.#hasTokens) this.#token = "";
    }
    const least_s = Math.max(after_s, retryAfter(reason), asks === "later" ? this.#options.later_s : 0);
    this.#notBefore = Math.max(this.#notBefore, this.#now + least_s);
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
      this.#finish(code, reason, wasOpen);
      return;
    }
    const atOnce = this.#blame(connection, code, reason, { wasOpen, isReachable, isTimeout }) || this.#isHinted;
    this.#isHinted = false;
    this.#wait(code, reason, wasOpen, Math.max(this.#notBefore - this.#now, atOnce ? 0 : this.#backoff.next_s()));
  }

  /** What the loss says about the rung of the ladder. True: another is to be tried at once. */
  #blame(connection, code, reason, { wasOpen, isReachable, isTimeout }) {
    const isAbnormal = code === ABNORMAL;
    const before = this.#ladder.transport;
    let stepsDown = false;
    if (wasOpen) {
      this.#ladder.died(connection.hadHeartbeat, isAbnormal);
      if (connection.online_at !== null && this.#now - connection.online_at >= this.#options.stable_after_s)
        this.#backoff.reset();
    } else if (isAbnormal && connection.rung === this.#ladder.rung) {
      // Else it was to be a better one than that which is lost by now.
      stepsDown = this.#ladder.failed(isReachable, isTimeout);
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
    this.outputs.push(["Closed", code, reason, wasOpen, this.attempt === null ? delay_s : 0]);
    if (this.attempt !== null) {
      this.#on("attempt", `trying ${this.attempt.transport}`); // a better transport is on its way already
      return;
    }
    if (this.#isNetworkDown) this.#on("network_down", "the system says that there is no network");
    this.#deadlines.set("attempt", this.#now + delay_s);
    if (!delay_s) this.#try();
  }

  #finish(code, reason, wasOpen) {
    if (this.state === "closed") return;
    this.traffic.isClosed = true;
    for (const connection of [this.current, this.attempt])
      if (connection !== null) this.outputs.push(["Close", connection.generation]);
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

// -- transports -----------------------------------------------------------------------------------------------------------

/** Something that the other side refused, or that broke. `code`: docs/codes.md; 0: the client itself gave up. */
export class HeartwireError extends Error {
  constructor(code, message, is_unknown = false) {
    super(message || `code ${code}`);
    this.name = "HeartwireError";
    this.code = code;
    /** Whether it may have been done all the same. */
    this.is_unknown = is_unknown;
  }
}

/** An HTTP answer that is none, as an error for `Link.failed`. */
async function refusal(response) {
  const [code, reason] = closedByHttp(response.status, await response.text().catch(() => ""));
  return Object.assign(new HeartwireError(code, reason), { after_s: Number(response.headers.get("retry-after")) || 0 });
}

/** One connection. `shell` has its surroundings: `base`, `headers()`, `WebSocket`, `fetch`, and `tell` for what comes in. */
class Link {
  #isClosed = false;
  #requests = new Set();

  constructor(shell, generation) {
    this.shell = shell;
    this.generation = generation;
  }

  /** Nothing of it is heard from now on; then whatever is open is closed. */
  close() {
    this.#isClosed = true;
    for (const request of this.#requests) request.abort();
  }

  tell(input, ...what) {
    if (!this.#isClosed) this.shell.tell(input, this.generation, ...what);
  }

  failed(error, more = {}) {
    const reason = error.cause?.message ? `${error.message}: ${error.cause.message}` : error.message;
    this.tell("lost", error.code ?? ABNORMAL, reason, { after_s: error.after_s ?? 0, ...more });
  }

  /**
   * Ask, and read the answer. The body is a string, which goes as text/plain: a page of another origin may send that without
   * asking first (Fetch standard, CORS-safelisted request-header).
   */
  async ask(path, body, { request = new AbortController(), read = response => response.text() } = {}) {
    this.#requests.add(request);
    try {
      const { base, headers, fetch } = this.shell;
      const { signal } = request;
      const response = await fetch(base + path, { method: "POST", body, headers: headers(), cache: "no-store", signal });
      if (!response.ok) throw await refusal(response);
      return await read(response);
    } finally {
      this.#requests.delete(request);
    }
  }
}

class SocketLink extends Link {
  #socket = null;

  open(frame) {
    const socket = new this.shell.WebSocket(`${this.shell.base.replace(/^http/, "ws")}/connection/websocket`);
    this.#socket = socket;
    socket.onopen = () => socket.send(frame);
    socket.onmessage = ({ data }) => this.tell("received", String(data));
    // 1005 is the browser's own word for a close without a code: the server said nothing.
    socket.onclose = ({ code, reason }) =>
      this.tell("lost", code === 1005 ? ABNORMAL : code, reason || "the connection was closed", {});
    socket.onerror = () => {}; // says nothing, and the close comes after it
  }

  send(frame) {
    this.#socket.send(frame);
  }

  close() {
    super.close();
    const socket = this.#socket;
    if (socket === null) return;
    // First the ears: a dead socket's close can take minutes to come, or come never (iOS).
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }
}

/** The lines of a body that have come completely, a chunk at a time. A character may be cut in two by its chunk's end. */
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
        if (data.length) this.tell("received", data.join("\n"));
      }
    };
    this.ask("/connection/sse", frame, { read }).then(
      () => this.tell("lost", ABNORMAL, "the stream ended", {}),
      error => this.failed(error),
    );
  }

  session(session, node) {
    this.#session = { session, node };
  }

  send(frame) {
    this.ask("/emulation", JSON.stringify({ ...this.#session, data: frame })).then(
      () => this.tell("sent"),
      error => this.failed(error),
    );
  }
}

class PollLink extends Link {
  #request = null;

  open() {}

  poll(frame, wait_s) {
    this.#request?.abort();
    const request = (this.#request = new AbortController());
    const isDropped = () => this.#request !== request;
    this.ask(`/connection/commands${wait_s ? `?wait=${wait_s}` : ""}`, frame, { request }).then(
      answer => isDropped() || this.#answered(answer, "polled"),
      error => isDropped() || this.failed(error, { was_poll: true }),
    );
  }

  send(frame) {
    this.ask("/connection/commands", frame).then(
      answer => this.#answered(answer, "sent"),
      error => this.failed(error),
    );
  }

  #answered(answer, as) {
    this.tell("received", answer);
    this.tell(as);
  }
}

const LINKS = { websocket: SocketLink, sse: StreamLink, longpoll: PollLink, poll: PollLink };

// -- what applications see --------------------------------------------------------------------------------------------------

const toBase64 = bytes => {
  let binary = "";
  for (let at = 0; at < bytes.length; at += 0x8000) binary += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(binary);
};
const fromBase64 = encoded => Uint8Array.from(atob(encoded), character => character.charCodeAt(0));

/** What `publish` was given, as JSON text and what that is of. */
function encode(data) {
  if (typeof data === "string") return [JSON.stringify(data), "text"];
  if (data instanceof ArrayBuffer) return encode(new Uint8Array(data));
  if (ArrayBuffer.isView(data)) return [`"${toBase64(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))}"`, "base64"];
  const json = JSON.stringify(data);
  if (json === undefined) throw new TypeError(`${typeof data} cannot be published: it is not JSON`);
  return [json, ""];
}

const token = (epoch, offset) => (epoch ? `${epoch}.${offset}` : "");

function position(given) {
  const [, epoch, offset] = /^([A-Za-z0-9_-]{1,32})\.(0|[1-9][0-9]{0,15})$/.exec(given) ?? [];
  if (epoch === undefined) throw new TypeError(`${JSON.stringify(given)} is not a position`);
  return { epoch, offset: Number(offset) };
}

function publication(channel, epoch, offset, data, encoding, user, client) {
  const is_bytes = encoding === "base64";
  return { channel, data: is_bytes ? fromBase64(data) : data, position: token(epoch, offset), offset, user, client, is_bytes };
}

/** EventTarget, and `on` and `once`, whose listeners get what happened itself. */
class Emitter extends EventTarget {
  #heard = new Set();

  addEventListener(name, ...more) {
    this.#heard.add(name);
    super.addEventListener(name, ...more);
  }

  /** Have `hear` called with what happens. Returns how to end it. */
  on(name, hear, options) {
    const listener = ({ detail }) => hear(detail);
    this.addEventListener(name, listener, options);
    return () => this.removeEventListener(name, listener);
  }

  once(name, hear) {
    return this.on(name, hear, { once: true });
  }

  /** Tell it. False: nobody has ever listened for such things. */
  emit(name, detail) {
    return this.#heard.has(name) && (this.dispatchEvent(new CustomEvent(name, { detail })), true);
  }
}

/** One followed channel: see docs/javascript.md. */
export class Subscription extends Emitter {
  /** After the last publication that was handed out; "" before the server has said where it begins. */
  position = "";
  #end;
  #queue = null;
  #ending = null; // [error or null], once it is over
  #wake = () => {};
  #flow;

  constructor(channel, flow, end) {
    super();
    this.channel = channel;
    this.#flow = flow;
    this.#end = end;
    this.ready = new Promise((resolve, reject) => Object.assign(this.#flow, { begun: () => resolve(this), refused: reject }));
    this.ready.catch(() => {}); // who does not wait for it hears of it as an event
  }

  unsubscribe() {
    this.#end();
  }

  /** From the client: a publication. */
  deliver(item) {
    if (this.#queue !== null) {
      this.#queue.push(item);
      if (this.#queue.length === this.#flow.max_items) this.#flow.pause();
      this.#wake();
    } else {
      this.position = item.position || this.position;
    }
    this.emit("publication", item);
  }

  /** From the client: where it stands. What waits in the queue comes before. */
  place(at) {
    if (!this.#queue?.length) this.position = at || this.position;
  }

  /** From the client: the server follows it for us. */
  subscribed(position, was_recovered) {
    this.place(position);
    this.#flow.begun();
    this.emit("subscribed", { position, was_recovered });
  }

  /** From the client: it is over; why, where that is not what the application wanted. False: nobody hears of it. */
  ended(error) {
    if (this.#ending !== null) return true;
    this.#ending = [error];
    this.#wake();
    const { code, message: reason } = error ?? new HeartwireError(LOCAL, "closed by the application");
    this.#flow.refused(error ?? new HeartwireError(code, reason));
    return this.emit("unsubscribed", { code, reason }) || this.#queue !== null;
  }

  /** `for await (const publication of subscription)`; leaving the loop ends the subscription. */
  [Symbol.asyncIterator]() {
    if (this.#queue !== null) throw new Error(`${this.channel} is iterated already`);
    this.#queue = [];
    return {
      next: () => this.#next(),
      return: async () => {
        this.unsubscribe();
        return { value: undefined, done: true };
      },
    };
  }

  async #next() {
    while (!this.#queue.length) {
      if (this.#ending?.[0]) throw this.#ending[0];
      if (this.#ending) return { value: undefined, done: true };
      await new Promise(resolve => (this.#wake = resolve));
    }
    const value = this.#queue.shift();
    this.position = value.position || this.position;
    if (this.#queue.length === this.#flow.max_items >> 1) this.#flow.resume();
    return { value, done: false };
  }
}

/** Where the server is: "https://host", "ws://host/below", a URL, or {scheme, host, port, path}. As the address for fetch. */
function baseOf(given) {
  const { scheme = "http", host, port, path = "" } = given;
  const parts = `${scheme}://${host}${port ? `:${port}` : ""}/${path}`.replace(/([^:]\/)\/+/g, "$1");
  const url = new URL(host && !(given instanceof URL) ? parts : given, globalThis.location?.href);
  const protocol = { "ws:": "http:", "wss:": "https:" }[url.protocol] ?? url.protocol;
  if (protocol !== "http:" && protocol !== "https:") throw new TypeError(`${url}: http, https, ws or wss`);
  return `${protocol}//${url.host}${url.pathname.replace(/\/+$/, "")}`;
}

function sessionStorage() {
  try {
    return globalThis.sessionStorage ?? null;
  } catch {
    return null; // a page without an origin, or a browser that lets nothing be kept
  }
}

/** What `connect` takes beside `DEFAULTS`. */
const SHELL_DEFAULTS = {
  token: "",
  get_token: null,
  data: null,
  headers: {},
  signal: null,
  storage: undefined,
  debug_url: null,
  WebSocket: undefined,
  fetch: undefined,
};

/** One client: see docs/javascript.md. Made by `connect`. */
export class Client extends Emitter {
  #machine;
  #options;
  #base;
  #links = new Map(); // by generation
  #publishes = new Map(); // how to settle them, by key
  #requests = new Map(); // the same, by id
  #subscriptions = new Map(); // by channel
  #timer = 0;
  #due = null;
  #isCarrying = false;
  #isLeaving = false;
  #left = null;
  #idle = () => {};
  #token;
  #asks = 0;
  #hints = new AbortController();
  #shell;

  constructor(url, given = {}) {
    super();
    const known = { ...SHELL_DEFAULTS, ...given };
    const debug_url = known.debug_url ?? globalThis.process?.env?.HEARTWIRE_DEBUG_URL;
    this.#base = baseOf(debug_url || (url ?? globalThis.location?.origin));
    this.#token = known.token;
    this.#options = { ...known, storage: known.storage === undefined ? sessionStorage() : known.storage };
    this.#options.WebSocket ??= globalThis.WebSocket;
    this.#options.fetch ??= globalThis.fetch;
    const { options, note } = this.#machineOptions(given);
    this.#machine = new Machine(options, {
      prefix: crypto.getRandomValues(new Uint32Array(3)).reduce((all, one) => all + one.toString(36), ""),
      draw: Math.random,
      now: performance.now() / 1000,
      wall: Date.now() / 1000,
      has_tokens: known.get_token !== null,
      token: known.token,
      data: known.data,
    });
    Object.assign(this.#options, options);
    this.#shell = {
      base: this.#base,
      WebSocket: this.#options.WebSocket,
      fetch: this.#options.fetch,
      headers: () => ({ ...known.headers, ...(this.#token && { authorization: `Bearer ${this.#token}` }) }),
      tell: (input, ...what) => this.#tell(input, ...what),
    };
    known.signal?.addEventListener("abort", () => this.close(), { signal: this.#hints.signal });
    queueMicrotask(() => this.#start(note)); // so that who made it can listen, and follow channels with the first request
    if (known.signal?.aborted) this.close();
  }

  /** "connecting", "online", "waiting", "offline" or "closed". */
  get state() {
    return this.#machine.state;
  }

  /** In use; "" where there is none. */
  get transport() {
    return this.#machine.transport;
  }

  /** How many publishes are not answered yet. */
  get pending() {
    return this.#publishes.size;
  }

  /** What the server calls us. */
  get client_id() {
    return this.#machine.client_id;
  }

  /** Follow a channel. `callback` gets each publication. */
  subscribe(channel, callback = null, { since = null, token = "", signal = null, on_gap = null } = {}) {
    this.#checkOpen();
    if (this.#subscriptions.has(channel))
      throw new Error(`${channel} is followed already: a channel is subscribed to once, and listened to as often as you like`);
    const flow = {
      max_items: this.#options.max_queue_items,
      pause: () => this.#tell("pause", channel),
      resume: () => this.#tell("resume", channel),
    };
    const subscription = new Subscription(channel, flow, () => this.#unsubscribe(subscription));
    const after = since === null || since === "earliest" ? since : position(since);
    this.#subscriptions.set(channel, subscription);
    if (callback !== null) subscription.on("publication", callback);
    if (on_gap !== null) subscription.on("gap", on_gap);
    signal?.addEventListener("abort", () => subscription.unsubscribe(), { once: true });
    this.#tell("subscribe", channel, after, token);
    if (signal?.aborted) subscription.unsubscribe();
    return subscription;
  }

  /** Publish. Resolves to the position once the server has kept it; sent again, and applied once, over whatever breaks. */
  async publish(channel, data, { signal = null, idempotency_key = "" } = {}) {
    signal?.throwIfAborted();
    const [json, encoding] = encode(data);
    return this.#ask(this.#publishes, signal, () => this.#machine.publish(now(), channel, json, encoding, idempotency_key));
  }

  /** Who is in a channel, by their client ids. */
  async presence(channel) {
    return (await this.#request("presence", { channel })).presence ?? {};
  }

  /** What a channel has kept: `limit` publications after `since`, or the other way round. */
  async history(channel, { limit = 100, since = null, reverse = false } = {}) {
    const after = since === null ? {} : { since: position(since) };
    const { publications = [], epoch = "", offset = 0 } = await this.#request("history", { channel, limit, reverse, ...after });
    const made = publications.map(({ data, offset, tags, info }) =>
      publication(channel, epoch, offset, data, tags?.encoding, info?.user ?? "", info?.client ?? ""),
    );
    return { publications: made, position: token(epoch, offset) };
  }

  /** Call a function of the application on the server. */
  async rpc(method, data = null) {
    return (await this.#request("rpc", { method, data })).data;
  }

  /** Leave for good. What was published has `close_timeout_s` to be answered. */
  close() {
    this.#left ??= this.#leave();
    return this.#left;
  }

  async #leave() {
    this.#isLeaving = true;
    if (this.#publishes.size) {
      await new Promise(resolve => {
        this.#idle = resolve;
        const timer = setTimeout(resolve, this.#options.close_timeout_s * 1000);
        this.#hints.signal.addEventListener("abort", () => (clearTimeout(timer), resolve()));
      });
    }
    this.#tell("close");
  }

  // The machine is told things, and what it says is done.

  #start(note) {
    if (this.state === "closed") return;
    this.#listenToTheSystem();
    if (note) this.emit("note", { text: note });
    this.#tell("start");
  }

  #tell(input, ...what) {
    this.#machine[input](now(), ...what);
    this.#settle();
  }

  /** After anything has happened: what is due is done too, so that a throttled timer does not matter while things happen. */
  #settle() {
    const at = now();
    const due = this.#machine.nextDeadline();
    if (due !== null && due <= at) this.#machine.handleDeadline(at, Date.now() / 1000);
    if (this.#isCarrying) return; // by a listener: the loop outside goes on with it
    this.#isCarrying = true;
    for (let outputs; (outputs = this.#machine.outputs.splice(0)).length; ) outputs.forEach(output => this.#carryOut(output));
    this.#isCarrying = false;
    if (!this.#publishes.size) this.#idle();
    this.#setTimer();
  }

  #setTimer() {
    const due = this.#machine.nextDeadline();
    if (due === this.#due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    if (due === null) return;
    const wake = () => {
      this.#due = null;
      this.#settle();
    };
    this.#timer = setTimeout(wake, Math.ceil(Math.max(0, due - now()) * 1000));
  }

  #carryOut([name, ...fields]) {
    try {
      Client.#DO[name](this, ...fields);
    } catch (error) {
      this.#problem(error);
    }
  }

  static #DO = {
    Open(client, generation, transport, frame) {
      const link = new LINKS[transport](client.#shell, generation);
      client.#links.set(generation, link);
      try {
        link.open(frame);
      } catch (error) {
        link.failed({ message: error.message }); // such as ws: from a page of https:
      }
    },
    Session: (client, generation, session, node) => client.#links.get(generation)?.session(session, node),
    Send: (client, generation, frame) => client.#links.get(generation)?.send(frame),
    Poll: (client, generation, frame, wait_s) => client.#links.get(generation)?.poll(frame, wait_s),
    Close(client, generation) {
      client.#links.get(generation)?.close();
      client.#links.delete(generation);
    },
    AskToken: client => void client.#askToken(),
    StateChanged(client, state, reason) {
      client.emit("state", { state, reason });
      if (state === "online") client.#opened();
    },
    Delivered(client, channel, ...more) {
      const made = publication(channel, ...more);
      client.#subscriptions.get(channel)?.deliver(made);
      client.emit("message", made);
    },
    Message: (client, data) => void client.emit("message", publication("", "", 0, data, "", "", "")),
    Gap: (client, channel, ...ends) => client.#gap(channel, token(ends[0], ends[1]), token(ends[2], ends[3])),
    Subscribed(client, channel, epoch, offset, was_recovered) {
      client.#subscriptions.get(channel)?.subscribed(token(epoch, offset), was_recovered);
    },
    Unsubscribed(client, channel, code, reason) {
      const error = new HeartwireError(code, `${channel}: ${reason}`);
      if (take(client.#subscriptions, channel)?.ended(error) === false) client.#problem(error);
    },
    Published: (client, key, epoch, offset) => take(client.#publishes, key)?.resolve(token(epoch, offset)),
    Rejected: (client, key, ...why) => take(client.#publishes, key)?.reject(new HeartwireError(...why)),
    Answered: (client, id, result) => take(client.#requests, id)?.resolve(result),
    Failed: (client, id, ...why) => take(client.#requests, id)?.reject(new HeartwireError(...why)),
    Closed: (client, ...how) => client.#closed(...how),
    Note: (client, text) => void client.emit("note", { text }),
  };

  #opened() {
    try {
      this.#options.storage?.setItem(`heartwire ${this.#base}`, this.transport);
    } catch {
      // it is full, or closed to us: the next page begins at the top of the ladder
    }
    this.emit("open", { transport: this.transport });
  }

  #gap(channel, before, after) {
    const subscription = this.#subscriptions.get(channel);
    subscription?.place(after);
    const gap = { channel, before, after };
    const isHeard = [subscription?.emit("gap", gap), this.emit("gap", gap)].includes(true);
    if (!isHeard) console.warn(`heartwire: ${channel}: what came after ${before} and up to ${after} is lost`);
  }

  #closed(code, reason, was_open, next_attempt_s) {
    this.emit("close", { code, reason, was_open, next_attempt_s });
    if (next_attempt_s >= 0) return;
    const error = this.#isLeaving ? null : new HeartwireError(code, reason);
    this.#hints.abort();
    for (const subscription of [...this.#subscriptions.values()]) subscription.ended(error);
    this.#subscriptions.clear();
    if (error !== null) this.#problem(error);
  }

  #problem(error) {
    if (!this.emit("error", { error })) console.error("heartwire:", error);
  }

  #checkOpen() {
    if (this.state === "closed") throw new HeartwireError(LOCAL, "the client is closed");
  }

  #unsubscribe(subscription) {
    if (this.#subscriptions.get(subscription.channel) !== subscription) return;
    this.#subscriptions.delete(subscription.channel);
    this.#tell("unsubscribe", subscription.channel);
    subscription.ended(null);
  }

  /** A promise for the answer to what `say` has the machine take; it returns the name by which the answer will come. */
  #ask(waiting, signal, say) {
    return new Promise((resolve, reject) => {
      const name = say();
      const abort = () => take(waiting, name)?.reject(signal.reason);
      const last = settle => value => (signal?.removeEventListener("abort", abort), settle(value));
      waiting.set(name, { resolve: last(resolve), reject: last(reject) });
      signal?.addEventListener("abort", abort);
      this.#settle(); // only now: the answer may be there already
    });
  }

  #request(method, body) {
    return this.#ask(this.#requests, null, () => this.#machine.request(now(), method, body));
  }

  /** One call of the application's function counts at a time; the machine gives up on it by itself, and asks anew. */
  async #askToken() {
    const asked = ++this.#asks;
    let answer;
    try {
      answer = await this.#options.get_token();
      if (typeof answer !== "string") throw new TypeError("get_token: no string was returned");
    } catch (error) {
      if (asked !== this.#asks) return;
      this.#problem(error);
      this.#tell("noToken", error.message ?? String(error));
      return;
    }
    if (asked !== this.#asks) return;
    this.#token = answer;
    this.#tell("token", answer);
  }

  /** What is for the machine; with the transports that there are, and the one that worked the last time. */
  #machineOptions(given) {
    const options = { ...DEFAULTS };
    for (const [name, value] of Object.entries(given)) if (!(name in SHELL_DEFAULTS)) options[name] = value;
    let note = "";
    if (this.#options.WebSocket === undefined && options.transports.includes("websocket")) {
      note = "there is no WebSocket here (Node has one from 22 on; or pass a class as the option WebSocket)";
      options.transports = options.transports.filter(name => name !== "websocket");
      if (!options.transports.length) throw new TypeError(note);
    }
    const worked = this.#options.storage?.getItem(`heartwire ${this.#base}`);
    if (options.first_transport === null && options.transports.includes(worked)) options.first_transport = worked;
    return { options, note };
  }

  /** Whatever there is here of window, document and navigator says when the network or the page comes and goes. */
  #listenToTheSystem() {
    const { signal } = this.#hints;
    const hint = kind => () => this.#tell("hint", kind);
    const listen = (target, name, hear) => target?.addEventListener?.(name, hear, { signal });
    listen(globalThis, "online", hint("network_up"));
    listen(globalThis, "offline", hint("network_down"));
    listen(globalThis, "pageshow", ({ persisted }) => persisted && this.#tell("hint", "wake"));
    listen(globalThis, "pagehide", ({ persisted }) => persisted && this.#putAside());
    listen(globalThis.document, "visibilitychange", () => document.visibilityState === "visible" && this.#tell("hint", "wake"));
    listen(globalThis.document, "resume", hint("wake"));
    listen(globalThis.navigator?.connection, "change", hint("wake"));
  }

  /** Browsers keep a page for the way back only where it has no open connection. */
  #putAside() {
    for (const generation of [...this.#links.keys()]) this.#tell("lost", generation, 1001, "the page was put aside");
  }
}

const now = () => performance.now() / 1000;

function take(map, key) {
  const value = map.get(key);
  map.delete(key);
  return value;
}

/** A client that connects, and stays connected until it is closed. `url`: see `baseOf`; where there is none, the page's origin. */
export function connect(url, options) {
  return new Client(url, options);
}

/** For tests. */
export const internals = Object.freeze({ Machine, baseOf, closedByHttp, lineGroups, retryAfter, verdict });
