// A machine among real clocks, timers, sockets and tokens: heartwire/client/driver.py. Outputs for the
// application are handed on.

import { checkText } from "./arguments.js";
import { LINKS } from "./links.js";
import { Machine } from "./machine.js";

const now = () => performance.now() / 1000;
const randomPrefix = () =>
  crypto.getRandomValues(new Uint32Array(3)).reduce((all, one) => all + one.toString(36), "");

export class Driver {
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
