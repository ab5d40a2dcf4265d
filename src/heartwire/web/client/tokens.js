// The token of a client: when the application is asked for one, and how long it lasts.
// heartwire/client/tokens.py.

const SHORTEST_TTL_S = 1; // however soon a token expires, the application is not asked more often

export class Tokens {
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
