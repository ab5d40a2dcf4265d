-- Heartwire's functions. "heartwire" stands for the schema's name. They are replaced while nodes of the version
-- before are at work, which goes on with them: what it calls keeps its arguments and results.
-- Functions that take given_ms read time from it where it is not NULL (tests do so), else from this server;
-- nodes' leases always from this server.

-- -- time, epochs, hints -----------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION heartwire.clock_ms(given_ms bigint) RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(given_ms, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
$$;

CREATE OR REPLACE FUNCTION heartwire.epoch_of(life text, channel text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT left(translate(encode(sha256(convert_to(life || ',' || channel, 'UTF8')), 'base64'), '+/', '-_'), 8)
$$;

CREATE OR REPLACE FUNCTION heartwire.tag(channel text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT left(md5(channel), 12)
$$;

-- Which server this is, and which of its histories: a promotion and a restore to a point in time begin
-- another timeline, a restart does not.
CREATE OR REPLACE FUNCTION heartwire.guard() RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT system_identifier || '-' || left(pg_walfile_name(pg_current_wal_lsn()), 8) FROM pg_control_system()
$$;

CREATE OR REPLACE FUNCTION heartwire.begin(version int) RETURNS void LANGUAGE sql AS $$
    INSERT INTO heartwire.meta
    VALUES (version, gen_random_uuid()::text, heartwire.clock_ms(NULL), heartwire.guard(), 1, 'renew')
$$;

-- Begin a new life where this is another server or timeline than it was: the end of what was answered may be
-- lost, and other publications get the same numbers. Lives are random, because two servers can be promoted
-- to one timeline. The epoch of a stream follows with its next use.
CREATE OR REPLACE FUNCTION heartwire.fence() RETURNS heartwire.meta LANGUAGE plpgsql AS $$
DECLARE
    m heartwire.meta;
    found_guard text;
BEGIN
    SELECT * INTO m FROM heartwire.meta;
    IF m.on_failover = 'renew' THEN
        found_guard := heartwire.guard();
        IF m.guard <> found_guard THEN
            UPDATE heartwire.meta SET guard = found_guard, life = gen_random_uuid()::text, fence = fence + 1
            WHERE guard <> found_guard;
            PERFORM pg_notify('heartwire', '*');
            SELECT * INTO m FROM heartwire.meta;
        END IF;
    END IF;
    RETURN m;
END
$$;

-- A notification has less than 8,000 bytes, a hint at most 34.
CREATE OR REPLACE FUNCTION heartwire.told(hints text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(hints) > 1200 THEN
        PERFORM pg_notify('heartwire', '*');
        RETURN;
    END IF;
    FOR i IN 1 .. coalesce(cardinality(hints), 0) BY 200 LOOP
        PERFORM pg_notify('heartwire', array_to_string(hints[i : i + 199], ','));
    END LOOP;
END
$$;

-- -- streams -----------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION heartwire.begin_stream(name text, m heartwire.meta, now_ms bigint) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO heartwire.streams (channel, epoch, fence, used_ms)
    VALUES (name, heartwire.epoch_of(m.life, name), m.fence, now_ms) ON CONFLICT DO NOTHING
$$;

CREATE OR REPLACE FUNCTION heartwire.epoch_now(s heartwire.streams, name text, m heartwire.meta) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN s.fence = m.fence THEN s.epoch ELSE heartwire.epoch_of(m.life, name) END
$$;

-- Begin the streams that are missing, and lock all. Returns the ids of those that are locked.
--
-- wait_ms: how long to wait for each stream that another transaction holds, before all fails; 0: leave those
-- out; NULL: as long as the session does.
CREATE OR REPLACE FUNCTION heartwire.hold(names text[], m heartwire.meta, wait_ms int, given_ms bigint)
RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    now_ms bigint := heartwire.clock_ms(given_ms);
    missing text;
    held bigint[];
BEGIN
    -- In one order everywhere, as the locks below: so two batches never wait for each other.
    FOR missing IN
        SELECT c FROM (SELECT DISTINCT unnest(names) COLLATE "C" AS c) AS g
        WHERE NOT EXISTS (SELECT FROM heartwire.streams s WHERE s.channel = c) ORDER BY c
    LOOP
        IF wait_ms = 0 THEN
            BEGIN
                PERFORM heartwire.begin_stream(missing, m, now_ms);
            EXCEPTION WHEN lock_not_available THEN
                NULL;
            END;
        ELSE
            PERFORM heartwire.begin_stream(missing, m, now_ms);
        END IF;
    END LOOP;
    IF wait_ms = 0 THEN
        SELECT array_agg(id) INTO held FROM (
            SELECT id FROM heartwire.streams WHERE channel = ANY (names) ORDER BY id FOR UPDATE SKIP LOCKED
        ) AS locked;
    ELSE
        SELECT array_agg(id) INTO held FROM (
            SELECT id FROM heartwire.streams WHERE channel = ANY (names) ORDER BY id FOR UPDATE
        ) AS locked;
    END IF;
    RETURN held;
END
$$;

-- Append a batch: arrays of the same length. Returns arrays, too. Where nths is NULL the stream is locked by
-- another transaction, and nothing was appended. wait_ms: see hold().
CREATE OR REPLACE FUNCTION heartwire.append(
    by_node text, batch bigint, wait_ms int, channels text[], payloads bytea[], texts boolean[], publishers bytea[],
    origins bigint[], keys text[], key_ttls_ms bigint[], given_ms bigint,
    OUT epochs text[], OUT nths bigint[], OUT news boolean[], OUT time_ms bigint
) LANGUAGE plpgsql SET jit = off SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    m heartwire.meta;
    last_batch bigint;
    held bigint[];
    hints text[];
    now_ms bigint;
BEGIN
    IF wait_ms IS NOT NULL THEN
        PERFORM set_config('lock_timeout', greatest(wait_ms, 5)::text, true);
    END IF;
    IF by_node IS NOT NULL THEN
        -- The connection that the batch came by first may be broken, and its statement still at work.
        PERFORM pg_advisory_xact_lock(hashtextextended('heartwire.batches ' || by_node, 0));
    END IF;
    m := heartwire.fence();
    SELECT b.number, b.nths, b.news, b.time_ms,
        (SELECT array_agg(heartwire.epoch_now(s, c, m) ORDER BY n)
         FROM unnest(channels) WITH ORDINALITY AS g(c, n) LEFT JOIN heartwire.streams s ON s.channel = c)
    INTO last_batch, nths, news, time_ms, epochs
    FROM heartwire.batches b WHERE b.node = by_node AND b.number >= batch;
    IF last_batch > batch THEN
        RAISE 'batch % comes after batch %', batch, last_batch;
    ELSIF last_batch = batch THEN
        RETURN;
    END IF;

    held := heartwire.hold(channels, m, wait_ms, given_ms);
    now_ms := heartwire.clock_ms(given_ms);
    WITH given AS (
        SELECT g.*, s.id, s.head, k.nth AS known, heartwire.epoch_now(s, g.channel, m) AS epoch
        FROM unnest(channels, payloads, texts, publishers, origins, keys, key_ttls_ms) WITH ORDINALITY
            AS g(channel, data, is_text, who, origin, key, key_ttl_ms, n)
        LEFT JOIN heartwire.streams s ON s.channel = g.channel AND s.id + 0 = ANY (held)  -- found by channel
        LEFT JOIN heartwire.keys k ON k.stream = s.id AND k.key = g.key AND k.until_ms > now_ms
    ), marked AS (
        SELECT *, id IS NOT NULL AND known IS NULL
            AND (key IS NULL OR row_number() OVER (PARTITION BY id, key ORDER BY n) = 1) AS is_new
        FROM given
    ), counted AS (
        SELECT *, head + count(*) FILTER (WHERE is_new) OVER (PARTITION BY id ORDER BY n) AS upto FROM marked
    ), placed AS (
        SELECT *, CASE WHEN is_new OR id IS NULL THEN upto
            ELSE coalesce(known, first_value(upto) OVER (PARTITION BY id, key ORDER BY n)) END AS nth
        FROM counted
    ), kept AS (
        INSERT INTO heartwire.publications (stream, nth, time_ms, origin, is_text, who, data)
        SELECT id, nth, now_ms, origin, is_text, who, data FROM placed WHERE is_new
    ), keyed AS (
        INSERT INTO heartwire.keys AS k (stream, key, nth, until_ms)
        SELECT id, key, nth, now_ms + key_ttl_ms FROM placed WHERE is_new AND key IS NOT NULL
        ON CONFLICT (stream, key) DO UPDATE SET nth = excluded.nth, until_ms = excluded.until_ms
    ), moved AS (
        UPDATE heartwire.streams s SET head = p.head, epoch = p.epoch, fence = m.fence, used_ms = now_ms
        FROM (SELECT id, max(nth) AS head, min(epoch) AS epoch FROM placed WHERE is_new GROUP BY id) AS p
        WHERE s.id = p.id
        RETURNING heartwire.tag(s.channel) || ':' || s.head AS hint
    )
    SELECT array_agg(epoch ORDER BY n), array_agg(nth ORDER BY n), array_agg(is_new ORDER BY n), now_ms,
        (SELECT array_agg(hint) FROM moved)
    INTO epochs, nths, news, time_ms, hints FROM placed;

    PERFORM heartwire.told(hints);
    IF by_node IS NOT NULL THEN
        INSERT INTO heartwire.batches VALUES (by_node, batch, now_ms, nths, news)
        ON CONFLICT (node) DO UPDATE SET number = excluded.number, time_ms = excluded.time_ms,
            nths = excluded.nths, news = excluded.news;
    END IF;
END
$$;

-- Publish as a part of the caller's transaction; returns the position. The stream is locked until it ends.
CREATE OR REPLACE FUNCTION heartwire.publish_bytes(
    channel text, data bytea, is_text boolean DEFAULT true, key text DEFAULT NULL, key_ttl_ms bigint DEFAULT 300000,
    who bytea DEFAULT NULL
) RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    place text;
BEGIN
    SELECT epochs[1] || '.' || nths[1] INTO place FROM heartwire.append(
        NULL, NULL, NULL, ARRAY[channel], ARRAY[data], ARRAY[is_text], ARRAY[who], ARRAY[0::bigint], ARRAY[key],
        ARRAY[key_ttl_ms], NULL);
    -- The stream is locked: it does not become one now.
    IF EXISTS (SELECT FROM heartwire.records r
               WHERE r.stream = (SELECT s.id FROM heartwire.streams s WHERE s.channel = publish_bytes.channel)) THEN
        RAISE 'channel % is a durable stream: append to it through a hub', quote_literal(channel);
    END IF;
    RETURN place;
END
$$;

-- The same for SQL: text, from a trigger, say.
CREATE OR REPLACE FUNCTION heartwire.publish(channel text, data text, key text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    IF octet_length(channel) NOT BETWEEN 1 AND 255 OR channel ~ '[[:cntrl:]]' THEN
        RAISE 'channel %: a name has 1 to 255 bytes of UTF-8 without control characters', quote_literal(channel);
    END IF;
    RETURN heartwire.publish_bytes(channel, convert_to(data, 'UTF8'), true, key);
END
$$;

-- Read several streams at one moment: arrays of the same length, a row for each publication, at least one for
-- each stream. A start is an epoch and a number, or NULL and 0 (the earliest) or -1 (now).
CREATE OR REPLACE FUNCTION heartwire.read(
    channels text[], epochs text[], afters bigint[], sizes bigint[], ttls_ms bigint[], limits bigint[],
    bytes bigint[], given_ms bigint
) RETURNS TABLE (
    n bigint, epoch text, head bigint, oldest bigint, removed bigint,
    nth bigint, time_ms bigint, origin bigint, is_text boolean, who bytea, data bytea
) LANGUAGE plpgsql SET jit = off SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    m heartwire.meta;
    now_ms bigint := heartwire.clock_ms(given_ms);
BEGIN
    m := heartwire.fence();
    RETURN QUERY
    SELECT g.n, e.epoch, h.head, o.oldest, coalesce(s.removed, 0),
        p.nth, p.time_ms, p.origin, p.is_text, p.who, p.data
    FROM unnest(channels, epochs, afters, sizes, ttls_ms, limits, bytes) WITH ORDINALITY
        AS g(channel, epoch, after, size, ttl_ms, most, most_bytes, n)
    LEFT JOIN heartwire.streams s ON s.channel = g.channel
    CROSS JOIN LATERAL (SELECT coalesce(s.head, 0) AS head) AS h
    CROSS JOIN LATERAL (SELECT heartwire.epoch_now(s, g.channel, m) AS epoch) AS e
    CROSS JOIN LATERAL (
        SELECT coalesce(CASE WHEN g.after >= 0 THEN (
            SELECT q.nth FROM heartwire.publications q
            WHERE q.stream = s.id AND q.nth > greatest(s.tail, s.head - g.size)
                AND q.time_ms >= greatest(0, now_ms - g.ttl_ms)
            ORDER BY q.nth LIMIT 1) END, h.head + 1) AS oldest
    ) AS o
    -- The same as plan_read of the contract, which answers from `oldest`.
    CROSS JOIN LATERAL (
        SELECT CASE WHEN g.after < 0 THEN h.head
            WHEN g.epoch = e.epoch AND g.after BETWEEN o.oldest - 1 AND h.head THEN g.after
            ELSE o.oldest - 1 END AS after
    ) AS a
    LEFT JOIN LATERAL (
        SELECT q.* FROM (
            SELECT r.*, sum(octet_length(r.data)) OVER (ORDER BY r.nth) - octet_length(r.data) AS before
            FROM (SELECT * FROM heartwire.publications t WHERE t.stream = s.id AND t.nth > a.after
                  ORDER BY t.nth LIMIT g.most) AS r
        ) AS q WHERE q.before < g.most_bytes
    ) AS p ON a.after < h.head
    ORDER BY g.n, p.nth;
END
$$;

CREATE OR REPLACE FUNCTION heartwire.remove(name text, OUT epoch text, OUT nth bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    m heartwire.meta;
    s heartwire.streams;
BEGIN
    PERFORM set_config('lock_timeout', '250', true);  -- it holds up the node's appends
    m := heartwire.fence();
    SELECT * INTO s FROM heartwire.streams WHERE channel = name FOR UPDATE;
    nth := coalesce(s.head, 0);
    epoch := heartwire.epoch_now(s, name, m);
    IF s.id IS NOT NULL THEN
        DELETE FROM heartwire.publications WHERE stream = s.id AND nth > s.tail AND nth <= s.head;
        UPDATE heartwire.streams SET tail = head, removed = head WHERE id = s.id;
        PERFORM heartwire.told(ARRAY[heartwire.tag(name) || ':-1']);
    END IF;
END
$$;

-- Have a stream of another store, or more of it: arrays of the same length.
CREATE OR REPLACE FUNCTION heartwire.restore(
    name text, its_epoch text, its_head bigint, nths bigint[], times_ms bigint[], texts boolean[],
    publishers bytea[], payloads bytea[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    m heartwire.meta;
BEGIN
    m := heartwire.fence();
    PERFORM heartwire.begin_stream(name, m, heartwire.clock_ms(NULL));
    UPDATE heartwire.streams SET epoch = its_epoch, fence = m.fence, head = its_head WHERE channel = name;
    INSERT INTO heartwire.publications (stream, nth, time_ms, origin, is_text, who, data)
    SELECT s.id, n, t, 0, x, w, d FROM heartwire.streams s, unnest(nths, times_ms, texts, publishers, payloads)
        AS g(n, t, x, w, d) WHERE s.channel = name
    ON CONFLICT DO NOTHING;  -- the statement was sent again
END
$$;

-- A stream has gone back in its epoch: a copy of the database was put in its place. It gets another one.
CREATE OR REPLACE FUNCTION heartwire.renew(name text, from_epoch text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    m heartwire.meta;
BEGIN
    PERFORM set_config('lock_timeout', '250', true);  -- it holds up the node's appends
    m := heartwire.fence();
    PERFORM heartwire.begin_stream(name, m, heartwire.clock_ms(NULL));
    UPDATE heartwire.streams s SET epoch = heartwire.epoch_of(gen_random_uuid()::text, name), fence = m.fence
    WHERE channel = name AND from_epoch = heartwire.epoch_now(s, name, m);
    PERFORM heartwire.told(ARRAY[heartwire.tag(name) || ':-1']);
END
$$;

-- -- sweeping: each in pieces, and by one node at a time ---------------------------------------------------

-- Forget keys and batches that have ended, and begin a new life every 30 days, or a million durable streams: a
-- stream is deleted only when it can not come back in the epoch that it had.
CREATE OR REPLACE FUNCTION heartwire.sweep_old(given_ms bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    now_ms bigint := heartwire.clock_ms(given_ms);
    day_ms CONSTANT bigint := 86400000;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('heartwire.sweep', 0)) THEN
        RETURN false;
    END IF;
    DELETE FROM heartwire.keys WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM heartwire.keys WHERE until_ms <= now_ms LIMIT 5000 FOR UPDATE SKIP LOCKED));
    DELETE FROM heartwire.batches b WHERE b.time_ms < now_ms - day_ms
        AND NOT EXISTS (SELECT FROM heartwire.nodes n WHERE n.node = b.node);
    DELETE FROM heartwire.mail WHERE time_ms < heartwire.clock_ms(NULL) - 60000;
    UPDATE heartwire.meta SET life = gen_random_uuid()::text, life_ms = now_ms
    WHERE life_ms < now_ms - 30 * day_ms OR (SELECT last_value FROM heartwire.ended) > 1000000;
    IF FOUND THEN
        PERFORM setval('heartwire.ended', 1);
    END IF;
    RETURN true;
END
$$;

-- The streams after an id, for sweep_streams.
CREATE OR REPLACE FUNCTION heartwire.streams_after(after bigint, most int) RETURNS TABLE (id bigint, channel text)
LANGUAGE sql AS $$
    SELECT id, channel FROM heartwire.streams WHERE id > after ORDER BY id LIMIT most
$$;

-- Delete what is past its retention, at most 5,000 of a stream, and streams that have been empty for long, or were
-- ended before the present life began. Streams with a record are kept whole. Returns the streams that have more.
CREATE OR REPLACE FUNCTION heartwire.sweep_streams(
    ids bigint[], sizes bigint[], ttls_ms bigint[], kept boolean[], given_ms bigint
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    now_ms bigint := heartwire.clock_ms(given_ms);
    m heartwire.meta;
    g record;
    s heartwire.streams;
    cut bigint;
    more bigint[] := '{}';
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('heartwire.sweep', 0)) THEN
        RETURN more;
    END IF;
    m := heartwire.fence();
    FOR g IN SELECT * FROM unnest(ids, sizes, ttls_ms, kept) AS g(id, size, ttl_ms, is_kept) ORDER BY id LOOP
        SELECT * INTO s FROM heartwire.streams
        WHERE id = g.id AND NOT EXISTS (SELECT FROM heartwire.records r WHERE r.stream = g.id);
        CONTINUE WHEN NOT FOUND;
        SELECT coalesce(min(p.nth) - 1, s.head) INTO cut FROM (
            SELECT nth FROM heartwire.publications
            WHERE stream = s.id AND nth > greatest(s.tail, s.head - g.size)
                AND time_ms >= greatest(0, now_ms - g.ttl_ms)
            ORDER BY nth LIMIT 1) AS p;
        IF cut > s.tail THEN
            IF cut > s.tail + 5000 THEN
                cut := s.tail + 5000;
                more := more || s.id;
            END IF;
            PERFORM FROM heartwire.streams WHERE id = s.id FOR UPDATE SKIP LOCKED;
            CONTINUE WHEN NOT FOUND;
            DELETE FROM heartwire.publications WHERE stream = s.id AND nth > s.tail AND nth <= cut;
            UPDATE heartwire.streams SET tail = greatest(tail, cut) WHERE id = s.id;
        ELSIF cut >= s.head AND NOT g.is_kept
            AND (s.used_ms < now_ms - 30 * 86400000::bigint OR (s.removed < 0 AND s.used_ms < m.life_ms))
            AND s.fence = m.fence AND s.epoch <> heartwire.epoch_of(m.life, s.channel)
            AND NOT EXISTS (SELECT FROM heartwire.keys k WHERE k.stream = s.id) THEN
            DELETE FROM heartwire.streams WHERE id = s.id AND head = s.head AND used_ms = s.used_ms;
        END IF;
    END LOOP;
    RETURN more;
END
$$;

-- -- nodes, members, users, mail ---------------------------------------------------------------------------

-- A node lives on. False: it was given up, and its members have left. NULL: it is not known here.
CREATE OR REPLACE FUNCTION heartwire.beat(name text, ttl_ms bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    now_ms bigint := heartwire.clock_ms(NULL);
    held boolean;
BEGIN
    SELECT until_ms > now_ms INTO held FROM heartwire.nodes WHERE node = name;
    INSERT INTO heartwire.nodes VALUES (name, now_ms + ttl_ms)
    ON CONFLICT (node) DO UPDATE SET until_ms = excluded.until_ms;
    RETURN held;
END
$$;

CREATE OR REPLACE FUNCTION heartwire.living() RETURNS text[] LANGUAGE sql AS $$
    SELECT coalesce(array_agg(node), '{}') FROM heartwire.nodes WHERE until_ms > heartwire.clock_ms(NULL)
$$;

-- A node ends.
CREATE OR REPLACE FUNCTION heartwire.quit(name text) RETURNS void LANGUAGE sql AS $$
    DELETE FROM heartwire.nodes WHERE node = name
$$;

-- Members of a node that are present now (NULL: that are not), each once.
CREATE OR REPLACE FUNCTION heartwire.set_members(
    by_node text, channels text[], clients text[], ttls_ms bigint[], members bytea[], given_ms bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    now_ms bigint := heartwire.clock_ms(given_ms);
BEGIN
    INSERT INTO heartwire.members
    SELECT c, l, by_node, now_ms + t, true, false, b
    FROM unnest(channels, clients, ttls_ms, members) AS g(c, l, t, b)
    WHERE b IS NOT NULL ORDER BY c COLLATE "C", l COLLATE "C"
    ON CONFLICT (channel, client) DO UPDATE SET node = excluded.node, until_ms = excluded.until_ms,
        is_present = true, member = excluded.member;
    UPDATE heartwire.members h SET is_present = false FROM unnest(channels, clients, members) AS g(c, l, b)
    WHERE h.channel = c AND h.client = l AND b IS NULL AND h.is_announced;
    DELETE FROM heartwire.members h USING unnest(channels, clients, members) AS g(c, l, b)
    WHERE h.channel = c AND h.client = l AND b IS NULL AND NOT h.is_announced;
END
$$;

-- Joins that were told before the server lost its members.
CREATE OR REPLACE FUNCTION heartwire.mark_announced(
    by_node text, channels text[], clients text[], members bytea[]
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO heartwire.members SELECT c, l, by_node, NULL, false, true, b
    FROM unnest(channels, clients, members) AS g(c, l, b) ORDER BY c COLLATE "C", l COLLATE "C"
    ON CONFLICT (channel, client) DO UPDATE SET is_announced = true
$$;

CREATE OR REPLACE FUNCTION heartwire.members_of(name text, given_ms bigint) RETURNS SETOF bytea LANGUAGE sql AS $$
    SELECT h.member FROM heartwire.members h
    JOIN heartwire.nodes n ON n.node = h.node AND n.until_ms > heartwire.clock_ms(NULL)
    WHERE h.channel = name AND h.is_present
        AND (h.until_ms IS NULL OR h.until_ms > heartwire.clock_ms(given_ms))
$$;

CREATE OR REPLACE FUNCTION heartwire.admit(
    by_node text, user_name bytea, by_client text, most bigint
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('heartwire.user ' || encode(user_name, 'hex'), 0));
    IF (SELECT count(*) FROM heartwire.users u
        JOIN heartwire.nodes n ON n.node = u.node AND n.until_ms > heartwire.clock_ms(NULL)
        WHERE u.name = user_name AND u.client <> by_client) >= most THEN
        RETURN false;
    END IF;
    INSERT INTO heartwire.users VALUES (user_name, by_client, by_node)
    ON CONFLICT (name, client) DO UPDATE SET node = excluded.node;
    RETURN true;
END
$$;

-- Send mail: arrays of the same length. A join or a leave has a channel and a client, and a body that begins
-- with + or -.
CREATE OR REPLACE FUNCTION heartwire.post(
    by_node text, receivers text[], channels text[], clients text[], bodies bytea[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    hints text[];
    g record;
BEGIN
    FOR g IN SELECT * FROM unnest(channels, clients, bodies) AS g(channel, client, body) WHERE client IS NOT NULL LOOP
        IF substr(g.body, 1, 1) = '+' THEN
            INSERT INTO heartwire.members VALUES (g.channel, g.client, by_node, NULL, false, true, substr(g.body, 2))
            ON CONFLICT (channel, client) DO UPDATE SET is_announced = true;
        ELSE
            DELETE FROM heartwire.members WHERE channel = g.channel AND client = g.client AND NOT is_present;
            UPDATE heartwire.members SET is_announced = false WHERE channel = g.channel AND client = g.client;
        END IF;
    END LOOP;
    WITH posted AS (
        INSERT INTO heartwire.mail (time_ms, sender, receiver, channel, body)
        SELECT heartwire.clock_ms(NULL), by_node, r, c, b
        FROM unnest(receivers, channels, bodies) WITH ORDINALITY AS g(r, c, b, n) ORDER BY n
        RETURNING id, receiver, channel
    )
    SELECT array_agg('@' || id || ':' || coalesce(heartwire.tag(channel), receiver, '*') ORDER BY id)
    INTO hints FROM posted;
    PERFORM heartwire.told(hints);
END
$$;

-- Remove, of nodes that live no more, the members, whose leaves are told, and the users' connections. By one
-- node at a time. Returns whether there may be more.
CREATE OR REPLACE FUNCTION heartwire.reap(by_node text, given_ms bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    now_ms bigint := heartwire.clock_ms(given_ms);
    live text[];
    gone int;
    channels text[];
    bodies bytea[];
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('heartwire.reap', 0)) THEN
        RETURN false;
    END IF;
    live := heartwire.living();
    WITH left_now AS (
        DELETE FROM heartwire.members h WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM heartwire.members WHERE node <> ALL (live)
                OR (until_ms <= now_ms AND NOT is_announced) LIMIT 500 FOR UPDATE SKIP LOCKED))
        RETURNING channel, member, is_announced
    )
    SELECT count(*), array_agg(channel) FILTER (WHERE is_announced), array_agg('-'::bytea || member) FILTER (WHERE is_announced)
    INTO gone, channels, bodies FROM left_now;
    IF bodies IS NOT NULL THEN
        PERFORM heartwire.post(by_node, NULL, channels, NULL, bodies);
    END IF;
    DELETE FROM heartwire.users WHERE node <> ALL (live);
    DELETE FROM heartwire.nodes WHERE until_ms < heartwire.clock_ms(NULL) - 600000;
    RETURN gone = 500;
END
$$;
