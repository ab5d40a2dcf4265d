// A page's clocks and timers, moved by hand. Runs before the client is made; `until` goes by the real ones.
{
  const real = {
    now: performance.now.bind(performance),
    date: Date.now.bind(Date),
    setTimeout: setTimeout.bind(globalThis),
  };
  const ahead = { monotonicMs: 0, wallMs: 0 };
  const timers = new Map();
  let last = 0;
  let isStopped = false;

  const fire = () => {
    const due = [...timers]
      .filter(([, timer]) => timer.due <= performance.now())
      .sort(([, a], [, b]) => a.due - b.due);
    for (const [id, { act }] of due) if (timers.delete(id)) act();
  };
  performance.now = () => real.now() + ahead.monotonicMs;
  Date.now = () => real.date() + ahead.wallMs;
  globalThis.setTimeout = (act, ms = 0) => {
    timers.set(++last, { act, due: performance.now() + ms });
    real.setTimeout(() => isStopped || fire(), ms + 1);
    return last;
  };
  globalThis.clearTimeout = id => void timers.delete(id);

  globalThis.clock = {
    /** Timers fire no more by themselves: each jump fires those that are due, once. */
    stop() {
      isStopped = true;
    },
    go() {
      isStopped = false;
      fire();
    },
    /** On some systems the monotonic clock stands still while the machine sleeps. */
    jump(s, { monotonic = true } = {}) {
      ahead.wallMs += s * 1000;
      if (monotonic) ahead.monotonicMs += s * 1000;
      fire();
    },
  };
  globalThis.until = async (condition, withinS = 15) => {
    for (const end = real.now() + withinS * 1000; !condition(); ) {
      if (real.now() > end) throw new Error(`not in time: ${condition}; ${JSON.stringify(told.slice(-10))}`);
      await new Promise(done => real.setTimeout(done, 10));
    }
  };
}
