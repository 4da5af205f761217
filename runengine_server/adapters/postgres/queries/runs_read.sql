-- name: run_find
-- What never changes of a tenant's run, by its public id.
SELECT r.run, r.workflow_digest
FROM runs AS r
WHERE r.id = $1::uuid AND r.tenant = $2::text

-- name: runs_find
-- The newest runs of a tenant that match; walks runs_by_tenant from $2 down.
-- A null run, base, type or time, an empty name or array and {} match everything.
SELECT r.run
FROM runs AS r
JOIN run_progress AS p ON p.run = r.run
WHERE r.tenant = $1::text
    AND r.run < coalesce($2::bigint, 9223372036854775807)
    AND ($3::text = '' OR r.workflow_name = $3)
    AND (cardinality($4::smallint[]) = 0 OR p.status = ANY ($4))
    AND ($5::jsonb = '{}' OR r.labels @> $5)
    AND ($6::timestamptz IS NULL OR r.created_at >= $6)
    AND ($7::timestamptz IS NULL OR r.created_at < $7)
    AND ($8::smallint IS NULL OR r.trigger_type = $8)
ORDER BY r.run DESC
LIMIT $9::integer

-- name: workflow_runs_find
-- As runs_find, for the runs of one workflow; walks runs_by_workflow.
SELECT r.run
FROM runs AS r
JOIN run_progress AS p ON p.run = r.run
WHERE r.tenant = $1::text
    AND r.run < coalesce($2::bigint, 9223372036854775807)
    AND r.workflow_name = $3::text
    AND (cardinality($4::smallint[]) = 0 OR p.status = ANY ($4))
    AND ($5::jsonb = '{}' OR r.labels @> $5)
    AND ($6::timestamptz IS NULL OR r.created_at >= $6)
    AND ($7::timestamptz IS NULL OR r.created_at < $7)
    AND ($8::smallint IS NULL OR r.trigger_type = $8)
ORDER BY r.run DESC
LIMIT $9::integer

-- name: open_runs_find
-- As runs_find, for statuses of runs that have not ended. Each has steps in the queue, so this walks the queue from $2 down
-- and not the runs that have ended since; a lateral with a limit keeps each run a probe of its primary key.
SELECT o.run
FROM (
    SELECT DISTINCT q.run FROM step_queue AS q
    WHERE q.run < coalesce($2::bigint, 9223372036854775807)
    ORDER BY q.run DESC
) AS o
CROSS JOIN LATERAL (
    SELECT r.tenant, r.workflow_name, r.labels, r.created_at, r.trigger_type, p.status
    FROM runs AS r
    JOIN run_progress AS p ON p.run = r.run
    WHERE r.run = o.run
    LIMIT 1
) AS r
WHERE r.tenant = $1::text
    AND ($3::text = '' OR r.workflow_name = $3)
    AND r.status = ANY ($4::smallint[])
    AND ($5::jsonb = '{}' OR r.labels @> $5)
    AND ($6::timestamptz IS NULL OR r.created_at >= $6)
    AND ($7::timestamptz IS NULL OR r.created_at < $7)
    AND ($8::smallint IS NULL OR r.trigger_type = $8)
ORDER BY o.run DESC
LIMIT $9::integer

-- name: runs_find_based
-- As runs_find, for the runs directly based on one; walks runs_by_base.
SELECT r.run
FROM runs AS r
JOIN run_progress AS p ON p.run = r.run
WHERE r.base_run = (SELECT b.run FROM runs AS b WHERE b.id = $10::uuid AND b.tenant = $1)
    AND r.tenant = $1::text
    AND r.run < coalesce($2::bigint, 9223372036854775807)
    AND ($3::text = '' OR r.workflow_name = $3)
    AND (cardinality($4::smallint[]) = 0 OR p.status = ANY ($4))
    AND ($5::jsonb = '{}' OR r.labels @> $5)
    AND ($6::timestamptz IS NULL OR r.created_at >= $6)
    AND ($7::timestamptz IS NULL OR r.created_at < $7)
    AND ($8::smallint IS NULL OR r.trigger_type = $8)
ORDER BY r.run DESC
LIMIT $9::integer

-- name: runs_read
-- Runs by key, newest first. $2: with payloads. What skipped steps saved is the time their producers took; it costs two
-- probes a skipped step, so only the newest runs with together $3 skipped steps get it.
SELECT
    r.run, r.id, r.workflow_name, r.workflow_version, r.workflow_digest, r.steps_total, r.trigger_type, r.priority,
    r.labels::text AS labels, r.request_id, r.principal, r.deadline, r.created_at,
    r.change_type,
    CASE WHEN $2::boolean THEN r.payload END AS payload,
    CASE WHEN $2 THEN r.change_payload END AS change_payload,
    base.id AS base_id, root.id AS root_id,
    p.status, p.running, p.completed, p.skipped, p.failed, p.cancelled, p.last_sequence,
    p.started_at, p.ended_at, p.updated_at, p.failed_step, p.error, p.cancel_reason,
    saved.seconds AS saved_s
FROM runs AS r
JOIN run_progress AS p ON p.run = r.run
LEFT JOIN producers AS base ON base.run = r.base_run
LEFT JOIN producers AS root ON root.run = r.root_run
LEFT JOIN LATERAL (
    SELECT sum(extract(epoch FROM made.ended_at - made.begun_at))::double precision AS seconds
    FROM step_results AS s
    CROSS JOIN LATERAL (
        SELECT
            m.ended_at,
            CASE
                WHEN m.lease_epoch > m.attempt THEN attempt_begun_at(m.run, m.step, m.attempt, m.started_at)
                ELSE m.started_at
            END AS begun_at
        FROM step_results AS m
        WHERE m.run = s.producer_run AND m.step = s.producer_step AND m.source = 1
        LIMIT 1
    ) AS made
    WHERE s.run = r.run AND s.status = 5
        AND p.skipped > 0
        AND (
            SELECT sum(newer.skipped)
            FROM run_progress AS newer
            WHERE newer.run = ANY ($1) AND newer.run >= r.run
        ) <= $3::bigint
) AS saved ON true
WHERE r.run = ANY ($1::bigint[])
ORDER BY r.run DESC
