// The text of a value inside a JSON text. `JSON.parse` rounds integers over 2^53; here they are as they came.

const isIn = (set, json, at) => at < json.length && set.includes(json[at]);

/** The next character that is neither white space nor a separator. */
function skip(json, at) {
  while (isIn(" \t\r\n:,", json, at)) at++;
  return at;
}

function endOfString(json, at) {
  for (at++; json[at] !== '"'; at++) if (json[at] === "\\") at++;
  return at + 1;
}

/** The end of the value that begins there. The text is known to be JSON. */
function endOf(json, at) {
  let depth = 0;
  do {
    at = skip(json, at);
    if (json[at] === '"') at = endOfString(json, at);
    else if (isIn("[{", json, at++)) depth++;
    else if (isIn("]}", json, at - 1)) depth--;
    else while (at < json.length && !isIn(" \t\r\n,]}", json, at)) at++;
  } while (depth);
  return at;
}

/** The text of the value at a path of names and indexes. */
export function sourceOf(json, path) {
  let at = skip(json, 0);
  for (const step of path) {
    const isObject = json[at] === "{";
    let found = -1;
    let n = 0;
    for (at = skip(json, at + 1); !isIn("]}", json, at); at = skip(json, endOf(json, at))) {
      let name = n++;
      if (isObject) {
        const end = endOf(json, at);
        name = JSON.parse(json.slice(at, end));
        at = skip(json, end);
      }
      if (name === step) found = at; // of two of a name the last counts
    }
    if (found < 0) return "null"; // what is missing is null
    at = found;
  }
  return json.slice(at, endOf(json, at));
}
