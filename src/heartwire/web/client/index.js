// The module as applications import it.

import { baseOf } from "./arguments.js";
import { Client, connect, stream } from "./client.js";
import { HeartwireError } from "./errors.js";
import { lineGroups } from "./links.js";
import { Machine } from "./machine.js";
import { DEFAULTS, TRANSPORTS } from "./options.js";
import { noteText } from "./outputs.js";
import { sourceOf } from "./source.js";
import { verdict } from "./states.js";
import { Stream, StreamProducer } from "./streams.js";
import { Producing } from "./streams_producing.js";
import { Reading } from "./streams_reading.js";
import { cutEvents, Lost, Retry, streamUrl } from "./streams_wire.js";
import { Subscription } from "./subscription.js";
import { closedByHttp, retryAfterS } from "./wire.js";

/** For tests. */
const internals = Object.freeze({
  Lost,
  Machine,
  Producing,
  Reading,
  Retry,
  baseOf,
  closedByHttp,
  cutEvents,
  lineGroups,
  noteText,
  retryAfterS,
  sourceOf,
  streamUrl,
  verdict,
});

export {
  Client,
  connect,
  DEFAULTS,
  HeartwireError,
  internals,
  Stream,
  StreamProducer,
  Subscription,
  stream,
  TRANSPORTS,
};
