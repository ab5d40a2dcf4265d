// Which of a browser's tabs may hold an HTTP request open. Over HTTP/1.1 a browser opens six connections to a
// host, for all tabs together: the requests of a seventh tab that holds one, and all publishes, would wait
// for ever. Python has no such limit, and no such module.

/** Two of six stay free for what is answered at once. */
export const MOST_HELD = 4;

/** HTTP/2 and 3 share one connection. The browser keeps to itself what other origins speak ("" then). */
function isShared(base) {
  const entries = globalThis.performance?.getEntriesByType?.("resource") ?? [];
  const last = entries.findLast(({ name }) => name.startsWith(`${base}/`));
  return /^h[23]/.test(/** @type {any} */ (last)?.nextHopProtocol ?? "");
}

/**
 * Holds a request open: `act`, until its promise settles. The tabs and workers of a browser share a few locks
 * for that, which end with the page that has one.
 * @param {string} base The address of the server.
 * @param {() => Promise<any>} act
 * @param {() => any} full Called instead where all are taken.
 */
export async function holding(base, act, full) {
  const locks = globalThis.location && globalThis.navigator?.locks; // not in Node, and not on insecure pages
  if (!locks || isShared(base)) return act();
  for (let n = 0; n < MOST_HELD; n++) {
    const name = `heartwire ${new URL(base).host} ${n}`;
    let isHeld = false;
    const answer = await locks.request(name, { ifAvailable: true }, lock => {
      isHeld = lock !== null;
      return isHeld && act();
    });
    if (isHeld) return answer;
  }
  return full();
}
