// Outputs of the machine: [name, ...fields], as the classes of heartwire/client/outputs.py.

/** @typedef {[name: string, ...fields: any[]]} Output */

/**
 * The fields of a note: a change of transport that people may want to see.
 *   movedUp      `transport` is left for the better `next`
 *   steppedDown  `transport` does not work (`reason`): `next` is tried
 *   notYet       a better `transport` still does not work (`reason`)
 *   pollsCut     something between client and server cuts long polls; `reason` says what the client does
 *   unavailable  this runtime does not have `transport` (`reason`)
 * @typedef {"movedUp" | "steppedDown" | "notYet" | "pollsCut" | "unavailable"} NoteKind
 */

const NOTES = {
  movedUp: (transport, _, next) => `moved up from ${transport} to ${next}`,
  steppedDown: (transport, reason, next) => `${transport}: ${reason}; trying ${next}`,
  notYet: (transport, reason) => `${transport} does not work yet: ${reason}`,
  pollsCut: (_, reason) => `long polls are cut in between: ${reason}`,
  unavailable: (_, reason) => reason,
};

/** A note in words. */
export const noteText = (kind, transport, reason, next) => NOTES[kind](transport, reason, next);

/** A number as Python's `:g` formats it, where it is neither huge nor tiny. */
export const general = value => String(Number(value.toPrecision(6)));

/** A number as Python's `:.1f` formats it: an exact half goes to the even digit. */
export const oneDecimal = value => (value % 1 === 0.25 ? value - 0.01 : value).toFixed(1);
