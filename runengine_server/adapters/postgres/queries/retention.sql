-- name: run_events_sweep
-- Deletes up to $4 events of the next $3 runs behind $1 that have events and ended $2 seconds ago, oldest first. Goes from
-- run to run by probes of the primary key: what it passes over are events of runs that last long. next_run: from where to go
-- on, null at the end, where all are younger (one that is may have been begun while the clock was wrong).
WITH RECURSIVE passed AS (
    SELECT $1::bigint AS run, 0 AS n, true AS is_old
    UNION ALL
    SELECT e.run, s.n + 1, e.is_old
    FROM passed AS s
    CROSS JOIN LATERAL (
        SELECT
            f.run,
            coalesce((
                SELECT r.created_at < clock_timestamp() - $2::double precision * interval '1 second'
                FROM runs AS r
                WHERE r.run = f.run
            ), true) AS is_old
        FROM run_events AS f
        WHERE f.run > s.run
        ORDER BY f.run
        LIMIT 1
    ) AS e
    WHERE s.n < $3::integer
),
ended AS MATERIALIZED (
    SELECT v.run
    FROM passed AS v
    JOIN run_progress AS p ON p.run = v.run
    WHERE v.n > 0 AND p.status >= 3 AND p.ended_at < clock_timestamp() - $2 * interval '1 second'
),
old AS MATERIALIZED (
    SELECT e.run, e.sequence
    FROM (SELECT d.run FROM ended AS d ORDER BY d.run) AS d
    CROSS JOIN LATERAL (
        SELECT f.run, f.sequence FROM run_events AS f WHERE f.run = d.run ORDER BY f.sequence LIMIT $4::integer
    ) AS e
    LIMIT $4
),
gone AS (
    DELETE FROM run_events AS e
    USING old AS o
    WHERE e.run = o.run AND e.sequence = o.sequence
    RETURNING e.run
)
SELECT
    (SELECT count(*) FROM gone) AS deleted,
    CASE
        -- the last run's events may not all have fitted
        WHEN (SELECT count(*) FROM old) = $4 THEN (SELECT max(o.run) - 1 FROM old AS o)
        WHEN bool_or(v.is_old AND v.n > 0) AND max(v.n) = $3 THEN max(v.run)
    END AS next_run
FROM passed AS v

-- name: runs_sweep
-- Deletes, of the next $3 runs behind $1, those that ended $2 seconds ago, but for those that a live run builds on: nobody
-- finds them from now on. What they leave is taken an hour after. next_run: as in run_events_sweep.
WITH passed AS MATERIALIZED (
    SELECT r.run, r.created_at < clock_timestamp() - $2::double precision * interval '1 second' AS is_old
    FROM runs AS r
    WHERE r.run > $1::bigint
    ORDER BY r.run
    LIMIT $3::integer
),
ended AS MATERIALIZED (
    SELECT p.run
    FROM passed AS v
    JOIN run_progress AS p ON p.run = v.run
    WHERE p.status >= 3 AND p.ended_at < clock_timestamp() - $2 * interval '1 second'
        AND NOT EXISTS (
            SELECT FROM runs AS r
            JOIN run_progress AS q ON q.run = r.run
            WHERE r.base_run = v.run AND q.status < 3
        )
    ORDER BY p.run
    FOR UPDATE OF p SKIP LOCKED
),
progress AS (
    DELETE FROM run_progress AS p USING ended AS d WHERE p.run = d.run
),
states AS (
    DELETE FROM run_state AS s USING ended AS d WHERE s.run = d.run
),
gone AS (
    DELETE FROM runs AS r
    USING ended AS d
    WHERE r.run = d.run
    RETURNING r.run, r.id, r.tenant, r.workflow_digest, r.request_id
),
requests AS (
    -- The request id may have been used for another call, and that one's run is retained.
    DELETE FROM idempotency_keys AS i
    USING gone AS g
    WHERE i.tenant = g.tenant AND i.rpc = ANY ('{Trigger,TriggerUpdate,RetryRun}') AND i.request_id = g.request_id
        AND i.run = g.run AND g.request_id <> ''
),
left_over AS (
    INSERT INTO deleted_runs (run, id, tenant, workflow_digest, deleted_at, next_at)
    SELECT g.run, g.id, g.tenant, g.workflow_digest, clock_timestamp(), clock_timestamp() + interval '1 hour'
    FROM gone AS g
)
SELECT
    (SELECT count(*) FROM gone) AS deleted,
    CASE WHEN bool_or(v.is_old) AND count(*) = $3 THEN max(v.run) END AS next_run
FROM passed AS v

-- name: deleted_runs_settle
-- Takes about $1 rows that deleted runs have left; outputs after nothing has referred to them for $2 seconds.
SELECT events, outputs, artifacts, has_more
FROM deleted_runs_settle($1, $2)

-- name: audit_log_delete
-- Forgets up to $2 entries older than $1 seconds; entries are numbered about as time goes by.
WITH oldest AS (
    SELECT a.entry, a.at FROM audit_log AS a ORDER BY a.entry LIMIT $2::integer
),
gone AS (
    DELETE FROM audit_log AS a
    USING oldest AS o
    WHERE a.entry = o.entry AND o.at < clock_timestamp() - $1::double precision * interval '1 second'
    RETURNING true
)
SELECT count(*) FROM gone

-- name: cache_counts_delete
-- Forgets how the cache served up to $1 groups of runs of which none is retained any more.
WITH oldest AS (
    SELECT g.run_group
    FROM cache_counted AS g
    WHERE g.run_group < (SELECT r.run FROM runs AS r ORDER BY r.run LIMIT 1) / 256
    ORDER BY g.run_group
    LIMIT $1::integer
),
groups AS (
    DELETE FROM cache_counted AS g USING oldest AS o WHERE g.run_group = o.run_group RETURNING g.run_group
),
counts AS (
    DELETE FROM cache_counts AS c WHERE c.run_group <= (SELECT max(g.run_group) FROM groups AS g)
)
SELECT count(*) FROM groups
