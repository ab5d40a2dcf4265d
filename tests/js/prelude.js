// Helpers of the test programs, wherever they run: Node, a page, a worker. `heartwire` is the module.
globalThis.until = (condition, what = condition) => {
  const end = performance.now() + 15000;
  return new Promise((done, failed) => {
    const look = () => {
      const value = condition();
      if (value) done(value);
      else if (performance.now() > end)
        failed(new Error(`not in time: ${what}; ${JSON.stringify(globalThis.told?.slice(-10))}`));
      else setTimeout(look, 10);
    };
    look();
  });
};

/** A client, and its events in `told`, as [name, detail]. */
globalThis.begin = (url, options) => {
  globalThis.told = [];
  globalThis.client = heartwire.connect(url, {
    backoffCapS: 0.2,
    attemptBurst: 100,
    storage: null,
    ...options,
  });
  for (const name of ["open", "close", "state", "gap", "note"])
    client.on(name, what => told.push([name, what]));
  client.on("error", ({ error }) => told.push(["error", { code: error.code, message: error.message }]));
  return client;
};
globalThis.heard = name => told.filter(([one]) => one === name).map(([, what]) => what);
