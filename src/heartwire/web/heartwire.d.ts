// Types of heartwire.js, checked against it by `make check`; docs/javascript.md says what everything means.

export type Transport = "websocket" | "sse" | "longpoll" | "poll";
export type State = "connecting" | "online" | "waiting" | "offline" | "closed";

/** "https://host/below", "wss://host", a URL, or its parts. */
export type Address =
  | string
  | URL
  | { scheme?: "http" | "https" | "ws" | "wss"; host: string; port?: number; path?: string };

/** How the client decides. Seconds and bytes, as the names say; every number is over 0. */
export interface Tuning {
  transports: readonly Transport[];
  firstTransport: Transport | null;
  pingIntervalS: number;
  pongTimeoutS: number;
  probeTimeoutS: number;
  tickS: number;
  openTimeoutS: number;
  openTimeoutCapS: number;
  backoffBaseS: number;
  backoffCapS: number;
  laterS: number;
  stableAfterS: number;
  attemptBurst: number;
  attemptRatePerS: number;
  upgradeAfterS: number;
  upgradeCapS: number;
  pollIntervalS: number;
  pollWaitS: number;
  maxPendingItems: number;
  maxPendingBytes: number;
  maxPendingAgeS: number;
  maxInFlight: number;
  maxMessageBytes: number;
  maxQueueItems: number;
  requestTimeoutS: number;
  closeTimeoutS: number;
}

export interface Options extends Partial<Tuning> {
  /** One that does not change. */
  token?: string;
  /** Called whenever a token is needed: at first, before one expires, and when the server refuses one. */
  getToken?: () => string | Promise<string>;
  /** For the server's `onConnect`. */
  data?: unknown;
  /** Sent with each HTTP request. */
  headers?: Record<string, string>;
  /** Closes the client. */
  signal?: AbortSignal;
  /** Remembers which transport worked; null: nothing does. */
  storage?: Pick<Storage, "getItem" | "setItem"> | null;
  /** Overrides the address, as the environment's HEARTWIRE_DEBUG_URL does in Node. */
  debugUrl?: Address | null;
  /** The class to use where there is none of its own, such as that of the package ws. */
  WebSocket?: unknown;
  /** What to make HTTP requests with. */
  fetch?: typeof fetch;
}

/** One message in a channel. */
export interface Publication<T = any> {
  channel: string;
  /** The value; a string where text, a Uint8Array where bytes were published. */
  data: T;
  /** To go on from: `subscribe(channel, callback, { since: position })`. */
  position: string;
  offset: number;
  /** Who published, where that is known. */
  user: string;
  client: string;
  isBytes: boolean;
  /** The JSON of `data` as it came, with integers over 2^53. A copy (structured clone) does not have it. */
  readonly json: string;
}

export interface Gap {
  channel: string;
  /** The publications after this position ... */
  before: string;
  /** ... and up to this one are lost. */
  after: string;
}

export interface Member {
  client: string;
  user: string;
  connInfo?: unknown;
  chanInfo?: unknown;
}

/** A change of transport. */
export interface Note {
  /**
   * movedUp: `transport` is left for the better `next`. steppedDown: `transport` does not work, and `next` is
   * tried. notYet: a better `transport` still does not work. pollsCut: something between client and server
   * cuts long polls. unavailable: this runtime does not have `transport`.
   */
  kind: "movedUp" | "steppedDown" | "notYet" | "pollsCut" | "unavailable";
  transport: Transport;
  /** Why, or what the client does about it. */
  reason: string;
  /** Tried from now on; "" where that does not change. */
  next: Transport | "";
  /** All of it in words. */
  text: string;
}

export interface ClientEvents {
  open: { transport: Transport };
  message: Publication;
  close: { code: number; reason: string; wasOpen: boolean /** -1: there is none */; nextAttemptS: number };
  error: { error: Error };
  /** `transport`: in use, or being tried. */
  state: { state: State; transport: Transport | ""; reason: string };
  gap: Gap;
  note: Note;
}

/** Why a stream was closed: its producer was done, or failed; somebody stopped it; its producer is dead. */
export type EndReason = "done" | "error" | "aborted" | "interrupted";

export interface SubscriptionEvents<T = any> {
  publication: Publication<T>;
  gap: Gap;
  subscribed: { position: string; wasRecovered: boolean };
  /** The durable stream that the channel is was closed, and all of it has come; `unsubscribed` follows. */
  end: { reason: EndReason };
  unsubscribed: { code: number; reason: string };
}

interface Emitter<Events> extends EventTarget {
  /** Returns how to end it. */
  on<Name extends keyof Events & string>(name: Name, hear: (what: Events[Name]) => void): () => void;
  once<Name extends keyof Events & string>(name: Name, hear: (what: Events[Name]) => void): () => void;
  addEventListener<Name extends keyof Events & string>(
    name: Name,
    hear: ((event: CustomEvent<Events[Name]>) => void) | null,
    options?: AddEventListenerOptions | boolean,
  ): void;
  addEventListener(
    name: string,
    hear: EventListenerOrEventListenerObject | null,
    options?: AddEventListenerOptions | boolean,
  ): void;
}

declare const Emitter: { new <Events>(): Emitter<Events> };

export class HeartwireError extends Error {
  constructor(code: number, message: string, isUnknown?: boolean, reason?: string);
  /** docs/codes.md; 0: the client itself gave up. */
  readonly code: number;
  /** Whether it may have been done all the same. */
  readonly isUnknown: boolean;
  /** The name of the code, of requests to streams; else "". */
  readonly reason: string;
}

export class Subscription<T = any>
  extends Emitter<SubscriptionEvents<any>>
  implements AsyncIterable<Publication<T>>
{
  private constructor();
  readonly channel: string;
  /** After the last publication that was handed out; "" before the server has said where it begins. */
  readonly position: string;
  /** "" before the end of a durable stream has come. An iteration ends after the last publication. */
  readonly end: EndReason | "";
  /** Rejects with a HeartwireError where the server refuses. */
  readonly ready: Promise<this>;
  unsubscribe(): void;
  /** Leaving the loop ends the subscription. */
  [Symbol.asyncIterator](): AsyncIterator<Publication<T>>;
}

/** What a server says of a stream. */
export interface StreamHead {
  contentType: string;
  /** Its tail. */
  offset: string;
  closed: boolean;
  /** Seconds after its last use that it ends; null: not by its age. */
  ttlS: number | null;
}

/** Appends to one stream, each exactly once, in order. Once one has failed, so do all after it. */
export class StreamProducer {
  private constructor();
  readonly id: string;
  readonly epoch: number;
  /** Resolves to the offset after it, once the server has it. Not awaited, it waits its turn. */
  append(data: unknown): Promise<string>;
  /** Resolves to the offset after all that was appended so far, once the server has it. */
  flush(): Promise<string>;
  /** Closes the stream for good, in one step with the last append. */
  close(data?: unknown): Promise<string>;
}

/** One durable stream, for one reader at a time and any number of producers. */
export class Stream<T = any> implements AsyncIterable<T> {
  private constructor();
  readonly url: string;
  /** Where to go on. It moves as the last value of an answer is handed out. */
  readonly offset: string;
  /** Whether the last answer said that nothing will be appended any more. */
  readonly closed: boolean;
  readonly contentType: string;
  /** The messages of a JSON stream; else strings (text) or Uint8Arrays, in pieces of any size. */
  read(options?: {
    /** "-1": from the start; "now"; else on from where it is. */
    offset?: string | null;
    /** false: to the tail; true: until it is closed; "long-poll": without an event stream. */
    live?: boolean | "long-poll";
    signal?: AbortSignal;
  }): AsyncGenerator<T, void, undefined>;
  [Symbol.asyncIterator](): AsyncGenerator<T, void, undefined>;
  /** Resolves to whether it is new. */
  create(options?: { contentType?: string; ttlS?: number | null; closed?: boolean }): Promise<boolean>;
  head(): Promise<StreamHead>;
  /** Closes it for good, after one last append where there is data. */
  close(data?: unknown): Promise<void>;
  delete(): Promise<void>;
  producer(options?: { id?: string | null; epoch?: number; autoClaim?: boolean }): StreamProducer;
}

export interface SubscribeOptions {
  /** A position, or "earliest": the oldest that is kept. Else from now on. */
  since?: string | null;
  token?: string;
  signal?: AbortSignal;
  onGap?: (gap: Gap) => void;
}

export class Client extends Emitter<ClientEvents> {
  constructor(url?: Address, options?: Options);
  readonly state: State;
  readonly transport: Transport | "";
  /** How many publishes are not answered yet. */
  readonly pending: number;
  readonly clientId: string;
  subscribe<T = any>(
    channel: string,
    callback?: ((publication: Publication<T>) => void) | null,
    options?: SubscribeOptions,
  ): Subscription<T>;
  /** Text, bytes, or anything that is JSON. Resolves to its position, "" where it has none. */
  publish(
    channel: string,
    data: unknown,
    options?: { signal?: AbortSignal; idempotencyKey?: string },
  ): Promise<string>;
  /** A durable stream, by its name or its whole address, over requests of its own. */
  stream<T = any>(name: string, options?: { path?: string }): Stream<T>;
  /** By client id. */
  presence(channel: string): Promise<Record<string, Member>>;
  history<T = any>(
    channel: string,
    options?: { limit?: number; since?: string | null; reverse?: boolean },
  ): Promise<{ publications: Publication<T>[]; position: string }>;
  rpc<T = any>(method: string, data?: unknown): Promise<T>;
  /** Leaves for good, once all publishes are answered, or after closeTimeoutS. */
  close(): Promise<void>;
}

/** A client that connects, and stays connected until it is closed. Without an address: the page's origin. */
export function connect(url?: Address, options?: Options): Client;

/** A durable stream at an address, on any server, without a client. */
export function stream<T = any>(url: string | URL, options?: Options): Stream<T>;

export const TRANSPORTS: readonly Transport[];
export const DEFAULTS: Readonly<Tuning>;

/** For tests. */
export const internals: Readonly<Record<string, unknown>>;
