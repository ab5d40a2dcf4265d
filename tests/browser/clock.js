// A page's clocks and timers, moved by hand. Runs before the client is made; `until` goes by the real ones.
{
  const real = { now: performance.now.bind(performance), date: Date.now.bind(Date), setTimeout: setTimeout.bind(globalThis) };
  const ahead = { monotonic_ms: 0, wall_ms: 0 };
  const timers = new Map();
  let last = 0;
  let isStopped = false;

  const fire = () => {
    const due = [...timers].filter(([, timer]) => timer.due <= performance.now()).sort(([, a], [, b]) => a.due - b.due);
    for (const [id, { act }] of due) if (timers.delete(id)) act();
  };
  performance.now = () => real.now() + ahead.monotonic_ms;
  Date.now = () => real.date() + ahead.wall_ms;
  globalThis.setTimeout = (act, ms = 0) => {
    timers.set(++last, { act, due: performance.now() + ms });
    real.setTimeout(() => isStopped || fire(), ms + 1);
    return last;
  };
  globalThis.clearTimeout = id => void timers.delete(id);

  globalThis.clock = {
    /** Timers fire no more by themselves: each jump fires those that are due, once. */
    stop: () => void (isStopped = true),
    go: () => ((isStopped = false), fire()),
    /** On some systems the monotonic clock stands still while the machine sleeps. */
    jump(s, { monotonic = true } = {}) {
      ahead.wall_ms += s * 1000;
      if (monotonic) ahead.monotonic_ms += s * 1000;
      fire();
    },
  };
  globalThis.until = async (condition, within_s = 15) => {
    for (const end = real.now() + within_s * 1000; !condition(); ) {
      if (real.now() > end) throw new Error(`not in time: ${condition}; ${JSON.stringify(told.slice(-10))}`);
      await new Promise(done => real.setTimeout(done, 10));
    }
  };
}
