-- How runs that ended long ago go, and what stays of them as long as others refer to it.
--
-- A run goes in two steps. First, in one transaction, it can no longer be found: its rows in runs, run_progress, run_state
-- and idempotency_keys become one in deleted_runs. Its results stay for an hour after that: whoever was just building on
-- it finds all of them. Then deleted_runs_settle takes the rest, apart from outputs that are still referred to. Lock order:
-- run_progress by run; deleted_runs only where nobody else holds the row.

CREATE TABLE deleted_runs (
    run bigint PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    tenant text NOT NULL,
    workflow_digest bytea NOT NULL,
    deleted_at timestamptz NOT NULL,
    next_at timestamptz NOT NULL,
    unreferenced smallint[] NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE deleted_runs IS
    'Runs that retention has deleted and of which something is left: the outputs that retained runs or the cache refer to, '
    'with their artifacts and the results of the steps that made them. The last output takes the row with it.';
COMMENT ON COLUMN deleted_runs.next_at IS 'When to look again whether what is left is referred to.';
COMMENT ON COLUMN deleted_runs.unreferenced IS 'Steps to whose outputs nothing referred at the last look; if that still holds at the next, they go.';
CREATE INDEX deleted_runs_due ON deleted_runs (next_at);

CREATE VIEW producers AS
SELECT r.run, r.id, r.tenant, r.workflow_digest FROM runs AS r
UNION ALL
SELECT d.run, d.id, d.tenant, d.workflow_digest FROM deleted_runs AS d;
COMMENT ON VIEW producers IS 'Runs whose outputs others may refer to, retained or not.';

-- Which runs reuse something of a run. Steps that were executed have no entry; each reuse costs 0.35 µs (0.8 with its step).
CREATE INDEX step_results_reused ON step_results (producer_run) WHERE producer_run <> run;

CREATE FUNCTION deleted_runs_settle(
    p_rows integer, p_unreferenced_s integer,
    OUT events integer, OUT outputs integer, OUT artifacts integer, OUT has_more boolean
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
-- Takes about p_rows rows of deleted runs that are due; has_more: call again. Events, failed tries and results without an
-- output go at once. An output goes when nothing refers to it at two looks p_unreferenced_s apart. That is longer than
-- the hot cache holds a value (and a plan, or a step on its way, what it has found), and no reference can appear out of
-- nothing: a run takes one over from a retained run or from the cache. Idempotent by: what is there.
DECLARE
    reuses_max CONSTANT integer := 20000; -- of one run, of which that many are looked at: about 40 ms
    kept_s CONSTANT integer := 7 * 86400; -- between looks at what has been referred to for long
    at CONSTANT timestamptz := clock_timestamp(); -- a volatile clock would not bound the index scan
    rows_left integer := p_rows;
    d deleted_runs;
    n integer;
    reuses integer;
    used smallint[];
    free smallint[];
    looked_at smallint[];
    contents bytea[];
BEGIN
    events := 0; outputs := 0; artifacts := 0; has_more := false;
    FOR d IN
        SELECT g.*
        FROM deleted_runs AS g
        WHERE g.next_at <= at
        ORDER BY g.next_at
        LIMIT greatest(p_rows / 20, 1)
        FOR UPDATE SKIP LOCKED
    LOOP
        has_more := true;
        EXIT WHEN rows_left <= 0;
        IF EXISTS (
            SELECT FROM runs AS r
            JOIN run_progress AS p ON p.run = r.run
            WHERE r.base_run = d.run AND p.status < 3
        ) THEN
            -- It was begun while the run was being deleted, and may still compare its inputs with all that the base has.
            UPDATE deleted_runs AS g SET next_at = at + interval '1 hour' WHERE g.run = d.run;
            CONTINUE;
        END IF;

        DELETE FROM run_events AS e
        WHERE e.run = d.run
            AND e.sequence < (
                SELECT f.sequence FROM run_events AS f WHERE f.run = d.run ORDER BY f.sequence LIMIT 1
            ) + rows_left;
        GET DIAGNOSTICS n = ROW_COUNT;
        events := events + n;
        rows_left := rows_left - n;
        EXIT WHEN rows_left <= 0;
        DELETE FROM step_attempts AS t
        USING (SELECT a.step, a.lease_epoch FROM step_attempts AS a WHERE a.run = d.run LIMIT rows_left) AS a
        WHERE t.run = d.run AND t.step = a.step AND t.lease_epoch = a.lease_epoch;
        GET DIAGNOSTICS n = ROW_COUNT;
        rows_left := rows_left - n;
        EXIT WHEN rows_left <= 0;
        DELETE FROM step_results AS s
        USING (SELECT a.step FROM step_results AS a WHERE a.run = d.run AND a.status <> 4 LIMIT rows_left) AS a
        WHERE s.run = d.run AND s.step = a.step;
        GET DIAGNOSTICS n = ROW_COUNT;
        rows_left := rows_left - n;
        EXIT WHEN rows_left <= 0;

        -- Where there are too many reuses to look at, all of it is kept.
        SELECT count(*), array_agg(DISTINCT u.producer_step) FILTER (WHERE u.is_retained)
        INTO reuses, used
        FROM (
            SELECT s.producer_step, EXISTS (SELECT FROM runs AS r WHERE r.run = s.run) AS is_retained
            FROM step_results AS s
            WHERE s.producer_run = d.run AND s.producer_run <> s.run
            LIMIT reuses_max
        ) AS u;
        -- First what the look before found, in portions; then all that is left.
        looked_at := d.unreferenced[1 : greatest(rows_left / 4, 1)];
        SELECT
            coalesce(array_agg(s.step) FILTER (WHERE NOT (s.step IN (SELECT unnest(used))) AND k.run IS NULL), '{}'),
            count(*)
        INTO free, n
        FROM step_results AS s
        LEFT JOIN LATERAL (
            -- An entry is filed at the moment its step ends; that leads to it in the index by age.
            SELECT c.run
            FROM step_cache AS c
            WHERE c.tenant = d.tenant AND c.created_at = s.ended_at AND c.run = s.run AND c.step = s.step
                AND c.step >= 0
            LIMIT 1
        ) AS k ON true
        WHERE s.run = d.run AND reuses < reuses_max
            AND (s.step IN (SELECT unnest(looked_at)) OR cardinality(looked_at) = 0);
        rows_left := rows_left - n - reuses / 4;

        IF cardinality(looked_at) > 0 THEN
            WITH gone AS (
                DELETE FROM artifacts AS a WHERE a.run = d.run AND a.step = ANY (free) RETURNING a.content_hash
            )
            SELECT array_agg(DISTINCT g.content_hash), count(*) INTO contents, n FROM gone AS g;
            artifacts := artifacts + n;
            DELETE FROM artifact_contents AS c
            WHERE c.tenant = d.tenant AND c.content_hash = ANY (contents) AND NOT EXISTS (
                SELECT FROM artifacts AS a WHERE a.content_hash = c.content_hash AND a.tenant = d.tenant
            );
            DELETE FROM outputs AS o WHERE o.run = d.run AND o.step = ANY (free);
            DELETE FROM step_results AS s WHERE s.run = d.run AND s.step = ANY (free);
            outputs := outputs + cardinality(free);
            rows_left := rows_left - 2 * cardinality(free) - n;
            UPDATE deleted_runs AS g
            SET unreferenced = g.unreferenced[cardinality(looked_at) + 1 :]
            WHERE g.run = d.run;
        ELSIF NOT EXISTS (SELECT FROM step_results AS s WHERE s.run = d.run) THEN
            DELETE FROM deleted_runs AS g WHERE g.run = d.run;
        ELSE
            UPDATE deleted_runs AS g
            SET unreferenced = free,
                next_at = at + CASE
                    WHEN cardinality(free) > 0 THEN p_unreferenced_s * interval '1 second'
                    ELSE greatest(
                        p_unreferenced_s * interval '1 second',
                        least(kept_s * interval '1 second', at - d.deleted_at)
                    )
                END
            WHERE g.run = d.run;
        END IF;
    END LOOP;
END $$;
