-- The floor's tables: what is durable of a run and a step, and nothing else; no events, no cache, no tenants.
DROP SCHEMA IF EXISTS floor CASCADE;
CREATE SCHEMA floor;
CREATE TABLE floor.graph (kind text, step text, waits integer NOT NULL, dependents text[] NOT NULL);
CREATE SEQUENCE floor.run_id;
CREATE TABLE floor.run (id bigint PRIMARY KEY, remaining integer NOT NULL, created_at timestamptz DEFAULT now());
CREATE TABLE floor.step (
    run bigint, step text, state smallint NOT NULL, waits integer NOT NULL, dependents text[] NOT NULL, output jsonb,
    lease_until timestamptz, PRIMARY KEY (run, step)
) WITH (fillfactor = 70);
CREATE INDEX ON floor.step (run) WHERE state = 1;

CREATE FUNCTION floor.start(k text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    id CONSTANT bigint := nextval('floor.run_id');
BEGIN
    INSERT INTO floor.run (id, remaining) SELECT id, count(*) FROM floor.graph AS g WHERE g.kind = k;
    INSERT INTO floor.step (run, step, state, waits, dependents)
    SELECT id, g.step, (g.waits = 0)::integer, g.waits, g.dependents FROM floor.graph AS g WHERE g.kind = k;
    RETURN id;
END $$;

CREATE FUNCTION floor.lease(n integer) RETURNS TABLE (run bigint, step text) LANGUAGE sql AS $$
    WITH free AS (
        SELECT s.run, s.step FROM floor.step AS s WHERE s.state = 1 ORDER BY s.run LIMIT n FOR UPDATE SKIP LOCKED
    )
    UPDATE floor.step AS s SET state = 2, lease_until = now() + interval '30 s'
    FROM free
    WHERE s.run = free.run AND s.step = free.step
    RETURNING s.run, s.step
$$;

CREATE FUNCTION floor.finish(runs bigint[], steps text[], outputs jsonb[]) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
BEGIN
    WITH finished AS (
        UPDATE floor.step AS s SET state = 3, output = f.output
        FROM unnest(runs, steps, outputs) AS f (run, step, output)
        WHERE s.run = f.run AND s.step = f.step AND s.state = 2
        RETURNING s.run, s.dependents
    ),
    waits AS (
        SELECT f.run, d.step, count(*)::integer AS n FROM finished AS f, unnest(f.dependents) AS d (step) GROUP BY 1, 2
    ),
    locked AS (
        SELECT s.run, s.step, w.n
        FROM floor.step AS s
        JOIN waits AS w USING (run, step)
        ORDER BY 1, 2
        FOR UPDATE OF s
    )
    UPDATE floor.step AS s SET waits = s.waits - l.n, state = (s.waits = l.n)::integer
    FROM locked AS l
    WHERE s.run = l.run AND s.step = l.step;
    RETURN QUERY
    WITH counted AS (
        UPDATE floor.run AS r SET remaining = r.remaining - f.n
        FROM (SELECT run, count(*)::integer AS n FROM unnest(runs) AS f (run) GROUP BY run) AS f
        WHERE r.id = f.run
        RETURNING r.id, r.remaining
    )
    SELECT c.id FROM counted AS c WHERE c.remaining = 0;
END $$;
