-- How steps come back from engines that stop, die or lose sight of them.

CREATE FUNCTION leases_take_back(
    b_run bigint[], b_step integer[], b_epoch bigint[], p_is_lost boolean, p_losses_max integer
) RETURNS bigint[]
LANGUAGE plpgsql AS $$
-- These leases, where they still are what they were, go back to the queue; where they were lost (p_is_lost), a step that
-- loses more than p_losses_max leases fails, so that a step that kills whoever runs it ends. Returns the runs concerned.
DECLARE
    at timestamptz;
    concerned bigint[];
    m_run bigint[]; m_step integer[]; m_attempt integer[]; m_to smallint[];
    n integer;
    key bigint;
BEGIN
    PERFORM FROM run_progress AS p WHERE p.run = ANY (b_run) ORDER BY p.run FOR UPDATE;
    at := clock_timestamp();
    WITH poison AS (
        DELETE FROM step_queue AS q
        USING unnest(b_run, b_step, b_epoch) AS b (run, step, epoch)
        WHERE q.run = b.run AND q.step = b.step AND q.lease_epoch = b.epoch AND q.engine IS NOT NULL
            AND p_is_lost AND q.lease_losses >= p_losses_max
        RETURNING q.*
    ),
    ended AS (
        INSERT INTO step_results (
            run, step, status, attempt, lease_losses, engine, lease_epoch, ready_at, started_at, ended_at, error)
        SELECT
            run, step, 6, attempt, lease_losses + 1, engine, lease_epoch, ready_at, leased_at, at,
            convert_to(json_build_object('code', 'LEASE_LOST_REPEATEDLY', 'message',
                                         'whoever ran the step was lost each time')::text, 'UTF8')
        FROM poison
    ),
    blamed AS (
        UPDATE run_progress AS p
        SET is_failing = true,
            failed_step = coalesce(p.failed_step, f.step),
            error = coalesce(p.error, convert_to(json_build_object(
                'code', 'LEASE_LOST_REPEATEDLY', 'message', 'whoever ran the step was lost each time')::text, 'UTF8'))
        FROM (SELECT run, min(step) AS step FROM poison GROUP BY run) AS f
        WHERE p.run = f.run
    ),
    freed AS (
        UPDATE step_queue AS q
        SET engine = NULL, leased_at = NULL, timeout_ms = abs(q.timeout_ms), available_at = at, lease_losses = q.lease_losses + p_is_lost::integer
        FROM unnest(b_run, b_step, b_epoch) AS b (run, step, epoch)
        WHERE q.run = b.run AND q.step = b.step AND q.lease_epoch = b.epoch AND q.engine IS NOT NULL
            AND NOT (p_is_lost AND q.lease_losses >= p_losses_max)
        RETURNING q.run, q.step, q.attempt
    ),
    moves AS (
        SELECT run, step, attempt, 6::smallint AS to_status FROM poison
        UNION ALL
        SELECT run, step, attempt, 2::smallint FROM freed
    )
    SELECT array_agg(run ORDER BY run, step), array_agg(step ORDER BY run, step),
        array_agg(attempt ORDER BY run, step), array_agg(to_status ORDER BY run, step), count(*)
    INTO m_run, m_step, m_attempt, m_to, n
    FROM moves;
    IF n = 0 THEN
        RETURN '{}';
    END IF;
    PERFORM moves_apply(
        at, m_run, m_step, m_attempt, array_fill(NULL::integer, ARRAY[n]),
        array_fill(3::smallint, ARRAY[n]), m_to, array_fill(NULL::timestamptz, ARRAY[n]));
    SELECT array_agg(DISTINCT m.run ORDER BY m.run) INTO concerned FROM unnest(m_run) AS m (run);
    FOREACH key IN ARRAY concerned LOOP
        PERFORM run_settle(key);
    END LOOP;
    RETURN concerned;
END $$;

CREATE FUNCTION leases_release(p_engine integer, p_is_lost boolean, p_losses_max integer, p_limit integer)
RETURNS bigint[]
LANGUAGE plpgsql AS $$
-- Takes back up to p_limit leases of an engine: at shutdown, or (p_is_lost) because it died. Returns the runs concerned;
-- call again until there are none.
DECLARE
    b_run bigint[]; b_step integer[]; b_epoch bigint[];
BEGIN
    SELECT array_agg(o.run), array_agg(o.step), array_agg(o.lease_epoch) INTO b_run, b_step, b_epoch
    FROM (
        SELECT q.run, q.step, q.lease_epoch FROM step_queue AS q WHERE q.engine = p_engine ORDER BY q.run LIMIT p_limit
    ) AS o;
    IF b_run IS NULL THEN
        RETURN '{}';
    END IF;
    RETURN leases_take_back(b_run, b_step, b_epoch, p_is_lost, p_losses_max);
END $$;

CREATE FUNCTION engines_reap(p_losses_max integer, p_limit integer) RETURNS bigint[]
LANGUAGE plpgsql AS $$
-- Takes back the leases of an engine whose own lease has ended, and removes those that hold none. One engine a call: the
-- runs of several would be locked out of order, and a turn that completes steps of them could wait for us while we wait
-- for it. Returns the runs concerned; call again until there are none.
DECLARE
    dead integer;
BEGIN
    DELETE FROM engines
    WHERE engine IN (
        SELECT e.engine
        FROM engines AS e
        WHERE e.lease_until < clock_timestamp() AND NOT EXISTS (SELECT FROM step_queue AS q WHERE q.engine = e.engine)
        FOR UPDATE SKIP LOCKED
    );
    SELECT e.engine INTO dead
    FROM engines AS e
    WHERE e.lease_until < clock_timestamp()
    ORDER BY e.engine
    LIMIT 1
    FOR UPDATE SKIP LOCKED;
    IF dead IS NULL THEN
        RETURN '{}';
    END IF;
    RETURN leases_release(dead, true, p_losses_max, p_limit);
END $$;

CREATE FUNCTION leases_reap(p_losses_max integer, p_grace_ms integer, p_limit integer) RETURNS bigint[]
LANGUAGE plpgsql AS $$
-- Takes back leases held p_grace_ms beyond their attempt's timeout, even by an engine that lives (it has lost sight of
-- them), and those of engines that no longer exist (one that was reaped in the middle of a turn). Reads every owned row:
-- cheap, but not for every second. Returns the runs concerned.
DECLARE
    b_run bigint[]; b_step integer[]; b_epoch bigint[];
BEGIN
    SELECT array_agg(o.run), array_agg(o.step), array_agg(o.lease_epoch) INTO b_run, b_step, b_epoch
    FROM (
        SELECT q.run, q.step, q.lease_epoch
        FROM step_queue AS q
        WHERE q.engine IS NOT NULL AND (
            q.timeout_ms > 0
            AND q.leased_at + (q.timeout_ms + p_grace_ms::bigint) * interval '1 millisecond' < clock_timestamp()
            OR NOT EXISTS (SELECT FROM engines AS e WHERE e.engine = q.engine)
        )
        ORDER BY q.run, q.step
        LIMIT p_limit
    ) AS o;
    IF b_run IS NULL THEN
        RETURN '{}';
    END IF;
    RETURN leases_take_back(b_run, b_step, b_epoch, true, p_losses_max);
END $$;
