-- name: installation_id
-- Names this database for a hot cache that others may share.
SELECT id
FROM installation;

-- name: runs_start
-- A batch of runs, each created whole with the leases of its first steps, or (run 0) answered from its earlier request; or
-- not at all (-1), where what its plan assumed is not so.
SELECT run, earlier_digest, earlier_response, is_leased, miss, generation
FROM runs_start(
    $1::new_run[], $2::bytea[], $3::bytea[], $4::kept_steps[], $5::reused_step[], $6::text[], $7::timestamptz[],
    $8::text[], $9::absent_entry[], $10::integer[], $11::integer[], $12::first_step[]
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
    r.run, r.root_run, r.id, p.status, r.workflow_name, r.workflow_digest, r.payload, r.change_type, r.change_payload,
    r.cache_mode, r.failure_policy, r.priority, r.labels::text AS labels, r.plan, r.trace_context
FROM runs AS r
JOIN run_progress AS p ON p.run = r.run
WHERE r.id = $1 AND r.tenant = $2;

-- name: run_successes
-- Per run and step who produced the output and with which input.
SELECT
    s.run, s.step, s.input_hash, s.cache_version, s.output_hash,
    s.producer_run, s.producer_step, r.id AS producer_run_id
FROM step_results AS s
LEFT JOIN producers AS r ON r.run = s.producer_run
WHERE s.run = ANY ($1::bigint[]) AND s.status IN (4, 5);

-- name: runs_recent_find
-- The newest completed runs of a tenant's workflow, for what their steps took; looks at the latest 100, completed or not.
-- The name as a range and in the order keeps it on runs_by_workflow: with an equality, statistics of one workflow may
-- prefer walking all runs of the tenant for another, rare one.
SELECT recent.run, recent.workflow_digest
FROM (
    SELECT r.run, r.workflow_digest
    FROM runs AS r
    WHERE r.tenant = $1 AND r.workflow_name BETWEEN $2 AND $2
    ORDER BY r.workflow_name, r.run DESC
    LIMIT 100
) AS recent
JOIN run_progress AS p ON p.run = recent.run
WHERE p.status = 3
ORDER BY recent.run DESC
LIMIT $3;

-- name: step_durations_read
-- How long the attempts took that produced what steps of runs have. Of an attempt that was taken over (leased more often
-- than tried) perhaps only the last lease is known, no longer than it took to be told the result again.
SELECT
    w.run, w.step,
    extract(epoch FROM p.ended_at - CASE
        WHEN p.lease_epoch > p.attempt THEN attempt_begun_at(p.run, p.step, p.attempt, p.started_at)
        ELSE p.started_at
    END)::double precision AS duration_s,
    p.lease_epoch > p.attempt AS is_resumed
FROM unnest($1::bigint[], $2::integer[]) AS w (run, step)
JOIN step_results AS s ON s.run = w.run AND s.step = w.step
JOIN step_results AS p ON p.run = s.producer_run AND p.step = s.producer_step
WHERE p.source = 1;

-- name: runs_facts
-- What a scheduler needs to know of runs; immutable but for the time that is left, which no engine's clock must tell.
SELECT
    r.run, r.id, r.tenant, r.workflow_name, r.workflow_digest, r.cache_mode, r.payload, r.change_type, r.change_payload,
    r.base_run, base.workflow_digest AS base_digest, r.plan,
    r.trace_context, base.id AS base_id, r.cache_after,
    (SELECT b.trace_context FROM runs AS b WHERE b.run = r.base_run) AS base_trace_context,
    extract(epoch FROM r.deadline - clock_timestamp())::double precision AS deadline_in_s
FROM runs AS r
LEFT JOIN producers AS base ON base.run = r.base_run
WHERE r.run = ANY ($1::bigint[]);

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
