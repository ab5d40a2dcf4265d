// Whether the connection in use is alive: the silence it is allowed, and the probe it has to answer after a
// wake-up or a change of network. heartwire/client/probing.py.

export class Probing {
  #options;
  #deadlines;
  #traffic;
  #polling;

  constructor(options, deadlines, traffic, polling) {
    this.#options = options;
    this.#deadlines = deadlines;
    this.#traffic = traffic;
    this.#polling = polling;
  }

  /** Something came in: the server is there. */
  heard(connection, now) {
    connection.isExcused = false;
    if (connection.onlineAt === null) return;
    this.#deadlines.delete("probe");
    if (!connection.isPull)
      this.#deadlines.set("silence", now + connection.pingIntervalS + this.#options.pongTimeoutS);
  }

  /** Has the connection in use prove itself within `probeTimeoutS`. */
  probe(connection, now) {
    const due = this.#deadlines.get("probe");
    if (due !== undefined && (due > now || !this.excuse(connection, "probe", now))) return;
    const deadline = now + this.#options.probeTimeoutS;
    this.#deadlines.set("probe", deadline);
    if (connection.isPull) {
      this.#polling.poll(connection, now, 0);
    } else {
      connection.queue.push(connection.command(this.#traffic.nextId(), "ping", {}));
      this.#traffic.flush();
    }
    // What came in during sleep may wait to be read: the answer to the probe decides, not the silence before
    // it.
    this.#deadlines.set("silence", Math.max(deadline, this.#deadlines.get("silence") ?? deadline));
    const sending = this.#deadlines.get("sending");
    if (sending !== undefined) this.#deadlines.set("sending", Math.max(deadline, sending));
  }

  /**
   * Gives a connection whose time ran out during sleep `probeTimeoutS` more: its answer may wait to be read.
   * Once, until it is heard again, because timers may always be late; then false.
   */
  excuse(connection, deadline, now) {
    if (connection.isExcused) return false;
    connection.isExcused = true;
    this.#deadlines.set(deadline, now + this.#options.probeTimeoutS);
    return true;
  }
}
