-- name: steps_read
-- The steps of a run from number $2 to the last of $3, each from where it is now: results, queue, or neither (pending).
-- $4: only these statuses; empty means any.
-- LIMIT 1 keeps each probe a probe: with statistics of a time when runs were small, all rows of the run were joined to
-- each step otherwise (measured: 9.8 s instead of 0.1 s for 10,000 steps).
SELECT
    n.step, now_at.status,
    s.source, s.input_hash, s.decision, s.producer_run, s.producer_step, producer.id AS producer_id,
    leader.id AS leader_id,
    CASE
        WHEN s.run IS NULL THEN coalesce(q.attempt - (q.engine IS NULL)::integer, 0)
        -- cancelled before the attempt it was queued for
        WHEN s.status = 7 AND s.started_at IS NULL THEN greatest(s.attempt - 1, 0)
        ELSE s.attempt
    END AS attempt,
    coalesce(s.lease_losses, q.lease_losses, 0) AS lease_losses,
    coalesce(s.ready_at, q.ready_at) AS ready_at,
    coalesce(
        CASE
            WHEN s.source = 1 AND s.lease_epoch > s.attempt THEN attempt_begun_at($1, s.step, s.attempt, s.started_at)
            ELSE s.started_at
        END,
        CASE
            WHEN q.engine IS NOT NULL AND q.lease_epoch > q.attempt
                THEN attempt_begun_at($1, q.step, q.attempt, q.leased_at)
            ELSE q.leased_at
        END,
        tried.started_at
    ) AS started_at,
    s.ended_at,
    CASE WHEN q.engine IS NULL AND q.available_at > clock_timestamp() THEN q.available_at END AS next_attempt_at,
    coalesce(s.error, tried.error) AS error,
    published.ids AS artifact_ids,
    s.ended_at - made.ended_at AS output_age
FROM generate_series(
    $2::integer,
    -- without a filter a page looks at its own steps only
    CASE WHEN cardinality($4::smallint[]) = 0 THEN least($3::integer, $2 + $5::integer) ELSE $3 END - 1
) AS n (step)
LEFT JOIN LATERAL (
    SELECT
        r.run, r.step, r.status, r.source, r.input_hash, r.decision, r.producer_run, r.producer_step, r.attempt,
        r.lease_epoch, r.lease_losses, r.ready_at, r.started_at, r.ended_at, r.error
    FROM step_results AS r
    WHERE r.run = $1::bigint AND r.step = n.step
    LIMIT 1
) AS s ON true
LEFT JOIN LATERAL (
    SELECT w.run, w.step, w.engine, w.attempt, w.lease_epoch, w.lease_losses, w.ready_at, w.leased_at, w.available_at,
        w.waiting_on
    FROM step_queue AS w
    WHERE w.run = $1 AND w.step = n.step
    LIMIT 1
) AS q ON true
CROSS JOIN LATERAL (
    SELECT coalesce(s.status, CASE WHEN q.run IS NULL THEN 1 WHEN q.engine IS NULL THEN 2 ELSE 3 END)::smallint AS status
) AS now_at
LEFT JOIN producers AS producer ON producer.run = s.producer_run
-- The run whose identical step it waits for.
LEFT JOIN LATERAL (
    SELECT g.id
    FROM cache_flights AS f
    JOIN runs AS g ON g.run = f.run
    WHERE f.flight = q.waiting_on
    LIMIT 1
) AS leader ON true
-- The last failed try of a step that will be tried again.
LEFT JOIN LATERAL (
    SELECT t.started_at, t.error
    FROM step_attempts AS t
    WHERE t.run = $1 AND t.step = n.step AND q.attempt > 1
    ORDER BY t.lease_epoch DESC
    LIMIT 1
) AS tried ON true
-- How old the output was that a cache hit reused.
LEFT JOIN LATERAL (
    SELECT m.ended_at
    FROM step_results AS m
    WHERE m.run = s.producer_run AND m.step = s.producer_step AND s.source IN (3, 4)
    LIMIT 1
) AS made ON true
-- Artifacts belong to whoever produced the output.
LEFT JOIN LATERAL (
    SELECT array_agg(a.id ORDER BY a.ordinal) AS ids
    FROM artifacts AS a
    WHERE a.run = s.producer_run AND a.step = s.producer_step
) AS published ON true
WHERE cardinality($4) = 0 OR now_at.status = ANY ($4)
ORDER BY n.step
LIMIT $5

-- name: step_attempts_read
-- The failed tries of some steps of a run, oldest first.
SELECT t.step, t.attempt, t.started_at, t.ended_at, t.worker_id, t.error
FROM step_attempts AS t
WHERE t.run = $1::bigint AND t.step = ANY ($2::smallint[])
ORDER BY t.step, t.lease_epoch

-- name: step_outputs_read
-- Output bodies by producer.
SELECT o.run, o.step, o.is_compressed, o.body
FROM unnest($1::bigint[], $2::smallint[]) AS p (run, step)
JOIN outputs AS o ON o.run = p.run AND o.step = p.step
