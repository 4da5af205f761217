-- name: step_cache_find
-- One row per key asked for, in the order asked: the entry, with its output when the fingerprint is the one asked for;
-- where there is none, whether any entry of the same step exists. LIMIT 1 keeps each lookup an index probe whatever
-- the statistics say: a batch of keys must never become a hash join over the cache or over the outputs.
SELECT
    k.skill_id, k.cache_version, k.cache_epoch, k.run, k.step, k.output_hash, k.created_at,
    r.id AS run_id, o.is_compressed, o.body, a.artifacts,
    CASE
        WHEN k.run IS NULL THEN
            -- reads the primary key only
            (
                SELECT true
                FROM step_cache AS s
                WHERE s.tenant = w.tenant AND s.workflow_name = w.workflow_name AND s.step_id = w.step_id
                LIMIT 1
            )
    END AS is_step_known
FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::text[], $7::text[])
    WITH ORDINALITY AS w (tenant, workflow_name, step_id, input_hash, skill_id, cache_version, cache_epoch, n)
LEFT JOIN LATERAL (
    SELECT
        c.skill_id, c.cache_version, c.cache_epoch, c.run, c.step, c.output_hash, c.created_at,
        (c.skill_id, c.cache_version, c.cache_epoch) = (w.skill_id, w.cache_version, w.cache_epoch) AS is_usable
    FROM step_cache AS c
    WHERE c.tenant = w.tenant AND c.workflow_name = w.workflow_name AND c.step_id = w.step_id
        AND c.input_hash = w.input_hash
    LIMIT 1
) AS k ON true
LEFT JOIN LATERAL (
    SELECT x.is_compressed, x.body
    FROM outputs AS x
    WHERE k.is_usable AND x.run = k.run AND x.step = k.step
    LIMIT 1
) AS o ON true
-- the producer's run may be gone while its output is kept
LEFT JOIN LATERAL (
    SELECT y.id
    FROM runs AS y
    WHERE k.is_usable AND y.run = k.run
    LIMIT 1
) AS r ON true
LEFT JOIN LATERAL (
    SELECT
        array_agg((z.media_type, z.uri, z.content_hash, z.size_bytes, z.filename, z.metadata, z.made_from)
                  ORDER BY z.ordinal) AS artifacts
    FROM artifacts AS z
    WHERE k.is_usable AND z.run = k.run AND z.step = k.step
) AS a ON true
ORDER BY w.n;
