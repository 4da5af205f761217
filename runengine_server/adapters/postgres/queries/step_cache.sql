-- name: step_cache_find
-- One row per key asked for ($1-$8, the last an index into the distinct steps $9-$11), in the order asked: the entry,
-- with its output when the fingerprint is the one asked for; where there is none, whether the step has any entry.
-- LIMIT 1 keeps each lookup an index probe whatever the statistics say: a batch of keys must never become a hash join
-- over the cache or over the outputs. A miss costs one probe, for all that belongs to a hit is inside it.
SELECT
    k.skill_id, k.cache_version, k.cache_epoch, k.run, k.step, k.output_hash, k.created_at,
    k.run_id, k.is_compressed, k.body, k.artifacts,
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
        o.run_id, o.is_compressed, o.body, o.artifacts
    FROM step_cache AS c
    LEFT JOIN LATERAL (
        SELECT
            x.is_compressed, x.body,
            -- the producer's run may be gone while its output is kept
            coalesce(
                (SELECT y.id FROM runs AS y WHERE y.run = c.run), (SELECT g.id FROM deleted_runs AS g WHERE g.run = c.run)
            ) AS run_id,
            (
                SELECT array_agg(
                    (z.media_type, z.uri, z.content_hash, z.size_bytes, z.filename, z.metadata, z.made_from)
                    ORDER BY z.ordinal
                )
                FROM artifacts AS z
                WHERE z.run = c.run AND z.step = c.step
            ) AS artifacts
        FROM outputs AS x
        WHERE x.run = c.run AND x.step = c.step
            AND c.skill_id = w.skill_id AND c.cache_version = w.cache_version AND c.cache_epoch = w.cache_epoch
        LIMIT 1
    ) AS o ON true
    WHERE c.tenant = w.tenant AND c.workflow_name = w.workflow_name AND c.step_id = w.step_id
        AND c.input_hash = w.input_hash
    LIMIT 1
) AS k ON true
ORDER BY w.n;
