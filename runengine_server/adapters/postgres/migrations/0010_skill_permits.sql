-- Limits of skills, kept by all engines together: an engine runs no more attempts of a limited skill than it holds permits.
-- Lock order: limited_skills by skill; then the caller's own rows of skill_permits, which nobody else writes. Skills
-- belong to the installation, not to a tenant: a limit is that of the runner that all tenants share.

CREATE TABLE limited_skills (
    skill_id text PRIMARY KEY
);
COMMENT ON TABLE limited_skills IS 'A row to lock: whoever changes permits of a skill holds it. No other use.';

CREATE TABLE skill_permits (
    skill_id text NOT NULL,
    engine integer NOT NULL,
    turn bigint NOT NULL,
    skill_limit integer NOT NULL,
    wanted integer NOT NULL,
    held integer NOT NULL,
    asked_at timestamptz NOT NULL,
    served_at timestamptz,
    PRIMARY KEY (skill_id, engine),
    CONSTRAINT skill_permits_in_range CHECK (skill_limit >= 1 AND wanted >= 0 AND held >= 0)
) WITH (fillfactor = 50);
COMMENT ON TABLE skill_permits IS
    'How many attempts of a skill an engine may run at once. Rows of engines without a row in engines count no more.';
COMMENT ON COLUMN skill_permits.turn IS 'Of the engine''s latest exchange; an older one that arrives late changes nothing.';
COMMENT ON COLUMN skill_permits.skill_limit IS 'As the runner told this engine; the lowest among engines counts.';
COMMENT ON COLUMN skill_permits.served_at IS 'When the engine was last seen holding any.';

CREATE FUNCTION skill_permits_share(
    p_engine integer, p_skill text, at timestamptz, OUT target integer, OUT free integer, OUT is_another_short boolean
)
LANGUAGE plpgsql AS $$
-- What is fair: every engine that wants permits gets an equal part of the limit or what it wants, if that is less; what
-- nobody wants is spread over all engines, so that one alone holds everything and asks no more. Where there are fewer
-- permits than engines, a holder that asks makes room for who has been without the longest, so that nobody starves. Wants
-- not repeated for 2 s are those of an engine that died or froze. free: what others do not hold. The caller holds the
-- skill's row.
DECLARE
    total integer;
    claimants integer;
    living integer;
    unshared integer;
    share integer;
    claim record;
BEGIN
    SELECT min(p.skill_limit), count(*) FILTER (WHERE p.wanted > 0 AND p.asked_at > at - interval '2 seconds'),
        coalesce(sum(p.held) FILTER (WHERE p.engine <> p_engine), 0)
    INTO total, claimants, free
    FROM skill_permits AS p
    WHERE p.skill_id = p_skill AND (p.held > 0 OR p.wanted > 0 AND p.asked_at > at - interval '2 seconds');
    SELECT count(*) INTO living FROM engines;
    free := coalesce(total, 0) - free;
    unshared := total;
    target := 0;
    is_another_short := false;
    FOR claim IN
        SELECT p.engine, p.held, least(p.wanted, total) AS wanted
        FROM skill_permits AS p
        WHERE p.skill_id = p_skill AND p.wanted > 0 AND p.asked_at > at - interval '2 seconds'
        -- The last in line get what rounding leaves.
        ORDER BY
            CASE WHEN claimants <= total THEN least(p.wanted, total) END,
            CASE WHEN claimants > total THEN p.served_at END DESC NULLS LAST,
            p.engine
    LOOP
        share := least(claim.wanted, unshared / claimants);
        unshared := unshared - share;
        claimants := claimants - 1;
        IF claim.engine = p_engine THEN
            target := share;
        ELSIF claim.held < share THEN
            is_another_short := true;
        END IF;
    END LOOP;
    IF target > 0 THEN
        target := target + unshared / greatest(living, 1);
    END IF;
END $$;

CREATE FUNCTION skill_permits_exchange(
    p_engine integer, p_turn bigint, p_skill text[], p_limit integer[], p_wanted integer[], p_kept integer[],
    OUT s_skill text[], OUT s_held integer[], OUT s_target integer[], OUT is_freeing boolean
)
LANGUAGE plpgsql AS $$
-- The engine says for some skills what it wants (attempts that run and that wait) and how many permits it keeps, which is
-- never more than it holds; it gets as many more as are fair and free. Returns for each skill what it holds now and how
-- many it should come down to; is_freeing: it gave some back that another engine waits for. Returns nothing (nulls) to an
-- engine whose own lease has ended, and for a turn that is not later than the last one.
DECLARE
    at timestamptz;
    n integer;
    before integer;
    fair record;
BEGIN
    is_freeing := false;
    INSERT INTO limited_skills (skill_id)
    SELECT s.skill_id FROM unnest(p_skill) AS s (skill_id) ORDER BY s.skill_id
    ON CONFLICT DO NOTHING;
    PERFORM FROM limited_skills AS s WHERE s.skill_id = ANY (p_skill) ORDER BY s.skill_id FOR UPDATE;
    at := clock_timestamp();
    -- Permits are counted while the engine's row exists, and no engine uses them longer than its own lease.
    IF NOT EXISTS (SELECT FROM engines AS e WHERE e.engine = p_engine AND e.lease_until > at)
        OR EXISTS (
            SELECT FROM skill_permits AS p
            WHERE p.skill_id = ANY (p_skill) AND p.engine = p_engine AND p.turn >= p_turn
        )
    THEN
        RETURN;
    END IF;
    DELETE FROM skill_permits AS p
    WHERE p.skill_id = ANY (p_skill) AND NOT EXISTS (SELECT FROM engines AS e WHERE e.engine = p.engine);

    FOR n IN 1 .. cardinality(p_skill) LOOP
        SELECT p.held INTO before FROM skill_permits AS p WHERE p.skill_id = p_skill[n] AND p.engine = p_engine;
        before := coalesce(before, 0);
        INSERT INTO skill_permits AS p (skill_id, engine, turn, skill_limit, wanted, held, asked_at)
        VALUES (p_skill[n], p_engine, p_turn, p_limit[n], p_wanted[n], 0, at)
        ON CONFLICT (skill_id, engine) DO UPDATE
        SET turn = p_turn, skill_limit = p_limit[n], wanted = p_wanted[n], asked_at = at,
            held = least(p.held, p_kept[n]),
            served_at = CASE WHEN p.held > 0 THEN at ELSE p.served_at END;
        SELECT s.target, s.free, s.is_another_short INTO fair FROM skill_permits_share(p_engine, p_skill[n], at) AS s;
        s_skill[n] := p_skill[n];
        s_target[n] := fair.target;
        s_held[n] := greatest(least(before, p_kept[n]), least(fair.target, fair.free));
        UPDATE skill_permits AS p
        SET held = s_held[n], served_at = CASE WHEN s_held[n] > 0 THEN at ELSE p.served_at END
        WHERE p.skill_id = p_skill[n] AND p.engine = p_engine;
        is_freeing := is_freeing OR (fair.is_another_short AND s_held[n] < before);
    END LOOP;
END $$;
