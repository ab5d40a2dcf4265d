-- Heartwire's tables, of version 1 of the schema. "heartwire" stands for its name. An installation may have been
-- made by this file: what comes later is added by the next.

CREATE TABLE heartwire.meta (
    version int NOT NULL,
    life text NOT NULL,          -- epochs of streams that begin now derive from it
    life_ms bigint NOT NULL,
    guard text NOT NULL,         -- the server, and its timeline: see fence()
    fence bigint NOT NULL,       -- counts the guards there were
    on_failover text NOT NULL    -- renew, or trust: see fence()
);

CREATE TABLE heartwire.streams (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel text COLLATE "C" NOT NULL UNIQUE,
    epoch text NOT NULL,
    fence bigint NOT NULL,       -- the epoch is another where this is not that of meta
    head bigint NOT NULL DEFAULT 0,
    tail bigint NOT NULL DEFAULT 0,     -- up to it all publications were deleted
    removed bigint NOT NULL DEFAULT 0,  -- where the head was at the last remove()
    used_ms bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE heartwire.publications (
    stream bigint NOT NULL,
    nth bigint NOT NULL,
    time_ms bigint NOT NULL,
    origin bigint NOT NULL,      -- node and link that it came in by; 0: none
    is_text boolean NOT NULL,
    who bytea,                   -- its publisher; NULL: none
    data bytea NOT NULL,
    PRIMARY KEY (stream, nth)
);

CREATE TABLE heartwire.keys (
    stream bigint NOT NULL,
    key text COLLATE "C" NOT NULL,
    nth bigint NOT NULL,
    until_ms bigint NOT NULL,
    PRIMARY KEY (stream, key)
);
CREATE INDEX ON heartwire.keys (until_ms);

-- The last batch of each node, for one that is sent again because its answer was lost.
CREATE TABLE heartwire.batches (
    node text PRIMARY KEY,
    number bigint NOT NULL,
    time_ms bigint NOT NULL,
    nths bigint[] NOT NULL,
    news boolean[] NOT NULL
);

-- What follows is written anew by its node when it is lost, so it does not burden the log.

CREATE UNLOGGED TABLE heartwire.nodes (node text PRIMARY KEY, until_ms bigint NOT NULL);

CREATE UNLOGGED TABLE heartwire.members (
    channel text COLLATE "C" NOT NULL,
    client text COLLATE "C" NOT NULL,
    node text NOT NULL,
    until_ms bigint,             -- NULL: as long as its node
    is_present boolean NOT NULL,
    is_announced boolean NOT NULL, -- a join was told, so a leave has to be
    member bytea NOT NULL,
    PRIMARY KEY (channel, client)
);
CREATE INDEX ON heartwire.members (node);

CREATE UNLOGGED TABLE heartwire.users (
    name bytea NOT NULL,
    client text COLLATE "C" NOT NULL,
    node text NOT NULL,
    PRIMARY KEY (name, client)
);
CREATE INDEX ON heartwire.users (node);

CREATE UNLOGGED TABLE heartwire.mail (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    time_ms bigint NOT NULL,
    sender text NOT NULL,
    receiver text,               -- a node; NULL: all others, or those that watch the channel
    channel text,                -- of a join or a leave
    body bytea NOT NULL
);
