-- What reading artifacts takes: keys that sign watch tokens, and which stored content nothing refers to any more.

-- ---------------------------------------------------------------- watch tokens

CREATE TABLE watch_keys (
    key integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    secret bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT watch_keys_are_long CHECK (length(secret) = 32)
);
COMMENT ON TABLE watch_keys IS
    'Secrets that watch tokens are signed with. Deleting them all ends every watch token within a minute.';

CREATE FUNCTION watch_keys_ensure(p_secret bytea, p_period_s integer)
RETURNS TABLE (key integer, secret bytea)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
-- The two newest keys, newest first. Where the newest is older than p_period_s, or there is none, p_secret becomes a key
-- (null: none does) and the third goes: of engines that find so at the same time the first one's secret counts.
BEGIN
    IF NOT EXISTS (
        SELECT FROM watch_keys AS k WHERE k.created_at > clock_timestamp() - p_period_s * interval '1 second'
    ) THEN
        PERFORM pg_advisory_xact_lock(hashtext('runengine watch keys'));
        INSERT INTO watch_keys (secret)
        SELECT p_secret
        WHERE p_secret IS NOT NULL AND NOT EXISTS (
            SELECT FROM watch_keys AS k WHERE k.created_at > clock_timestamp() - p_period_s * interval '1 second'
        );
        DELETE FROM watch_keys AS k
        WHERE k.key NOT IN (SELECT n.key FROM watch_keys AS n ORDER BY n.key DESC LIMIT 2);
    END IF;
    RETURN QUERY SELECT k.key, k.secret FROM watch_keys AS k ORDER BY k.key DESC LIMIT 2;
END $$;

-- ---------------------------------------------------------------- clean-up of the artifact store

-- Whether content is referred to is asked for each object of the store.
CREATE INDEX artifacts_by_content ON artifacts (content_hash);

CREATE TABLE artifact_marks (
    content_hash bytea PRIMARY KEY,
    marked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT artifact_marks_are_sha256 CHECK (length(content_hash) = 32)
);
COMMENT ON TABLE artifact_marks IS
    'Content of the artifact store that was old and that no artifact named when the clean-up saw it; removed in a later pass, if that still holds.';
