// Arguments of applications, checked before they can do harm.

/** How many letters have to change for one name to become the other (Levenshtein). */
function distance(one, other) {
  let row = Array.from({ length: other.length + 1 }, (_, at) => at);
  for (const [n, letter] of [...one].entries()) {
    const next = [n + 1];
    for (let at = 1; at < row.length; at++)
      next.push(Math.min(row[at] + 1, next[at - 1] + 1, row[at - 1] + (letter === other[at - 1] ? 0 : 1)));
    row = next;
  }
  return row[other.length];
}

/** So that Python's name of an option, such as `ping_interval_s`, is near. */
const plainName = name => name.toLowerCase().replaceAll("_", "");

/**
 * Throws a `TypeError` for an option that does not exist, with the name that was probably meant.
 * @param {object} given
 * @param {string[]} known
 */
export function checkNames(given, known) {
  for (const name of Object.keys(given)) {
    if (known.includes(name)) continue;
    const distances = known.map(one => distance(plainName(one), plainName(name)));
    const least = Math.min(...distances);
    const hint =
      least <= 2
        ? `did you mean "${known[distances.indexOf(least)]}"?`
        : `the options are ${known.join(", ")}`;
    throw new TypeError(`unknown option "${name}": ${hint}`);
  }
}

/** Throws a `TypeError` for a key that the server would refuse; "" means that there is none. */
export function checkIdempotencyKey(key) {
  if (typeof key !== "string" || !/^[!-~]{0,255}$/.test(key))
    throw new TypeError(`idempotencyKey: ${JSON.stringify(key)} is not 1 to 255 visible ASCII characters`);
}

/**
 * The address of a server for fetch. Without an argument: the origin of the page.
 * @param {any} given "https://host", "ws://host/below", a URL, or {scheme, host, port, path}
 */
export function baseOf(given) {
  const { scheme = "http", host, port, path = "" } = given;
  const parts = `${scheme}://${host}${port ? `:${port}` : ""}/${path}`.replace(/([^:]\/)\/+/g, "$1");
  const url = new URL(host && !(given instanceof URL) ? parts : given, globalThis.location?.href);
  const protocol = { "ws:": "http:", "wss:": "https:" }[url.protocol] ?? url.protocol;
  if (protocol !== "http:" && protocol !== "https:") throw new TypeError(`${url}: http, https, ws or wss`);
  return `${protocol}//${url.host}${url.pathname.replace(/\/+$/, "")}`;
}
