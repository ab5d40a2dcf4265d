// When to try again: full-jitter exponential backoff, and one bucket for all attempts.

/**
 * The wait before the n-th try in a row is drawn evenly from 0 to `baseS` doubled n times, at most `capS`.
 */
export class Backoff {
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
export class Bucket {
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
