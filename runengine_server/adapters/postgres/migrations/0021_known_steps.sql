-- Turns of an engine that knows what is ready for it do not look at the whole queue; flights are probed, not scanned; and a
-- step that takes over a flight is no follower any more.

CREATE OR REPLACE FUNCTION flights_hand_over(p_run bigint) RETURNS void
LANGUAGE plpgsql AS $$
-- Steps of the run that led flights have ended and left nothing in the cache: of each flight the oldest follower leads from
-- now on, and is free to be leased (what it finds in the cache others have filed, it joins nobody); without followers the flight ends. A leader that is tried again, or was lost sight of,
-- goes on leading.
DECLARE
    led record;
    next record;
BEGIN
    IF EXISTS (
        SELECT FROM cache_flights AS f JOIN step_queue AS q ON q.waiting_on = f.flight WHERE f.run = p_run
    ) THEN
        -- Who has several runs to stop waits for their queue rows while it holds followers that it woke: one at a time does,
        -- or two would wait for each other.
        PERFORM pg_advisory_xact_lock(7206312452);
    END IF;
    FOR led IN
        SELECT f.flight FROM cache_flights AS f
        WHERE f.run = p_run AND NOT EXISTS (SELECT FROM step_queue AS q WHERE q.run = f.run AND q.step = f.step)
        ORDER BY f.flight
        FOR UPDATE
    LOOP
        SELECT q.run, q.step INTO next
        FROM step_queue AS q
        WHERE q.waiting_on = led.flight
        ORDER BY q.ready_at, q.run, q.step
        LIMIT 1
        FOR UPDATE SKIP LOCKED;
        IF next.run IS NULL THEN
            DELETE FROM cache_flights WHERE flight = led.flight;
        ELSE
            UPDATE cache_flights SET run = next.run, step = next.step WHERE flight = led.flight;
            UPDATE step_queue SET waiting_on = NULL, is_follower = false WHERE run = next.run AND step = next.step;
        END IF;
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION flights_end(p_flights bytea[], p_runs bigint[], p_steps integer[]) RETURNS boolean
LANGUAGE plpgsql AS $$
-- The leaders of these flights succeeded: their followers are free to be leased, as long as they have been ready, and will
-- find the entry. Never waits for the queue row of another run: whoever holds one is ending that step, or has just woken it.
-- Its caller waits for none afterwards either. True when it woke any.
BEGIN
    DELETE FROM cache_flights AS f
    USING unnest(p_flights, p_runs, p_steps) AS e (flight, run, step)
    -- A probe for each, whatever the planner believes of the table's size: see tick.
    WHERE f.flight BETWEEN e.flight AND e.flight AND f.run BETWEEN e.run AND e.run AND f.step = e.step;
    UPDATE step_queue AS q
    SET waiting_on = NULL
    FROM (
        SELECT s.run, s.step FROM step_queue AS s WHERE s.waiting_on = ANY (p_flights) FOR UPDATE SKIP LOCKED
    ) AS f
    WHERE (q.run, q.step) >= (f.run, f.step) AND (q.run, q.step) <= (f.run, f.step);
    RETURN FOUND;
END $$;

CREATE OR REPLACE FUNCTION flights_claim(f_flight bytea[], f_run bigint[], f_step integer[]) RETURNS boolean[]
LANGUAGE plpgsql AS $$
-- Each step leads the flight, or another one does (false). Whoever looks into the cache after this, and finds nothing, may
-- execute: a leader that ended meanwhile has filed what it made. Waits for others that claim, in order, but for nobody who
-- ends a flight: it may be waiting for one that was claimed here.
BEGIN
    INSERT INTO cache_flights (flight, run, step)
    SELECT v.flight, v.run, v.step
    FROM unnest(f_flight, f_run, f_step) AS v (flight, run, step)
    WHERE NOT EXISTS (SELECT FROM cache_flights AS f WHERE f.flight = v.flight OFFSET 0) -- a probe each, see tick
    ORDER BY v.flight, v.run, v.step
    ON CONFLICT DO NOTHING;
    RETURN (
        SELECT array_agg(coalesce(c.run = v.run AND c.step = v.step, false) ORDER BY v.n)
        FROM unnest(f_flight, f_run, f_step) WITH ORDINALITY AS v (flight, run, step, n)
        LEFT JOIN LATERAL (
            SELECT f.run, f.step FROM cache_flights AS f WHERE f.flight = v.flight OFFSET 0
        ) AS c ON true
    );
END $$;

CREATE FUNCTION tick(
    p_engine integer, p_capacity integer,
    p_runs bigint[], -- those of the completions, each once
    completions completion[], -- those of a run together
    filings filing[], -- of what executed: the cache entry it leaves (a null workflow name: none); equal ones once
    reuses reuse[],
    failures attempt_failure[],
    decisions bytea[], -- equal ones once
    waits dependents[], -- the steps that wait for a completion; equal ones once
    published published_artifact[], -- in order of completions
    questions cache_question[], -- by run and step
    p_known_runs bigint[], p_known_steps integer[], -- steps that the engine knows to be in the queue; null: look at all of it
    OUT is_accepted boolean[],
    OUT l_run bigint[], OUT l_step integer[], OUT l_epoch bigint[], OUT l_attempt integer[], OUT l_losses integer[],
    OUT l_is_follower boolean[], OUT l_miss smallint[], OUT l_generation bigint[],
    OUT begun bigint[],
    OUT e_run bigint[], OUT e_status smallint[], OUT e_duration_ms bigint[], OUT e_failed_step integer[],
    OUT e_error bytea[],
    OUT next_available_ms integer,
    OUT look_us integer
)
LANGUAGE plpgsql AS $$
-- One scheduler turn, one transaction: commits what attempts returned (fenced by engine and epoch: stale ones come back as
-- not accepted and change nothing), makes their dependents ready, and leases ready steps up to p_capacity: first what
-- this turn made ready, then from the queue. An engine that knows what there is for it (p_known) is spared the look at the
-- queue, whose index has an entry for every step that ever was free since the oldest snapshot; where not all of that fits,
-- or more may be ready, the turn looks all the same and says how long it took (look_us). An engine whose own lease has ended commits (until others take its steps back)
-- but leases nothing. l_miss: for a leased step about which a question was asked, why the cache has nothing for it; then the
-- step also leads its flight, and l_generation says how many removals the cache had seen. Null: ask the cache. next_available_ms: when to come again although nothing ends until then.
-- Idempotent by the fence: a second call with the same completions accepts none of them.
DECLARE
    at timestamptz;
    lease_until timestamptz;
    capacity integer;
    failing bigint[] := '{}';
    done record; -- a completion and its queue row
    f filing; u reuse; x attempt_failure; w dependents; a published_artifact;
    new_status smallint; tried integer;
    tenants text[] := array_fill(NULL::text, ARRAY[cardinality(completions)]);
    results result_row[] := '{}'; n_results integer := 0;
    bodies output_row[] := '{}'; n_bodies integer := 0;
    entries entry_row[] := '{}'; n_entries integer := 0;
    attempts attempt_row[] := '{}'; n_attempts integer := 0;
    queued queue_row[] := '{}'; n_queued integer := 0;
    moves move[] := '{}'; m integer := 0;
    n_published integer := 1;
    blamed bigint[] := '{}';
    f_flight bytea[] := '{}'; f_run bigint[] := '{}'; f_step integer[] := '{}'; -- flights whose leaders succeeded
    unfiled bigint[] := '{}'; -- runs of leaders that succeeded and left nothing in the cache
    -- who waits for the completions, an element an edge
    n_edges integer := 0;
    edges queue_row[] := '{}';
    edge queue_row;
    edge_run bigint; edge_chunk integer; since integer := 1;
    positions integer[] := '{}';
    counts smallint[];
    -- made ready by this turn
    ready queue_row[] := '{}'; n_ready integer := 0;
    is_looking boolean := p_known_runs IS NULL;
    n_known integer := coalesce(cardinality(p_known_runs), 0);
    looked_from timestamptz;
    has_waiting boolean := false;
    self_max integer := 0;
    looked_at text; head_priority smallint; -- the tenant whose first waiting step has this priority
    picked record; -- see steps_pick
    q record;
    l integer := 0; n_self integer := 0; n integer;
    places integer[];
    l_tenant text[] := '{}';
    asked cache_question[] := questions; question cache_question; k integer := 0;
    claims claim_row[] := '{}'; n_claims integer := 0;
    generation bigint; counted_tenant text; counted_workflow text; -- removals from the cache of this workflow
    ended bigint[] := '{}';
    stopped bigint;
BEGIN
    is_accepted := array_fill(false, ARRAY[cardinality(completions)]);
    l_run := '{}'; l_step := '{}'; l_epoch := '{}'; l_attempt := '{}'; l_losses := '{}'; l_is_follower := '{}';
    begun := '{}';

    -- (One statement for both; each costs 10 to 20 µs before it does anything.)
    SELECT
        coalesce(array_agg(p.run) FILTER (WHERE p.is_failing), '{}'),
        (SELECT e.lease_until FROM engines AS e WHERE e.engine = p_engine)
    INTO failing, lease_until
    FROM (
        SELECT g.run, g.is_failing FROM run_progress AS g WHERE g.run = ANY (p_runs) ORDER BY g.run FOR UPDATE
    ) AS p;
    at := clock_timestamp();
    -- Who slept through its own funeral must not lease under a number that nobody reaps any more.
    capacity := CASE WHEN lease_until > at THEN p_capacity ELSE 0 END;

    IF cardinality(p_runs) > 0 THEN
        FOR done IN
            -- The fence and the linearisation point: no row, no effect. In the order of the completions: those of a run stand
            -- together, and artifacts are named in that order.
            WITH gone AS (
                DELETE FROM step_queue AS d
                USING unnest(completions) WITH ORDINALITY AS c (
                    run, step, epoch, status, detail, decision, waits, input_hash, output_hash, body, is_compressed, flight, n)
                -- coalesce keeps the planner off the index on owned rows, which holds a dead entry for every step since the
                -- last vacuum (measured: 3.2 ms instead of 0.3 ms)
                -- Compared as rows: a probe of the primary key for each. (With = the planner may join instead, and where it plans
                -- while hardly anything is queued it then scans all of the queue in each turn, until the next ANALYZE.)
                WHERE (d.run, d.step) >= (c.run, c.step) AND (d.run, d.step) <= (c.run, c.step)
                    AND coalesce(d.engine, 0) = p_engine AND d.lease_epoch = c.epoch
                RETURNING
                    c.n, c.run, c.step, c.epoch, c.status, c.detail, c.decision, c.waits, c.input_hash, c.output_hash, c.body,
                    c.is_compressed, c.flight,
                    d.tenant, d.priority, abs(d.timeout_ms) AS timeout_ms, d.ready_at, d.leased_at, d.attempt, d.lease_losses
            )
            SELECT g.* FROM gone AS g ORDER BY g.n
        LOOP
            is_accepted[done.n] := true;
            tenants[done.n] := done.tenant;
            new_status := done.status;
            tried := done.attempt;
            IF done.status = 4 THEN
                f := filings[done.detail];
                n_results := n_results + 1; n_bodies := n_bodies + 1;
                results[n_results] := ROW(
                    done.run, done.step, 4, 1, tried, done.lease_losses, done.epoch, done.input_hash, f.cache_version, done.output_hash, done.run,
                    done.step, done.ready_at, done.leased_at, decisions[done.decision], NULL)::result_row;
                bodies[n_bodies] := ROW(done.run, done.step, done.is_compressed, done.body)::output_row;
                IF f.workflow_name IS NOT NULL THEN
                    n_entries := n_entries + 1;
                    entries[n_entries] := ROW(
                        done.tenant, f.workflow_name, f.step_id, done.input_hash, f.skill_id, f.cache_version, f.cache_epoch,
                        done.run, done.step, done.output_hash)::entry_row;
                END IF;
            ELSIF done.status = 5 THEN
                u := reuses[done.detail];
                tried := tried - 1;
                n_results := n_results + 1;
                results[n_results] := ROW(
                    done.run, done.step, 5, u.source, tried, done.lease_losses, done.epoch, done.input_hash, u.cache_version,
                    done.output_hash, u.producer_run, u.producer_step, done.ready_at, done.leased_at, decisions[done.decision],
                    NULL)::result_row;
            ELSE
                x := failures[done.detail];
                n_attempts := n_attempts + 1;
                IF done.status = 2 AND done.run <> ALL (failing) THEN
                    -- Back to the queue, delayed; the epoch goes on counting.
                    n_queued := n_queued + 1;
                    queued[n_queued] := ROW(
                        done.run, done.step, done.tenant, done.priority, done.timeout_ms, at + x.delay_ms * interval '1 millisecond', false,
                        done.epoch, tried + 1, done.lease_losses)::queue_row;
                ELSE
                    -- In a failing run nothing is tried again.
                    new_status := 6;
                    tried := tried - (done.status = 6 AND NOT x.is_attempted)::integer;
                    n_results := n_results + 1;
                    results[n_results] := ROW(
                        done.run, done.step, 6, NULL, tried, done.lease_losses, done.epoch, done.input_hash, NULL, NULL, NULL, NULL,
                        done.ready_at, done.leased_at, decisions[done.decision], x.error)::result_row;
                    IF done.run <> ALL (blamed) THEN
                        blamed := blamed || done.run;
                        UPDATE run_progress AS g
                        SET is_failing = true, failed_step = coalesce(g.failed_step, done.step),
                            error = coalesce(g.error, x.run_error)
                        WHERE g.run = done.run;
                        IF done.run <> ALL (failing) THEN
                            failing := failing || done.run;
                        END IF;
                    END IF;
                END IF;
                attempts[n_attempts] := ROW(
                    done.run, done.step, tried, done.epoch, done.leased_at, x.worker_id, x.error)::attempt_row;
            END IF;

            -- A step's artifacts come just before its end.
            LOOP
                a := published[n_published];
                EXIT WHEN a.completion IS NULL OR a.completion > done.n;
                IF a.completion = done.n THEN
                    m := m + 1;
                    moves[m] := ROW(done.run, done.step, NULL, a.ordinal, NULL, NULL, NULL)::move;
                END IF;
                n_published := n_published + 1;
            END LOOP;
            m := m + 1;
            moves[m] := ROW(
                done.run, done.step, tried, NULL, 3, new_status,
                CASE WHEN new_status = 2 THEN at + x.delay_ms * interval '1 millisecond' END)::move;

            IF new_status IN (4, 5) THEN
                IF done.flight IS NOT NULL AND done.status = 4 AND f.workflow_name IS NULL THEN
                    unfiled := unfiled || done.run;
                ELSIF done.flight IS NOT NULL THEN
                    f_flight := f_flight || done.flight; f_run := f_run || done.run; f_step := f_step || done.step;
                END IF;
                IF done.waits > 0 THEN
                    w := waits[done.waits];
                    FOR i IN 1 .. cardinality(w.steps) LOOP
                        n_edges := n_edges + 1;
                        edges[n_edges] := ROW(
                            done.run, w.steps[i], done.tenant, done.priority, w.timeouts_ms[i], at, false, 0, 1, 0)::queue_row;
                    END LOOP;
                END IF;
            END IF;
        END LOOP;

        IF n_results > 0 THEN
            INSERT INTO step_results (
                run, step, status, source, attempt, lease_losses, engine, lease_epoch, input_hash, cache_version,
                output_hash, producer_run, producer_step, ready_at, started_at, ended_at, decision, error
            )
            SELECT
                v.run, v.step, v.status, v.source, v.attempt, v.lease_losses, p_engine, v.lease_epoch, v.input_hash,
                v.cache_version, v.output_hash, v.producer_run, v.producer_step, v.ready_at, v.started_at, at, v.decision,
                v.error
            FROM unnest(results) AS v;
        END IF;
        IF n_bodies > 0 THEN
            INSERT INTO outputs (run, step, is_compressed, body)
            SELECT v.run, v.step, v.is_compressed, v.body FROM unnest(bodies) AS v;
        END IF;
        IF n_entries > 0 THEN
            INSERT INTO step_cache AS k (
                tenant, workflow_name, step_id, input_hash, skill_id, cache_version, cache_epoch, run, step,
                output_hash, created_at
            )
            -- one key may finish in two runs of the same turn: the last one wins
            SELECT DISTINCT ON (v.tenant, v.workflow_name, v.step_id, v.input_hash)
                v.tenant, v.workflow_name, v.step_id, v.input_hash, v.skill_id, v.cache_version, v.cache_epoch,
                v.run, v.step, v.output_hash, at
            FROM unnest(entries) WITH ORDINALITY AS v (
                tenant, workflow_name, step_id, input_hash, skill_id, cache_version, cache_epoch, run, step, output_hash, n)
            ORDER BY v.tenant, v.workflow_name, v.step_id, v.input_hash, v.n DESC
            ON CONFLICT (tenant, workflow_name, step_id, input_hash) DO UPDATE
            SET skill_id = excluded.skill_id, cache_version = excluded.cache_version,
                cache_epoch = excluded.cache_epoch, run = excluded.run, step = excluded.step,
                output_hash = excluded.output_hash, created_at = excluded.created_at;
        END IF;
        IF n_attempts > 0 THEN
            INSERT INTO step_attempts (run, step, attempt, lease_epoch, engine, started_at, ended_at, worker_id, error)
            SELECT v.run, v.step, v.attempt, v.lease_epoch, p_engine, v.started_at, at, coalesce(v.worker_id, ''), v.error
            FROM unnest(attempts) AS v;
        END IF;
        IF cardinality(published) > 0 THEN
            PERFORM artifacts_publish(at, completions, is_accepted, tenants, published);
        END IF;
    END IF;

    -- Dependents count down, a chunk of a run at a time; those at zero are ready, unless their run is failing.
    FOR i IN 1 .. n_edges + 1 LOOP
        edge := edges[i]; -- null after the last
        IF edge.run IS DISTINCT FROM edge_run OR edge.step / 1000 IS DISTINCT FROM edge_chunk THEN
            IF i > 1 THEN
                UPDATE run_state AS s
                SET waiting_for = waiting_decrement(s.waiting_for, positions)
                WHERE s.run = edge_run AND s.chunk = edge_chunk
                RETURNING s.waiting_for INTO counts;
                IF edge_run <> ALL (failing) THEN
                    FOR k IN 1 .. cardinality(positions) LOOP
                        IF counts[positions[k]] = 0 THEN
                            counts[positions[k]] := -1;
                            n_ready := n_ready + 1;
                            ready[n_ready] := edges[since + k - 1];
                        END IF;
                    END LOOP;
                END IF;
            END IF;
            edge_run := edge.run; edge_chunk := edge.step / 1000; positions := '{}'; since := i;
        END IF;
        positions := positions || (edge.step % 1000 + 1);
    END LOOP;

    IF capacity > 0 THEN
        is_looking := is_looking OR n_ready + n_known > capacity;
        IF is_looking THEN
            looked_from := clock_timestamp();
            has_waiting := EXISTS (SELECT FROM step_queue AS s WHERE s.engine IS NULL AND s.waiting_on IS NULL);
            look_us := extract(epoch FROM clock_timestamp() - looked_from) * 1000000;
        END IF;
        -- What just became ready is leased at once, but others get half of the capacity where any wait.
        self_max := CASE WHEN has_waiting AND n_ready * 2 > capacity THEN capacity / 2 ELSE capacity END;
    END IF;
    FOR i IN 1 .. n_ready LOOP
        edge := ready[i];
        IF has_waiting AND edge.tenant IS DISTINCT FROM looked_at THEN
            -- Where a step of the same tenant waits that has a higher priority, the queue decides.
            looked_at := edge.tenant;
            SELECT max(h.priority) INTO head_priority
            FROM (
                SELECT s.priority FROM step_queue AS s
                WHERE s.engine IS NULL AND s.waiting_on IS NULL AND s.tenant = looked_at
                ORDER BY s.priority DESC, s.available_at
                LIMIT 1
            ) AS h;
        END IF;
        m := m + 1;
        IF l < self_max AND coalesce(head_priority <= edge.priority, true) THEN
            edge.is_leased := true; edge.lease_epoch := 1;
            l := l + 1;
            l_run[l] := edge.run; l_step[l] := edge.step; l_epoch[l] := 1; l_attempt[l] := 1; l_losses[l] := 0;
            l_is_follower[l] := false; l_tenant[l] := edge.tenant;
            moves[m] := ROW(edge.run, edge.step, 1, NULL, 1, 3, NULL)::move;
        ELSE
            moves[m] := ROW(edge.run, edge.step, 1, NULL, 1, 2, NULL)::move;
        END IF;
        n_queued := n_queued + 1;
        queued[n_queued] := edge;
    END LOOP;
    IF n_queued > 0 THEN
        INSERT INTO step_queue (
            run, step, tenant, priority, timeout_ms, ready_at, available_at, engine, lease_epoch, leased_at, attempt,
            lease_losses
        )
        SELECT
            v.run, v.step, v.tenant, v.priority, v.timeout_ms, at, v.available_at, CASE WHEN v.is_leased THEN p_engine END,
            v.lease_epoch, CASE WHEN v.is_leased THEN at END, v.attempt, v.lease_losses
        FROM unnest(queued) AS v;
    END IF;

    -- A turn that has failing runs to settle will wait for their queue rows below: it must hold no rows of other runs
    -- then, or two such turns wait for each other. It comes back for more at once.
    IF cardinality(failing) > 0 THEN
        next_available_ms := 0;
    ELSE
        FOR stopped IN SELECT DISTINCT v.run FROM unnest(unfiled) AS v (run) ORDER BY v.run LOOP
            PERFORM flights_hand_over(stopped);
            has_waiting := true;
        END LOOP;
        IF cardinality(f_flight) > 0 THEN
            has_waiting := flights_end(f_flight, f_run, f_step) OR has_waiting;
        END IF;
        IF capacity > l AND (has_waiting OR n_queued > l OR n_known > 0) THEN
            -- Never waits: rows or runs that others hold are left for the next turn, so no lock cycle can close here.
            IF is_looking OR has_waiting OR n_queued > l THEN
                looked_from := clock_timestamp();
                picked := steps_pick(at, capacity - l);
                look_us := coalesce(look_us, 0) + extract(epoch FROM clock_timestamp() - looked_from) * 1000000;
            ELSE
                SELECT array_agg(free.run) AS q_run, array_agg(free.step) AS q_step, false AS has_more, NULL::timestamptz AS next_at
                INTO picked
                FROM (
                    SELECT s.run, s.step
                    FROM unnest(p_known_runs, p_known_steps) AS v (run, step)
                    JOIN step_queue AS s ON (s.run, s.step) >= (v.run, v.step) AND (s.run, s.step) <= (v.run, v.step)
                    -- coalesce keeps the planner off the indexes on free rows
                    WHERE coalesce(s.engine, 0) = 0 AND coalesce(s.waiting_on, '') = '' AND s.available_at <= at
                    FOR UPDATE OF s SKIP LOCKED
                ) AS free;
            END IF;
            n_self := l;
            IF cardinality(picked.q_run) > 0 THEN
                FOR q IN
                    WITH taken AS (
                        UPDATE step_queue AS s
                        SET engine = p_engine, lease_epoch = s.lease_epoch + 1, leased_at = at
                        FROM unnest(picked.q_run, picked.q_step) WITH ORDINALITY AS v (run, step, n)
                        CROSS JOIN LATERAL (
                            SELECT g.run FROM run_progress AS g
                            WHERE g.run = v.run AND g.status < 3 AND NOT g.is_failing
                            FOR UPDATE SKIP LOCKED
                        ) AS held
                        WHERE (s.run, s.step) >= (v.run, v.step) AND (s.run, s.step) <= (v.run, v.step)
                        RETURNING s.run, s.step, s.lease_epoch, s.attempt, s.lease_losses, s.is_follower, s.tenant, v.n
                    )
                    SELECT t.run, t.step, t.lease_epoch, t.attempt, t.lease_losses, t.is_follower, t.tenant
                    FROM taken AS t
                    ORDER BY t.n
                LOOP
                    l := l + 1; m := m + 1;
                    l_run[l] := q.run; l_step[l] := q.step; l_epoch[l] := q.lease_epoch; l_attempt[l] := q.attempt;
                    l_losses[l] := q.lease_losses; l_is_follower[l] := q.is_follower;
                    l_tenant[l] := q.tenant;
                    moves[m] := ROW(q.run, q.step, q.attempt, NULL, 2, 3, NULL)::move;
                END LOOP;
            END IF;
            next_available_ms := CASE
                WHEN picked.has_more THEN 0
                WHEN cardinality(picked.q_run) > l - n_self THEN 5 -- others hold their runs: soon again
                ELSE ceil(extract(epoch FROM picked.next_at - at) * 1000)
            END;
        END IF;
    END IF;

    IF m > 0 THEN
        IF cardinality(p_runs) > 1 OR l > n_self THEN
            moves := ARRAY(
                SELECT ROW(v.run, v.step, v.attempt, v.ordinal, v.from_status, v.to_status, v.next_at)::move
                FROM unnest(moves) WITH ORDINALITY AS v (run, step, attempt, ordinal, from_status, to_status, next_at, n)
                ORDER BY v.run, v.n
            );
        END IF;
        SELECT v.begun, v.ended INTO begun, ended FROM moves_apply(at, moves) AS v;
    END IF;

    IF cardinality(failing) > 0 THEN
        FOR stopped IN SELECT v.run FROM unnest(failing) AS v (run) ORDER BY v.run LOOP
            IF run_settle(stopped) THEN
                ended := ended || stopped;
            END IF;
        END LOOP;
        FOR stopped IN SELECT DISTINCT v.run FROM unnest(unfiled) AS v (run) ORDER BY v.run LOOP
            PERFORM flights_hand_over(stopped);
        END LOOP;
        IF cardinality(f_flight) > 0 THEN
            PERFORM flights_end(f_flight, f_run, f_step);
        END IF;
    END IF;

    IF l > 0 AND cardinality(asked) > 0 THEN
        l_miss := array_fill(NULL::smallint, ARRAY[l]); l_generation := array_fill(NULL::bigint, ARRAY[l]);
        asked[1] := asked[1]; -- an array that was written to is kept taken apart: each reading below costs the same
        places := '{1}';
        IF l > 1 THEN
            places := ARRAY(
                SELECT v.n FROM unnest(l_run, l_step) WITH ORDINALITY AS v (run, step, n) ORDER BY v.run, v.step
            );
        END IF;
        FOREACH n IN ARRAY places LOOP
            WHILE k = 0 OR question.run < l_run[n] OR question.run = l_run[n] AND question.step < l_step[n] LOOP
                k := k + 1;
                question := asked[k];
            END LOOP;
            EXIT WHEN question.run IS NULL;
            IF question.run = l_run[n] AND question.step = l_step[n] THEN
                IF question.wants_generation THEN
                    IF (l_tenant[n], question.workflow_name) IS DISTINCT FROM (counted_tenant, counted_workflow) THEN
                        counted_tenant := l_tenant[n]; counted_workflow := question.workflow_name;
                        SELECT coalesce(sum(s.generation), 0) INTO generation
                        FROM cache_generations AS s
                        WHERE s.tenant = counted_tenant AND s.workflow_name IN (counted_workflow, '');
                    END IF;
                    l_generation[n] := generation;
                END IF;
                n_claims := n_claims + 1;
                claims[n_claims] := ROW(
                    n, l_run[n], l_step[n], l_tenant[n], question.workflow_name, question.step_id, question.input_hash,
                    question.flight, question.is_step_known)::claim_row;
            END IF;
        END LOOP;
        IF n_claims > 0 THEN
            INSERT INTO cache_flights (flight, run, step)
            SELECT v.flight, v.run, v.step
            FROM unnest(claims) AS v
            -- Waits for nobody who ends one. (OFFSET 0: a probe each. As a join it is planned once when hardly any flight is
            -- in the table, as a scan of all of it for each row: 100 µs a step after 50,000.)
            WHERE NOT EXISTS (SELECT FROM cache_flights AS c WHERE c.flight = v.flight OFFSET 0)
            ORDER BY v.flight, v.run, v.step
            ON CONFLICT DO NOTHING;
            -- Only now: what a leader filed that ended while we waited for its flight is seen.
            FOR q IN
                -- (Not EXISTS: the planner may then read all of the cache into a hash.)
                SELECT v.place, v.is_step_known OR coalesce((
                    SELECT true FROM step_cache AS s
                    WHERE s.tenant = v.tenant AND s.workflow_name = v.workflow_name AND s.step_id = v.step_id
                    ORDER BY s.tenant, s.workflow_name, s.step_id, s.input_hash
                    LIMIT 1
                ), false) AS is_step_known
                FROM unnest(claims) AS v
                CROSS JOIN LATERAL (
                    SELECT c.run FROM cache_flights AS c
                    WHERE c.flight = v.flight AND c.run = v.run AND c.step = v.step
                    OFFSET 0
                ) AS led
                WHERE NOT EXISTS (
                    SELECT FROM step_cache AS s
                    WHERE s.tenant = v.tenant AND s.workflow_name = v.workflow_name AND s.step_id = v.step_id
                        AND s.input_hash = v.input_hash
                    OFFSET 0
                )
            LOOP
                l_miss[q.place] := CASE WHEN q.is_step_known THEN 2 ELSE 1 END;
            END LOOP;
        END IF;
    END IF;

    IF cardinality(ended) > 0 THEN
        SELECT
            array_agg(p.run), array_agg(p.status),
            array_agg((extract(epoch FROM p.ended_at - g.created_at) * 1000)::bigint),
            array_agg(p.failed_step), array_agg(p.error)
        INTO e_run, e_status, e_duration_ms, e_failed_step, e_error
        FROM run_progress AS p
        JOIN runs AS g ON g.run = p.run
        WHERE p.run = ANY (ended);
    END IF;
END $$;
