-- Runs of one tenant and priority share what is leased, so that a wide one keeps nobody waiting. And runs remember which cache
-- entries their plan has already turned down.

ALTER TABLE runs ADD COLUMN cache_after timestamptz;
COMMENT ON COLUMN runs.cache_after IS
    'When the newest cache entry was filed that the plan found and could not use, such as one of another version of the '
    'skill: what the plan executes takes later entries only. Null: there was none.';

-- Its condition keeps the planner, whatever the statistics say, from using this index where step_queue_free is meant, and
-- the other way round: for one run, that would read what all runs of its tenant have waiting.
CREATE INDEX step_queue_runs ON step_queue (tenant, priority DESC, run, available_at, step)
    WHERE coalesce(engine, 0) = 0 AND waiting_on IS NULL;

CREATE OR REPLACE FUNCTION steps_pick(at timestamptz, p_capacity integer, OUT q_run bigint[], OUT q_step integer[], OUT has_more boolean, OUT next_at timestamptz)
LANGUAGE plpgsql AS $$
-- Locks up to p_capacity steps that may be leased, and never waits for any: each tenant that has some gets its share of
-- what is left (a random one is first), and within a tenant higher priority goes first. Runs of one priority get equal
-- parts (where fewer steps are to be leased than there are runs, random ones get one): the sixteen oldest and the sixteen
-- newest. What those leave goes to all in the order in which steps became ready, and so to the runs in between.
-- has_more: a tenant has more than its share; next_at: when the next delayed step may be leased.
DECLARE
    runs_max CONSTANT integer := 16; -- of the oldest, and of the newest: a probe each, about 6 µs
    tenants text[] := '{}';
    first record;
    share integer;
    taken integer := 0;
    before integer;
    n integer;
    start integer;
    level smallint;
    room integer;
    s record;
    dealing bigint; -- the run whose part is being taken,
    dealt integer; -- and how much of it was
    is_any_left boolean; -- there are more runs, or one had more than its part
BEGIN
    q_run := '{}'; q_step := '{}'; has_more := false;
    LOOP
        -- From tenant to tenant by index probes, whatever each has waiting.
        SELECT q.tenant INTO first
        FROM step_queue AS q
        WHERE q.engine IS NULL AND q.waiting_on IS NULL AND q.tenant > coalesce(tenants[cardinality(tenants)], '')
        ORDER BY q.tenant
        LIMIT 1;
        EXIT WHEN NOT FOUND;
        tenants := tenants || first.tenant;
    END LOOP;
    n := cardinality(tenants);
    start := CASE WHEN n > 1 THEN floor(random() * n)::integer ELSE 0 END;
    FOR i IN 1 .. n LOOP
        EXIT WHEN taken >= p_capacity;
        share := ceil((p_capacity - taken)::numeric / (n - i + 1))::integer;
        before := taken;
        level := 10;
        LOOP
            -- From priority to priority, so that delayed steps of one are not waded through on the way to the next.
            SELECT q.tenant, q.priority INTO first
            FROM step_queue AS q
            WHERE q.engine IS NULL AND q.waiting_on IS NULL AND q.tenant = tenants[(start + i - 1) % n + 1]
                AND q.priority < level
            ORDER BY q.priority DESC
            LIMIT 1;
            EXIT WHEN NOT FOUND;
            level := first.priority;
            room := share - (taken - before);
            dealing := NULL;
            is_any_left := false;
            FOR s IN
                WITH RECURSIVE oldest AS (
                    -- From run to run in the same way. The order says which index to use.
                    (
                        SELECT 1 AS nth, q.run, q.available_at
                        FROM step_queue AS q
                        WHERE coalesce(q.engine, 0) = 0 AND q.waiting_on IS NULL AND q.tenant = first.tenant
                            AND q.priority = level
                        ORDER BY q.run, q.available_at
                        LIMIT 1
                    )
                    UNION ALL
                    SELECT o.nth + 1, r.run, r.available_at
                    FROM oldest AS o
                    CROSS JOIN LATERAL (
                        SELECT q.run, q.available_at
                        FROM step_queue AS q
                        WHERE coalesce(q.engine, 0) = 0 AND q.waiting_on IS NULL AND q.tenant = first.tenant
                            AND q.priority = level AND q.run > o.run
                        ORDER BY q.run, q.available_at
                        LIMIT 1
                    ) AS r
                    WHERE o.nth < runs_max
                ),
                newest AS (
                    SELECT 0 AS nth, NULL::bigint AS run, o.run AS above
                    FROM oldest AS o
                    WHERE o.nth = runs_max
                    UNION ALL
                    SELECT y.nth + 1, r.run, y.above
                    FROM newest AS y
                    CROSS JOIN LATERAL (
                        SELECT q.run
                        FROM step_queue AS q
                        WHERE coalesce(q.engine, 0) = 0 AND q.waiting_on IS NULL AND q.tenant = first.tenant
                            AND q.priority = level AND q.run > y.above AND q.run < coalesce(y.run, 9223372036854775807)
                        ORDER BY q.run DESC, q.available_at DESC
                        LIMIT 1
                    ) AS r
                    WHERE y.nth < runs_max
                ),
                shared AS (
                    SELECT c.run, greatest(1, room / count(*) OVER ()) AS part,
                        max(c.nth) OVER () = 2 * runs_max AS is_cut
                    FROM (
                        SELECT o.nth, o.run FROM oldest AS o WHERE o.available_at <= at
                        UNION ALL
                        SELECT y.nth + runs_max, y.run FROM newest AS y WHERE y.nth > 0
                    ) AS c
                    ORDER BY CASE WHEN room < count(*) OVER () THEN random() END, c.run
                )
                SELECT d.run, d.step, c.part, c.is_cut
                FROM shared AS c
                CROSS JOIN LATERAL (
                    SELECT q.run, q.step
                    FROM step_queue AS q
                    WHERE coalesce(q.engine, 0) = 0 AND q.waiting_on IS NULL AND q.tenant = first.tenant
                        AND q.priority = level AND q.run = c.run AND q.available_at <= at
                    ORDER BY q.available_at, q.step
                    LIMIT c.part
                    FOR UPDATE SKIP LOCKED
                ) AS d
                LIMIT room
            LOOP
                taken := taken + 1;
                q_run[taken] := s.run;
                q_step[taken] := s.step;
                dealt := CASE WHEN s.run = dealing THEN dealt + 1 ELSE 1 END;
                dealing := s.run;
                is_any_left := is_any_left OR s.is_cut OR dealt >= s.part;
            END LOOP;
            EXIT WHEN taken - before >= share;
            IF is_any_left THEN
                FOR s IN
                    SELECT q.run, q.step
                    FROM step_queue AS q
                    WHERE q.engine IS NULL AND q.waiting_on IS NULL AND q.tenant = first.tenant AND q.priority = level
                        AND q.available_at <= at
                        AND (q.run, q.step) NOT IN (SELECT p.run, p.step FROM unnest(q_run, q_step) AS p (run, step))
                    ORDER BY q.available_at, q.run, q.step
                    LIMIT share - (taken - before)
                    FOR UPDATE SKIP LOCKED
                LOOP
                    taken := taken + 1;
                    q_run[taken] := s.run;
                    q_step[taken] := s.step;
                END LOOP;
                EXIT WHEN taken - before >= share;
            END IF;
            next_at := least(next_at, (
                SELECT q.available_at
                FROM step_queue AS q
                WHERE q.engine IS NULL AND q.waiting_on IS NULL AND q.tenant = first.tenant
                    AND q.priority = level AND q.available_at > at
                ORDER BY q.available_at
                LIMIT 1
            ));
        END LOOP;
        has_more := has_more OR taken - before >= share;
    END LOOP;
END $$;
