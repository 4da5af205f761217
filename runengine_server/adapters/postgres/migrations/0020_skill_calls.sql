-- Calls of skills over HTTP, which may end by a callback to any engine. Written before a runner is asked, so that a
-- callback finds its call wherever and whenever it arrives. No lock order: every statement locks one row, or rows in order.

CREATE TABLE skill_calls (
    call_id uuid PRIMARY KEY,
    run_id uuid NOT NULL,
    fencing_token bigint NOT NULL,
    secret text NOT NULL,
    heard_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    progress bytea,
    is_success boolean,
    answer bytea,
    CONSTRAINT skill_calls_answer_is_whole CHECK ((is_success IS NULL) = (answer IS NULL))
) WITH (fillfactor = 70);
COMMENT ON TABLE skill_calls IS 'A call of a skill by idempotency key (call_id is made of it); deleted when it ends at once, else swept.';
COMMENT ON COLUMN skill_calls.fencing_token IS 'Of the latest attempt; whoever answers with another one is late.';
COMMENT ON COLUMN skill_calls.secret IS 'What a runner shows to answer this call, and nothing else.';
ALTER TABLE skill_calls ALTER COLUMN answer SET STORAGE EXTERNAL;
CREATE INDEX skill_calls_expiring ON skill_calls (expires_at);

CREATE FUNCTION skill_call_hear(
    p_call_id uuid, p_secret_digest bytea, p_fencing_token bigint, p_progress bytea, p_is_success boolean, p_answer bytea
)
RETURNS text
LANGUAGE plpgsql AS $$
-- A runner says that a call is alive (and how far it is), or how it ended; returns what became of it, as the port names it.
DECLARE
    c record;
BEGIN
    SELECT s.secret, s.fencing_token, s.answer INTO c FROM skill_calls AS s WHERE s.call_id = p_call_id FOR UPDATE;
    IF NOT FOUND OR sha256(convert_to(c.secret, 'UTF8')) <> p_secret_digest THEN
        RETURN 'unknown';
    END IF;
    IF c.fencing_token <> p_fencing_token THEN
        RETURN 'stale';
    END IF;
    IF c.answer IS NOT NULL THEN
        RETURN CASE WHEN c.answer = p_answer THEN 'repeated' ELSE 'ended' END;
    END IF;
    UPDATE skill_calls AS s
    SET heard_at = clock_timestamp(), progress = coalesce(p_progress, s.progress),
        is_success = CASE WHEN p_answer IS NOT NULL THEN p_is_success END, answer = p_answer
    WHERE s.call_id = p_call_id;
    RETURN 'taken';
END $$;
