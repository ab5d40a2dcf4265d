// Values between applications and the wire: heartwire/client/received.py.

import { checkText, jsonOf } from "./arguments.js";
import { sourceOf } from "./source.js";

const toBase64 = bytes => {
  let binary = "";
  for (let at = 0; at < bytes.length; at += 0x8000)
    binary += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(binary);
};
const fromBase64 = encoded => Uint8Array.from(atob(encoded), character => character.charCodeAt(0));

/** The argument of `publish` as JSON text and its encoding: "text", "base64", or "" for JSON. */
export function encode(data) {
  if (typeof data === "string") {
    checkText("data", data);
    return [JSON.stringify(data), "text"];
  }
  if (data instanceof ArrayBuffer) return encode(new Uint8Array(data));
  if (ArrayBuffer.isView(data)) {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    return [`"${toBase64(bytes)}"`, "base64"];
  }
  return [jsonOf(data), ""];
}

/** A position as applications see it. */
export const tokenOf = (epoch, offset) => (epoch ? `${epoch}.${offset}` : "");

/** The position that a token stands for. Throws a `TypeError`. */
export function parsePosition(given) {
  const [, epoch, offset] = /^([A-Za-z0-9_-]{1,32})\.(0|[1-9][0-9]{0,15})$/.exec(given) ?? [];
  if (epoch === undefined) throw new TypeError(`${JSON.stringify(given)} is not a position`);
  return { epoch, offset: Number(offset) };
}

class Publication {
  #source;

  constructor(fields, source) {
    Object.assign(this, fields);
    this.#source = source;
  }

  /** The data as it came, for what JavaScript cannot hold: integers over 2^53. Looked up when it is read. */
  get json() {
    return sourceOf(...this.#source);
  }
}

/** `source`: the line of the server, and the path to the data in it. @returns {any} */
export function publication(channel, epoch, offset, data, encoding, user, client, source) {
  const isBytes = encoding === "base64";
  const value = isBytes ? fromBase64(data) : data;
  const position = tokenOf(epoch, offset);
  return new Publication({ channel, data: value, position, offset, user, client, isBytes }, source);
}

/** The result of a `history` request. */
export function historyOf(channel, { publications = [], epoch = "", offset = 0 }, line) {
  const made = publications.map(({ data, offset, tags, info }, n) => {
    const source = [line, ["history", "publications", n, "data"]];
    return publication(
      channel,
      epoch,
      offset,
      data,
      tags?.encoding,
      info?.user ?? "",
      info?.client ?? "",
      source,
    );
  });
  return { publications: made, position: tokenOf(epoch, offset) };
}

/** The result of a `presence` request, by client id. */
export function presenceOf({ presence = {} }) {
  const member = ({ client = "", user = "", conn_info: connInfo, chan_info: chanInfo }) => ({
    client,
    user,
    ...(connInfo !== undefined && { connInfo }),
    ...(chanInfo !== undefined && { chanInfo }),
  });
  return Object.fromEntries(Object.entries(presence).map(([id, one]) => [id, member(one)]));
}
