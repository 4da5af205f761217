-- How a run ends before all of its steps have: failing, cancelled, late.

CREATE FUNCTION run_stop(p_run bigint, p_status smallint, p_code text, p_message text, p_error bytea) RETURNS void
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
END $$;

CREATE FUNCTION run_settle(p_run bigint) RETURNS boolean
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
        RETURN false;
    END IF;
    SELECT error INTO run_error FROM run_progress WHERE run = p_run;
    PERFORM run_stop(p_run, 4::smallint, 'UPSTREAM_FAILED', 'another step of the run failed', run_error);
    RETURN true;
END $$;

CREATE FUNCTION run_cancel(p_tenant text, p_id uuid, p_principal text, p_reason text) RETURNS boolean
LANGUAGE plpgsql AS $$
-- After it returns the run is terminal and nothing of it is leased. True when this call ended it; null when there is no
-- such run of the tenant.
DECLARE
    key bigint;
    current_status smallint;
BEGIN
    SELECT r.run INTO key FROM runs AS r WHERE r.id = p_id AND r.tenant = p_tenant;
    IF key IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT p.status INTO current_status FROM run_progress AS p WHERE p.run = key FOR UPDATE;
    IF current_status >= 3 THEN
        RETURN false;
    END IF;
    UPDATE run_progress SET cancel_reason = p_reason WHERE run = key;
    PERFORM run_stop(key, 5::smallint, 'RUN_CANCELLED', 'the run was cancelled', NULL);
    INSERT INTO audit_log (tenant, principal, action, target) VALUES (p_tenant, p_principal, 'Cancel', p_id::text);
    RETURN true;
END $$;

CREATE FUNCTION deadlines_enforce(p_limit integer) RETURNS bigint[]
LANGUAGE plpgsql AS $$
-- Fails runs whose deadline has passed; returns them.
DECLARE
    late bigint[];
    key bigint;
BEGIN
    SELECT coalesce(array_agg(d.run ORDER BY d.run), '{}') INTO late
    FROM (
        SELECT p.run FROM run_progress AS p
        WHERE p.deadline <= clock_timestamp()
        ORDER BY p.run LIMIT p_limit
        FOR UPDATE SKIP LOCKED
    ) AS d;
    FOREACH key IN ARRAY late LOOP
        PERFORM run_stop(
            key, 4::smallint, 'RUN_CANCELLED', 'the deadline of the run has passed',
            convert_to(json_build_object('code', 'RUN_DEADLINE_EXCEEDED',
                                         'message', 'the deadline of the run has passed')::text, 'UTF8'));
    END LOOP;
    RETURN late;
END $$;
