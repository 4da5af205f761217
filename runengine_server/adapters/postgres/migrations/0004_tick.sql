-- The scheduler's turn.

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
                q.tenant, abs(q.timeout_ms) AS timeout_ms, q.lease_losses, q.ready_at, q.leased_at
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
