-- name: clock_read
-- The database's clock, by which entries are filed.
SELECT clock_timestamp();

-- name: housekeeping_begin
-- True for whoever may do the task $1 now; nobody else may for $2 seconds.
INSERT INTO housekeeping AS h (task, next_at)
VALUES ($1, clock_timestamp() + $2 * interval '1 second')
ON CONFLICT (task) DO UPDATE SET next_at = excluded.next_at
WHERE h.next_at <= clock_timestamp()
RETURNING true

-- name: step_cache_count
-- How many stored bytes of output entries of each minute hold, among the next $5 entries from $1-$4 on.
WITH seen AS MATERIALIZED (
    SELECT k.tenant, k.workflow_name, k.step_id, k.input_hash, k.run, k.step, k.created_at
    FROM step_cache AS k
    WHERE (k.tenant, k.workflow_name, k.step_id, k.input_hash) >= ($1::text, $2::text, $3::text, $4::bytea)
    ORDER BY k.tenant, k.workflow_name, k.step_id, k.input_hash
    LIMIT $5
),
minutes AS (
    SELECT date_trunc('minute', k.created_at) AS minute, sum(octet_length(o.body))::bigint AS bytes
    FROM seen AS k
    JOIN outputs AS o ON o.run = k.run AND o.step = k.step
    GROUP BY 1
)
SELECT
    coalesce((SELECT array_agg(m.minute ORDER BY m.minute) FROM minutes AS m), '{}') AS minutes,
    coalesce((SELECT array_agg(m.bytes ORDER BY m.minute) FROM minutes AS m), '{}') AS bytes,
    n.tenant AS next_tenant, n.workflow_name AS next_workflow, n.step_id AS next_step, n.input_hash AS next_hash
FROM (VALUES (1)) AS one
LEFT JOIN LATERAL (
    SELECT k.tenant, k.workflow_name, k.step_id, k.input_hash
    FROM step_cache AS k
    WHERE (k.tenant, k.workflow_name, k.step_id, k.input_hash) >= ($1::text, $2::text, $3::text, $4::bytea)
    ORDER BY k.tenant, k.workflow_name, k.step_id, k.input_hash
    OFFSET $5 LIMIT 1
) AS n ON true

-- name: step_cache_delete
-- Forgets up to $2 removals older than $1 seconds: a later lookup no longer knows that there was an entry.
DELETE FROM step_cache AS k
USING (
    SELECT t.tenant, t.workflow_name, t.step_id, t.input_hash
    FROM step_cache AS t
    WHERE t.step < 0 AND t.created_at < clock_timestamp() - $1 * interval '1 second'
    ORDER BY t.created_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
) AS t
WHERE k.tenant = t.tenant AND k.workflow_name = t.workflow_name AND k.step_id = t.step_id
    AND k.input_hash = t.input_hash AND k.step < 0
RETURNING true
