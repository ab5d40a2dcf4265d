// What a browser, a worker or Node offers beside sockets: reports of the network and the page, and a place to
// remember which transport worked.

/**
 * Passes on what window, document and navigator report, as far as they exist here, until the signal is
 * aborted.
 * @param {AbortSignal} signal
 * @param {(kind: "networkUp" | "networkDown" | "wake") => void} hint
 * @param {() => void} putAside The page is put aside for the way back: only where no connection is open.
 */
export function listenToSystem(signal, hint, putAside) {
  const listen = (target, name, hear) => target?.addEventListener?.(name, hear, { signal });
  const { document, navigator } = globalThis;
  const connection = /** @type {any} */ (navigator)?.connection;
  listen(globalThis, "online", () => hint("networkUp"));
  listen(globalThis, "offline", () => hint("networkDown"));
  listen(globalThis, "pageshow", ({ persisted }) => persisted && hint("wake"));
  listen(globalThis, "pagehide", ({ persisted }) => persisted && putAside());
  listen(document, "visibilitychange", () => document.visibilityState === "visible" && hint("wake"));
  listen(document, "resume", () => hint("wake"));
  listen(connection, "change", () => hint("wake"));
}

/** The storage of this tab; null where there is none. */
export function pageStorage() {
  try {
    return globalThis.sessionStorage ?? null;
  } catch {
    return null; // a page without an origin, or a browser that allows no storage
  }
}

/** The transport that worked the last time. */
export const recallTransport = (storage, base) => storage?.getItem(`heartwire ${base}`);

export function rememberTransport(storage, base, transport) {
  try {
    storage?.setItem(`heartwire ${base}`, transport);
  } catch {
    // it is full or closed to us: the next page begins at the top of the ladder
  }
}
