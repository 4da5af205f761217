-- The trace a run belongs to travels with it: whichever engine runs a step, and after whatever restart, goes on in the trace
-- of the call that started the run.

ALTER TABLE runs ADD COLUMN trace_context text;
COMMENT ON COLUMN runs.trace_context IS
    'W3C traceparent of the call that started the run and, on a second line, its tracestate; null where it is not traced.';

CREATE FUNCTION runs_create_traced(
    new_runs new_run[], payloads bytea[], change_payloads bytea[], kept kept_steps[], reused reused_step[],
    trace_contexts text[], -- of each run, null where it has none
    OUT run bigint[], OUT earlier_digest bytea[], OUT earlier_response bytea[]
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
-- As runs_create; what is traced is written once more, so that what is not costs nothing.
BEGIN
    SELECT c.run, c.earlier_digest, c.earlier_response
    INTO runs_create_traced.run, runs_create_traced.earlier_digest, runs_create_traced.earlier_response
    FROM runs_create(new_runs, payloads, change_payloads, kept, reused) AS c;

    UPDATE runs AS r
    SET trace_context = t.trace_context
    FROM unnest(runs_create_traced.run, trace_contexts) AS t (run, trace_context)
    WHERE r.run = t.run AND t.trace_context IS NOT NULL; -- an earlier request's run is 0 here
END $$;
