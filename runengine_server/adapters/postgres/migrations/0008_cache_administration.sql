-- How entries leave the step cache before their time, and how it served.

CREATE TABLE cache_generations (
    tenant text NOT NULL,
    workflow_name text NOT NULL,
    generation bigint NOT NULL,
    PRIMARY KEY (tenant, workflow_name)
);
COMMENT ON TABLE cache_generations IS
    'Counts removals from step_cache, in their transactions: a hot value is good while the counts of its workflow and of its tenant stand still.';
COMMENT ON COLUMN cache_generations.workflow_name IS 'Empty: removals that concern every workflow of the tenant.';

-- A removed entry leaves its row behind as a tombstone, so that a later lookup can say why it misses. The next success
-- overwrites it like any other entry, and whoever looks for the output of such a producer finds none.
ALTER TABLE step_cache ADD CONSTRAINT step_cache_tombstone_is_known CHECK (step >= 0 OR step IN (-5, -6)) NOT VALID;
COMMENT ON COLUMN step_cache.step IS
    'Of the producer; minus the number of a miss reason (5 INVALIDATED, 6 EVICTED) once removed, created_at then says when.';
CREATE INDEX step_cache_newest ON step_cache (tenant, created_at DESC, run DESC, step DESC) WHERE step >= 0;
CREATE INDEX step_cache_tombstones ON step_cache (created_at) WHERE step < 0;

CREATE FUNCTION step_cache_sweep(
    -- where to begin, inclusive, in the order of the primary key, and how many rows to look at
    p_tenant text, p_workflow text, p_step text, p_hash bytea, p_window integer,
    -- 5 invalidates, 6 evicts, null only counts
    p_removal smallint,
    -- which entries; null means any
    m_tenant text, m_workflow text, m_step text, m_hash bytea, m_run bigint, m_skill text, m_version text,
    m_before timestamptz,
    OUT matched bigint, OUT sample_keys text[], OUT sample_at timestamptz[],
    OUT next_tenant text, OUT next_workflow text, OUT next_step text, OUT next_hash bytea
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
-- Looks at the next p_window entries and removes, or counts, those that match; a success filed meanwhile stays. The next_
-- columns say where to go on, null at the end. Entries are locked in the order in which turns file them, generations
-- after them and in order: no lock cycle can close.
DECLARE
    g_tenant text[];
    g_workflow text[];
BEGIN
    SELECT k.tenant, k.workflow_name, k.step_id, k.input_hash
    INTO next_tenant, next_workflow, next_step, next_hash
    FROM step_cache AS k
    WHERE (k.tenant, k.workflow_name, k.step_id, k.input_hash) >= (p_tenant, p_workflow, p_step, p_hash)
    ORDER BY k.tenant, k.workflow_name, k.step_id, k.input_hash
    OFFSET p_window LIMIT 1;
    IF next_tenant <> m_tenant OR next_workflow <> m_workflow OR m_workflow IS NOT NULL AND next_step <> m_step THEN
        next_tenant := NULL; next_workflow := NULL; next_step := NULL; next_hash := NULL;
    END IF;

    WITH seen AS MATERIALIZED (
        SELECT k.*
        FROM step_cache AS k
        WHERE (k.tenant, k.workflow_name, k.step_id, k.input_hash) >= (p_tenant, p_workflow, p_step, p_hash)
        ORDER BY k.tenant, k.workflow_name, k.step_id, k.input_hash
        LIMIT p_window
    ),
    found AS (
        SELECT k.tenant, k.workflow_name, k.step_id, k.input_hash, k.run, k.step, k.created_at
        FROM seen AS k
        WHERE k.step >= 0
            AND (m_tenant IS NULL OR k.tenant = m_tenant)
            AND (m_workflow IS NULL OR k.workflow_name = m_workflow)
            AND (m_step IS NULL OR k.step_id = m_step)
            AND (m_hash IS NULL OR k.input_hash = m_hash)
            AND (m_run IS NULL OR k.run = m_run)
            AND (m_skill IS NULL OR k.skill_id = m_skill)
            AND (m_version IS NULL OR k.cache_version = m_version)
            AND (m_before IS NULL OR k.created_at < m_before)
    ),
    locked AS (
        SELECT k.tenant, k.workflow_name, k.step_id, k.input_hash, k.created_at
        FROM found AS f
        JOIN step_cache AS k ON k.tenant = f.tenant AND k.workflow_name = f.workflow_name AND k.step_id = f.step_id
            AND k.input_hash = f.input_hash AND k.run = f.run AND k.step = f.step
        WHERE p_removal IS NOT NULL
        ORDER BY k.tenant, k.workflow_name, k.step_id, k.input_hash
        FOR UPDATE OF k
    ),
    removed AS (
        UPDATE step_cache AS k
        SET step = -p_removal, created_at = clock_timestamp()
        FROM locked AS l
        WHERE k.tenant = l.tenant AND k.workflow_name = l.workflow_name AND k.step_id = l.step_id
            AND k.input_hash = l.input_hash
        RETURNING l.tenant, l.workflow_name, l.step_id, l.input_hash, l.created_at
    ),
    concerned AS (
        SELECT f.tenant, f.workflow_name, f.step_id, f.input_hash, f.created_at FROM found AS f WHERE p_removal IS NULL
        UNION ALL
        SELECT r.tenant, r.workflow_name, r.step_id, r.input_hash, r.created_at FROM removed AS r
    )
    SELECT
        count(*),
        coalesce((array_agg(
            c.workflow_name || ':' || c.step_id || ':' || encode(c.input_hash, 'hex') ORDER BY c.created_at DESC
        ))[1:20], '{}'),
        coalesce((array_agg(c.created_at ORDER BY c.created_at DESC))[1:20], '{}'),
        array_agg(c.tenant), array_agg(c.workflow_name)
    INTO matched, sample_keys, sample_at, g_tenant, g_workflow
    FROM concerned AS c;

    -- An invalidation counts whatever it found here: the hot tier may hold an earlier success that matches.
    INSERT INTO cache_generations AS g (tenant, workflow_name, generation)
    SELECT DISTINCT c.tenant, c.workflow, 1
    FROM (
        SELECT e.tenant, e.workflow FROM unnest(g_tenant, g_workflow) AS e (tenant, workflow) WHERE p_removal = 6
        UNION ALL
        SELECT m_tenant, coalesce(m_workflow, '') WHERE p_removal = 5
    ) AS c (tenant, workflow)
    ORDER BY c.tenant, c.workflow
    ON CONFLICT (tenant, workflow_name) DO UPDATE SET generation = g.generation + 1;
END $$;

-- ---------------------------------------------------------------- how the cache served

CREATE TABLE cache_counts (
    tenant text NOT NULL,
    workflow_name text NOT NULL,
    run_group bigint NOT NULL,
    workflow_digest bytea NOT NULL,
    step smallint NOT NULL,
    hot_hits bigint NOT NULL,
    cold_hits bigint NOT NULL,
    misses bigint NOT NULL,
    joined bigint NOT NULL,
    PRIMARY KEY (tenant, workflow_name, run_group, workflow_digest, step)
);
COMMENT ON TABLE cache_counts IS 'What step_results say of cache answers, added up for groups of 256 runs that have all ended.';

CREATE TABLE cache_counted (
    run_group bigint PRIMARY KEY
);
COMMENT ON TABLE cache_counted IS 'The groups whose sums are in cache_counts.';

CREATE FUNCTION cache_counts_of(p_group bigint)
RETURNS TABLE (
    tenant text, workflow_name text, workflow_digest bytea, step smallint,
    hot_hits bigint, cold_hits bigint, misses bigint, joined bigint
)
LANGUAGE sql STABLE AS $$
-- Counts the finished steps of a group of runs that the cache answered. A decision begins with its outcome (3: a miss),
-- then for a miss its reason; one for its scope (7) never asked.
SELECT
    r.tenant, r.workflow_name, r.workflow_digest, s.step,
    count(*) FILTER (WHERE s.source = 3), count(*) FILTER (WHERE s.source = 4),
    count(*) FILTER (WHERE s.source IS DISTINCT FROM 3 AND s.source IS DISTINCT FROM 4 AND s.source IS DISTINCT FROM 5),
    count(*) FILTER (WHERE s.source = 5)
FROM runs AS r
JOIN step_results AS s ON s.run = r.run
WHERE r.run >= p_group * 256 AND r.run < (p_group + 1) * 256
    AND (
        s.source IN (3, 4, 5)
        OR substring(s.decision FROM 1 FOR 6) = '{"o":3' AND substring(s.decision FROM 1 FOR 12) <> '{"o":3,"m":7'
    )
GROUP BY r.tenant, r.workflow_name, r.workflow_digest, s.step
$$;

CREATE FUNCTION cache_groups_open() RETURNS SETOF bigint
LANGUAGE sql STABLE AS $$
-- The groups of runs that are not in cache_counts.
SELECT g.n
FROM generate_series((SELECT min(run) FROM runs) / 256, (SELECT max(run) FROM runs) / 256) AS g (n)
WHERE NOT EXISTS (SELECT FROM cache_counted AS c WHERE c.run_group = g.n)
$$;

CREATE FUNCTION cache_counts_settle(p_limit integer) RETURNS integer
LANGUAGE plpgsql AS $$
-- Adds up to p_limit groups of runs to cache_counts, each once, and returns how many there were. A group is whole when
-- the next one was begun a minute ago (no transaction that makes a run lasts so long) and all its runs have ended.
DECLARE
    whole bigint;
    done integer := 0;
BEGIN
    FOR whole IN
        SELECT g.n
        FROM cache_groups_open() AS g (n)
        WHERE (
                SELECT r.created_at < clock_timestamp() - interval '1 minute'
                FROM runs AS r
                WHERE r.run >= (g.n + 1) * 256
                ORDER BY r.run
                LIMIT 1
            )
            AND NOT EXISTS (
                SELECT FROM run_progress AS p
                WHERE p.run >= g.n * 256 AND p.run < (g.n + 1) * 256 AND p.status < 3
            )
        LIMIT p_limit
    LOOP
        INSERT INTO cache_counted (run_group) VALUES (whole) ON CONFLICT DO NOTHING;
        IF FOUND THEN
            INSERT INTO cache_counts (
                tenant, workflow_name, run_group, workflow_digest, step, hot_hits, cold_hits, misses, joined)
            SELECT tenant, workflow_name, whole, workflow_digest, step, hot_hits, cold_hits, misses, joined
            FROM cache_counts_of(whole);
            done := done + 1;
        END IF;
    END LOOP;
    RETURN done;
END $$;

-- ---------------------------------------------------------------- work that one engine does for all

CREATE TABLE housekeeping (
    task text PRIMARY KEY,
    next_at timestamptz NOT NULL
);
COMMENT ON TABLE housekeeping IS 'Who moves next_at on does the task.';
