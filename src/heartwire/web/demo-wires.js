/*
 * Heartwire demo, 1 of 4: the wires.
 *
 * Four ways in which a channel reaches a page: WebSocket, server-sent events, long polling, polling. All four speak the
 * plain dialect (docs/plain.md) and carry the same position tokens, so a reader may leave one wire and go on with
 * another. A wire lives once: it opens, tells what comes, ends, and never reconnects; that is the link's work.
 */

/**
 * @typedef {object} Publication
 * @property {string} position  Opaque token: how far a reader has come who has read this.
 * @property {*} data           JSON value, string, or base64 where `encoding` says so.
 * @property {"base64"} [encoding]
 * @property {{user: string, client: string}} [publisher]
 *
 * @typedef {object} Order      What a wire is asked to follow.
 * @property {(params: object) => URL} url  The channel's URL with a query.
 * @property {string} since     `earliest` or a position.
 * @property {string} client    Names this page in presence between its polls.
 *
 * @typedef {object} Ending
 * @property {number|string} code
 * @property {string} reason
 * @property {boolean} retry    Whether another attempt can succeed.
 * @property {number} [after_s] The server asks not to come back earlier.
 *
 * @typedef {object} Events     What a wire tells.
 * @property {() => void} heard                          Anything at all came in.
 * @property {(start: {position?: string, recovered: boolean}) => void} open
 * @property {(publication: Publication) => void} publication
 * @property {(position: string) => void} position       Where a poll ended.
 * @property {(gap: {position: string}) => void} gap     The server could not continue from our position.
 * @property {(rtt_ms: number|null) => void} beat        A heartbeat, with its round trip where one was measured.
 * @property {(error: object) => void} refused           A message was refused; the wire lives on.
 * @property {(ending: Ending) => void} end
 *
 * @typedef {object} Wire
 * @property {() => void} close                          Silent at once: no event comes after it.
 * @property {() => void} [probe]                        Make the other side say something now.
 * @property {(text: string) => boolean} [send]          Publish; false when the pipe is full.
 */

const POLL_EVERY_MS = 2000;
const LONG_POLL_WAIT_S = 25;
const MAX_BUFFERED_BYTES = 256 * 1024;
const LARGE_ANSWER = 100; // publications; after one this large the rest is asked for at once
const RETRIABLE_STATUS = new Set([408, 409, 425, 429]);
const FINAL_CLOSE_CODES = new Set([1002, 1003, 1007, 1008, 1009, 1010]);

/** @type {Record<string, {label: string, open: (order: Order, on: Events) => Wire}>} */
export const WIRES = {
  websocket: { label: "WebSocket", open: websocket },
  sse: { label: "SSE", open: sse },
  longpoll: { label: "Long poll", open: (order, on) => polling(order, on, LONG_POLL_WAIT_S) },
  poll: { label: "Poll", open: (order, on) => polling(order, on, 0) },
};

/** What an HTTP answer other than 2xx means. @returns {Promise<Ending>} */
export async function refusal(response) {
  const { error = {} } = await response.json().catch(() => ({}));
  return {
    code: response.status,
    reason: [error.code, error.message].filter(Boolean).join(": ") || response.statusText || "refused",
    retry: error.retry ?? (response.status >= 500 || RETRIABLE_STATUS.has(response.status)),
    after_s: Number(response.headers.get("Retry-After")) || 0,
  };
}

/** A browser says little about a broken connection, on purpose. @returns {Ending} */
function broken(error) {
  return { code: "network", reason: error?.message || "the connection broke", retry: true };
}

/** @type {(order: Order, on: Events) => Wire} */
function websocket(order, on) {
  // The heartbeat is a text that nobody publishes: the server answers it to us alone.
  const heartbeat = `beat-${Math.random().toString(36).slice(2, 10)}`;
  const address = order.url({ format: "json", since: order.since, heartbeat });
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(address);
  let askedAt = 0;

  socket.onmessage = ({ data }) => {
    on.heard();
    if (data === heartbeat) {
      on.beat(askedAt ? performance.now() - askedAt : null);
      askedAt = 0;
      return;
    }
    const frame = JSON.parse(data);
    if ("data" in frame) on.publication(frame);
    else if ("error" in frame) on.refused(frame.error);
    else if ("recovered" in frame) {
      on.open(frame); // only the first one opens; the link ignores the rest
      if (!frame.recovered) on.gap(frame);
    }
  };
  socket.onclose = ({ code, reason }) => {
    const final = FINAL_CLOSE_CODES.has(code) || (code >= 3500 && code < 4000) || code >= 4500;
    on.end({ code, reason: reason || (code === 1006 ? "no closing handshake" : ""), retry: !final });
  };

  return {
    send(text) {
      if (socket.readyState !== WebSocket.OPEN || socket.bufferedAmount > MAX_BUFFERED_BYTES) return false;
      socket.send(text);
      return true;
    },
    probe() {
      if (socket.readyState !== WebSocket.OPEN) return;
      askedAt ||= performance.now();
      socket.send(heartbeat);
    },
    close() {
      // Handlers first: the close event of a dead socket may come minutes later, or never.
      socket.onmessage = socket.onclose = null;
      socket.close(1000, "bye");
    },
  };
}

/** @type {(order: Order, on: Events) => Wire} */
function sse(order, on) {
  // fetch rather than EventSource: it shows status and error text, and leaves reconnecting to the link.
  const stop = new AbortController();
  let retry_s = 0;

  function take({ id, event, data, retry }) {
    if (retry) retry_s = Number(retry) / 1000;
    if (event === "heartbeat") return on.beat(null);
    const body = data === undefined ? { position: id, recovered: true } : JSON.parse(data);
    if ("data" in body) return on.publication(body);
    if (body.recovered === false) {
      on.open(body);
      on.gap(body);
    } else if (id !== undefined) on.open(body);
  }

  async function read() {
    const address = order.url({ format: "json", heartbeat: "event", since: order.since });
    const response = await fetch(address, {
      headers: { Accept: "text/event-stream" }, cache: "no-store", signal: stop.signal,
    });
    if (!response.ok) return refusal(response);
    const reader = response.body.getReader();
    const text = new TextDecoder();
    const feed = eventParser(take);
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return { code: "end", reason: "the server ended the stream", retry: true, after_s: retry_s };
      on.heard();
      feed(text.decode(value, { stream: true }));
    }
  }

  read().catch(broken).then((ending) => stop.signal.aborted || on.end(ending));
  return { close: () => stop.abort() };
}

/** Cuts a text/event-stream into its blocks, whatever the chunks. */
function eventParser(take) {
  let rest = "";
  let block = {};
  return (chunk) => {
    const lines = (rest + chunk).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (Object.keys(block).length) take(block);
        block = {};
        continue;
      }
      const colon = line.indexOf(":");
      if (colon === 0) continue; // a comment
      const name = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      block[name] = name === "data" && block.data !== undefined ? `${block.data}\n${value}` : value;
    }
  };
}

/** Polling and long polling: the position is the session. @type {(order: Order, on: Events, wait_s: number) => Wire} */
function polling(order, on, wait_s) {
  const stop = new AbortController();
  let since = order.since;
  let wake = () => {};

  async function ask(hold_s) {
    const startedAt = performance.now();
    const params = { since, client: order.client, ...(hold_s && { wait: hold_s }) };
    const headers = hold_s || since === "earliest" ? {} : { "If-None-Match": `"${since}"` };
    const response = await fetch(order.url(params), { headers, cache: "no-store", signal: stop.signal });
    if (response.status !== 304 && !response.ok) throw await refusal(response);
    const answer = response.status === 304
      ? { publications: [], position: since, recovered: true }
      : await response.json();
    if (stop.signal.aborted) return 0; // closed while the body was read: nothing more is told
    on.heard();
    on.open(answer);
    if (!answer.recovered) on.gap(answer);
    for (const publication of answer.publications) on.publication(publication);
    since = answer.position;
    on.position(since);
    on.beat(hold_s ? null : performance.now() - startedAt); // the time of a held answer is no round trip
    return answer.publications.length;
  }

  async function loop() {
    let hold_s = 0; // the first answer comes at once, to be online soon
    while (!stop.signal.aborted) {
      const count = await ask(hold_s);
      hold_s = wait_s;
      if (wait_s || count >= LARGE_ANSWER) continue;
      await new Promise((resolve) => {
        wake = resolve;
        setTimeout(resolve, POLL_EVERY_MS);
      });
    }
  }

  loop().catch((error) => stop.signal.aborted || on.end("retry" in error ? error : broken(error)));
  return {
    close() {
      stop.abort();
      wake();
    },
    ...(wait_s === 0 && { probe: () => wake() }),
  };
}
