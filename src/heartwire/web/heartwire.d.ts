// Types of heartwire.js; docs/javascript.md says what everything means.

export type Transport = "websocket" | "sse" | "longpoll" | "poll";
export type State = "connecting" | "online" | "waiting" | "offline" | "closed";

/** "https://host/below", "wss://host", a URL, or its parts. */
export type Address = string | URL | { scheme?: "http" | "https" | "ws" | "wss"; host: string; port?: number; path?: string };

/** What the client decides by. Seconds and bytes, as the names say; every number is over 0. */
export interface Tuning {
  transports: readonly Transport[];
  first_transport: Transport | null;
  ping_interval_s: number;
  pong_timeout_s: number;
  probe_timeout_s: number;
  tick_s: number;
  open_timeout_s: number;
  open_timeout_cap_s: number;
  backoff_base_s: number;
  backoff_cap_s: number;
  later_s: number;
  stable_after_s: number;
  attempt_burst: number;
  attempt_rate_per_s: number;
  upgrade_after_s: number;
  upgrade_cap_s: number;
  poll_interval_s: number;
  poll_wait_s: number;
  max_pending_items: number;
  max_pending_bytes: number;
  max_pending_age_s: number;
  max_in_flight: number;
  max_message_bytes: number;
  max_queue_items: number;
  request_timeout_s: number;
  close_timeout_s: number;
}

export interface Options extends Partial<Tuning> {
  /** One that does not change. */
  token?: string;
  /** Asked whenever a token is needed: at first, before one runs out, and when the server refuses one. */
  get_token?: () => string | Promise<string>;
  /** For the server's `on_connect`. */
  data?: unknown;
  /** Sent with each HTTP request. */
  headers?: Record<string, string>;
  /** Closes the client. */
  signal?: AbortSignal;
  /** Remembers which transport worked; null: nothing does. */
  storage?: Pick<Storage, "getItem" | "setItem"> | null;
  /** Overrides the address, as the environment's HEARTWIRE_DEBUG_URL does in Node. */
  debug_url?: Address | null;
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
  is_bytes: boolean;
}

export interface Gap {
  channel: string;
  /** What came after this position ... */
  before: string;
  /** ... and up to this one can't be had any more. */
  after: string;
}

export interface Member {
  client: string;
  user: string;
  conn_info?: unknown;
  chan_info?: unknown;
}

export interface ClientEvents {
  open: { transport: Transport };
  message: Publication;
  close: { code: number; reason: string; was_open: boolean; /** -1: there is none */ next_attempt_s: number };
  error: { error: Error };
  state: { state: State; reason: string };
  gap: Gap;
  note: { text: string };
}

export interface SubscriptionEvents<T = any> {
  publication: Publication<T>;
  gap: Gap;
  subscribed: { position: string; was_recovered: boolean };
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
  addEventListener(name: string, hear: EventListenerOrEventListenerObject | null, options?: AddEventListenerOptions | boolean): void;
}

declare const Emitter: { new <Events>(): Emitter<Events> };

export class HeartwireError extends Error {
  constructor(code: number, message: string, is_unknown?: boolean);
  /** docs/codes.md; 0: the client itself gave up. */
  readonly code: number;
  /** Whether it may have been done all the same. */
  readonly is_unknown: boolean;
}

export class Subscription<T = any> extends Emitter<SubscriptionEvents<any>> implements AsyncIterable<Publication<T>> {
  private constructor();
  readonly channel: string;
  /** After the last publication that was handed out; "" before the server has said where it begins. */
  readonly position: string;
  /** Rejects with a HeartwireError where the server refuses. */
  readonly ready: Promise<this>;
  unsubscribe(): void;
  /** Leaving the loop ends the subscription. */
  [Symbol.asyncIterator](): AsyncIterator<Publication<T>>;
}

export interface SubscribeOptions {
  /** A position, or "earliest": the oldest that is kept. Else from now on. */
  since?: string | null;
  token?: string;
  signal?: AbortSignal;
  on_gap?: (gap: Gap) => void;
}

export class Client extends Emitter<ClientEvents> {
  constructor(url?: Address, options?: Options);
  readonly state: State;
  readonly transport: Transport | "";
  /** How many publishes are not answered yet. */
  readonly pending: number;
  readonly client_id: string;
  subscribe<T = any>(
    channel: string,
    callback?: ((publication: Publication<T>) => void) | null,
    options?: SubscribeOptions,
  ): Subscription<T>;
  /** Text, bytes, or anything that is JSON. Resolves to its position, "" where the server does not tell. */
  publish(channel: string, data: unknown, options?: { signal?: AbortSignal; idempotency_key?: string }): Promise<string>;
  /** By client id. */
  presence(channel: string): Promise<Record<string, Member>>;
  history<T = any>(
    channel: string,
    options?: { limit?: number; since?: string | null; reverse?: boolean },
  ): Promise<{ publications: Publication<T>[]; position: string }>;
  rpc<T = any>(method: string, data?: unknown): Promise<T>;
  /** Leave for good, once what was published is answered, or after close_timeout_s. */
  close(): Promise<void>;
}

/** A client that connects, and stays connected until it is closed. Without an address: the page's origin. */
export function connect(url?: Address, options?: Options): Client;

export const TRANSPORTS: readonly Transport[];
export const DEFAULTS: Readonly<Tuning>;

/** For tests. */
export const internals: Readonly<Record<string, unknown>>;
