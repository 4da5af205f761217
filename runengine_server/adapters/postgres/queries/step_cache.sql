-- name: step_cache_find
-- One row per key asked for ($1-$8, the last an index into the distinct steps $9-$11), in the order asked: the entry,
-- with its output when the fingerprint is the one asked for; where there is none, whether the step has any entry. LIMIT 1 keeps each lookup an index probe whatever
-- the statistics say: a batch of keys must never become a hash join over the cache or over the outputs.
SELECT
    k.skill_id, k.cache_version, k.cache_epoch, k.run, k.step, k.output_hash, k.created_at,
    r.id AS run_id, o.is_compressed, o.body, a.artifacts,
    CASE
        WHEN k.run IS NULL THEN
            -- Evaluated at the first miss, once for each distinct step and not for each key: 10 µs saved a miss.
            (
                SELECT array_agg(
                    -- Reads one entry of the primary key's index. Without the order a table that is mostly of one
                    -- step is scanned instead: the first match would seem near.
                    (
                        SELECT true
                        FROM step_cache AS s
                        WHERE s.tenant = t.tenant AND s.workflow_name = t.workflow_name AND s.step_id = t.step_id
                        ORDER BY s.tenant, s.workflow_name, s.step_id, s.input_hash
                        LIMIT 1
                    )
                    ORDER BY t.n
                )
                FROM unnest($9::text[], $10::text[], $11::text[])
                    WITH ORDINALITY AS t (tenant, workflow_name, step_id, n)
            )[w.distinct_step]
    END AS is_step_known
FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::text[], $7::text[], $8::integer[])
    WITH ORDINALITY AS w (
        tenant, workflow_name, step_id, input_hash, skill_id, cache_version, cache_epoch, distinct_step, n)
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
