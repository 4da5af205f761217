-- Invariants I1-I15 of the guarantees, over the tables as they are: each statement returns what is wrong, so no row at
-- all when nothing is. `checked_*` are temporary tables that the checker fills (see invariants.py).

-- name: i1_one_terminal_event
-- A step ends once: as many terminal events as results, with the result's status.
SELECT run, step, format('%s terminal events %s, result %s', count(e.to_status), array_agg(e.to_status), min(r.status)) AS detail
FROM (SELECT run, step, to_status FROM run_events WHERE type = 2 AND to_status >= 4) AS e
FULL JOIN step_results AS r USING (run, step)
WHERE run NOT IN (SELECT c.run FROM checked_compacted AS c)
GROUP BY run, step
HAVING count(e.to_status) <> 1 OR min(e.to_status) IS DISTINCT FROM min(r.status);

-- name: i1_ended_is_not_queued
-- A step that has ended can never be leased again.
SELECT q.run, q.step, format('result %s, epoch %s in the queue', r.status, q.lease_epoch) AS detail
FROM step_queue AS q
JOIN step_results AS r ON r.run = q.run AND r.step = q.step;

-- name: i1_output_has_its_result
-- An output is there exactly for steps that were executed with success, and belongs to the producer.
SELECT run, step, format('status %s, source %s, output %s', r.status, r.source, o.run IS NOT NULL) AS detail
FROM outputs AS o
FULL JOIN (
    SELECT run, step, status, source, producer_run, producer_step FROM step_results WHERE status IN (4, 5)
) AS r USING (run, step)
WHERE (r.status IS NOT DISTINCT FROM 4) <> (o.run IS NOT NULL)
    OR (r.status = 4 AND (r.source <> 1 OR (r.producer_run, r.producer_step) <> (r.run, r.step)))
    OR (r.status = 5 AND r.source = 1);

-- name: i2_epochs_grow
-- Epochs of failed tries, of the result and of the queue row of one step strictly increase with the attempt; a try that
-- failed for good has the epoch of the result.
SELECT run, step, format('epochs %s', array_agg(place ORDER BY n, epoch)) AS detail
FROM (
    SELECT run, step, n, epoch, place, lag(epoch) OVER w AS before
    FROM (
        SELECT t.run, t.step, t.attempt AS n, t.lease_epoch AS epoch, format('try %s:%s', t.attempt, t.lease_epoch) AS place
        FROM step_attempts AS t
        WHERE NOT EXISTS (
            SELECT FROM step_results AS r
            WHERE r.run = t.run AND r.step = t.step AND r.status = 6 AND r.lease_epoch = t.lease_epoch
        )
        UNION ALL
        SELECT run, step, 1000, lease_epoch, format('result:%s', lease_epoch) FROM step_results WHERE lease_epoch IS NOT NULL
        UNION ALL
        -- a row that is free still has the epoch of its last lease
        SELECT run, step, 1001, lease_epoch + (engine IS NULL)::integer, format('queue:%s', lease_epoch) FROM step_queue
    ) AS epochs
    WINDOW w AS (PARTITION BY run, step ORDER BY n, epoch)
) AS ordered
GROUP BY run, step
HAVING bool_or(epoch <= before);

-- name: i2_leases_leave_events
-- The epoch counts the leases: as many events to RUNNING as the highest epoch says.
SELECT run, step, format('epoch %s, %s leases in the events', max(k.epoch), max(e.leases)) AS detail
FROM (
    SELECT run, step, lease_epoch AS epoch FROM step_results WHERE lease_epoch IS NOT NULL
    UNION ALL
    SELECT run, step, lease_epoch FROM step_queue
) AS k
LEFT JOIN (
    SELECT run, step, count(*) AS leases FROM run_events WHERE type = 2 AND to_status = 3 GROUP BY run, step
) AS e USING (run, step)
WHERE run NOT IN (SELECT c.run FROM checked_compacted AS c)
GROUP BY run, step
HAVING max(k.epoch) <> coalesce(max(e.leases), 0);

-- name: i3_dependencies_first
-- A step becomes ready, or is leased, only after each of its dependencies was completed or skipped.
SELECT s.run, s.step, format('moved to %s at event %s before dependency %s succeeded (%s)',
                             s.to_status, s.sequence, d.needs, done.sequence) AS detail
FROM (
    SELECT DISTINCT ON (run, step) run, step, sequence, to_status
    FROM run_events
    WHERE type = 2 AND to_status IN (2, 3) AND run NOT IN (SELECT c.run FROM checked_compacted AS c)
    ORDER BY run, step, sequence
) AS s
JOIN runs AS r ON r.run = s.run
JOIN checked_dependencies AS d ON d.workflow_digest = r.workflow_digest AND d.step = s.step
LEFT JOIN run_events AS done ON done.run = s.run AND done.step = d.needs AND done.type = 2 AND done.to_status IN (4, 5)
WHERE done.sequence IS NULL OR done.sequence > s.sequence;

-- name: i3_definition_is_there
-- Every run's definition can be read, with as many steps as the run has; without it nothing here means much.
SELECT r.run, NULL::integer AS step, format('definition %s has %s steps, the run %s', r.workflow_digest, w.steps, r.steps_total) AS detail
FROM runs AS r
LEFT JOIN (SELECT workflow_digest, count(*) AS steps FROM checked_steps GROUP BY workflow_digest) AS w USING (workflow_digest)
WHERE w.steps IS DISTINCT FROM r.steps_total;

-- name: i4_counters_equal_recount
-- The counters of a run equal what results and queue say.
SELECT p.run, NULL::integer AS step, format(
    'remaining %s running %s completed %s skipped %s failed %s cancelled %s; recount %s %s %s %s %s %s',
    p.remaining, p.running, p.completed, p.skipped, p.failed, p.cancelled,
    r.steps_total - c.completed - c.skipped, q.running, c.completed, c.skipped, c.failed, c.cancelled) AS detail
FROM run_progress AS p
JOIN runs AS r ON r.run = p.run
CROSS JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE status = 4) AS completed, count(*) FILTER (WHERE status = 5) AS skipped,
        count(*) FILTER (WHERE status = 6) AS failed, count(*) FILTER (WHERE status = 7) AS cancelled
    FROM step_results WHERE run = p.run
) AS c
CROSS JOIN LATERAL (SELECT count(*) AS running FROM step_queue WHERE run = p.run AND engine IS NOT NULL) AS q
WHERE (p.remaining, p.running, p.completed, p.skipped, p.failed, p.cancelled)
    <> (r.steps_total - c.completed - c.skipped, q.running, c.completed, c.skipped, c.failed, c.cancelled);

-- name: i4_events_count_the_same
-- The counters in the newest event are those of the run.
SELECT p.run, NULL::integer AS step, format('newest event %s: %s', e.sequence,
    (e.running, e.completed, e.skipped, e.failed, e.cancelled)) AS detail
FROM run_progress AS p
JOIN run_events AS e ON e.run = p.run AND e.sequence = p.last_sequence
WHERE (p.running, p.completed, p.skipped, p.failed, p.cancelled)
    IS DISTINCT FROM (e.running, e.completed, e.skipped, e.failed, e.cancelled);

-- name: i4_waiting_equals_recount
-- What a live run's step waits for equals its dependencies without success; every step that waits for none and has not
-- ended is in the queue, and no other: nothing is lost, nothing early.
SELECT r.run, s.step, format('waits for %s, recount %s, in the queue %s', w.waiting, n.needed, q.run IS NOT NULL) AS detail
FROM run_progress AS p
JOIN runs AS r ON r.run = p.run
JOIN checked_steps AS s ON s.workflow_digest = r.workflow_digest
LEFT JOIN step_results AS done ON done.run = r.run AND done.step = s.step
LEFT JOIN LATERAL (
    SELECT c.waiting_for[s.step % 1000 + 1] AS waiting FROM run_state AS c WHERE c.run = r.run AND c.chunk = s.step / 1000
) AS w ON true
CROSS JOIN LATERAL (
    SELECT count(*) AS needed
    FROM checked_dependencies AS d
    WHERE d.workflow_digest = r.workflow_digest AND d.step = s.step AND NOT EXISTS (
        SELECT FROM step_results AS x WHERE x.run = r.run AND x.step = d.needs AND x.status IN (4, 5)
    )
) AS n
LEFT JOIN step_queue AS q ON q.run = r.run AND q.step = s.step
WHERE p.status < 3 AND done.run IS NULL
    AND (w.waiting IS DISTINCT FROM n.needed OR ((n.needed = 0) <> (q.run IS NOT NULL) AND NOT p.is_failing));

-- name: i5_events_contiguous
-- Events of a run are numbered 1, 2, 3 … up to last_sequence; the first says queued.
SELECT p.run, NULL::integer AS step, format('%s events %s to %s, last_sequence %s, first to %s',
    count(e.sequence), min(e.sequence), max(e.sequence), p.last_sequence,
    min(e.to_status) FILTER (WHERE e.sequence = 1)) AS detail
FROM run_progress AS p
LEFT JOIN run_events AS e ON e.run = p.run
WHERE p.run NOT IN (SELECT c.run FROM checked_compacted AS c)
GROUP BY p.run, p.last_sequence
HAVING count(e.sequence) <> p.last_sequence OR max(e.sequence) <> p.last_sequence OR min(e.sequence) <> 1
    OR bool_or(e.sequence = 1 AND (e.type, e.to_status) <> (1, 1));

-- name: i5_states_follow
-- Each event of a run or a step goes on where the one before it ended, by a legal move.
SELECT run, step, format('event %s from %s to %s after %s', sequence, from_status, to_status, before) AS detail
FROM (
    SELECT run, step, sequence, type, from_status, to_status,
        lag(to_status) OVER (PARTITION BY run, type, step ORDER BY sequence) AS before
    FROM run_events
    WHERE type IN (1, 2) AND run NOT IN (SELECT c.run FROM checked_compacted AS c)
) AS e
WHERE from_status IS DISTINCT FROM coalesce(before, CASE WHEN type = 2 THEN 1 END)
    OR (type = 2 AND (from_status, to_status) NOT IN (
        (1, 2), (1, 3), (1, 5), (1, 7), (2, 3), (2, 5), (2, 7), (2, 2), (3, 4), (3, 5), (3, 6), (3, 2), (3, 7)))
    OR (type = 1 AND before IS NOT NULL AND (from_status, to_status) NOT IN (
        (1, 2), (1, 4), (1, 5), (2, 3), (2, 4), (2, 5)));

-- name: i5_watchers_saw_the_table
-- What a watcher saw after its first event is what the table holds, in order, each once.
SELECT r.run, coalesce(e.step, w.step_no) AS step, format('watcher %s, event %s: saw %s of %s, table %s of %s',
    coalesce(w.watcher, a.watcher), coalesce(e.sequence, w.sequence), w.to_status, w.step_no, e.to_status, e.step) AS detail
FROM checked_watchers AS a
JOIN runs AS r ON r.id = a.run_id
CROSS JOIN LATERAL (
    SELECT sequence, type, step, to_status FROM run_events WHERE run = r.run AND sequence > a.after_sequence
) AS e
FULL JOIN (
    SELECT x.watcher, x.sequence, x.type, x.to_status, x.run_id, s.step AS step_no
    FROM checked_watched AS x
    JOIN runs AS y ON y.id = x.run_id
    LEFT JOIN checked_steps AS s ON s.workflow_digest = y.workflow_digest AND s.step_id = x.step_id
) AS w ON w.watcher = a.watcher AND w.sequence = e.sequence
WHERE (w.type, w.to_status, w.step_no) IS DISTINCT FROM (e.type, e.to_status, e.step::integer);

-- name: i5_watchers_saw_in_order
-- A watcher sees events in the order of their numbers, none twice.
SELECT NULL::bigint AS run, NULL::integer AS step, format('watcher %s: %s after %s', watcher, sequence, before) AS detail
FROM (SELECT watcher, sequence, lag(sequence) OVER (PARTITION BY watcher ORDER BY n) AS before FROM checked_watched) AS w
WHERE sequence <= before;

-- name: i5_artifacts_have_events
-- Every artifact of a step has its event before the step's completion, and no other is announced.
SELECT run, step, format('artifact %s, event %s of %s', a.run IS NOT NULL, e.sequence, d.sequence) AS detail
FROM artifacts AS a
FULL JOIN (SELECT run, step, ordinal, sequence FROM run_events WHERE type = 4) AS e USING (run, step, ordinal)
LEFT JOIN (SELECT run, step, sequence FROM run_events WHERE type = 2 AND to_status = 4) AS d USING (run, step)
WHERE (a.run IS NULL OR e.run IS NULL OR d.sequence IS NULL OR e.sequence > d.sequence)
    AND run NOT IN (SELECT c.run FROM checked_compacted AS c);

-- name: i6_terminal_event_is_last
-- A terminal run has one terminal event, its last; a live one has none.
SELECT p.run, NULL::integer AS step, format('status %s, terminal events %s, last_sequence %s',
    p.status, array_agg(e.sequence), p.last_sequence) AS detail
FROM run_progress AS p
LEFT JOIN run_events AS e ON e.run = p.run AND e.type = 1 AND e.to_status >= 3
WHERE p.run NOT IN (SELECT c.run FROM checked_compacted AS c)
GROUP BY p.run, p.status, p.last_sequence
HAVING count(e.sequence) <> (p.status >= 3)::integer
    OR (p.status >= 3 AND (max(e.sequence) <> p.last_sequence OR max(e.to_status) <> p.status));

-- name: i6_terminal_is_still
-- A terminal run has nothing queued, no deadline, and a result for each step; a completed one only successes.
SELECT p.run, NULL::integer AS step, format('status %s, %s queued, %s of %s ended, failed_step %s', p.status,
    (SELECT count(*) FROM step_queue AS q WHERE q.run = p.run), c.ended, r.steps_total, p.failed_step) AS detail
FROM run_progress AS p
JOIN runs AS r ON r.run = p.run
CROSS JOIN LATERAL (
    SELECT count(*) AS ended, count(*) FILTER (WHERE status > 5) AS bad FROM step_results WHERE run = p.run
) AS c
WHERE p.status >= 3 AND (
    EXISTS (SELECT FROM step_queue AS q WHERE q.run = p.run) OR p.deadline IS NOT NULL OR c.ended <> r.steps_total
    OR (p.status = 3 AND c.bad > 0) OR (p.status = 4 AND p.error IS NULL)
);

-- name: i6_live_can_move
-- A run that is not terminal has something queued: otherwise nothing would ever end it.
SELECT p.run, NULL::integer AS step, format('status %s, remaining %s, nothing queued', p.status, p.remaining) AS detail
FROM run_progress AS p
WHERE p.status < 3 AND NOT EXISTS (SELECT FROM step_queue AS q WHERE q.run = p.run);

-- name: i7_executed_is_in_the_ledger
-- Each step that counts as executed was executed by the runner, with the output that was committed.
SELECT s.run, s.step::integer AS step, format('key %s, output %s', k.key, s.output_hash) AS detail
FROM step_results AS s
JOIN runs AS r ON r.run = s.run
JOIN checked_steps AS w ON w.workflow_digest = r.workflow_digest AND w.step = s.step
CROSS JOIN LATERAL (SELECT format('%s/%s/%s', r.id, w.step_id, encode(s.input_hash, 'hex')) AS key) AS k
WHERE s.status = 4 AND EXISTS (SELECT FROM checked_ledger) AND NOT EXISTS (
    SELECT FROM checked_ledger AS l WHERE l.key = k.key AND l.digest = encode(s.output_hash, 'hex')
);

-- name: i8_cache_names_a_success
-- A cache entry leads to a success that was executed, with the same tenant, workflow, step, input and output; what was
-- removed (a step below 0) leads nowhere.
SELECT k.run, k.step::integer AS step, format('entry %s:%s:%s', k.workflow_name, k.step_id, encode(k.input_hash, 'hex')) AS detail
FROM step_cache AS k
LEFT JOIN step_results AS s ON s.run = k.run AND s.step = k.step
LEFT JOIN producers AS r ON r.run = k.run
LEFT JOIN checked_definitions AS g ON g.workflow_digest = r.workflow_digest
LEFT JOIN checked_steps AS w ON w.workflow_digest = r.workflow_digest AND w.step = k.step
LEFT JOIN outputs AS o ON o.run = k.run AND o.step = k.step
WHERE k.step >= 0 AND (s.status, s.input_hash, s.output_hash, s.cache_version, r.tenant, g.workflow_name, w.step_id, o.run)
    IS DISTINCT FROM (4::smallint, k.input_hash, k.output_hash, k.cache_version, k.tenant, k.workflow_name, k.step_id, k.run);

-- name: i9_reused_is_the_producers
-- A reused output is one that its producer committed: same input, same output; producers are resolved transitively.
SELECT s.run, s.step::integer AS step, format('producer %s/%s: status %s, output %s against %s',
    s.producer_run, s.producer_step, p.status, p.output_hash, s.output_hash) AS detail
FROM step_results AS s
LEFT JOIN step_results AS p ON p.run = s.producer_run AND p.step = s.producer_step
LEFT JOIN outputs AS o ON o.run = s.producer_run AND o.step = s.producer_step
WHERE s.status = 5 AND (p.status, p.output_hash, p.input_hash, o.run)
    IS DISTINCT FROM (4::smallint, s.output_hash, s.input_hash, s.producer_run);

-- name: i9_plan_is_kept
-- What the plan of a run reuses (action 2) is skipped; what it executes (1) is never reused from the base.
SELECT s.run, s.step::integer AS step, format('plan says %s, result %s from %s', get_byte(r.plan, s.step) / 16, s.status, s.source) AS detail
FROM step_results AS s
JOIN runs AS r ON r.run = s.run
WHERE (get_byte(r.plan, s.step) / 16 = 2 AND s.status <> 5)
    OR (get_byte(r.plan, s.step) / 16 = 1 AND s.status = 5 AND s.source = 2);

-- name: i10_acknowledged_is_there
-- Whatever was acknowledged exists: the run, for this request id, and cancelled where that was acknowledged.
SELECT r.run, NULL::integer AS step, format('acknowledged %s, request %s, cancelled %s; status %s',
    a.run_id, a.request_id, a.is_cancelled, p.status) AS detail
FROM checked_acknowledged AS a
LEFT JOIN runs AS r ON r.id = a.run_id
LEFT JOIN run_progress AS p ON p.run = r.run
LEFT JOIN idempotency_keys AS i ON i.run = r.run
WHERE r.run IS NULL OR p.run IS NULL OR (a.is_cancelled AND p.status <> 5)
    OR (a.request_id <> '' AND i.request_id IS DISTINCT FROM a.request_id);

-- name: i10_request_has_its_run
-- A request id names a run that was started by it, each run by one.
SELECT run, NULL::integer AS step, format('%s ids, run id %s', count(i.request_id), min(r.id::text)) AS detail
FROM idempotency_keys AS i
LEFT JOIN runs AS r USING (run)
GROUP BY run
HAVING count(*) > 1 OR bool_or(r.request_id IS DISTINCT FROM i.request_id);

-- name: i11_attempts_within_bounds
-- No step was tried more often than its policy allows.
SELECT t.run, t.step, format('attempt %s of %s in %s', t.attempt, s.max_attempts, t.place) AS detail
FROM (
    SELECT run, step, attempt, 'result' AS place FROM step_results
    UNION ALL
    SELECT run, step, attempt, 'tries' FROM step_attempts
    UNION ALL
    SELECT run, step, attempt, 'queue' FROM step_queue
) AS t
JOIN runs AS r ON r.run = t.run
JOIN checked_steps AS s ON s.workflow_digest = r.workflow_digest AND s.step = t.step
WHERE t.attempt > s.max_attempts;

-- name: i12_leases_have_living_engines
-- Nothing is leased by an engine that is gone or whose own lease ended more than 2 s ago.
SELECT q.run, q.step, format('engine %s, its lease ended %s', q.engine, e.lease_until) AS detail
FROM step_queue AS q
LEFT JOIN engines AS e ON e.engine = q.engine
WHERE q.engine IS NOT NULL AND coalesce(e.lease_until < clock_timestamp() - interval '2 seconds', true);

-- name: i12_leases_end
-- Nothing is leased far beyond its attempt's timeout, whoever holds it.
SELECT run, step, format('engine %s since %s, timeout %s ms', engine, leased_at, timeout_ms) AS detail
FROM step_queue
WHERE leased_at + timeout_ms * interval '1 millisecond' < clock_timestamp() - interval '13 seconds';

-- name: i13_permits_within_limits
-- Engines hold no more permits of a skill together than the lowest limit they were told (while limits stay as they are).
SELECT NULL::bigint AS run, NULL::integer AS step,
    format('skill %s: %s held of %s', p.skill_id, sum(p.held), min(p.skill_limit)) AS detail
FROM skill_permits AS p
JOIN engines AS e ON e.engine = p.engine
WHERE p.held > 0
GROUP BY p.skill_id
HAVING sum(p.held) > min(p.skill_limit);

-- name: i14_flights_have_leaders
-- A flight is led by a step that has not ended (but for a moment after a claim that came too late).
SELECT f.run, f.step, format('flight %s since %s, result %s', encode(f.flight, 'hex'), f.started_at, r.status) AS detail
FROM cache_flights AS f
LEFT JOIN step_queue AS q ON q.run = f.run AND q.step = f.step
LEFT JOIN step_results AS r ON r.run = f.run AND r.step = f.step
WHERE q.run IS NULL AND f.started_at < clock_timestamp() - interval '3 seconds';

-- name: i14_followers_have_flights
-- Who waits for a flight waits for one that another step leads, and holds no lease.
SELECT q.run, q.step, format('waits for %s, led by %s.%s, engine %s', encode(q.waiting_on, 'hex'), f.run, f.step, q.engine) AS detail
FROM step_queue AS q
LEFT JOIN cache_flights AS f ON f.flight = q.waiting_on
WHERE q.waiting_on IS NOT NULL AND (f.flight IS NULL OR (f.run, f.step) = (q.run, q.step) OR q.engine IS NOT NULL);

-- name: i15_rows_have_their_run
-- What is in the history is of a run that is retained, or of one that was deleted and of which something is left.
SELECT h.run, NULL::integer AS step, format('%s rows in %s', count(*), h.place) AS detail
FROM (
    SELECT run, 'run_progress' AS place FROM run_progress
    UNION ALL SELECT run, 'run_state' FROM run_state
    UNION ALL SELECT run, 'step_queue' FROM step_queue
    UNION ALL SELECT run, 'idempotency_keys' FROM idempotency_keys
) AS h
LEFT JOIN runs AS r ON r.run = h.run
WHERE r.run IS NULL
GROUP BY h.run, h.place
UNION ALL
SELECT h.run, NULL, format('%s rows in %s', count(*), h.place)
FROM (
    SELECT run, 'step_results' AS place FROM step_results
    UNION ALL SELECT run, 'step_attempts' FROM step_attempts
    UNION ALL SELECT run, 'run_events' FROM run_events
    UNION ALL SELECT run, 'outputs' FROM outputs
    UNION ALL SELECT run, 'artifacts' FROM artifacts
) AS h
LEFT JOIN producers AS r ON r.run = h.run
WHERE r.run IS NULL
GROUP BY h.run, h.place;

-- name: i15_run_is_whole
-- A run is retained with its progress and what its steps wait for, or not at all.
SELECT run, NULL::integer AS step, format('run %s, progress %s, state %s', r.run IS NOT NULL, p.run IS NOT NULL, s.run IS NOT NULL) AS detail
FROM runs AS r
FULL JOIN run_progress AS p USING (run)
FULL JOIN (SELECT DISTINCT run FROM run_state) AS s USING (run)
WHERE r.run IS NULL OR p.run IS NULL OR s.run IS NULL;
