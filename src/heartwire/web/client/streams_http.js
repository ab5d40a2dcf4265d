// Requests to one durable stream: sent with a token, given up in time, made again until they are answered.
// heartwire/client/streams_http.py.

import { checkText } from "./arguments.js";
import { HeartwireError } from "./errors.js";
import { LOCAL } from "./states.js";
import { joined } from "./streams_reading.js";
import { Lost, Retry } from "./streams_wire.js";

export const clockS = () => performance.now() / 1000;

/** Waits, or until it is aborted. */
export const pause = (s, signal) =>
  new Promise(resolve => {
    const timer = setTimeout(resolve, s * 1000);
    signal?.addEventListener("abort", () => resolve(clearTimeout(timer)));
  });

/** The token of a client's requests, and what else it sends with them to its own server. */
export class StreamAccess {
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

export class StreamRequests {
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
