-- name: step_outcomes_list
-- Where steps of a run are, from results, queue, or neither (pending), without what only their pages show. LIMIT 1 as in
-- steps_read.
SELECT
    n.step,
    coalesce(s.status, CASE WHEN q.run IS NULL THEN 1 WHEN q.engine IS NULL THEN 2 ELSE 3 END)::smallint AS status,
    s.source, s.input_hash, s.output_hash, s.cache_version, producer.id AS producer_id,
    q.engine IS NOT NULL AND q.timeout_ms < 0 AS is_held
FROM unnest($2::smallint[]) AS n (step)
LEFT JOIN LATERAL (
    SELECT r.status, r.source, r.input_hash, r.output_hash, r.cache_version, r.producer_run
    FROM step_results AS r
    WHERE r.run = $1::bigint AND r.step = n.step
    LIMIT 1
) AS s ON true
LEFT JOIN LATERAL (
    SELECT w.run, w.engine, w.timeout_ms
    FROM step_queue AS w
    WHERE w.run = $1 AND w.step = n.step
    LIMIT 1
) AS q ON true
LEFT JOIN producers AS producer ON producer.run = s.producer_run

-- name: run_neighbours_list
-- The runs of a workflow around one ($3), at most $4 newer and $5 older ones; walks runs_by_workflow both ways.
SELECT newer.run, newer.id, newer.workflow_digest
FROM (
    SELECT r.run, r.id, r.workflow_digest
    FROM runs AS r
    WHERE r.tenant = $1::text AND r.workflow_name = $2::text AND r.run > $3::bigint
    ORDER BY r.run
    LIMIT $4::integer
) AS newer
UNION ALL
SELECT older.run, older.id, older.workflow_digest
FROM (
    SELECT r.run, r.id, r.workflow_digest
    FROM runs AS r
    WHERE r.tenant = $1 AND r.workflow_name = $2 AND r.run < $3
    ORDER BY r.run DESC
    LIMIT $5::integer
) AS older

-- name: step_nearest_find
-- For each wanted step (started at $1, input hash $2) the latest success with another input among the runs $3 that had
-- ended by then. $4 holds the numbers of the wanted steps run by run, -1 where a run's version has no such step.
SELECT w.n, near.place, near.step
FROM unnest($1::timestamptz[], $2::bytea[]) WITH ORDINALITY AS w (started_at, input_hash, n)
CROSS JOIN LATERAL (
    SELECT c.place, s.step
    FROM unnest($3::bigint[]) WITH ORDINALITY AS c (run, place)
    JOIN step_results AS s ON s.run = c.run AND s.step = ($4::smallint[])[(c.place - 1) * cardinality($1) + w.n]
    WHERE s.status IN (4, 5) AND s.ended_at <= w.started_at AND s.input_hash <> w.input_hash
    ORDER BY s.ended_at DESC, c.run DESC
    LIMIT 1
) AS near
