// The choice of a transport, best rung first: heartwire/client/ladder.py. Where a second rung fails too,
// perhaps nothing gets through: so each wait ends at `#home`, the last rung that worked, and only then comes
// another.

const FORGIVEN = 2; // strikes of a rung that has worked, and early deaths of any, before the rung is left

export class Ladder {
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
