-- name: lineage_artifact_find
-- A tenant's artifact by its id, with what is needed to name the step that made it.
SELECT
    a.run, a.step, a.ordinal, a.id, a.content_hash, a.size_bytes, a.media_type, a.uri, a.filename, a.metadata,
    a.made_from, a.skill_id, a.skill_version, a.created_at, r.id AS run_id, r.workflow_digest
FROM artifacts AS a
LEFT JOIN producers AS r ON r.run = a.run
WHERE a.id = $1::uuid AND a.tenant = $2::text

-- name: lineage_artifacts_list
-- What steps made, in their order.
SELECT
    a.run, a.step, a.ordinal, a.id, a.content_hash, a.size_bytes, a.media_type, a.uri, a.filename, a.metadata,
    a.made_from, a.skill_id, a.skill_version, a.created_at, r.id AS run_id, r.workflow_digest
FROM unnest($1::bigint[], $2::smallint[]) WITH ORDINALITY AS p (run, step, place)
JOIN artifacts AS a ON a.run = p.run AND a.step = p.step
LEFT JOIN producers AS r ON r.run = a.run
WHERE a.tenant = $3::text
ORDER BY p.place, a.ordinal
LIMIT $4::integer

-- name: lineage_makers_list
-- Who executed what steps have as their output: themselves, or whoever they reuse.
SELECT
    p.run, p.step, s.producer_run, s.producer_step, r.workflow_digest,
    EXISTS (
        SELECT FROM artifacts AS a WHERE a.run = s.producer_run AND a.step = s.producer_step
    ) AS has_artifacts
FROM unnest($1::bigint[], $2::smallint[]) AS p (run, step)
JOIN step_results AS s ON s.run = p.run AND s.step = p.step
LEFT JOIN producers AS r ON r.run = s.producer_run
WHERE s.status IN (4, 5)

-- name: lineage_shown_find
-- True when a tenant's run has a completed or skipped step whose output is that of the step ($3, $4): as it lists artifacts.
SELECT true
FROM runs AS r
JOIN step_results AS s ON s.run = r.run
WHERE r.id = $1::uuid AND r.tenant = $2::text AND s.producer_run = $3::bigint AND s.producer_step = $4::smallint
    AND s.status IN (4, 5)
LIMIT 1
