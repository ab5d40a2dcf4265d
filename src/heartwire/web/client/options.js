// The options of a client, with the defaults of heartwire/client/options.py, which says what each means.

/** The ladder, best first. */
export const TRANSPORTS = Object.freeze(["websocket", "sse", "longpoll", "poll"]);

/** What the machine decides by; docs/javascript.md has a table. */
export const DEFAULTS = Object.freeze({
  transports: TRANSPORTS,
  firstTransport: /** @type {string | null} */ (null),
  pingIntervalS: 25,
  pongTimeoutS: 10,
  probeTimeoutS: 3,
  tickS: 1,
  openTimeoutS: 4,
  openTimeoutCapS: 20,
  backoffBaseS: 0.5,
  backoffCapS: 20,
  laterS: 5,
  stableAfterS: 10,
  attemptBurst: 5,
  attemptRatePerS: 0.5,
  upgradeAfterS: 10,
  upgradeCapS: 600,
  pollIntervalS: 1,
  pollWaitS: 25,
  maxPendingItems: 1000,
  maxPendingBytes: 4 * 1024 * 1024,
  maxPendingAgeS: 120,
  maxInFlight: 64,
  maxMessageBytes: 1024 * 1024,
  maxQueueItems: 1000,
  requestTimeoutS: 10,
  closeTimeoutS: 5,
});

/** @typedef {typeof DEFAULTS} Options */

const LONGEST_POLL_S = 55; // the server answers by then

/** Throws a `TypeError` for the first value that cannot be used. @param {Options} options */
export function checkOptions(options) {
  const refuse = (name, known) => {
    throw new TypeError(`${name}: ${JSON.stringify(options[name])} is not ${known}`);
  };
  const { transports, firstTransport } = options;
  if (!Array.isArray(transports) || !transports.length || transports.some(name => !TRANSPORTS.includes(name)))
    refuse("transports", `a list of some of ${TRANSPORTS.join(", ")}`);
  if (firstTransport !== null && !transports.includes(firstTransport))
    refuse("firstTransport", "one of `transports`");
  for (const [name, value] of Object.entries(options))
    if (name !== "transports" && name !== "firstTransport" && !(typeof value === "number" && value > 0))
      refuse(name, "a number over 0");
  if (options.pollWaitS > LONGEST_POLL_S) refuse("pollWaitS", `at most ${LONGEST_POLL_S}`);
}
