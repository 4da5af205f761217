-- How a run begins, at less cost: rows of composite types, each table written by one statement (see 0011_moves.sql for what
-- that saves), no UPDATE of what was just inserted, and what a run keeps of its base copied here instead of sent.

CREATE TYPE new_run AS (
    id uuid, tenant text, workflow_name text, workflow_version text, workflow_digest bytea, steps_total smallint,
    trigger_type smallint, cache_mode smallint, priority smallint, failure_policy smallint, change_type text,
    base_run bigint, root_run bigint, plan bytea, labels jsonb, principal text, deadline_ms bigint,
    rpc text, request_id text, request_digest bytea, response bytea,
    waiting_for smallint[], ready_steps smallint[], ready_timeouts_ms integer[], skipped smallint
);
COMMENT ON TYPE new_run IS
    'waiting_for: per step, its dependencies not reused; ready: the steps to queue at once; skipped: how many are reused.';
CREATE TYPE kept_steps AS (place integer, base_run bigint, is_kept bytea);
COMMENT ON TYPE kept_steps IS
    'What the run at this 1-based place has as its base, of the same version, has it: a byte a step, 1 for those.';
CREATE TYPE reused_step AS (
    place integer, step smallint, source smallint, input_hash bytea, cache_version text, output_hash bytea,
    producer_run bigint, producer_step smallint, decision bytea
);

CREATE FUNCTION runs_create(
    new_runs new_run[], payloads bytea[], change_payloads bytea[], kept kept_steps[], reused reused_step[],
    OUT run bigint[], OUT earlier_digest bytea[], OUT earlier_response bytea[]
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
-- Creates runs, all or (for a request id that exists) nothing of each: the run, its first events, its reused results and
-- its ready steps. For a request id already used the run is 0, and that request's digest and response are returned; the
-- arrays of those are NULL when no run has one. The first events of a run are numbered here, all later ones by moves_apply.
-- Payloads, up to 1 MiB each, are no part of the rows: every statement that reads those copies them.
DECLARE
    at CONSTANT timestamptz := clock_timestamp();
    total CONSTANT integer := cardinality(new_runs);
    n integer;
    taken record;
BEGIN
    FOR place IN 1 .. total LOOP
        run[place] := nextval('run_key');
    END LOOP;

    INSERT INTO idempotency_keys (tenant, rpc, request_id, request_digest, run, response, created_at)
    SELECT c.tenant, c.rpc, c.request_id, c.request_digest, runs_create.run[c.ordinality], c.response, at
    FROM unnest(new_runs) WITH ORDINALITY AS c
    WHERE c.request_id <> ''
    ORDER BY c.tenant, c.rpc, c.request_id
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n < total THEN
        earlier_digest := array_fill(NULL::bytea, ARRAY[total]);
        earlier_response := array_fill(NULL::bytea, ARRAY[total]);
        FOR taken IN
            SELECT c.ordinality AS place, i.request_digest, i.response
            FROM unnest(new_runs) WITH ORDINALITY AS c
            JOIN idempotency_keys AS i USING (tenant, rpc, request_id)
            WHERE i.run <> runs_create.run[c.ordinality]
        LOOP
            run[taken.place] := 0;
            earlier_digest[taken.place] := taken.request_digest;
            earlier_response[taken.place] := taken.response;
        END LOOP;
    END IF;

    INSERT INTO runs (
        run, id, tenant, workflow_name, workflow_version, workflow_digest, steps_total, trigger_type, cache_mode,
        priority, failure_policy, payload, change_type, change_payload, base_run, root_run, plan, labels, request_id,
        principal, deadline, created_at
    )
    SELECT
        runs_create.run[c.ordinality], c.id, c.tenant, c.workflow_name, c.workflow_version, c.workflow_digest,
        c.steps_total, c.trigger_type, c.cache_mode, c.priority, c.failure_policy, payloads[c.ordinality],
        c.change_type, change_payloads[c.ordinality], c.base_run,
        coalesce(c.root_run, runs_create.run[c.ordinality]), c.plan, c.labels, c.request_id, c.principal,
        at + c.deadline_ms * interval '1 millisecond', at
    FROM unnest(new_runs) WITH ORDINALITY AS c
    WHERE runs_create.run[c.ordinality] > 0;

    -- A run of which nothing remains is completed at once.
    INSERT INTO run_progress (
        run, status, remaining, skipped, last_sequence, started_at, ended_at, deadline, updated_at
    )
    SELECT
        runs_create.run[c.ordinality],
        CASE WHEN d.is_done THEN 3 ELSE 1 END,
        c.steps_total - c.skipped,
        c.skipped,
        1 + c.skipped + CASE WHEN d.is_done THEN 2 ELSE cardinality(c.ready_steps) END,
        CASE WHEN d.is_done THEN at END,
        CASE WHEN d.is_done THEN at END,
        CASE WHEN NOT d.is_done THEN at + c.deadline_ms * interval '1 millisecond' END,
        at
    FROM unnest(new_runs) WITH ORDINALITY AS c
    CROSS JOIN LATERAL (SELECT c.skipped = c.steps_total AS is_done) AS d
    WHERE runs_create.run[c.ordinality] > 0;

    INSERT INTO run_state (run, chunk, waiting_for)
    SELECT runs_create.run[c.ordinality], s.chunk, c.waiting_for[s.chunk * 1000 + 1 : s.chunk * 1000 + 1000]
    FROM unnest(new_runs) WITH ORDINALITY AS c
    CROSS JOIN LATERAL generate_series(0, (c.steps_total - 1) / 1000) AS s (chunk)
    WHERE runs_create.run[c.ordinality] > 0;

    -- queued, and after what is skipped, which comes below, the ready steps
    INSERT INTO run_events (
        run, sequence, occurred_at, type, step, attempt, from_status, to_status,
        running, completed, skipped, failed, cancelled
    )
    SELECT
        runs_create.run[c.ordinality],
        CASE WHEN q.n = 0 THEN 1 ELSE 1 + c.skipped + q.n END,
        at,
        CASE WHEN q.n = 0 THEN 1 ELSE 2 END,
        q.step,
        CASE WHEN q.n > 0 THEN 0 END,
        CASE WHEN q.n > 0 THEN 1 END,
        CASE WHEN q.n = 0 THEN 1 ELSE 2 END,
        0, 0,
        CASE WHEN q.n = 0 THEN 0 ELSE c.skipped END,
        0, 0
    FROM unnest(new_runs) WITH ORDINALITY AS c
    CROSS JOIN LATERAL (
        SELECT NULL::smallint, 0
        UNION ALL
        SELECT r.step, r.n FROM unnest(c.ready_steps) WITH ORDINALITY AS r (step, n)
    ) AS q (step, n)
    WHERE runs_create.run[c.ordinality] > 0;

    IF cardinality(kept) > 0 OR cardinality(reused) > 0 THEN
        INSERT INTO step_results (
            run, step, status, source, attempt, lease_losses, input_hash, cache_version, output_hash,
            producer_run, producer_step, ended_at, decision
        )
        SELECT
            runs_create.run[k.place], s.step, 5, 2, 0, 0, s.input_hash, s.cache_version, s.output_hash,
            s.producer_run, s.producer_step, at, NULL::bytea
        FROM unnest(kept) AS k
        JOIN step_results AS s ON s.run = k.base_run
        WHERE runs_create.run[k.place] > 0 AND get_byte(k.is_kept, s.step) = 1 AND s.status IN (4, 5)
        UNION ALL
        SELECT
            runs_create.run[u.place], u.step, 5, u.source, 0, 0, u.input_hash, u.cache_version, u.output_hash,
            u.producer_run, u.producer_step, at, u.decision
        FROM unnest(reused) AS u
        WHERE runs_create.run[u.place] > 0;
        GET DIAGNOSTICS n = ROW_COUNT;
        -- What a run has never changes, but it may be removed, with its run.
        IF n <> (
            SELECT sum(c.skipped)
            FROM unnest(new_runs) WITH ORDINALITY AS c
            WHERE runs_create.run[c.ordinality] > 0
        ) THEN
            RAISE EXCEPTION 'the base run has not all the results that the plan reuses';
        END IF;

        INSERT INTO run_events (
            run, sequence, occurred_at, type, step, attempt, from_status, to_status,
            running, completed, skipped, failed, cancelled
        )
        SELECT s.run, 1 + s.n, at, 2, s.step, 0, 1, 5, 0, 0, s.n, 0, 0
        FROM (
            SELECT r.run, r.step, row_number() OVER (PARTITION BY r.run ORDER BY r.step) AS n
            FROM step_results AS r
            WHERE r.run = ANY (runs_create.run)
        ) AS s
        UNION ALL
        -- queued -> running -> completed, where nothing remains
        SELECT
            runs_create.run[c.ordinality], c.skipped + e.to_status, at, 1, NULL, NULL, e.to_status - 1, e.to_status,
            0, 0, c.skipped, 0, 0
        FROM unnest(new_runs) WITH ORDINALITY AS c
        CROSS JOIN (VALUES (2), (3)) AS e (to_status)
        WHERE runs_create.run[c.ordinality] > 0 AND c.skipped = c.steps_total;
    END IF;

    INSERT INTO step_queue (run, step, tenant, priority, timeout_ms, ready_at, available_at)
    SELECT runs_create.run[c.ordinality], q.step, c.tenant, c.priority, q.timeout_ms, at, at
    FROM unnest(new_runs) WITH ORDINALITY AS c
    CROSS JOIN LATERAL unnest(c.ready_steps, c.ready_timeouts_ms) AS q (step, timeout_ms)
    WHERE runs_create.run[c.ordinality] > 0;

    INSERT INTO audit_log (at, tenant, principal, action, target)
    SELECT at, c.tenant, c.principal, c.rpc, c.id::text
    FROM unnest(new_runs) WITH ORDINALITY AS c
    WHERE runs_create.run[c.ordinality] > 0;
END $$;
