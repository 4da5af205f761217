-- name: skill_call_register
-- An attempt takes the call over; a success that an earlier attempt missed stays, a later attempt wins (no row).
INSERT INTO skill_calls AS c (call_id, run_id, fencing_token, secret, expires_at)
VALUES ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5))
ON CONFLICT (call_id) DO UPDATE
SET fencing_token = EXCLUDED.fencing_token,
    heard_at = clock_timestamp(),
    expires_at = EXCLUDED.expires_at,
    progress = NULL,
    is_success = CASE WHEN c.is_success THEN true END,
    answer = CASE WHEN c.is_success THEN c.answer END
WHERE c.fencing_token <= EXCLUDED.fencing_token
RETURNING c.secret, c.answer;

-- name: skill_call_update
-- A callback; see the function for what it returns.
SELECT skill_call_hear($1, $2, $3, $4, $5, $6);

-- name: skill_calls_read
-- What other engines were told of calls that this one waits for.
SELECT c.call_id, c.fencing_token, c.progress, c.answer,
    extract(epoch FROM clock_timestamp() - c.heard_at)::double precision AS silent_s
FROM skill_calls AS c
WHERE c.call_id = ANY ($1::uuid[]);

-- name: skill_calls_release
-- Calls that ended without a callback, unless another attempt has taken them over.
DELETE FROM skill_calls AS c
USING unnest($1::uuid[], $2::bigint[]) AS r (call_id, fencing_token)
WHERE c.call_id = r.call_id AND c.fencing_token = r.fencing_token;

-- name: skill_calls_sweep
-- Calls whose time is long over, of runs that wait for nothing any more.
WITH gone AS (
    SELECT c.call_id
    FROM skill_calls AS c
    WHERE c.expires_at < clock_timestamp()
        AND NOT EXISTS (
            SELECT FROM runs AS r JOIN step_queue AS q ON q.run = r.run WHERE r.id = c.run_id
        )
    ORDER BY c.expires_at
    LIMIT 1000
    FOR UPDATE SKIP LOCKED
)
DELETE FROM skill_calls AS c
USING gone
WHERE c.call_id = gone.call_id
RETURNING c.call_id;
