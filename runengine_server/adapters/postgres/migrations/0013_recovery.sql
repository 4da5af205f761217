-- What becomes of leases that are given back or lost, of runs that end by it, and of turns whose reply was lost.

CREATE FUNCTION runs_ended(
    p_concerned bigint[],
    OUT concerned bigint[],
    OUT e_run bigint[], OUT e_status smallint[], OUT e_duration_ms bigint[], OUT e_failed_step integer[],
    OUT e_error bytea[]
)
LANGUAGE plpgsql AS $$
-- These runs, which were not terminal before this transaction, and what is to be told of those that are now.
BEGIN
    concerned := p_concerned;
    IF cardinality(p_concerned) = 0 THEN
        RETURN;
    END IF;
    SELECT
        array_agg(p.run), array_agg(p.status), array_agg((extract(epoch FROM p.ended_at - r.created_at) * 1000)::bigint),
        array_agg(p.failed_step), array_agg(p.error)
    INTO e_run, e_status, e_duration_ms, e_failed_step, e_error
    FROM run_progress AS p
    JOIN runs AS r ON r.run = p.run
    WHERE p.run = ANY (p_concerned) AND p.status >= 3;
END $$;

CREATE FUNCTION completions_recorded(
    p_engine integer, c_run bigint[], c_step integer[], c_epoch bigint[],
    OUT is_recorded boolean[],
    OUT concerned bigint[],
    OUT e_run bigint[], OUT e_status smallint[], OUT e_duration_ms bigint[], OUT e_failed_step integer[],
    OUT e_error bytea[]
)
LANGUAGE plpgsql AS $$
-- Which of these completions an earlier turn of the engine has committed, although its reply was lost; and what is to be
-- told of the runs that those turns ended: the row of a run's progress is then of the same transaction as the step's row.
-- A success is its result; a failure its attempt (a result that failed may also say that the lease was lost once too often).
DECLARE
    ended_by_us bigint[];
BEGIN
    SELECT
        array_agg(r.run IS NOT NULL OR t.run IS NOT NULL ORDER BY c.n),
        coalesce(array_agg(DISTINCT p.run) FILTER (WHERE p.xmin = coalesce(r.xmin, t.xmin)), '{}')
    INTO is_recorded, ended_by_us
    FROM unnest(c_run, c_step, c_epoch) WITH ORDINALITY AS c (run, step, epoch, n)
    LEFT JOIN step_results AS r
        ON r.run = c.run AND r.step = c.step AND r.engine = p_engine AND r.lease_epoch = c.epoch AND r.status IN (4, 5)
    LEFT JOIN step_attempts AS t
        ON t.run = c.run AND t.step = c.step AND t.lease_epoch = c.epoch AND t.engine = p_engine
    LEFT JOIN run_progress AS p ON p.run = c.run AND p.status >= 3;
    SELECT e.* INTO concerned, e_run, e_status, e_duration_ms, e_failed_step, e_error FROM runs_ended(ended_by_us) AS e;
END $$;

CREATE OR REPLACE FUNCTION leases_take_back(
    b_run bigint[], b_step integer[], b_epoch bigint[], p_is_lost boolean, p_losses_max integer
) RETURNS bigint[]
LANGUAGE plpgsql AS $$
-- These leases, where they still are what they were, go back to the queue; where they were lost (p_is_lost), a step that
-- loses more than p_losses_max leases fails, so that a step that kills whoever runs it ends. A lease whose attempt only
-- waited for a slot of its skill (its timeout is negative) ran nothing that could have killed anybody: its loss does not
-- count. Returns the runs concerned.
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
            AND p_is_lost AND q.timeout_ms >= 0 AND q.lease_losses >= p_losses_max
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
        SET engine = NULL, leased_at = NULL, timeout_ms = abs(q.timeout_ms), available_at = at,
            lease_losses = q.lease_losses + (p_is_lost AND q.timeout_ms >= 0)::integer
        FROM unnest(b_run, b_step, b_epoch) AS b (run, step, epoch)
        WHERE q.run = b.run AND q.step = b.step AND q.lease_epoch = b.epoch AND q.engine IS NOT NULL
            AND NOT (p_is_lost AND q.timeout_ms >= 0 AND q.lease_losses >= p_losses_max)
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
