-- Single flight: identical steps that are in flight at the same time, in any run and replica, execute once.

-- ---------------------------------------------------------------- tables

CREATE TABLE cache_flights (
    flight bytea PRIMARY KEY,
    run bigint NOT NULL,
    step integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT cache_flight_is_16_bytes CHECK (length(flight) = 16)
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE cache_flights IS
    'Which step executes for a tenant, key and fingerprint right now; goes with whatever ends that step.';
COMMENT ON COLUMN cache_flights.flight IS 'First half of the SHA-256 of tenant, key and fingerprint.';
CREATE INDEX cache_flights_by_run ON cache_flights (run);

ALTER TABLE step_queue
    ADD COLUMN waiting_on bytea,
    ADD COLUMN is_follower boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN step_queue.waiting_on IS 'The flight whose end the step waits for; nobody leases it until then.';
COMMENT ON COLUMN step_queue.is_follower IS 'It waited for another run''s identical step: what it finds in the cache is joined.';
CREATE INDEX step_queue_followers ON step_queue (waiting_on, ready_at, run, step) WHERE waiting_on IS NOT NULL;
DROP INDEX step_queue_free;
CREATE INDEX step_queue_free ON step_queue (tenant, priority DESC, available_at, run, step)
    WHERE engine IS NULL AND waiting_on IS NULL;

ALTER TABLE run_events
    ADD COLUMN leader_run bigint,
    ADD COLUMN leader_step integer;
COMMENT ON COLUMN run_events.leader_run IS 'Of a step that begins to wait for another run''s identical step: that run.';

-- ---------------------------------------------------------------- flights

CREATE FUNCTION flights_end(p_flights bytea[], p_runs bigint[], p_steps integer[]) RETURNS boolean
LANGUAGE plpgsql AS $$
-- The leaders of these flights succeeded: their followers are free to be leased, as long as they have been ready, and will
-- find the entry. Never waits for the queue row of another run: whoever holds one is ending that step, or has just woken it.
-- Its caller waits for none afterwards either. True when it woke any.
BEGIN
    DELETE FROM cache_flights AS f
    USING unnest(p_flights, p_runs, p_steps) AS e (flight, run, step)
    WHERE f.flight = e.flight AND f.run = e.run AND f.step = e.step;
    UPDATE step_queue AS q
    SET waiting_on = NULL
    FROM (
        SELECT s.run, s.step FROM step_queue AS s WHERE s.waiting_on = ANY (p_flights) FOR UPDATE SKIP LOCKED
    ) AS f
    WHERE q.run = f.run AND q.step = f.step;
    RETURN FOUND;
END $$;

CREATE FUNCTION flights_hand_over(p_run bigint) RETURNS void
LANGUAGE plpgsql AS $$
-- Steps of the run that led flights have ended and left nothing in the cache: of each flight the oldest follower leads from
-- now on, and is free to be leased; without followers the flight ends. A leader that is tried again, or was lost sight of,
-- goes on leading.
DECLARE
    led record;
    next record;
BEGIN
    IF EXISTS (
        SELECT FROM cache_flights AS f JOIN step_queue AS q ON q.waiting_on = f.flight WHERE f.run = p_run
    ) THEN
        -- Who has several runs to stop waits for their queue rows while it holds followers that it woke: one at a time does,
        -- or two would wait for each other.
        PERFORM pg_advisory_xact_lock(7206312452);
    END IF;
    FOR led IN
        SELECT f.flight FROM cache_flights AS f
        WHERE f.run = p_run AND NOT EXISTS (SELECT FROM step_queue AS q WHERE q.run = f.run AND q.step = f.step)
        ORDER BY f.flight
        FOR UPDATE
    LOOP
        SELECT q.run, q.step INTO next
        FROM step_queue AS q
        WHERE q.waiting_on = led.flight
        ORDER BY q.ready_at, q.run, q.step
        LIMIT 1
        FOR UPDATE SKIP LOCKED;
        IF next.run IS NULL THEN
            DELETE FROM cache_flights WHERE flight = led.flight;
        ELSE
            UPDATE cache_flights SET run = next.run, step = next.step WHERE flight = led.flight;
            UPDATE step_queue SET waiting_on = NULL WHERE run = next.run AND step = next.step;
        END IF;
    END LOOP;
END $$;

CREATE FUNCTION flights_reap(p_limit integer) RETURNS integer
LANGUAGE plpgsql AS $$
-- Mends what a moment between two transactions left behind: flights whose leader has ended (it claimed while its run was
-- being cancelled) are handed over, and steps that wait for no flight are woken. Returns how many it found.
DECLARE
    lost record;
    found_count integer := 0;
    woken integer;
BEGIN
    FOR lost IN
        SELECT DISTINCT f.run FROM cache_flights AS f
        WHERE NOT EXISTS (SELECT FROM step_queue AS q WHERE q.run = f.run AND q.step = f.step)
            AND f.started_at < clock_timestamp() - interval '1 second'
        ORDER BY f.run
        LIMIT p_limit
    LOOP
        PERFORM flights_hand_over(lost.run);
        found_count := found_count + 1;
    END LOOP;
    UPDATE step_queue AS q
    SET waiting_on = NULL
    FROM (
        SELECT s.run, s.step FROM step_queue AS s
        WHERE s.waiting_on IS NOT NULL AND NOT EXISTS (SELECT FROM cache_flights AS f WHERE f.flight = s.waiting_on)
        LIMIT p_limit
        FOR UPDATE SKIP LOCKED
    ) AS f
    WHERE q.run = f.run AND q.step = f.step;
    GET DIAGNOSTICS woken = ROW_COUNT;
    RETURN found_count + woken;
END $$;

CREATE FUNCTION flights_follow(
    p_engine integer, f_run bigint[], f_step integer[], f_epoch bigint[], f_flight bytea[]
) RETURNS integer[]
LANGUAGE plpgsql AS $$
-- Each of these leases is given up: its step waits, ready and without a slot, for the end of a flight that another step
-- leads (1); one event names the leader. 0 where the flight has ended meanwhile or is about to (claim again), 2 where the
-- lease is gone. In a run that is failing nothing waits: the step goes back, and is cancelled with all that is ready.
DECLARE
    at timestamptz;
    failing bigint[];
    followed integer[] := array_fill(0, ARRAY[cardinality(f_run)]);
    w record;
    tried integer;
    stopped bigint;
BEGIN
    SELECT coalesce(array_agg(p.run) FILTER (WHERE p.is_failing), '{}') INTO failing
    FROM (
        SELECT g.run, g.is_failing FROM run_progress AS g WHERE g.run = ANY (f_run) ORDER BY g.run FOR UPDATE
    ) AS p;
    at := clock_timestamp();
    FOR w IN
        SELECT c.n, c.run, c.step, c.epoch, c.flight, f.run AS leader_run, f.step AS leader_step,
            c.run = ANY (failing) AS is_failing
        FROM unnest(f_run, f_step, f_epoch, f_flight) WITH ORDINALITY AS c (run, step, epoch, flight, n)
        LEFT JOIN LATERAL (
            -- Until this commits no leader can end a flight that it finds here. It waits for nobody who ends one: they may
            -- wait for another flight that is held here.
            SELECT l.run, l.step FROM cache_flights AS l
            WHERE l.flight = c.flight AND (l.run, l.step) <> (c.run, c.step)
                AND cardinality(failing) = 0 -- whoever stops runs must hold no flights yet; the others come again
            FOR SHARE SKIP LOCKED
        ) AS f ON true
        ORDER BY c.run, c.step
    LOOP
        CONTINUE WHEN w.leader_run IS NULL AND NOT w.is_failing;
        UPDATE step_queue AS q
        SET engine = NULL, leased_at = NULL, timeout_ms = abs(q.timeout_ms),
            waiting_on = CASE WHEN NOT w.is_failing THEN w.flight END, is_follower = true
        WHERE q.run = w.run AND q.step = w.step AND coalesce(q.engine, 0) = p_engine AND q.lease_epoch = w.epoch
        RETURNING q.attempt INTO tried;
        IF NOT FOUND THEN
            followed[w.n] := 2;
            CONTINUE;
        END IF;
        followed[w.n] := 1;
        PERFORM moves_apply(
            at, ARRAY[w.run], ARRAY[w.step], ARRAY[tried], ARRAY[NULL::integer], ARRAY[3::smallint], ARRAY[2::smallint],
            ARRAY[NULL::timestamptz]);
        IF NOT w.is_failing THEN
            UPDATE run_events AS e
            SET leader_run = w.leader_run, leader_step = w.leader_step
            FROM run_progress AS p
            WHERE p.run = w.run AND e.run = w.run AND e.sequence = p.last_sequence;
        END IF;
    END LOOP;
    FOR stopped IN SELECT v.run FROM unnest(failing) AS v (run) ORDER BY v.run LOOP
        PERFORM run_settle(stopped);
    END LOOP;
    RETURN followed;
END $$;

CREATE FUNCTION flights_claim(f_flight bytea[], f_run bigint[], f_step integer[]) RETURNS boolean[]
LANGUAGE plpgsql AS $$
-- Each step leads the flight, or another one does (false). Whoever looks into the cache after this, and finds nothing, may
-- execute: a leader that ended meanwhile has filed what it made. Waits for others that claim, in order, but for nobody who
-- ends a flight: it may be waiting for one that was claimed here.
BEGIN
    INSERT INTO cache_flights (flight, run, step)
    SELECT v.flight, v.run, v.step
    FROM unnest(f_flight, f_run, f_step) AS v (flight, run, step)
    WHERE NOT EXISTS (SELECT FROM cache_flights AS f WHERE f.flight = v.flight)
    ORDER BY v.flight, v.run, v.step
    ON CONFLICT DO NOTHING;
    RETURN (
        SELECT array_agg(coalesce(c.run = v.run AND c.step = v.step, false) ORDER BY v.n)
        FROM unnest(f_flight, f_run, f_step) WITH ORDINALITY AS v (flight, run, step, n)
        LEFT JOIN cache_flights AS c ON c.flight = v.flight
    );
END $$;

-- ---------------------------------------------------------------- how runs that stop hand their flights over

CREATE OR REPLACE FUNCTION run_stop(p_run bigint, p_status smallint, p_code text, p_message text, p_error bytea) RETURNS void
LANGUAGE plpgsql AS $$
-- Ends a run as failed (4) or cancelled (5): every step that is not terminal becomes cancelled with the code, its queue
-- row goes, and the terminal event is last. The caller holds the progress row and has checked that it is not terminal.
DECLARE
    at CONSTANT timestamptz := clock_timestamp();
    s_step integer[];
    s_from smallint[];
    s_attempt integer[];
    n integer;
BEGIN
    WITH dropped AS (
        DELETE FROM step_queue
        WHERE run = p_run
        RETURNING step, CASE WHEN engine IS NULL THEN 2 ELSE 3 END AS from_status, attempt, lease_losses,
            ready_at, leased_at
    ),
    open_steps AS (
        SELECT s.step, coalesce(d.from_status, 1) AS from_status, coalesce(d.attempt, 0) AS attempt,
            coalesce(d.lease_losses, 0) AS lease_losses, d.ready_at, d.leased_at
        FROM (SELECT steps_total FROM runs WHERE run = p_run) AS r
        CROSS JOIN LATERAL generate_series(0, r.steps_total - 1) AS s (step)
        LEFT JOIN dropped AS d ON d.step = s.step
        WHERE NOT EXISTS (SELECT FROM step_results AS done WHERE done.run = p_run AND done.step = s.step)
    ),
    ended AS (
        INSERT INTO step_results (run, step, status, attempt, lease_losses, ready_at, started_at, ended_at, error)
        SELECT
            p_run, step, 7, attempt, lease_losses, ready_at, leased_at, at,
            convert_to(json_build_object('code', p_code, 'message', p_message)::text, 'UTF8')
        FROM open_steps
        RETURNING step
    )
    SELECT
        coalesce(array_agg(o.step ORDER BY o.step), '{}'),
        coalesce(array_agg(o.from_status ORDER BY o.step), '{}'),
        coalesce(array_agg(o.attempt ORDER BY o.step), '{}'),
        count(*)
    INTO s_step, s_from, s_attempt, n
    FROM open_steps AS o;

    PERFORM moves_apply(
        at, array_fill(p_run, ARRAY[n]), s_step, s_attempt, array_fill(NULL::integer, ARRAY[n]),
        s_from, array_fill(7::smallint, ARRAY[n]), array_fill(NULL::timestamptz, ARRAY[n]));

    INSERT INTO run_events (
        run, sequence, occurred_at, type, from_status, to_status, running, completed, skipped, failed, cancelled)
    SELECT run, last_sequence + 1, at, 1, status, p_status, running, completed, skipped, failed, cancelled
    FROM run_progress
    WHERE run = p_run;

    UPDATE run_progress
    SET status = p_status, error = p_error, ended_at = at, updated_at = at, deadline = NULL,
        last_sequence = last_sequence + 1
    WHERE run = p_run AND status < 3;
    PERFORM flights_hand_over(p_run);
END $$;

CREATE OR REPLACE FUNCTION run_settle(p_run bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
-- Moves a failing run towards its end: backoffs and ready steps are cancelled (with FAIL_FAST running ones too), and once
-- nothing of it is leased the run is failed. True when it ended. The caller holds the progress row.
DECLARE
    at CONSTANT timestamptz := clock_timestamp();
    s_step integer[];
    s_from smallint[];
    s_attempt integer[];
    n integer;
    run_error bytea;
BEGIN
    IF NOT EXISTS (SELECT FROM run_progress WHERE run = p_run AND is_failing AND status < 3) THEN
        RETURN false;
    END IF;
    WITH dropped AS (
        DELETE FROM step_queue AS q
        USING runs AS r
        WHERE q.run = p_run AND r.run = p_run AND (q.engine IS NULL OR r.failure_policy = 2)
        RETURNING q.step, CASE WHEN q.engine IS NULL THEN 2 ELSE 3 END AS from_status, q.attempt, q.lease_losses,
            q.ready_at, q.leased_at
    ),
    ended AS (
        INSERT INTO step_results (run, step, status, attempt, lease_losses, ready_at, started_at, ended_at, error)
        SELECT
            p_run, step, 7, attempt, lease_losses, ready_at, leased_at, at,
            convert_to(json_build_object('code', 'UPSTREAM_FAILED', 'message', 'another step of the run failed')::text,
                       'UTF8')
        FROM dropped
    )
    SELECT
        coalesce(array_agg(step ORDER BY step), '{}'),
        coalesce(array_agg(from_status ORDER BY step), '{}'),
        coalesce(array_agg(attempt ORDER BY step), '{}'),
        count(*)
    INTO s_step, s_from, s_attempt, n
    FROM dropped;
    IF n > 0 THEN
        PERFORM moves_apply(
            at, array_fill(p_run, ARRAY[n]), s_step, s_attempt, array_fill(NULL::integer, ARRAY[n]),
            s_from, array_fill(7::smallint, ARRAY[n]), array_fill(NULL::timestamptz, ARRAY[n]));
    END IF;
    IF EXISTS (SELECT FROM step_queue WHERE run = p_run) THEN
        PERFORM flights_hand_over(p_run);
        RETURN false;
    END IF;
    SELECT error INTO run_error FROM run_progress WHERE run = p_run;
    PERFORM run_stop(p_run, 4::smallint, 'UPSTREAM_FAILED', 'another step of the run failed', run_error);
    RETURN true;
END $$;
