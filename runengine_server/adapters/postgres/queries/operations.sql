-- name: queue_count
-- Depth and age by step of a workflow version, state and whether it is stuck; of every tenant where $1 is null.
SELECT workflow_digest, step, state, is_stuck, steps, oldest_ms
FROM queue_depths($1::text, $2, $3, $4, $5);

-- name: queue_list
-- A tenant's steps that are delayed, those to be tried next first, and then those that may be stuck, the longest first.
WITH queued AS MATERIALIZED (
    SELECT q.run, q.step, q.attempt, q.state, q.since, q.next_attempt_at, q.is_stuck
    FROM queue_steps($1::text, $2, $4, $5) AS q
    WHERE q.state = 2 OR q.is_stuck
),
shown AS (
    (SELECT * FROM queued AS q WHERE q.state = 2 ORDER BY q.next_attempt_at, q.run, q.step LIMIT $3::integer)
    UNION ALL
    (SELECT * FROM queued AS q WHERE q.is_stuck ORDER BY q.since, q.run, q.step LIMIT $3::integer)
)
SELECT r.id, r.workflow_name, r.workflow_digest, s.step, s.attempt, s.state, s.since, s.next_attempt_at
FROM shown AS s
CROSS JOIN LATERAL (
    SELECT g.id, g.workflow_name, g.workflow_digest FROM runs AS g WHERE g.run = s.run LIMIT 1
) AS r
ORDER BY s.next_attempt_at, s.since, s.run, s.step;

-- name: engines_count
-- Engines whose lease has not ended.
SELECT count(*) FROM engines WHERE lease_until > clock_timestamp();

-- name: schema_read
-- Whether the database takes writes, and which migrations it has; of both a database that was replaced may surprise.
SELECT
    current_setting('transaction_read_only')::boolean AS is_read_only,
    ARRAY(SELECT m.version FROM schema_migrations AS m) AS versions;
