// Events: an EventTarget with `on` and `once`, whose listeners get the detail itself.

/**
 * An EventTarget whose listeners may throw, or return a promise that is rejected: that is given to `failed`.
 * By itself either would end a process of Node.
 */
export class Emitter extends EventTarget {
  #heard = new Set();
  #guarded = new WeakMap(); // by listener
  #failed;

  /** @param {(error: Error, name: string) => void} failed */
  constructor(failed) {
    super();
    this.#failed = failed;
  }

  addEventListener(name, hear, options) {
    this.#heard.add(name);
    super.addEventListener(name, hear && this.#guard(hear), options);
  }

  removeEventListener(name, hear, options) {
    super.removeEventListener(name, (hear && this.#guarded.get(hear)) ?? hear, options);
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

  #guard(hear) {
    const known = this.#guarded.get(hear);
    if (known) return known;
    const guarded = event => {
      const fail = error => this.#failed(error, event.type);
      try {
        const result = typeof hear === "function" ? hear.call(this, event) : hear.handleEvent(event);
        if (typeof result?.then === "function") result.then(null, fail);
      } catch (error) {
        fail(error);
      }
    };
    this.#guarded.set(hear, guarded);
    return guarded;
  }
}
