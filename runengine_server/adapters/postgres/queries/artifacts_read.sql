-- name: artifacts_read
-- What a run's completed and skipped steps published or reuse, after ($2, $3); $4: only that step, null means any.
SELECT
    s.step, s.source, a.ordinal, a.id, a.content_hash, a.size_bytes, a.media_type, a.uri, a.filename, a.metadata,
    a.made_from, a.skill_id, a.skill_version, a.created_at, producer.id AS producer_id
FROM step_results AS s
JOIN artifacts AS a ON a.run = s.producer_run AND a.step = s.producer_step
LEFT JOIN producers AS producer ON producer.run = s.producer_run
WHERE s.run = $1::bigint
    AND s.step >= $2::smallint
    AND (s.step, a.ordinal) > ($2, $3::smallint)
    AND ($4::smallint IS NULL OR s.step = $4)
    AND s.status IN (4, 5)
ORDER BY s.step, a.ordinal
LIMIT $5::integer
