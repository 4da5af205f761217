-- name: events_read
-- Up to $3 events of a run after sequence $2 with what they refer to, and how far the run is at that moment; one row
-- without an event when there is none. Each reference is a probe of a primary key.
SELECT
    p.last_sequence, p.status AS run_status,
    e.sequence, e.occurred_at, e.type, e.step, e.attempt, e.from_status, e.to_status,
    e.running, e.completed, e.skipped, e.failed, e.cancelled, e.next_attempt_at,
    CASE WHEN e.type = 1 AND e.to_status = 4 THEN p.error ELSE coalesce(ended.error, tried.error) END AS error,
    ended.source, ended.input_hash, ended.decision,
    leader.id AS leader_id,
    coalesce(ended.started_at, tried.started_at) AS started_at,
    published.id AS artifact_id, published.content_hash, published.size_bytes, published.media_type, published.uri,
    published.filename, published.metadata, published.made_from, published.skill_id,
    published.skill_version, published.created_at
FROM run_progress AS p
LEFT JOIN LATERAL (
    SELECT
        v.run, v.sequence, v.occurred_at, v.type, v.step, v.attempt, v.ordinal, v.from_status, v.to_status,
        v.running, v.completed, v.skipped, v.failed, v.cancelled, v.next_attempt_at, v.leader_run
    FROM run_events AS v
    WHERE v.run = $1 AND v.sequence > $2::bigint
    ORDER BY v.run, v.sequence
    LIMIT $3::integer
) AS e ON true
-- The run whose identical step the step begins to wait for.
LEFT JOIN runs AS leader ON leader.run = e.leader_run
-- How a step ended.
LEFT JOIN LATERAL (
    SELECT s.source, s.input_hash, s.decision, s.started_at, s.error
    FROM step_results AS s
    WHERE e.type = 2 AND e.to_status >= 4 AND s.run = $1 AND s.step = e.step
    LIMIT 1
) AS ended ON true
-- Why an attempt failed that is followed by another: the try that ended with this event. A lost lease has none.
LEFT JOIN LATERAL (
    SELECT t.started_at, t.error
    FROM step_attempts AS t
    WHERE e.type = 2 AND e.from_status = 3 AND e.to_status = 2
        AND t.run = $1 AND t.step = e.step AND t.ended_at = e.occurred_at
    LIMIT 1
) AS tried ON true
LEFT JOIN LATERAL (
    SELECT
        a.id, a.content_hash, a.size_bytes, a.media_type, a.uri, a.filename, a.metadata, a.made_from, a.skill_id,
        a.skill_version, a.created_at
    FROM artifacts AS a
    WHERE e.type = 4 AND a.run = $1 AND a.step = e.step AND a.ordinal = e.ordinal
    LIMIT 1
) AS published ON true
WHERE p.run = $1::bigint
ORDER BY e.sequence

-- name: events_last_sequences
-- How far each of some runs is.
SELECT p.run, p.last_sequence
FROM run_progress AS p
WHERE p.run = ANY ($1::bigint[])
