-- name: step_times_read
-- When what leases have settled was ready, began and ended. A lease that fails may leave both a result and an attempt.
SELECT
    r.ready_at, coalesce(r.started_at, a.started_at) AS leased_at, coalesce(r.ended_at, a.ended_at) AS ended_at
FROM unnest($1::bigint[], $2::smallint[], $3::bigint[]) WITH ORDINALITY AS w (run, step, lease_epoch, n)
LEFT JOIN step_results AS r ON r.run = w.run AND r.step = w.step AND r.lease_epoch = w.lease_epoch
LEFT JOIN step_attempts AS a ON a.run = w.run AND a.step = w.step AND a.lease_epoch = w.lease_epoch
ORDER BY w.n;

-- name: stopped_steps_list
-- Steps that were leased when their run ended without them.
SELECT s.step, s.attempt, s.ready_at, s.started_at AS leased_at, s.ended_at
FROM step_results AS s
WHERE s.run = $1 AND s.status = 7 AND s.started_at IS NOT NULL
ORDER BY s.step
LIMIT $2;
