-- Moves: the one way in which steps and runs change state.
-- Lock order everywhere: run_progress by run, then step_queue by run and step. PL/pgSQL and not one giant statement:
-- each inner statement gets a fresh snapshot after the lock wait.

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
