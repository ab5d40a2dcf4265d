// Events: an EventTarget with `on` and `once`, whose listeners get the detail itself.

export class Emitter extends EventTarget {
  #heard = new Set();

  addEventListener(name, hear, options) {
    this.#heard.add(name);
    super.addEventListener(name, hear, options);
  }

  /** Calls `hear` with the detail of each such event. Returns how to end it. */
  on(name, hear, options) {
    const listener = (/** @type {any} */ { detail }) => hear(detail);
    this.addEventListener(name, listener, options);
    return () => this.removeEventListener(name, listener);
  }

  once(name, hear) {
    return this.on(name, hear, { once: true });
  }

  /** Returns false where nobody has ever listened for such events. */
  emit(name, detail) {
    if (!this.#heard.has(name)) return false;
    this.dispatchEvent(new CustomEvent(name, { detail }));
    return true;
  }
}
