// The module as applications import it.

import { baseOf } from "./arguments.js";
import { Client, connect } from "./client.js";
import { HeartwireError } from "./errors.js";
import { lineGroups } from "./links.js";
import { Machine } from "./machine.js";
import { DEFAULTS, TRANSPORTS } from "./options.js";
import { noteText } from "./outputs.js";
import { sourceOf } from "./source.js";
import { verdict } from "./states.js";
import { Subscription } from "./subscription.js";
import { closedByHttp, retryAfterS } from "./wire.js";

/** For tests. */
const internals = Object.freeze({
  Machine,
  baseOf,
  closedByHttp,
  lineGroups,
  noteText,
  retryAfterS,
  sourceOf,
  verdict,
});

export { Client, connect, DEFAULTS, HeartwireError, internals, Subscription, TRANSPORTS };
