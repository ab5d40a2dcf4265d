// The choice of a transport, best rung first: heartwire/client/ladder.py.

const FORGIVEN = 2; // strikes of a rung that has worked, and early deaths of any, before the rung is left

export class Ladder {
  /** How often all rungs have failed since one worked. */
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

  /** The rung did not open. Returns true where another is to be tried at once. */
  failed(isReachable, isTimeout) {
    if (!isReachable) {
      this.#earlyDeaths = 0; // the server died, not the transport
      return false;
    }
    this.#strikes += isTimeout ? 2 : 1;
    return this.#strikes >= (this.#worked.has(this.rung) ? FORGIVEN : 1) && this.#stepDown();
  }

  /** An open connection ended. Abnormal: without a close code of the server. */
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

  /** The next better rung to try, each in turn from the top; null at the top. */
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
