-- name: cache_generations_read
-- How many removals there were in each tenant's ($1) workflow ($2), in the order asked: two index probes each.
SELECT
    coalesce((SELECT g.generation FROM cache_generations AS g WHERE g.tenant = w.tenant AND g.workflow_name = ''), 0)
    + coalesce((
        SELECT g.generation FROM cache_generations AS g
        WHERE g.tenant = w.tenant AND g.workflow_name = w.workflow_name
    ), 0)
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w (tenant, workflow_name, n)
ORDER BY w.n

-- name: step_cache_sweep
-- Removes ($6: 5 invalidates, 6 evicts) or counts (null) what matches $7-$14 among the next $5 entries from $1-$4 on.
SELECT matched, sample_keys, sample_at, next_tenant, next_workflow, next_step, next_hash
FROM step_cache_sweep($1, $2, $3, $4, $5, $6::smallint, $7, $8, $9, $10, $11, $12, $13, $14)

-- name: run_key_find
-- The internal key of a tenant's run, retained or not: entries may outlive it.
SELECT run FROM producers WHERE id = $1::uuid AND tenant = $2

-- name: audit_add
-- Who did what to what; in the transaction that does it.
INSERT INTO audit_log (tenant, principal, action, target)
VALUES ($1, $2, $3, $4)

-- name: step_cache_list
-- A tenant's entries behind a position, newest first, unless $6 is empty of that step; walks step_cache_newest.
SELECT
    k.workflow_name, k.step_id, k.input_hash, k.skill_id, k.cache_version, k.cache_epoch, k.created_at, k.run, k.step,
    r.id AS run_id
FROM (
    SELECT k.*
    FROM step_cache AS k
    WHERE k.tenant = $1 AND k.step >= 0 AND ($6 = '' OR k.step_id = $6)
        AND (k.created_at, k.run, k.step) < ($2::timestamptz, $3::bigint, $4::smallint)
    ORDER BY k.created_at DESC, k.run DESC, k.step DESC
    LIMIT $5
) AS k
LEFT JOIN producers AS r ON r.run = k.run
ORDER BY k.created_at DESC, k.run DESC, k.step DESC

-- name: step_cache_workflow_list
-- As step_cache_list for one workflow ($7): reads those entries and sorts them.
SELECT
    k.workflow_name, k.step_id, k.input_hash, k.skill_id, k.cache_version, k.cache_epoch, k.created_at, k.run, k.step,
    r.id AS run_id
FROM (
    SELECT k.*
    FROM step_cache AS k
    WHERE k.tenant = $1 AND k.workflow_name = $7 AND ($6 = '' OR k.step_id = $6) AND k.step >= 0
        AND (k.created_at, k.run, k.step) < ($2::timestamptz, $3::bigint, $4::smallint)
    ORDER BY k.created_at DESC, k.run DESC, k.step DESC
    LIMIT $5
) AS k
LEFT JOIN producers AS r ON r.run = k.run
ORDER BY k.created_at DESC, k.run DESC, k.step DESC

-- name: step_cache_read
-- The entry with a key.
SELECT
    k.workflow_name, k.step_id, k.input_hash, k.skill_id, k.cache_version, k.cache_epoch, k.created_at, k.run, k.step,
    r.id AS run_id
FROM step_cache AS k
LEFT JOIN producers AS r ON r.run = k.run
WHERE k.tenant = $1 AND k.workflow_name = $2 AND k.step_id = $3 AND k.input_hash = $4 AND k.step >= 0

-- name: outputs_read
-- Outputs by producer, in the order asked; a body only where it is compressed (its length says nothing then) or $3.
SELECT
    o.is_compressed, octet_length(o.body) AS stored_bytes, CASE WHEN o.is_compressed OR $3::boolean THEN o.body END AS body
FROM unnest($1::bigint[], $2::integer[]) WITH ORDINALITY AS w (run, step, n)
LEFT JOIN outputs AS o ON o.run = w.run AND o.step = w.step
ORDER BY w.n

-- name: cache_counts_settle
-- Adds up to $1 groups of ended runs to cache_counts; how many there were.
SELECT cache_counts_settle($1)

-- name: cache_counts_read
-- What the cache answered in a tenant's ($1) runs of one workflow ($2, empty: all): the sums and what is not added up yet.
SELECT
    c.workflow_name, c.workflow_digest, c.step, sum(c.hot_hits)::bigint AS hot_hits,
    sum(c.cold_hits)::bigint AS cold_hits, sum(c.misses)::bigint AS misses, sum(c.joined)::bigint AS joined
FROM (
    SELECT workflow_name, workflow_digest, step, hot_hits, cold_hits, misses, joined
    FROM cache_counts
    WHERE tenant = $1 AND ($2 = '' OR workflow_name = $2)
    UNION ALL
    SELECT o.workflow_name, o.workflow_digest, o.step, o.hot_hits, o.cold_hits, o.misses, o.joined
    FROM cache_groups_open() AS g (n)
    CROSS JOIN LATERAL cache_counts_of(g.n) AS o
    WHERE o.tenant = $1 AND ($2 = '' OR o.workflow_name = $2)
) AS c
GROUP BY c.workflow_name, c.workflow_digest, c.step
