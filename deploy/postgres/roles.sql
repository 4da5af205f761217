-- Two roles for the engine's database: one changes the schema, the other works on it and can change nothing of it.
-- Run it once as an administrator, connected to that database; running it again changes nothing. Then give both a
-- password (\password runengine_migrator, \password runengine_app), and use them as docs/deployment.md says.

DO $$
BEGIN
    IF to_regrole('runengine_migrator') IS NULL THEN
        CREATE ROLE runengine_migrator LOGIN;
    END IF;
    IF to_regrole('runengine_app') IS NULL THEN
        CREATE ROLE runengine_app LOGIN;
    END IF;
    EXECUTE format('REVOKE CREATE, TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO runengine_migrator, runengine_app', current_database());
END $$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO runengine_migrator;
GRANT USAGE ON SCHEMA public TO runengine_app;

-- What migrations will make. Functions need nothing: everybody who reaches the schema may call them.
ALTER DEFAULT PRIVILEGES FOR ROLE runengine_migrator IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO runengine_app;
ALTER DEFAULT PRIVILEGES FOR ROLE runengine_migrator IN SCHEMA public
    GRANT USAGE ON SEQUENCES TO runengine_app;

-- What is there already, if the roles come later than the schema; its owner must become the migrator:
-- REASSIGN OWNED BY <the role that migrated so far> TO runengine_migrator;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO runengine_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO runengine_app;
