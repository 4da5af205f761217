-- Finding late runs costs what there is to find, not what there ever was.

CREATE OR REPLACE FUNCTION deadlines_enforce(p_limit integer) RETURNS bigint[]
LANGUAGE plpgsql AS $$
-- Fails runs whose deadline has passed, the longest overdue first; returns them. Reads the front of run_progress_deadline:
-- ordered by run, a limit makes walking every run there is look cheap, and a volatile clock cannot bound an index scan.
DECLARE
    at CONSTANT timestamptz := clock_timestamp();
    late bigint[];
    key bigint;
BEGIN
    SELECT coalesce(array_agg(d.run ORDER BY d.run), '{}') INTO late
    FROM (
        SELECT p.run FROM run_progress AS p
        WHERE p.deadline <= at
        ORDER BY p.deadline
        LIMIT p_limit
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
