-- name: step_queue_tick
-- One scheduler turn; see the function for what it does and in which order it locks.
SELECT
    is_accepted, l_run, l_step, l_epoch, l_attempt, l_losses, l_is_follower, l_miss, l_generation, begun,
    e_run, e_status, e_duration_ms, e_failed_step, e_error, next_available_ms, look_us
FROM tick($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13);

-- name: step_queue_follow
-- Gives leases up to wait for the end of a flight: what became of each, and the runs that ended by it.
SELECT f.outcomes, e.e_run, e.e_status, e.e_duration_ms, e.e_failed_step, e.e_error
FROM (SELECT flights_follow($1, $2, $3, $4, $5) AS outcomes) AS f
-- a lease that was given up was one of a run that had not ended
CROSS JOIN LATERAL runs_ended(ARRAY(
    SELECT DISTINCT v.run FROM unnest($2, f.outcomes) AS v (run, outcome) WHERE v.outcome = 1
)) AS e;

-- name: step_queue_hold
-- A lease whose attempt waits for a slot of its skill is not overdue, whatever its timeout.
UPDATE step_queue
SET timeout_ms = -abs(timeout_ms)
WHERE run = $1 AND step = $2 AND coalesce(engine, 0) = $3 AND lease_epoch = $4;

-- name: step_queue_begin
-- A held attempt starts now, if its lease is still there and nothing of its run has failed.
UPDATE step_queue
SET timeout_ms = $5, leased_at = clock_timestamp()
WHERE run = $1 AND step = $2 AND coalesce(engine, 0) = $3 AND lease_epoch = $4
    AND NOT EXISTS (SELECT FROM run_progress AS p WHERE p.run = $1 AND p.is_failing)
RETURNING run;

-- name: step_queue_owned
-- What an engine holds, and whether the run is failing; reads the partial index on owned rows.
SELECT q.run, q.step, q.lease_epoch, q.attempt, q.lease_losses, q.is_follower, p.is_failing
FROM step_queue AS q
JOIN run_progress AS p ON p.run = q.run
WHERE q.engine = $1;

-- name: leases_return
-- Gives leases back whose attempts have not begun, and says what that ended.
SELECT concerned, e_run, e_status, e_duration_ms, e_failed_step, e_error
FROM runs_ended(leases_take_back($1, $2, $3, false, $4));

-- name: completions_find
-- Which completions an earlier turn of the engine has committed, and what that ended.
SELECT is_recorded, e_run, e_status, e_duration_ms, e_failed_step, e_error
FROM completions_recorded($1, $2, $3, $4);

-- name: engine_register
-- A process that never was before; its number is never reused.
INSERT INTO engines (engine_id, description, lease_until)
VALUES ($1, $2, clock_timestamp() + $3 * interval '1 second')
RETURNING engine;

-- name: engine_renew
-- An engine that was reaped has no row; it must start anew.
UPDATE engines
SET lease_until = clock_timestamp() + $2 * interval '1 second'
WHERE engine = $1
RETURNING engine;

-- name: engine_delete
-- After its leases were handed back.
DELETE FROM engines
WHERE engine = $1;

-- name: leases_release
-- Hands a bounded number of an engine's leases back, and says what that ended.
SELECT concerned, e_run, e_status, e_duration_ms, e_failed_step, e_error
FROM runs_ended(leases_release($1, false, $2, $3));

-- name: engines_reap
-- Takes back a bounded number of leases of an engine whose own lease has ended, and says what that ended.
SELECT concerned, e_run, e_status, e_duration_ms, e_failed_step, e_error
FROM runs_ended(engines_reap($1, $2));

-- name: leases_reap
-- Takes back leases held far beyond their attempt's timeout, and those of engines that no longer exist.
SELECT concerned, e_run, e_status, e_duration_ms, e_failed_step, e_error
FROM runs_ended(leases_reap($1, $2, $3));

-- name: flights_claim
-- Which of these steps lead their flights.
SELECT flights_claim($1, $2, $3);

-- name: flights_reap
-- Ends flights whose leader is gone, and wakes steps that wait for none; there is hardly ever one.
SELECT flights_reap($1);

-- name: deadlines_enforce
-- Fails runs that are past their deadline.
SELECT e_run, e_status, e_duration_ms, e_failed_step, e_error
FROM runs_ended(deadlines_enforce($1));

-- name: deadline_find
-- How far away the next deadline is. The time of the statement can bound an index scan, a volatile clock cannot.
SELECT extract(epoch FROM min(p.deadline) - clock_timestamp())::double precision
FROM run_progress AS p
WHERE p.deadline > statement_timestamp();

-- name: partitions_ensure
-- Keeps partitions ready ahead of the newest run.
SELECT partitions_ensure();
