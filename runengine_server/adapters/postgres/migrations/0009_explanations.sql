-- What explanations look up: the runs of a workflow, newest first, and when an attempt really began.

CREATE INDEX runs_by_workflow ON runs (tenant, workflow_name, run DESC);

CREATE FUNCTION attempt_begun_at(p_run bigint, p_step integer, p_attempt integer, p_leased_at timestamptz)
RETURNS timestamptz
LANGUAGE sql STABLE AS $$
-- When an attempt that was taken over was first leased. Its last lease may have lasted no longer than it took to attach to
-- the running call or to be told its result again, and says nothing of the work. Ask only where the lease epoch, which
-- counts every lease, is above the attempt, which counts tries of the skill. A lease that was given up to wait for another
-- run's identical step was no part of the attempt. The last lease has to do where the events are gone, and where a run has
-- so many that looking through them for each of its steps would take seconds.
SELECT coalesce(
    (
        SELECT e.occurred_at
        FROM run_events AS e
        WHERE e.run = p_run AND e.step = p_step AND e.attempt = p_attempt AND e.to_status = 3
            AND (SELECT p.last_sequence FROM run_progress AS p WHERE p.run = p_run) <= 5000
            AND e.sequence > coalesce((
                SELECT max(w.sequence)
                FROM run_events AS w
                WHERE w.run = p_run AND w.step = p_step AND w.leader_run IS NOT NULL
            ), 0)
        ORDER BY e.sequence
        LIMIT 1
    ),
    p_leased_at
)
$$;
