// When a client makes its next attempt, and over which transport: heartwire/client/attempts.py.

import { Ladder } from "./ladder.js";
import { Backoff, Bucket } from "./retry.js";
import { ABNORMAL } from "./states.js";

export class Attempts {
  #options;
  #outputs;
  #deadlines;
  #bucket;
  #backoff;
  #upgradeS;

  constructor(options, outputs, deadlines, { draw, now }) {
    this.ladder = new Ladder(options.transports, options.firstTransport);
    /** The server wants no attempt before. */
    this.notBefore = now;
    this.#options = options;
    this.#outputs = outputs;
    this.#deadlines = deadlines;
    this.#bucket = new Bucket(options.attemptRatePerS, options.attemptBurst, now);
    this.#backoff = new Backoff(options.backoffBaseS, options.backoffCapS, draw);
    this.#upgradeS = options.upgradeAfterS;
  }

  /**
   * Takes an attempt ("attempt" or "upgrade") out of the bucket. False: there is none yet; the deadline says
   * when.
   */
  take(now, deadline) {
    const waitS = this.#bucket.take(now);
    if (waitS) this.#deadlines.set(deadline, now + waitS);
    else this.#deadlines.delete(deadline);
    return !waitS;
  }

  /** How long the next attempt may take: longer each time the whole ladder has failed. */
  openTimeoutS() {
    const { openTimeoutS, openTimeoutCapS } = this.#options;
    return Math.min(openTimeoutCapS, openTimeoutS * 2 ** Math.min(this.ladder.rounds, 60));
  }

  /** The seconds to the next attempt; counts a failure unless it may be made at once. */
  delayS(now, atOnce = false) {
    return Math.max(this.notBefore - now, atOnce ? 0 : this.#backoff.nextS());
  }

  /** Makes no attempt before: the server wants its client back later. */
  holdOff(until) {
    this.notBefore = Math.max(this.notBefore, until);
  }

  established(connection, now, isUpgrade) {
    if (!isUpgrade) this.#upgradeS = this.#options.upgradeAfterS;
    if (this.ladder.opened(connection.rung)) this.#deadlines.set("upgrade", Math.max(now, this.notBefore));
    else if (connection.rung) this.planUpgrade(now);
  }

  /** Plans to try a better transport, after twice as long each time. */
  planUpgrade(now) {
    this.#deadlines.set("upgrade", Math.max(now + this.#upgradeS, this.notBefore));
    this.#upgradeS = Math.min(this.#options.upgradeCapS, this.#upgradeS * 2);
  }

  /** Counts a loss against the transport. Returns whether another one is to be tried at once. */
  blame(connection, code, reason, now, { isReachable, isTimeout }) {
    const { ladder } = this;
    const isAbnormal = code === ABNORMAL;
    const before = ladder.transport;
    let stepsDown = false;
    if (connection.onlineAt !== null) {
      ladder.died(connection.hadHeartbeat, isAbnormal);
      if (now - connection.onlineAt >= this.#options.stableAfterS) this.#backoff.reset();
    } else if (isAbnormal && connection.rung === ladder.rung) {
      // On another rung it was an upgrade from a connection that is lost by now.
      stepsDown = ladder.failed(isReachable, isTimeout);
    }
    if (ladder.transport !== before)
      this.#outputs.push(["Note", "steppedDown", before, reason, ladder.transport]);
    return stepsDown;
  }
}
