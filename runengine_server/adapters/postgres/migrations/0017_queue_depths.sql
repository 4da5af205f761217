-- How deep the queue is and how long its steps have waited, for operators and for each tenant.

CREATE TYPE queued_step AS (
    run bigint,
    step integer,
    attempt smallint,
    state smallint,
    since timestamptz,
    next_attempt_at timestamptz,
    is_stuck boolean
);

CREATE FUNCTION queue_steps(p_tenant text, p_rows_max integer, p_ready_stuck_ms integer, p_overdue_ms integer)
RETURNS SETOF queued_step
LANGUAGE plpgsql
-- One pass over a large table, or one tenant's part of it: neither is what pinned plans are made for.
SET enable_seqscan = on SET enable_hashjoin = on SET plan_cache_mode = force_custom_plan
AS $$
-- The steps of the queue (of one tenant, unless null) in states 1 ready, 2 delayed by a backoff, 3 waiting for another run's
-- identical step, 4 held (leased, waiting for a slot of its skill), 5 running; and since when. A ready step is stuck when
-- nobody took it for p_ready_stuck_ms; a leased one p_overdue_ms after its timeout, or 2 s after its engine's lease ended.
DECLARE
    at CONSTANT timestamptz := clock_timestamp();
    alive integer[];
BEGIN
    SELECT coalesce(array_agg(e.engine), '{}') INTO alive
    FROM engines AS e
    WHERE e.lease_until > at - interval '2 seconds';
    RETURN QUERY
    SELECT
        q.run, q.step, q.attempt,
        CASE
            WHEN q.engine IS NOT NULL THEN CASE WHEN q.timeout_ms < 0 THEN 4 ELSE 5 END
            WHEN q.waiting_on IS NOT NULL THEN 3
            WHEN q.available_at > at THEN 2
            ELSE 1
        END::smallint,
        CASE
            WHEN q.engine IS NOT NULL THEN q.leased_at
            WHEN q.waiting_on IS NOT NULL OR q.available_at > at THEN q.ready_at
            ELSE q.available_at
        END,
        CASE WHEN q.engine IS NULL AND q.waiting_on IS NULL AND q.available_at > at THEN q.available_at END,
        CASE
            WHEN q.engine IS NOT NULL THEN
                q.engine <> ALL (alive)
                OR q.timeout_ms > 0
                AND q.leased_at + (q.timeout_ms + p_overdue_ms::bigint) * interval '1 millisecond' < at
            ELSE q.waiting_on IS NULL AND q.available_at < at - p_ready_stuck_ms * interval '1 millisecond'
        END
    FROM step_queue AS q
    WHERE p_tenant IS NULL OR q.tenant = p_tenant
    LIMIT p_rows_max;
END $$;

CREATE FUNCTION queue_depths(
    p_tenant text, p_rows_max integer, p_groups_max integer, p_ready_stuck_ms integer, p_overdue_ms integer
) RETURNS TABLE (workflow_digest bytea, step integer, state smallint, is_stuck boolean, steps bigint, oldest_ms bigint)
LANGUAGE plpgsql
SET enable_hashjoin = on SET plan_cache_mode = force_custom_plan
AS $$
-- Counts and the greatest age by step of a workflow version, state and whether it is stuck. Of more than p_groups_max groups
-- the small ones are added up without a workflow and step.
DECLARE
    at CONSTANT timestamptz := clock_timestamp();
BEGIN
    RETURN QUERY
    WITH queued AS MATERIALIZED (
        SELECT s.run, s.step, s.state, s.since, s.is_stuck
        FROM queue_steps(p_tenant, p_rows_max, p_ready_stuck_ms, p_overdue_ms) AS s
    ),
    versions AS MATERIALIZED (
        -- each run once: probes of the primary key, however long the history is
        SELECT d.run, r.workflow_digest
        FROM (SELECT DISTINCT v.run FROM queued AS v) AS d
        CROSS JOIN LATERAL (SELECT g.workflow_digest FROM runs AS g WHERE g.run = d.run LIMIT 1) AS r
    ),
    groups AS (
        SELECT v.workflow_digest, q.step, q.state, q.is_stuck, count(*) AS steps, min(q.since) AS oldest,
            row_number() OVER (ORDER BY count(*) DESC) <= p_groups_max AS is_large
        FROM queued AS q
        JOIN versions AS v ON v.run = q.run
        GROUP BY v.workflow_digest, q.step, q.state, q.is_stuck
    )
    SELECT
        CASE WHEN g.is_large THEN g.workflow_digest END, CASE WHEN g.is_large THEN g.step END, g.state, g.is_stuck,
        sum(g.steps)::bigint, greatest(0, extract(epoch FROM at - min(g.oldest)) * 1000)::bigint
    FROM groups AS g
    GROUP BY 1, 2, 3, 4;
END $$;
