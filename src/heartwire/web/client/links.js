// How bytes travel: a WebSocket, server-sent events, polls. heartwire/client/links.py.

import { HeartwireError } from "./errors.js";
import { holding, MOST_HELD } from "./holding.js";
import { ABNORMAL } from "./states.js";
import { closedByHttp } from "./wire.js";

const MAX_RETRY_AFTER_S = 3600; // as in Python: a slip of somebody between must not part us for years

/** When an HTTP server wants its client back; 0 where it does not say. */
export function retryAfterHeaderS(headers) {
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
export async function* lineGroups(body) {
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
export const LINKS = { websocket: SocketLink, sse: StreamLink, longpoll: PollLink, poll: PollLink };
