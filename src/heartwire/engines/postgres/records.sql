-- Functions for stream records: see `Records` of the engine contract.
--
-- A stream that ends gets another id, and its row another epoch, so that this takes no longer for a long stream.
-- The publications of the old id are deleted by sweeps.

-- When a record ends; NULL: never.
CREATE OR REPLACE FUNCTION heartwire.ends_at(used_ms bigint, ttl_s double precision, ends_ms bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT least(CASE WHEN ttl_s > 0 THEN used_ms + ceil(ttl_s * 1000)::bigint END, nullif(ends_ms, 0))
$$;

CREATE OR REPLACE FUNCTION heartwire.is_live(r heartwire.records, now_ms bigint) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(heartwire.ends_at(r.used_ms, r.ttl_s, r.ends_ms) > now_ms, true)
$$;

CREATE OR REPLACE FUNCTION heartwire.records_of(names text[], given_ms bigint) RETURNS TABLE (
    epoch text, head bigint, revision bigint, record bytea, written_ms bigint, ttl_s double precision, ends_ms bigint,
    now_ms bigint
) LANGUAGE plpgsql SET jit = off SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    m heartwire.meta;
    time_ms bigint := heartwire.clock_ms(given_ms);
BEGIN
    m := heartwire.fence();
    RETURN QUERY
    SELECT heartwire.epoch_now(s, g.name, m), coalesce(s.head, 0), r.revision, r.record, r.written_ms, r.ttl_s,
        r.ends_ms, time_ms
    FROM unnest(names) WITH ORDINALITY AS g(name, n)
    LEFT JOIN heartwire.streams s ON s.channel = g.name
    LEFT JOIN heartwire.records r ON r.stream = s.id AND heartwire.is_live(r, time_ms)
    ORDER BY g.n;
END
$$;

-- Forget publications and records of streams that are locked, and begin another epoch. Returns their new ids.
CREATE OR REPLACE FUNCTION heartwire.end_streams(ids bigint[], m heartwire.meta, now_ms bigint) RETURNS bigint[]
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    anew bigint[];
    hints text[];
BEGIN
    DELETE FROM heartwire.records WHERE stream = ANY (ids);
    INSERT INTO heartwire.gone SELECT id FROM heartwire.streams WHERE id = ANY (ids) AND head > tail;
    PERFORM nextval('heartwire.ended') FROM unnest(ids);
    WITH moved AS (
        -- Below 0 `removed` counts the ends, so that nodes notice each.
        UPDATE heartwire.streams s SET id = DEFAULT, epoch = heartwire.epoch_of(gen_random_uuid()::text, s.channel),
            fence = m.fence, head = 0, tail = 0, removed = least(s.removed, 0) - 1, used_ms = now_ms
        WHERE s.id = ANY (ids)
        RETURNING s.id, heartwire.tag(s.channel) || ':-1' AS hint
    )
    SELECT array_agg(id), array_agg(hint) INTO anew, hints FROM moved;
    PERFORM heartwire.told(hints);
    RETURN anew;
END
$$;

-- Change the records of streams, each named once, where they have the revision that is expected, and append:
-- arrays of the same length, and those of all messages, with the number of their stream (its `owner`) and their
-- own, counted from 1. Returns arrays, too: what was there before, with a new epoch where one had to begin. Where
-- epochs is NULL the stream is locked by another transaction, and nothing was done.
--
-- record: NULL ends the stream. wait_ms: see hold(). after: is not looked at; it lets a query do this last.
CREATE OR REPLACE FUNCTION heartwire.write(
    after bigint, wait_ms int, names text[], expects bigint[], revisions bigint[], records bytea[],
    ttls_s double precision[], ends_ms bigint[], counts bigint[],
    owners int[], numbers int[], payloads bytea[], texts boolean[], publishers bytea[], origins bigint[],
    given_ms bigint,
    OUT epochs text[], OUT heads bigint[], OUT made boolean[], OUT old_revisions bigint[], OUT old_records bytea[],
    OUT old_written_ms bigint[], OUT old_ttls_s double precision[], OUT old_ends_ms bigint[], OUT now_ms bigint
) LANGUAGE plpgsql SET jit = off SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    m heartwire.meta;
    ids bigint[];
    held bigint[];
    ended bigint[];
    hints text[];
    time_ms bigint;
BEGIN
    IF wait_ms IS NOT NULL THEN
        PERFORM set_config('lock_timeout', greatest(wait_ms, 5)::text, true);
    END IF;
    m := heartwire.fence();
    held := heartwire.hold(names, m, wait_ms, given_ms);
    now_ms := heartwire.clock_ms(given_ms);
    time_ms := now_ms;

    SELECT array_agg(s.id) INTO ended
    FROM unnest(names, expects, records) AS g(name, expect, record)
    JOIN heartwire.streams s ON s.channel = g.name AND s.id + 0 = ANY (held)  -- found by channel
    LEFT JOIN heartwire.records r ON r.stream = s.id AND heartwire.is_live(r, time_ms)
    WHERE coalesce(r.revision, 0) = g.expect AND (g.record IS NULL OR (g.expect = 0 AND s.head > 0));
    IF ended IS NOT NULL THEN
        held := held || heartwire.end_streams(ended, m, time_ms);
    END IF;

    SELECT array_agg(f.id ORDER BY n), array_agg(epoch ORDER BY n), array_agg(head ORDER BY n),
        array_agg(is_made ORDER BY n), array_agg(revision ORDER BY n),
        array_agg(CASE WHEN NOT is_made THEN record END ORDER BY n),
        array_agg(written_ms ORDER BY n), array_agg(ttl_s ORDER BY n), array_agg(f.ends_ms ORDER BY n)
    INTO ids, epochs, heads, made, old_revisions, old_records, old_written_ms, old_ttls_s, old_ends_ms
    FROM (
        SELECT g.n, coalesce(s.id, 0) AS id, coalesce(s.head, 0) AS head, r.revision, r.record, r.written_ms, r.ttl_s,
            r.ends_ms, CASE WHEN s.id IS NOT NULL THEN heartwire.epoch_now(s, g.name, m) END AS epoch,
            s.id IS NOT NULL AND g.record IS NOT NULL AND coalesce(r.revision, 0) = g.expect AS is_made
        FROM unnest(names, expects, records) WITH ORDINALITY AS g(name, expect, record, n)
        LEFT JOIN heartwire.streams s ON s.channel = g.name AND s.id + 0 = ANY (held)
        LEFT JOIN heartwire.records r ON r.stream = s.id AND heartwire.is_live(r, time_ms)
    ) AS f;

    INSERT INTO heartwire.publications (stream, nth, time_ms, origin, is_text, who, data)
    SELECT ids[g.owner], heads[g.owner] + g.number, time_ms, g.origin, g.is_text, g.who, g.data
    FROM unnest(owners, numbers, payloads, texts, publishers, origins) AS g(owner, number, data, is_text, who, origin)
    WHERE made[g.owner];

    WITH moved AS (
        UPDATE heartwire.streams s
        SET head = s.head + g.count, epoch = g.epoch, fence = m.fence, used_ms = time_ms
        FROM unnest(ids, epochs, counts, made) AS g(id, epoch, count, is_made)
        WHERE g.is_made AND s.id = g.id
        RETURNING heartwire.tag(s.channel) || ':' || s.head AS hint, g.count
    )
    SELECT array_agg(hint) FILTER (WHERE count > 0) INTO hints FROM moved;

    INSERT INTO heartwire.records AS r (stream, revision, record, written_ms, used_ms, ttl_s, ends_ms, look_ms)
    SELECT id, revision, record, time_ms, time_ms, ttl_s, g.ends_ms, heartwire.ends_at(time_ms, ttl_s, g.ends_ms)
    FROM unnest(ids, revisions, records, ttls_s, ends_ms, made) AS g(id, revision, record, ttl_s, ends_ms, is_made)
    WHERE is_made
    ON CONFLICT (stream) DO UPDATE SET revision = excluded.revision, record = excluded.record,
        written_ms = excluded.written_ms, used_ms = excluded.used_ms, ttl_s = excluded.ttl_s,
        ends_ms = excluded.ends_ms, look_ms = least(r.look_ms, excluded.look_ms);
    PERFORM heartwire.told(hints);
END
$$;

-- Streams are used, at times or (NULL) now. One that is being written is left out: it is used by that.
CREATE OR REPLACE FUNCTION heartwire.touch(names text[], times_ms bigint[]) RETURNS void LANGUAGE sql AS $$
    UPDATE heartwire.records r SET used_ms = g.now_ms FROM (
        SELECT t.stream, heartwire.clock_ms(n.given_ms) AS now_ms
        FROM unnest(names, times_ms) AS n(name, given_ms)
        JOIN heartwire.streams s ON s.channel = n.name
        JOIN heartwire.records t ON t.stream = s.id
        WHERE t.ttl_s > 0 AND heartwire.is_live(t, heartwire.clock_ms(n.given_ms))
            AND heartwire.clock_ms(n.given_ms) > t.used_ms + t.ttl_s * 100
        FOR UPDATE OF t SKIP LOCKED
    ) AS g WHERE r.stream = g.stream
$$;

-- The record of a stream of another store, after restore() of this stream.
CREATE OR REPLACE FUNCTION heartwire.restore_record(
    name text, its_revision bigint, its_record bytea, its_ttl_s double precision, its_ends_ms bigint, given_ms bigint
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO heartwire.records (stream, revision, record, written_ms, used_ms, ttl_s, ends_ms, look_ms)
    SELECT s.id, its_revision, its_record, t, t, its_ttl_s, its_ends_ms, heartwire.ends_at(t, its_ttl_s, its_ends_ms)
    FROM heartwire.streams s, heartwire.clock_ms(given_ms) AS t WHERE s.channel = name
    ON CONFLICT DO NOTHING  -- the statement was sent again
$$;

-- End the streams whose time has come, at most 500, and delete at most 5,000 publications of those that have ended.
-- By one node at a time. Returns whether there may be more.
CREATE OR REPLACE FUNCTION heartwire.sweep_records(given_ms bigint) RETURNS boolean LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    time_ms bigint := heartwire.clock_ms(given_ms);
    m heartwire.meta;
    due bigint[];
    ended bigint[];
    old bigint[];
    deleted int;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('heartwire.sweep', 0)) THEN
        RETURN false;
    END IF;
    m := heartwire.fence();
    due := ARRAY(
        SELECT s.id FROM heartwire.records r JOIN heartwire.streams s ON s.id = r.stream
        WHERE r.look_ms <= time_ms ORDER BY r.look_ms LIMIT 500 FOR UPDATE OF s SKIP LOCKED);
    UPDATE heartwire.records r SET look_ms = heartwire.ends_at(r.used_ms, r.ttl_s, r.ends_ms)
    WHERE r.stream = ANY (due) AND heartwire.is_live(r, time_ms);
    ended := ARRAY(
        SELECT r.stream FROM heartwire.records r
        WHERE r.stream = ANY (due) AND NOT heartwire.is_live(r, time_ms) FOR UPDATE);
    IF cardinality(ended) > 0 THEN
        PERFORM heartwire.end_streams(ended, m, time_ms);
    END IF;

    old := ARRAY(SELECT g.stream FROM heartwire.gone g ORDER BY g.stream LIMIT 500);
    DELETE FROM heartwire.publications WHERE ctid = ANY (ARRAY(
        SELECT p.ctid FROM heartwire.publications p WHERE p.stream = ANY (old) LIMIT 5000));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    DELETE FROM heartwire.gone g WHERE g.stream = ANY (old)
        AND NOT EXISTS (SELECT FROM heartwire.publications p WHERE p.stream = g.stream);
    RETURN cardinality(due) = 500 OR cardinality(old) = 500 OR deleted = 5000;
END
$$;
