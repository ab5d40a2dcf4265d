// The states of a client, and what a close code asks of it: heartwire/client/states.py, which has a drawing.

export const ABNORMAL = 1006; // a connection that ended without a close frame (RFC 6455 7.1.5)
export const LOCAL = 0; // what the client itself gives up
export const LIMIT_EXCEEDED = 106; // over a limit, the client's own too (Centrifugal protocol, error codes)
export const STREAM_CLOSED = 2100; // a subscription has got all of a durable stream
export const INSUFFICIENT_STATE = 3010;
export const TOO_LARGE = 1009;

/** @typedef {"connecting" | "online" | "waiting" | "offline" | "closed"} State */

/** Nothing else assigns the state. A pair that is not listed throws. */
export const TRANSITIONS = {
  connecting: { established: "online", lost: "waiting", closed: "closed" },
  online: { established: "online", attempt: "online", lost: "waiting", closed: "closed" },
  waiting: { attempt: "connecting", networkDown: "offline", closed: "closed" },
  offline: { attempt: "connecting", networkUp: "waiting", closed: "closed" },
  closed: { closed: "closed" },
};

const LATER = new Set([1013, 3013]);
const NEW_TOKEN = new Set([3005, 3500]);
const NEVER = new Set([1002, 1003, 1007, 1008, 1010]);
const STALE = 3502; // no `connect` came in time; ours is sent at once, so the network has swallowed it

/** What a close code asks for: "now" (after the usual wait), "later", a new "token" first, or "never". */
export function verdict(code) {
  if (NEW_TOKEN.has(code)) return "token";
  if (LATER.has(code)) return "later";
  if (code === STALE) return "now";
  const isForGood = NEVER.has(code) || (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000);
  return isForGood ? "never" : "now";
}

/**
 * The times at which the machine is to be called.
 * @typedef {"token" | "open" | "probe" | "silence" | "sending" | "attempt" | "refresh" | "poll" | "resend"
 *   | "resubscribe" | "publish" | "request" | "upgrade" | "tick"} Deadline
 */
