-- The statements that change a run. Lock order everywhere: run_progress by run, then step_queue by run and step.
-- PL/pgSQL and not one giant statement: each inner statement gets a fresh snapshot after the lock wait.

CREATE FUNCTION waiting_decrement(counts smallint[], positions integer[]) RETURNS smallint[]
LANGUAGE plpgsql IMMUTABLE AS $$
-- One less at each (1-based) position, as often as it is named.
DECLARE
    p integer;
BEGIN
    FOREACH p IN ARRAY positions LOOP
        counts[p] := counts[p] - 1;
    END LOOP;
    RETURN counts;
END $$;

CREATE FUNCTION moves_apply(
    at timestamptz,
    m_run bigint[], m_step integer[], m_attempt integer[], m_ordinal integer[],
    m_from smallint[], m_to smallint[], m_next_at timestamptz[],
    OUT begun bigint[], OUT ended bigint[]
)
LANGUAGE plpgsql AS $$
-- Appends one event per move, in order, and counts it in the run's progress. The caller holds the progress rows.
-- A queued run begins with its first lease (or with its end); a run whose last step succeeded is completed.
-- A move without states is an ARTIFACT event. Returns the runs that began and those that completed. The only place that
-- numbers events of steps.
BEGIN
    WITH moves AS (
        SELECT
            m.run, m.step, m.attempt, m.ordinal, m.from_status, m.to_status, m.next_at, m.n,
            coalesce((m.to_status = 3)::integer - (m.from_status = 3)::integer, 0) AS running,
            coalesce((m.to_status = 4)::integer, 0) AS completed,
            coalesce((m.to_status = 5)::integer, 0) AS skipped,
            coalesce((m.to_status = 6)::integer, 0) AS failed,
            coalesce((m.to_status = 7)::integer, 0) AS cancelled
        FROM unnest(m_run, m_step, m_attempt, m_ordinal, m_from, m_to, m_next_at)
            WITH ORDINALITY AS m (run, step, attempt, ordinal, from_status, to_status, next_at, n)
    ),
    -- What each run's moves add up to, and whether they begin or end it.
    totals AS (
        SELECT
            t.run, t.moved,
            t.running, t.completed, t.skipped, t.failed, t.cancelled,
            p.status, p.last_sequence, p.remaining - t.completed - t.skipped = 0 AND p.status < 3 AS ends,
            p.status = 1 AND (t.leases OR p.remaining - t.completed - t.skipped = 0) AS begins
        FROM (
            SELECT
                run, count(*) AS moved, sum(running) AS running, sum(completed) AS completed,
                sum(skipped) AS skipped, sum(failed) AS failed, sum(cancelled) AS cancelled,
                bool_or(coalesce(to_status = 3, false)) AS leases
            FROM moves
            GROUP BY run
        ) AS t
        JOIN run_progress AS p ON p.run = t.run
    ),
    numbered AS (
        SELECT
            m.run, m.step, m.attempt, m.ordinal, m.from_status, m.to_status, m.next_at,
            p.last_sequence
                + (p.status = 1 AND bool_or(coalesce(m.to_status = 3, false)) OVER (PARTITION BY m.run))::integer
                + row_number() OVER w AS sequence,
            p.running + sum(m.running) OVER w AS running,
            p.completed + sum(m.completed) OVER w AS completed,
            p.skipped + sum(m.skipped) OVER w AS skipped,
            p.failed + sum(m.failed) OVER w AS failed,
            p.cancelled + sum(m.cancelled) OVER w AS cancelled
        FROM moves AS m
        JOIN run_progress AS p ON p.run = m.run
        WINDOW w AS (PARTITION BY m.run ORDER BY m.n ROWS UNBOUNDED PRECEDING)
    ),
    appended AS (
        INSERT INTO run_events (
            run, sequence, occurred_at, type, step, attempt, ordinal, from_status, to_status,
            running, completed, skipped, failed, cancelled, next_attempt_at
        )
        SELECT
            run, sequence, at, CASE WHEN to_status IS NULL THEN 4 ELSE 2 END, step, attempt, ordinal,
            from_status, to_status, running, completed, skipped, failed, cancelled, next_at
        FROM numbered
        UNION ALL
        -- queued -> running: before the first lease, or just before the end of a run that had none
        SELECT
            t.run,
            t.last_sequence + CASE WHEN leases.is_first THEN 1 ELSE t.moved + 1 END,
            at, 1, NULL, NULL, NULL, 1, 2,
            CASE WHEN leases.is_first THEN p.running ELSE p.running + t.running END,
            CASE WHEN leases.is_first THEN p.completed ELSE p.completed + t.completed END,
            CASE WHEN leases.is_first THEN p.skipped ELSE p.skipped + t.skipped END,
            p.failed, p.cancelled, NULL
        FROM totals AS t
        JOIN run_progress AS p ON p.run = t.run
        CROSS JOIN LATERAL (SELECT NOT t.ends OR t.running > 0 AS is_first) AS leases
        WHERE t.begins
        UNION ALL
        SELECT
            t.run, t.last_sequence + t.moved + t.begins::integer + 1, at, 1, NULL, NULL, NULL, 2, 3,
            p.running + t.running, p.completed + t.completed, p.skipped + t.skipped,
            p.failed + t.failed, p.cancelled + t.cancelled, NULL
        FROM totals AS t
        JOIN run_progress AS p ON p.run = t.run
        WHERE t.ends
    ),
    counted AS (
        UPDATE run_progress AS p
        SET
            status = CASE WHEN t.ends THEN 3 WHEN t.begins THEN 2 ELSE p.status END,
            remaining = p.remaining - t.completed - t.skipped,
            running = p.running + t.running,
            completed = p.completed + t.completed,
            skipped = p.skipped + t.skipped,
            failed = p.failed + t.failed,
            cancelled = p.cancelled + t.cancelled,
            last_sequence = p.last_sequence + t.moved + t.begins::integer + t.ends::integer,
            started_at = CASE WHEN t.begins THEN at ELSE p.started_at END,
            ended_at = CASE WHEN t.ends THEN at ELSE p.ended_at END,
            deadline = CASE WHEN t.ends THEN NULL ELSE p.deadline END,
            updated_at = at
        FROM totals AS t
        WHERE p.run = t.run
        RETURNING p.run, t.begins, t.ends
    )
    SELECT coalesce(array_agg(c.run) FILTER (WHERE c.begins), '{}'), coalesce(array_agg(c.run) FILTER (WHERE c.ends), '{}')
    INTO begun, ended
    FROM counted AS c;
END $$;

CREATE FUNCTION run_stop(p_run bigint, p_status smallint, p_code text, p_message text, p_error bytea) RETURNS void
LANGUAGE plpgsql AS $$
-- Ends a run as failed (4) or cancelled (5): every step that is not terminal becomes cancelled with the code, its queue
-- row goes, and the terminal event is last. The caller holds the progress row and has checked that it is not terminal.
DECLARE
    at CONSTANT timestamptz := clock_timestamp();
    s_step integer[];
    s_from smallint[];
    s_attempt integer[];
    n integer;
BEGIN
    WITH dropped AS (
        DELETE FROM step_queue
        WHERE run = p_run
        RETURNING step, CASE WHEN engine IS NULL THEN 2 ELSE 3 END AS from_status, attempt, lease_losses,
            ready_at, leased_at
    ),
    open_steps AS (
        SELECT s.step, coalesce(d.from_status, 1) AS from_status, coalesce(d.attempt, 0) AS attempt,
            coalesce(d.lease_losses, 0) AS lease_losses, d.ready_at, d.leased_at
        FROM (SELECT steps_total FROM runs WHERE run = p_run) AS r
        CROSS JOIN LATERAL generate_series(0, r.steps_total - 1) AS s (step)
        LEFT JOIN dropped AS d ON d.step = s.step
        WHERE NOT EXISTS (SELECT FROM step_results AS done WHERE done.run = p_run AND done.step = s.step)
    ),
    ended AS (
        INSERT INTO step_results (run, step, status, attempt, lease_losses, ready_at, started_at, ended_at, error)
        SELECT
            p_run, step, 7, attempt, lease_losses, ready_at, leased_at, at,
            convert_to(json_build_object('code', p_code, 'message', p_message)::text, 'UTF8')
        FROM open_steps
        RETURNING step
    )
    SELECT
        coalesce(array_agg(o.step ORDER BY o.step), '{}'),
        coalesce(array_agg(o.from_status ORDER BY o.step), '{}'),
        coalesce(array_agg(o.attempt ORDER BY o.step), '{}'),
        count(*)
    INTO s_step, s_from, s_attempt, n
    FROM open_steps AS o;

    PERFORM moves_apply(
        at, array_fill(p_run, ARRAY[n]), s_step, s_attempt, array_fill(NULL::integer, ARRAY[n]),
        s_from, array_fill(7::smallint, ARRAY[n]), array_fill(NULL::timestamptz, ARRAY[n]));

    INSERT INTO run_events (
        run, sequence, occurred_at, type, from_status, to_status, running, completed, skipped, failed, cancelled)
    SELECT run, last_sequence + 1, at, 1, status, p_status, running, completed, skipped, failed, cancelled
    FROM run_progress
    WHERE run = p_run;

    UPDATE run_progress
    SET status = p_status, error = p_error, ended_at = at, updated_at = at, deadline = NULL,
        last_sequence = last_sequence + 1
    WHERE run = p_run AND status < 3;
END $$;

CREATE FUNCTION run_settle(p_run bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
-- Moves a failing run towards its end: backoffs and ready steps are cancelled (with FAIL_FAST running ones too), and once
-- nothing of it is leased the run is failed. True when it ended. The caller holds the progress row.
DECLARE
    at CONSTANT timestamptz := clock_timestamp();
    s_step integer[];
    s_from smallint[];
    s_attempt integer[];
    n integer;
    run_error bytea;
BEGIN
    IF NOT EXISTS (SELECT FROM run_progress WHERE run = p_run AND is_failing AND status < 3) THEN
        RETURN false;
    END IF;
    WITH dropped AS (
        DELETE FROM step_queue AS q
        USING runs AS r
        WHERE q.run = p_run AND r.run = p_run AND (q.engine IS NULL OR r.failure_policy = 2)
        RETURNING q.step, CASE WHEN q.engine IS NULL THEN 2 ELSE 3 END AS from_status, q.attempt, q.lease_losses,
            q.ready_at, q.leased_at
    ),
    ended AS (
        INSERT INTO step_results (run, step, status, attempt, lease_losses, ready_at, started_at, ended_at, error)
        SELECT
            p_run, step, 7, attempt, lease_losses, ready_at, leased_at, at,
            convert_to(json_build_object('code', 'UPSTREAM_FAILED', 'message', 'another step of the run failed')::text,
                       'UTF8')
        FROM dropped
    )
    SELECT
        coalesce(array_agg(step ORDER BY step), '{}'),
        coalesce(array_agg(from_status ORDER BY step), '{}'),
        coalesce(array_agg(attempt ORDER BY step), '{}'),
        count(*)
    INTO s_step, s_from, s_attempt, n
    FROM dropped;
    IF n > 0 THEN
        PERFORM moves_apply(
            at, array_fill(p_run, ARRAY[n]), s_step, s_attempt, array_fill(NULL::integer, ARRAY[n]),
            s_from, array_fill(7::smallint, ARRAY[n]), array_fill(NULL::timestamptz, ARRAY[n]));
    END IF;
    IF EXISTS (SELECT FROM step_queue WHERE run = p_run) THEN
        RETURN false;
    END IF;
    SELECT error INTO run_error FROM run_progress WHERE run = p_run;
    PERFORM run_stop(p_run, 4::smallint, 'UPSTREAM_FAILED', 'another step of the run failed', run_error);
    RETURN true;
END $$;

CREATE FUNCTION tick(
    p_engine integer, p_capacity integer,
    -- completions, one element each; c_decision is a position in o_decision, c_detail one in the k_ arrays (completed),
    -- the u_ arrays (skipped) or the x_ arrays (failed, retry)
    c_run bigint[], c_step integer[], c_epoch bigint[], c_status smallint[], c_detail integer[], c_decision integer[],
    c_input_hash bytea[], c_output_hash bytea[], c_body bytea[], c_is_compressed boolean[],
    -- what executed, and the cache entry it leaves (a null workflow name: none); equal ones once
    k_workflow text[], k_step text[], k_skill text[], k_version text[], k_epoch text[],
    -- what is reused
    u_source smallint[], u_producer_run bigint[], u_producer_step integer[], u_version text[],
    -- what failed
    x_error bytea[], x_run_error bytea[], x_delay_ms integer[], x_worker text[], x_is_attempted boolean[],
    -- cache decisions, equal ones once
    o_decision bytea[],
    -- artifacts; a_index is the 1-based position of the completion
    a_index integer[], a_ordinal integer[], a_hash bytea[], a_size bigint[], a_type text[], a_uri text[],
    a_filename text[], a_metadata bytea[], a_made_from bytea[], a_skill text[], a_skill_version text[],
    -- dependents of the completions that succeeded
    d_index integer[], d_step integer[], d_timeout_ms integer[],
    OUT is_accepted boolean[],
    OUT l_run bigint[], OUT l_step integer[], OUT l_epoch bigint[], OUT l_attempt integer[], OUT l_losses integer[],
    OUT begun bigint[],
    OUT e_run bigint[], OUT e_status smallint[], OUT e_duration_ms bigint[], OUT e_failed_step integer[],
    OUT e_error bytea[],
    OUT next_available_ms integer
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
-- One scheduler turn, one transaction: commits what attempts returned (fenced by engine and epoch: stale ones come back as
-- not accepted and change nothing), makes their dependents ready, and leases ready steps up to p_capacity: first what
-- this turn made ready, then from the queue. c_status: 4 completed, 5 skipped, 6 failed, 2 retry after x_delay_ms.
-- An engine whose own lease has ended commits (until others take its steps back) but leases nothing.
-- Idempotent by the fence: a second call with the same completions accepts none of them.
DECLARE
    at timestamptz;
    total CONSTANT integer := cardinality(c_run);
    capacity integer;
    failing bigint[];
    -- accepted completions, in order
    f_n integer[]; f_run bigint[]; f_step integer[]; f_status smallint[]; f_attempt integer[];
    f_timeout integer[]; f_losses integer[]; f_leased_at timestamptz[];
    -- made ready by this turn
    r_run bigint[] := '{}'; r_step integer[] := '{}'; r_timeout integer[] := '{}';
    n_self integer := 0;
    -- leased from the queue
    q_run bigint[] := '{}'; q_step integer[] := '{}'; q_epoch bigint[] := '{}'; q_attempt integer[] := '{}';
    q_losses integer[] := '{}';
    locked bigint[];
    -- moves
    m_run bigint[] := '{}'; m_step integer[] := '{}'; m_attempt integer[] := '{}'; m_ordinal integer[] := '{}';
    m_from smallint[] := '{}'; m_to smallint[] := '{}'; m_next_at timestamptz[] := '{}';
    ended bigint[] := '{}';
    stopped bigint;
    n integer;
BEGIN
    is_accepted := array_fill(false, ARRAY[total]);
    l_run := '{}'; l_step := '{}'; l_epoch := '{}'; l_attempt := '{}'; l_losses := '{}'; begun := '{}';

    IF total > 0 THEN
        PERFORM FROM run_progress AS p WHERE p.run = ANY (c_run) ORDER BY p.run FOR UPDATE;
        SELECT array_agg(p.run) INTO failing FROM run_progress AS p WHERE p.run = ANY (c_run) AND p.is_failing;
    END IF;
    at := clock_timestamp();
    -- Who slept through its own funeral must not lease under a number that nobody reaps any more.
    capacity := CASE WHEN EXISTS (SELECT FROM engines AS e WHERE e.engine = p_engine AND e.lease_until > at)
                     THEN p_capacity ELSE 0 END;

    IF total > 0 THEN
        WITH gone AS (
            -- The fence and the linearisation point: no row, no effect.
            DELETE FROM step_queue AS q
            USING unnest(
                c_run, c_step, c_epoch, c_status, c_detail, c_decision, c_input_hash, c_output_hash, c_body,
                c_is_compressed
            ) WITH ORDINALITY AS c (
                run, step, epoch, status, detail, decision, input_hash, output_hash, body,
                is_compressed, n
            )
            -- coalesce keeps the planner off the index on owned rows, which holds a dead entry for every step since the
            -- last vacuum (measured: 3.2 ms instead of 0.3 ms)
            WHERE q.run = c.run AND q.step = c.step AND coalesce(q.engine, 0) = p_engine AND q.lease_epoch = c.epoch
            RETURNING
                c.n::integer, c.run, c.step, c.epoch,
                -- in a failing run nothing is tried again
                CASE WHEN c.status = 2 AND c.run = ANY (failing) THEN 6::smallint ELSE c.status END AS status,
                CASE c.status WHEN 4 THEN 1 WHEN 5 THEN u_source[c.detail] END AS source,
                CASE c.status WHEN 4 THEN k_version[c.detail] WHEN 5 THEN u_version[c.detail] END AS cache_version,
                CASE c.status WHEN 4 THEN c.run WHEN 5 THEN u_producer_run[c.detail] END AS producer_run,
                CASE c.status WHEN 4 THEN c.step WHEN 5 THEN u_producer_step[c.detail] END AS producer_step,
                CASE WHEN c.status IN (2, 6) THEN x_error[c.detail] END AS error,
                CASE
                    WHEN c.status = 5 OR c.status = 6 AND NOT x_is_attempted[c.detail] THEN q.attempt - 1
                    ELSE q.attempt
                END AS attempt,
                c.detail, o_decision[c.decision] AS decision, c.input_hash, c.output_hash, c.body, c.is_compressed,
                q.tenant, q.timeout_ms, q.lease_losses, q.ready_at, q.leased_at
        ),
        results AS (
            INSERT INTO step_results (
                run, step, status, source, attempt, lease_losses, engine, lease_epoch, input_hash, cache_version,
                output_hash, producer_run, producer_step, ready_at, started_at, ended_at, decision, error
            )
            SELECT
                run, step, status, source, attempt, lease_losses, p_engine, epoch, input_hash, cache_version,
                output_hash, producer_run, producer_step, ready_at, leased_at, at, decision, error
            FROM gone
            WHERE status <> 2
        ),
        bodies AS (
            INSERT INTO outputs (run, step, is_compressed, body)
            SELECT run, step, is_compressed, body
            FROM gone
            WHERE status = 4
        ),
        cached AS (
            INSERT INTO step_cache AS k (
                tenant, workflow_name, step_id, input_hash, skill_id, cache_version, cache_epoch, run, step,
                output_hash, created_at
            )
            -- one key may finish in two runs of the same turn: the last one wins
            SELECT DISTINCT ON (tenant, k.workflow, k.step, input_hash)
                tenant, k.workflow, k.step, input_hash, k_skill[detail], cache_version, k_epoch[detail],
                g.run, g.step, output_hash, at
            FROM gone AS g
            CROSS JOIN LATERAL (SELECT k_workflow[g.detail], k_step[g.detail]) AS k (workflow, step)
            WHERE g.status = 4 AND k.workflow IS NOT NULL
            ORDER BY tenant, k.workflow, k.step, input_hash, n DESC
            ON CONFLICT (tenant, workflow_name, step_id, input_hash) DO UPDATE
            SET skill_id = excluded.skill_id, cache_version = excluded.cache_version,
                cache_epoch = excluded.cache_epoch, run = excluded.run, step = excluded.step,
                output_hash = excluded.output_hash, created_at = excluded.created_at
        )
        SELECT
            array_agg(g.n ORDER BY g.n), array_agg(g.run ORDER BY g.n), array_agg(g.step ORDER BY g.n),
            array_agg(g.status ORDER BY g.n), array_agg(g.attempt ORDER BY g.n),
            array_agg(g.timeout_ms ORDER BY g.n), array_agg(g.lease_losses ORDER BY g.n),
            array_agg(g.leased_at ORDER BY g.n)
        INTO f_n, f_run, f_step, f_status, f_attempt, f_timeout, f_losses, f_leased_at
        FROM gone AS g;
    END IF;

    IF f_n IS NOT NULL THEN
        FOR i IN 1 .. cardinality(f_n) LOOP
            is_accepted[f_n[i]] := true;
        END LOOP;

        IF cardinality(x_error) > 0 THEN
            INSERT INTO step_attempts (run, step, attempt, lease_epoch, engine, started_at, ended_at, worker_id, error)
            SELECT
                f.run, f.step, f.attempt, c_epoch[f.n], p_engine, f.leased_at, at,
                coalesce(x_worker[c_detail[f.n]], ''), x_error[c_detail[f.n]]
            FROM unnest(f_n, f_run, f_step, f_status, f_attempt, f_leased_at)
                AS f (n, run, step, status, attempt, leased_at)
            WHERE f.status IN (2, 6);
        END IF;

        IF 2 = ANY (f_status) THEN
            -- Retries go back to the queue, delayed; the epoch goes on counting.
            INSERT INTO step_queue (
                run, step, tenant, priority, timeout_ms, ready_at, available_at, lease_epoch, attempt, lease_losses)
            SELECT
                f.run, f.step, r.tenant, r.priority, f.timeout_ms, at,
                at + x_delay_ms[c_detail[f.n]] * interval '1 millisecond', c_epoch[f.n], f.attempt + 1, f.losses
            FROM unnest(f_n, f_run, f_step, f_status, f_attempt, f_timeout, f_losses)
                AS f (n, run, step, status, attempt, timeout_ms, losses)
            JOIN runs AS r ON r.run = f.run
            WHERE f.status = 2;
        END IF;

        IF cardinality(a_index) > 0 THEN
            WITH published AS (
                INSERT INTO artifacts (
                    run, step, ordinal, tenant, content_hash, size_bytes, media_type, uri, filename, metadata,
                    made_from, skill_id, skill_version, created_at
                )
                SELECT
                    c_run[a.n], c_step[a.n], a.ordinal, r.tenant, a.hash, a.size, a.type, a.uri, a.filename,
                    a.metadata, a.made_from, a.skill, a.skill_version, at
                FROM unnest(a_index, a_ordinal, a_hash, a_size, a_type, a_uri, a_filename, a_metadata, a_made_from,
                            a_skill, a_skill_version)
                    AS a (n, ordinal, hash, size, type, uri, filename, metadata, made_from, skill, skill_version)
                JOIN runs AS r ON r.run = c_run[a.n]
                WHERE is_accepted[a.n]
                RETURNING tenant, content_hash, size_bytes
            )
            INSERT INTO artifact_contents (tenant, content_hash, size_bytes)
            SELECT DISTINCT tenant, content_hash, size_bytes
            FROM published
            ORDER BY tenant, content_hash
            ON CONFLICT DO NOTHING;
        END IF;

        IF 6 = ANY (f_status) THEN
            UPDATE run_progress AS p
            SET is_failing = true,
                failed_step = coalesce(p.failed_step, f.step),
                error = coalesce(p.error, f.run_error)
            FROM (
                SELECT DISTINCT ON (run) run, step, x_run_error[c_detail[n]] AS run_error
                FROM unnest(f_n, f_run, f_step, f_status) AS f (n, run, step, status)
                WHERE status = 6
                ORDER BY run, n
            ) AS f
            WHERE p.run = f.run;
            SELECT array_agg(p.run) INTO failing FROM run_progress AS p WHERE p.run = ANY (f_run) AND p.is_failing;
        END IF;

        -- Dependents count down; those at zero are ready, unless their run is failing.
        WITH waits AS (
            SELECT
                c_run[d.n] AS run, d.step / 1000 AS chunk,
                array_agg(d.step % 1000 + 1) AS positions, array_agg(d.timeout_ms) AS timeouts
            FROM unnest(d_index, d_step, d_timeout_ms) AS d (n, step, timeout_ms)
            WHERE is_accepted[d.n]
            GROUP BY 1, 2
        ),
        counted AS (
            UPDATE run_state AS s
            SET waiting_for = waiting_decrement(s.waiting_for, w.positions)
            FROM waits AS w
            WHERE s.run = w.run AND s.chunk = w.chunk
            RETURNING s.run, s.chunk, s.waiting_for, w.positions, w.timeouts
        )
        SELECT
            coalesce(array_agg(c.run ORDER BY c.run, z.step), '{}'),
            coalesce(array_agg(z.step ORDER BY c.run, z.step), '{}'),
            coalesce(array_agg(z.timeout_ms ORDER BY c.run, z.step), '{}')
        INTO r_run, r_step, r_timeout
        FROM counted AS c
        CROSS JOIN LATERAL (
            SELECT c.chunk * 1000 + p - 1 AS step, max(t) AS timeout_ms
            FROM unnest(c.positions, c.timeouts) AS d (p, t)
            WHERE c.waiting_for[p] = 0
            GROUP BY p
        ) AS z
        WHERE c.run <> ALL (coalesce(failing, '{}'));

        -- What just became ready is leased at once, unless a step of higher priority waits: then the queue decides.
        n_self := least(cardinality(r_run), capacity);
        IF n_self > 0 AND EXISTS (
            SELECT
            FROM (
                SELECT q.priority
                FROM step_queue AS q
                WHERE q.engine IS NULL AND q.available_at <= at
                ORDER BY q.priority DESC, q.available_at
                LIMIT 1
            ) AS first
            WHERE first.priority > (SELECT min(r.priority) FROM runs AS r WHERE r.run = ANY (r_run))
        ) THEN
            n_self := 0;
        END IF;
        INSERT INTO step_queue (
            run, step, tenant, priority, timeout_ms, ready_at, available_at, engine, lease_epoch, leased_at)
        SELECT
            d.run, d.step, r.tenant, r.priority, d.timeout_ms, at, at,
            CASE WHEN d.n <= n_self THEN p_engine END, (d.n <= n_self)::integer, CASE WHEN d.n <= n_self THEN at END
        FROM unnest(r_run, r_step, r_timeout) WITH ORDINALITY AS d (run, step, timeout_ms, n)
        JOIN runs AS r ON r.run = d.run;
    END IF;

    -- A turn that has failing runs to settle will wait for their queue rows below: it must hold no rows of other runs
    -- then, or two such turns wait for each other. It comes back for more at once.
    IF capacity > n_self AND failing IS NOT NULL THEN
        next_available_ms := 1;
    ELSIF capacity > n_self THEN
        -- Never waits: rows or runs that others hold are left for the next turn, so no lock cycle can close here.
        SELECT array_agg(c.run), array_agg(c.step)
        INTO q_run, q_step
        FROM (
            SELECT q.run, q.step
            FROM step_queue AS q
            WHERE q.engine IS NULL AND q.available_at <= at
            ORDER BY q.priority DESC, q.available_at, q.run, q.step
            LIMIT capacity - n_self
            FOR UPDATE SKIP LOCKED
        ) AS c;
        IF q_run IS NOT NULL THEN
            SELECT array_agg(p.run) INTO locked
            FROM (
                SELECT p.run
                FROM run_progress AS p
                WHERE p.run = ANY (q_run) AND p.status < 3 AND NOT p.is_failing
                FOR UPDATE SKIP LOCKED
            ) AS p;
            WITH taken AS (
                UPDATE step_queue AS q
                SET engine = p_engine, lease_epoch = q.lease_epoch + 1, leased_at = at
                FROM unnest(q_run, q_step) AS c (run, step)
                WHERE q.run = c.run AND q.step = c.step AND c.run = ANY (locked)
                RETURNING q.run, q.step, q.lease_epoch, q.attempt, q.lease_losses, q.priority, q.available_at
            )
            SELECT
                coalesce(array_agg(t.run ORDER BY t.priority DESC, t.available_at, t.run, t.step), '{}'),
                coalesce(array_agg(t.step ORDER BY t.priority DESC, t.available_at, t.run, t.step), '{}'),
                coalesce(array_agg(t.lease_epoch ORDER BY t.priority DESC, t.available_at, t.run, t.step), '{}'),
                coalesce(array_agg(t.attempt ORDER BY t.priority DESC, t.available_at, t.run, t.step), '{}'),
                coalesce(array_agg(t.lease_losses ORDER BY t.priority DESC, t.available_at, t.run, t.step), '{}')
            INTO q_run, q_step, q_epoch, q_attempt, q_losses
            FROM taken AS t;
            IF cardinality(q_run) = 0 THEN
                next_available_ms := 5; -- steps are ready, but others hold their runs: soon again
            END IF;
        ELSE
            q_run := '{}'; q_step := '{}';
        END IF;
    END IF;

    IF f_n IS NOT NULL THEN
        -- A step's artifacts come just before its completion.
        SELECT
            array_agg(e.run ORDER BY e.n, e.place), array_agg(e.step ORDER BY e.n, e.place),
            array_agg(e.attempt ORDER BY e.n, e.place), array_agg(e.ordinal ORDER BY e.n, e.place),
            array_agg(e.from_status ORDER BY e.n, e.place), array_agg(e.to_status ORDER BY e.n, e.place),
            array_agg(e.next_at ORDER BY e.n, e.place)
        INTO m_run, m_step, m_attempt, m_ordinal, m_from, m_to, m_next_at
        FROM (
            SELECT
                f.n, 1000000 AS place, f.run, f.step, f.attempt, NULL::integer AS ordinal, 3::smallint AS from_status,
                f.status AS to_status,
                CASE WHEN f.status = 2 THEN at + x_delay_ms[c_detail[f.n]] * interval '1 millisecond' END AS next_at
            FROM unnest(f_n, f_run, f_step, f_status, f_attempt) AS f (n, run, step, status, attempt)
            UNION ALL
            SELECT a.n, a.ordinal, c_run[a.n], c_step[a.n], NULL, a.ordinal, NULL, NULL, NULL
            FROM unnest(a_index, a_ordinal) AS a (n, ordinal)
            WHERE is_accepted[a.n]
        ) AS e;
    END IF;
    n := cardinality(r_run);
    IF n > 0 THEN
        m_run := m_run || r_run;
        m_step := m_step || r_step;
        m_attempt := m_attempt || array_fill(1, ARRAY[n]);
        m_ordinal := m_ordinal || array_fill(NULL::integer, ARRAY[n]);
        m_from := m_from || array_fill(1::smallint, ARRAY[n]);
        m_to := m_to || array_fill(3::smallint, ARRAY[n_self]) || array_fill(2::smallint, ARRAY[n - n_self]);
        m_next_at := m_next_at || array_fill(NULL::timestamptz, ARRAY[n]);
    END IF;
    n := cardinality(q_run);
    IF n > 0 THEN
        m_run := m_run || q_run;
        m_step := m_step || q_step;
        m_attempt := m_attempt || q_attempt;
        m_ordinal := m_ordinal || array_fill(NULL::integer, ARRAY[n]);
        m_from := m_from || array_fill(2::smallint, ARRAY[n]);
        m_to := m_to || array_fill(3::smallint, ARRAY[n]);
        m_next_at := m_next_at || array_fill(NULL::timestamptz, ARRAY[n]);
    END IF;
    IF cardinality(m_run) > 0 THEN
        SELECT a.begun, a.ended INTO begun, ended
        FROM moves_apply(at, m_run, m_step, m_attempt, m_ordinal, m_from, m_to, m_next_at) AS a;
    END IF;

    FOREACH stopped IN ARRAY coalesce(failing, '{}') LOOP
        IF run_settle(stopped) THEN
            ended := ended || stopped;
        END IF;
    END LOOP;

    IF cardinality(ended) > 0 THEN
        SELECT
            array_agg(p.run), array_agg(p.status),
            array_agg((extract(epoch FROM p.ended_at - r.created_at) * 1000)::bigint),
            array_agg(p.failed_step), array_agg(p.error)
        INTO e_run, e_status, e_duration_ms, e_failed_step, e_error
        FROM run_progress AS p
        JOIN runs AS r ON r.run = p.run
        WHERE p.run = ANY (ended);
    END IF;

    l_run := r_run[1:n_self] || q_run;
    l_step := r_step[1:n_self] || q_step;
    l_epoch := array_fill(1::bigint, ARRAY[n_self]) || q_epoch;
    l_attempt := array_fill(1, ARRAY[n_self]) || q_attempt;
    l_losses := array_fill(0, ARRAY[n_self]) || q_losses;
    IF cardinality(l_run) = 0 AND next_available_ms IS NULL THEN
        SELECT ceil(extract(epoch FROM min(q.available_at) - at) * 1000)::integer
        INTO next_available_ms
        FROM (
            SELECT q.available_at FROM step_queue AS q WHERE q.engine IS NULL AND q.available_at > at
            ORDER BY q.priority DESC, q.available_at LIMIT 100
        ) AS q;
    END IF;
END $$;

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

CREATE FUNCTION run_cancel(p_tenant text, p_id uuid, p_principal text, p_reason text) RETURNS boolean
LANGUAGE plpgsql AS $$
-- After it returns the run is terminal and nothing of it is leased. True when this call ended it; null when there is no
-- such run of the tenant.
DECLARE
    key bigint;
    current_status smallint;
BEGIN
    SELECT r.run INTO key FROM runs AS r WHERE r.id = p_id AND r.tenant = p_tenant;
    IF key IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT p.status INTO current_status FROM run_progress AS p WHERE p.run = key FOR UPDATE;
    IF current_status >= 3 THEN
        RETURN false;
    END IF;
    UPDATE run_progress SET cancel_reason = p_reason WHERE run = key;
    PERFORM run_stop(key, 5::smallint, 'RUN_CANCELLED', 'the run was cancelled', NULL);
    INSERT INTO audit_log (tenant, principal, action, target) VALUES (p_tenant, p_principal, 'Cancel', p_id::text);
    RETURN true;
END $$;

CREATE FUNCTION deadlines_enforce(p_limit integer) RETURNS bigint[]
LANGUAGE plpgsql AS $$
-- Fails runs whose deadline has passed; returns them.
DECLARE
    late bigint[];
    key bigint;
BEGIN
    SELECT coalesce(array_agg(d.run ORDER BY d.run), '{}') INTO late
    FROM (
        SELECT p.run FROM run_progress AS p
        WHERE p.deadline <= clock_timestamp()
        ORDER BY p.run LIMIT p_limit
        FOR UPDATE SKIP LOCKED
    ) AS d;
    FOREACH key IN ARRAY late LOOP
        PERFORM run_stop(
            key, 4::smallint, 'RUN_CANCELLED', 'the deadline of the run has passed',
            convert_to(json_build_object('code', 'RUN_DEADLINE_EXCEEDED',
                                         'message', 'the deadline of the run has passed')::text, 'UTF8'));
    END LOOP;
    RETURN late;
END $$;

CREATE FUNCTION leases_take_back(
    b_run bigint[], b_step integer[], b_epoch bigint[], p_is_lost boolean, p_losses_max integer
) RETURNS bigint[]
LANGUAGE plpgsql AS $$
-- These leases, where they still are what they were, go back to the queue; where they were lost (p_is_lost), a step that
-- loses more than p_losses_max leases fails, so that a step that kills whoever runs it ends. Returns the runs concerned.
DECLARE
    at timestamptz;
    concerned bigint[];
    m_run bigint[]; m_step integer[]; m_attempt integer[]; m_to smallint[];
    n integer;
    key bigint;
BEGIN
    PERFORM FROM run_progress AS p WHERE p.run = ANY (b_run) ORDER BY p.run FOR UPDATE;
    at := clock_timestamp();
    WITH poison AS (
        DELETE FROM step_queue AS q
        USING unnest(b_run, b_step, b_epoch) AS b (run, step, epoch)
        WHERE q.run = b.run AND q.step = b.step AND q.lease_epoch = b.epoch AND q.engine IS NOT NULL
            AND p_is_lost AND q.lease_losses >= p_losses_max
        RETURNING q.*
    ),
    ended AS (
        INSERT INTO step_results (
            run, step, status, attempt, lease_losses, engine, lease_epoch, ready_at, started_at, ended_at, error)
        SELECT
            run, step, 6, attempt, lease_losses + 1, engine, lease_epoch, ready_at, leased_at, at,
            convert_to(json_build_object('code', 'LEASE_LOST_REPEATEDLY', 'message',
                                         'whoever ran the step was lost each time')::text, 'UTF8')
        FROM poison
    ),
    blamed AS (
        UPDATE run_progress AS p
        SET is_failing = true,
            failed_step = coalesce(p.failed_step, f.step),
            error = coalesce(p.error, convert_to(json_build_object(
                'code', 'LEASE_LOST_REPEATEDLY', 'message', 'whoever ran the step was lost each time')::text, 'UTF8'))
        FROM (SELECT run, min(step) AS step FROM poison GROUP BY run) AS f
        WHERE p.run = f.run
    ),
    freed AS (
        UPDATE step_queue AS q
        SET engine = NULL, leased_at = NULL, available_at = at, lease_losses = q.lease_losses + p_is_lost::integer
        FROM unnest(b_run, b_step, b_epoch) AS b (run, step, epoch)
        WHERE q.run = b.run AND q.step = b.step AND q.lease_epoch = b.epoch AND q.engine IS NOT NULL
            AND NOT (p_is_lost AND q.lease_losses >= p_losses_max)
        RETURNING q.run, q.step, q.attempt
    ),
    moves AS (
        SELECT run, step, attempt, 6::smallint AS to_status FROM poison
        UNION ALL
        SELECT run, step, attempt, 2::smallint FROM freed
    )
    SELECT array_agg(run ORDER BY run, step), array_agg(step ORDER BY run, step),
        array_agg(attempt ORDER BY run, step), array_agg(to_status ORDER BY run, step), count(*)
    INTO m_run, m_step, m_attempt, m_to, n
    FROM moves;
    IF n = 0 THEN
        RETURN '{}';
    END IF;
    PERFORM moves_apply(
        at, m_run, m_step, m_attempt, array_fill(NULL::integer, ARRAY[n]),
        array_fill(3::smallint, ARRAY[n]), m_to, array_fill(NULL::timestamptz, ARRAY[n]));
    SELECT array_agg(DISTINCT m.run ORDER BY m.run) INTO concerned FROM unnest(m_run) AS m (run);
    FOREACH key IN ARRAY concerned LOOP
        PERFORM run_settle(key);
    END LOOP;
    RETURN concerned;
END $$;

CREATE FUNCTION leases_release(p_engine integer, p_is_lost boolean, p_losses_max integer, p_limit integer)
RETURNS bigint[]
LANGUAGE plpgsql AS $$
-- Takes back up to p_limit leases of an engine: at shutdown, or (p_is_lost) because it died. Returns the runs concerned;
-- call again until there are none.
DECLARE
    b_run bigint[]; b_step integer[]; b_epoch bigint[];
BEGIN
    SELECT array_agg(o.run), array_agg(o.step), array_agg(o.lease_epoch) INTO b_run, b_step, b_epoch
    FROM (
        SELECT q.run, q.step, q.lease_epoch FROM step_queue AS q WHERE q.engine = p_engine ORDER BY q.run LIMIT p_limit
    ) AS o;
    IF b_run IS NULL THEN
        RETURN '{}';
    END IF;
    RETURN leases_take_back(b_run, b_step, b_epoch, p_is_lost, p_losses_max);
END $$;

CREATE FUNCTION engines_reap(p_losses_max integer, p_limit integer) RETURNS bigint[]
LANGUAGE plpgsql AS $$
-- Takes back the leases of an engine whose own lease has ended, and removes those that hold none. One engine a call: the
-- runs of several would be locked out of order, and a turn that completes steps of them could wait for us while we wait
-- for it. Returns the runs concerned; call again until there are none.
DECLARE
    dead integer;
BEGIN
    DELETE FROM engines
    WHERE engine IN (
        SELECT e.engine
        FROM engines AS e
        WHERE e.lease_until < clock_timestamp() AND NOT EXISTS (SELECT FROM step_queue AS q WHERE q.engine = e.engine)
        FOR UPDATE SKIP LOCKED
    );
    SELECT e.engine INTO dead
    FROM engines AS e
    WHERE e.lease_until < clock_timestamp()
    ORDER BY e.engine
    LIMIT 1
    FOR UPDATE SKIP LOCKED;
    IF dead IS NULL THEN
        RETURN '{}';
    END IF;
    RETURN leases_release(dead, true, p_losses_max, p_limit);
END $$;

CREATE FUNCTION leases_reap(p_losses_max integer, p_grace_ms integer, p_limit integer) RETURNS bigint[]
LANGUAGE plpgsql AS $$
-- Takes back leases held p_grace_ms beyond their attempt's timeout, even by an engine that lives (it has lost sight of
-- them), and those of engines that no longer exist (one that was reaped in the middle of a turn). Reads every owned row:
-- cheap, but not for every second. Returns the runs concerned.
DECLARE
    b_run bigint[]; b_step integer[]; b_epoch bigint[];
BEGIN
    SELECT array_agg(o.run), array_agg(o.step), array_agg(o.lease_epoch) INTO b_run, b_step, b_epoch
    FROM (
        SELECT q.run, q.step, q.lease_epoch
        FROM step_queue AS q
        WHERE q.engine IS NOT NULL AND (
            q.leased_at + (q.timeout_ms + p_grace_ms::bigint) * interval '1 millisecond' < clock_timestamp()
            OR NOT EXISTS (SELECT FROM engines AS e WHERE e.engine = q.engine)
        )
        ORDER BY q.run, q.step
        LIMIT p_limit
    ) AS o;
    IF b_run IS NULL THEN
        RETURN '{}';
    END IF;
    RETURN leases_take_back(b_run, b_step, b_epoch, true, p_losses_max);
END $$;
