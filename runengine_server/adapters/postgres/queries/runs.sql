-- name: installation_id
-- Names this database for a hot cache that others may share.
SELECT id
FROM installation;

-- name: runs_create
-- A batch of runs, each created whole or answered from its earlier request.
SELECT run, is_new, request_digest, response
FROM runs_create(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
    $20, $21, $22, $23,
    $24, $25, $26,
    $27, $28, $29,
    $30, $31, $32, $33, $34, $35, $36, $37, $38
);

-- name: request_find
-- What was answered to a request id before.
SELECT request_digest, response
FROM idempotency_keys
WHERE tenant = $1 AND rpc = $2 AND request_id = $3;

-- name: run_cancel
-- After it the run is terminal and nothing of it is leased.
SELECT run_cancel($1, $2, $3, $4);

-- name: run_base
-- A run to build on, as the tenant that owns it sees it.
SELECT
    r.run, r.root_run, r.id, p.status, r.workflow_name, r.workflow_digest, r.payload
FROM runs AS r
JOIN run_progress AS p ON p.run = r.run
WHERE r.id = $1 AND r.tenant = $2;

-- name: run_successes
-- Per run and step who produced the output and with which input; durations are the producers'.
SELECT
    s.run, s.step, s.input_hash, s.cache_version, s.output_hash,
    s.producer_run, s.producer_step, r.id AS producer_run_id,
    extract(epoch FROM p.ended_at - p.started_at)::double precision AS duration_s
FROM step_results AS s
JOIN runs AS r ON r.run = s.producer_run
LEFT JOIN step_results AS p ON p.run = s.producer_run AND p.step = s.producer_step
WHERE s.run = ANY ($1::bigint[]) AND s.status IN (4, 5);

-- name: runs_facts
-- What a scheduler needs to know of runs; all of it immutable.
SELECT
    run, id, tenant, workflow_name, workflow_digest, cache_mode, payload, change_type, change_payload, base_run,
    plan, extract(epoch FROM deadline)::double precision AS deadline_at_s
FROM runs
WHERE run = ANY ($1::bigint[]);

-- name: step_outputs
-- Outputs of steps as their runs see them: through the producer, with its artifacts.
SELECT
    s.run, s.step, s.source, o.is_compressed, o.body,
    (
        SELECT array_agg((a.media_type, a.uri, a.content_hash, a.size_bytes, a.filename, a.metadata, a.made_from)
                         ORDER BY a.ordinal)
        FROM artifacts AS a
        WHERE a.run = s.producer_run AND a.step = s.producer_step
    ) AS artifacts
FROM unnest($1::bigint[], $2::integer[]) AS w (run, step)
JOIN step_results AS s ON s.run = w.run AND s.step = w.step
JOIN outputs AS o ON o.run = s.producer_run AND o.step = s.producer_step;
