-- How a run begins.

CREATE FUNCTION runs_create(
    -- runs, one element each
    n_id uuid[], n_tenant text[], n_workflow text[], n_version text[], n_digest bytea[], n_steps integer[],
    n_trigger smallint[], n_mode smallint[], n_priority smallint[], n_policy smallint[], n_payload bytea[],
    n_change_type text[], n_change_payload bytea[], n_base bigint[], n_root bigint[], n_plan bytea[], n_labels text[],
    n_principal text[], n_deadline_ms bigint[],
    n_rpc text[], n_request_id text[], n_request_digest bytea[], n_response bytea[],
    -- what each step waits for, a chunk of 1,000 steps an element; s_index is the 1-based position of the run
    s_index integer[], s_chunk integer[], s_waiting text[],
    -- steps ready at once
    q_index integer[], q_step integer[], q_timeout_ms integer[],
    -- steps whose output is reused, bound to their producers
    u_index integer[], u_step integer[], u_source smallint[], u_input_hash bytea[], u_cache_version text[],
    u_output_hash bytea[], u_producer_run bigint[], u_producer_step integer[], u_decision bytea[],
    OUT run bigint[], OUT is_new boolean[], OUT request_digest bytea[], OUT response bytea[]
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
-- Creates runs, all or (for a request id that exists) nothing of each: the run, its first events, its reused results and
-- its ready steps. For a request id already used it returns that request's digest and response instead.
DECLARE
    at CONSTANT timestamptz := clock_timestamp();
    total CONSTANT integer := cardinality(n_id);
    m_run bigint[]; m_step integer[]; m_to smallint[];
    n integer;
BEGIN
    SELECT array_agg(nextval('run_key')) INTO run FROM generate_series(1, total);
    is_new := array_fill(true, ARRAY[total]);
    request_digest := array_fill(NULL::bytea, ARRAY[total]);
    response := array_fill(NULL::bytea, ARRAY[total]);

    IF EXISTS (SELECT FROM unnest(n_request_id) AS r (id) WHERE r.id <> '') THEN
        DECLARE
            taken record;
        BEGIN
            WITH claimed AS (
                INSERT INTO idempotency_keys AS i (tenant, rpc, request_id, request_digest, run, response, created_at)
                SELECT c.tenant, c.rpc, c.request_id, c.digest, c.run, c.response, at
                FROM unnest(n_tenant, n_rpc, n_request_id, n_request_digest, run, n_response)
                    AS c (tenant, rpc, request_id, digest, run, response)
                WHERE c.request_id <> ''
                ORDER BY c.tenant, c.rpc, c.request_id
                ON CONFLICT DO NOTHING
                RETURNING i.run
            )
            SELECT array_agg(c.run = ANY (ARRAY(SELECT claimed.run FROM claimed)) OR c.request_id = '' ORDER BY c.n)
            INTO is_new
            FROM unnest(runs_create.run, n_request_id) WITH ORDINALITY AS c (run, request_id, n);
            FOR taken IN
                SELECT c.n, i.request_digest, i.response
                FROM unnest(n_tenant, n_rpc, n_request_id, is_new) WITH ORDINALITY AS c (tenant, rpc, request_id, is_new, n)
                JOIN idempotency_keys AS i USING (tenant, rpc, request_id)
                WHERE NOT c.is_new
            LOOP
                request_digest[taken.n] := taken.request_digest;
                response[taken.n] := taken.response;
            END LOOP;
        END;
    END IF;

    INSERT INTO runs (
        run, id, tenant, workflow_name, workflow_version, workflow_digest, steps_total, trigger_type, cache_mode,
        priority, failure_policy, payload, change_type, change_payload, base_run, root_run, plan, labels, request_id,
        principal, deadline, created_at
    )
    SELECT
        c.run, c.id, c.tenant, c.workflow, c.version, c.digest, c.steps, c.trigger, c.mode,
        c.priority, c.policy, c.payload, c.change_type, c.change_payload, c.base, coalesce(c.root, c.run), c.plan,
        c.labels::jsonb, c.request_id, c.principal, at + c.deadline_ms * interval '1 millisecond', at
    FROM unnest(
        runs_create.run, n_id, n_tenant, n_workflow, n_version, n_digest, n_steps, n_trigger, n_mode, n_priority,
        n_policy, n_payload, n_change_type, n_change_payload, n_base, n_root, n_plan, n_labels, n_request_id,
        n_principal, n_deadline_ms, is_new
    ) AS c (
        run, id, tenant, workflow, version, digest, steps, trigger, mode, priority,
        policy, payload, change_type, change_payload, base, root, plan, labels, request_id,
        principal, deadline_ms, is_new
    )
    WHERE c.is_new;

    INSERT INTO run_progress (run, status, remaining, last_sequence, deadline, updated_at)
    SELECT c.run, 1, c.steps, 1, at + c.deadline_ms * interval '1 millisecond', at
    FROM unnest(runs_create.run, n_steps, n_deadline_ms, is_new) AS c (run, steps, deadline_ms, is_new)
    WHERE c.is_new;

    INSERT INTO run_state (run, chunk, waiting_for)
    SELECT runs_create.run[s.n], s.chunk, s.waiting::smallint[]
    FROM unnest(s_index, s_chunk, s_waiting) AS s (n, chunk, waiting)
    WHERE is_new[s.n];

    INSERT INTO run_events (
        run, sequence, occurred_at, type, to_status, running, completed, skipped, failed, cancelled)
    SELECT c.run, 1, at, 1, 1, 0, 0, 0, 0, 0
    FROM unnest(runs_create.run, is_new) AS c (run, is_new)
    WHERE c.is_new;

    IF cardinality(u_index) > 0 THEN
        INSERT INTO step_results (
            run, step, status, source, attempt, lease_losses, input_hash, cache_version, output_hash,
            producer_run, producer_step, ended_at, decision
        )
        SELECT
            runs_create.run[u.n], u.step, 5, u.source, 0, 0, u.input_hash, u.cache_version, u.output_hash,
            u.producer_run, u.producer_step, at, u.decision
        FROM unnest(u_index, u_step, u_source, u_input_hash, u_cache_version, u_output_hash, u_producer_run,
                    u_producer_step, u_decision)
            AS u (n, step, source, input_hash, cache_version, output_hash, producer_run, producer_step, decision)
        WHERE is_new[u.n];
    END IF;

    INSERT INTO step_queue (run, step, tenant, priority, timeout_ms, ready_at, available_at)
    SELECT runs_create.run[q.n], q.step, r.tenant, r.priority, q.timeout_ms, at, at
    FROM unnest(q_index, q_step, q_timeout_ms) AS q (n, step, timeout_ms)
    JOIN runs AS r ON r.run = runs_create.run[q.n]
    WHERE is_new[q.n];

    SELECT array_agg(runs_create.run[m.n] ORDER BY m.place, m.o), array_agg(m.step ORDER BY m.place, m.o),
        array_agg(m.to_status ORDER BY m.place, m.o), count(*)
    INTO m_run, m_step, m_to, n
    FROM (
        SELECT u.n, u.step, 5::smallint AS to_status, 1 AS place, u.o
        FROM unnest(u_index, u_step) WITH ORDINALITY AS u (n, step, o)
        UNION ALL
        SELECT q.n, q.step, 2::smallint, 2, q.o
        FROM unnest(q_index, q_step) WITH ORDINALITY AS q (n, step, o)
    ) AS m
    WHERE is_new[m.n];
    IF n > 0 THEN
        PERFORM moves_apply(
            at, m_run, m_step, array_fill(0, ARRAY[n]), array_fill(NULL::integer, ARRAY[n]),
            array_fill(1::smallint, ARRAY[n]), m_to, array_fill(NULL::timestamptz, ARRAY[n]));
    END IF;

    INSERT INTO audit_log (at, tenant, principal, action, target)
    SELECT at, c.tenant, c.principal, c.rpc, c.id::text
    FROM unnest(n_tenant, n_principal, n_rpc, n_id, is_new) AS c (tenant, principal, rpc, id, is_new)
    WHERE c.is_new;
END $$;
