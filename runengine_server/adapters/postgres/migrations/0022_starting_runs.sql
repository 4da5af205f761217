-- A run and the leases of its first steps in one transaction: whoever starts a run mostly has room for it. And what its plan
-- took for granted is checked there, instead of being asked for before.

CREATE TYPE absent_entry AS (place integer, tenant text, workflow_name text, step_id text, input_hash bytea);
COMMENT ON TYPE absent_entry IS 'A key of which the plan of the run at this place assumed that the cache has no entry.';
CREATE TYPE first_step AS (
    place integer, step integer, tenant text, workflow_name text, step_id text, input_hash bytea, flight bytea,
    is_step_known boolean, wants_generation boolean
);
COMMENT ON TYPE first_step IS 'To be leased as soon as its run exists, and what it asks the cache then; see cache_question.';

CREATE FUNCTION runs_start(
    new_runs new_run[], payloads bytea[], change_payloads bytea[], kept kept_steps[], reused reused_step[],
    -- of each run, null where it has none; null: of none
    trace_contexts text[], cache_afters timestamptz[],
    versions text[], -- the version asked for ('': the highest), where the plan assumed that it is the one named
    absent absent_entry[],
    engines integer[], -- who leases its first ready steps,
    lease_counts integer[], -- and how many
    firsts first_step[], -- one for each of those
    OUT run bigint[], OUT earlier_digest bytea[], OUT earlier_response bytea[],
    OUT is_leased boolean[], OUT miss smallint[], OUT generation bigint[]
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
-- Creates runs, all or (for a request id that exists) nothing of each: the run, its first events, its reused results, its
-- ready steps and their leases. Where an assumption does not hold nothing is created, and the run is -1. For a request id
-- already used the run is 0, and that request's digest and response are returned; the arrays of those are NULL when no run
-- has one. is_leased, miss, generation: of each of `firsts`; an engine whose own lease has ended
-- leases nothing. miss: why the cache has nothing for the step; then it also leads its flight. Null: ask the cache.
-- The first events of a run are numbered here, all later ones by moves_apply.
-- Payloads, up to 1 MiB each, are no part of the rows: every statement that reads those copies them.
DECLARE
    at CONSTANT timestamptz := clock_timestamp();
    total CONSTANT integer := cardinality(new_runs);
    outdated integer[];
    n integer;
    taken record;
    leasing integer[] := array_fill(0, ARRAY[total]); -- how many steps of each run are leased
BEGIN
    IF versions IS NOT NULL THEN
        SELECT array_agg(c.ordinality) INTO outdated
        FROM unnest(new_runs) WITH ORDINALITY AS c
        JOIN (
            SELECT DISTINCT a.tenant, a.workflow_name, a.workflow_digest, versions[a.ordinality] AS version
            FROM unnest(new_runs) WITH ORDINALITY AS a
            WHERE versions[a.ordinality] IS NOT NULL
        ) AS a USING (tenant, workflow_name, workflow_digest)
        WHERE a.version = versions[c.ordinality] AND a.workflow_digest IS DISTINCT FROM (
            SELECT w.digest -- see workflow_find
            FROM workflows AS w
            WHERE w.tenant IN (a.tenant, '') AND w.name = a.workflow_name AND (a.version = '' OR w.version = a.version)
            ORDER BY w.version_order DESC, w.version COLLATE "C" DESC, w.tenant DESC
            LIMIT 1
        );
    END IF;
    IF cardinality(absent) > 0 THEN
        outdated := outdated || (
            SELECT array_agg(a.place)
            FROM unnest(absent) AS a
            WHERE EXISTS (
                SELECT FROM step_cache AS s
                WHERE s.tenant = a.tenant AND s.workflow_name = a.workflow_name AND s.step_id = a.step_id
                    AND s.input_hash = a.input_hash
                OFFSET 0
            )
        );
    END IF;
    FOR place IN 1 .. total LOOP
        run[place] := CASE WHEN place = ANY (outdated) THEN -1 ELSE nextval('run_key') END;
    END LOOP;

    INSERT INTO idempotency_keys (tenant, rpc, request_id, request_digest, run, response, created_at)
    SELECT c.tenant, c.rpc, c.request_id, c.request_digest, runs_start.run[c.ordinality], c.response, at
    FROM unnest(new_runs) WITH ORDINALITY AS c
    WHERE c.request_id <> '' AND runs_start.run[c.ordinality] > 0
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
            WHERE i.run <> runs_start.run[c.ordinality]
        LOOP
            run[taken.place] := 0;
            earlier_digest[taken.place] := taken.request_digest;
            earlier_response[taken.place] := taken.response;
        END LOOP;
    END IF;

    IF engines IS NOT NULL THEN
        -- Who slept through its own funeral must not lease under a number that nobody reaps any more.
        SELECT array_agg(CASE WHEN e.lease_until > at THEN lease_counts[v.place] ELSE 0 END ORDER BY v.place)
        INTO leasing
        FROM unnest(runs_start.engines) WITH ORDINALITY AS v (engine, place)
        LEFT JOIN engines AS e ON e.engine = v.engine;
    END IF;

    INSERT INTO runs (
        run, id, tenant, workflow_name, workflow_version, workflow_digest, steps_total, trigger_type, cache_mode,
        priority, failure_policy, payload, change_type, change_payload, base_run, root_run, plan, labels, request_id,
        principal, deadline, created_at, trace_context, cache_after
    )
    SELECT
        runs_start.run[c.ordinality], c.id, c.tenant, c.workflow_name, c.workflow_version, c.workflow_digest,
        c.steps_total, c.trigger_type, c.cache_mode, c.priority, c.failure_policy, payloads[c.ordinality],
        c.change_type, change_payloads[c.ordinality], c.base_run,
        coalesce(c.root_run, runs_start.run[c.ordinality]), c.plan, c.labels, c.request_id, c.principal,
        at + c.deadline_ms * interval '1 millisecond', at, trace_contexts[c.ordinality], cache_afters[c.ordinality]
    FROM unnest(new_runs) WITH ORDINALITY AS c
    WHERE runs_start.run[c.ordinality] > 0;

    -- A run of which nothing remains is completed at once; one of which steps are leased is running.
    INSERT INTO run_progress (
        run, status, remaining, running, skipped, last_sequence, started_at, ended_at, deadline, updated_at
    )
    SELECT
        runs_start.run[c.ordinality],
        CASE WHEN d.is_done THEN 3 WHEN d.leased > 0 THEN 2 ELSE 1 END,
        c.steps_total - c.skipped,
        d.leased,
        c.skipped,
        1 + c.skipped + CASE WHEN d.is_done THEN 2 ELSE cardinality(c.ready_steps) + (d.leased > 0)::integer END,
        CASE WHEN d.is_done OR d.leased > 0 THEN at END,
        CASE WHEN d.is_done THEN at END,
        CASE WHEN NOT d.is_done THEN at + c.deadline_ms * interval '1 millisecond' END,
        at
    FROM unnest(new_runs) WITH ORDINALITY AS c
    CROSS JOIN LATERAL (SELECT c.skipped = c.steps_total AS is_done, leasing[c.ordinality] AS leased) AS d
    WHERE runs_start.run[c.ordinality] > 0;

    INSERT INTO run_state (run, chunk, waiting_for)
    SELECT runs_start.run[c.ordinality], s.chunk, c.waiting_for[s.chunk * 1000 + 1 : s.chunk * 1000 + 1000]
    FROM unnest(new_runs) WITH ORDINALITY AS c
    CROSS JOIN LATERAL generate_series(0, (c.steps_total - 1) / 1000) AS s (chunk)
    WHERE runs_start.run[c.ordinality] > 0;

    -- queued; after what is skipped, which comes below, the steps that are ready; and when some are leased, running with them
    INSERT INTO run_events (
        run, sequence, occurred_at, type, step, attempt, from_status, to_status,
        running, completed, skipped, failed, cancelled
    )
    SELECT
        runs_start.run[c.ordinality],
        CASE
            WHEN q.n = 0 THEN 1
            WHEN q.n = -1 THEN 2 + c.skipped + cardinality(c.ready_steps) - d.leased
            WHEN q.n <= d.leased THEN 2 + c.skipped + cardinality(c.ready_steps) - d.leased + q.n
            ELSE 1 + c.skipped + q.n - d.leased
        END,
        at,
        CASE WHEN q.n <= 0 THEN 1 ELSE 2 END,
        q.step,
        CASE WHEN q.n > 0 THEN (q.n <= d.leased)::integer END,
        CASE WHEN q.n <> 0 THEN 1 END,
        CASE WHEN q.n = 0 THEN 1 WHEN q.n > 0 AND q.n <= d.leased THEN 3 ELSE 2 END,
        CASE WHEN q.n > 0 AND q.n <= d.leased THEN q.n ELSE 0 END,
        0,
        CASE WHEN q.n = 0 THEN 0 ELSE c.skipped END,
        0, 0
    FROM unnest(new_runs) WITH ORDINALITY AS c
    CROSS JOIN LATERAL (SELECT leasing[c.ordinality] AS leased) AS d
    CROSS JOIN LATERAL (
        SELECT NULL::smallint, 0
        UNION ALL
        SELECT NULL::smallint, -1 WHERE d.leased > 0
        UNION ALL
        SELECT r.step, r.n FROM unnest(c.ready_steps) WITH ORDINALITY AS r (step, n)
    ) AS q (step, n)
    WHERE runs_start.run[c.ordinality] > 0;

    IF cardinality(kept) > 0 OR cardinality(reused) > 0 THEN
        INSERT INTO step_results (
            run, step, status, source, attempt, lease_losses, input_hash, cache_version, output_hash,
            producer_run, producer_step, ended_at, decision
        )
        SELECT
            runs_start.run[k.place], s.step, 5, 2, 0, 0, s.input_hash, s.cache_version, s.output_hash,
            s.producer_run, s.producer_step, at, NULL::bytea
        FROM unnest(kept) AS k
        JOIN step_results AS s ON s.run = k.base_run
        WHERE runs_start.run[k.place] > 0 AND get_byte(k.is_kept, s.step) = 1 AND s.status IN (4, 5)
        UNION ALL
        SELECT
            runs_start.run[u.place], u.step, 5, u.source, 0, 0, u.input_hash, u.cache_version, u.output_hash,
            u.producer_run, u.producer_step, at, u.decision
        FROM unnest(reused) AS u
        WHERE runs_start.run[u.place] > 0;
        GET DIAGNOSTICS n = ROW_COUNT;
        -- What a run has never changes, but it may be removed, with its run.
        IF n <> (
            SELECT sum(c.skipped)
            FROM unnest(new_runs) WITH ORDINALITY AS c
            WHERE runs_start.run[c.ordinality] > 0
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
            WHERE r.run = ANY (runs_start.run)
        ) AS s
        UNION ALL
        -- queued -> running -> completed, where nothing remains
        SELECT
            runs_start.run[c.ordinality], c.skipped + e.to_status, at, 1, NULL, NULL, e.to_status - 1, e.to_status,
            0, 0, c.skipped, 0, 0
        FROM unnest(new_runs) WITH ORDINALITY AS c
        CROSS JOIN (VALUES (2), (3)) AS e (to_status)
        WHERE runs_start.run[c.ordinality] > 0 AND c.skipped = c.steps_total;
    END IF;

    INSERT INTO step_queue (
        run, step, tenant, priority, timeout_ms, ready_at, available_at, engine, lease_epoch, leased_at
    )
    SELECT
        runs_start.run[c.ordinality], q.step, c.tenant, c.priority, q.timeout_ms, at, at,
        CASE WHEN q.n <= leasing[c.ordinality] THEN engines[c.ordinality] END,
        (q.n <= leasing[c.ordinality])::integer,
        CASE WHEN q.n <= leasing[c.ordinality] THEN at END
    FROM unnest(new_runs) WITH ORDINALITY AS c
    CROSS JOIN LATERAL
        unnest(c.ready_steps, c.ready_timeouts_ms) WITH ORDINALITY AS q (step, timeout_ms, n)
    WHERE runs_start.run[c.ordinality] > 0;

    INSERT INTO audit_log (at, tenant, principal, action, target)
    SELECT at, c.tenant, c.principal, c.rpc, c.id::text
    FROM unnest(new_runs) WITH ORDINALITY AS c
    WHERE runs_start.run[c.ordinality] > 0;

    -- As in tick; last, as it may wait for others that claim.
    IF cardinality(firsts) > 0 THEN
        INSERT INTO cache_flights (flight, run, step)
        SELECT f.flight, runs_start.run[f.place], f.step
        FROM unnest(firsts) AS f
        WHERE runs_start.run[f.place] > 0 AND leasing[f.place] > 0
            AND NOT EXISTS (SELECT FROM cache_flights AS c WHERE c.flight = f.flight OFFSET 0)
        ORDER BY f.flight, f.place, f.step
        ON CONFLICT DO NOTHING;
        -- Only now: what a leader filed that ended while we waited for its flight is seen.
        SELECT
            array_agg(runs_start.run[v.place] > 0 AND leasing[v.place] > 0 ORDER BY v.n),
            array_agg(CASE WHEN NOT v.is_known AND v.is_leader THEN CASE WHEN v.is_step_known THEN 2 ELSE 1 END END ORDER BY v.n),
            array_agg(v.generation ORDER BY v.n)
        INTO is_leased, miss, generation
        FROM (
            SELECT
                f.place, f.ordinality AS n,
                EXISTS (
                    SELECT FROM cache_flights AS c
                    WHERE c.flight = f.flight AND c.run = runs_start.run[f.place] AND c.step = f.step
                    OFFSET 0
                ) AS is_leader,
                EXISTS (
                    SELECT FROM step_cache AS s
                    WHERE s.tenant = f.tenant AND s.workflow_name = f.workflow_name
                        AND s.step_id = f.step_id AND s.input_hash = f.input_hash
                    OFFSET 0
                ) AS is_known,
                f.is_step_known OR coalesce((
                    SELECT true FROM step_cache AS s
                    WHERE s.tenant = f.tenant AND s.workflow_name = f.workflow_name AND s.step_id = f.step_id
                    ORDER BY s.tenant, s.workflow_name, s.step_id, s.input_hash
                    LIMIT 1
                ), false) AS is_step_known,
                CASE WHEN f.wants_generation THEN coalesce((
                    SELECT sum(g.generation) FROM cache_generations AS g
                    WHERE g.tenant = f.tenant AND g.workflow_name IN (f.workflow_name, '')
                ), 0) END AS generation
            FROM unnest(firsts) WITH ORDINALITY AS f
        ) AS v;
    END IF;
END $$;
