-- A graph by hand, for queues that have none: one row a step; finishing a step stores its output, counts its dependents
-- down and adds the jobs of those that are ready now, in one transaction.
DROP SCHEMA IF EXISTS chain CASCADE;
CREATE SCHEMA chain;
CREATE TABLE chain.graph (kind text, step text, waits integer NOT NULL, dependents text[] NOT NULL, PRIMARY KEY (kind, step));
CREATE TABLE chain.step (
    run bigint, step text, waits integer NOT NULL, dependents text[] NOT NULL, output jsonb, PRIMARY KEY (run, step)
);
CREATE SEQUENCE chain.run;

CREATE FUNCTION chain.start(k text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    id CONSTANT bigint := nextval('chain.run');
BEGIN
    INSERT INTO chain.step SELECT id, g.step, g.waits, g.dependents FROM chain.graph AS g WHERE g.kind = k;
    PERFORM graphile_worker.add_job('step', json_build_object('run', id, 'step', g.step))
    FROM chain.graph AS g
    WHERE g.kind = k AND g.waits = 0;
    RETURN id;
END $$;

CREATE FUNCTION chain.finish(id bigint, name text, result jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    next text[];
BEGIN
    UPDATE chain.step AS s SET output = result
    WHERE s.run = id AND s.step = name AND s.output IS NULL
    RETURNING s.dependents INTO next;
    -- In one order, so that two siblings cannot deadlock.
    PERFORM FROM chain.step AS s WHERE s.run = id AND s.step = ANY (next) ORDER BY s.step FOR UPDATE;
    WITH counted AS (
        UPDATE chain.step AS s SET waits = s.waits - 1
        WHERE s.run = id AND s.step = ANY (next)
        RETURNING s.step, s.waits
    )
    SELECT array_agg(c.step) INTO next FROM counted AS c WHERE c.waits = 0;
    PERFORM graphile_worker.add_job('step', json_build_object('run', id, 'step', n)) FROM unnest(next) AS n;
END $$;
