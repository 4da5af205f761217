-- The tables. Narrow hot rows (run_progress, run_state, step_queue), wide append-only history, nothing copied.
-- No foreign keys from hot tables to runs: they cost 2.7 MultiXacts a transaction.
-- Status, source and type numbers are those of the wire contract.

CREATE TABLE installation (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    is_only boolean PRIMARY KEY DEFAULT true,
    CONSTRAINT installation_is_single CHECK (is_only)
);
COMMENT ON TABLE installation IS 'Names this database, so that a hot cache shared with another one is never mistaken for ours.';
INSERT INTO installation DEFAULT VALUES;

-- ---------------------------------------------------------------- workflows

CREATE TABLE workflow_definitions (
    digest bytea PRIMARY KEY,
    definition bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT workflow_digest_is_sha256 CHECK (length(digest) = 32)
);
COMMENT ON TABLE workflow_definitions IS 'Content of every version ever registered; runs keep the digest they started with.';

CREATE TABLE workflows (
    tenant text NOT NULL,
    name text NOT NULL,
    version text NOT NULL,
    version_order text COLLATE "C" NOT NULL,
    digest bytea NOT NULL REFERENCES workflow_definitions (digest),
    principal text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, name, version)
);
COMMENT ON COLUMN workflows.tenant IS 'Empty for workflows from the directory, which serve every tenant.';
COMMENT ON COLUMN workflows.version_order IS 'Sorts like SemVer precedence when compared as bytes.';

-- ---------------------------------------------------------------- engines and leases

CREATE TABLE engines (
    engine integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    engine_id uuid NOT NULL UNIQUE,
    description text NOT NULL DEFAULT '',
    started_at timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz NOT NULL
);
COMMENT ON TABLE engines IS 'One row per living process; lease_until is renewed by the database clock.';

CREATE TABLE step_queue (
    run bigint NOT NULL,
    step integer NOT NULL,
    tenant text NOT NULL,
    priority smallint NOT NULL,
    timeout_ms integer NOT NULL,
    ready_at timestamptz NOT NULL,
    available_at timestamptz NOT NULL,
    engine integer,
    lease_epoch bigint NOT NULL DEFAULT 0,
    leased_at timestamptz,
    attempt smallint NOT NULL DEFAULT 1,
    lease_losses smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (run, step),
    CONSTRAINT step_queue_lease_is_whole CHECK ((engine IS NULL) = (leased_at IS NULL))
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
);
COMMENT ON COLUMN step_queue.timeout_ms IS
    'Of an attempt; negative while it is held: it waits for a slot of its skill, so its lease is not overdue.';
COMMENT ON TABLE step_queue IS 'Steps that are ready, delayed or leased, and no others; deleted when the step ends.';
CREATE INDEX step_queue_free ON step_queue (priority DESC, available_at, run, step) WHERE engine IS NULL;
CREATE INDEX step_queue_owned ON step_queue (engine) WHERE engine IS NOT NULL;

-- ---------------------------------------------------------------- runs

CREATE SEQUENCE run_key;

CREATE TABLE runs (
    run bigint PRIMARY KEY DEFAULT nextval('run_key'),
    id uuid NOT NULL UNIQUE,
    tenant text NOT NULL,
    workflow_name text NOT NULL,
    workflow_version text NOT NULL,
    workflow_digest bytea NOT NULL,
    steps_total smallint NOT NULL,
    trigger_type smallint NOT NULL,
    cache_mode smallint NOT NULL,
    priority smallint NOT NULL,
    failure_policy smallint NOT NULL,
    payload bytea NOT NULL,
    change_type text,
    change_payload bytea,
    base_run bigint,
    root_run bigint NOT NULL,
    plan bytea NOT NULL,
    labels jsonb NOT NULL,
    request_id text NOT NULL,
    principal text NOT NULL,
    deadline timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT runs_steps_in_range CHECK (steps_total BETWEEN 1 AND 10000),
    CONSTRAINT runs_priority_in_range CHECK (priority BETWEEN 0 AND 9),
    CONSTRAINT runs_plan_is_whole CHECK (length(plan) = steps_total),
    CONSTRAINT runs_change_is_whole CHECK ((change_type IS NULL) = (change_payload IS NULL))
);
COMMENT ON TABLE runs IS 'Immutable facts of a run. run is internal and time-ordered, id is public.';
COMMENT ON COLUMN runs.plan IS 'One byte a step in definition order: action * 16 + reason.';
CREATE INDEX runs_by_tenant ON runs (tenant, run DESC);
CREATE INDEX runs_by_base ON runs (base_run) WHERE base_run IS NOT NULL;

CREATE TABLE run_progress (
    run bigint PRIMARY KEY,
    status smallint NOT NULL,
    remaining smallint NOT NULL,
    running smallint NOT NULL DEFAULT 0,
    completed smallint NOT NULL DEFAULT 0,
    skipped smallint NOT NULL DEFAULT 0,
    failed smallint NOT NULL DEFAULT 0,
    cancelled smallint NOT NULL DEFAULT 0,
    is_failing boolean NOT NULL DEFAULT false,
    last_sequence bigint NOT NULL,
    started_at timestamptz,
    ended_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    deadline timestamptz,
    failed_step smallint,
    error bytea,
    cancel_reason text,
    CONSTRAINT run_progress_counts CHECK (
        remaining >= 0 AND running >= 0 AND completed >= 0 AND skipped >= 0 AND failed >= 0 AND cancelled >= 0
    ),
    CONSTRAINT run_progress_completed_is_done CHECK (status <> 3 OR remaining = 0),
    CONSTRAINT run_progress_end_is_whole CHECK ((status >= 3) = (ended_at IS NOT NULL))
) WITH (fillfactor = 50);
COMMENT ON TABLE run_progress IS 'The small mutable row; whoever changes anything of a run locks it first, in order of run.';
COMMENT ON COLUMN run_progress.remaining IS 'Steps that are neither completed nor skipped.';
COMMENT ON COLUMN run_progress.deadline IS 'Set while the run is not terminal and has one.';
CREATE INDEX run_progress_deadline ON run_progress (deadline) WHERE deadline IS NOT NULL;

CREATE TABLE run_state (
    run bigint NOT NULL,
    chunk smallint NOT NULL,
    waiting_for smallint[] NOT NULL,
    PRIMARY KEY (run, chunk)
) WITH (fillfactor = 50, toast_tuple_target = 8160);
COMMENT ON TABLE run_state IS 'Per step, in chunks of 1,000: how many dependencies are neither completed nor skipped yet.';
ALTER TABLE run_state ALTER COLUMN waiting_for SET STORAGE EXTERNAL;

-- ---------------------------------------------------------------- history, partitioned by run

CREATE TABLE step_results (
    run bigint NOT NULL,
    step smallint NOT NULL,
    status smallint NOT NULL,
    source smallint,
    attempt smallint NOT NULL,
    lease_losses smallint NOT NULL,
    engine integer,
    lease_epoch bigint,
    input_hash bytea,
    cache_version text,
    output_hash bytea,
    producer_run bigint,
    producer_step smallint,
    ready_at timestamptz,
    started_at timestamptz,
    ended_at timestamptz NOT NULL,
    decision bytea,
    error bytea,
    PRIMARY KEY (run, step),
    CONSTRAINT step_results_is_terminal CHECK (status BETWEEN 4 AND 7),
    CONSTRAINT step_results_success_has_output CHECK (
        status > 5 OR (producer_run IS NOT NULL AND producer_step IS NOT NULL AND output_hash IS NOT NULL
                       AND input_hash IS NOT NULL AND source IS NOT NULL)
    )
) PARTITION BY RANGE (run);
COMMENT ON TABLE step_results IS 'One row per finished step; producer names who executed it, transitively resolved (itself when it ran).';

CREATE TABLE outputs (
    run bigint NOT NULL,
    step smallint NOT NULL,
    is_compressed boolean NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (run, step)
) PARTITION BY RANGE (run);
COMMENT ON TABLE outputs IS 'Canonical output bytes once, keyed by producer; zlib above 2 KB, compressed by the engine.';
ALTER TABLE outputs ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE TABLE step_attempts (
    run bigint NOT NULL,
    step smallint NOT NULL,
    attempt smallint NOT NULL,
    lease_epoch bigint NOT NULL,
    engine integer NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    worker_id text NOT NULL,
    error bytea NOT NULL,
    PRIMARY KEY (run, step, lease_epoch)
) PARTITION BY RANGE (run);
COMMENT ON TABLE step_attempts IS 'Failed tries.';

CREATE TABLE run_events (
    run bigint NOT NULL,
    sequence bigint NOT NULL,
    occurred_at timestamptz NOT NULL DEFAULT now(),
    type smallint NOT NULL,
    step smallint,
    attempt smallint,
    ordinal smallint,
    from_status smallint,
    to_status smallint,
    running smallint,
    completed smallint,
    skipped smallint,
    failed smallint,
    cancelled smallint,
    next_attempt_at timestamptz,
    PRIMARY KEY (run, sequence)
) PARTITION BY RANGE (run);
COMMENT ON TABLE run_events IS 'What happened, numbered 1, 2, 3 … a run; errors, decisions and artifacts are read from their own tables.';
COMMENT ON COLUMN run_events.ordinal IS 'Of an ARTIFACT event: which of the step''s artifacts.';

CREATE FUNCTION partitions_ensure() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
-- Keeps partitions of 1,000,000 runs ready two ahead of the newest run; returns how many it made.
DECLARE
    size CONSTANT bigint := 1000000;
    newest bigint;
    made integer := 0;
    parent text;
    n bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('runengine partitions'));
    SELECT last_value INTO newest FROM run_key;
    FOR n IN 0 .. newest / size + 2 LOOP
        FOREACH parent IN ARRAY ARRAY['step_results', 'outputs', 'step_attempts', 'run_events'] LOOP
            IF to_regclass(format('%I', parent || '_' || n)) IS NULL THEN
                EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%s) TO (%s)',
                               parent || '_' || n, parent, n * size, (n + 1) * size);
                made := made + 1;
            END IF;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;
SELECT partitions_ensure();

-- ---------------------------------------------------------------- artifacts

CREATE TABLE artifact_contents (
    tenant text NOT NULL,
    content_hash bytea NOT NULL,
    size_bytes bigint NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, content_hash)
);
COMMENT ON TABLE artifact_contents IS 'Facts about the bytes, once per content.';

CREATE TABLE artifacts (
    run bigint NOT NULL,
    step smallint NOT NULL,
    ordinal smallint NOT NULL,
    id uuid NOT NULL DEFAULT gen_random_uuid() UNIQUE,
    tenant text NOT NULL,
    content_hash bytea NOT NULL,
    size_bytes bigint NOT NULL,
    media_type text NOT NULL,
    uri text NOT NULL,
    filename text NOT NULL,
    metadata bytea NOT NULL,
    made_from bytea NOT NULL,
    skill_id text NOT NULL,
    skill_version text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run, step, ordinal)
);
COMMENT ON TABLE artifacts IS 'One row a production; runs that reuse the step reach it through the producer.';

-- ---------------------------------------------------------------- cache, requests, audit

CREATE TABLE step_cache (
    tenant text NOT NULL,
    workflow_name text NOT NULL,
    step_id text NOT NULL,
    input_hash bytea NOT NULL,
    skill_id text NOT NULL,
    cache_version text NOT NULL,
    cache_epoch text NOT NULL,
    run bigint NOT NULL,
    step smallint NOT NULL,
    output_hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, workflow_name, step_id, input_hash)
);
COMMENT ON TABLE step_cache IS 'The cold tier: key to producer and fingerprint; the latest success wins.';

CREATE TABLE idempotency_keys (
    tenant text NOT NULL,
    rpc text NOT NULL,
    request_id text NOT NULL,
    request_digest bytea NOT NULL,
    run bigint NOT NULL,
    response bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, rpc, request_id)
);

CREATE TABLE audit_log (
    entry bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    tenant text NOT NULL,
    principal text NOT NULL,
    action text NOT NULL,
    target text NOT NULL
);
COMMENT ON TABLE audit_log IS 'One row per mutation a caller asked for, in the same transaction; no payloads.';
