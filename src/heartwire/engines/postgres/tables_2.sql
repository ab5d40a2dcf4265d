-- What version 2 has beside that: stream records. In `streams`, a `removed` below 0 counts the ends of a stream.

CREATE TABLE heartwire.records (
    stream bigint PRIMARY KEY,
    revision bigint NOT NULL,
    record bytea NOT NULL,
    written_ms bigint NOT NULL,
    used_ms bigint NOT NULL,     -- when it was last written or touched, to a tenth of its lifetime
    ttl_s double precision NOT NULL,
    ends_ms bigint NOT NULL,
    look_ms bigint               -- when a sweep has to look whether it has ended; a write does not move it on
) WITH (fillfactor = 50);
CREATE INDEX ON heartwire.records (look_ms);

-- Lives of streams that have ended: publications that are to be deleted.
CREATE TABLE heartwire.gone (stream bigint PRIMARY KEY);

-- Counts them; begins again with each life of the store.
CREATE SEQUENCE heartwire.ended;
